//! Locks of Azure Key Vault. A crate of its own, so that a trusted side without Azure does not link its SDK.
//!
//! In reading order:
//! - [`config`]: what the trusted side's own configuration says; nothing of it comes from the agent.
//! - [`key_id`]: ids of keys, which name their vault's host.
//! - [`unwrap`]: the `azure-unwrap` lock: a key that unwraps for an identity, beside a TPM.
//! - [`wrap`]: RSA-OAEP-256 by a public key, here.
//! - [`client`]: calls of Key Vault: deadline, attempts, pauses.
//! - [`transport`]: HTTPS of the SDK over [`nodeseal_core::tunnel`]; the token that came with the request.
//! - [`fault`]: whatever goes wrong, as a named refusal.

mod client;
mod config;
mod fault;
mod key_id;
mod transport;
mod unwrap;
mod wrap;

pub use client::Vaults;
pub use config::{AzureConfig, AzureConfigError};
pub use key_id::{KeyId, KeyIdError};
pub use unwrap::AzureUnwrap;

#[cfg(test)]
mod tests;
