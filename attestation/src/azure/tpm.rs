//! What a TPM says of itself: attestation structures and public areas of RSA keys (TPM 2.0 Library, Part 2).

use aws_lc_rs::digest::{SHA256, digest};

use super::RsaKey;

/// TPM_ALG_RSA, TPM_ALG_SHA256, TPM_ALG_NULL (Part 2, table "TPM_ALG_ID").
const ALG_RSA: u16 = 0x0001;
const ALG_SHA256: u16 = 0x000b;
const ALG_NULL: u16 = 0x0010;
/// TPM_GENERATED_VALUE (Part 2 section 6.2).
const GENERATED: u32 = 0xff54_4347;
/// TPM_ST_ATTEST_CERTIFY and TPM_ST_ATTEST_QUOTE (Part 2 section 6.9).
const ST_CERTIFY: u16 = 0x8017;
const ST_QUOTE: u16 = 0x8018;
/// TPM_CC_PolicyPCR (Part 2 section 6.5.2).
const CC_POLICY_PCR: u32 = 0x0000_017f;
/// Most PCR banks of a selection, and bytes of one bank's.
const MAX_BANKS: u32 = 16;

/// A structure of a TPM cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}: malformed at {1}")]
pub struct TpmError(&'static str, &'static str);

/// Reads big-endian fields off a byte string.
struct Reader<'b> {
    what: &'static str,
    rest: &'b [u8],
}

impl<'b> Reader<'b> {
    fn new(what: &'static str, rest: &'b [u8]) -> Self {
        Self { what, rest }
    }

    fn bytes(&mut self, field: &'static str, length: usize) -> Result<&'b [u8], TpmError> {
        let split = self.rest.split_at_checked(length);
        let (bytes, rest) = split.ok_or(TpmError(self.what, field))?;
        self.rest = rest;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], TpmError> {
        let split = self.rest.split_first_chunk();
        let (bytes, rest) = split.ok_or(TpmError(self.what, field))?;
        self.rest = rest;
        Ok(*bytes)
    }

    fn u16(&mut self, field: &'static str) -> Result<u16, TpmError> {
        self.array(field).map(u16::from_be_bytes)
    }

    fn u32(&mut self, field: &'static str) -> Result<u32, TpmError> {
        self.array(field).map(u32::from_be_bytes)
    }

    /// A TPM2B.
    fn sized(&mut self, field: &'static str) -> Result<&'b [u8], TpmError> {
        let length = self.u16(field)?;
        self.bytes(field, usize::from(length))
    }

    fn finish(self) -> Result<(), TpmError> {
        if self.rest.is_empty() {
            return Ok(());
        }
        Err(TpmError(self.what, "its end"))
    }
}

/// One bank of a selection (TPMS_PCR_SELECTION).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PcrSelection {
    /// TPM_ALG_ID of the bank's hash.
    pub hash: u16,
    /// Indices, rising.
    pub indices: Vec<u8>,
}

/// What an attestation structure is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attested<'b> {
    /// TPMS_QUOTE_INFO.
    Quote {
        /// Which PCRs.
        selection: Vec<PcrSelection>,
        /// Hash of their values, one after the other.
        pcr_digest: &'b [u8],
    },
    /// TPMS_CERTIFY_INFO.
    Certify {
        /// Name of the certified object: its name algorithm, then the hash of its public area.
        name: &'b [u8],
    },
}

/// A TPMS_ATTEST (Part 2 section 10.12.12), parsed. Its signature is looked at by [`Attest::signed_by`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attest<'b> {
    bytes: &'b [u8],
    /// Qualifying data given with the command.
    pub extra_data: &'b [u8],
    /// How often the TPM was reset.
    pub reset_count: u32,
    /// What it is about.
    pub attested: Attested<'b>,
}

impl<'b> Attest<'b> {
    /// Reads a quote or a certification, whole.
    ///
    /// # Errors
    /// [`TpmError`].
    pub fn parse(bytes: &'b [u8]) -> Result<Self, TpmError> {
        const WHAT: &str = "TPMS_ATTEST";
        let mut reader = Reader::new(WHAT, bytes);
        if reader.u32("magic")? != GENERATED {
            return Err(TpmError(WHAT, "magic"));
        }
        let kind = reader.u16("type")?;
        reader.sized("qualifiedSigner")?;
        let extra_data = reader.sized("extraData")?;
        reader.bytes("clock", 8)?;
        let reset_count = reader.u32("resetCount")?;
        reader.u32("restartCount")?;
        reader.bytes("safe", 1)?;
        reader.bytes("firmwareVersion", 8)?;
        let attested = match kind {
            ST_QUOTE => Attested::Quote {
                selection: selection(&mut reader)?,
                pcr_digest: reader.sized("pcrDigest")?,
            },
            ST_CERTIFY => {
                let name = reader.sized("name")?;
                reader.sized("qualifiedName")?;
                Attested::Certify { name }
            }
            _ => return Err(TpmError(WHAT, "type")),
        };
        reader.finish()?;
        Ok(Self {
            bytes,
            extra_data,
            reset_count,
            attested,
        })
    }

    /// Whether `signature` (RSASSA-PKCS1-v1_5 with SHA-256) of this structure was made with `key`.
    #[must_use]
    pub fn signed_by(&self, key: &RsaKey, signature: &[u8]) -> bool {
        key.signed(self.bytes, signature)
    }
}

/// TPML_PCR_SELECTION.
fn selection(reader: &mut Reader<'_>) -> Result<Vec<PcrSelection>, TpmError> {
    let count = reader.u32("pcrSelect")?;
    if count > MAX_BANKS {
        return Err(TpmError(reader.what, "pcrSelect"));
    }
    let mut banks = Vec::new();
    for _ in 0..count {
        let hash = reader.u16("hash")?;
        let [size] = reader.array("sizeofSelect")?;
        let bits = reader.bytes("pcrSelect", usize::from(size.min(32)))?;
        let indices = (0..=u8::MAX)
            .zip(
                bits.iter()
                    .flat_map(|byte| (0..8).map(move |bit| byte >> bit & 1 == 1)),
            )
            .filter_map(|(index, set)| set.then_some(index))
            .collect();
        banks.push(PcrSelection { hash, indices });
    }
    Ok(banks)
}

/// TPMA_OBJECT bits (Part 2 section 8.3).
pub mod attributes {
    /// fixedTPM.
    pub const FIXED_TPM: u32 = 1 << 1;
    /// fixedParent.
    pub const FIXED_PARENT: u32 = 1 << 4;
    /// sensitiveDataOrigin.
    pub const SENSITIVE_DATA_ORIGIN: u32 = 1 << 5;
    /// restricted.
    pub const RESTRICTED: u32 = 1 << 16;
    /// decrypt.
    pub const DECRYPT: u32 = 1 << 17;
    /// sign.
    pub const SIGN: u32 = 1 << 18;
}

/// The public area of an RSA key (TPMT_PUBLIC, Part 2 section 12.2.4), name algorithm SHA-256.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RsaPublic<'b> {
    area: &'b [u8],
    /// TPMA_OBJECT.
    pub attributes: u32,
    /// Digest of the policy that authorises its use; may be empty.
    pub auth_policy: &'b [u8],
    /// Size in bits.
    pub bits: u16,
    /// The key; an exponent of 0 in the area is 65537.
    pub key: RsaKey,
}

impl<'b> RsaPublic<'b> {
    /// Reads a TPM2B_PUBLIC, whole.
    ///
    /// # Errors
    /// [`TpmError`].
    pub fn parse(sized: &'b [u8]) -> Result<Self, TpmError> {
        let mut outer = Reader::new("TPM2B_PUBLIC", sized);
        let area = outer.sized("size")?;
        outer.finish()?;
        Self::parse_area(area)
    }

    /// Reads a TPMT_PUBLIC, whole.
    ///
    /// # Errors
    /// [`TpmError`].
    pub fn parse_area(area: &'b [u8]) -> Result<Self, TpmError> {
        const WHAT: &str = "TPMT_PUBLIC";
        let mut reader = Reader::new(WHAT, area);
        if reader.u16("type")? != ALG_RSA {
            return Err(TpmError(WHAT, "type"));
        }
        if reader.u16("nameAlg")? != ALG_SHA256 {
            return Err(TpmError(WHAT, "nameAlg"));
        }
        let attributes = reader.u32("objectAttributes")?;
        let auth_policy = reader.sized("authPolicy")?;
        if reader.u16("symmetric")? != ALG_NULL {
            reader.bytes("symmetric", 4)?;
        }
        // RSASSA, RSAPSS and OAEP have a hash, RSAES and NULL have none (Part 2, table "TPMU_ASYM_SCHEME").
        if !matches!(reader.u16("scheme")?, ALG_NULL | 0x0015) {
            reader.u16("scheme")?;
        }
        let bits = reader.u16("keyBits")?;
        let exponent = match reader.u32("exponent")? {
            0 => 65_537,
            other => other,
        };
        let modulus = reader.sized("unique")?;
        reader.finish()?;
        if modulus.len() != usize::from(bits / 8) || modulus.first().is_none_or(|b| *b == 0) {
            return Err(TpmError(WHAT, "unique"));
        }
        let exponent = exponent.to_be_bytes();
        let zeros = exponent.iter().take_while(|byte| **byte == 0).count();
        Ok(Self {
            area,
            attributes,
            auth_policy,
            bits,
            key: RsaKey {
                modulus: modulus.to_vec(),
                exponent: exponent.get(zeros..).unwrap_or_default().to_vec(),
            },
        })
    }

    /// Its Name (Part 1 section 16): the name algorithm, then the hash of the public area.
    #[must_use]
    pub fn name(&self) -> Vec<u8> {
        let hash = digest(&SHA256, self.area);
        [&ALG_SHA256.to_be_bytes(), hash.as_ref()].concat()
    }

    /// Whether all these attributes are set.
    #[must_use]
    pub fn has(&self, attributes: u32) -> bool {
        self.attributes & attributes == attributes
    }
}

/// Digest of a quote over these SHA-256 PCR values, in the order of their indices (Part 3, TPM2_Quote).
#[must_use]
pub fn pcr_digest(values: &[[u8; 32]]) -> [u8; 32] {
    sha256(&values.concat())
}

/// Policy of one TPM2_PolicyPCR over SHA-256 PCRs below 24 (Part 3 section 23.7): PCR indices with their values, rising.
#[must_use]
pub fn policy_pcr(pcrs: &[(u8, [u8; 32])]) -> [u8; 32] {
    let mut select = [0_u8; 3];
    let mut values = Vec::new();
    for (index, value) in pcrs {
        if let Some(byte) = select.get_mut(usize::from(index / 8)) {
            *byte |= 1 << (index % 8);
            values.push(*value);
        }
    }
    let mut input = vec![0; 32];
    input.extend(CC_POLICY_PCR.to_be_bytes());
    input.extend(1_u32.to_be_bytes());
    input.extend(ALG_SHA256.to_be_bytes());
    input.push(3);
    input.extend(select);
    input.extend(pcr_digest(&values));
    sha256(&input)
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    hash
}
