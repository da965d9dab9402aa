//! Signed policies: which of those that came with a request may open a lock.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use nodeseal_attestation::hex::encode as hex;
use nodeseal_wire::lock::PolicySigner;
use nodeseal_wire::message::SignedPolicy;

use super::list_values;
use crate::error::TpmError;
use crate::policy::{PolicyDigest, policy_authorize, policy_pcr, to_be_signed};
use crate::structures::{Name, signer_point};
use crate::tpm::{Approval, PcrSelection, Tpm, UnsealPolicy};

/// Signed policies whose signatures hold.
pub struct Approved {
    signer: PolicySigner,
    policies: Vec<(PcrSelection, PolicyDigest, [u8; 64])>,
}

/// PCR values of a while ago. Only the TPM decides what holds now; this is what to try first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pcrs: PcrSelection,
    policy: PolicyDigest,
}

impl Seen {
    /// These PCRs had these values.
    pub fn of(pcrs: &PcrSelection, values: &[Vec<u8>]) -> Self {
        Self {
            pcrs: pcrs.clone(),
            policy: policy_pcr(pcrs.bank, &pcrs.pcrs, values),
        }
    }
}

impl Approved {
    /// Those of `policies` that the lock's signer signed for its policyRef.
    ///
    /// # Errors
    /// When the lock is not under that signer at all, or policies were given and none is signed by it.
    pub fn all(
        signer: &PolicySigner,
        sealed: &PolicyDigest,
        policies: &[SignedPolicy],
    ) -> Result<Self, TpmError> {
        let name = Name::of(&signer.public);
        if policy_authorize(&name, &signer.reference) != *sealed {
            return Err(TpmError::NotSealedByUs(
                "not under the policy of the signer the lock names",
            ));
        }
        let point = signer_point(&signer.public).ok_or(TpmError::NotSealedByUs(
            "under a signer's key that is not ECDSA P-256",
        ))?;
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
        let mut held = Vec::new();
        let mut forged = None;
        for policy in policies {
            let message = to_be_signed(&policy.approved, &signer.reference);
            if key.verify(&message, &policy.signature).is_ok() {
                let selection = PcrSelection {
                    bank: policy.bank,
                    pcrs: policy.pcrs.clone(),
                };
                held.push((selection, policy.approved, policy.signature));
            } else {
                forged = forged.or(Some(policy.approved));
            }
        }
        if let (Some(approved), true) = (forged, held.is_empty()) {
            return Err(TpmError::PolicySignature {
                approved: hex(&approved),
                signer: name,
            });
        }
        Ok(Self {
            signer: signer.clone(),
            policies: held,
        })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.policies.len()
    }

    /// The only one; or of several the one that approves the PCRs as they are, by `seen` if that is set, which saves
    /// reading them.
    ///
    /// # Errors
    /// When the PCRs cannot be read.
    pub fn for_values_of(
        &self,
        tpm: &mut dyn Tpm,
        seen: &mut Option<Seen>,
    ) -> Result<Option<UnsealPolicy<'_>>, TpmError> {
        if let [only] = self.policies.as_slice() {
            return Ok(Some(self.policy(only)));
        }
        let mut read: Option<Seen> = None;
        for policy in &self.policies {
            let (selection, approved, _) = policy;
            let known = seen
                .iter()
                .chain(&read)
                .find(|seen| seen.pcrs == *selection);
            let current = match known {
                Some(known) => known.policy,
                None => {
                    let values = tpm.read_pcrs(selection)?;
                    let now = Seen::of(selection, &values);
                    read.insert(now).policy
                }
            };
            if current == *approved {
                *seen = read.or(seen.take());
                return Ok(Some(self.policy(policy)));
            }
        }
        Ok(None)
    }

    /// The error when none approves the PCRs as they are.
    pub fn none_approves(&self, tpm: &mut dyn Tpm, pcrs: &PcrSelection) -> TpmError {
        match tpm.read_pcrs(pcrs) {
            Ok(values) => TpmError::NotApproved {
                pcrs: pcrs.to_string(),
                current: hex(&policy_pcr(pcrs.bank, &pcrs.pcrs, &values)),
                given: self.len(),
                values: list_values(pcrs, &values),
            },
            Err(error) => error,
        }
    }

    fn policy<'a>(
        &'a self,
        (pcrs, approved, signature): &'a (PcrSelection, PolicyDigest, [u8; 64]),
    ) -> UnsealPolicy<'a> {
        UnsealPolicy {
            pcrs,
            approval: Some(Approval {
                signer: &self.signer.public,
                reference: &self.signer.reference,
                approved,
                signature,
            }),
        }
    }
}
