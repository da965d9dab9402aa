//! Locks that lie open: a key service for tests of what is made of locks, where no TPM and no KMS matters.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use nodeseal_core::crypto::random_key;
use nodeseal_core::lock::{BoxFuture, KeyService, LockContext, NewLock, OpenedLock};
use nodeseal_core::refusal::refuse;
use nodeseal_memory::Secret;
use nodeseal_wire::lock::{AwsKmsLock, Lock, LockSpec, PcrBank, TpmLock};
use nodeseal_wire::message::{Class, Fact, Refusal};

/// Makes and opens locks of TPM and AWS KMS whose secret lies in the lock itself. Those of a KMS key with "down" or
/// "revoked" in its name do not open; others of KMS are answered under a request id with the number of the question.
#[derive(Default)]
pub struct OpenLocks {
    /// How often a lock was to be opened.
    pub asked: AtomicU32,
    /// Nobody is answered until so many are asking.
    pub together: AtomicU32,
    asking: tokio::sync::Notify,
}

impl KeyService for OpenLocks {
    fn makes(&self, spec: &LockSpec) -> bool {
        matches!(spec, LockSpec::Tpm | LockSpec::AwsKms { .. })
    }

    fn opens(&self, lock: &Lock) -> bool {
        matches!(lock, Lock::Tpm(_) | Lock::AwsKms(_))
    }

    fn new_secret<'a>(
        &'a self,
        spec: &'a LockSpec,
        _: LockContext<'a>,
    ) -> BoxFuture<'a, Result<NewLock, Refusal>> {
        Box::pin(async move {
            let secret = random_key().unwrap();
            let content = secret.expose().to_vec();
            let (lock, facts) = match spec {
                LockSpec::AwsKms { key, .. } if key.contains("new") => {
                    return Err(refuse(Class::Denied, "new", "no new data keys"));
                }
                LockSpec::AwsKms { key, attested } => (
                    Lock::AwsKms(AwsKmsLock {
                        key: key.clone(),
                        attested: *attested,
                        ciphertext: content,
                    }),
                    vec![request_id("made".to_owned())],
                ),
                _ => (
                    Lock::Tpm(TpmLock {
                        srk_name: [7; 34],
                        bank: PcrBank::Sha256,
                        pcrs: vec![7, 11],
                        signer: None,
                        public: vec![0; 80],
                        private: content,
                    }),
                    Vec::new(),
                ),
            };
            Ok(NewLock {
                lock,
                secret,
                facts,
            })
        })
    }

    fn open_secret<'a>(
        &'a self,
        lock: &'a Lock,
        _: LockContext<'a>,
    ) -> BoxFuture<'a, Result<OpenedLock, Refusal>> {
        Box::pin(async move {
            let asked = self.asked.fetch_add(1, Relaxed) + 1;
            let together = self.asking.notified();
            match self.together.load(Relaxed) {
                wanted if asked < wanted => together.await,
                _ => self.asking.notify_waiters(),
            }
            let (content, facts) = match lock {
                Lock::AwsKms(kms) if kms.key.contains("down") => {
                    return Err(refuse(Class::Unavailable, "down", "region is down"));
                }
                Lock::AwsKms(kms) if kms.key.contains("revoked") => {
                    return Err(refuse(Class::Denied, "revoked", "key is disabled"));
                }
                Lock::AwsKms(kms) => (&kms.ciphertext, vec![request_id(asked.to_string())]),
                Lock::Tpm(tpm) => (&tpm.private, Vec::new()),
                other => panic!("no lock of kind {} is made", other.kind()),
            };
            Ok(OpenedLock {
                secret: Secret::copy_of(content).unwrap(),
                facts,
            })
        })
    }
}

fn request_id(value: String) -> Fact {
    Fact {
        name: "kms-request-id".to_owned(),
        value,
    }
}
