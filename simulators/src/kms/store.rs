//! The keys and aliases of one account in one region, kept in a file.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::error::{ApiError, ApiResult};
use super::key::Key;
use crate::state::{StateError, StateFile};
use crate::time::Timestamp;

/// Why the state was not loaded.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be read or written, or is no such file.
    #[error(transparent)]
    State(#[from] StateError),
    /// The state is another region's or account's: key ARNs would change under their users.
    #[error("{path} holds the keys of {found}, expected those of {expected}")]
    OtherPlace {
        /// The file.
        path: String,
        /// Region and account in it.
        found: String,
        /// Region and account asked for.
        expected: String,
    },
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    region: String,
    account: String,
    keys: BTreeMap<String, Key>,
    /// `alias/NAME` to key id.
    aliases: BTreeMap<String, String>,
}

/// Keys and aliases.
pub(super) struct Store(StateFile<Saved>);

impl From<StateError> for ApiError {
    fn from(error: StateError) -> Self {
        Self::internal(error)
    }
}

impl Store {
    /// Loads `keys.json` from `directory`, or starts empty.
    pub(super) fn in_directory(
        directory: &Path,
        region: &str,
        account: &str,
    ) -> Result<Self, StoreError> {
        let state = StateFile::open(&directory.join("keys.json"), || Saved {
            region: region.to_owned(),
            account: account.to_owned(),
            keys: BTreeMap::new(),
            aliases: BTreeMap::new(),
        })?;
        let saved = state.read();
        if (saved.region.as_str(), saved.account.as_str()) != (region, account) {
            return Err(StoreError::OtherPlace {
                path: state.path().display().to_string(),
                found: format!("{} in {}", saved.account, saved.region),
                expected: format!("{account} in {region}"),
            });
        }
        drop(saved);
        Ok(Self(state))
    }

    /// ARN of the key `id`.
    pub(super) fn arn(&self, id: &str) -> String {
        let saved = self.0.read();
        format!("arn:aws:kms:{}:{}:key/{id}", saved.region, saved.account)
    }

    /// ARN of the alias `name` (`alias/…`).
    pub(super) fn alias_arn(&self, name: &str) -> String {
        let saved = self.0.read();
        format!("arn:aws:kms:{}:{}:{name}", saved.region, saved.account)
    }

    /// The key with this id, unless it is gone by `now`.
    pub(super) fn by_id(&self, id: &str, now: Timestamp) -> Option<Key> {
        let key = self.0.read().keys.get(id).cloned();
        key.filter(|key| !key.gone(now))
    }

    /// The key an operation's `KeyId` names: key id, key ARN, alias name or alias ARN.
    pub(super) fn resolve(&self, name: &str, now: Timestamp) -> ApiResult<Key> {
        let mut local = name;
        if name.starts_with("arn:") {
            let prefix = self.alias_arn("");
            local = name
                .strip_prefix(&prefix)
                .ok_or_else(|| ApiError::not_found(format!("Invalid arn {name}")))?;
            local = local.strip_prefix("key/").unwrap_or(local);
        }
        let id = if local.starts_with("alias/") {
            self.0.read().aliases.get(local).cloned().ok_or_else(|| {
                ApiError::not_found(format!("Alias {} is not found.", self.alias_arn(local)))
            })?
        } else {
            local.to_owned()
        };
        self.by_id(&id, now)
            .ok_or_else(|| ApiError::not_found(format!("Key '{}' does not exist", self.arn(&id))))
    }

    /// Every key id that is not gone by `now`, in order.
    pub(super) fn ids(&self, now: Timestamp) -> Vec<String> {
        let saved = self.0.read();
        let there = saved.keys.values().filter(|key| !key.gone(now));
        there.map(|key| key.id.clone()).collect()
    }

    /// Every alias name with its key id, in order.
    pub(super) fn aliases(&self) -> Vec<(String, String)> {
        let saved = self.0.read();
        saved
            .aliases
            .iter()
            .map(|(name, id)| (name.clone(), id.clone()))
            .collect()
    }

    /// Adds a key, or replaces the one with its id.
    pub(super) fn put(&self, key: Key) -> ApiResult<()> {
        self.0.change(|saved| {
            saved.keys.insert(key.id.clone(), key);
            Ok(())
        })
    }

    /// Adds an alias.
    pub(super) fn put_alias(&self, name: &str, id: &str) -> ApiResult<()> {
        let arn = self.alias_arn(name);
        self.0.change(|saved| {
            if saved.aliases.contains_key(name) {
                let message = format!("An alias with the name {arn} already exists");
                return Err(ApiError::new("AlreadyExistsException", message));
            }
            saved.aliases.insert(name.to_owned(), id.to_owned());
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::key::KeyState;
    use super::*;

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    fn key() -> Key {
        Key::generate(String::new(), "{}".to_owned(), Vec::new(), NOW).unwrap()
    }

    #[test]
    fn keys_and_aliases_survive_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let open = || Store::in_directory(directory.path(), "eu-west-1", "111122223333").unwrap();
        let key = key();
        let id = key.id.clone();
        let store = open();
        store.put(key.clone()).unwrap();
        store.put_alias("alias/node", &id).unwrap();
        drop(store);
        let store = open();
        let arn = store.arn(&id);
        let alias_arn = store.alias_arn("alias/node");
        for name in [id.as_str(), "alias/node", &arn, &alias_arn] {
            let found = store.resolve(name, NOW).unwrap();
            assert_eq!(found.material().unwrap(), key.material().unwrap(), "{name}");
        }
    }

    #[test]
    fn unknown_names_are_answered_as_aws_does() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::in_directory(directory.path(), "eu-west-1", "111122223333").unwrap();
        let message = |name| store.resolve(name, NOW).err().unwrap().message.unwrap();
        assert_eq!(
            message("1234"),
            "Key 'arn:aws:kms:eu-west-1:111122223333:key/1234' does not exist"
        );
        assert_eq!(
            message("alias/x"),
            "Alias arn:aws:kms:eu-west-1:111122223333:alias/x is not found."
        );
        let other = "arn:aws:kms:us-east-1:111122223333:key/1234";
        assert_eq!(message(other), format!("Invalid arn {other}"));
    }

    #[test]
    fn a_key_is_gone_at_its_deletion_date() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::in_directory(directory.path(), "eu-west-1", "111122223333").unwrap();
        let mut key = key();
        key.state = KeyState::PendingDeletion(NOW.0 + 1);
        let id = key.id.clone();
        store.put(key).unwrap();
        assert!(store.by_id(&id, NOW).is_some());
        assert!(store.by_id(&id, Timestamp(NOW.0 + 1)).is_none());
        assert!(store.ids(Timestamp(NOW.0 + 1)).is_empty());
    }

    #[test]
    fn the_state_of_another_region_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let open = |region| Store::in_directory(directory.path(), region, "111122223333");
        open("eu-west-1").unwrap().put(key()).unwrap();
        let error = open("us-east-1").err().unwrap().to_string();
        let path = directory.path().join("keys.json");
        assert_eq!(
            error,
            format!(
                "{} holds the keys of 111122223333 in eu-west-1, expected those of 111122223333 in us-east-1",
                path.display()
            )
        );
    }
}
