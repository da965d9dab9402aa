//! The header of a sealed blob: everything it says without being opened.

use std::sync::Arc;

use crate::cbor::{DecodeError, Reader, Writer};
use crate::lock::Lock;

/// Longest node id and key name, in bytes.
pub const MAX_NAME: usize = 255;
/// Most ways a blob may have.
pub const MAX_WAYS: usize = 8;
/// Most locks a way may have.
pub const MAX_LOCKS: usize = 4;
/// A wrapped data key: nonce 12, ciphertext 32, tag 16 bytes.
pub const WRAPPED_KEY_LENGTH: usize = 60;

/// What kind of key a blob holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyType {
    /// Any bytes: a keystore file, a password, a TLS key.
    Opaque,
    /// secp256k1 scalar, 32 bytes big-endian; public key SEC1 compressed, 33 bytes.
    Secp256k1,
    /// Ed25519 seed, 32 bytes (RFC 8032); public key 32 bytes.
    Ed25519,
    /// NIST P-256 scalar, 32 bytes big-endian; public key SEC1 compressed, 33 bytes.
    P256,
    /// BLS12-381 scalar, 32 bytes big-endian; public key in G1, compressed, 48 bytes.
    Bls12381,
}

impl KeyType {
    /// Every key type.
    pub const ALL: [Self; 5] = [
        Self::Opaque,
        Self::Secp256k1,
        Self::Ed25519,
        Self::P256,
        Self::Bls12381,
    ];

    /// Name in blobs, configuration and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Opaque => "opaque",
            Self::Secp256k1 => "secp256k1",
            Self::Ed25519 => "ed25519",
            Self::P256 => "p256",
            Self::Bls12381 => "bls12-381",
        }
    }

    /// The type of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Length of the public key in bytes; none for opaque bytes, which have no public half.
    #[must_use]
    pub fn public_key_length(self) -> Option<usize> {
        match self {
            Self::Opaque => None,
            Self::Secp256k1 | Self::P256 => Some(33),
            Self::Ed25519 => Some(32),
            Self::Bls12381 => Some(48),
        }
    }
}

/// What may happen to the key once it is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// It is handed to the node process.
    Deliver,
    /// It stays in the trusted side, which signs with it.
    Sign,
}

impl Release {
    /// Name in blobs, configuration and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Deliver => "deliver",
            Self::Sign => "sign",
        }
    }

    /// The release mode of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Deliver, Self::Sign]
            .into_iter()
            .find(|release| release.name() == name)
    }
}

/// The header, in the order of its keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The node the key belongs to.
    pub node: String,
    /// The key's name within the node.
    pub name: String,
    /// What kind of key it is.
    pub key_type: KeyType,
    /// Its public key (see [`KeyType`] for the encodings); none for opaque bytes.
    pub public_key: Option<Vec<u8>>,
    /// What may happen to it once open.
    pub release: Release,
    /// Counts the rotations of this key, from 0.
    pub generation: u64,
    /// When it was sealed by the agent's clock, in seconds since 1970-01-01 UTC. Informational.
    pub created: u64,
    /// Salt of the content key.
    pub salt: [u8; 32],
    /// Which data key it is sealed under; blobs sealed together share it.
    pub data_key_id: [u8; 16],
    /// The ways to the data key: any one opens. Headers read with the same [`KnownWays`] share them.
    pub ways: Arc<[Way]>,
}

/// The ways read last, with their encoding. Blobs sealed together have the very same ones, and reading them is most of
/// what reading a header costs: with this they are compared instead.
#[derive(Debug, Default)]
pub struct KnownWays {
    encoded: Vec<u8>,
    ways: Arc<[Way]>,
}

impl KnownWays {
    /// Reads the ways, the last entry of a header, to its end.
    fn read(&mut self, encoded: &[u8]) -> Result<Arc<[Way]>, DecodeError> {
        // No ways encode to nothing, so an empty memory is never taken for them.
        if self.encoded != encoded {
            let mut r = Reader::new(encoded);
            let count = r.array("ways", 1, MAX_WAYS)?;
            let mut ways = Vec::with_capacity(count);
            for _ in 0..count {
                ways.push(Way::decode(&mut r)?);
            }
            r.finish("header")?;
            self.ways = ways.into();
            self.encoded.clear();
            self.encoded.extend_from_slice(encoded);
        }
        Ok(Arc::clone(&self.ways))
    }
}

/// One way to the data key: all its locks together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// What the operator calls it.
    pub label: String,
    /// All of these must open.
    pub locks: Vec<Lock>,
    /// The data key under the key encryption key the locks yield: nonce, ciphertext, tag.
    pub wrapped_data_key: [u8; WRAPPED_KEY_LENGTH],
}

/// Checks a node id or key name: 1 to 255 ASCII letters, digits and `._-+@:/`, not starting with `/` or `.`, no `..`.
///
/// # Errors
/// Names the field and what stands there.
pub fn check_name(field: &'static str, name: &str) -> Result<(), DecodeError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-+@:/".contains(c);
    let well_formed = (1..=MAX_NAME).contains(&name.len())
        && name.chars().all(allowed)
        && !name.starts_with(['/', '.'])
        && !name.contains("..");
    if well_formed {
        return Ok(());
    }
    Err(DecodeError::expected(
        field,
        "1 to 255 letters, digits and ._-+@:/ (not starting with / or ., without ..)",
        format!("{name:?}"),
    ))
}

/// Checks that each lock may stand where it stands: a lock bound to an identity only, not to measured software, opens
/// for anyone with that identity, so it needs a `tpm` lock beside it.
///
/// # Errors
/// Names the kinds found.
pub fn check_locks(locks: &[Lock]) -> Result<(), DecodeError> {
    let has_tpm = locks.iter().any(|lock| matches!(lock, Lock::Tpm(_)));
    let identity_only = |lock: &Lock| match lock {
        Lock::AwsKms(kms) if !kms.attested => {
            Some("a \"tpm\" lock beside an \"aws-kms\" lock without attestation")
        }
        Lock::AzureUnwrap(_) => Some(
            "a \"tpm\" lock beside an \"azure-unwrap\" lock, which opens for whoever has the identity, whatever software \
             that runs",
        ),
        _ => None,
    };
    match locks.iter().find_map(identity_only) {
        Some(expected) if !has_tpm => Err(DecodeError::expected("locks", expected, "none")),
        _ => Ok(()),
    }
}

impl Header {
    /// Deterministic encoding.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.map(10);
        w.uint(1).text(&self.node);
        w.uint(2).text(&self.name);
        w.uint(3).text(self.key_type.name());
        w.uint(4)
            .optional(self.public_key.as_deref(), Writer::bytes);
        w.uint(5).text(self.release.name());
        w.uint(6).uint(self.generation);
        w.uint(7).uint(self.created);
        w.uint(8).bytes(&self.salt);
        w.uint(9).bytes(&self.data_key_id);
        w.uint(10).array(self.ways.len());
        for way in self.ways.iter() {
            way.encode(&mut w);
        }
        w.finish()
    }

    /// Reads a header.
    ///
    /// # Errors
    /// When it is not exactly the encoding docs/format.md specifies.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        Self::decode_with(bytes, &mut KnownWays::default())
    }

    /// Reads one of many headers, most of which have the same ways.
    ///
    /// # Errors
    /// As [`Header::decode`].
    pub fn decode_with(bytes: &[u8], known: &mut KnownWays) -> Result<Self, DecodeError> {
        let r = &mut Reader::new(bytes);
        r.map("header", 10)?;
        r.exactly("header key", 1)?;
        let node = r.text("node", 1, MAX_NAME)?.to_owned();
        check_name("node", &node)?;
        r.exactly("header key", 2)?;
        let name = r.text("name", 1, MAX_NAME)?.to_owned();
        check_name("name", &name)?;
        r.exactly("header key", 3)?;
        let key_type = decode_key_type(r)?;
        r.exactly("header key", 4)?;
        let public_key = decode_public_key(r, key_type)?;
        r.exactly("header key", 5)?;
        let release = decode_release(r)?;
        r.exactly("header key", 6)?;
        let generation = r.uint("generation", u64::MAX)?;
        r.exactly("header key", 7)?;
        let created = r.uint("created", u64::MAX)?;
        r.exactly("header key", 8)?;
        let salt = r.array_of("salt")?;
        r.exactly("header key", 9)?;
        let data_key_id = r.array_of("data key id")?;
        r.exactly("header key", 10)?;
        let ways = known.read(r.rest())?;
        Ok(Self {
            node,
            name,
            key_type,
            public_key,
            release,
            generation,
            created,
            salt,
            data_key_id,
            ways,
        })
    }
}

impl Way {
    fn encode(&self, w: &mut Writer) {
        w.map(3).uint(1).text(&self.label).uint(2);
        encode_locks(&self.locks, w);
        w.uint(3).bytes(&self.wrapped_data_key);
    }

    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.map("way", 3)?;
        r.exactly("way key", 1)?;
        let label = r.text("label", 1, MAX_NAME)?.to_owned();
        check_name("label", &label)?;
        r.exactly("way key", 2)?;
        let count = r.array("locks", 1, MAX_LOCKS)?;
        let mut locks = Vec::with_capacity(count);
        for _ in 0..count {
            locks.push(Lock::decode(r)?);
        }
        check_locks(&locks)?;
        r.exactly("way key", 3)?;
        Ok(Self {
            label,
            locks,
            wrapped_data_key: r.array_of("wrapped data key")?,
        })
    }
}

/// The encoding of a way's locks: what its key encryption key is bound to.
#[must_use]
pub fn encoded_locks(locks: &[Lock]) -> Vec<u8> {
    let mut w = Writer::new();
    encode_locks(locks, &mut w);
    w.finish()
}

fn encode_locks(locks: &[Lock], w: &mut Writer) {
    w.array(locks.len());
    for lock in locks {
        lock.encode(w);
    }
}

/// Reads a key type's name.
pub(crate) fn decode_key_type(r: &mut Reader<'_>) -> Result<KeyType, DecodeError> {
    let name = r.text("key type", 1, 32)?;
    KeyType::from_name(name).ok_or_else(|| {
        let known = KeyType::ALL.map(KeyType::name).join(", ");
        DecodeError::expected("key type", format!("one of {known}"), format!("{name:?}"))
    })
}

/// Reads a release mode's name.
pub(crate) fn decode_release(r: &mut Reader<'_>) -> Result<Release, DecodeError> {
    let name = r.text("release", 1, 16)?;
    Release::from_name(name).ok_or_else(|| {
        DecodeError::expected("release", "\"deliver\" or \"sign\"", format!("{name:?}"))
    })
}

fn decode_public_key(
    r: &mut Reader<'_>,
    key_type: KeyType,
) -> Result<Option<Vec<u8>>, DecodeError> {
    match key_type.public_key_length() {
        Some(length) => Ok(Some(r.bytes("public key", length, length)?.to_vec())),
        None if r.null() => Ok(None),
        None => Err(DecodeError::expected(
            "public key",
            "null for an opaque key",
            "something else",
        )),
    }
}
