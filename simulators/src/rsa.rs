//! RSA as the simulated services use it: encryption, signatures and keys in JSON Web Key form.

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rsa::{
    OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256, OAEP_SHA384_MGF1SHA384, OaepAlgorithm,
    OaepPrivateDecryptingKey, OaepPublicEncryptingKey, Pkcs1PrivateDecryptingKey,
    Pkcs1PublicEncryptingKey, PrivateDecryptingKey, PublicEncryptingKey,
};
use aws_lc_rs::signature::{KeyPair, RsaKeyPair, RsaPublicKeyComponents};
use nodeseal_attestation::azure::RsaKey;

/// How a message is padded before it is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Padding {
    /// RSAES-PKCS1-v1_5.
    Pkcs1,
    /// RSA-OAEP, MGF1 with the same hash, empty label.
    OaepSha1,
    OaepSha256,
    OaepSha384,
}

impl Padding {
    fn oaep(self) -> Option<&'static OaepAlgorithm> {
        match self {
            Self::Pkcs1 => None,
            Self::OaepSha1 => Some(&OAEP_SHA1_MGF1SHA1),
            Self::OaepSha256 => Some(&OAEP_SHA256_MGF1SHA256),
            Self::OaepSha384 => Some(&OAEP_SHA384_MGF1SHA384),
        }
    }
}

/// DER SubjectPublicKeyInfo; none where it is no RSA key.
pub(crate) fn spki(key: &RsaKey) -> Option<Vec<u8>> {
    let components = RsaPublicKeyComponents {
        n: &key.modulus,
        e: &key.exponent,
    };
    let der: PublicKeyX509Der<'_> = components.as_der().ok()?;
    Some(der.as_ref().to_vec())
}

/// The key in a SubjectPublicKeyInfo; none where it is no RSA key.
pub(crate) fn of_spki(spki: &[u8]) -> Option<RsaKey> {
    let key = aws_lc_rs::rsa::PublicKey::from_der(spki).ok()?;
    RsaKey::from_pkcs1_der(key.as_ref())
}

/// Encrypts; none where the key is none or the message too long.
pub(crate) fn encrypt(key: &RsaKey, padding: Padding, message: &[u8]) -> Option<Vec<u8>> {
    let public = PublicEncryptingKey::from_der(&spki(key)?).ok()?;
    let mut out = vec![0; public.key_size_bytes()];
    let length = match padding.oaep() {
        Some(algorithm) => OaepPublicEncryptingKey::new(public)
            .ok()?
            .encrypt(algorithm, message, &mut out, None)
            .ok()?
            .len(),
        None => Pkcs1PublicEncryptingKey::new(public)
            .ok()?
            .encrypt(message, &mut out)
            .ok()?
            .len(),
    };
    out.truncate(length);
    Some(out)
}

/// Decrypts with a private key (PKCS #8); none where it does not fit.
pub(crate) fn decrypt(pkcs8: &[u8], padding: Padding, ciphertext: &[u8]) -> Option<Vec<u8>> {
    let private = PrivateDecryptingKey::from_pkcs8(pkcs8).ok()?;
    let mut out = vec![0; private.key_size_bytes()];
    let length = match padding.oaep() {
        Some(algorithm) => OaepPrivateDecryptingKey::new(private)
            .ok()?
            .decrypt(algorithm, ciphertext, &mut out, None)
            .ok()?
            .len(),
        None => Pkcs1PrivateDecryptingKey::new(private)
            .ok()?
            .decrypt(ciphertext, &mut out)
            .ok()?
            .len(),
    };
    out.truncate(length);
    Some(out)
}

/// The public half of a private key (PKCS #8).
pub(crate) fn public(pkcs8: &[u8]) -> Option<RsaKey> {
    let pair = RsaKeyPair::from_pkcs8(pkcs8).ok()?;
    RsaKey::from_pkcs1_der(pair.public_key().as_ref())
}

/// PKCS #8 of a key pair.
pub(crate) fn pkcs8(pair: &RsaKeyPair) -> Option<Vec<u8>> {
    let der: Pkcs8V1Der<'_> = pair.as_der().ok()?;
    Some(der.as_ref().to_vec())
}
