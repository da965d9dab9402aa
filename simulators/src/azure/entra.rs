//! Entra's token endpoint, and the endpoints of managed identities (instance metadata, App Service).

mod assertion;
mod identities;
mod managed;
mod token;

pub use identities::{App, Federated, Identities, IdentityError, ManagedIdentity};
pub use managed::serve_managed;
pub use token::serve;

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::pki::{PkiError, TokenSigner};
use crate::text::uuid;
use crate::time::Clock;

/// Name of the signing key's files in the state directory, where a vault looks for them.
pub const SIGNER: &str = "entra-signing";
/// The tenant, unless another is named.
pub const TENANT: &str = "72f988bf-0000-4000-8000-2d7cd011db47";

/// What the token services are started with.
pub struct EntraConfig {
    /// The one tenant.
    pub tenant: String,
    /// Who may have tokens.
    pub identities: Identities,
    /// Signs them.
    pub signer: TokenSigner,
    /// Life of a token, in seconds.
    pub lifetime: u64,
    /// Value of X-IDENTITY-HEADER.
    pub identity_header: String,
    /// Answer of `/metadata/THIM/amd/certification`, a file read at each request.
    pub certification: Option<PathBuf>,
    /// The present.
    pub clock: Clock,
}

/// A tenant, and the machine whose identities it serves.
pub struct Entra {
    config: EntraConfig,
}

impl Entra {
    /// The services of this tenant.
    #[must_use]
    pub fn new(config: EntraConfig) -> Self {
        Self { config }
    }

    /// An access token for `resource`, and when it ends (seconds since 1970).
    fn access_token(
        &self,
        client_id: &str,
        object_id: &str,
        resource_id: Option<&str>,
        resource: &str,
    ) -> Result<(String, u64), PkiError> {
        let now = self.config.clock.now().seconds();
        let until = now.saturating_add(self.config.lifetime);
        let tenant = &self.config.tenant;
        let mut claims = json!({
            "aud": resource,
            "iss": format!("https://sts.windows.net/{tenant}/"),
            "iat": now,
            "nbf": now,
            "exp": until,
            "appid": client_id,
            "appidacr": "1",
            "idtyp": "app",
            "oid": object_id,
            "sub": object_id,
            "tid": tenant,
            "uti": uuid()?,
            "ver": "1.0",
        });
        if let Some(id) = resource_id {
            claims["xms_mirid"] = id.into();
            claims["appidacr"] = "2".into();
        }
        Ok((self.config.signer.token(&[], &claims)?, until))
    }

    fn keys(&self) -> Value {
        self.config.signer.jwks()
    }
}
