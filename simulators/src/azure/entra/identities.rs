//! Who may have tokens: applications and managed identities, kept in a file people can write.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::files::{self, FileError};
use crate::text::{NoRandomness, base64url, random, uuid};

/// Everyone.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identities {
    /// Applications with service principals.
    #[serde(default)]
    pub apps: Vec<App>,
    /// Managed identities of the machine.
    #[serde(default)]
    pub managed: Vec<ManagedIdentity>,
}

/// An application.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct App {
    /// Application (client) id.
    pub client_id: String,
    /// Object id of its service principal, by which roles are assigned.
    pub object_id: String,
    /// Client secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// Certificate (PEM) whose key signs its assertions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// Federated credentials.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub federated: Vec<Federated>,
}

/// Whose tokens stand for an application's (workload identity).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Federated {
    /// `iss`.
    pub issuer: String,
    /// `sub`: `system:serviceaccount:NAMESPACE:NAME`.
    pub subject: String,
    /// The issuer's key set (JWKS).
    pub keys: serde_json::Value,
}

/// A managed identity.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManagedIdentity {
    /// Client id.
    pub client_id: String,
    /// Object id, by which roles are assigned.
    pub object_id: String,
    /// Resource id of a user-assigned one; none for the system-assigned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_id: Option<String>,
}

/// The file of identities cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// File trouble.
    #[error(transparent)]
    File(#[from] FileError),
    /// It is no such file.
    #[error("{path}: {cause}")]
    Json {
        /// The file.
        path: String,
        /// What is wrong with it.
        cause: serde_json::Error,
    },
    /// No random bytes.
    #[error(transparent)]
    Randomness(#[from] NoRandomness),
}

impl Identities {
    /// Reads `path`; where there is no such file, one is made with an application that has a secret, a system-assigned
    /// identity and two user-assigned ones.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn load_or_create(path: &Path) -> Result<Self, IdentityError> {
        let json = |cause| IdentityError::Json {
            path: path.display().to_string(),
            cause,
        };
        if let Some(bytes) = files::read_if_there(path)? {
            return serde_json::from_slice(&bytes).map_err(json);
        }
        let managed = |resource_id: Option<&str>| -> Result<_, NoRandomness> {
            Ok(ManagedIdentity {
                client_id: uuid()?,
                object_id: uuid()?,
                resource_id: resource_id.map(str::to_owned),
            })
        };
        let user = |name: &str| {
            format!(
                "/subscriptions/00000000-0000-0000-0000-000000000000/resourcegroups/nodeseal/providers/\
                 Microsoft.ManagedIdentity/userAssignedIdentities/{name}"
            )
        };
        let identities = Self {
            apps: vec![App {
                client_id: uuid()?,
                object_id: uuid()?,
                secret: Some(base64url(random::<30>()?)),
                certificate: None,
                federated: Vec::new(),
            }],
            managed: vec![
                managed(None)?,
                managed(Some(&user("node-1")))?,
                managed(Some(&user("node-2")))?,
            ],
        };
        let bytes = serde_json::to_vec_pretty(&identities).map_err(json)?;
        files::replace(path, &bytes)?;
        Ok(identities)
    }
}
