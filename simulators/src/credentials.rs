//! Access keys the simulated AWS knows: one file each in a directory IMDS and KMS share.
//!
//! A file may be written or removed at any time; the next request sees it.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::files::{self, FileError};
use crate::text::{NoRandomness, base64, random};
use crate::time::Timestamp;

/// An access key, whose it is, and what the principal's own policies allow.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credential {
    /// `AKIA…` or, with a session token, `ASIA…`.
    pub access_key_id: String,
    /// The signing secret.
    pub secret_access_key: String,
    /// Token every request must carry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_token: Option<String>,
    /// End of validity, RFC 3339 in UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    /// `arn:aws:iam::ACCOUNT:user/NAME`, `arn:aws:sts::ACCOUNT:assumed-role/ROLE/SESSION` or the account's root.
    pub principal_arn: String,
    /// IAM policy documents attached to the principal.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<Value>,
}

/// A credential could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// File trouble.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file is no credential.
    #[error("{path}: {cause}")]
    Json {
        /// The file.
        path: String,
        /// What is wrong with it.
        cause: serde_json::Error,
    },
    /// No random bytes for a new one.
    #[error(transparent)]
    Randomness(#[from] NoRandomness),
}

/// The policy of an administrator: everything of KMS.
#[must_use]
pub fn administrator_policy() -> Value {
    serde_json::json!({
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": "kms:*", "Resource": "*"}],
    })
}

impl Credential {
    /// A new one for `principal_arn`: permanent, or with a session token until `expires`.
    ///
    /// # Errors
    /// [`NoRandomness`].
    pub fn generate(
        principal_arn: &str,
        policies: Vec<Value>,
        expires: Option<Timestamp>,
    ) -> Result<Self, NoRandomness> {
        let prefix = if expires.is_some() { "ASIA" } else { "AKIA" };
        let letters = random::<16>()?.map(|byte| {
            let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
            char::from(
                alphabet
                    .get(usize::from(byte % 32))
                    .copied()
                    .unwrap_or(b'A'),
            )
        });
        let session_token = match expires {
            Some(_) => Some(base64(&random::<96>()?)),
            None => None,
        };
        Ok(Self {
            access_key_id: prefix.chars().chain(letters).collect(),
            secret_access_key: base64(&random::<30>()?),
            session_token,
            expires: expires.map(|point| point.to_string()),
            principal_arn: principal_arn.to_owned(),
            policies,
        })
    }

    /// Whether it is past its end at `now`; one with an unreadable end is.
    #[must_use]
    pub fn expired(&self, now: Timestamp) -> bool {
        let end = self.expires.as_deref().map(Timestamp::parse_rfc3339);
        end.is_some_and(|end| end.is_none_or(|end| now >= end))
    }

    /// Account number in the principal's ARN.
    #[must_use]
    pub fn account(&self) -> &str {
        self.principal_arn.split(':').nth(4).unwrap_or_default()
    }
}

/// The directory of credentials.
#[derive(Clone)]
pub struct CredentialDirectory(PathBuf);

impl CredentialDirectory {
    /// `path`, made unless it is there.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn at(path: &Path) -> Result<Self, FileError> {
        files::make_directory(path)?;
        Ok(Self(path.to_owned()))
    }

    /// The credential with this access key id; none if there is none.
    ///
    /// # Errors
    /// When its file is not readable as one.
    pub fn find(&self, access_key_id: &str) -> Result<Option<Credential>, CredentialError> {
        // The id comes from a request and becomes part of a path.
        let plain = access_key_id.bytes().all(|b| b.is_ascii_alphanumeric());
        if !plain || access_key_id.is_empty() || access_key_id.len() > 128 {
            return Ok(None);
        }
        let path = self.path(access_key_id);
        let Some(bytes) = files::read_if_there(&path)? else {
            return Ok(None);
        };
        let credential = serde_json::from_slice(&bytes);
        credential.map(Some).map_err(|cause| CredentialError::Json {
            path: path.display().to_string(),
            cause,
        })
    }

    /// Adds or replaces one.
    ///
    /// # Errors
    /// [`CredentialError`].
    pub fn put(&self, credential: &Credential) -> Result<(), CredentialError> {
        let path = self.path(&credential.access_key_id);
        let bytes = serde_json::to_vec_pretty(credential);
        let bytes = bytes.map_err(|cause| CredentialError::Json {
            path: path.display().to_string(),
            cause,
        })?;
        Ok(files::replace(&path, &bytes)?)
    }

    fn path(&self, access_key_id: &str) -> PathBuf {
        self.0.join(format!("{access_key_id}.json"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_credential_put_is_found_until_its_file_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let credentials = CredentialDirectory::at(directory.path()).unwrap();
        let principal = "arn:aws:sts::111122223333:assumed-role/node/i-0";
        let end = Timestamp::from_seconds(1000);
        let made = Credential::generate(principal, vec![], Some(end)).unwrap();
        credentials.put(&made).unwrap();
        let found = credentials.find(&made.access_key_id).unwrap().unwrap();
        assert_eq!(found.session_token, made.session_token);
        assert_eq!(found.account(), "111122223333");
        assert!(!found.expired(Timestamp::from_seconds(999)));
        assert!(found.expired(end));
        std::fs::remove_file(credentials.path(&made.access_key_id)).unwrap();
        assert!(credentials.find(&made.access_key_id).unwrap().is_none());
    }

    #[test]
    fn an_access_key_id_never_leads_out_of_the_directory() {
        let directory = tempfile::tempdir().unwrap();
        let inner = CredentialDirectory::at(&directory.path().join("inner")).unwrap();
        std::fs::write(directory.path().join("outer.json"), "not even JSON").unwrap();
        assert!(inner.find("../outer").unwrap().is_none());
        assert!(inner.find("").unwrap().is_none());
    }
}
