//! Azure: which vaults and attestation services a batch needs, and access tokens for the vaults.
//!
//! Tokens come from the vendor's credentials, go along with a request and are never written down.

mod assertion;
mod host;
mod identity;

use std::time::Duration;

use memchr::memmem;
use nodeseal_wire::lock::MAX_KEY_ID;
use nodeseal_wire::message::{AzureToken, Refusal};

pub use host::{AMD_CERTIFICATION, vcek_chain};
pub use identity::{Identity, check_identities};

use crate::egress::Target;
use crate::supplies::said;

/// Longest that a token may take; the metadata service answers 410 for up to 70 s while it is updated.
const DEADLINE: Duration = Duration::from_secs(80);
/// What a refusal is called whose token the vault did not take.
const TOKEN_REFUSED: &str = "azure-token-refused";

/// Domains of vaults, with the resource their tokens are for (Azure, "Authentication, requests and responses" of Key
/// Vault; the sovereign clouds' endpoint tables).
const VAULTS: [(&str, &str); 6] = [
    (".vault.azure.net", "https://vault.azure.net"),
    (".vault.azure.cn", "https://vault.azure.cn"),
    (
        ".vault.usgovcloudapi.net",
        "https://vault.usgovcloudapi.net",
    ),
    (".managedhsm.azure.net", "https://managedhsm.azure.net"),
    (".managedhsm.azure.cn", "https://managedhsm.azure.cn"),
    (
        ".managedhsm.usgovcloudapi.net",
        "https://managedhsm.usgovcloudapi.net",
    ),
];

/// Domains of attestation services.
const ATTESTATION: [&str; 3] = [".attest.azure.net", ".attest.azure.cn", ".attest.azure.us"];

/// No token.
#[derive(Debug, thiserror::Error)]
pub enum AzureError {
    /// The credential has none, or failed.
    #[error("no access token of Azure for {vault}: {reason}")]
    None {
        /// Host of the vault.
        vault: String,
        /// What the credential says.
        reason: String,
    },
}

/// Checks an id of a vault's key.
///
/// # Errors
/// Says what is expected.
pub fn check_key(key: &str) -> Result<(), String> {
    let host = vault_of(key).filter(|_| key.len() <= MAX_KEY_ID);
    host.map(drop).ok_or_else(|| {
        format!(
            "{key:?} is not the id of a Key Vault key: https://HOST/keys/NAME, or with /VERSION"
        )
    })
}

/// Checks the address of an attestation service.
///
/// # Errors
/// Says what is expected.
pub fn check_service(service: &str) -> Result<(), String> {
    match host_of(service) {
        Some((_, "")) => Ok(()),
        _ => Err(format!(
            "{service:?} is not the address of an attestation service: https://HOST"
        )),
    }
}

/// Host and path of `https://HOST/PATH`.
fn host_of(url: &str) -> Option<(&str, &str)> {
    let rest = url.strip_prefix("https://")?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || b"-.".contains(&c);
    let well_formed = (1..=253).contains(&host.len()) && host.bytes().all(allowed);
    well_formed.then_some((host, path))
}

/// Host of the vault in a key's id.
#[must_use]
pub fn vault_of(key: &str) -> Option<&str> {
    let (host, path) = host_of(key)?;
    let parts: Vec<&str> = path.split('/').collect();
    match parts[..] {
        ["keys", name] if !name.is_empty() => Some(host),
        ["keys", name, version] if !name.is_empty() && !version.is_empty() => Some(host),
        _ => None,
    }
}

/// A host that stands in a lock.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Host {
    /// Of a vault.
    Vault(String),
    /// Of an attestation service.
    Attestation(String),
}

impl Host {
    /// Where to connect, if the host is one of Azure's: a blob is not believed about others, which the configuration
    /// must allow.
    #[must_use]
    pub fn target(&self) -> Option<Target> {
        let (host, azures) = match self {
            Self::Vault(host) => (
                host,
                VAULTS.iter().any(|(domain, _)| host.ends_with(domain)),
            ),
            Self::Attestation(host) => (
                host,
                ATTESTATION.iter().any(|domain| host.ends_with(domain)),
            ),
        };
        azures.then(|| Target {
            host: host.clone(),
            port: 443,
        })
    }
}

/// Hosts of vaults and attestation services that stand in `bytes`, such as blobs: found by their form, as keys of AWS
/// KMS are. In a blob a URL is followed by a byte that no URL has.
pub fn hosts(bytes: &[u8]) -> impl Iterator<Item = Host> {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b":/.-".contains(byte);
    memmem::find_iter(bytes, b"https://").filter_map(move |start| {
        let rest = bytes.get(start..)?;
        let end = rest
            .iter()
            .position(|byte| !allowed(byte))
            .unwrap_or(rest.len());
        let url = std::str::from_utf8(rest.get(..end)?).ok()?;
        match (vault_of(url), host_of(url)?) {
            (Some(vault), _) => Some(Host::Vault(vault.to_owned())),
            (None, (host, "")) => Some(Host::Attestation(host.to_owned())),
            (None, _) => None,
        }
    })
}

/// A token for a vault, by the first of `identities` that is meant for it.
///
/// # Errors
/// When there is none.
pub async fn token(vault: &str, identities: &[Identity]) -> Result<AzureToken, AzureError> {
    let none = |reason: String| AzureError::None {
        vault: vault.to_owned(),
        reason,
    };
    let meant = || identities.iter().filter(|identity| identity.is_for(vault));
    let own = meant()
        .find(|identity| identity.names_vaults())
        .or(meant().next());
    let credential = match own {
        Some(identity) => identity.credential(),
        None if identities.is_empty() => Identity::of_this_machine().credential(),
        None => Err("no [[azure]] of the configuration is meant for it".to_owned()),
    }
    .map_err(none)?;
    let resource = VAULTS
        .iter()
        .find(|(domain, _)| vault.ends_with(domain))
        .map_or("https://vault.azure.net", |(_, resource)| resource);
    let scope = format!("{resource}/.default");
    let scopes = [scope.as_str()];
    let asked = credential.get_token(&scopes, None);
    let token = tokio::time::timeout(DEADLINE, asked)
        .await
        .map_err(|_| none(format!("no answer within {} s", DEADLINE.as_secs())))?
        .map_err(|error| none(reason(&error)))?;
    Ok(AzureToken {
        vault: vault.to_owned(),
        token: token.token.secret().to_owned(),
        expires: u64::try_from(token.expires_on.unix_timestamp()).unwrap_or(0),
    })
}

/// The error and everything it is due to, on one line.
fn reason(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = cause.source();
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether a newer token may turn the refusal into a success.
#[must_use]
pub fn token_refused(refusal: &Refusal) -> bool {
    said(refusal, TOKEN_REFUSED)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use nodeseal_wire::lock::{AzureReleaseLock, AzureUnwrapLock, Lock};

    const KEY: &str = "https://demo.vault.azure.net/keys/node/0123456789abcdef";

    #[test]
    fn the_hosts_of_a_blobs_locks_are_found() {
        let mut w = nodeseal_wire::cbor::Writer::new();
        Lock::AzureUnwrap(AzureUnwrapLock {
            key: KEY.to_owned(),
            ciphertext: vec![b'a'; 256],
        })
        .encode(&mut w);
        Lock::AzureRelease(AzureReleaseLock {
            key: "https://other.vault.azure.net/keys/node/1".to_owned(),
            attestation: "https://shared.weu.attest.azure.net".to_owned(),
            ciphertext: vec![b'/'; 256],
        })
        .encode(&mut w);
        let bytes = w.finish();
        let found: Vec<Host> = hosts(&bytes).collect();
        let vault = |host: &str| Host::Vault(host.to_owned());
        let service = Host::Attestation("shared.weu.attest.azure.net".to_owned());
        let expected = [
            vault("demo.vault.azure.net"),
            vault("other.vault.azure.net"),
            service,
        ];
        assert_eq!(found, expected);
        let targets = found.iter().map(|host| host.target().unwrap().to_string());
        let expected = [
            "demo.vault.azure.net:443",
            "other.vault.azure.net:443",
            "shared.weu.attest.azure.net:443",
        ];
        assert_eq!(targets.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_blob_opens_no_way_to_hosts_that_are_not_azures() {
        for url in [
            "https://evil.example/keys/a/b",
            "https://vault.azure.net.evil.example",
        ] {
            let found: Vec<Host> = hosts(url.as_bytes()).collect();
            assert_eq!(found.len(), 1, "{url}");
            assert_eq!(found[0].target(), None, "{url}");
        }
        assert_eq!(hosts(b"https:// https://a/b https://A/keys/b").count(), 0);
    }

    #[test]
    fn keys_and_services_are_checked_by_their_form() {
        check_key(KEY).unwrap();
        check_key("https://demo.vault.azure.net/keys/node").unwrap();
        for key in [
            "",
            "node",
            "https://a/secrets/b",
            "https://a/keys/",
            "https://a/keys/b/c/d",
        ] {
            assert!(check_key(key).is_err(), "{key}");
        }
        check_service("https://shared.weu.attest.azure.net").unwrap();
        for service in ["", "shared.weu.attest.azure.net", "https://a/b", "http://a"] {
            assert!(check_service(service).is_err(), "{service}");
        }
    }
}
