//! Simulators one level below nodeseal: they speak NSM bytes, HTTPS and HTTP, sign under roots of their own, and
//! can be told to misbehave. Never a dependency of a shipped program.
//!
//! - [`azure`]: Key Vault, the attestation service, Entra, and a machine's vTPM.
//! - [`credentials`]: access keys, shared by the services that issue and that check them.
//! - [`enclave`]: the trusted side on a simulated NSM.
//! - [`http`], [`https`], [`faults`]: how services are served, and what they can be told to do wrong.
//! - [`imds`]: the EC2 instance metadata service.
//! - [`interposer`]: a listener and attacker on the line to a TPM.
//! - [`kms`]: AWS KMS over HTTPS.
//! - [`nsm`]: the Nitro Security Module, its PCR bank and attestation documents.
//! - [`pki`]: the certificate authorities behind documents and TLS.
//! - [`files`], [`state`], [`text`], [`time`]: what all of them use.
//!
//! docs/simulators.md says what each shows, refuses and cannot show.

pub mod azure;
pub mod credentials;
mod delivery;
mod der;
pub mod enclave;
pub mod faults;
pub mod files;
pub mod http;
pub mod https;
pub mod imds;
pub mod interposer;
pub mod kms;
pub mod nsm;
pub mod pki;
mod records;
mod rsa;
pub mod state;
pub mod text;
pub mod time;
