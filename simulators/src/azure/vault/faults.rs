//! What a vault can be told to do wrong with a released key.

use serde::{Deserialize, Serialize};

/// A fault of a vault's own; all are for KeyRelease, but `OtherSecret`, which is for KeyUnwrap and KeyDecrypt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "kebab-case")]
pub enum VaultFault {
    /// Signed by another vault, whose root nobody trusts.
    ForeignJws,
    /// Signed by another vault, under the certificates of the right one.
    ForgedJws,
    /// The answer given before.
    ReplayRelease,
    /// Another key's id.
    OtherKeyId,
    /// Another nonce.
    OtherNonce,
    /// No nonce.
    NoNonce,
    /// Another encryption than asked for.
    OtherEnc,
    /// Encrypted for somebody else's key, under the right key id.
    ForeignRecipient,
    /// Another private key under the right public one.
    OtherPrivateKey,
    /// One bit of the ciphertext is flipped.
    GarbledKey,
    /// Another value than was wrapped.
    OtherSecret,
}
