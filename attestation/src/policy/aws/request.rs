//! A request to KMS as policies see it: caller, action, key, and the keys of conditions with their values.

use std::collections::BTreeMap;

use super::caller::Caller;
use super::statement::Policy;
use crate::hex;
use crate::nitro::{Claims, Form, Verified};

/// A request to KMS. Keys that are not set are absent.
#[derive(Clone, Debug)]
pub struct Request {
    pub(super) caller: Caller,
    pub(super) action: String,
    pub(super) resource: String,
    /// By key in lower case: keys fit in any case.
    keys: BTreeMap<String, Vec<String>>,
    pub(super) identity_policies: Vec<Policy>,
}

impl Request {
    /// A request of `action` (`kms:Decrypt`) on the key with this ARN. Sets the global keys that follow from the
    /// caller.
    pub fn new(caller: Caller, action: impl Into<String>, key_arn: impl Into<String>) -> Self {
        let resource = key_arn.into();
        let mut keys = BTreeMap::new();
        let mut set = |key: &str, value: &str| keys.insert(key.to_owned(), vec![value.to_owned()]);
        set("aws:principalarn", caller.principal_arn());
        set("aws:principalaccount", caller.account());
        set("aws:principaltype", caller.principal_type());
        set("kms:calleraccount", caller.account());
        if let Some(account) = resource.split(':').nth(4) {
            set("aws:resourceaccount", account);
        }
        Self {
            caller,
            action: action.into(),
            resource,
            keys,
            identity_policies: Vec::new(),
        }
    }

    /// Sets a key of one value.
    #[must_use]
    pub fn context_key(self, key: &str, value: impl Into<String>) -> Self {
        self.context_keys(key, [value])
    }

    /// Sets a key of any number of values.
    #[must_use]
    pub fn context_keys<T: Into<String>>(
        mut self,
        key: &str,
        values: impl IntoIterator<Item = T>,
    ) -> Self {
        let values = values.into_iter().map(Into::into).collect();
        self.keys.insert(key.to_ascii_lowercase(), values);
        self
    }

    /// Sets the keys of the encryption context: `kms:EncryptionContext:KEY` each, and `kms:EncryptionContextKeys`.
    #[must_use]
    pub fn encryption_context<K: AsRef<str>, V: Into<String>>(
        mut self,
        context: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        let mut names: Vec<String> = Vec::new();
        for (key, value) in context {
            names.push(key.as_ref().to_owned());
            let name = format!(
                "kms:encryptioncontext:{}",
                key.as_ref().to_ascii_lowercase()
            );
            self.keys.entry(name).or_default().push(value.into());
        }
        if names.is_empty() {
            return self;
        }
        self.context_keys("kms:EncryptionContextKeys", names)
    }

    /// Sets the keys of the attestation document that the request carries (`Recipient`). Those of enclaves and of
    /// NitroTPM are apart: neither document sets the other's.
    #[must_use]
    pub fn attested(self, document: &Verified<'_>) -> Self {
        self.dangerously_attested(document.document())
    }

    /// The same for a document whose signature nobody verified, such as those of QEMU's `nitro-enclave` machine.
    #[must_use]
    pub fn dangerously_attested(mut self, document: &Claims<'_>) -> Self {
        for (index, value) in document.pcrs() {
            let value = hex::encode(value);
            self = match document.form() {
                Form::NitroEnclave if index == 0 => self
                    .context_key("kms:RecipientAttestation:ImageSha384", value.clone())
                    .context_key("kms:RecipientAttestation:PCR0", value),
                Form::NitroEnclave => {
                    self.context_key(&format!("kms:RecipientAttestation:PCR{index}"), value)
                }
                Form::NitroTpm => {
                    let key = format!("kms:RecipientAttestation:NitroTPMPCR{index}");
                    self.context_key(&key, value)
                }
            };
        }
        self
    }

    /// Attaches an IAM policy to the caller. They count where the key policy names the caller's account, and for
    /// callers of other accounts.
    #[must_use]
    pub fn identity_policy(mut self, policy: Policy) -> Self {
        self.identity_policies.push(policy);
        self
    }

    /// The caller.
    #[must_use]
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    pub(super) fn values(&self, key: &str) -> Option<&[String]> {
        self.keys.get(&key.to_ascii_lowercase()).map(Vec::as_slice)
    }

    /// Value of a variable: that of a key of one value.
    pub(super) fn variable(&self, key: &str) -> Option<&str> {
        match self.values(key)? {
            [value] => Some(value),
            _ => None,
        }
    }

    /// Account of the key.
    pub(super) fn key_account(&self) -> Option<&str> {
        self.resource.split(':').nth(4)
    }
}
