//! The TPM-backed trusted side.
//!
//! In reading order:
//! - [`tcti`]: where the TPM is.
//! - [`structures`], [`policy`]: TPM structures, Names and policy digests, in software.
//! - [`tpm`]: what nodeseal needs of a TPM; [`esys`]: that over tpm2-tss.
//! - [`error`]: every way it can fail, by name.
//! - [`enrolment`]: which TPM, which storage root key.
//! - [`owner`]: the one thread that speaks to the TPM.
//! - [`lock`]: the `tpm` lock of a way, made and opened.

pub mod enrolment;
pub mod error;
pub mod esys;
pub mod policy;
pub mod structures;
pub mod tcti;
pub mod tpm;
pub mod lock;
pub mod owner;
