//! Making, changing, deleting and listing keys.

use nodeseal_attestation::policy::azure;
use serde_json::{Value, json};

use super::super::error::{AzureError, AzureResult};
use super::Vault;
use super::key::{Deleted, Key, Policy, Version, Wanted, WantedPolicy};
use super::server::Call;
use crate::text::unbase64url;

const DAY: u64 = 24 * 3600;
const CONTENT_TYPE: &str = "application/json; charset=utf-8";

impl Vault {
    pub(super) fn create(&self, call: &Call<'_>, import: bool) -> AzureResult<Value> {
        let wanted: Wanted = call.body()?;
        let version = if import {
            Version::import(&wanted, call.now)?
        } else {
            Version::generate(&wanted, call.now)?
        };
        let exportable = version.attributes.exportable;
        if exportable && !version.is_hsm() {
            return Err(AzureError::bad(
                "AKV.SKR.1006: Exportable keys must be HSM keys: use RSA-HSM.",
            ));
        }
        let policy = wanted.release_policy.as_ref().map(policy).transpose()?;
        let id = version.id.clone();
        let key = self.store.add(&call.target.name, version, call.now, |before| {
            let kept = before.and_then(|key| key.policy.clone());
            if let Some(before) = before.and_then(|key| key.versions.last())
                && before.attributes.exportable != exportable
            {
                return Err(AzureError::bad(
                    "AKV.SKR.1003: The exportable attribute of an existing key cannot be changed.",
                ));
            }
            replaced(kept, policy, exportable)
        })?;
        self.describe(call, &key, Some(&id))
    }

    pub(super) fn get(&self, call: &Call<'_>) -> AzureResult<Value> {
        let version = call.target.version.as_deref();
        let (key, version) = self.store.version(&call.target.name, version)?;
        self.describe(call, &key, Some(&version.id))
    }

    pub(super) fn update(&self, call: &Call<'_>) -> AzureResult<Value> {
        let wanted: Wanted = call.body()?;
        let version = call.target.version.as_deref();
        self.store.key(&call.target.name)?;
        if wanted.release_policy.is_some() && version.is_some() {
            return Err(AzureError::bad(
                "AKV.SKR.1016: A release policy can only be set on a versionless key.",
            ));
        }
        let policy = wanted.release_policy.as_ref().map(policy).transpose()?;
        let now = call.now.seconds();
        let key = self.store.change(&call.target.name, |key| {
            let kept = key.policy.clone();
            let changed = key
                .version_mut(version)
                .ok_or_else(|| AzureError::bad("there is no such version"))?;
            let attributes = &mut changed.attributes;
            if wanted
                .attributes
                .exportable
                .is_some_and(|exportable| exportable != attributes.exportable)
            {
                return Err(AzureError::bad(
                    "AKV.SKR.1014: The exportable attribute of a key cannot be changed.",
                ));
            }
            attributes.enabled = wanted.attributes.enabled.unwrap_or(attributes.enabled);
            attributes.nbf = wanted.attributes.nbf.or(attributes.nbf);
            attributes.exp = wanted.attributes.exp.or(attributes.exp);
            attributes.updated = now;
            let exportable = attributes.exportable;
            if let Some(operations) = wanted.key_ops {
                changed.key_ops = operations;
            }
            if let Some(tags) = wanted.tags {
                changed.tags = tags;
            }
            key.policy = replaced(kept, policy, exportable)?;
            Ok(key.clone())
        })?;
        let version = key.version(version).map(|version| version.id.clone());
        self.describe(call, &key, version.as_deref())
    }

    pub(super) fn rotate(&self, call: &Call<'_>) -> AzureResult<Value> {
        let (_, newest) = self.store.version(&call.target.name, None)?;
        let version = newest.rotated(call.now)?;
        let id = version.id.clone();
        let key = self
            .store
            .add(&call.target.name, version, call.now, |before| {
                Ok(before.and_then(|key| key.policy.clone()))
            })?;
        self.describe(call, &key, Some(&id))
    }

    pub(super) fn delete(&self, call: &Call<'_>) -> AzureResult<Value> {
        self.store.key(&call.target.name)?;
        let at = call.now.seconds();
        let purge = at.saturating_add(self.config.recoverable_days.saturating_mul(DAY));
        let key = self.store.change(&call.target.name, |key| {
            key.deleted = Some(Deleted { at, purge });
            Ok(key.clone())
        })?;
        self.describe(call, &key, None)
    }

    pub(super) fn get_deleted(&self, call: &Call<'_>) -> AzureResult<Value> {
        let key = self.store.deleted(&call.target.name, call.now)?;
        self.describe(call, &key, None)
    }

    pub(super) fn recover(&self, call: &Call<'_>) -> AzureResult<Value> {
        self.store.deleted(&call.target.name, call.now)?;
        let key = self.store.change(&call.target.name, |key| {
            key.deleted = None;
            Ok(key.clone())
        })?;
        self.describe(call, &key, None)
    }

    pub(super) fn purge(&self, call: &Call<'_>) -> AzureResult<Value> {
        self.store.deleted(&call.target.name, call.now)?;
        self.store.purge(&call.target.name)?;
        Ok(Value::Null)
    }

    pub(super) fn list(&self, call: &Call<'_>, deleted: bool) -> AzureResult<Value> {
        let item = |(name, key): &(String, Key)| {
            let newest = key.version(None)?;
            let mut item = json!({
                "kid": format!("{}/keys/{name}", call.base),
                "attributes": newest.attributes(self.config.recoverable_days),
                "tags": newest.tags,
            });
            self.add_deletion(&mut item, call, name, key);
            Some(item)
        };
        let keys = self.store.keys(deleted, call.now);
        let items: Vec<Value> = keys.iter().filter_map(item).collect();
        Ok(json!({ "value": items, "nextLink": null }))
    }

    pub(super) fn list_versions(&self, call: &Call<'_>) -> AzureResult<Value> {
        let key = self.store.key(&call.target.name)?;
        let items: Vec<Value> = key
            .versions
            .iter()
            .map(|version| {
                json!({
                    "kid": call.id(Some(&version.id)),
                    "attributes": version.attributes(self.config.recoverable_days),
                    "tags": version.tags,
                })
            })
            .collect();
        Ok(json!({ "value": items, "nextLink": null }))
    }

    /// A key bundle: the version's, or the newest's where none is named.
    pub(super) fn describe(
        &self,
        call: &Call<'_>,
        key: &Key,
        version: Option<&str>,
    ) -> AzureResult<Value> {
        let version = key.version(version);
        let version = version.ok_or_else(|| AzureError::internal("a key without versions"))?;
        let mut bundle = json!({
            "key": version.jwk(&call.id(Some(&version.id)))?,
            "attributes": version.attributes(self.config.recoverable_days),
        });
        if !version.tags.is_empty() {
            bundle["tags"] = json!(version.tags);
        }
        if let Some(policy) = &key.policy {
            bundle["release_policy"] = policy.json();
        }
        self.add_deletion(&mut bundle, call, &call.target.name, key);
        Ok(bundle)
    }

    fn add_deletion(&self, bundle: &mut Value, call: &Call<'_>, name: &str, key: &Key) {
        if let Some(deleted) = key.deleted {
            bundle["recoveryId"] = format!("{}/deletedkeys/{name}", call.base).into();
            bundle["deletedDate"] = deleted.at.into();
            bundle["scheduledPurgeDate"] = deleted.purge.into();
        }
    }
}

/// The policy of a key after a change.
fn replaced(
    kept: Option<Policy>,
    wanted: Option<Policy>,
    exportable: bool,
) -> AzureResult<Option<Policy>> {
    match (kept, wanted) {
        (Some(kept), Some(wanted)) if kept.immutable && kept.data != wanted.data => Err(
            AzureError::bad("AKV.SKR.1020: Immutable Key Release Policy cannot be modified."),
        ),
        (_, Some(_)) if !exportable => Err(AzureError::bad(
            "AKV.SKR.1005: Non-exportable keys must not have release policies.",
        )),
        (None, None) if exportable => Err(AzureError::bad(
            "AKV.SKR.1004: Exportable keys must have release policies.",
        )),
        // Once set, it stays.
        (Some(kept), Some(mut wanted)) => {
            wanted.immutable |= kept.immutable;
            Ok(Some(wanted))
        }
        (kept, wanted) => Ok(wanted.or(kept)),
    }
}

/// A release policy that can be read.
fn policy(wanted: &WantedPolicy) -> AzureResult<Policy> {
    let text = unbase64url(&wanted.data).and_then(|bytes| String::from_utf8(bytes).ok());
    let text = text.ok_or_else(|| AzureError::bad("release_policy.data: expected base64url"))?;
    azure::parse(&text).map_err(|error| AzureError::bad(error.to_string()))?;
    Ok(Policy {
        content_type: wanted
            .content_type
            .clone()
            .unwrap_or_else(|| CONTENT_TYPE.to_owned()),
        data: wanted.data.clone(),
        immutable: wanted.immutable,
    })
}
