//! The TPM-backed trusted side.
//!
//! In reading order:
//! - [`config`]: what it is told to do; [`tcti`]: where the TPM is.
//! - [`structures`], [`policy`]: TPM structures, Names and policy digests, in software.
//! - [`tpm`]: what nodeseal needs of a TPM; [`tpm2`]: that in the TPM's own language; [`error`]: every way it can fail, by name.
//! - [`enrolment`], [`record`]: which TPM, which storage root key, and the file that says so.
//! - [`owner`]: the one thread that speaks to the TPM.
//! - [`lock`]: the `tpm` lock of a way, made and opened.
//! - [`azure`]: the same TPM as the lock `azure-release` uses it.
//! - [`sandbox`]: what the process gives up; [`listener`], [`serve`]: the service.

pub mod azure;
pub mod config;
pub mod enrolment;
pub mod error;
pub mod listener;
pub mod lock;
pub mod owner;
pub mod policy;
pub mod record;
pub mod sandbox;
pub mod serve;
pub mod structures;
pub mod tcti;
pub mod tpm;
pub mod tpm2;
mod transport;
