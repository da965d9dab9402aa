//! The `azure-unwrap` lock: a secret that a key of Key Vault unwraps for an identity.
//!
//! It proves who asks, not what software that is; so it stands only beside a `tpm` lock (docs/format.md).

use std::sync::Arc;

use nodeseal_core::crypto::random_key;
use nodeseal_core::lock::{
    BoxFuture, KeyService, LOCK_SECRET_LENGTH, LockContext, NewLock, OpenedLock,
};
use nodeseal_core::refusal::refuse;
use nodeseal_core::tunnel::Fault;
use nodeseal_memory::Secret;
use nodeseal_wire::lock::{AzureUnwrapLock, Lock, LockSpec};
use nodeseal_wire::message::{Class, Refusal};

use super::client::{Answer, Question, Vaults, fact, other_key};
use super::fault::CODES;

/// The key service for locks that Key Vault unwraps.
pub struct AzureUnwrap(pub Arc<Vaults>);

impl AzureUnwrap {
    async fn make(&self, key: &str, context: LockContext<'_>) -> Result<NewLock, Refusal> {
        let call = self.0.call(key, context)?;
        let (version, public, facts) = call.public_key().await?;
        let secret =
            random_key().map_err(|error| refuse(Class::Internal, "crypto", error.to_string()))?;
        let ciphertext = public
            .wrap(&secret)
            .map_err(|fault| fault.refusal("RSA-OAEP-256", &version.to_string(), ""))?;
        let lock = AzureUnwrapLock {
            key: version.to_string(),
            ciphertext,
        };
        Ok(NewLock {
            lock: Lock::AzureUnwrap(lock),
            secret,
            facts,
        })
    }

    async fn open(
        &self,
        lock: &AzureUnwrapLock,
        context: LockContext<'_>,
    ) -> Result<OpenedLock, Refusal> {
        let call = self.0.call(&lock.key, context)?;
        if call.key.version().is_none() {
            let message = format!(
                "{} names no version, and only the one that wrapped unwraps",
                lock.key
            );
            return Err(refuse(Class::Damaged, "azure-key-id", message));
        }
        let question = Question::Unwrap(&lock.ciphertext);
        let answered = call.ask(question, |_| String::new()).await?;
        let mut facts = vec![fact("azure-key", &lock.key)];
        facts.extend(answered.facts());
        let refusal = |fault: Fault| fault.refusal("keys/unwrap", &lock.key, "");
        let Answer::Unwrapped(mut result) = answered.answer else {
            return Err(refusal(Fault::answer(CODES.malformed, "no unwrapped key")));
        };
        let found = result.kid.as_deref().unwrap_or("none");
        if found != lock.key {
            return Err(refusal(other_key(found)));
        }
        let mut value = result.result.take().unwrap_or_default();
        let secret = Secret::take_from(&mut value)
            .map_err(|error| refuse(Class::Internal, "memory", error.to_string()))?;
        if secret.len() != LOCK_SECRET_LENGTH {
            let text = format!(
                "the answer carries {} bytes, where {LOCK_SECRET_LENGTH} are expected",
                secret.len()
            );
            return Err(refusal(Fault::answer(CODES.malformed, text)));
        }
        Ok(OpenedLock { secret, facts })
    }
}

impl KeyService for AzureUnwrap {
    fn makes(&self, spec: &LockSpec) -> bool {
        matches!(spec, LockSpec::AzureUnwrap { .. })
    }

    fn opens(&self, lock: &Lock) -> bool {
        matches!(lock, Lock::AzureUnwrap(_))
    }

    fn new_secret<'a>(
        &'a self,
        spec: &'a LockSpec,
        context: LockContext<'a>,
    ) -> BoxFuture<'a, Result<NewLock, Refusal>> {
        Box::pin(async move {
            match spec {
                LockSpec::AzureUnwrap { key } => self.make(key, context).await,
                other => Err(not_ours(other.kind())),
            }
        })
    }

    fn open_secret<'a>(
        &'a self,
        lock: &'a Lock,
        context: LockContext<'a>,
    ) -> BoxFuture<'a, Result<OpenedLock, Refusal>> {
        Box::pin(async move {
            match lock {
                Lock::AzureUnwrap(lock) => self.open(lock, context).await,
                other => Err(not_ours(other.kind())),
            }
        })
    }
}

/// A lock of another service.
pub(crate) fn not_ours(kind: &str) -> Refusal {
    let message = format!("a lock of kind {kind:?} was given to Azure");
    refuse(Class::Internal, "lock-not-served", message)
}
