//! TPM 2.0 structures written and read in software: Names, templates, the public area of a sealed object.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use nodeseal_attestation::hex::decode_array;
use nodeseal_wire::lock::PcrBank;

/// Longest TPMT_PUBLIC taken, in bytes (RSA-4096 with policy is below 600).
pub const MAX_PUBLIC: usize = 1024;
/// Handle at which a storage root key is looked for first (TCG "Registry of Reserved TPM 2.0 Handles", 2.3.1).
pub const SRK_HANDLE: u32 = 0x8100_0001;

const ALG_SHA256: u16 = 0x000B;
const ALG_SHA384: u16 = 0x000C;
/// fixedTPM, fixedParent, adminWithPolicy, noDA. userWithAuth is clear: only the policy opens the object.
const SEALED_ATTRIBUTES: [u8; 4] = [0, 0, 0x04, 0x92];

/// A Name (TPM 2.0 part 1, clause 16): nameAlg SHA-256 (000b) and the SHA-256 of the public area.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Name(pub [u8; 34]);

impl Name {
    /// The Name of a marshalled TPMT_PUBLIC whose nameAlg is SHA-256.
    #[must_use]
    pub fn of(public: &[u8]) -> Self {
        let mut name = [0; 34];
        let (algorithm, hash) = name.split_at_mut(2);
        algorithm.copy_from_slice(&ALG_SHA256.to_be_bytes());
        hash.copy_from_slice(digest(&SHA256, public).as_ref());
        Self(name)
    }

    /// Whether both are the same, in time that does not depend on where they differ.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::str::FromStr for Name {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORM: &str = "not a Name: 68 hexadecimal digits, the first four 000b";
        decode_array(text)
            .filter(|name| name.starts_with(&ALG_SHA256.to_be_bytes()))
            .map(Self)
            .ok_or(FORM)
    }
}

impl std::fmt::Debug for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Name({self})")
    }
}

/// A primary key that is the same each time it is made from the seed of its hierarchy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Template {
    /// Storage root key: ECC P-256, AES-128-CFB, noDA, empty `unique` (template H-2 of the TCG EK credential profile
    /// family; what systemd and the TSS2 key file format use). Changes when the owner clears the TPM.
    Srk,
    /// Endorsement key: ECC P-256, template L-2 of the TCG EK Credential Profile 2.x, B.3.4. Survives TPM2_Clear, so
    /// it tells a cleared TPM from another one.
    Ek,
}

impl Template {
    /// Id in the enrolment record.
    #[must_use]
    pub fn id(self) -> &'static str {
        match self {
            Self::Srk => "srk-ecc-p256-unique-empty",
            Self::Ek => "ek-ecc-p256-l2",
        }
    }

    /// Marshalled TPMT_PUBLIC up to `unique`.
    fn prefix(self) -> Vec<u8> {
        // TPM2_PolicySecret(TPM_RH_ENDORSEMENT), TCG EK Credential Profile B.3.3.
        const EK_POLICY: [u8; 32] = [
            0x83, 0x71, 0x97, 0x67, 0x44, 0x84, 0xB3, 0xF8, 0x1A, 0x90, 0xCC, 0x8D, 0x46, 0xA5,
            0xD7, 0x24, 0xFD, 0x52, 0xD7, 0x6E, 0x06, 0x52, 0x0B, 0x64, 0xF2, 0xA1, 0xDA, 0x1B,
            0x33, 0x14, 0x69, 0xAA,
        ];
        // fixedTPM fixedParent sensitiveDataOrigin userWithAuth noDA restricted decrypt; the EK has adminWithPolicy
        // instead of userWithAuth and noDA.
        let (attributes, policy): (u32, &[u8]) = match self {
            Self::Srk => (0x0003_0472, &[]),
            Self::Ek => (0x0003_00B2, &EK_POLICY),
        };
        let mut out = vec![0x00, 0x23, 0x00, 0x0B]; // TPM_ALG_ECC, nameAlg SHA-256
        out.extend(attributes.to_be_bytes());
        push_sized(&mut out, policy);
        out.extend([0x00, 0x06, 0x00, 0x80, 0x00, 0x43]); // AES, 128 bits, CFB
        out.extend([0x00, 0x10, 0x00, 0x03, 0x00, 0x10]); // scheme NULL, TPM_ECC_NIST_P256, kdf NULL
        out
    }

    /// The template as TPM2_CreatePrimary takes it: marshalled TPMT_PUBLIC.
    #[must_use]
    pub fn public(self) -> Vec<u8> {
        let mut out = self.prefix();
        let unique: &[u8] = match self {
            Self::Srk => &[],
            Self::Ek => &[0; 32],
        };
        push_sized(&mut out, unique);
        push_sized(&mut out, unique);
        out
    }

    /// Whether a public area is a key of this template: everything but the point itself is the template's.
    #[must_use]
    pub fn describes(self, public: &[u8]) -> bool {
        self.point(public).is_some()
    }

    /// The point of a key of this template, uncompressed (04, x, y); TPMs may leave out zeros in front of either.
    #[must_use]
    pub fn point(self, public: &[u8]) -> Option<[u8; 65]> {
        let mut rest = Fields(public.strip_prefix(self.prefix().as_slice())?);
        let (x, y) = (rest.sized()?, rest.sized()?);
        let mut point = [0; 65];
        let (form, halves) = point.split_first_mut()?;
        *form = 4;
        for (half, coordinate) in halves.chunks_exact_mut(32).zip([x, y]) {
            let zeros = half.len().checked_sub(coordinate.len())?;
            half.get_mut(zeros..)?.copy_from_slice(coordinate);
        }
        (!x.is_empty() && !y.is_empty() && rest.0.is_empty()).then_some(point)
    }
}

/// The template of a sealed object under a policy: marshalled TPMT_PUBLIC (part 2, 12.2.4).
#[must_use]
pub fn sealed_template(policy: &[u8; 32]) -> Vec<u8> {
    let mut out = vec![0x00, 0x08, 0x00, 0x0B]; // TPM_ALG_KEYEDHASH, nameAlg SHA-256
    out.extend(SEALED_ATTRIBUTES);
    push_sized(&mut out, policy);
    out.extend([0x00, 0x10]); // scheme NULL
    push_sized(&mut out, &[]);
    out
}

/// TPMT_PUBLIC of the key an Azure machine decrypts with for one boot (confidential-computing-cvm-guest-attestation,
/// `TpmEphemeralEncryptionKey`): RSA-2048; fixedTPM, fixedParent, sensitiveDataOrigin, noDA, decrypt; for the policy alone.
#[must_use]
pub fn ephemeral_template(policy: &[u8; 32]) -> Vec<u8> {
    let mut out = vec![0x00, 0x01, 0x00, 0x0B]; // TPM_ALG_RSA, nameAlg SHA-256
    out.extend([0x00, 0x02, 0x04, 0x32]);
    push_sized(&mut out, policy);
    out.extend([0x00, 0x10, 0x00, 0x10]); // symmetric NULL, scheme NULL
    out.extend([0x08, 0x00, 0, 0, 0, 0]); // 2048 bits, exponent 65537
    push_sized(&mut out, &[0; 256]);
    out
}

/// Reads a marshalled TPM2B_PUBLIC that must be a sealed object as [`sealed_template`] describes it.
///
/// Returns its authPolicy. Nothing else is taken: an object with userWithAuth would open whatever the PCRs are.
#[must_use]
pub fn sealed_policy(public: &[u8]) -> Option<[u8; 32]> {
    let mut outer = Fields(public);
    let area = outer.sized()?;
    let mut fields = Fields(area.strip_prefix(&[0x00, 0x08, 0x00, 0x0B])?);
    fields.0 = fields.0.strip_prefix(&SEALED_ATTRIBUTES)?;
    let policy = fields.sized()?.try_into().ok()?;
    fields.0 = fields.0.strip_prefix(&[0x00, 0x10])?;
    let unique = fields.sized()?;
    (unique.len() == 32 && fields.0.is_empty() && outer.0.is_empty()).then_some(policy)
}

/// The public area of an offline ECDSA P-256 key that signs policies: marshalled TPMT_PUBLIC.
#[must_use]
pub fn signer_public(x: &[u8; 32], y: &[u8; 32]) -> Vec<u8> {
    let mut out = SIGNER_PREFIX.to_vec();
    push_sized(&mut out, x);
    push_sized(&mut out, y);
    out
}

/// Reads what [`signer_public`] writes; returns the point, uncompressed (04, x, y).
#[must_use]
pub fn signer_point(public: &[u8]) -> Option<[u8; 65]> {
    let mut fields = Fields(public.strip_prefix(&SIGNER_PREFIX)?);
    let (x, y) = (fields.sized()?, fields.sized()?);
    let mut point = [4; 65];
    point.get_mut(1..33)?.copy_from_slice(exactly_32(x)?);
    point.get_mut(33..65)?.copy_from_slice(exactly_32(y)?);
    fields.0.is_empty().then_some(point)
}

/// ECC, nameAlg SHA-256, userWithAuth and sign, no policy, no symmetric, ECDSA with SHA-256, P-256, no kdf.
const SIGNER_PREFIX: [u8; 20] = [
    0x00, 0x23, 0x00, 0x0B, 0x00, 0x04, 0x00, 0x40, 0x00, 0x00, 0x00, 0x10, 0x00, 0x18, 0x00, 0x0B,
    0x00, 0x03, 0x00, 0x10,
];

/// Marshalled TPML_PCR_SELECTION (part 2, 10.9.7) of one bank. PCRs above 23 do not exist here and are left out.
#[must_use]
pub fn pcr_selection(bank: PcrBank, pcrs: &[u8]) -> [u8; 10] {
    let bits = pcrs
        .iter()
        .filter(|pcr| **pcr < 24)
        .fold(0u32, |bits, pcr| bits | 1 << pcr)
        .to_le_bytes();
    let [high, low] = bank_algorithm(bank).to_be_bytes();
    [0, 0, 0, 1, high, low, 3, bits[0], bits[1], bits[2]]
}

/// TPM_ALG_ID of a bank (part 2, 6.3).
#[must_use]
pub fn bank_algorithm(bank: PcrBank) -> u16 {
    match bank {
        PcrBank::Sha256 => ALG_SHA256,
        PcrBank::Sha384 => ALG_SHA384,
    }
}

/// Length in bytes of a PCR of the bank.
#[must_use]
pub fn bank_length(bank: PcrBank) -> usize {
    match bank {
        PcrBank::Sha256 => 32,
        PcrBank::Sha384 => 48,
    }
}

/// A public area with its size before it: TPM2B_PUBLIC.
#[must_use]
pub fn with_size(public: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(public.len().saturating_add(2));
    push_sized(&mut out, public);
    out
}

/// The content of a TPM2B structure that fills `bytes` exactly.
#[must_use]
pub fn without_size(bytes: &[u8]) -> Option<&[u8]> {
    let mut fields = Fields(bytes);
    let content = fields.sized()?;
    fields.0.is_empty().then_some(content)
}

/// Appends `bytes` with their length as UINT16 before them. All callers' lengths are far below 2^16.
pub(crate) fn push_sized(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    out.extend(length.to_be_bytes());
    out.extend(bytes);
}

fn exactly_32(bytes: &[u8]) -> Option<&[u8; 32]> {
    bytes.try_into().ok()
}

/// Bytes yet to be read; numbers are big-endian (part 1, 5.3).
pub(crate) struct Fields<'b>(pub(crate) &'b [u8]);

impl<'b> Fields<'b> {
    /// The next bytes.
    pub(crate) fn take(&mut self, length: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn chunk<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.chunk().map(u8::from_be_bytes)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.chunk().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.chunk().map(u32::from_be_bytes)
    }

    /// A byte string with its UINT16 length before it.
    pub(crate) fn sized(&mut self) -> Option<&'b [u8]> {
        let length = self.u16()?;
        self.take(usize::from(length))
    }

    /// Everything that is left.
    pub(crate) fn rest(&mut self) -> &'b [u8] {
        std::mem::take(&mut self.0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn sealed() -> Vec<u8> {
        let mut area = sealed_template(&[9; 32]);
        area.truncate(area.len() - 2);
        push_sized(&mut area, &[5; 32]);
        with_size(&area)
    }

    #[test]
    fn a_sealed_object_gives_its_policy() {
        assert_eq!(sealed_policy(&sealed()), Some([9; 32]));
    }

    #[test]
    fn a_sealed_object_that_opens_without_its_policy_is_refused() {
        let mut with_auth = sealed();
        with_auth[9] |= 0x40; // userWithAuth
        assert_eq!(sealed_policy(&with_auth), None);
    }

    #[test]
    fn a_sealed_object_under_dictionary_attack_protection_is_refused() {
        let mut without_no_da = sealed();
        without_no_da[8] &= !0x04;
        assert_eq!(sealed_policy(&without_no_da), None);
    }

    #[test]
    fn every_truncation_and_extension_of_a_sealed_object_is_refused() {
        let whole = sealed();
        for length in 0..whole.len() {
            assert_eq!(sealed_policy(&whole[..length]), None, "{length}");
        }
        let mut longer = whole;
        longer.push(0);
        assert_eq!(sealed_policy(&longer), None);
    }

    #[test]
    fn the_selection_of_pcrs_4_7_and_11_is_marshalled_as_the_specification_has_it() {
        // reference: TPM 2.0 part 2, 10.9.7; bits of PCR 8n..8n+7 in byte n, lowest first.
        assert_eq!(
            pcr_selection(PcrBank::Sha256, &[4, 7, 11]),
            [0, 0, 0, 1, 0, 0x0b, 3, 0x90, 0x08, 0x00]
        );
    }

    #[test]
    fn the_signers_public_area_gives_its_point_back() {
        let public = signer_public(&[1; 32], &[2; 32]);
        let point = signer_point(&public).unwrap();
        assert_eq!(
            (point[0], &point[1..33], &point[33..]),
            (4, &[1; 32][..], &[2; 32][..])
        );
        assert_eq!(signer_point(&public[..public.len() - 1]), None);
    }

    #[test]
    fn a_template_describes_its_keys_and_no_others() {
        let mut key = Template::Srk.prefix();
        push_sized(&mut key, &[1; 32]);
        push_sized(&mut key, &[2; 32]);
        assert!(Template::Srk.describes(&key));
        assert!(!Template::Ek.describes(&key));
        assert!(
            !Template::Srk.describes(&Template::Srk.public()),
            "no point"
        );
        let point = Template::Srk.point(&key).unwrap();
        assert_eq!((point[0], point[1], point[64]), (4, 1, 2));
        key.push(0);
        assert!(!Template::Srk.describes(&key), "trailing byte");
    }

    #[test]
    fn a_coordinate_without_its_leading_zeros_gives_the_same_point() {
        let mut key = Template::Srk.prefix();
        push_sized(&mut key, &[1; 31]);
        push_sized(&mut key, &[2; 32]);
        let point = Template::Srk.point(&key).unwrap();
        assert_eq!(point[..3], [4, 0, 1]);
        let mut long = Template::Srk.prefix();
        push_sized(&mut long, &[1; 33]);
        push_sized(&mut long, &[2; 32]);
        assert_eq!(Template::Srk.point(&long), None);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_the_readers_panic(bytes in proptest::collection::vec(0u8.., 0..200)) {
            let _ = (sealed_policy(&bytes), signer_point(&bytes), without_size(&bytes));
            let _ = Template::Srk.describes(&bytes);
        }
    }
}
