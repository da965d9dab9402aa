//! The keys and role assignments of a vault, kept in a file.

use std::collections::BTreeMap;
use std::path::Path;

use hyper::StatusCode;
use serde::{Deserialize, Serialize};

use super::super::error::{AzureError, AzureResult};
use super::key::{Key, Version};
use super::roles::Assignment;
use crate::state::{StateError, StateFile};
use crate::time::Timestamp;

#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    keys: BTreeMap<String, Key>,
    roles: Vec<Assignment>,
}

impl From<StateError> for AzureError {
    fn from(error: StateError) -> Self {
        Self::internal(error)
    }
}

/// Keys and roles.
pub(super) struct Store(StateFile<Saved>);

impl Store {
    pub(super) fn in_directory(directory: &Path) -> Result<Self, StateError> {
        StateFile::open(&directory.join("keys.json"), Saved::default).map(Self)
    }

    /// The key of this name that is not deleted.
    pub(super) fn key(&self, name: &str) -> AzureResult<Key> {
        let key = self.0.read().keys.get(name).cloned();
        key.filter(|key| key.deleted.is_none())
            .ok_or_else(|| not_found(name, None))
    }

    /// Its version; the newest where none is named.
    pub(super) fn version(&self, name: &str, id: Option<&str>) -> AzureResult<(Key, Version)> {
        let key = self.key(name)?;
        let version = key.version(id).cloned();
        let version = version.ok_or_else(|| not_found(name, id))?;
        Ok((key, version))
    }

    /// Names and newest versions of the keys that are deleted, or are not.
    pub(super) fn keys(&self, deleted: bool, now: Timestamp) -> Vec<(String, Key)> {
        let saved = self.0.read();
        let there = saved.keys.iter().filter(|(_, key)| {
            key.deleted.is_some() == deleted
                && key.deleted.is_none_or(|at| now.seconds() < at.purge)
        });
        there
            .map(|(name, key)| (name.clone(), key.clone()))
            .collect()
    }

    /// A deleted key that can be recovered still.
    pub(super) fn deleted(&self, name: &str, now: Timestamp) -> AzureResult<Key> {
        let key = self.0.read().keys.get(name).cloned();
        let there = |key: &Key| key.deleted.is_some_and(|at| now.seconds() < at.purge);
        key.filter(there).ok_or_else(|| not_found(name, None))
    }

    /// Adds a version to the key of this name, which is made by `new` where it is not there.
    pub(super) fn add(
        &self,
        name: &str,
        version: Version,
        now: Timestamp,
        policy: impl FnOnce(Option<&Key>) -> AzureResult<Option<super::key::Policy>>,
    ) -> AzureResult<Key> {
        self.0.change(|saved| {
            let found = saved.keys.get(name);
            let gone = found.and_then(|key| key.deleted);
            let purged = gone.is_some_and(|at| now.seconds() >= at.purge);
            if gone.is_some() && !purged {
                let message = format!(
                    "Key {name} is currently in a deleted but recoverable state, and its name cannot be reused; in this \
                     state, the key can only be recovered or purged."
                );
                let mut error = AzureError::new(StatusCode::CONFLICT, "Conflict", message);
                error.inner = Some("ObjectIsDeletedButRecoverable".to_owned());
                return Err(error);
            }
            let before = found.filter(|_| !purged);
            let policy = policy(before)?;
            let mut versions = before.map_or_else(Vec::new, |key| key.versions.clone());
            versions.push(version);
            let key = Key {
                versions,
                policy,
                deleted: None,
            };
            saved.keys.insert(name.to_owned(), key.clone());
            Ok(key)
        })
    }

    /// Changes a key.
    pub(super) fn change<R>(
        &self,
        name: &str,
        change: impl FnOnce(&mut Key) -> AzureResult<R>,
    ) -> AzureResult<R> {
        self.0.change(|saved| {
            let key = saved.keys.get_mut(name);
            change(key.ok_or_else(|| not_found(name, None))?)
        })
    }

    /// Removes a key for good.
    pub(super) fn purge(&self, name: &str) -> AzureResult<()> {
        self.0.change(|saved| {
            saved.keys.remove(name);
            Ok(())
        })
    }

    /// Assigns a role; once is enough.
    pub(super) fn assign(&self, assignment: Assignment) -> Result<(), StateError> {
        self.0.change(|saved| {
            if !saved.roles.contains(&assignment) {
                saved.roles.push(assignment);
            }
            Ok(())
        })
    }

    /// Takes a role away; whether it was there.
    pub(super) fn unassign(&self, assignment: &Assignment) -> Result<bool, StateError> {
        self.0.change(|saved| {
            let before = saved.roles.len();
            saved.roles.retain(|other| other != assignment);
            Ok(saved.roles.len() < before)
        })
    }

    pub(super) fn assignments(&self) -> Vec<Assignment> {
        self.0.read().roles.clone()
    }
}

fn not_found(name: &str, version: Option<&str>) -> AzureError {
    let id = version.map_or_else(|| name.to_owned(), |version| format!("{name}/{version}"));
    let message = format!(
        "A key with (name/id) {id} was not found in this key vault. If you recently deleted this key you may be able to \
         recover it using the correct recovery command."
    );
    AzureError::new(StatusCode::NOT_FOUND, "KeyNotFound", message)
}
