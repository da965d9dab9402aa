//! The keys a service signs with (JSON Web Key Set, RFC 7517), as its `/certs` answers them.

use rustls_pki_types::CertificateDer;
use webpki::EndEntityCert;

use super::RsaKey;
use super::jws::{Jws, certificates};
use crate::json::Json;

/// Longest set taken, in bytes.
const MAX_SET: usize = 256 * 1024;

/// Why a text is no key set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JwksError {
    /// It is too long (bytes).
    #[error("key set: expected at most {max} bytes, found {found}")]
    Size {
        /// Longest taken.
        max: usize,
        /// The length found.
        found: usize,
    },
    /// It is no JSON, or a member stands twice.
    #[error("key set: {0}")]
    Json(String),
    /// It has no list of keys.
    #[error("key set: expected a member \"keys\" with an array of objects")]
    Keys,
    /// A key cannot be read.
    #[error("key set: key {0}: expected \"x5c\" with a certificate, or \"n\" and \"e\"")]
    Key(String),
}

/// The RSA keys of a set that have a key id.
#[derive(Clone, Debug)]
pub struct Jwks(Vec<(String, Verifier)>);

/// What is known of a key.
#[derive(Clone, Debug)]
enum Verifier {
    Certificate(Vec<u8>),
    Key(RsaKey),
}

impl Jwks {
    /// Reads a set. Keys of other types and without an id are passed over. Who the keys belong to is up to where the
    /// set came from: certificates in it are taken for their keys only.
    ///
    /// # Errors
    /// [`JwksError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, JwksError> {
        if bytes.len() > MAX_SET {
            return Err(JwksError::Size {
                max: MAX_SET,
                found: bytes.len(),
            });
        }
        let set: Json =
            serde_json::from_slice(bytes).map_err(|error| JwksError::Json(error.to_string()))?;
        let keys = set.get("keys").and_then(Json::items);
        let mut read = Vec::new();
        for key in keys.ok_or(JwksError::Keys)? {
            let kind = key.get("kty").and_then(Json::string);
            let Some(id) = key.get("kid").and_then(Json::string) else {
                continue;
            };
            if kind != Some("RSA") {
                continue;
            }
            let verifier = match key.get("x5c") {
                Some(chain) => certificates(chain)
                    .ok()
                    .and_then(|chain| chain.into_iter().next())
                    .map(Verifier::Certificate),
                None => RsaKey::of(key).map(Verifier::Key),
            };
            let verifier = verifier.ok_or_else(|| JwksError::Key(format!("{id:?}")))?;
            read.push((id.to_owned(), verifier));
        }
        Ok(Self(read))
    }

    /// Ids of the keys.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(id, _)| id.as_str())
    }

    /// Whether the key with this id signed, none where there is no such key. Of several keys with one id any may.
    pub(super) fn signed(&self, id: &str, jws: &Jws<'_>) -> Option<bool> {
        let mut known = None;
        for (_, verifier) in self.0.iter().filter(|(other, _)| other == id) {
            known = Some(known.unwrap_or(false) || verifier.signed(jws));
        }
        known
    }
}

impl Verifier {
    fn signed(&self, jws: &Jws<'_>) -> bool {
        match self {
            Self::Key(key) => key.signed(jws.signed.as_bytes(), &jws.signature),
            Self::Certificate(der) => signed_by(der, jws),
        }
    }
}

/// Whether the key of this certificate made the signature, by RS256.
pub(super) fn signed_by(certificate: &[u8], jws: &Jws<'_>) -> bool {
    let certificate = CertificateDer::from(certificate);
    EndEntityCert::try_from(&certificate).is_ok_and(|certificate| {
        certificate
            .verify_signature(
                webpki::aws_lc_rs::RSA_PKCS1_2048_8192_SHA256,
                jws.signed.as_bytes(),
                &jws.signature,
            )
            .is_ok()
    })
}
