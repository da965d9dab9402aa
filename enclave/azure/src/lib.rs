//! Locks of Azure Key Vault. A crate of its own, so that a trusted side without Azure does not link its SDK.
//!
//! In reading order:
//! - [`config`]: what the trusted side's own configuration says; nothing of it comes from the agent.
//! - [`key_id`]: ids of keys, which name their vault's host.
//! - [`unwrap`]: the `azure-unwrap` lock: a key that unwraps for an identity, beside a TPM.
//! - [`release`]: the `azure-release` lock: a key that is released to an attested machine.
//! - [`kept`]: released keys, for the rest of their batch.
//! - [`guest`]: the seam to the machine's TPM, and the attestation service's envelope.
//! - [`attest`]: the exchange with that service.
//! - [`wrap`]: RSA-OAEP-256 by a public key, here.
//! - [`client`]: calls of Key Vault: deadline, attempts, pauses.
//! - [`transport`]: HTTPS of the SDK over [`nodeseal_core::tunnel`]; the token that came with the request.
//! - [`fault`]: whatever goes wrong, as a named refusal.

mod attest;
mod client;
mod config;
mod fault;
pub mod guest;
mod kept;
mod key_id;
mod release;
mod transport;
mod unwrap;
mod wrap;

pub use client::Vaults;
pub use config::{AzureConfig, AzureConfigError, ReleaseConfig};
pub use guest::Padding;
pub use key_id::{KeyId, KeyIdError};
pub use release::AzureRelease;
pub use unwrap::AzureUnwrap;

/// What a [`guest::GuestTpm`] calls a ciphertext that is not for its key: another machine's, or of an earlier boot.
pub const NOT_OURS: &str = "azure-not-ours";
