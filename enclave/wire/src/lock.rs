//! Locks of a way, one type per kind, with the data each needs to be opened again.

use crate::cbor::{DecodeError, Reader, Writer};

/// Longest CiphertextBlob of AWS KMS, in bytes (API_Decrypt, "CiphertextBlob").
pub const MAX_KMS_CIPHERTEXT: usize = 6144;
/// Longest ARN taken, in bytes (API_Decrypt, "KeyId").
pub const MAX_KEY_ID: usize = 2048;
/// Shortest and longest RSA ciphertext of Key Vault, in bytes: RSA-2048 to RSA-4096.
pub const AZURE_CIPHERTEXT: (usize, usize) = (256, 512);
/// Longest marshalled TPM structure taken, in bytes: far above a sealed object of 32 bytes (about 200).
pub const MAX_TPM_STRUCTURE: usize = 1024;

/// What kind of lock a way has, without its data: the part of a request that says how to seal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LockSpec {
    /// The trusted side's own TPM, under the PCR policy of its configuration.
    Tpm,
    /// An AWS KMS key that answers to an attestation document.
    AwsKms {
        /// ARN of the key.
        key: String,
        /// Whether KMS is shown an attestation document (`Recipient`). Without, only beside a `tpm` lock.
        attested: bool,
    },
    /// An RSA key of Azure Key Vault that unwraps for an identity. Only beside a `tpm` lock.
    AzureUnwrap {
        /// Key id, `https://HOST/keys/NAME` or with `/VERSION`; without one the newest version is taken.
        key: String,
    },
    /// An RSA key of Azure Key Vault that is released against an attestation token.
    AzureRelease {
        /// Key id, `https://HOST/keys/NAME` or with `/VERSION`; without one the newest version is taken.
        key: String,
        /// Attestation service, `https://HOST`.
        attestation: String,
    },
}

impl LockSpec {
    /// Kind, as blobs and configuration spell it.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Tpm => TPM,
            Self::AwsKms { .. } => AWS_KMS,
            Self::AzureUnwrap { .. } => AZURE_UNWRAP,
            Self::AzureRelease { .. } => AZURE_RELEASE,
        }
    }
}

/// One lock of a way. It yields a 32-byte secret to whoever can open it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lock {
    /// Sealed object of a TPM.
    Tpm(TpmLock),
    /// Data key of AWS KMS.
    AwsKms(AwsKmsLock),
    /// Secret that Azure Key Vault unwraps.
    AzureUnwrap(AzureUnwrapLock),
    /// Secret under a key that Azure Key Vault releases.
    AzureRelease(AzureReleaseLock),
}

/// PCR bank of a TPM, by its hash algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PcrBank {
    /// SHA-256 bank (TPM_ALG_SHA256).
    Sha256,
    /// SHA-384 bank (TPM_ALG_SHA384).
    Sha384,
}

impl PcrBank {
    /// Name in blobs and configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
        }
    }

    /// The bank of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Sha256, Self::Sha384]
            .into_iter()
            .find(|bank| bank.name() == name)
    }
}

/// A `tpm` lock: 32 bytes in a sealed object under a PCR policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TpmLock {
    /// Name of the storage root key it was sealed under: nameAlg (000b) and SHA-256 of the public area, 34 bytes.
    pub srk_name: [u8; 34],
    /// PCR bank of the policy.
    pub bank: PcrBank,
    /// PCRs of the policy, ascending, each 0 to 23.
    pub pcrs: Vec<u8>,
    /// The offline key whose signature may approve other PCR values, or none: then the values at sealing are fixed.
    pub signer: Option<PolicySigner>,
    /// Marshalled TPM2B_PUBLIC of the sealed object (TPM 2.0 part 2, 12.2.5).
    pub public: Vec<u8>,
    /// Marshalled TPM2B_PRIVATE of the sealed object (part 2, 12.3.7).
    pub private: Vec<u8>,
}

/// The key that may sign PCR policies (TPM2_PolicyAuthorize), and what its signatures are bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicySigner {
    /// Marshalled TPMT_PUBLIC of an ECDSA P-256 key.
    pub public: Vec<u8>,
    /// policyRef: keeps signatures for one purpose from serving another, at most 64 bytes.
    pub reference: Vec<u8>,
}

/// An `aws-kms` lock: the ciphertext of a data key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AwsKmsLock {
    /// ARN of the KMS key, sent with each Decrypt and compared with the answer's.
    pub key: String,
    /// Whether KMS must be shown an attestation document.
    pub attested: bool,
    /// CiphertextBlob as KMS gave it.
    pub ciphertext: Vec<u8>,
}

/// An `azure-unwrap` lock: a secret under a key's public half (RSA-OAEP-256), to be unwrapped by Key Vault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AzureUnwrapLock {
    /// Versioned key id, `https://HOST/keys/NAME/VERSION`: only the version that wrapped unwraps.
    pub key: String,
    /// The ciphertext, as long as the key's modulus.
    pub ciphertext: Vec<u8>,
}

/// An `azure-release` lock: a secret under a key's public half (RSA-OAEP-256), whose private half Key Vault releases
/// against an attestation token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AzureReleaseLock {
    /// Versioned key id, `https://HOST/keys/NAME/VERSION`.
    pub key: String,
    /// Attestation service whose tokens the key's release policy names, `https://HOST`.
    pub attestation: String,
    /// The ciphertext, as long as the key's modulus.
    pub ciphertext: Vec<u8>,
}

impl Lock {
    /// Kind, as blobs and configuration spell it.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Tpm(_) => TPM,
            Self::AwsKms(_) => AWS_KMS,
            Self::AzureUnwrap(_) => AZURE_UNWRAP,
            Self::AzureRelease(_) => AZURE_RELEASE,
        }
    }

    /// Appends the lock.
    pub fn encode(&self, w: &mut Writer) {
        match self {
            Self::Tpm(lock) => {
                w.map(7).uint(1).text(TPM).uint(2).bytes(&lock.srk_name);
                w.uint(3).text(lock.bank.name());
                w.uint(4).array(lock.pcrs.len());
                for pcr in &lock.pcrs {
                    w.uint(u64::from(*pcr));
                }
                w.uint(5).optional(lock.signer.as_ref(), |w, signer| {
                    w.array(2).bytes(&signer.public).bytes(&signer.reference)
                });
                w.uint(6).bytes(&lock.public).uint(7).bytes(&lock.private);
            }
            Self::AwsKms(lock) => {
                w.map(4).uint(1).text(AWS_KMS).uint(2).text(&lock.key);
                w.uint(3).boolean(lock.attested);
                w.uint(4).bytes(&lock.ciphertext);
            }
            Self::AzureUnwrap(lock) => {
                w.map(3).uint(1).text(AZURE_UNWRAP).uint(2).text(&lock.key);
                w.uint(3).bytes(&lock.ciphertext);
            }
            Self::AzureRelease(lock) => {
                w.map(4).uint(1).text(AZURE_RELEASE).uint(2).text(&lock.key);
                w.uint(3).text(&lock.attestation);
                w.uint(4).bytes(&lock.ciphertext);
            }
        }
    }

    /// Reads a lock.
    ///
    /// # Errors
    /// When a field is missing, unknown, out of its limits or of another type, or the kind is not known.
    pub fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        // The kind decides how many entries the map has, so the head is checked after it.
        let entries = r.map_of("lock", 1, 16)?;
        r.exactly("lock key", 1)?;
        let kind = r.text("lock kind", 1, 32)?;
        let entries_of_kind = match kind {
            TPM => 7,
            AWS_KMS | AZURE_RELEASE => 4,
            AZURE_UNWRAP => 3,
            other => {
                return Err(DecodeError::expected(
                    "lock kind",
                    format!("\"{TPM}\", \"{AWS_KMS}\", \"{AZURE_UNWRAP}\" or \"{AZURE_RELEASE}\""),
                    format!("{other:?} (made by a newer nodeseal?)"),
                ));
            }
        };
        if entries != entries_of_kind {
            return Err(DecodeError::expected(
                "lock",
                format!("{entries_of_kind} entries for kind {kind:?}"),
                entries.to_string(),
            ));
        }
        match kind {
            TPM => TpmLock::decode(r).map(Self::Tpm),
            AZURE_UNWRAP => AzureUnwrapLock::decode(r).map(Self::AzureUnwrap),
            AZURE_RELEASE => AzureReleaseLock::decode(r).map(Self::AzureRelease),
            _ => AwsKmsLock::decode(r).map(Self::AwsKms),
        }
    }
}

const TPM: &str = "tpm";
const AWS_KMS: &str = "aws-kms";
const AZURE_UNWRAP: &str = "azure-unwrap";
const AZURE_RELEASE: &str = "azure-release";

impl TpmLock {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.exactly("tpm lock key", 2)?;
        let srk_name = r.array_of("SRK name")?;
        r.exactly("tpm lock key", 3)?;
        let bank = decode_bank(r)?;
        r.exactly("tpm lock key", 4)?;
        let pcrs = decode_pcrs(r)?;
        r.exactly("tpm lock key", 5)?;
        let signer = if r.null() {
            None
        } else {
            r.array("policy signer", 2, 2)?;
            Some(PolicySigner {
                public: r.bytes("policy signer", 1, MAX_TPM_STRUCTURE)?.to_vec(),
                reference: r.bytes("policy reference", 0, 64)?.to_vec(),
            })
        };
        r.exactly("tpm lock key", 6)?;
        let public = r
            .bytes("sealed object public", 1, MAX_TPM_STRUCTURE)?
            .to_vec();
        r.exactly("tpm lock key", 7)?;
        let private = r
            .bytes("sealed object private", 1, MAX_TPM_STRUCTURE)?
            .to_vec();
        Ok(Self {
            srk_name,
            bank,
            pcrs,
            signer,
            public,
            private,
        })
    }
}

impl AwsKmsLock {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.exactly("aws-kms lock key", 2)?;
        let key = r.text("KMS key", 1, MAX_KEY_ID)?.to_owned();
        r.exactly("aws-kms lock key", 3)?;
        let attested = r.boolean("attested")?;
        r.exactly("aws-kms lock key", 4)?;
        let ciphertext = r.bytes("KMS ciphertext", 1, MAX_KMS_CIPHERTEXT)?.to_vec();
        Ok(Self {
            key,
            attested,
            ciphertext,
        })
    }
}

impl AzureUnwrapLock {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.exactly("azure-unwrap lock key", 2)?;
        let key = r.text("Key Vault key", 1, MAX_KEY_ID)?.to_owned();
        r.exactly("azure-unwrap lock key", 3)?;
        let ciphertext = decode_azure_ciphertext(r)?;
        Ok(Self { key, ciphertext })
    }
}

impl AzureReleaseLock {
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.exactly("azure-release lock key", 2)?;
        let key = r.text("Key Vault key", 1, MAX_KEY_ID)?.to_owned();
        r.exactly("azure-release lock key", 3)?;
        let attestation = r.text("attestation service", 1, MAX_KEY_ID)?.to_owned();
        r.exactly("azure-release lock key", 4)?;
        let ciphertext = decode_azure_ciphertext(r)?;
        Ok(Self {
            key,
            attestation,
            ciphertext,
        })
    }
}

fn decode_azure_ciphertext(r: &mut Reader<'_>) -> Result<Vec<u8>, DecodeError> {
    let (least, most) = AZURE_CIPHERTEXT;
    Ok(r.bytes("Key Vault ciphertext", least, most)?.to_vec())
}

/// Reads a PCR bank's name.
pub(crate) fn decode_bank(r: &mut Reader<'_>) -> Result<PcrBank, DecodeError> {
    let name = r.text("PCR bank", 1, 16)?;
    PcrBank::from_name(name).ok_or_else(|| {
        DecodeError::expected("PCR bank", "\"sha256\" or \"sha384\"", format!("{name:?}"))
    })
}

/// Reads an ascending list of 1 to 24 PCR indices.
pub(crate) fn decode_pcrs(r: &mut Reader<'_>) -> Result<Vec<u8>, DecodeError> {
    let count = r.array("PCRs", 1, 24)?;
    let mut pcrs = Vec::with_capacity(count);
    for _ in 0..count {
        let pcr = r.uint("PCR", 23)?;
        let pcr = u8::try_from(pcr)
            .map_err(|_| DecodeError::expected("PCR", "at most 23", pcr.to_string()))?;
        if pcrs.last().is_some_and(|last| *last >= pcr) {
            return Err(DecodeError::expected(
                "PCRs",
                "ascending indices",
                format!("{pcr} after {pcrs:?}"),
            ));
        }
        pcrs.push(pcr);
    }
    Ok(pcrs)
}
