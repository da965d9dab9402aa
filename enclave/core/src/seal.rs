//! Blobs made and opened under a data key (docs/format.md, "Content").

use std::ops::Range;

use nodeseal_memory::Secret;
use nodeseal_wire::blob::{Blob, MAX_BLOB, associated_data};
use nodeseal_wire::cbor::DecodeError;
use nodeseal_wire::header::{Header, KeyType, KnownWays, Release, Way};

use crate::crypto::{Cipher, CryptoError, KEY_LENGTH, derive_into, random};
use crate::keys::{KeyError, public_key};

/// A data key: what the ways of its blobs lead to.
pub struct DataKey {
    /// Its id, in the header of each blob.
    pub id: [u8; 16],
    /// 32 bytes.
    pub key: Secret,
}

/// What the header of a new blob says, beside what sealing adds.
#[derive(Clone, Copy)]
pub struct NewBlob<'a> {
    /// Node the key belongs to.
    pub node: &'a str,
    /// Name of the key.
    pub name: &'a str,
    /// Its type.
    pub key_type: KeyType,
    /// What may happen to it once open.
    pub release: Release,
    /// How often it was rotated.
    pub generation: u64,
    /// Seconds since 1970-01-01 UTC, by the agent's clock.
    pub created: u64,
    /// The ways to the data key.
    pub ways: &'a [Way],
}

/// Why a blob could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The bytes are no key of the stated type.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The blob would be larger than any reader takes.
    #[error("the sealed blob would have {found} bytes, at most {MAX_BLOB} are allowed")]
    TooLarge {
        /// Its length, in bytes.
        found: usize,
    },
    /// The node, name or label is not a well-formed one, or the locks may not stand together.
    #[error(transparent)]
    Header(#[from] DecodeError),
    /// No randomness or no locked memory.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
}

/// Why a blob could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The content is not authentic: changed, sealed under another key, or with another header.
    #[error(
        "the content does not authenticate: the blob was changed or belongs to another data key"
    )]
    Authentication,
    /// The key inside is not the one the header names.
    #[error("the key inside does not have the header's public key")]
    PublicKey,
    /// The key inside is no key of the header's type.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// No locked memory.
    #[error(transparent)]
    Crypto(CryptoError),
}

impl From<CryptoError> for OpenError {
    fn from(error: CryptoError) -> Self {
        match error {
            CryptoError::Authentication => Self::Authentication,
            other => Self::Crypto(other),
        }
    }
}

/// 32 bytes of locked memory that content keys are derived in, one after the other: locking a page for each would cost
/// ten times what deriving it does.
pub struct ContentKey(Secret);

impl ContentKey {
    /// An empty one.
    ///
    /// # Errors
    /// Without locked memory.
    pub fn new() -> Result<Self, CryptoError> {
        Ok(Self(Secret::zeroed(KEY_LENGTH)?))
    }

    /// `HKDF-SHA256(salt = header salt, ikm = data key, info = "nodeseal/v1/content")`.
    fn derive(&mut self, data_key: &DataKey, salt: &[u8; 32]) -> Result<Cipher, CryptoError> {
        // The domain stands here and nowhere else, so that no other key can be derived in it by accident.
        const DOMAIN: &[u8] = b"nodeseal/v1/content";
        derive_into(&mut self.0, salt, &data_key.key, &[DOMAIN])?;
        Cipher::new(&self.0)
    }
}

/// Seals a key where it lies: `key` is ciphertext afterwards.
///
/// # Errors
/// See [`SealError`].
pub fn seal(
    data_key: &DataKey,
    about: NewBlob<'_>,
    key: &mut [u8],
    content_key: &mut ContentKey,
) -> Result<Vec<u8>, SealError> {
    let header = Header {
        node: about.node.to_owned(),
        name: about.name.to_owned(),
        key_type: about.key_type,
        public_key: public_key(about.key_type, key)?,
        release: about.release,
        generation: about.generation,
        created: about.created,
        salt: random()?,
        data_key_id: data_key.id,
        ways: about.ways.into(),
    };
    let header_bytes = header.encode();
    // What no reader would take is not written.
    Header::decode(&header_bytes)?;
    let nonce = random()?;
    let cipher = content_key.derive(data_key, &header.salt)?;
    let tag = cipher.seal(nonce, &associated_data(&header_bytes), key)?;
    let blob = Blob::encode(&header_bytes, &nonce, &[&*key, &tag].concat());
    if blob.len() > MAX_BLOB {
        return Err(SealError::TooLarge { found: blob.len() });
    }
    Ok(blob)
}

/// A blob that has been read, with all that is needed to open it in the buffer it lies in.
pub struct ReadBlob {
    /// Its header, not to be believed before [`ReadBlob::open`].
    pub header: Header,
    associated: Vec<u8>,
    nonce: [u8; 12],
    ciphertext: Range<usize>,
}

impl ReadBlob {
    /// Reads the blob that lies at `place` in a buffer; `known` is the same for all blobs of a batch.
    ///
    /// # Errors
    /// When the bytes are not exactly one blob.
    pub fn parse(
        buffer: &[u8],
        place: Range<usize>,
        known: &mut KnownWays,
    ) -> Result<Self, DecodeError> {
        let start = place.start;
        let bytes = buffer.get(place).ok_or_else(|| {
            DecodeError::expected("blob", "bytes in the payload", "the end of the payload")
        })?;
        let blob = Blob::parse_with(bytes, known)?;
        // Both sums are positions within `buffer`.
        let from = start.saturating_add(blob.ciphertext_range.start);
        let to = start.saturating_add(blob.ciphertext_range.end);
        Ok(Self {
            associated: associated_data(blob.header_bytes),
            nonce: blob.nonce,
            ciphertext: from..to,
            header: blob.header,
        })
    }

    /// Opens the content where it lies and says where the key now is.
    ///
    /// # Errors
    /// See [`OpenError`]. The buffer holds no plaintext then.
    pub fn open(
        &self,
        data_key: &DataKey,
        buffer: &mut Secret,
        content_key: &mut ContentKey,
    ) -> Result<Range<usize>, OpenError> {
        let content = buffer
            .expose_mut()
            .get_mut(self.ciphertext.clone())
            .ok_or(OpenError::Authentication)?;
        let cipher = content_key.derive(data_key, &self.header.salt)?;
        cipher.open(self.nonce, &self.associated, content)?;
        let length = content.len().saturating_sub(crate::crypto::TAG_LENGTH);
        let key = content.get_mut(..length).ok_or(OpenError::Authentication)?;
        let found = public_key(self.header.key_type, key);
        let same = matches!(&found, Ok(public) if *public == self.header.public_key);
        if !same {
            key.fill(0);
            found?;
            return Err(OpenError::PublicKey);
        }
        Ok(self.ciphertext.start..self.ciphertext.start.saturating_add(length))
    }
}

#[cfg(test)]
mod tests;
