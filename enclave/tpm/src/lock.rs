//! The `tpm` lock of a way: 32 bytes sealed in this machine's TPM (design of the blob: docs/format.md, "tpm").

mod approval;

use std::sync::{Arc, Mutex, PoisonError};

use nodeseal_attestation::hex::encode as hex;
use nodeseal_core::lock::{
    BoxFuture, KeyService, LOCK_SECRET_LENGTH, LockContext, NewLock, OpenedLock,
};
use nodeseal_memory::Secret;
use nodeseal_wire::lock::{Lock, LockSpec, PolicySigner, TpmLock};
use nodeseal_wire::message::{Class, Fact, Refusal, SignedPolicy};

use crate::enrolment::{Enrolment, Mismatch, verify};
use crate::error::TpmError;
use crate::owner::TpmOwner;
use crate::policy::{PolicyDigest, policy_authorize, policy_pcr};
use crate::structures::{Name, sealed_policy, with_size, without_size};
use crate::tpm::{
    PcrSelection, SealPolicy, SealedObject, Srk, Tpm, UnsealPolicy, is_policy_failure,
};
use approval::{Approved, Seen};

/// What new locks are sealed to.
#[derive(Clone, Debug)]
pub struct SealTo {
    /// PCRs of the policy.
    pub pcrs: PcrSelection,
    /// The offline key that approves values of those PCRs; without one, the values at sealing are fixed.
    pub signer: Option<PolicySigner>,
}

/// Makes and opens `tpm` locks.
pub struct TpmLocks {
    owner: TpmOwner,
    enrolled: Arc<Enrolled>,
    seal_to: SealTo,
}

/// The enrolled TPM, and where its storage root key is now.
struct Enrolled {
    record: Enrolment,
    srk: Mutex<Srk>,
    seen: Mutex<Option<Seen>>,
}

impl TpmLocks {
    /// Locks of the TPM `owner` owns, whose storage root key was found to be `srk` by [`verify`], and whose PCRs of
    /// `seal_to` had these `values`.
    #[must_use]
    pub fn new(
        owner: TpmOwner,
        record: Enrolment,
        srk: Srk,
        seal_to: SealTo,
        values: &[Vec<u8>],
    ) -> Self {
        let enrolled = Enrolled {
            record,
            srk: Mutex::new(srk),
            seen: Mutex::new(Some(Seen::of(&seal_to.pcrs, values))),
        };
        Self {
            owner,
            enrolled: Arc::new(enrolled),
            seal_to,
        }
    }

    /// Whoever else needs this TPM.
    #[must_use]
    pub fn owner(&self) -> &TpmOwner {
        &self.owner
    }

    /// Runs `work` on the TPM's thread with the pinned storage root key.
    ///
    /// # Errors
    /// As the work; [`TpmError::Enrolment`] when the key is another.
    pub async fn with_srk<T: Send + 'static>(
        &self,
        work: impl Fn(&mut dyn Tpm, &Srk) -> Result<T, TpmError> + Send + 'static,
    ) -> Result<T, TpmError> {
        let enrolled = self.enrolled.clone();
        let run = move |tpm: &mut dyn Tpm| enrolled.with_srk(tpm, &work);
        self.owner.run(run).await
    }

    async fn seal(&self) -> Result<NewLock, TpmError> {
        let (enrolled, to) = (self.enrolled.clone(), self.seal_to.clone());
        let signed_policy = to
            .signer
            .as_ref()
            .map(|signer| policy_authorize(&Name::of(&signer.public), &signer.reference));
        let pcrs = to.pcrs.clone();
        let (object, secret) = self
            .owner
            .run(move |tpm| {
                let policy = match signed_policy {
                    Some(digest) => SealPolicy::Digest(digest),
                    None => SealPolicy::PcrsNow(&pcrs),
                };
                let secret = random_secret()?;
                let object = enrolled.with_srk(tpm, |tpm, srk| tpm.seal(srk, &policy, &secret))?;
                Ok((object, secret))
            })
            .await?;
        let public = with_size(&object.public);
        let policy = sealed_policy(&public)
            .filter(|policy| signed_policy.is_none_or(|signed| signed == *policy))
            .ok_or_else(|| TpmError::BadAnswer {
                command: "TPM2_Create",
                problem: "another object than asked for".to_owned(),
            })?;
        let facts = self.facts(&to.pcrs, &policy);
        let lock = Lock::Tpm(TpmLock {
            srk_name: self.enrolled.record.srk.name.0,
            bank: to.pcrs.bank,
            pcrs: to.pcrs.pcrs,
            signer: to.signer,
            public,
            private: with_size(&object.private),
        });
        Ok(NewLock {
            lock,
            secret,
            facts,
        })
    }

    async fn unseal(
        &self,
        lock: &TpmLock,
        policies: &[SignedPolicy],
    ) -> Result<OpenedLock, TpmError> {
        let (found, enrolled) = (Name(lock.srk_name), self.enrolled.record.srk.name);
        if !found.is(&enrolled) {
            return Err(TpmError::OtherTpm { found, enrolled });
        }
        let sealed = sealed_policy(&lock.public).ok_or(TpmError::NotSealedByUs(
            "not of the kind nodeseal seals (32 bytes, policy only, exempt from dictionary-attack protection)",
        ))?;
        let object = SealedObject {
            public: without_size(&lock.public).unwrap_or_default().to_vec(),
            private: without_size(&lock.private)
                .ok_or(TpmError::NotSealedByUs("cut short or too long"))?
                .to_vec(),
        };
        let attempt = Attempt {
            enrolled: self.enrolled.clone(),
            pcrs: PcrSelection {
                bank: lock.bank,
                pcrs: lock.pcrs.clone(),
            },
            sealed,
            object,
            approved: match &lock.signer {
                Some(signer) => Some(Approved::all(signer, &sealed, policies)?),
                None => None,
            },
        };
        let facts = self.facts(&attempt.pcrs, &sealed);
        let secret = self.owner.run(move |tpm| attempt.run(tpm)).await?;
        Ok(OpenedLock { secret, facts })
    }

    fn facts(&self, pcrs: &PcrSelection, policy: &PolicyDigest) -> Vec<Fact> {
        let fact = |name: &str, value: String| Fact {
            name: name.to_owned(),
            value,
        };
        vec![
            fact("tpm-srk", self.enrolled.record.srk.name.to_string()),
            fact("tpm-pcrs", pcrs.to_string()),
            fact("tpm-policy", hex(policy)),
        ]
    }
}

impl Enrolled {
    /// Runs `work` with the storage root key; if that is not the pinned one, finds out why, and goes on if the key
    /// was only evicted from its handle.
    fn with_srk<T>(
        &self,
        tpm: &mut dyn Tpm,
        mut work: impl FnMut(&mut dyn Tpm, &Srk) -> Result<T, TpmError>,
    ) -> Result<T, TpmError> {
        let srk = *self.srk.lock().unwrap_or_else(PoisonError::into_inner);
        match work(tpm, &srk) {
            Err(TpmError::Enrolment(Mismatch::SrkName { .. })) => {}
            other => return other,
        }
        tpm.refresh();
        let found = verify(tpm, &self.record)?;
        *self.srk.lock().unwrap_or_else(PoisonError::into_inner) = found;
        work(tpm, &found)
    }
}

/// One opening of a lock, as it runs on the TPM's thread.
struct Attempt {
    enrolled: Arc<Enrolled>,
    pcrs: PcrSelection,
    sealed: PolicyDigest,
    object: SealedObject,
    approved: Option<Approved>,
}

impl Attempt {
    fn run(&self, tpm: &mut dyn Tpm) -> Result<Secret, TpmError> {
        let Some(approved) = &self.approved else {
            let policy = UnsealPolicy {
                pcrs: &self.pcrs,
                approval: None,
            };
            return self.unseal(tpm, &policy).map_err(|error| {
                self.explain(tpm, error, |pcrs, current, values| TpmError::PcrMismatch {
                    pcrs,
                    sealed: hex(&self.sealed),
                    current,
                    values,
                })
            });
        };
        let seen = &self.enrolled.seen;
        let mut known = seen.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut result = self.approved(tpm, approved, &mut known);
        if approved.len() > 1 && result.as_ref().is_err_and(is_policy_failure) {
            // The values seen before are no longer the values.
            known = None;
            tpm.refresh();
            result = self.approved(tpm, approved, &mut known);
        }
        *seen.lock().unwrap_or_else(PoisonError::into_inner) = known;
        result.map_err(|error| {
            self.explain(tpm, error, |pcrs, current, values| TpmError::NotApproved {
                pcrs,
                current,
                given: approved.len(),
                values,
            })
        })
    }

    fn approved(
        &self,
        tpm: &mut dyn Tpm,
        approved: &Approved,
        known: &mut Option<Seen>,
    ) -> Result<Secret, TpmError> {
        match approved.for_values_of(tpm, known)? {
            Some(policy) => self.unseal(tpm, &policy),
            // Values from memory may have misled; the TPM is asked before anything is refused.
            None if known.take().is_some() => self.approved(tpm, approved, known),
            None => Err(approved.none_approves(tpm, &self.pcrs)),
        }
    }

    fn unseal(&self, tpm: &mut dyn Tpm, policy: &UnsealPolicy<'_>) -> Result<Secret, TpmError> {
        self.enrolled
            .with_srk(tpm, |tpm, srk| tpm.unseal(srk, &self.object, policy))
    }

    /// Turns a policy failure into the PCRs behind it; reads them only now.
    fn explain(
        &self,
        tpm: &mut dyn Tpm,
        error: TpmError,
        failure: impl FnOnce(String, String, String) -> TpmError,
    ) -> TpmError {
        if !is_policy_failure(&error) {
            return error;
        }
        tpm.refresh();
        match tpm.read_pcrs(&self.pcrs) {
            Ok(values) => {
                let current = policy_pcr(self.pcrs.bank, &self.pcrs.pcrs, &values);
                let listed = list_values(&self.pcrs, &values);
                failure(self.pcrs.to_string(), hex(&current), listed)
            }
            Err(_) => error,
        }
    }
}

impl KeyService for TpmLocks {
    fn makes(&self, spec: &LockSpec) -> bool {
        matches!(spec, LockSpec::Tpm)
    }

    fn opens(&self, lock: &Lock) -> bool {
        matches!(lock, Lock::Tpm(_))
    }

    fn new_secret<'a>(
        &'a self,
        _spec: &'a LockSpec,
        _context: LockContext<'a>,
    ) -> BoxFuture<'a, Result<NewLock, Refusal>> {
        Box::pin(async { self.seal().await.map_err(|error| error.refusal()) })
    }

    fn open_secret<'a>(
        &'a self,
        lock: &'a Lock,
        context: LockContext<'a>,
    ) -> BoxFuture<'a, Result<OpenedLock, Refusal>> {
        Box::pin(async move {
            let Lock::Tpm(lock) = lock else {
                return Err(Refusal {
                    class: Class::Internal,
                    code: "not-a-tpm-lock".to_owned(),
                    message: format!("a lock of kind {:?} was given to the TPM", lock.kind()),
                });
            };
            self.unseal(lock, &context.request.policies)
                .await
                .map_err(|error| error.refusal())
        })
    }
}

/// 32 fresh random bytes.
fn random_secret() -> Result<Secret, TpmError> {
    let mut secret = Secret::zeroed(LOCK_SECRET_LENGTH)?;
    aws_lc_rs::rand::fill(secret.expose_mut())
        .map_err(|_| TpmError::Stopped("the random number generator failed"))?;
    Ok(secret)
}

/// PCR values for an error message, one line each.
fn list_values(pcrs: &PcrSelection, values: &[Vec<u8>]) -> String {
    pcrs.pcrs
        .iter()
        .zip(values)
        .map(|(pcr, value)| format!("\n  PCR {pcr} is {}", hex(value)))
        .collect()
}
