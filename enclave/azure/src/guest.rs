//! The seam to the TPM of an Azure machine, and the envelope its attestation service wants (AzureGuest).
//!
//! Protocol: confidential-computing-cvm-guest-attestation, client-library `src/Attestation`, and cvm-attestation-tools.

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use nodeseal_attestation::azure::hcl::{HclReport, ReportType};
use nodeseal_core::lock::BoxFuture;
use nodeseal_memory::Secret;
use nodeseal_wire::message::Refusal;
use serde::Deserialize;
use serde_json::{Value, json};

/// PCRs that are quoted and that the ephemeral key is bound to, SHA-256 bank: what the service asks of Linux.
pub const PCRS: [u8; 8] = [0, 1, 2, 3, 4, 5, 6, 7];

/// How a ciphertext for the ephemeral key is padded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Padding {
    /// RSAES-PKCS1-v1_5: the service's envelope.
    Pkcs1,
    /// RSAES-OAEP with SHA-256, MGF1 of SHA-256 and no label: released keys.
    OaepSha256,
}

/// What the TPM of an Azure machine does for attestation.
pub trait GuestTpm: Send + Sync {
    /// Makes the ephemeral key of this boot, bound to the values [`PCRS`] have now, and what proves it.
    fn evidence(&self) -> BoxFuture<'_, Result<GuestEvidence, Refusal>>;

    /// Decrypts with the ephemeral key, as long as the PCRs are what they were.
    fn decrypt(
        &self,
        padding: Padding,
        ciphertext: Vec<u8>,
    ) -> BoxFuture<'_, Result<Secret, Refusal>>;
}

/// What proves an Azure machine to the attestation service.
#[derive(Clone, Debug, Default)]
pub struct GuestEvidence {
    /// Certificate of the attestation key, DER.
    pub ak_certificate: Vec<u8>,
    /// The attestation key, TPM2B_PUBLIC.
    pub ak_public: Vec<u8>,
    /// Quote of [`PCRS`], TPMS_ATTEST without qualifying data.
    pub quote: Vec<u8>,
    /// Its RSASSA signature, bare.
    pub quote_signature: Vec<u8>,
    /// The ephemeral key, TPM2B_PUBLIC.
    pub ephemeral_public: Vec<u8>,
    /// What TPM2_Certify says of it, TPMS_ATTEST.
    pub certify: Vec<u8>,
    /// Its RSASSA signature, bare.
    pub certify_signature: Vec<u8>,
    /// Values of [`PCRS`], in their order.
    pub pcr_values: Vec<Vec<u8>>,
    /// The HCL report of a confidential machine; none on Trusted Launch.
    pub hcl_report: Option<Vec<u8>>,
    /// The event log of the boot (binary_bios_measurements).
    pub event_log: Vec<u8>,
    /// Name and version of the system, as it says itself (os-release: ID, VERSION_ID).
    pub system: (String, String),
}

/// The service's answer, opened as far as that goes without the TPM.
pub(crate) struct Envelope {
    /// RSAES-PKCS1-v1_5 of an AES-256 key.
    pub(crate) inner_key: Vec<u8>,
    pub(crate) nonce: [u8; 12],
    /// AES-256-GCM of the token, and its tag.
    pub(crate) token: Vec<u8>,
}

/// Additional data of the envelope's AES-GCM.
pub(crate) const ENVELOPE_AAD: &[u8] = b"Transport Key";

impl GuestEvidence {
    /// The body of `POST /attest/AzureGuest`. `nonce` comes back in the token.
    ///
    /// # Errors
    /// When the HCL report is none, or its processor's certificates are missing.
    pub(crate) fn request(&self, nonce: &[u8], vcek: Option<&str>) -> Result<Value, String> {
        let b64 = |bytes: &[u8]| BASE64_STANDARD.encode(bytes);
        let (distribution, version) = &self.system;
        let (major, minor) = version.split_once('.').unwrap_or((version, "0"));
        let pcrs: Vec<Value> = PCRS
            .iter()
            .zip(&self.pcr_values)
            .map(|(index, value)| json!({ "Index": index, "Digest": b64(value) }))
            .collect();
        let information = json!({
            "AttestationProtocolVersion": "2.0",
            "OSType": b64(b"Linux"),
            "OSDistro": b64(distribution.as_bytes()),
            "OSVersionMajor": b64(major.as_bytes()),
            "OSVersionMinor": b64(minor.as_bytes()),
            "OSBuild": b64(b"NotApplication"),
            "TcgLogs": b64(&self.event_log),
            "ClientPayload": { "nonce": b64(nonce) },
            "TpmInfo": {
                "AikCert": b64(&self.ak_certificate),
                "AikPub": b64(&self.ak_public),
                "PcrQuote": b64(&self.quote),
                "PcrSignature": b64(&self.quote_signature),
                "EncKeyPub": b64(&self.ephemeral_public),
                "EncKeyCertifyInfo": b64(&self.certify),
                "EncKeyCertifyInfoSignature": b64(&self.certify_signature),
                "PcrSet": PCRS,
                "PCRs": pcrs,
            },
            "IsolationInfo": self.isolation(vcek)?,
        });
        let information = BASE64_URL_SAFE_NO_PAD.encode(information.to_string());
        Ok(json!({ "AttestationInfo": information }))
    }

    fn isolation(&self, vcek: Option<&str>) -> Result<Value, String> {
        let Some(report) = &self.hcl_report else {
            return Ok(json!({ "Type": "TrustedLaunch" }));
        };
        let report = HclReport::parse(report).map_err(|error| error.to_string())?;
        if report.report_type != ReportType::SevSnp {
            return Err(format!(
                "its HCL report is of type {:?}; only SEV-SNP is supported by this version",
                report.report_type
            ));
        }
        let chain = vcek.ok_or(
            "this is a confidential machine, but the agent could not get the certificates of its processor from the \
             metadata service (amd_certification in its configuration)",
        )?;
        let proof = json!({
            "SnpReport": BASE64_URL_SAFE_NO_PAD.encode(report.hardware),
            "VcekCertChain": BASE64_STANDARD.encode(chain),
        });
        Ok(json!({
            "Type": "SevSnp",
            "Evidence": {
                "Proof": BASE64_STANDARD.encode(proof.to_string()),
                "RunTimeData": BASE64_STANDARD.encode(report.claims),
            },
        }))
    }
}

#[derive(Deserialize)]
struct Answer {
    token: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Encrypted {
    encrypted_inner_key: String,
    encryption_params: Parameters,
    authentication_data: String,
    jwt: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Parameters {
    block_mode: String,
    cipher: String,
    iv: String,
}

impl Envelope {
    /// Reads the answer to `POST /attest/AzureGuest`.
    ///
    /// # Errors
    /// Names what is wrong with it.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, String> {
        let answer: Answer = serde_json::from_slice(body).map_err(|error| error.to_string())?;
        let inner = BASE64_URL_SAFE_NO_PAD
            .decode(answer.token.trim_end_matches('='))
            .map_err(|error| format!("token: {error}"))?;
        let inner: Encrypted =
            serde_json::from_slice(&inner).map_err(|error| format!("token: {error}"))?;
        let decode = |name: &str, text: &str| {
            BASE64_STANDARD
                .decode(text)
                .map_err(|error| format!("{name}: {error}"))
        };
        let parameters = &inner.encryption_params;
        if parameters.cipher != "AES" || parameters.block_mode != "ChainingModeGCM" {
            return Err(format!(
                "EncryptionParams: expected AES and ChainingModeGCM, found {:?} and {:?}",
                parameters.cipher, parameters.block_mode
            ));
        }
        let nonce = decode("Iv", &parameters.iv)?;
        let tag = decode("AuthenticationData", &inner.authentication_data)?;
        let mut token = decode("Jwt", &inner.jwt)?;
        if tag.len() != 16 {
            return Err(format!("AuthenticationData: {} bytes, not 16", tag.len()));
        }
        token.extend_from_slice(&tag);
        Ok(Self {
            inner_key: decode("EncryptedInnerKey", &inner.encrypted_inner_key)?,
            nonce: nonce
                .try_into()
                .map_err(|nonce: Vec<u8>| format!("Iv: {} bytes, not 12", nonce.len()))?,
            token,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_machine_without_an_hcl_report_says_so_and_carries_the_nonce() {
        let evidence = GuestEvidence {
            pcr_values: vec![vec![7; 32]; 8],
            system: ("debian".to_owned(), "12.5".to_owned()),
            ..GuestEvidence::default()
        };
        let request = evidence.request(b"fresh", None).unwrap();
        let text = request["AttestationInfo"].as_str().unwrap();
        let text = BASE64_URL_SAFE_NO_PAD.decode(text).unwrap();
        let information: Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(
            information["IsolationInfo"],
            json!({ "Type": "TrustedLaunch" })
        );
        let nonce = &information["ClientPayload"]["nonce"];
        assert_eq!(*nonce, BASE64_STANDARD.encode(b"fresh"));
        assert_eq!(information["OSVersionMinor"], BASE64_STANDARD.encode("5"));
        assert_eq!(information["TpmInfo"]["PCRs"][7]["Index"], 7);
    }

    /// An HCL report of this type around a hardware report of this length.
    fn hcl_report(kind: u32, hardware: u32) -> Vec<u8> {
        let claims = b"{}";
        let length = u32::try_from(claims.len()).unwrap();
        let mut report = b"HCLA".to_vec();
        report.extend([2, hardware, 2, 0, 0, 0, 0].map(u32::to_le_bytes).concat());
        report.extend([0; 1184]);
        report.extend(
            [length + 20, 1, kind, 1, length]
                .map(u32::to_le_bytes)
                .concat(),
        );
        report.extend(claims);
        report.resize(2600, 0);
        report
    }

    #[test]
    fn a_tdx_machine_is_refused_by_name_and_an_snp_one_needs_its_processors_certificates() {
        let asked = |kind, hardware, vcek| {
            let evidence = GuestEvidence {
                hcl_report: Some(hcl_report(kind, hardware)),
                ..GuestEvidence::default()
            };
            evidence.request(b"fresh", vcek)
        };
        asked(2, 1184, Some("PEM")).unwrap();
        assert_eq!(
            asked(4, 1024, Some("PEM")).unwrap_err(),
            "its HCL report is of type Tdx; only SEV-SNP is supported by this version"
        );
        assert_eq!(
            asked(2, 1184, None).unwrap_err(),
            "this is a confidential machine, but the agent could not get the certificates of its processor from the \
             metadata service (amd_certification in its configuration)"
        );
    }

    fn answer(iv: usize, tag: usize, mode: &str) -> Vec<u8> {
        let b64 = |length: usize| BASE64_STANDARD.encode(vec![1; length]);
        let inner = json!({
            "EncryptedInnerKey": b64(256),
            "EncryptionParams": {
                "BlockMode": mode, "BlockPadding": "PKCS7", "Cipher": "AES", "KeySizeInBits": 256, "Iv": b64(iv),
            },
            "AuthenticationData": b64(tag),
            "Jwt": b64(99),
        });
        let token = BASE64_URL_SAFE_NO_PAD.encode(inner.to_string());
        json!({ "token": token }).to_string().into_bytes()
    }

    #[test]
    fn an_envelope_has_the_lengths_and_the_cipher_it_must_have() {
        let envelope = Envelope::parse(&answer(12, 16, "ChainingModeGCM")).unwrap();
        assert_eq!(envelope.token.len(), 115);
        let refused = |body: &[u8]| Envelope::parse(body).err().unwrap();
        assert_eq!(
            refused(&answer(16, 16, "ChainingModeGCM")),
            "Iv: 16 bytes, not 12"
        );
        let tag = "AuthenticationData: 12 bytes, not 16";
        assert_eq!(refused(&answer(12, 12, "ChainingModeGCM")), tag);
        let mode = refused(&answer(12, 16, "ChainingModeCBC"));
        assert!(mode.starts_with("EncryptionParams: expected AES"), "{mode}");
    }

    proptest! {
        #[test]
        fn no_answer_makes_the_parser_panic(body in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Envelope::parse(&body);
        }
    }
}
