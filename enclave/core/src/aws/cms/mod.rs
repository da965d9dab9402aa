//! `CiphertextForRecipient`: the CMS EnvelopedData (RFC 5652 §6) in which AWS KMS answers an attested request.
//!
//! One shape is read, the one KMS emits, with the content as one primitive or in chunks; every deviation is an error of
//! its own. What the format cannot give is authenticity: the content is AES-CBC under a key that anybody can wrap to
//! our public key, which travels in clear, and a flipped bit of the IV flips the same bit of the plaintext. So who
//! answered is known from TLS alone, which ends here, and the 32 bytes that come out are used only as input to the key
//! of an AEAD ([`crate::keyring`]), which a changed byte makes fail. CBC's padding is checked by comparison that takes
//! different times, which tells nothing: a recipient key opens one answer.

mod ber;

use aws_lc_rs::cipher::{AES_256, DecryptionContext, PaddedBlockDecryptingKey, UnboundCipherKey};
use nodeseal_memory::{LockMemoryError, Secret};

use super::recipient::RecipientKey;
use ber::{Ber, INTEGER, OBJECT_IDENTIFIER, OCTET_STRING, SEQUENCE, SET};

/// Longest CiphertextForRecipient, in bytes (API_Decrypt, "CiphertextForRecipient").
pub const MAX_LENGTH: usize = 6144;
/// Length of an RSA-2048 ciphertext, in bytes.
pub const ENCRYPTED_KEY_LENGTH: usize = 256;
/// Length of the recipient's id, SHA-256 of its SubjectPublicKeyInfo, in bytes.
pub const RECIPIENT_ID_LENGTH: usize = 32;
const CONTENT_KEY_LENGTH: usize = 32;
const BLOCK: usize = 16;

/// id-envelopedData, 1.2.840.113549.1.7.3.
const ENVELOPED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x03];
/// id-data, 1.2.840.113549.1.7.1.
const DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01];
/// aes256-CBC, 2.16.840.1.101.3.4.1.42.
const AES_256_CBC: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x01, 0x2a];
/// Contents of the AlgorithmIdentifier of RSAES-OAEP (RFC 4055 §4.1) with SHA-256, MGF1 of SHA-256 and no label.
const OAEP_SHA256: &[u8] = &[
    0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x07, // id-RSAES-OAEP
    0x30, 0x2f, // RSAES-OAEP-params
    0xa0, 0x0f, 0x30, 0x0d, // [0] hashFunc
    0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, // sha256
    0xa1, 0x1c, 0x30, 0x1a, // [1] maskGenFunc
    0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x08, // id-mgf1
    0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00,
];

/// `[0]`, constructed.
const CONTEXT_0_CONSTRUCTED: u8 = 0xa0;
/// `[0]`, primitive.
const CONTEXT_0: u8 = 0x80;

/// The answer is not what KMS emits, or does not open.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CmsError {
    /// Longer than KMS ever answers.
    #[error("{found} bytes, where at most {MAX_LENGTH} are allowed")]
    TooLarge {
        /// Bytes given.
        found: usize,
    },
    /// The bytes end within a field.
    #[error("the bytes end within the {what}")]
    Truncated {
        /// The field.
        what: &'static str,
    },
    /// Another type than the one that belongs here.
    #[error("the {what} has tag {found:#04x}, where {expected:#04x} is expected")]
    Tag {
        /// The field.
        what: &'static str,
        /// Identifier octet expected (X.690 §8.1.2).
        expected: u8,
        /// Identifier octet found.
        found: u8,
    },
    /// A length that is indefinite, not minimal, or too long.
    #[error("the length of the {what} is not of a form KMS uses")]
    Length {
        /// The field.
        what: &'static str,
    },
    /// No end-of-contents after a value of indefinite length.
    #[error("the {what} is not ended by two zero bytes")]
    Unterminated {
        /// The field.
        what: &'static str,
    },
    /// Bytes that belong to nothing.
    #[error("{found} bytes too many in or after the {what}")]
    Trailing {
        /// The field.
        what: &'static str,
        /// How many.
        found: usize,
    },
    /// An object identifier or algorithm other than the one KMS uses.
    #[error("the {what} is not {expected}")]
    Algorithm {
        /// The field.
        what: &'static str,
        /// Name of the one expected.
        expected: &'static str,
    },
    /// A syntax version other than 2.
    #[error("the {what} is not 2")]
    Version {
        /// The field.
        what: &'static str,
    },
    /// A field of another length than it always has.
    #[error("the {what} has {found} bytes, where {expected} are expected")]
    FieldLength {
        /// The field.
        what: &'static str,
        /// Bytes expected.
        expected: usize,
        /// Bytes found.
        found: usize,
    },
    /// Encrypted to another key than the one in our attestation document.
    #[error(
        "the content is encrypted to another recipient key than the one attested for this request"
    )]
    Recipient,
    /// The encrypted content key does not decrypt with our recipient key.
    #[error("the content key does not decrypt")]
    ContentKey,
    /// The padding of the decrypted content is wrong.
    #[error("the content does not decrypt")]
    Content,
    /// No locked memory.
    #[error("no memory for the content: {0}")]
    Memory(String),
}

impl From<LockMemoryError> for CmsError {
    fn from(error: LockMemoryError) -> Self {
        Self::Memory(error.to_string())
    }
}

/// A CiphertextForRecipient that was read, of which nothing is proved.
#[derive(Debug, PartialEq, Eq)]
pub struct Envelope {
    recipient: [u8; RECIPIENT_ID_LENGTH],
    encrypted_key: [u8; ENCRYPTED_KEY_LENGTH],
    iv: [u8; BLOCK],
    content: Vec<u8>,
}

impl Envelope {
    /// Reads an answer of KMS, BER, of at most [`MAX_LENGTH`] bytes.
    ///
    /// # Errors
    /// Whatever deviates from the shape KMS emits, see [`CmsError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, CmsError> {
        if bytes.len() > MAX_LENGTH {
            return Err(CmsError::TooLarge { found: bytes.len() });
        }
        let mut ber = Ber::new(bytes);
        let envelope = ber.constructed("ContentInfo", SEQUENCE, |ber| {
            expect(ber, "content type", ENVELOPED_DATA, "envelopedData")?;
            ber.constructed("ContentInfo content", CONTEXT_0_CONSTRUCTED, |ber| {
                ber.constructed("EnvelopedData", SEQUENCE, enveloped_data)
            })
        })?;
        ber.end("ContentInfo")?;
        Ok(envelope)
    }

    /// Opens the answer to a request that presented `key`, for content of `length` bytes.
    ///
    /// # Errors
    /// When it is encrypted to another key, does not decrypt, or holds another number of bytes.
    pub fn open(&self, key: &RecipientKey, length: usize) -> Result<Secret, CmsError> {
        // Not secret: the id is in clear in the answer, and the public key in the request.
        if &self.recipient != key.id() {
            return Err(CmsError::Recipient);
        }
        let content_key = key.unwrap(&self.encrypted_key)?;
        self.decrypt(&content_key, length)
    }

    fn decrypt(&self, content_key: &Secret, length: usize) -> Result<Secret, CmsError> {
        check_length("content key", CONTENT_KEY_LENGTH, content_key.len())?;
        // PKCS#7 always pads, by 1 to 16 bytes.
        let padded = (length / BLOCK).saturating_add(1).saturating_mul(BLOCK);
        check_length("encrypted content", padded, self.content.len())?;
        let mut content = Secret::zeroed(padded)?;
        content.expose_mut().copy_from_slice(&self.content);
        let opened = UnboundCipherKey::new(&AES_256, content_key.expose())
            .and_then(PaddedBlockDecryptingKey::cbc_pkcs7)
            .and_then(|cipher| {
                let iv = DecryptionContext::Iv128(self.iv.into());
                cipher
                    .decrypt(content.expose_mut(), iv)
                    .map(|opened| opened.len())
            })
            .map_err(|_| CmsError::Content)?;
        check_length("content", length, opened)?;
        content.truncate(opened);
        Ok(content)
    }
}

fn enveloped_data(ber: &mut Ber<'_>) -> Result<Envelope, CmsError> {
    version(ber, "EnvelopedData version")?;
    let (recipient, encrypted_key) = ber.constructed("recipients", SET, |ber| {
        ber.constructed("recipient", SEQUENCE, recipient)
    })?;
    let (iv, content) = ber.constructed("EncryptedContentInfo", SEQUENCE, |ber| {
        expect(ber, "encrypted content type", DATA, "data")?;
        let iv = ber.constructed("content encryption algorithm", SEQUENCE, |ber| {
            let what = "content encryption algorithm";
            expect(ber, what, AES_256_CBC, "AES-256-CBC")?;
            field("IV", ber.primitive("IV", OCTET_STRING)?)
        })?;
        Ok((iv, encrypted_content(ber)?))
    })?;
    Ok(Envelope {
        recipient,
        encrypted_key,
        iv,
        content,
    })
}

/// KeyTransRecipientInfo (RFC 5652 §6.2.1).
#[allow(clippy::type_complexity)]
fn recipient(
    ber: &mut Ber<'_>,
) -> Result<([u8; RECIPIENT_ID_LENGTH], [u8; ENCRYPTED_KEY_LENGTH]), CmsError> {
    version(ber, "recipient version")?;
    let id = field("recipient id", ber.primitive("recipient id", CONTEXT_0)?)?;
    let what = "key encryption algorithm";
    if ber.primitive(what, SEQUENCE)? != OAEP_SHA256 {
        let expected = "RSAES-OAEP with SHA-256, MGF1 of SHA-256 and no label";
        return Err(CmsError::Algorithm { what, expected });
    }
    let what = "encrypted key";
    Ok((id, field(what, ber.primitive(what, OCTET_STRING)?)?))
}

/// `[0] IMPLICIT OCTET STRING`: whole, or in chunks of which none is empty.
fn encrypted_content(ber: &mut Ber<'_>) -> Result<Vec<u8>, CmsError> {
    let what = "encrypted content";
    if ber.peek() == Some(CONTEXT_0) {
        return Ok(ber.primitive(what, CONTEXT_0)?.to_vec());
    }
    ber.constructed(what, CONTEXT_0_CONSTRUCTED, |ber| {
        let mut content = Vec::new();
        while ber.peek() == Some(OCTET_STRING) {
            let what = "chunk of the encrypted content";
            let chunk = ber.primitive(what, OCTET_STRING)?;
            if chunk.is_empty() {
                return Err(CmsError::Length { what });
            }
            content.extend_from_slice(chunk);
        }
        Ok(content)
    })
}

fn version(ber: &mut Ber<'_>, what: &'static str) -> Result<(), CmsError> {
    match ber.primitive(what, INTEGER)? {
        [2] => Ok(()),
        _ => Err(CmsError::Version { what }),
    }
}

fn expect(
    ber: &mut Ber<'_>,
    what: &'static str,
    identifier: &[u8],
    expected: &'static str,
) -> Result<(), CmsError> {
    if ber.primitive(what, OBJECT_IDENTIFIER)? == identifier {
        Ok(())
    } else {
        Err(CmsError::Algorithm { what, expected })
    }
}

fn field<const N: usize>(what: &'static str, bytes: &[u8]) -> Result<[u8; N], CmsError> {
    bytes.try_into().map_err(|_| CmsError::FieldLength {
        what,
        expected: N,
        found: bytes.len(),
    })
}

fn check_length(what: &'static str, expected: usize, found: usize) -> Result<(), CmsError> {
    if found == expected {
        Ok(())
    } else {
        Err(CmsError::FieldLength {
            what,
            expected,
            found,
        })
    }
}

#[cfg(test)]
pub(super) mod tests;
