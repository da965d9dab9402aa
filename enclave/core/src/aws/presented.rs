//! What our own attestation document says: KMS does not tell a wrong PCR from a missing permission, so a refusal names
//! what was presented, and the audit log keeps it.

use nodeseal_attestation::hex;
use nodeseal_attestation::nitro::{Document, Form};

/// PCRs that key policies name, per form of document (AWS's "Cryptographic attestation" pages), besides those an
/// application extends.
fn shown(form: Form, index: u8) -> bool {
    match form {
        Form::NitroEnclave => matches!(index, 0..=4 | 8 | 16..),
        Form::NitroTpm => matches!(index, 4 | 7..=9 | 12 | 16 | 23),
    }
}

/// The parts of a document of ours that policies look at.
pub(super) struct Presented {
    /// Id of the enclave or instance.
    pub(super) module_id: String,
    /// `PCR0=<hexadecimal> PCR1=…`; a PCR nobody extended is `PCR8=0`.
    pub(super) pcrs: String,
    debug: bool,
}

impl Presented {
    /// Reads a document; none where it is none, which is for KMS to say.
    pub(super) fn read(document: &[u8]) -> Option<Self> {
        let document = Document::parse(document).ok()?;
        let value = |(index, value): (u8, &[u8; 48])| match value.iter().all(|byte| *byte == 0) {
            true => format!("PCR{index}=0"),
            false => format!("PCR{index}={}", hex::encode(value)),
        };
        let pcrs: Vec<_> = document
            .pcrs()
            .filter(|(index, _)| shown(document.form(), *index))
            .map(value)
            .collect();
        Some(Self {
            module_id: document.module_id().to_owned(),
            pcrs: pcrs.join(" "),
            debug: document.form() == Form::NitroEnclave
                && document.pcr(0).is_some_and(|pcr| *pcr == [0; 48]),
        })
    }

    /// For the end of a refusal.
    pub(super) fn sentence(&self) -> String {
        let debug = if self.debug { " (a debug enclave)" } else { "" };
        format!("; presented: {}{debug} with {}", self.module_id, self.pcrs)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn fixture(name: &str) -> Option<Presented> {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../../shared/fixtures/attestation/"
        );
        let bytes = std::fs::read(format!("{path}{name}")).ok();
        if bytes.is_none() {
            eprintln!("skipped: ../shared/fixtures not present");
        }
        bytes.map(|bytes| Presented::read(&bytes).unwrap())
    }

    #[test]
    fn a_genuine_enclave_is_described_by_the_pcrs_policies_name() {
        let Some(presented) = fixture("enclave-2025-01-rsa2048-key.cbor") else {
            return;
        };
        assert!(presented.pcrs.starts_with("PCR0="), "{}", presented.pcrs);
        let names = presented
            .pcrs
            .split(' ')
            .map(|pcr| pcr.split('=').next().unwrap());
        assert_eq!(
            names.collect::<Vec<_>>(),
            ["PCR0", "PCR1", "PCR2", "PCR3", "PCR4", "PCR8"]
        );
        assert!(presented.module_id.starts_with("i-"));
    }

    #[test]
    fn a_genuine_debug_enclave_is_called_one() {
        let Some(presented) = fixture("enclave-2022-10-debug-mode.cbor") else {
            return;
        };
        let text = presented.sentence();
        assert!(
            text.contains(" (a debug enclave) with PCR0=0 PCR1=0 PCR2=0 PCR3="),
            "{text}"
        );
    }

    #[test]
    fn what_is_no_document_is_not_described() {
        assert!(Presented::read(b"no document").is_none());
    }
}
