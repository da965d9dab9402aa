//! `CiphertextBlob`: which key, then AES-256-GCM under its material with the encryption context as associated data.
//!
//! `0x01 ‖ key id (36 ASCII bytes) ‖ check (4) ‖ nonce (12) ‖ ciphertext ‖ tag (16)`. The genuine format is not
//! published; like it, this one names its key, notices damage to that name (the check is the start of the SHA-256 of
//! what precedes it), and cannot be opened with another context.

use std::collections::BTreeMap;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::digest::{SHA256, digest};

use crate::text::random;

const VERSION: u8 = 1;
/// Length of a key id: a UUID.
const KEY_ID: usize = 36;

/// Encryption context: pairs every decryption has to repeat.
pub type EncryptionContext = BTreeMap<String, String>;

/// The blob is corrupt, or the context another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the ciphertext cannot be opened")]
pub struct InvalidCiphertext;

/// Encrypts `plaintext` under `material` of the key `key_id`.
///
/// # Errors
/// When the system gives no randomness, or `key_id` is no key id.
pub fn seal(
    key_id: &str,
    material: &[u8; 32],
    context: &EncryptionContext,
    plaintext: &[u8],
) -> Result<Vec<u8>, InvalidCiphertext> {
    if key_id.len() != KEY_ID {
        return Err(InvalidCiphertext);
    }
    let nonce = random::<NONCE_LEN>().map_err(|_| InvalidCiphertext)?;
    let mut body = plaintext.to_vec();
    cipher(material)?
        .seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(associated_data(key_id, context)),
            &mut body,
        )
        .map_err(|_| InvalidCiphertext)?;
    let head = [&[VERSION], key_id.as_bytes()].concat();
    Ok([&head[..], &check(&head), &nonce, &body].concat())
}

/// The key id a blob names; nothing of it is verified yet.
///
/// # Errors
/// [`InvalidCiphertext`].
pub fn key_id(blob: &[u8]) -> Result<&str, InvalidCiphertext> {
    let (id, _) = split(blob)?;
    std::str::from_utf8(id).map_err(|_| InvalidCiphertext)
}

/// Decrypts.
///
/// # Errors
/// [`InvalidCiphertext`].
pub fn open(
    blob: &[u8],
    material: &[u8; 32],
    context: &EncryptionContext,
) -> Result<Vec<u8>, InvalidCiphertext> {
    let id = key_id(blob)?;
    let (_, rest) = split(blob)?;
    let (nonce, body) = rest.split_first_chunk().ok_or(InvalidCiphertext)?;
    let mut body = body.to_vec();
    let plaintext = cipher(material)?
        .open_in_place(
            Nonce::assume_unique_for_key(*nonce),
            Aad::from(associated_data(id, context)),
            &mut body,
        )
        .map_err(|_| InvalidCiphertext)?;
    Ok(plaintext.to_vec())
}

/// Key id, and what follows the check.
fn split(blob: &[u8]) -> Result<(&[u8], &[u8]), InvalidCiphertext> {
    let (head, rest) = blob.split_at_checked(1 + KEY_ID).ok_or(InvalidCiphertext)?;
    let rest = rest.strip_prefix(&check(head)).ok_or(InvalidCiphertext)?;
    let id = head.strip_prefix(&[VERSION]).ok_or(InvalidCiphertext)?;
    Ok((id, rest))
}

fn check(head: &[u8]) -> [u8; 4] {
    let hash = digest(&SHA256, head);
    hash.as_ref().first_chunk().copied().unwrap_or_default()
}

fn cipher(material: &[u8; 32]) -> Result<LessSafeKey, InvalidCiphertext> {
    let key = UnboundKey::new(&AES_256_GCM, material).map_err(|_| InvalidCiphertext)?;
    Ok(LessSafeKey::new(key))
}

/// Every string with its length, so that no two contexts give the same bytes.
fn associated_data(key_id: &str, context: &EncryptionContext) -> Vec<u8> {
    let pairs = context.iter().flat_map(|(key, value)| [key, value]);
    let strings = std::iter::once(key_id).chain(pairs.map(String::as_str));
    strings
        .flat_map(|text| [&(text.len() as u64).to_be_bytes(), text.as_bytes()].concat())
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    const ID: &str = "1234abcd-12ab-34cd-56ef-1234567890ab";

    fn context(pairs: &[(&str, &str)]) -> EncryptionContext {
        let owned = |(k, v): &(&str, &str)| ((*k).to_owned(), (*v).to_owned());
        pairs.iter().map(owned).collect()
    }

    #[test]
    fn a_blob_opens_with_its_context_and_no_other() {
        let ours = context(&[("node", "a"), ("chain", "b")]);
        let blob = seal(ID, &[1; 32], &ours, b"secret").unwrap();
        assert_eq!(key_id(&blob), Ok(ID));
        assert_eq!(open(&blob, &[1; 32], &ours).unwrap(), b"secret");
        for other in [
            context(&[]),
            context(&[("node", "a")]),
            context(&[("node", "A"), ("chain", "b")]),
            context(&[("node", "achain"), ("chain", "b")]),
        ] {
            assert_eq!(open(&blob, &[1; 32], &other), Err(InvalidCiphertext));
        }
        assert_eq!(open(&blob, &[2; 32], &ours), Err(InvalidCiphertext));
    }

    #[test]
    fn every_flipped_bit_is_refused() {
        let ours = context(&[("node", "a")]);
        let blob = seal(ID, &[1; 32], &ours, b"secret").unwrap();
        for bit in 0..blob.len() * 8 {
            let mut other = blob.clone();
            other[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(
                open(&other, &[1; 32], &ours),
                Err(InvalidCiphertext),
                "bit {bit}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            prop_assert_eq!(open(&bytes, &[1; 32], &EncryptionContext::new()), Err(InvalidCiphertext));
        }
    }
}
