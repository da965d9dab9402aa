//! The few primitives blobs are made of, all from aws-lc-rs: HKDF-SHA256 (RFC 5869), AES-256-GCM (NIST SP 800-38D).

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use nodeseal_memory::{LockMemoryError, Secret};

/// Length of every symmetric key here, in bytes.
pub const KEY_LENGTH: usize = 32;
/// Length of a nonce, in bytes.
pub const NONCE_LENGTH: usize = 12;
/// Length of a tag, in bytes.
pub const TAG_LENGTH: usize = 16;

/// A primitive could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum CryptoError {
    /// Wrong key, wrong associated data or changed bytes; AES-GCM cannot tell which.
    #[error("authentication failed")]
    Authentication,
    /// The library refused: no randomness, or a length it does not take.
    #[error("the cryptographic library failed")]
    Library,
    /// No locked memory.
    #[error(transparent)]
    Memory(#[from] LockMemoryError),
}

impl From<Unspecified> for CryptoError {
    fn from(_: Unspecified) -> Self {
        Self::Library
    }
}

/// `N` fresh random bytes that are no secret: nonces, salts, ids.
///
/// # Errors
/// When the system has no randomness.
pub fn random<const N: usize>() -> Result<[u8; N], CryptoError> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes)?;
    Ok(bytes)
}

/// A fresh random key of 32 bytes.
///
/// # Errors
/// When the system has no randomness or no locked memory.
pub fn random_key() -> Result<Secret, CryptoError> {
    let mut key = Secret::zeroed(KEY_LENGTH)?;
    aws_lc_rs::rand::fill(key.expose_mut())?;
    Ok(key)
}

struct Length;

impl KeyType for Length {
    fn len(&self) -> usize {
        KEY_LENGTH
    }
}

/// `HKDF-SHA256(salt, input, info)`, 32 bytes, written over `output`.
///
/// # Errors
/// When `output` is not 32 bytes long.
pub fn derive_into(
    output: &mut Secret,
    salt: &[u8],
    input: &Secret,
    info: &[&[u8]],
) -> Result<(), CryptoError> {
    let pseudorandom = Salt::new(HKDF_SHA256, salt).extract(input.expose());
    let expanded = pseudorandom.expand(info, Length)?;
    Ok(expanded.fill(output.expose_mut())?)
}

/// AES-256-GCM under one key.
pub struct Cipher(LessSafeKey);

impl Cipher {
    /// The cipher with this key.
    ///
    /// # Errors
    /// When the key is not 32 bytes long.
    pub fn new(key: &Secret) -> Result<Self, CryptoError> {
        let key = UnboundKey::new(&AES_256_GCM, key.expose())?;
        Ok(Self(LessSafeKey::new(key)))
    }

    /// Encrypts `content` where it stands and gives the tag.
    ///
    /// The nonce must be fresh and random: with random 96-bit nonces at most 2^32 messages may be made under one key
    /// (SP 800-38D section 8.3). Every key here is used once or, a content key, for one blob.
    ///
    /// # Errors
    /// When the library refuses the length.
    pub fn seal(
        &self,
        nonce: [u8; NONCE_LENGTH],
        associated: &[u8],
        content: &mut [u8],
    ) -> Result<[u8; TAG_LENGTH], CryptoError> {
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self
            .0
            .seal_in_place_separate_tag(nonce, Aad::from(associated), content)?;
        tag.as_ref().try_into().map_err(|_| CryptoError::Library)
    }

    /// Decrypts ciphertext and tag where they stand; the plaintext is then the first `length - 16` bytes.
    ///
    /// # Errors
    /// [`CryptoError::Authentication`], and only that, whatever is wrong.
    pub fn open(
        &self,
        nonce: [u8; NONCE_LENGTH],
        associated: &[u8],
        content: &mut [u8],
    ) -> Result<(), CryptoError> {
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.0
            .open_in_place(nonce, Aad::from(associated), content)
            .map(drop)
            .map_err(|_| CryptoError::Authentication)
    }
}
