//! `CiphertextForRecipient`: CMS EnvelopedData (RFC 5652) byte for byte in the two shapes AWS KMS writes.
//!
//! Indefinite lengths outside, one KeyTransRecipientInfo with RSAES-OAEP (SHA-256, MGF1 with SHA-256, no label) named
//! by a subject key identifier that is the SHA-256 of the recipient's SubjectPublicKeyInfo, AES-256-CBC with PKCS #7
//! padding inside. Nothing of it is authenticated.

use aws_lc_rs::cipher::{AES_256, DecryptionContext, PaddedBlockEncryptingKey, UnboundCipherKey};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rsa::{OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, PublicEncryptingKey};
use serde::{Deserialize, Serialize};

use crate::der::{indefinite, integer, of, oid, tag, value};
use crate::text::random;

/// 1.2.840.113549.1.7.3
const ENVELOPED_DATA: [u8; 9] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x03];
/// 1.2.840.113549.1.7.1
const DATA: [u8; 9] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01];
/// 1.2.840.113549.1.1.7
const RSAES_OAEP: [u8; 9] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x07];
/// 1.2.840.113549.1.1.8
const MGF1: [u8; 9] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x08];
/// 2.16.840.1.101.3.4.2.1
const SHA_256: [u8; 9] = [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01];
/// 2.16.840.1.101.3.4.1.42
const AES_256_CBC: [u8; 9] = [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x01, 0x2a];
/// Bytes a chunk in [`CmsShape::ManyChunks`].
const SMALL_CHUNK: usize = 16;

/// How the encrypted content is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CmsShape {
    /// `a0 80 04 … 00 00`: a constructed string of one chunk, the usual answer of AWS KMS.
    #[default]
    Chunked,
    /// `80 …`: a primitive string, seen from AWS KMS too.
    Primitive,
    /// A constructed string of 16-byte chunks: allowed by BER, not seen.
    ManyChunks,
}

/// Why nothing was enveloped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CmsError {
    /// The recipient's key is no RSA key in a SubjectPublicKeyInfo.
    #[error("the recipient's key is not an RSA key")]
    Key,
    /// A cryptographic step failed.
    #[error("encrypting for the recipient failed")]
    Crypto,
}

/// Encrypts `plaintext` to the RSA key `spki` (DER SubjectPublicKeyInfo).
///
/// # Errors
/// [`CmsError`].
pub fn envelop(spki: &[u8], plaintext: &[u8], shape: CmsShape) -> Result<Vec<u8>, CmsError> {
    let key = PublicEncryptingKey::from_der(spki).map_err(|_| CmsError::Key)?;
    let key = OaepPublicEncryptingKey::new(key).map_err(|_| CmsError::Key)?;
    let content_key = random::<32>().map_err(|_| CmsError::Crypto)?;
    let mut encrypted_key = vec![0; key.ciphertext_size()];
    key.encrypt(
        &OAEP_SHA256_MGF1SHA256,
        &content_key,
        &mut encrypted_key,
        None,
    )
    .map_err(|_| CmsError::Crypto)?;
    let cipher = UnboundCipherKey::new(&AES_256, &content_key).map_err(|_| CmsError::Crypto)?;
    let cipher = PaddedBlockEncryptingKey::cbc_pkcs7(cipher).map_err(|_| CmsError::Crypto)?;
    let mut content = plaintext.to_vec();
    let context = cipher.encrypt(&mut content).map_err(|_| CmsError::Crypto)?;
    let DecryptionContext::Iv128(iv) = context else {
        return Err(CmsError::Crypto);
    };
    let identifier = digest(&SHA256, spki);
    Ok(write(
        identifier.as_ref(),
        &encrypted_key,
        iv.as_ref(),
        &content,
        shape,
    ))
}

fn write(
    identifier: &[u8],
    encrypted_key: &[u8],
    iv: &[u8],
    content: &[u8],
    shape: CmsShape,
) -> Vec<u8> {
    let version_2 = integer(&[2]);
    let sha256 = of(tag::SEQUENCE, &[&oid(&SHA_256), &value(tag::NULL, &[])]);
    let mask = of(tag::SEQUENCE, &[&oid(&MGF1), &sha256]);
    let parameters = of(
        tag::SEQUENCE,
        &[
            &value(tag::constructed(0), &sha256),
            &value(tag::constructed(1), &mask),
        ],
    );
    let recipient = of(
        tag::SEQUENCE,
        &[
            &version_2,
            &value(tag::context(0), identifier),
            &of(tag::SEQUENCE, &[&oid(&RSAES_OAEP), &parameters]),
            &value(tag::OCTET_STRING, encrypted_key),
        ],
    );
    let chunks = |size: usize| {
        let chunks: Vec<Vec<u8>> = content
            .chunks(size.max(1))
            .map(|chunk| value(tag::OCTET_STRING, chunk))
            .collect();
        indefinite(tag::constructed(0), &[&chunks.concat()])
    };
    let encrypted = match shape {
        CmsShape::Chunked => chunks(content.len()),
        CmsShape::ManyChunks => chunks(SMALL_CHUNK),
        CmsShape::Primitive => value(tag::context(0), content),
    };
    let algorithm = of(
        tag::SEQUENCE,
        &[&oid(&AES_256_CBC), &value(tag::OCTET_STRING, iv)],
    );
    let content_info = indefinite(tag::SEQUENCE, &[&oid(&DATA), &algorithm, &encrypted]);
    let enveloped = indefinite(
        tag::SEQUENCE,
        &[&version_2, &value(tag::SET, &recipient), &content_info],
    );
    indefinite(
        tag::SEQUENCE,
        &[
            &oid(&ENVELOPED_DATA),
            &indefinite(tag::constructed(0), &[&enveloped]),
        ],
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::text::unhex;
    use std::path::{Path, PathBuf};

    fn fixture(name: &str) -> Option<Vec<u8>> {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/fixtures/cms");
        let bytes = std::fs::read::<PathBuf>(directory.join(name)).ok();
        if bytes.is_none() {
            println!("skipped: ../shared/fixtures not present");
        }
        bytes
    }

    /// Identifier, encrypted key, IV and content lie at the same places in every answer to an RSA-2048 key.
    fn rewritten(genuine: &[u8], content: &[u8], shape: CmsShape) -> Vec<u8> {
        write(
            &genuine[33..65],
            &genuine[131..387],
            &genuine[415..431],
            content,
            shape,
        )
    }

    #[test]
    fn a_genuine_chunked_answer_comes_out_byte_for_byte() {
        let Some(genuine) = fixture("chunked-known-answer.ber") else {
            return;
        };
        let end = genuine.len() - 10;
        let ours = rewritten(&genuine, &genuine[435..end], CmsShape::Chunked);
        assert_eq!(ours, genuine);
    }

    #[test]
    fn a_genuine_primitive_answer_comes_out_byte_for_byte() {
        let Some(genuine) = fixture("primitive-content.ber") else {
            return;
        };
        let end = genuine.len() - 8;
        let ours = rewritten(&genuine, &genuine[433..end], CmsShape::Primitive);
        assert_eq!(ours, genuine);
    }

    #[test]
    fn an_answer_to_a_2048_bit_key_has_the_sizes_seen_from_aws() {
        let key = aws_lc_rs::rsa::PrivateDecryptingKey::generate(aws_lc_rs::rsa::KeySize::Rsa2048);
        use aws_lc_rs::encoding::AsDer;
        let spki = key
            .unwrap()
            .public_key()
            .as_der()
            .unwrap()
            .as_ref()
            .to_vec();
        for (plaintext, size) in [
            (0, 461),
            (15, 461),
            (16, 477),
            (32, 493),
            (47, 493),
            (64, 525),
        ] {
            let cms = envelop(&spki, &vec![7; plaintext], CmsShape::Chunked).unwrap();
            assert_eq!(cms.len(), size, "{plaintext} bytes");
        }
        assert_eq!(
            envelop(&spki[1..], b"x", CmsShape::Chunked),
            Err(CmsError::Key)
        );
        let ec = unhex("3059301306072a8648ce3d020106082a8648ce3d030107034200").unwrap();
        assert_eq!(envelop(&ec, b"x", CmsShape::Chunked), Err(CmsError::Key));
    }
}
