//! Simulators one level below nodeseal: they speak NSM bytes, HTTPS and HTTP, sign under roots of their own, and
//! can be told to misbehave. Never a dependency of a shipped program.
//!
//! - [`interposer`]: a listener and attacker on the line to a TPM.
//! - [`nsm`]: the Nitro Security Module, its PCR bank and attestation documents.
//! - [`pki`]: the certificate authorities behind documents and TLS.
//! - [`files`], [`text`], [`time`]: what all of them use.
//!
//! docs/simulators.md says what each shows, refuses and cannot show.

mod der;
pub mod files;
pub mod interposer;
pub mod nsm;
pub mod pki;
pub mod text;
pub mod time;
