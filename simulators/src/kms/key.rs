//! A symmetric KMS key, as it is kept and as it is described.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::error::{ApiError, ApiResult};
use crate::text::{NoRandomness, hex, random, unhex, uuid};
use crate::time::Timestamp;

/// A key with everything belonging to it. Serialized only into the state file.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Key {
    /// UUID.
    pub(super) id: String,
    pub(super) description: String,
    /// Milliseconds since 1970.
    pub(super) created: u64,
    pub(super) state: KeyState,
    /// The key policy as it was put.
    pub(super) policy: String,
    pub(super) tags: Vec<Tag>,
    /// 32 bytes in hexadecimal.
    material: String,
    material_id: String,
}

/// Whether a key can be used (developer guide, "Key states").
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum KeyState {
    Enabled,
    Disabled,
    /// Gone at this time (milliseconds since 1970).
    PendingDeletion(u64),
}

/// A label on a key.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct Tag {
    tag_key: String,
    tag_value: String,
}

impl Key {
    /// A new key, enabled.
    pub(super) fn generate(
        description: String,
        policy: String,
        tags: Vec<Tag>,
        now: Timestamp,
    ) -> Result<Self, NoRandomness> {
        Ok(Self {
            id: uuid()?,
            description,
            created: now.0,
            state: KeyState::Enabled,
            policy,
            tags,
            material: hex(&random::<32>()?),
            material_id: hex(&random::<32>()?),
        })
    }

    /// The AES-256 key.
    pub(super) fn material(&self) -> ApiResult<[u8; 32]> {
        let bytes = unhex(&self.material).and_then(|bytes| bytes.try_into().ok());
        bytes.ok_or_else(|| ApiError::internal(format!("key {} has no material", self.id)))
    }

    /// Id of the material, 64 hexadecimal digits.
    pub(super) fn material_id(&self) -> &str {
        &self.material_id
    }

    /// Whether its deletion date has come.
    pub(super) fn gone(&self, now: Timestamp) -> bool {
        matches!(self.state, KeyState::PendingDeletion(at) if now.0 >= at)
    }

    /// Refuses what needs an enabled key.
    pub(super) fn must_be_enabled(&self, arn: &str) -> ApiResult<()> {
        match self.state {
            KeyState::Enabled => Ok(()),
            KeyState::Disabled => Err(ApiError::new(
                "DisabledException",
                format!("{arn} is disabled."),
            )),
            KeyState::PendingDeletion(_) => Err(pending_deletion(arn)),
        }
    }

    /// Refuses what a key pending deletion does not allow.
    pub(super) fn must_not_be_pending(&self, arn: &str) -> ApiResult<()> {
        match self.state {
            KeyState::PendingDeletion(_) => Err(pending_deletion(arn)),
            KeyState::Enabled | KeyState::Disabled => Ok(()),
        }
    }

    /// `KeyMetadata` (API reference).
    pub(super) fn metadata(&self, account: &str, arn: &str) -> Value {
        let state = match self.state {
            KeyState::Enabled => "Enabled",
            KeyState::Disabled => "Disabled",
            KeyState::PendingDeletion(_) => "PendingDeletion",
        };
        let mut metadata = json!({
            "AWSAccountId": account,
            "KeyId": self.id,
            "Arn": arn,
            "CreationDate": seconds(self.created),
            "Enabled": self.state == KeyState::Enabled,
            "Description": self.description,
            "KeyUsage": "ENCRYPT_DECRYPT",
            "KeyState": state,
            "Origin": "AWS_KMS",
            "KeyManager": "CUSTOMER",
            "CustomerMasterKeySpec": "SYMMETRIC_DEFAULT",
            "KeySpec": "SYMMETRIC_DEFAULT",
            "EncryptionAlgorithms": ["SYMMETRIC_DEFAULT"],
            "MultiRegion": false,
            "CurrentKeyMaterialId": self.material_id,
        });
        if let (KeyState::PendingDeletion(at), Some(object)) =
            (self.state, metadata.as_object_mut())
        {
            object.insert("DeletionDate".to_owned(), seconds(at));
        }
        metadata
    }
}

fn pending_deletion(arn: &str) -> ApiError {
    ApiError::new(
        "KMSInvalidStateException",
        format!("{arn} is pending deletion."),
    )
}

/// Milliseconds as JSON seconds with a fraction, as the protocol writes times.
pub(super) fn seconds(milliseconds: u64) -> Value {
    let text = format!("{}.{:03}", milliseconds / 1000, milliseconds % 1000);
    text.parse::<f64>().map_or(Value::Null, Value::from)
}
