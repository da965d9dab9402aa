#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use aws_lc_rs::cipher::{EncryptionContext, PaddedBlockEncryptingKey};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rsa::{OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, PublicEncryptingKey};
use proptest::prelude::*;
use std::sync::LazyLock;

use super::*;

static KEY: LazyLock<RecipientKey> = LazyLock::new(|| RecipientKey::generate().unwrap());
const PLAINTEXT: [u8; 32] = *b"the secret that opens a data key";
const CONTENT_KEY: [u8; 32] = [0x5a; 32];
const IV: [u8; 16] = [0x1f; 16];

/// How the encrypted content is written.
#[derive(Clone, Copy)]
enum Content {
    Primitive,
    Chunks(usize),
}

fn length(bytes: usize) -> Vec<u8> {
    let be = u16::try_from(bytes).unwrap().to_be_bytes();
    match bytes {
        0..0x80 => vec![be[1]],
        0x80..0x100 => vec![0x81, be[1]],
        _ => vec![0x82, be[0], be[1]],
    }
}

fn tlv(tag: u8, contents: &[u8]) -> Vec<u8> {
    [&[tag], length(contents.len()).as_slice(), contents].concat()
}

fn indefinite(tag: u8, contents: &[u8]) -> Vec<u8> {
    [&[tag, 0x80], contents, &[0, 0]].concat()
}

/// An envelope to the key of that SubjectPublicKeyInfo, as KMS makes them.
pub(in crate::aws) fn envelope(public_key: &[u8], plaintext: &[u8]) -> Vec<u8> {
    Parts::of(public_key, plaintext).bytes()
}

/// An envelope with every part open to change.
struct Parts {
    content_type: Vec<u8>,
    version: Vec<u8>,
    recipient_version: Vec<u8>,
    id: Vec<u8>,
    oaep: Vec<u8>,
    encrypted_key: Vec<u8>,
    data_type: Vec<u8>,
    cipher: Vec<u8>,
    iv: Vec<u8>,
    encrypted: Vec<u8>,
    form: Content,
    constructed: fn(u8, &[u8]) -> Vec<u8>,
    second_recipient: bool,
}

impl Parts {
    fn of(public_key: &[u8], plaintext: &[u8]) -> Self {
        let public = PublicEncryptingKey::from_der(public_key).unwrap();
        let mut encrypted_key = vec![0; 256];
        OaepPublicEncryptingKey::new(public)
            .unwrap()
            .encrypt(
                &OAEP_SHA256_MGF1SHA256,
                &CONTENT_KEY,
                &mut encrypted_key,
                None,
            )
            .unwrap();
        let mut encrypted = plaintext.to_vec();
        let cipher = UnboundCipherKey::new(&AES_256, &CONTENT_KEY).unwrap();
        PaddedBlockEncryptingKey::cbc_pkcs7(cipher)
            .unwrap()
            .less_safe_encrypt(&mut encrypted, EncryptionContext::Iv128(IV.into()))
            .unwrap();
        Self {
            content_type: ENVELOPED_DATA.to_vec(),
            version: vec![2],
            recipient_version: vec![2],
            id: digest(&SHA256, public_key).as_ref().to_vec(),
            oaep: OAEP_SHA256.to_vec(),
            encrypted_key,
            data_type: DATA.to_vec(),
            cipher: AES_256_CBC.to_vec(),
            iv: IV.to_vec(),
            encrypted,
            form: Content::Chunks(usize::MAX),
            constructed: indefinite,
            second_recipient: false,
        }
    }

    fn sound() -> Self {
        Self::of(KEY.public_key(), &PLAINTEXT)
    }

    fn bytes(&self) -> Vec<u8> {
        let recipient = [
            tlv(INTEGER, &self.recipient_version),
            tlv(CONTEXT_0, &self.id),
            tlv(SEQUENCE, &self.oaep),
            tlv(OCTET_STRING, &self.encrypted_key),
        ]
        .concat();
        let mut recipients = tlv(SEQUENCE, &recipient);
        if self.second_recipient {
            recipients.extend_from_within(..);
        }
        let content = match self.form {
            Content::Primitive => tlv(CONTEXT_0, &self.encrypted),
            Content::Chunks(size) => {
                let chunks = self.encrypted.chunks(size).map(|c| tlv(OCTET_STRING, c));
                (self.constructed)(CONTEXT_0_CONSTRUCTED, &chunks.collect::<Vec<_>>().concat())
            }
        };
        let cipher = [
            tlv(OBJECT_IDENTIFIER, &self.cipher),
            tlv(OCTET_STRING, &self.iv),
        ]
        .concat();
        let info = [
            tlv(OBJECT_IDENTIFIER, &self.data_type),
            tlv(SEQUENCE, &cipher),
            content,
        ];
        let enveloped = [
            tlv(INTEGER, &self.version),
            tlv(SET, &recipients),
            (self.constructed)(SEQUENCE, &info.concat()),
        ];
        let enveloped = (self.constructed)(SEQUENCE, &enveloped.concat());
        let content_info = [
            tlv(OBJECT_IDENTIFIER, &self.content_type),
            (self.constructed)(CONTEXT_0_CONSTRUCTED, &enveloped),
        ];
        (self.constructed)(SEQUENCE, &content_info.concat())
    }
}

fn open(bytes: &[u8]) -> Result<[u8; 32], CmsError> {
    let opened = Envelope::parse(bytes)?.open(&KEY, 32)?;
    Ok(opened.expose().try_into().unwrap())
}

fn refusal(change: impl FnOnce(&mut Parts)) -> CmsError {
    let mut parts = Parts::sound();
    change(&mut parts);
    open(&parts.bytes()).unwrap_err()
}

fn fixture(name: &str) -> Option<Vec<u8>> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/fixtures/cms/");
    let bytes = std::fs::read(format!("{path}{name}")).ok();
    if bytes.is_none() {
        eprintln!("skipped: ../shared/fixtures not present");
    }
    bytes
}

fn unhex(value: &serde_json::Value) -> Vec<u8> {
    nodeseal_attestation::hex::decode(value.as_str().unwrap()).unwrap()
}

#[test]
fn a_genuine_chunked_answer_of_kms_gives_the_known_answer() {
    let (Some(bytes), Some(json)) = (
        fixture("chunked-known-answer.ber"),
        fixture("chunked-known-answer.json"),
    ) else {
        return;
    };
    let known: serde_json::Value = serde_json::from_slice(&json).unwrap();
    let envelope = Envelope::parse(&bytes).unwrap();
    assert_eq!(envelope.recipient.to_vec(), unhex(&known["ski_hex"]));
    let spki = unhex(&known["spki_hex"]);
    assert_eq!(envelope.recipient, digest(&SHA256, &spki).as_ref());
    assert_eq!(envelope.iv.to_vec(), unhex(&known["iv_hex"]));
    assert_eq!(envelope.content, unhex(&known["ciphertext_hex"]));
    let content_key = Secret::take_from(&mut unhex(&known["cek_hex"])).unwrap();
    let plaintext = envelope.decrypt(&content_key, 32).unwrap();
    assert_eq!(plaintext.expose(), unhex(&known["plaintext_hex"]));
    let too_short = envelope.decrypt(&content_key, 31).err().unwrap();
    let expected = CmsError::FieldLength {
        what: "encrypted content",
        expected: 32,
        found: 48,
    };
    assert_eq!(too_short, expected);
}

#[test]
fn a_genuine_answer_of_kms_with_primitive_content_is_read() {
    let Some(bytes) = fixture("primitive-content.ber") else {
        return;
    };
    let envelope = Envelope::parse(&bytes).unwrap();
    assert_eq!(envelope.recipient[..4], [0x4e, 0x61, 0xdf, 0x69]);
    assert_eq!(envelope.iv[..4], [0xe6, 0x6c, 0x11, 0x72]);
    assert_eq!(envelope.content.len(), 16);
    assert_eq!(envelope.open(&KEY, 32).err(), Some(CmsError::Recipient));
}

#[test]
fn every_form_kms_may_choose_opens() {
    for form in [Content::Primitive, Content::Chunks(48), Content::Chunks(5)] {
        for constructed in [indefinite as fn(u8, &[u8]) -> Vec<u8>, tlv] {
            let parts = Parts {
                form,
                constructed,
                ..Parts::sound()
            };
            assert_eq!(open(&parts.bytes()), Ok(PLAINTEXT));
        }
    }
    assert_eq!(Parts::sound().bytes().len(), 493, "as long as KMS's own");
}

#[test]
fn each_deviation_has_an_error_of_its_own() {
    let algorithm = |what, expected| CmsError::Algorithm { what, expected };
    let version = |what| CmsError::Version { what };
    let field = |what, expected, found| CmsError::FieldLength {
        what,
        expected,
        found,
    };
    let oaep = "RSAES-OAEP with SHA-256, MGF1 of SHA-256 and no label";
    assert_eq!(
        refusal(|p| p.content_type = DATA.to_vec()),
        algorithm("content type", "envelopedData")
    );
    assert_eq!(
        refusal(|p| p.version = vec![0]),
        version("EnvelopedData version")
    );
    assert_eq!(
        refusal(|p| p.recipient_version = vec![0, 2]),
        version("recipient version")
    );
    assert_eq!(
        refusal(|p| p.id = vec![0; 20]),
        field("recipient id", 32, 20)
    );
    assert_eq!(refusal(|p| p.id[0] ^= 1), CmsError::Recipient);
    assert_eq!(
        refusal(|p| p.oaep[32] ^= 1),
        algorithm("key encryption algorithm", oaep)
    );
    assert_eq!(
        refusal(|p| p.oaep.extend([0xa2, 0])),
        algorithm("key encryption algorithm", oaep),
        "a label"
    );
    assert_eq!(
        refusal(|p| p.encrypted_key.truncate(255)),
        field("encrypted key", 256, 255)
    );
    assert_eq!(refusal(|p| p.encrypted_key[9] ^= 1), CmsError::ContentKey);
    assert_eq!(
        refusal(|p| p.data_type = ENVELOPED_DATA.to_vec()),
        algorithm("encrypted content type", "data")
    );
    assert_eq!(
        refusal(|p| p.cipher[8] = 0x2e),
        algorithm("content encryption algorithm", "AES-256-CBC")
    );
    assert_eq!(refusal(|p| p.iv.push(0)), field("IV", 16, 17));
    assert_eq!(
        refusal(|p| p.encrypted.truncate(32)),
        field("encrypted content", 48, 32)
    );
    assert_eq!(
        refusal(|p| p.encrypted.clear()),
        field("encrypted content", 48, 0)
    );
    assert_eq!(refusal(|p| p.encrypted[47] ^= 1), CmsError::Content);
    let second = refusal(|p| p.second_recipient = true);
    assert!(matches!(
        second,
        CmsError::Trailing {
            what: "recipients",
            ..
        }
    ));
}

#[test]
fn an_answer_for_another_request_is_refused_by_its_recipient() {
    let other = RecipientKey::generate().unwrap();
    let bytes = Parts::of(other.public_key(), &PLAINTEXT).bytes();
    assert_eq!(open(&bytes), Err(CmsError::Recipient));
}

#[test]
fn an_answer_of_another_length_is_refused() {
    for length in [0, 16, 31, 33, 47, 48] {
        let bytes = Parts::of(KEY.public_key(), &vec![7; length]).bytes();
        let error = open(&bytes).unwrap_err();
        assert!(matches!(error, CmsError::FieldLength { .. }), "{error}");
    }
}

#[test]
fn trailing_missing_and_too_many_bytes_are_refused() {
    let sound = Parts::sound().bytes();
    let trailing = CmsError::Trailing {
        what: "ContentInfo",
        found: 1,
    };
    assert_eq!(open(&[&sound[..], &[0]].concat()), Err(trailing));
    for length in 0..sound.len() {
        let error = open(&sound[..length]).unwrap_err();
        assert!(matches!(error, CmsError::Truncated { .. }), "{error}");
    }
    let found = MAX_LENGTH + 1;
    assert_eq!(open(&vec![0x30; found]), Err(CmsError::TooLarge { found }));
}

#[test]
fn lengths_that_are_not_minimal_are_refused() {
    let sound = Parts::sound().bytes();
    let longer = |at: usize, form: &[u8]| [&sound[..at], form, &sound[at + 1..]].concat();
    // The content type's length, 9, in one and in two bytes more.
    for form in [&[0x81, 9][..], &[0x82, 0, 9], &[0x83, 0, 0, 9], &[0x80]] {
        let error = open(&longer(3, form)).unwrap_err();
        let what = "content type";
        assert_eq!(error, CmsError::Length { what });
    }
}

#[test]
fn nothing_nests_deeper_than_it_should() {
    let deep = [0x30, 0x80].repeat(MAX_LENGTH / 2);
    let error = open(&deep).unwrap_err();
    assert!(matches!(error, CmsError::Tag { .. }), "{error}");
}

/// What AES-CBC cannot notice, and what it can: a change of the IV or of the first ciphertext block leaves the padding
/// as it was and only changes plaintext; everything else is refused. No change is taken for another length.
#[test]
fn a_flipped_bit_is_refused_or_gives_another_secret_of_the_same_length() {
    let parts = Parts::sound();
    let sound = parts.bytes();
    let find = |part: &[u8]| sound.windows(part.len()).position(|w| w == part).unwrap();
    let (iv, first_block) = (find(&IV), find(&parts.encrypted));
    let blocks = [iv..iv + 16, first_block..first_block + 16];
    for at in 0..sound.len() {
        let mut bytes = sound.clone();
        bytes[at] ^= 1 << (at % 8);
        let malleable = blocks.iter().any(|block| block.contains(&at));
        match open(&bytes) {
            Ok(other) => assert!(malleable && other != PLAINTEXT, "byte {at}"),
            Err(error) => assert!(!malleable, "byte {at}: {error}"),
        }
    }
}

proptest! {
    #[test]
    fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = Envelope::parse(&bytes);
    }

    #[test]
    fn no_change_of_a_sound_answer_makes_the_parser_panic_or_give_other_lengths(
        changes in prop::collection::vec((0usize..493, any::<u8>()), 1..8),
        cut in 0usize..493,
        insert in prop::collection::vec(any::<u8>(), 0..4),
    ) {
        let mut bytes = Parts::sound().bytes();
        for (at, value) in changes {
            bytes[at] = value;
        }
        let _ = Envelope::parse(&bytes);
        bytes.splice(cut..cut, insert);
        if let Ok(envelope) = Envelope::parse(&bytes) {
            prop_assert!(envelope.content.len() <= bytes.len());
        }
    }
}
