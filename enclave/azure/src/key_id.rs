//! Ids of Key Vault keys: `https://HOST/keys/NAME[/VERSION]` (Azure, "About keys: object identifiers").

use std::fmt;

/// Longest host name (RFC 1035 §2.3.4).
const MAX_HOST: usize = 253;
/// Longest name of a key ("Vault-name and object-name").
const MAX_NAME: usize = 127;
/// Versions are 32 characters; room for those of emulators and Managed HSM.
const MAX_VERSION: usize = 64;

/// Id of a key, or of one version of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyId {
    host: String,
    name: String,
    version: Option<String>,
}

/// No id of a key.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{found:?} is no id of a Key Vault key: {what} (expected https://HOST/keys/NAME or https://HOST/keys/NAME/VERSION)"
)]
pub struct KeyIdError {
    what: &'static str,
    found: String,
}

impl KeyId {
    /// Reads an id. No port, user or query is taken: each part becomes part of a URL.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, KeyIdError> {
        let fail = |what| KeyIdError {
            what,
            found: text.chars().take(200).collect(),
        };
        let rest = text
            .strip_prefix("https://")
            .ok_or_else(|| fail("it does not begin with https://"))?;
        let mut parts = rest.split('/');
        let host = parts.next().unwrap_or_default();
        if !is_host(host) {
            return Err(fail("no host name"));
        }
        if parts.next() != Some("keys") {
            return Err(fail("not a key"));
        }
        let word = |text: &str, longest: usize| {
            let allowed = |c: u8| c.is_ascii_alphanumeric() || c == b'-';
            (1..=longest).contains(&text.len()) && text.bytes().all(allowed)
        };
        let name = parts.next().unwrap_or_default();
        if !word(name, MAX_NAME) {
            return Err(fail("no name of a key"));
        }
        let version = parts.next();
        if version.is_some_and(|version| !word(version, MAX_VERSION)) {
            return Err(fail("no version of a key"));
        }
        if parts.next().is_some() {
            return Err(fail("something after the version"));
        }
        Ok(Self {
            host: host.to_owned(),
            name: name.to_owned(),
            version: version.map(str::to_owned),
        })
    }

    /// Host of the vault.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Name of the key in its vault.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The version, where the id names one.
    #[must_use]
    pub fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// Whether this id, as an allowance, covers another: a key covers all its versions.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.host == other.host
            && self.name == other.name
            && (self.version.is_none() || self.version == other.version)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}/keys/{}", self.host, self.name)?;
        match &self.version {
            Some(version) => write!(f, "/{version}"),
            None => Ok(()),
        }
    }
}

/// Whether this is the name of a host in lower case, and nothing more.
pub(crate) fn is_host(text: &str) -> bool {
    let allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-' || c == b'.';
    (1..=MAX_HOST).contains(&text.len())
        && text.bytes().all(allowed)
        && !text.starts_with(['.', '-'])
        && !text.contains("..")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_id_names_vault_key_and_version() {
        let text = "https://demo.vault.azure.net/keys/node-1/0123456789abcdef0123456789abcdef";
        let id = KeyId::parse(text).unwrap();
        assert_eq!(id.host(), "demo.vault.azure.net");
        assert_eq!(id.name(), "node-1");
        assert_eq!(id.version(), Some("0123456789abcdef0123456789abcdef"));
        assert_eq!(id.to_string(), text);
        let key = KeyId::parse("https://demo.vault.azure.net/keys/node-1").unwrap();
        assert!(key.covers(&id) && key.covers(&key) && !id.covers(&key));
        let other = KeyId::parse("https://other.vault.azure.net/keys/node-1").unwrap();
        assert!(!other.covers(&id));
    }

    #[test]
    fn what_is_no_key_id_is_refused_with_the_reason() {
        for (text, what) in [
            ("http://a/keys/b", "it does not begin with https://"),
            ("https://a:443/keys/b", "no host name"),
            ("https://user@a/keys/b", "no host name"),
            ("https://A/keys/b", "no host name"),
            ("https://../keys/b", "no host name"),
            ("https://a/secrets/b", "not a key"),
            ("https://a/keys/", "no name of a key"),
            ("https://a/keys/b?c", "no name of a key"),
            ("https://a/keys/b/", "no version of a key"),
            ("https://a/keys/b/c/d", "something after the version"),
        ] {
            assert_eq!(KeyId::parse(text).unwrap_err().what, what, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_parses_is_written_back_as_it_was(text in "(https://[a-z.]{1,9}/keys/)?.{0,40}") {
            if let Ok(id) = KeyId::parse(&text) {
                prop_assert_eq!(id.to_string(), text);
            }
        }
    }
}
