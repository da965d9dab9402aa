//! As whom vaults are asked: `[[azure]]` of the configuration, and the vendor's credential for each kind.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use azure_core::credentials::{Secret, TokenCredential};
use azure_core::http::{ClientOptions, Transport};
use azure_identity::{
    ClientAssertionCredential, ClientSecretCredential, DeveloperToolsCredential,
    ManagedIdentityCredential, ManagedIdentityCredentialOptions, UserAssignedId,
    WorkloadIdentityCredential, WorkloadIdentityCredentialOptions,
};
use serde::Deserialize;

use super::assertion::Certificate;

/// `[[azure]]` of the configuration: an identity and the vaults it is for.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// What kind it is.
    identity: Kind,
    /// Hosts of the vaults it is for; none is for every vault no other identity names.
    #[serde(default)]
    vaults: Vec<String>,
    /// Id of the tenant.
    tenant: Option<String>,
    /// Client id of the application, or of the user-assigned identity.
    client_id: Option<String>,
    /// Object id of the user-assigned identity.
    object_id: Option<String>,
    /// Resource id of the user-assigned identity.
    resource_id: Option<String>,
    /// File with the client secret.
    secret_file: Option<PathBuf>,
    /// File with the certificate, PEM.
    certificate_file: Option<PathBuf>,
    /// File with its private key, PKCS#8 in PEM.
    private_key_file: Option<PathBuf>,
    /// File with the token of the platform that runs the workload.
    token_file: Option<PathBuf>,
}

/// Kinds of identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    /// Of the virtual machine or App Service: system-assigned, or user-assigned where an id is given.
    Managed,
    /// Of a Kubernetes service account (`AZURE_CLIENT_ID`, `AZURE_TENANT_ID`, `AZURE_FEDERATED_TOKEN_FILE`).
    Workload,
    /// An application with a secret.
    ClientSecret,
    /// An application with a certificate.
    ClientCertificate,
    /// Whoever is logged in to `az` or `azd`.
    Developer,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Managed => "managed",
            Self::Workload => "workload",
            Self::ClientSecret => "client-secret",
            Self::ClientCertificate => "client-certificate",
            Self::Developer => "developer",
        }
    }
}

/// Checks every identity, and that no vault belongs to two.
///
/// # Errors
/// Names the field.
pub fn check_identities(identities: &[Identity]) -> Result<(), String> {
    for (index, identity) in identities.iter().enumerate() {
        identity.check()?;
        let later = || identities.iter().skip(index + 1);
        if identity.vaults.is_empty() && later().any(|other| other.vaults.is_empty()) {
            return Err(
                "two [[azure]] are for every vault: name the vaults of all but one".to_owned(),
            );
        }
        let twice = identity
            .vaults
            .iter()
            .find(|vault| later().any(|other| other.vaults.contains(vault)));
        if let Some(vault) = twice {
            return Err(format!("two [[azure]] are for vault {vault:?}"));
        }
    }
    Ok(())
}

impl Identity {
    /// What a machine has without being configured: a workload identity where the platform gives one, else its managed
    /// identity.
    #[must_use]
    pub fn of_this_machine() -> Self {
        let identity = match std::env::var_os("AZURE_FEDERATED_TOKEN_FILE") {
            Some(_) => Kind::Workload,
            None => Kind::Managed,
        };
        Self {
            identity,
            vaults: Vec::new(),
            tenant: None,
            client_id: None,
            object_id: None,
            resource_id: None,
            secret_file: None,
            certificate_file: None,
            private_key_file: None,
            token_file: None,
        }
    }

    /// Makes relative paths ones that start at `base`.
    pub fn resolve(&mut self, base: &Path) {
        for path in [
            &mut self.secret_file,
            &mut self.certificate_file,
            &mut self.private_key_file,
            &mut self.token_file,
        ] {
            *path = path.as_ref().map(|path| base.join(path));
        }
    }

    /// Whether it is meant for this vault. One that names vaults comes first.
    pub(super) fn is_for(&self, vault: &str) -> bool {
        self.vaults.is_empty() || self.vaults.iter().any(|own| own == vault)
    }

    /// Whether it names the vaults it is for.
    #[must_use]
    pub fn names_vaults(&self) -> bool {
        !self.vaults.is_empty()
    }

    fn check(&self) -> Result<(), String> {
        let kind = self.identity.name();
        let fields = [
            ("tenant", self.tenant.is_some()),
            ("client_id", self.client_id.is_some()),
            ("object_id", self.object_id.is_some()),
            ("resource_id", self.resource_id.is_some()),
            ("secret_file", self.secret_file.is_some()),
            ("certificate_file", self.certificate_file.is_some()),
            ("private_key_file", self.private_key_file.is_some()),
            ("token_file", self.token_file.is_some()),
        ];
        let (needed, allowed): (&[&str], &[&str]) = match self.identity {
            Kind::Managed => (&[], &["client_id", "object_id", "resource_id"]),
            Kind::Workload => (&[], &["tenant", "client_id", "token_file"]),
            Kind::ClientSecret => (&["tenant", "client_id", "secret_file"], &[]),
            Kind::ClientCertificate => (
                &[
                    "tenant",
                    "client_id",
                    "certificate_file",
                    "private_key_file",
                ],
                &[],
            ),
            Kind::Developer => (&[], &[]),
        };
        for (field, given) in fields {
            if needed.contains(&field) && !given {
                return Err(format!("[[azure]] identity = {kind:?} needs {field}"));
            }
            if given && !needed.contains(&field) && !allowed.contains(&field) {
                return Err(format!("[[azure]] identity = {kind:?} has no {field}"));
            }
        }
        let ids = [&self.client_id, &self.object_id, &self.resource_id];
        if self.identity == Kind::Managed && ids.iter().filter(|id| id.is_some()).count() > 1 {
            return Err(
                "[[azure]] identity = \"managed\": give one of client_id, object_id and resource_id".to_owned(),
            );
        }
        Ok(())
    }

    /// The vendor's credential.
    pub(super) fn credential(&self) -> Result<Arc<dyn TokenCredential>, String> {
        let failed = |error: azure_core::Error| super::reason(&error);
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        Ok(match self.identity {
            Kind::Managed => {
                let user_assigned_id = match (&self.client_id, &self.object_id, &self.resource_id) {
                    (Some(id), ..) => Some(UserAssignedId::ClientId(id.clone())),
                    (_, Some(id), _) => Some(UserAssignedId::ObjectId(id.clone())),
                    (.., Some(id)) => Some(UserAssignedId::ResourceId(id.clone())),
                    _ => None,
                };
                let client_options = ClientOptions {
                    transport: Some(Transport::new(Arc::new(direct()?))),
                    ..ClientOptions::default()
                };
                let options = ManagedIdentityCredentialOptions {
                    user_assigned_id,
                    client_options,
                };
                ManagedIdentityCredential::new(Some(options)).map_err(failed)?
            }
            Kind::Workload => {
                let options = WorkloadIdentityCredentialOptions {
                    client_id: self.client_id.clone(),
                    tenant_id: self.tenant.clone(),
                    token_file_path: self.token_file.clone(),
                    ..WorkloadIdentityCredentialOptions::default()
                };
                WorkloadIdentityCredential::new(Some(options)).map_err(failed)?
            }
            Kind::ClientSecret => {
                let secret = Secret::new(read(self.secret_file.as_deref())?.trim().to_owned());
                ClientSecretCredential::new(
                    &text(&self.tenant),
                    text(&self.client_id),
                    secret,
                    None,
                )
                .map_err(failed)?
            }
            Kind::ClientCertificate => {
                let (tenant, client) = (text(&self.tenant), text(&self.client_id));
                let certificate = Certificate::read(
                    &read(self.certificate_file.as_deref())?,
                    &read(self.private_key_file.as_deref())?,
                    &tenant,
                    &client,
                )?;
                ClientAssertionCredential::new(tenant, client, certificate, None).map_err(failed)?
            }
            Kind::Developer => DeveloperToolsCredential::new(None).map_err(failed)?,
        })
    }
}

/// A client that asks no proxy: the metadata service is on this machine's own link (Azure, "Managed identities: never
/// through a proxy").
pub(super) fn direct() -> Result<reqwest::Client, String> {
    let client = reqwest::Client::builder()
        .no_proxy()
        // It speaks no TLS, so a machine without a list of authorities can ask it too.
        .tls_certs_only([])
        .build();
    client.map_err(|error| super::reason(&error))
}

fn read(path: Option<&Path>) -> Result<String, String> {
    let path = path.unwrap_or(Path::new(""));
    std::fs::read_to_string(path)
        .map_err(|error| format!("cannot read {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[derive(Deserialize)]
    struct File {
        azure: Vec<Identity>,
    }

    fn checked(text: &str) -> Result<Vec<Identity>, String> {
        let file: File = toml::from_str(text).map_err(|error| error.message().to_owned())?;
        check_identities(&file.azure)?;
        Ok(file.azure)
    }

    #[test]
    fn several_identities_each_have_their_vaults() {
        let identities = checked(
            "[[azure]]\nidentity = 'client-secret'\nvaults = ['a.vault.azure.net']\ntenant = 't'\n\
             client_id = 'c'\nsecret_file = 's'\n[[azure]]\nidentity = 'managed'\nclient_id = 'm'\n",
        )
        .unwrap();
        assert!(identities[0].is_for("a.vault.azure.net"));
        assert!(!identities[0].is_for("b.vault.azure.net"));
        assert!(identities[1].is_for("b.vault.azure.net"));
    }

    #[test]
    fn what_an_identity_lacks_or_has_too_much_is_named() {
        for (text, problem) in [
            (
                "[[azure]]\nidentity = 'client-secret'\ntenant = 't'\nclient_id = 'c'",
                "[[azure]] identity = \"client-secret\" needs secret_file",
            ),
            (
                "[[azure]]\nidentity = 'developer'\nclient_id = 'c'",
                "[[azure]] identity = \"developer\" has no client_id",
            ),
            (
                "[[azure]]\nidentity = 'managed'\nclient_id = 'c'\nobject_id = 'o'",
                "[[azure]] identity = \"managed\": give one of client_id, object_id and resource_id",
            ),
            (
                "[[azure]]\nidentity = 'managed'\n[[azure]]\nidentity = 'developer'",
                "two [[azure]] are for every vault: name the vaults of all but one",
            ),
            (
                "[[azure]]\nidentity = 'managed'\nvaults = ['a']\n[[azure]]\nidentity = 'developer'\nvaults = ['a']",
                "two [[azure]] are for vault \"a\"",
            ),
        ] {
            assert_eq!(checked(text).unwrap_err(), problem);
        }
    }
}
