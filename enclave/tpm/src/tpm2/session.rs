//! Sessions salted to an elliptic-curve key: every command and answer under an HMAC, parameters encrypted
//! (part 1, clauses 17 to 21 and annex C.6).

use aws_lc_rs::agreement::{ECDH_P256, EphemeralPrivateKey, UnparsedPublicKey, agree_ephemeral};
use aws_lc_rs::cipher::{
    AES_128, DecryptingKey, DecryptionContext, EncryptingKey, EncryptionContext, UnboundCipherKey,
};
use aws_lc_rs::digest::{Context, SHA256};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hmac::{self, HMAC_SHA256};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::rand::{SystemRandom, fill};
use nodeseal_memory::Secret;

use super::command::{Answer, Code};
use crate::error::TpmError;
use crate::structures::{Fields, Name, Template, push_sized};

/// Length of everything SHA-256 makes: nonces, keys, HMACs.
const DIGEST: usize = 32;
/// AES-128: key and initial counter come out of one derivation.
const AES_KEY: usize = 16;

/// TPMA_SESSION (part 2, 8.4).
#[derive(Clone, Copy)]
pub(super) struct Attributes(u8);

impl Attributes {
    const DECRYPT: u8 = 0x20;
    const ENCRYPT: u8 = 0x40;

    /// The last command of its session, its parameter and that of its answer encrypted.
    pub(super) const LAST_BOTH_ENCRYPTED: Self = Self(Self::DECRYPT | Self::ENCRYPT);
    /// The last command of its session, its answer's parameter encrypted.
    pub(super) const LAST_ANSWER_ENCRYPTED: Self = Self(Self::ENCRYPT);
    /// Only the HMAC is wanted (audit); the session goes on (continueSession).
    pub(super) const AUDIT: Self = Self(0x80 | 0x01);
}

/// What a session is for (TPM_SE, part 2, 6.11).
#[derive(Clone, Copy)]
#[repr(u8)]
pub(super) enum Kind {
    Hmac = 0,
    Policy = 1,
}

/// A secret that only the TPM with a certain key can learn.
pub(super) struct Salt {
    secret: Secret,
    /// TPM2B_ENCRYPTED_SECRET: the ephemeral point.
    encrypted: Vec<u8>,
}

impl Salt {
    /// A fresh one for the key with this public area: `KDFe(SHA-256, Z, "SECRET", ephemeral x, key's x)`.
    ///
    /// # Errors
    /// When the public area is not a storage root key's, or without randomness.
    pub(super) fn to(public: &[u8]) -> Result<Self, TpmError> {
        let no_point = || Code::READ_PUBLIC.bad("a key without a point of P-256");
        let point = Template::Srk.point(public).ok_or_else(no_point)?;
        let private = EphemeralPrivateKey::generate(&ECDH_P256, &SystemRandom::new())
            .map_err(no_randomness)?;
        let ephemeral = private.compute_public_key().map_err(no_randomness)?;
        let (ours, theirs) = (halves(ephemeral.as_ref()), halves(&point));
        let ((ours_x, ours_y), (theirs_x, _)) = ours.zip(theirs).ok_or_else(no_point)?;
        let mut secret = Secret::zeroed(DIGEST)?;
        let peer = UnparsedPublicKey::new(&ECDH_P256, &point);
        agree_ephemeral(private, peer, no_point(), |z| {
            let mut hash = Context::new(&SHA256);
            for part in [&1u32.to_be_bytes(), z, b"SECRET\0", ours_x, theirs_x] {
                hash.update(part);
            }
            secret.expose_mut().copy_from_slice(hash.finish().as_ref());
            Ok(())
        })?;
        let mut pair = Vec::new();
        push_sized(&mut pair, ours_x);
        push_sized(&mut pair, ours_y);
        let mut encrypted = Vec::new();
        push_sized(&mut encrypted, &pair);
        Ok(Self { secret, encrypted })
    }
}

/// A session under way.
pub(super) struct Session {
    pub(super) handle: u32,
    key: Secret,
    nonce_caller: [u8; DIGEST],
    nonce_tpm: Vec<u8>,
}

/// The first half of a session: what TPM2_StartAuthSession is asked with.
pub(super) struct Beginning {
    salt: Salt,
    nonce: [u8; DIGEST],
}

impl Beginning {
    /// For the key with this public area.
    ///
    /// # Errors
    /// As [`Salt::to`].
    pub(super) fn salted_to(public: &[u8]) -> Result<Self, TpmError> {
        Ok(Self {
            salt: Salt::to(public)?,
            nonce: fresh_nonce()?,
        })
    }

    /// Parameters of TPM2_StartAuthSession (part 3, 11.1): AES-128-CFB for parameters, SHA-256.
    pub(super) fn parameters(&self, kind: Kind) -> Vec<u8> {
        let mut out = Vec::new();
        push_sized(&mut out, &self.nonce);
        out.extend(&self.salt.encrypted);
        out.push(kind as u8);
        out.extend([0x00, 0x06, 0x00, 0x80, 0x00, 0x43, 0x00, 0x0B]);
        out
    }

    /// The session the TPM has started.
    ///
    /// # Errors
    /// When the answer is none to TPM2_StartAuthSession.
    pub(super) fn started(self, answer: &Answer) -> Result<Session, TpmError> {
        let code = Code::START_AUTH_SESSION;
        let mut fields = Fields(&answer.parameters);
        let nonce = fields
            .sized()
            .filter(|nonce| (AES_KEY..=2 * DIGEST).contains(&nonce.len()) && fields.0.is_empty());
        let (Some(nonce), Some(handle)) = (nonce, answer.handle) else {
            return Err(code.bad("not a handle and a nonce"));
        };
        let mut key = Secret::zeroed(DIGEST)?;
        let derived = kdf_a(self.salt.secret.expose(), b"ATH\0", nonce, &self.nonce);
        key.expose_mut().copy_from_slice(derived.as_ref());
        Ok(Session {
            handle,
            key,
            nonce_caller: self.nonce,
            nonce_tpm: nonce.to_vec(),
        })
    }
}

impl Session {
    /// The session's part of a command (TPMS_AUTH_COMMAND), with the command's first parameter encrypted where the
    /// attributes say so. `names` are those of the command's handles.
    ///
    /// # Errors
    /// Without randomness.
    pub(super) fn authorize(
        &mut self,
        code: Code,
        names: &[Name],
        parameters: &mut [u8],
        attributes: Attributes,
    ) -> Result<Vec<u8>, TpmError> {
        self.nonce_caller = fresh_nonce()?;
        if attributes.0 & Attributes::DECRYPT != 0 {
            self.encrypt(first_content(parameters).unwrap_or_default())
                .map_err(no_cipher)?;
        }
        let mut hash = Context::new(&SHA256);
        hash.update(&code.number.to_be_bytes());
        for name in names {
            hash.update(&name.0);
        }
        hash.update(parameters);
        let proof = hmac::sign(
            &self.hmac_key(),
            &self.proved(hash, &self.nonce_caller, &self.nonce_tpm, attributes.0),
        );
        let mut out = self.handle.to_be_bytes().to_vec();
        push_sized(&mut out, &self.nonce_caller);
        out.push(attributes.0);
        push_sized(&mut out, proof.as_ref());
        Ok(out)
    }

    /// Verifies the session's part of an answer (TPMS_AUTH_RESPONSE): from now on its parameters are the TPM's.
    ///
    /// # Errors
    /// [`TpmError::ForgedAnswer`] when the HMAC is another.
    pub(super) fn verify(&mut self, code: Code, answer: &Answer) -> Result<(), TpmError> {
        let mut fields = Fields(&answer.session);
        let parts = (fields.sized(), fields.u8(), fields.sized(), fields.rest());
        let (Some(nonce), Some(attributes), Some(proof), []) = parts else {
            return Err(code.bad("its session is cut short"));
        };
        let mut hash = Context::new(&SHA256);
        hash.update(&0u32.to_be_bytes());
        hash.update(&code.number.to_be_bytes());
        hash.update(&answer.parameters);
        let proved = self.proved(hash, nonce, &self.nonce_caller, attributes);
        hmac::verify(&self.hmac_key(), &proved, proof)
            .map_err(|_| TpmError::ForgedAnswer { command: code.name })?;
        self.nonce_tpm = nonce.to_vec();
        Ok(())
    }

    /// Decrypts the content of an answer's first parameter where it lies. The answer was verified.
    ///
    /// # Errors
    /// When the library fails.
    pub(super) fn decrypt(&self, content: &mut [u8]) -> Result<(), TpmError> {
        let mut decrypted = || {
            let (key, counter) = self.cipher(&self.nonce_tpm, &self.nonce_caller)?;
            let context = DecryptionContext::Iv128(counter);
            DecryptingKey::cfb128(key)?
                .decrypt(content, context)
                .map(drop)
        };
        decrypted().map_err(no_cipher)
    }

    fn encrypt(&self, content: &mut [u8]) -> Result<(), Unspecified> {
        let (key, counter) = self.cipher(&self.nonce_caller, &self.nonce_tpm)?;
        let context = EncryptionContext::Iv128(counter);
        EncryptingKey::cfb128(key)?
            .less_safe_encrypt(content, context)
            .map(drop)
    }

    /// `KDFa(session key, "CFB", newer nonce, older nonce)` (part 1, 21.3). The objects authorized here have an empty
    /// authValue, so nothing is appended to the session's key.
    fn cipher(
        &self,
        newer: &[u8],
        older: &[u8],
    ) -> Result<(UnboundCipherKey, FixedLength<AES_KEY>), Unspecified> {
        let derived = kdf_a(self.key.expose(), b"CFB\0", newer, older);
        let (key, counter) = derived.as_ref().split_at(AES_KEY);
        let mut initial = [0; AES_KEY];
        initial.copy_from_slice(counter);
        Ok((
            UnboundCipherKey::new(&AES_128, key)?,
            FixedLength::from(initial),
        ))
    }

    fn hmac_key(&self) -> hmac::Key {
        hmac::Key::new(HMAC_SHA256, self.key.expose())
    }

    /// What an HMAC is over (part 1, 17.6.5): hash of the parameters, newer nonce, older nonce, attributes.
    fn proved(&self, hash: Context, newer: &[u8], older: &[u8], attributes: u8) -> Vec<u8> {
        [hash.finish().as_ref(), newer, older, &[attributes]].concat()
    }
}

/// KDFa with HMAC-SHA-256, 256 bits (part 1, 11.4.10.2). `label` ends with its zero byte.
fn kdf_a(key: &[u8], label: &[u8], u: &[u8], v: &[u8]) -> hmac::Tag {
    let mut context = hmac::Context::with_key(&hmac::Key::new(HMAC_SHA256, key));
    for part in [&1u32.to_be_bytes(), label, u, v, &256u32.to_be_bytes()] {
        context.update(part);
    }
    context.sign()
}

/// The content of the TPM2B at the front.
fn first_content(parameters: &mut [u8]) -> Option<&mut [u8]> {
    let (size, rest) = parameters.split_first_chunk_mut::<2>()?;
    rest.get_mut(..usize::from(u16::from_be_bytes(*size)))
}

/// The coordinates of an uncompressed point of P-256.
fn halves(point: &[u8]) -> Option<(&[u8], &[u8])> {
    point.strip_prefix(&[4])?.split_at_checked(DIGEST)
}

fn fresh_nonce() -> Result<[u8; DIGEST], TpmError> {
    let mut nonce = [0; DIGEST];
    fill(&mut nonce).map_err(no_randomness)?;
    Ok(nonce)
}

fn no_cipher(_: Unspecified) -> TpmError {
    TpmError::Stopped("AES-128 failed")
}

fn no_randomness(_: Unspecified) -> TpmError {
    TpmError::Stopped("the random number generator failed")
}
