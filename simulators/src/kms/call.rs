//! One call in progress: who asks, when, and what the trail will say of it.

use serde_json::{Value, json};

use super::Kms;
use super::authorize::{self, Question};
use super::ciphertext::EncryptionContext;
use super::error::{ApiError, ApiResult};
use super::key::Key;
use super::recipient::Recipient;
use super::tamper::Released;
use crate::credentials::Credential;
use crate::time::Timestamp;

/// A call whose signature was good.
pub(super) struct Call<'a> {
    pub(super) kms: &'a Kms,
    pub(super) caller: &'a Credential,
    pub(super) source_address: &'a str,
    pub(super) now: Timestamp,
    /// For the trail: ARNs of the keys the call was about.
    pub(super) resources: Vec<String>,
    /// For the trail: what an allowed attestation document said.
    pub(super) recipient: Option<Value>,
    /// For faults: what an answer to a recipient holds.
    pub(super) released: Option<Released>,
}

impl Call<'_> {
    /// The key named `KeyId` in the request; the trail will name it.
    pub(super) fn key(&mut self, name: &str) -> ApiResult<(Key, String)> {
        let key = self.kms.store.resolve(name, self.now)?;
        let arn = self.kms.store.arn(&key.id);
        self.resources.push(arn.clone());
        Ok((key, arn))
    }

    /// Whether the caller may do `action` (without `kms:`) on this key.
    pub(super) fn allowed(&self, action: &str, key: &Key, arn: &str) -> ApiResult<()> {
        self.allowed_with(action, key, arn, &EncryptionContext::new(), None)
    }

    /// The same, with what conditions may look at.
    pub(super) fn allowed_with(
        &self,
        action: &str,
        key: &Key,
        arn: &str,
        context: &EncryptionContext,
        recipient: Option<&Recipient<'_>>,
    ) -> ApiResult<()> {
        self.decide(&Question {
            action,
            key: Some((arn, &key.policy)),
            context,
            recipient: recipient.map(|recipient| &recipient.claims),
        })
    }

    /// Whether the caller's own policies allow an action that is about no key.
    pub(super) fn allowed_without_key(
        &self,
        action: &str,
        recipient: Option<&Recipient<'_>>,
    ) -> ApiResult<()> {
        self.decide(&Question {
            action,
            key: None,
            context: &EncryptionContext::new(),
            recipient: recipient.map(|recipient| &recipient.claims),
        })
    }

    /// Whether the caller could still change the policy of a key if it were `policy` (the lockout safety check).
    pub(super) fn would_keep_control(&self, arn: &str, policy: &str) -> ApiResult<()> {
        let question = Question {
            action: "PutKeyPolicy",
            key: Some((arn, policy)),
            context: &EncryptionContext::new(),
            recipient: None,
        };
        self.decide(&question).map_err(|_| {
            let message =
                "The new key policy will not allow you to update the key policy in the future.";
            ApiError::new("MalformedPolicyDocumentException", message)
        })
    }

    fn decide(&self, question: &Question<'_>) -> ApiResult<()> {
        authorize::decide(self, question)
    }

    /// Verifies the attestation document of a request, if it has one.
    pub(super) fn verified<'b>(
        &self,
        document: Option<&'b Vec<u8>>,
    ) -> ApiResult<Option<Recipient<'b>>> {
        let verify = |document: &'b Vec<u8>| Recipient::verify(document, &self.kms.proof, self.now);
        document.map(verify).transpose()
    }

    /// Adds the recipient's part of the trail, once it was allowed.
    pub(super) fn note(&mut self, recipient: Option<&Recipient<'_>>) {
        self.recipient = recipient.map(Recipient::trail);
    }

    /// Puts a secret into `answer`: for the recipient if there is one, else in clear as `Plaintext`.
    pub(super) fn release(
        &mut self,
        answer: &mut Value,
        secret: &[u8],
        recipient: Option<&Recipient<'_>>,
    ) -> ApiResult<()> {
        let (name, bytes) = match recipient {
            Some(recipient) => {
                self.released = Some(Released {
                    secret: secret.to_vec(),
                    spki: recipient.public_key.to_vec(),
                });
                let cms = self.kms.envelop(recipient, secret)?;
                ("CiphertextForRecipient", cms)
            }
            None => ("Plaintext", secret.to_vec()),
        };
        if let Some(object) = answer.as_object_mut() {
            object.insert(name.to_owned(), json!(crate::text::base64(&bytes)));
        }
        Ok(())
    }
}
