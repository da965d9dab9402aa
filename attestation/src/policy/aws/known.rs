//! Names and constants of KMS and of NitroTPM that policies are judged by.

use crate::hex;
use crate::nitro::{PCR_LEN, Pcr};

/// Prefix of the condition keys that an attestation document sets, in lower case.
pub(crate) const ATTESTATION: &str = "kms:recipientattestation:";
/// Prefix of the condition keys that the encryption context sets, in lower case.
pub(crate) const CONTEXT: &str = "kms:encryptioncontext:";

/// Actions whose answer is secret and can be bound to attestation (KMS developer guide, "cryptographic-attestation").
/// GenerateRandom is bound to no key, so no key policy speaks of it.
pub(crate) const ATTESTABLE: [&str; 4] = [
    "kms:Decrypt",
    "kms:DeriveSharedSecret",
    "kms:GenerateDataKey",
    "kms:GenerateDataKeyPair",
];

/// PCR7 of a NitroTPM without Secure Boot: the same on every instance (equal in four genuine documents, recomputed).
pub(crate) const PCR7_SECURE_BOOT_OFF: &str = "98441c7f7625d10058c47683aec486ce311c633235eb555593a7ee791121e3578ae72d04ecef661f272d59058b77af35";
/// A PCR into which only the separator 00000000 went: SHA384(0^48 || SHA384(00000000)).
const SEPARATOR_ONLY: &str = "518923b0f955d08da077c96aaba522b9decede61c599cea6c41889cfbea4ae4d50529d96fe4d1afdafb65e7f95bf23c4";
/// PCR0 of every NitroTPM: its firmware (equal in four genuine documents of two Regions, 2026).
const NITROTPM_PCR0: &str = "6e901b16932f6e036747d7a57696e4a2cc864008ebc016826ca1d7bd42ab5ac8286ccf49cde6c0284cbc4b63d978a2ec";

/// Whether a value says nothing about what a NitroTPM instance booted.
pub(crate) fn is_constant_of_every_tpm(value: &Pcr) -> bool {
    let text = hex::encode(value);
    *value == [0; PCR_LEN]
        || *value == [0xff; PCR_LEN]
        || [SEPARATOR_ONLY, NITROTPM_PCR0, PCR7_SECURE_BOOT_OFF].contains(&text.as_str())
}

/// What a condition key asks of an attestation document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Measured {
    /// `PCR<n>`, or `ImageSha384`, which is PCR0.
    Enclave(u8),
    /// `NitroTPMPCR<n>`.
    NitroTpm(u8),
    /// Another name below `kms:RecipientAttestation:`.
    Unknown,
}

/// Reads a condition key; none where it is not one of attestation.
pub(crate) fn measured(key: &str) -> Option<Measured> {
    let key = key.to_ascii_lowercase();
    let name = key.strip_prefix(ATTESTATION)?;
    let index = |digits: &str, max: u8| {
        digits
            .parse::<u8>()
            .ok()
            .filter(|index| *index <= max && index.to_string() == digits)
    };
    let found = if name == "imagesha384" {
        Some(Measured::Enclave(0))
    } else if let Some(digits) = name.strip_prefix("nitrotpmpcr") {
        index(digits, 23).map(Measured::NitroTpm)
    } else if let Some(digits) = name.strip_prefix("pcr") {
        index(digits, 31).map(Measured::Enclave)
    } else {
        None
    };
    Some(found.unwrap_or(Measured::Unknown))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn condition_keys_are_read_in_any_case() {
        for (key, expected) in [
            ("kms:RecipientAttestation:PCR0", Some(Measured::Enclave(0))),
            (
                "kms:recipientattestation:ImageSha384",
                Some(Measured::Enclave(0)),
            ),
            (
                "kms:RecipientAttestation:PCR31",
                Some(Measured::Enclave(31)),
            ),
            ("kms:RecipientAttestation:PCR32", Some(Measured::Unknown)),
            ("kms:RecipientAttestation:PCR00", Some(Measured::Unknown)),
            (
                "kms:RecipientAttestation:NitroTPMPCR12",
                Some(Measured::NitroTpm(12)),
            ),
            (
                "kms:RecipientAttestation:NitroTPMPCR24",
                Some(Measured::Unknown),
            ),
            ("kms:ViaService", None),
        ] {
            assert_eq!(measured(key), expected, "{key}");
        }
    }
}
