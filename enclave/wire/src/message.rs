//! Requests of the agent and replies of the trusted side.
//!
//! Each is one CBOR array in a [`crate::frame::Frame`]'s message; keys and blobs lie in its payload one after the
//! other, in the order and with the lengths the message gives. A connection begins with [`Request::Hello`]; then one
//! reply answers each request, in order.

use crate::header::{KeyType, Release};
use crate::lock::{LockSpec, PcrBank};

/// Version of these messages; both sides must speak the same.
pub const PROTOCOL: u64 = 1;
/// Most keys or blobs in one request. A larger batch takes several, see [`OpenRequest::more`].
pub const MAX_BATCH: usize = 8192;

/// What the agent asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Request {
    /// First on every connection: which messages the agent speaks.
    Hello {
        /// [`PROTOCOL`] of the agent.
        protocol: u64,
        /// Name and version of the agent, for the log.
        software: String,
    },
    /// Seal keys: given ones, ones to be generated, or ones to be sealed again.
    Seal(SealRequest),
    /// Open blobs.
    Open(OpenRequest),
    /// Prove what the trusted side runs, with this nonce in the evidence.
    Evidence {
        /// Up to 1024 bytes that must be in the evidence.
        nonce: Vec<u8>,
    },
    /// How the trusted side is.
    Status,
    /// Wipe every key and data key held.
    Lock,
}

/// What the trusted side answers.
#[derive(Debug, PartialEq, Eq)]
pub enum Reply {
    /// To [`Request::Hello`].
    Hello {
        /// [`PROTOCOL`] of the trusted side.
        protocol: u64,
        /// Name and version of the trusted side.
        software: String,
    },
    /// To [`Request::Seal`]: one outcome per key, blobs in the payload.
    Sealed(Batch),
    /// To [`Request::Open`]: one outcome per blob, plaintext keys in the payload.
    Opened(Batch),
    /// To [`Request::Evidence`]: the document is the payload.
    Evidence {
        /// What it is: "nitro-enclave", "nitro-tpm".
        kind: String,
    },
    /// To [`Request::Status`].
    Status(Status),
    /// To [`Request::Lock`]: everything is wiped.
    Locked,
    /// The request as a whole was refused.
    Refused(Refusal),
}

/// Keys to be sealed under one data key.
#[derive(Debug, PartialEq, Eq)]
pub struct SealRequest {
    /// The node they belong to.
    pub node: String,
    /// When, by the agent's clock, in seconds since 1970-01-01 UTC.
    pub created: u64,
    /// Where the data key comes from.
    pub data_key: DataKeySource,
    /// The keys.
    pub keys: Vec<NewKey>,
    /// What the locks may need.
    pub context: Context,
}

/// Where the data key of a [`SealRequest`] comes from.
#[derive(Debug, PartialEq, Eq)]
pub enum DataKeySource {
    /// A new one, locked in these ways.
    New(Vec<WaySpec>),
    /// That of an existing blob, which is the first thing in the payload, with this length in bytes.
    Join(u32),
}

/// A way to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaySpec {
    /// What the operator calls it.
    pub label: String,
    /// All of these will be needed.
    pub locks: Vec<LockSpec>,
}

/// A key to be sealed.
#[derive(Debug, PartialEq, Eq)]
pub enum NewKey {
    /// The key is given in the payload.
    Given {
        /// Name, type, release.
        about: KeyAbout,
        /// Its length in the payload, in bytes.
        length: u32,
    },
    /// The trusted side makes the key.
    Generated(KeyAbout),
    /// The key is in a blob in the payload; it is sealed again, with its generation one higher.
    Resealed {
        /// The blob's length in the payload, in bytes.
        length: u32,
    },
}

/// What the header of a new blob will say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyAbout {
    /// Name within the node.
    pub name: String,
    /// Kind of key.
    pub key_type: KeyType,
    /// What may happen to it once open.
    pub release: Release,
}

/// Blobs to be opened.
#[derive(Debug, PartialEq, Eq)]
pub struct OpenRequest {
    /// The node they must belong to.
    pub node: String,
    /// The blobs, in the order of the payload.
    pub blobs: Vec<BlobRef>,
    /// Whether more of the same batch follows on this connection: data keys are kept until then, so that each lock is
    /// asked once however large the batch.
    pub more: bool,
    /// What the locks may need.
    pub context: Context,
}

/// One blob in the payload.
#[derive(Debug, PartialEq, Eq)]
pub struct BlobRef {
    /// The name its header must have; none takes any name of the node.
    pub name: Option<String>,
    /// Its length in the payload, in bytes.
    pub length: u32,
}

/// What locks may need from the agent. None of it is secret from the agent's host.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// Short-lived credentials for AWS KMS.
    pub aws: Option<AwsCredentials>,
    /// What Azure's locks need.
    pub azure: AzureContext,
    /// Where the trusted side finds a way out: an HTTP CONNECT proxy, "unix:/path" or "vsock:CID:PORT".
    pub egress: Option<String>,
    /// PCR policies signed offline.
    pub policies: Vec<SignedPolicy>,
}

/// What Azure's locks need from the agent.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct AzureContext {
    /// Access tokens, at most one for each vault.
    pub tokens: Vec<AzureToken>,
    /// VCEK certificate and its chain as the host gives them (THIM), PEM, on an SEV-SNP machine: public, and checked by
    /// the attestation service.
    pub vcek_chain: Option<String>,
}

/// An access token of Entra for one vault.
#[derive(PartialEq, Eq)]
pub struct AzureToken {
    /// Host of the vault it is for.
    pub vault: String,
    /// The token, as it goes after `Bearer`.
    pub token: String,
    /// When it ends, in seconds since 1970-01-01 UTC.
    pub expires: u64,
}

impl std::fmt::Debug for AzureToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AzureToken")
            .field("vault", &self.vault)
            .finish_non_exhaustive()
    }
}

/// Session credentials of AWS.
#[derive(PartialEq, Eq)]
pub struct AwsCredentials {
    /// Access key id.
    pub access_key_id: String,
    /// Secret access key.
    pub secret_access_key: String,
    /// Session token, where there is one.
    pub session_token: Option<String>,
    /// When they end, in seconds since 1970-01-01 UTC, where they do.
    pub expires: Option<u64>,
}

impl std::fmt::Debug for AwsCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AwsCredentials")
            .field("access_key_id", &self.access_key_id)
            .finish_non_exhaustive()
    }
}

/// A PCR policy with the offline key's signature (TPM2_PolicyAuthorize, TPM 2.0 part 3, 23.16).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedPolicy {
    /// PCR bank the policy is over.
    pub bank: PcrBank,
    /// PCRs the policy is over, ascending.
    pub pcrs: Vec<u8>,
    /// The policy digest that is approved: that of TPM2_PolicyPCR with the approved values, SHA-256.
    pub approved: [u8; 32],
    /// ECDSA P-256 signature over SHA-256(approved ‖ policyRef): r ‖ s, 64 bytes.
    pub signature: [u8; 64],
}

/// Outcomes of a batch, in the order of the request.
#[derive(Debug, PartialEq, Eq)]
pub struct Batch {
    /// One per key or blob.
    pub outcomes: Vec<Outcome>,
    /// How each data key came to be open, once per data key and batch.
    pub data_keys: Vec<DataKeyReport>,
}

/// What became of one key or blob.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is in the payload, this many bytes.
    Delivered(u32),
    /// The trusted side holds it and will sign with it.
    Held,
    /// It was refused.
    Refused(Refusal),
}

/// How a data key was made or opened.
#[derive(Debug, PartialEq, Eq)]
pub struct DataKeyReport {
    /// Its id.
    pub id: [u8; 16],
    /// The way that opened.
    pub way: String,
    /// What each lock of that way has to say for the audit log: key, request id, evidence digest, PCRs.
    pub facts: Vec<Fact>,
    /// The ways tried before, and why they did not open.
    pub failed: Vec<(String, Refusal)>,
}

/// One named value for the audit log, never secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// Name, as docs spell it: "kms-request-id".
    pub name: String,
    /// Value, text.
    pub value: String,
}

/// A typed no.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// What sort of no, which decides the agent's exit status.
    pub class: Class,
    /// Stable name of the reason: "wrong-node", "tpm-policy".
    pub code: String,
    /// The same for a person: the thing, the expected, the found.
    pub message: String,
}

/// Sorts of refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A policy says no: PCRs, attestation, revocation, permissions.
    Denied,
    /// The blob is damaged, forged, or not the one expected.
    Damaged,
    /// Something needed cannot be reached now; trying again may help.
    Unavailable,
    /// The request cannot be served as asked.
    Misuse,
    /// A fault of ours or of the machine.
    Internal,
}

impl Class {
    /// Every class, in the order of their numbers on the wire.
    pub const ALL: [Self; 5] = [
        Self::Denied,
        Self::Damaged,
        Self::Unavailable,
        Self::Misuse,
        Self::Internal,
    ];

    /// Name in JSON output.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::Damaged => "damaged",
            Self::Unavailable => "unavailable",
            Self::Misuse => "misuse",
            Self::Internal => "internal",
        }
    }
}

/// How the trusted side is.
#[derive(Debug, PartialEq, Eq)]
pub struct Status {
    /// What it is: "tpm", "nitro-enclave".
    pub provider: String,
    /// Keys held for signing.
    pub keys_held: u64,
    /// Data keys held now.
    pub data_keys_held: u64,
    /// Blobs opened since the start.
    pub opened: u64,
    /// Blobs refused since the start.
    pub refused: u64,
    /// Protections in force and facts of the provider.
    pub facts: Vec<Fact>,
}
