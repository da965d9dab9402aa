//! Request bodies, typed. A member nobody reads would be a simulation of nothing, so unknown ones are refused.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::ciphertext::EncryptionContext;
use super::error::{ApiError, ApiResult};
use super::key::Tag;
use crate::text::unbase64;

/// Most bytes Encrypt takes.
const MAX_PLAINTEXT: usize = 4096;
/// Most bytes of a ciphertext blob.
const MAX_BLOB: usize = 6144;

/// Reads a body as the members of an operation.
pub(super) fn members<T: DeserializeOwned>(body: &Value) -> ApiResult<T> {
    T::deserialize(body)
        .map_err(|error| ApiError::validation(format!("1 validation error detected: {error}")))
}

/// Reads a blob of 1 to `max` bytes.
fn blob(name: &str, text: &str, max: usize) -> ApiResult<Vec<u8>> {
    let bytes = unbase64(text).ok_or_else(|| {
        let message = format!("the member {name} is not base64");
        ApiError::new("SerializationException", message)
    })?;
    if bytes.is_empty() || bytes.len() > max {
        return Err(ApiError::validation(format!(
            "1 validation error detected: Value at '{name}' failed to satisfy constraint: Member must have length between 1 and {max}"
        )));
    }
    Ok(bytes)
}

pub(super) fn ciphertext_blob(text: &str) -> ApiResult<Vec<u8>> {
    blob("ciphertextBlob", text, MAX_BLOB)
}

pub(super) fn plaintext(text: &str) -> ApiResult<Vec<u8>> {
    blob("plaintext", text, MAX_PLAINTEXT)
}

/// Grants are not simulated, so no token can be a good one.
pub(super) fn no_grants(tokens: &[String]) -> ApiResult<()> {
    if tokens.is_empty() {
        return Ok(());
    }
    let message = "The request was rejected because the specified grant token is not valid.";
    Err(ApiError::new("InvalidGrantTokenException", message))
}

/// Only the symmetric algorithm exists here.
pub(super) fn symmetric(algorithm: Option<&str>) -> ApiResult<()> {
    match algorithm {
        None | Some("SYMMETRIC_DEFAULT") => Ok(()),
        Some(other) => Err(ApiError::new(
            "InvalidKeyUsageException",
            format!("You cannot use the algorithm {other} with a key of spec SYMMETRIC_DEFAULT."),
        )),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct RecipientMembers {
    pub(super) key_encryption_algorithm: Option<String>,
    pub(super) attestation_document: Option<String>,
}

/// The attestation document in a request, at most 262144 bytes.
pub(super) fn document(recipient: Option<&RecipientMembers>) -> ApiResult<Option<Vec<u8>>> {
    recipient.map(RecipientMembers::document).transpose()
}

impl RecipientMembers {
    fn document(&self) -> ApiResult<Vec<u8>> {
        match self.key_encryption_algorithm.as_deref() {
            Some("RSAES_OAEP_SHA_256") => {}
            found => {
                let found = found.unwrap_or("null");
                return Err(ApiError::validation(format!(
                    "1 validation error detected: Value '{found}' at 'recipient.keyEncryptionAlgorithm' failed to satisfy constraint: Member must satisfy enum value set: [RSAES_OAEP_SHA_256]"
                )));
            }
        }
        let text = self.attestation_document.as_deref().unwrap_or_default();
        blob("recipient.attestationDocument", text, 262_144)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct Encrypt {
    pub(super) key_id: String,
    pub(super) plaintext: String,
    #[serde(default)]
    pub(super) encryption_context: EncryptionContext,
    pub(super) encryption_algorithm: Option<String>,
    #[serde(default)]
    pub(super) grant_tokens: Vec<String>,
    #[serde(default)]
    pub(super) dry_run: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct Decrypt {
    pub(super) ciphertext_blob: String,
    pub(super) key_id: Option<String>,
    #[serde(default)]
    pub(super) encryption_context: EncryptionContext,
    pub(super) encryption_algorithm: Option<String>,
    pub(super) recipient: Option<RecipientMembers>,
    #[serde(default)]
    pub(super) grant_tokens: Vec<String>,
    #[serde(default)]
    pub(super) dry_run: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct ReEncrypt {
    pub(super) ciphertext_blob: String,
    pub(super) source_key_id: Option<String>,
    #[serde(default)]
    pub(super) source_encryption_context: EncryptionContext,
    pub(super) source_encryption_algorithm: Option<String>,
    pub(super) destination_key_id: String,
    #[serde(default)]
    pub(super) destination_encryption_context: EncryptionContext,
    pub(super) destination_encryption_algorithm: Option<String>,
    #[serde(default)]
    pub(super) grant_tokens: Vec<String>,
    #[serde(default)]
    pub(super) dry_run: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct GenerateDataKey {
    pub(super) key_id: String,
    pub(super) key_spec: Option<String>,
    pub(super) number_of_bytes: Option<usize>,
    #[serde(default)]
    pub(super) encryption_context: EncryptionContext,
    pub(super) recipient: Option<RecipientMembers>,
    #[serde(default)]
    pub(super) grant_tokens: Vec<String>,
    #[serde(default)]
    pub(super) dry_run: bool,
}

impl GenerateDataKey {
    /// Bytes of the data key.
    pub(super) fn length(&self) -> ApiResult<usize> {
        match (self.key_spec.as_deref(), self.number_of_bytes) {
            (Some("AES_256"), None) => Ok(32),
            (Some("AES_128"), None) => Ok(16),
            (None, Some(count)) => in_range("numberOfBytes", count, 1, 1024),
            (Some(other), None) => Err(ApiError::validation(format!(
                "1 validation error detected: Value '{other}' at 'keySpec' failed to satisfy constraint: Member must satisfy enum value set: [AES_256, AES_128]"
            ))),
            (None, None) | (Some(_), Some(_)) => Err(ApiError::validation(
                "Please specify either number of bytes or key spec.",
            )),
        }
    }
}

/// `value`, if it is within its limits.
pub(super) fn in_range(name: &str, value: usize, min: usize, max: usize) -> ApiResult<usize> {
    if (min..=max).contains(&value) {
        return Ok(value);
    }
    Err(ApiError::validation(format!(
        "1 validation error detected: Value '{value}' at '{name}' failed to satisfy constraint: Member must be between {min} and {max}"
    )))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct GenerateRandom {
    pub(super) number_of_bytes: Option<usize>,
    pub(super) recipient: Option<RecipientMembers>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct CreateKey {
    #[serde(default)]
    pub(super) description: String,
    pub(super) policy: Option<String>,
    #[serde(default)]
    pub(super) bypass_policy_lockout_safety_check: bool,
    #[serde(default)]
    pub(super) tags: Vec<Tag>,
    pub(super) key_usage: Option<String>,
    pub(super) key_spec: Option<String>,
    pub(super) customer_master_key_spec: Option<String>,
    pub(super) origin: Option<String>,
    #[serde(default)]
    pub(super) multi_region: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct DescribeKey {
    pub(super) key_id: String,
    #[serde(default)]
    pub(super) grant_tokens: Vec<String>,
}

/// EnableKey, DisableKey, CancelKeyDeletion.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct OneKey {
    pub(super) key_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct ScheduleKeyDeletion {
    pub(super) key_id: String,
    pub(super) pending_window_in_days: Option<usize>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct Listing {
    pub(super) limit: Option<usize>,
    pub(super) marker: Option<String>,
    /// Of ListAliases and ListResourceTags only.
    pub(super) key_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct CreateAlias {
    pub(super) alias_name: String,
    pub(super) target_key_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct GetKeyPolicy {
    pub(super) key_id: String,
    pub(super) policy_name: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct PutKeyPolicy {
    pub(super) key_id: String,
    pub(super) policy_name: Option<String>,
    pub(super) policy: String,
    #[serde(default)]
    pub(super) bypass_policy_lockout_safety_check: bool,
}
