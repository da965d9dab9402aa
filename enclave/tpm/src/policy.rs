//! Policy digests computed in software (TPM 2.0 part 3, clause 23), so that an offline key can sign them without a TPM.

use aws_lc_rs::digest::{Context, SHA256};
use nodeseal_wire::lock::PcrBank;

use crate::structures::{Name, pcr_selection};

/// A policy digest; all objects here have nameAlg SHA-256.
pub type PolicyDigest = [u8; 32];

const CC_POLICY_PCR: u32 = 0x0000_017F;
const CC_POLICY_AUTHORIZE: u32 = 0x0000_016A;

fn hash(parts: &[&[u8]]) -> PolicyDigest {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(part);
    }
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}

/// Digest of TPM2_PolicyPCR alone (part 3, 23.7): `values` are the PCRs' contents in ascending order of PCR.
#[must_use]
pub fn policy_pcr(bank: PcrBank, pcrs: &[u8], values: &[Vec<u8>]) -> PolicyDigest {
    let values: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
    hash(&[
        &[0; 32],
        &CC_POLICY_PCR.to_be_bytes(),
        &pcr_selection(bank, pcrs),
        &hash(&values),
    ])
}

/// Digest of TPM2_PolicyAuthorize (part 3, 23.16): whatever policy the signer approves for `reference`.
#[must_use]
pub fn policy_authorize(signer: &Name, reference: &[u8]) -> PolicyDigest {
    let authorized = hash(&[&[0; 32], &CC_POLICY_AUTHORIZE.to_be_bytes(), &signer.0]);
    hash(&[&authorized, reference])
}

/// What the signer hashes with SHA-256 and signs to approve a policy: the policy's digest, then policyRef.
#[must_use]
pub fn to_be_signed(approved: &PolicyDigest, reference: &[u8]) -> Vec<u8> {
    [approved.as_slice(), reference].concat()
}

/// The digest a TPM wants in TPM2_VerifySignature for [`to_be_signed`] (aHash of part 3, 23.16).
#[must_use]
pub fn approval_digest(approved: &PolicyDigest, reference: &[u8]) -> [u8; 32] {
    hash(&[approved, reference])
}
