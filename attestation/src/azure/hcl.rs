//! The report a confidential VM's paravisor keeps in NV index 0x01400001 (azure-docs,
//! "guest-attestation-confidential-virtual-machines-design"): the hardware's report, and the claims it binds.

use aws_lc_rs::digest::{SHA256, digest};

use super::RsaKey;
use crate::json::Json;

/// "HCLA", little-endian.
const SIGNATURE: u32 = 0x414c_4348;
/// Where the hardware report stands, and the space it has.
const HARDWARE: std::ops::Range<usize> = 0x20..0x4c0;
/// Where the runtime data stand: data size, version, report type, hash type, claim size, claims.
const RUNTIME: usize = 0x4c0;
/// Largest claims taken, in bytes; the NV index has 2600.
const MAX_CLAIMS: usize = 16 * 1024;

/// A report cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HclError {
    /// It is shorter than its fields say.
    #[error("HCL report: expected {expected} bytes or more, found {found}")]
    Short {
        /// Least length.
        expected: usize,
        /// The length found.
        found: usize,
    },
    /// A field has another value.
    #[error("HCL report: {field}: expected {expected}, found {found:#x}")]
    Field {
        /// Which.
        field: &'static str,
        /// What belongs there.
        expected: &'static str,
        /// What is there.
        found: u32,
    },
    /// The claims cannot be read.
    #[error("HCL report: claims: {0}")]
    Claims(String),
    /// The claims have no such key.
    #[error("HCL report: claims: keys: expected an RSA key {0:?}, found none")]
    NoKey(&'static str),
}

/// What hardware made the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportType {
    /// AMD SEV-SNP.
    SevSnp,
    /// Intel TDX.
    Tdx,
}

/// A report, parsed and not verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HclReport<'b> {
    /// What hardware.
    pub report_type: ReportType,
    /// The hardware's report, with what fills it up to 1184 bytes.
    pub hardware: &'b [u8],
    /// The claims' JSON, byte for byte: the report binds their SHA-256.
    pub claims: &'b [u8],
}

impl<'b> HclReport<'b> {
    /// Reads a report; what follows the claims is passed over, as an NV index is longer.
    ///
    /// # Errors
    /// [`HclError`].
    pub fn parse(bytes: &'b [u8]) -> Result<Self, HclError> {
        let short = |expected| HclError::Short {
            expected,
            found: bytes.len(),
        };
        let number = |at: usize| -> Result<u32, HclError> {
            let field = bytes.get(at..at.saturating_add(4));
            let field = field.and_then(|field| field.try_into().ok());
            field.map(u32::from_le_bytes).ok_or(short(at + 4))
        };
        let check = |field, expected, found, good| {
            if good {
                return Ok(());
            }
            Err(HclError::Field {
                field,
                expected,
                found,
            })
        };
        let signature = number(0)?;
        check("signature", "0x414c4348", signature, signature == SIGNATURE)?;
        let version = number(4)?;
        check("version", "1 or 2", version, matches!(version, 1 | 2))?;
        let kind = number(RUNTIME + 8)?;
        let report_type = match kind {
            2 => ReportType::SevSnp,
            4 => ReportType::Tdx,
            _ => {
                return Err(HclError::Field {
                    field: "report type",
                    expected: "2 (SEV-SNP) or 4 (TDX)",
                    found: kind,
                });
            }
        };
        let hash = number(RUNTIME + 12)?;
        check("hash type", "1 (SHA-256)", hash, hash == 1)?;
        let size = number(RUNTIME + 16)?;
        let length = usize::try_from(size).unwrap_or(usize::MAX);
        check("claim size", "at most 16384", size, length <= MAX_CLAIMS)?;
        let start = RUNTIME + 20;
        let claims = bytes.get(start..start.saturating_add(length));
        Ok(Self {
            report_type,
            hardware: bytes.get(HARDWARE).ok_or(short(HARDWARE.end))?,
            claims: claims.ok_or(short(start.saturating_add(length)))?,
        })
    }

    /// The claims, read.
    ///
    /// # Errors
    /// [`HclError::Claims`].
    pub fn runtime_claims(&self) -> Result<RuntimeClaims, HclError> {
        RuntimeClaims::parse(self.claims)
    }
}

/// The claims in a report.
#[derive(Clone, Debug, PartialEq)]
pub struct RuntimeClaims(Json);

impl RuntimeClaims {
    /// Reads claims.
    ///
    /// # Errors
    /// They are no JSON object, or a member stands twice.
    pub fn parse(bytes: &[u8]) -> Result<Self, HclError> {
        let claims = serde_json::from_slice(bytes);
        match claims.map_err(|error| HclError::Claims(error.to_string()))? {
            object @ Json::Object(_) => Ok(Self(object)),
            other => Err(HclError::Claims(format!(
                "expected an object, found {}",
                other.kind()
            ))),
        }
    }

    /// The TPM's attestation key.
    ///
    /// # Errors
    /// [`HclError::NoKey`].
    pub fn attestation_key(&self) -> Result<RsaKey, HclError> {
        const AK: &str = "HCLAkPub";
        let keys = self.0.get("keys").and_then(Json::items).unwrap_or_default();
        keys.iter()
            .find(|key| key.get("kid").and_then(Json::string) == Some(AK))
            .and_then(RsaKey::of)
            .ok_or(HclError::NoKey(AK))
    }

    /// The machine's unique id.
    #[must_use]
    pub fn vm_id(&self) -> Option<&str> {
        self.0.at("vm-configuration.vmUniqueId")?.string()
    }
}

/// What a hardware report's 64 bytes of report data must be to bind these claims: their SHA-256, then zeros.
#[must_use]
pub fn report_data(claims: &[u8]) -> [u8; 64] {
    let mut data = [0; 64];
    let hash = digest(&SHA256, claims);
    for (to, from) in data.iter_mut().zip(hash.as_ref()) {
        *to = *from;
    }
    data
}
