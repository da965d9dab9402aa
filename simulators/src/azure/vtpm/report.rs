//! The paravisor's report (azure-docs, "guest-attestation-confidential-virtual-machines-design"): claims about the
//! machine, bound by a report of the processor.

use nodeseal_attestation::azure::RsaKey;
use nodeseal_attestation::azure::hcl::report_data;
use nodeseal_attestation::azure::snp::{REPORT_LEN, SIGNED_LEN};
use serde_json::{Value, json};

use crate::pki::{Chip, PkiError};
use crate::text::{base64url, hex};

/// Size of the NV index.
pub(super) const LENGTH: usize = 2600;

/// What makes reports.
pub(super) struct Paravisor {
    pub(super) chip: Chip,
    pub(super) ak: RsaKey,
    pub(super) ek: Option<RsaKey>,
    pub(super) vm_id: String,
    pub(super) secure_boot: bool,
    pub(super) debug: bool,
}

impl Paravisor {
    /// A report with these 64 bytes of the guest's.
    pub(super) fn report(&self, user_data: &[u8; 64]) -> Result<Vec<u8>, PkiError> {
        let claims = self.claims(user_data).to_string().into_bytes();
        let hardware = self.hardware(&report_data(&claims))?;
        let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX).to_le_bytes();
        let mut out = b"HCLA".to_vec();
        // Version, size of the hardware report, type of request, status, reserved.
        out.extend(2_u32.to_le_bytes());
        out.extend(number(REPORT_LEN));
        out.extend(2_u32.to_le_bytes());
        out.extend([0; 16]);
        out.extend(&hardware);
        // Data size, version, SEV-SNP, SHA-256, claim size.
        out.extend(number(claims.len() + 20));
        out.extend(1_u32.to_le_bytes());
        out.extend(2_u32.to_le_bytes());
        out.extend(1_u32.to_le_bytes());
        out.extend(number(claims.len()));
        out.extend(&claims);
        out.resize(LENGTH.max(out.len()), 0);
        Ok(out)
    }

    fn claims(&self, user_data: &[u8; 64]) -> Value {
        let key = |name: &str, use_for: &str, key: &RsaKey| {
            json!({
                "kid": name, "key_ops": [use_for], "kty": "RSA",
                "e": base64url(&key.exponent), "n": base64url(&key.modulus),
            })
        };
        let mut keys = vec![key("HCLAkPub", "sign", &self.ak)];
        keys.extend(self.ek.iter().map(|ek| key("HCLEkPub", "encrypt", ek)));
        json!({
            "keys": keys,
            "vm-configuration": {
                "console-enabled": true,
                "secure-boot": self.secure_boot,
                "tpm-enabled": true,
                "vmUniqueId": self.vm_id,
            },
            "user-data": hex(user_data).to_uppercase(),
        })
    }

    /// An SEV-SNP attestation report, version 2.
    fn hardware(&self, data: &[u8; 64]) -> Result<Vec<u8>, PkiError> {
        let mut report = vec![0_u8; REPORT_LEN];
        // Guest policy: reserved bit 17 and SMT are always set, DEBUG is bit 19.
        let policy = (1_u64 << 17) | (1 << 16) | (u64::from(self.debug) << 19) | 0x1f;
        let parts: [(usize, &[u8]); 10] = [
            (0x00, &2_u32.to_le_bytes()),
            (0x04, &7_u32.to_le_bytes()),
            (0x08, &policy.to_le_bytes()),
            (0x34, &1_u32.to_le_bytes()),
            (0x50, data),
            (0x90, &[0x4c; 48]),
            (0xe0, &[0x4d; 48]),
            (0x140, &[0x4e; 32]),
            (0x160, &[0xff; 32]),
            (0x1a0, &[0x4f; 64]),
        ];
        for (at, bytes) in parts {
            for (to, from) in report.iter_mut().skip(at).zip(bytes) {
                *to = *from;
            }
        }
        let signed = report.get(..SIGNED_LEN).unwrap_or_default();
        let signature = self.chip.sign(signed)?;
        let (r, s) = numbers(&signature).ok_or(PkiError::Crypto("reading a signature"))?;
        for (at, number) in [(SIGNED_LEN, r), (SIGNED_LEN + 72, s)] {
            for (to, from) in report.iter_mut().skip(at).zip(number.iter().rev()) {
                *to = *from;
            }
        }
        Ok(report)
    }
}

/// The two INTEGERs of an ECDSA signature, big-endian.
fn numbers(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let body = match der {
        [0x30, 0x81, _, body @ ..] | [0x30, _, body @ ..] => body,
        _ => return None,
    };
    let integer = |bytes: &'_ [u8]| -> Option<(usize, usize)> {
        (*bytes.first()? == 2).then_some(())?;
        Some((2, usize::from(*bytes.get(1)?)))
    };
    let (start, length) = integer(body)?;
    let r = body.get(start..start + length)?;
    let rest = body.get(start + length..)?;
    let (start, length) = integer(rest)?;
    Some((r, rest.get(start..start + length)?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use nodeseal_attestation::azure::hcl::{HclReport, ReportType};
    use nodeseal_attestation::azure::snp::SnpReport;
    use rustls::pki_types::CertificateDer;

    use super::*;
    use crate::pki::ChipRoot;
    use crate::time::Timestamp;

    const NOW: Timestamp = Timestamp(1_795_680_000_000);

    #[test]
    fn a_report_binds_its_claims_and_every_changed_byte_of_it_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let root = ChipRoot::in_directory(directory.path(), NOW).unwrap();
        let key = RsaKey {
            modulus: vec![0xc1; 256],
            exponent: vec![1, 0, 1],
        };
        let paravisor = Paravisor {
            chip: root.chip(NOW).unwrap(),
            ak: key.clone(),
            ek: Some(RsaKey {
                modulus: vec![0xc2; 256],
                exponent: vec![1, 0, 1],
            }),
            vm_id: "8A1B0C2D-0000-4000-8000-000000000001".to_owned(),
            secure_boot: true,
            debug: true,
        };
        let bytes = paravisor.report(&[0x5a; 64]).unwrap();
        assert_eq!(bytes.len(), LENGTH);
        let report = HclReport::parse(&bytes).unwrap();
        assert_eq!(report.report_type, ReportType::SevSnp);
        let claims = report.runtime_claims().unwrap();
        assert_eq!(claims.attestation_key().unwrap(), key);
        assert_eq!(claims.vm_id(), Some(paravisor.vm_id.as_str()));

        let der = CertificateDer::from(root.certificate());
        let anchors = [webpki::anchor_from_trusted_cert(&der).unwrap()];
        let chain = [paravisor.chip.certificate.clone()];
        let at = nodeseal_attestation::time::Timestamp::from_milliseconds(NOW.0);
        let snp = SnpReport::parse(report.hardware).unwrap();
        snp.verify(&chain, &anchors, at).unwrap();
        assert!(snp.is_debuggable());
        assert_eq!(snp.report_data(), report_data(report.claims));
        // What follows r and s (72 bytes each) is reserved.
        for at_byte in 0..SIGNED_LEN + 144 {
            let mut other = report.hardware.to_vec();
            other[at_byte] ^= 1;
            let verified = SnpReport::parse(&other).and_then(|r| r.verify(&chain, &anchors, at));
            assert!(verified.is_err(), "byte {at_byte}");
        }
        let other = ChipRoot::in_directory(&directory.path().join("other"), NOW).unwrap();
        let der = CertificateDer::from(other.certificate());
        let anchors = [webpki::anchor_from_trusted_cert(&der).unwrap()];
        let error = snp.verify(&chain, &anchors, at).unwrap_err().to_string();
        assert!(
            error.starts_with("SEV-SNP report: VCEK: the certificates lead to no root"),
            "{error}"
        );
    }
}
