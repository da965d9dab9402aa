//! What the tests share: an enrolled software TPM, locks made and opened, an offline signer.
#![allow(clippy::unwrap_used, dead_code, unreachable_pub)]

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use nodeseal_core::lock::{KeyService, LockContext, NewLock, OpenedLock};
use nodeseal_memory::Secret;
use nodeseal_tpm::enrolment::{Enrolment, Keep, enroll, verify};
use nodeseal_tpm::error::TpmError;
use nodeseal_tpm::lock::{SealTo, TpmLocks};
use nodeseal_tpm::owner::TpmOwner;
use nodeseal_tpm::policy::{PolicyDigest, policy_pcr, to_be_signed};
use nodeseal_tpm::structures::signer_public;
use nodeseal_tpm::tpm::PcrSelection;
use nodeseal_tpm::tpm2::Tpm2;
use nodeseal_wire::lock::{Lock, LockSpec, PcrBank, PolicySigner};
use nodeseal_wire::message::{Context, Refusal, SignedPolicy};

/// Longest wait for the TPM in these tests.
pub const LIMIT: Duration = Duration::from_secs(30);

/// PCRs of the SHA-256 bank.
pub fn pcrs(pcrs: &[u8]) -> PcrSelection {
    PcrSelection {
        bank: PcrBank::Sha256,
        pcrs: pcrs.to_vec(),
    }
}

/// The TPM at a TCTI, on its thread.
pub fn owner(tcti: &str, limit: Duration) -> TpmOwner {
    let tcti: nodeseal_tpm::tcti::Tcti = tcti.parse().unwrap();
    let at = tcti.clone();
    let open = Arc::new(move || Box::new(Tpm2::new(at.clone())) as Box<_>);
    TpmOwner::start(tcti, open, limit).unwrap()
}

/// Enrols the TPM at a TCTI.
pub fn enrol(tcti: &str, keep: Keep) -> Enrolment {
    enroll(&mut Tpm2::new(tcti.parse().unwrap()), keep, 0).unwrap()
}

/// Locks of the TPM at a TCTI, if it is the one enrolled.
pub async fn locks(
    tcti: &str,
    record: &Enrolment,
    signer: Option<&Signer>,
    selection: &[u8],
) -> Result<TpmLocks, TpmError> {
    let owner = owner(tcti, LIMIT);
    let (enrolment, selection) = (record.clone(), pcrs(selection));
    let to = SealTo {
        pcrs: selection.clone(),
        signer: signer.map(Signer::policy_signer),
    };
    let (srk, values) = owner
        .run(move |tpm| Ok((verify(tpm, &enrolment)?, tpm.read_pcrs(&selection)?)))
        .await?;
    Ok(TpmLocks::new(owner, record.clone(), srk, to, &values))
}

fn context(request: &Context) -> LockContext<'_> {
    LockContext {
        node: "node",
        data_key_id: &[7; 16],
        request,
    }
}

/// Makes a lock.
pub async fn seal(locks: &TpmLocks) -> Result<NewLock, Refusal> {
    let request = Context::default();
    locks.new_secret(&LockSpec::Tpm, context(&request)).await
}

/// Opens a lock with these signed policies at hand.
pub async fn open_with(
    locks: &TpmLocks,
    lock: &Lock,
    policies: &[SignedPolicy],
) -> Result<OpenedLock, Refusal> {
    let request = Context {
        policies: policies.to_vec(),
        ..Context::default()
    };
    locks.open_secret(lock, context(&request)).await
}

/// Opens a lock.
pub async fn open(locks: &TpmLocks, lock: &Lock) -> Result<OpenedLock, Refusal> {
    open_with(locks, lock, &[]).await
}

/// Whether two secrets are the same.
pub fn same(one: &Secret, other: &Secret) -> bool {
    one.expose() == other.expose()
}

/// The code and message of a refusal.
pub fn refused(result: Result<OpenedLock, Refusal>) -> (String, String) {
    let refusal = result.err().expect("refused");
    (refusal.code, refusal.message)
}

/// An offline key that approves PCR policies.
pub struct Signer(EcdsaKeyPair);

impl Signer {
    /// policyRef of these tests.
    pub const REFERENCE: &'static [u8] = b"nodeseal/policy/test";

    /// A new key.
    pub fn new() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    /// What goes into locks.
    pub fn policy_signer(&self) -> PolicySigner {
        let point = self.0.public_key().as_ref();
        PolicySigner {
            public: signer_public(
                point[1..33].try_into().unwrap(),
                point[33..].try_into().unwrap(),
            ),
            reference: Self::REFERENCE.to_vec(),
        }
    }

    /// Approves these values.
    pub fn approve(&self, selection: &[u8], values: &[Vec<u8>]) -> SignedPolicy {
        let approved = policy_pcr(PcrBank::Sha256, selection, values);
        self.sign(selection, approved, Self::REFERENCE)
    }

    /// Signs a policy digest for a policyRef.
    pub fn sign(&self, selection: &[u8], approved: PolicyDigest, reference: &[u8]) -> SignedPolicy {
        let message = to_be_signed(&approved, reference);
        let signature = self.0.sign(&SystemRandom::new(), &message).unwrap();
        SignedPolicy {
            bank: PcrBank::Sha256,
            pcrs: selection.to_vec(),
            approved,
            signature: signature.as_ref().try_into().unwrap(),
        }
    }
}
