//! What the service can be told to do wrong with a token.

use serde::{Deserialize, Serialize};

/// A fault of the service's own, for AttestAzureGuest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "kebab-case")]
pub enum AttestationFault {
    /// The envelope answered before, for whichever key it was.
    ReplayEnvelope,
    /// One bit of the encrypted token is flipped.
    GarbledEnvelope,
    /// Signed with a key that is not published.
    ForeignToken,
    /// Ended an hour ago.
    ExpiredToken,
    /// Another issuer.
    OtherIssuer,
    /// Another nonce.
    OtherNonce,
    /// Another key to encrypt to.
    OtherKey,
}
