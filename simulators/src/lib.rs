//! Simulators one level below nodeseal: they speak NSM bytes, HTTPS and HTTP, sign under roots of their own, and
//! can be told to misbehave. Never a dependency of a shipped program.
//!
//! - [`credentials`]: access keys, shared by the services that issue and that check them.
//! - [`enclave`]: the trusted side on a simulated NSM.
//! - [`http`]: where services listen.
//! - [`imds`]: the EC2 instance metadata service.
//! - [`interposer`]: a listener and attacker on the line to a TPM.
//! - [`kms`]: AWS KMS over HTTPS.
//! - [`nsm`]: the Nitro Security Module, its PCR bank and attestation documents.
//! - [`pki`]: the certificate authorities behind documents and TLS.
//! - [`files`], [`text`], [`time`]: what all of them use.
//!
//! docs/simulators.md says what each shows, refuses and cannot show.

pub mod credentials;
mod der;
pub mod enclave;
pub mod files;
pub mod http;
pub mod imds;
pub mod interposer;
pub mod kms;
pub mod nsm;
pub mod pki;
pub mod text;
pub mod time;
