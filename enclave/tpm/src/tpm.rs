//! What nodeseal needs of a TPM, no more: the seam under which one module speaks the TPM's language.

use nodeseal_azure::Padding;
use nodeseal_azure::guest::GuestEvidence;
use nodeseal_memory::Secret;
use nodeseal_wire::lock::PcrBank;

use crate::error::TpmError;
use crate::policy::PolicyDigest;
use crate::structures::{Name, Template};

/// The storage root key to use, and where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Srk {
    /// The Name pinned at enrolment. No session is started with a key of another Name.
    pub name: Name,
    /// Persistent handle, or none: then it is made from [`Template::Srk`] each time.
    pub handle: Option<u32>,
}

/// A selection of PCRs of one bank.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PcrSelection {
    /// The bank.
    pub bank: PcrBank,
    /// PCRs, ascending, each 0 to 23.
    pub pcrs: Vec<u8>,
}

impl std::fmt::Display for PcrSelection {
    /// As tpm2-tools write it: "sha256:7,11".
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.bank.name())?;
        let mut between = ':';
        for pcr in &self.pcrs {
            write!(f, "{between}{pcr}")?;
            between = ',';
        }
        Ok(())
    }
}

/// The policy a new object is sealed under.
pub enum SealPolicy<'a> {
    /// The values these PCRs have now, read under the HMAC of a session salted to the pinned key.
    PcrsNow(&'a PcrSelection),
    /// A policy digest known beforehand: whatever an offline signer approves.
    Digest(PolicyDigest),
}

/// What TPM2_Create gives back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedObject {
    /// Marshalled TPMT_PUBLIC, without the size before it.
    pub public: Vec<u8>,
    /// Content of TPM2B_PRIVATE, without the size before it.
    pub private: Vec<u8>,
}

/// How the policy session is brought to the object's policy.
pub struct UnsealPolicy<'a> {
    /// TPM2_PolicyPCR over the values of now.
    pub pcrs: &'a PcrSelection,
    /// Then TPM2_PolicyAuthorize, if the object is under a signer's policy.
    pub approval: Option<Approval<'a>>,
}

/// A signed policy, as TPM2_PolicyAuthorize wants it. The signature is already verified in software.
pub struct Approval<'a> {
    /// Marshalled TPMT_PUBLIC of the signer.
    pub signer: &'a [u8],
    /// policyRef.
    pub reference: &'a [u8],
    /// The policy digest approved.
    pub approved: &'a PolicyDigest,
    /// r ‖ s.
    pub signature: &'a [u8; 64],
}

/// The ephemeral key as TPM2_ContextSave gives it: encrypted by the TPM, good until its next reset.
#[derive(Clone)]
pub struct SavedKey {
    /// TPMS_CONTEXT.
    pub context: Vec<u8>,
    /// Name of the key.
    pub name: Name,
}

/// Objects and sessions that occupy the TPM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Occupied {
    /// Loaded transient objects.
    pub objects: usize,
    /// Loaded sessions.
    pub sessions: usize,
}

/// A TPM, one command at a time.
pub trait Tpm {
    /// The Name of the key at a persistent handle, computed from its public area, or none if nothing is there.
    fn name_at(&mut self, handle: u32) -> Result<Option<Name>, TpmError>;

    /// Makes the primary key of a template, flushes it, and returns its marshalled TPMT_PUBLIC.
    fn primary(&mut self, template: Template) -> Result<Vec<u8>, TpmError>;

    /// Makes the storage root key and keeps it at a persistent handle (TPM2_EvictControl by the owner).
    fn persist_srk(&mut self, handle: u32) -> Result<(), TpmError>;

    /// Seals 32 bytes under a policy: salted HMAC session, parameters encrypted both ways.
    fn seal(
        &mut self,
        srk: &Srk,
        policy: &SealPolicy<'_>,
        secret: &Secret,
    ) -> Result<SealedObject, TpmError>;

    /// Unseals through a policy session salted to the pinned key, the answer encrypted. At most ten commands.
    ///
    /// # Errors
    /// [`TpmError::Refused`] with TPM_RC_POLICY_FAIL at TPM2_Unseal or TPM_RC_VALUE at TPM2_PolicyAuthorize when the
    /// PCRs are others: see [`is_policy_failure`].
    fn unseal(
        &mut self,
        srk: &Srk,
        object: &SealedObject,
        policy: &UnsealPolicy<'_>,
    ) -> Result<Secret, TpmError>;

    /// Makes the ephemeral key of an Azure machine, bound to the PCRs of now, and what proves it: everything of the
    /// evidence but `event_log` and `system`, which no TPM knows.
    fn guest_evidence(&mut self) -> Result<(GuestEvidence, SavedKey), TpmError>;

    /// Decrypts with that key through a policy session salted to the pinned key, the answer encrypted.
    fn guest_decrypt(
        &mut self,
        srk: &Srk,
        key: &SavedKey,
        padding: Padding,
        ciphertext: &[u8],
    ) -> Result<Secret, TpmError>;

    /// Values of PCRs, ascending. Not authenticated: for diagnosis only.
    fn read_pcrs(&mut self, selection: &PcrSelection) -> Result<Vec<Vec<u8>>, TpmError>;

    /// What occupies the TPM now.
    fn occupied(&mut self) -> Result<Occupied, TpmError>;

    /// Flushes every transient object and session this process can see. The TPM is ours alone, or a resource manager
    /// shows us only our own.
    fn flush_all(&mut self) -> Result<(), TpmError>;

    /// Manufacturer and firmware version, for the enrolment record.
    fn about(&mut self) -> Result<String, TpmError>;

    /// Flushes what a command that failed left loaded, and drops the connection; the next command connects anew. So the
    /// TPM's device is not held while nothing is asked of it.
    fn refresh(&mut self);
}

/// Whether a failed unseal means that the policy does not hold now.
#[must_use]
pub fn is_policy_failure(error: &TpmError) -> bool {
    const POLICY_FAIL: u32 = 0x9D;
    const VALUE: u32 = 0x84;
    match error {
        TpmError::Refused { command, code } => match *command {
            "TPM2_Unseal" | "TPM2_RSA_Decrypt" => code & 0xBF == POLICY_FAIL,
            "TPM2_PolicyAuthorize" => code & 0xBF == VALUE,
            _ => false,
        },
        _ => false,
    }
}
