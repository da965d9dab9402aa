//! What a TPM can answer besides what was asked, each with its name (TPM 2.0 part 2, 6.6).

use nodeseal_memory::LockMemoryError;
use nodeseal_wire::message::{Class, Refusal};

use crate::enrolment::Mismatch;
use crate::structures::Name;
use crate::tcti::Tcti;

/// An operation of the TPM failed.
#[derive(Debug, thiserror::Error)]
pub enum TpmError {
    /// The TPM does not answer at all.
    #[error("cannot reach the TPM at {tcti} ({command}: {reason})")]
    Unreachable {
        /// Where it should be.
        tcti: Tcti,
        /// The command that was being sent, or "opening".
        command: &'static str,
        /// What the transport said.
        reason: String,
    },
    /// The TPM took a command and has not answered.
    #[error("the TPM at {tcti} has not answered within {seconds} s")]
    Silent {
        /// Where it is.
        tcti: Tcti,
        /// The limit.
        seconds: u64,
    },
    /// TPM_RC_INITIALIZE (0x100).
    #[error(
        "the TPM has not been started: firmware (or swtpm with --flags startup-clear) sends TPM2_Startup"
    )]
    NotStarted,
    /// TPM_RC_FAILURE (0x101).
    #[error(
        "the TPM is in failure mode ({command} answered 0x101): only a reset of the machine ends it"
    )]
    FailureMode {
        /// The command that was answered so.
        command: &'static str,
    },
    /// TPM_RC_REFERENCE_*: a session or object of ours is gone.
    #[error("the TPM was reset while it was being used ({command} answered {code:#05x})")]
    Reset {
        /// The command.
        command: &'static str,
        /// The answer.
        code: u32,
    },
    /// TPM_RC_LOCKOUT (0x921).
    #[error(
        "the TPM is in dictionary-attack lockout ({command} answered 0x921): objects of nodeseal are exempt, so another \
         one was meant; tpm2_getcap properties-variable shows the counters"
    )]
    Lockout {
        /// The command that was answered so.
        command: &'static str,
    },
    /// TPM_RC_RETRY, TPM_RC_YIELDED, TPM_RC_TESTING, TPM_RC_CANCELED, TPM_RC_NV_RATE, time after time.
    #[error("the TPM is busy: {command} answered {code:#05x} ({meaning})")]
    Busy {
        /// The command.
        command: &'static str,
        /// The answer.
        code: u32,
        /// What the answer means.
        meaning: &'static str,
    },
    /// TPM_RC_OBJECT_MEMORY, TPM_RC_SESSION_MEMORY, TPM_RC_SESSION_HANDLES and their like.
    #[error(
        "the TPM has no free slot ({command} answered {code:#05x}): another program holds objects or sessions; use the \
         kernel's resource manager, device:/dev/tpmrm0"
    )]
    NoSlot {
        /// The command.
        command: &'static str,
        /// The answer.
        code: u32,
    },
    /// TPM_RC_POLICY_FAIL at TPM2_Unseal: the PCRs are not as they were at sealing.
    #[error(
        "the TPM's PCRs {pcrs} are not in the state the blob was sealed to: sealed to policy {sealed}, the PCRs now give \
         {current}{values}"
    )]
    PcrMismatch {
        /// Bank and PCRs, "sha256:7,11".
        pcrs: String,
        /// Policy digest of the sealed object, hex.
        sealed: String,
        /// Policy digest of the values now, hex.
        current: String,
        /// The values now, one line each.
        values: String,
    },
    /// No signed policy at hand is over the PCR values of now.
    #[error(
        "no signed policy approves the TPM's PCRs {pcrs} as they are: their policy digest is {current}, {given} signed \
         policies were given{values}"
    )]
    NotApproved {
        /// Bank and PCRs, "sha256:7,11".
        pcrs: String,
        /// Policy digest of the values now, hex.
        current: String,
        /// How many signed policies came with the request.
        given: usize,
        /// The values now, one line each.
        values: String,
    },
    /// A signed policy's signature is not the signer's.
    #[error(
        "the signature of the policy {approved} is not by the signer {signer} for this blob's policyRef"
    )]
    PolicySignature {
        /// The policy digest it was to approve, hex.
        approved: String,
        /// Name of the signer's key.
        signer: Name,
    },
    /// TPM_RC_PCR_CHANGED (0x128), twice.
    #[error("the TPM's PCRs kept changing while the blob was being opened (0x128)")]
    PcrChanged,
    /// The blob's lock names another storage root key.
    #[error(
        "the blob was sealed under another TPM's storage root key: {found}; this TPM's is {enrolled}"
    )]
    OtherTpm {
        /// Name in the lock.
        found: Name,
        /// Name in the enrolment record.
        enrolled: Name,
    },
    /// TPM_RC_INTEGRITY (0x1DF) and its like at TPM2_Load: the TPM did not make this object, or it was altered.
    #[error(
        "the TPM did not make this sealed object, or it was altered (TPM2_Load answered {code:#05x})"
    )]
    Integrity {
        /// The answer.
        code: u32,
    },
    /// The sealed object is not of the kind sealed here.
    #[error("the lock's sealed object is {0}")]
    NotSealedByUs(&'static str),
    /// The pinned keys of the TPM are not those enrolled.
    #[error(transparent)]
    Enrolment(#[from] Mismatch),
    /// The response HMAC did not verify: an answer was altered, replayed or came from another TPM.
    #[error(
        "an answer to {command} was forged, altered or replayed between TPM and this process: its HMAC is wrong"
    )]
    ForgedAnswer {
        /// The command.
        command: &'static str,
    },
    /// TPM_RC_AUTH_FAIL, TPM_RC_BAD_AUTH, TPM_RC_NONCE on one of our sessions.
    #[error(
        "{command} reached the TPM altered, or the TPM does not hold the pinned storage root key (answered {code:#05x})"
    )]
    ForgedCommand {
        /// The command.
        command: &'static str,
        /// The answer.
        code: u32,
    },
    /// TPM_RC_AUTH_FAIL, TPM_RC_BAD_AUTH of a hierarchy: its authorization is not empty.
    #[error(
        "{command} was refused ({code:#05x}): a password is set on the TPM's owner or endorsement hierarchy, and nodeseal \
         needs both empty (tpm2_changeauth -c owner; systemd and clevis need the same)"
    )]
    Owner {
        /// The command.
        command: &'static str,
        /// The answer.
        code: u32,
    },
    /// An answer cannot be parsed, or does not fit what was asked.
    #[error("the answer to {command} is not a TPM's: {problem}")]
    BadAnswer {
        /// The command.
        command: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The TPM has no such PCR bank.
    #[error("the TPM does not keep PCRs {pcrs}: that bank is not active")]
    NoBank {
        /// Bank and PCRs, "sha256:7,11".
        pcrs: String,
    },
    /// Any other answer.
    #[error("{command} was refused by the TPM with {code:#x}")]
    Refused {
        /// The command.
        command: &'static str,
        /// The answer.
        code: u32,
    },
    /// No locked memory for the secret.
    #[error(transparent)]
    Memory(#[from] LockMemoryError),
    /// The TPM's own thread is gone or too many commands are stuck in it.
    #[error("the TPM cannot be used any more by this process: {0}")]
    Stopped(&'static str),
}

impl TpmError {
    /// Stable name of the reason, for replies and logs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "tpm-unreachable",
            Self::Silent { .. } => "tpm-silent",
            Self::NotStarted => "tpm-not-started",
            Self::FailureMode { .. } => "tpm-failure-mode",
            Self::Reset { .. } => "tpm-reset",
            Self::Lockout { .. } => "tpm-lockout",
            Self::Busy { .. } => "tpm-busy",
            Self::NoSlot { .. } => "tpm-no-slot",
            Self::PcrMismatch { .. } => "tpm-pcr-mismatch",
            Self::NotApproved { .. } => "tpm-policy-not-approved",
            Self::PolicySignature { .. } => "tpm-policy-signature",
            Self::PcrChanged => "tpm-pcr-changed",
            Self::OtherTpm { .. } => "tpm-other",
            Self::Integrity { .. } => "tpm-integrity",
            Self::NotSealedByUs(_) => "tpm-not-sealed-by-us",
            Self::Enrolment(mismatch) => mismatch.code(),
            Self::ForgedAnswer { .. } => "tpm-forged-answer",
            Self::ForgedCommand { .. } => "tpm-forged-command",
            Self::Owner { .. } => "tpm-owner-password",
            Self::BadAnswer { .. } => "tpm-bad-answer",
            Self::NoBank { .. } => "tpm-no-bank",
            Self::Refused { .. } => "tpm-refused",
            Self::Memory(_) => "locked-memory",
            Self::Stopped(_) => "tpm-stopped",
        }
    }

    /// What sort of no it is for the agent.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::PcrMismatch { .. }
            | Self::NotApproved { .. }
            | Self::PolicySignature { .. }
            | Self::OtherTpm { .. }
            | Self::Enrolment(_)
            | Self::ForgedAnswer { .. }
            | Self::ForgedCommand { .. }
            | Self::BadAnswer { .. } => Class::Denied,
            Self::Integrity { .. } | Self::NotSealedByUs(_) => Class::Damaged,
            Self::Unreachable { .. }
            | Self::Silent { .. }
            | Self::NotStarted
            | Self::FailureMode { .. }
            | Self::Reset { .. }
            | Self::Lockout { .. }
            | Self::Busy { .. }
            | Self::NoSlot { .. }
            | Self::PcrChanged => Class::Unavailable,
            Self::NoBank { .. } | Self::Owner { .. } => Class::Misuse,
            Self::Refused { .. } | Self::Memory(_) | Self::Stopped(_) => Class::Internal,
        }
    }

    /// The refusal a client gets.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        Refusal {
            class: self.class(),
            code: self.code().to_owned(),
            message: self.to_string(),
        }
    }

    /// What a response code of a command means. `code` is not zero.
    #[must_use]
    pub fn from_code(code: u32, command: &'static str) -> Self {
        // TSS 2.0 overview: bits 16 to 23 are the layer; 0 is the TPM itself, 11 a resource manager speaking for it.
        match code >> 16 & 0xFF {
            0 | 11 => Self::from_tpm(code & 0xFFFF, command),
            _ => Self::Refused { command, code },
        }
    }

    fn from_tpm(code: u32, command: &'static str) -> Self {
        // Format one (bit 7): bits 0 to 5 are the error, the rest says which parameter, handle or session.
        if code & 0x80 != 0 {
            return match (code & 0x3F, command) {
                (0x1F | 0x24, "TPM2_Load") => Self::Integrity { code },
                (0x0E | 0x22, "TPM2_CreatePrimary" | "TPM2_EvictControl") => {
                    Self::Owner { command, code }
                }
                (0x0E | 0x22 | 0x0F, _) => Self::ForgedCommand { command, code },
                // A salt that does not decrypt, or decrypts to no point of the curve.
                (0x04 | 0x15 | 0x27, "TPM2_StartAuthSession") => {
                    Self::ForgedCommand { command, code }
                }
                _ => Self::Refused { command, code },
            };
        }
        match code {
            0x100 => Self::NotStarted,
            0x101 => Self::FailureMode { command },
            0x128 => Self::PcrChanged,
            0x921 => Self::Lockout { command },
            0x901..=0x906 => Self::NoSlot { command, code },
            0x910..=0x91E => Self::Reset { command, code },
            0x908 => Self::busy(command, code, "TPM_RC_YIELDED"),
            0x909 => Self::busy(command, code, "TPM_RC_CANCELED"),
            0x90A => Self::busy(command, code, "TPM_RC_TESTING"),
            0x920 => Self::busy(command, code, "TPM_RC_NV_RATE"),
            0x922 => Self::busy(command, code, "TPM_RC_RETRY"),
            0x923 => Self::busy(command, code, "TPM_RC_NV_UNAVAILABLE"),
            _ => Self::Refused { command, code },
        }
    }

    fn busy(command: &'static str, code: u32, meaning: &'static str) -> Self {
        Self::Busy {
            command,
            code,
            meaning,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code_of(code: u32, command: &'static str) -> &'static str {
        TpmError::from_code(code, command).code()
    }

    #[test]
    fn every_answer_an_operator_can_meet_has_its_own_name() {
        for (code, command, expected) in [
            (0x100, "TPM2_Load", "tpm-not-started"),
            (0x101, "TPM2_Load", "tpm-failure-mode"),
            (0x128, "TPM2_Unseal", "tpm-pcr-changed"),
            (0x921, "TPM2_Unseal", "tpm-lockout"),
            (0x901, "TPM2_StartAuthSession", "tpm-no-slot"),
            (0x902, "TPM2_Load", "tpm-no-slot"),
            (0x903, "TPM2_StartAuthSession", "tpm-no-slot"),
            (0x905, "TPM2_StartAuthSession", "tpm-no-slot"),
            (0x910, "TPM2_Unseal", "tpm-reset"),
            (0x918, "TPM2_Unseal", "tpm-reset"),
            (0x908, "TPM2_Load", "tpm-busy"),
            (0x90A, "TPM2_Load", "tpm-busy"),
            (0x922, "TPM2_Load", "tpm-busy"),
            (0x000B_0922, "TPM2_Load", "tpm-busy"),
            (0x1DF, "TPM2_Load", "tpm-integrity"),
            (0x98E, "TPM2_Create", "tpm-forged-command"),
            (0x9A2, "TPM2_Create", "tpm-forged-command"),
            (0x2C4, "TPM2_StartAuthSession", "tpm-forged-command"),
            (0x9A2, "TPM2_CreatePrimary", "tpm-owner-password"),
            (0x98E, "TPM2_EvictControl", "tpm-owner-password"),
            (0x1D5, "TPM2_Create", "tpm-refused"),
        ] {
            assert_eq!(code_of(code, command), expected, "{code:#x} at {command}");
        }
    }
}
