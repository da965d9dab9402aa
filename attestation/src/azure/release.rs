//! What Key Vault's secure key release answers: a JWS by the vault's front end around a key encrypted for us.
//!
//! Structure: confidential-sidecar-containers `pkg/common/akv.go`, openvmm `key_release.rs`, and Azure's document
//! "Secure Key Release with AKV and Azure Confidential Computing". None of those readers checks all of this.

use rustls_pki_types::{CertificateDer, DnsName, ServerName, TrustAnchor};
use webpki::EndEntityCert;

use super::certificates::{ChainError, verify_chain};
use super::jwks::signed_by;
use super::jws::Jws;
use super::{ReleaseError, RsaKey};
use crate::base64;
use crate::json::Json;
use crate::time::Timestamp;

/// Longest answer taken, in bytes.
const MAX_RELEASE: usize = 256 * 1024;

/// How a released key is encrypted to the token's key: CKM_RSA_AES_KEY_WRAP of PKCS #11, with this hash in RSA-OAEP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyWrap {
    /// SHA-1, what a vault takes if nothing is asked for.
    CkmRsaAesKeyWrap,
    /// SHA-256.
    RsaAesKeyWrap256,
    /// SHA-384.
    RsaAesKeyWrap384,
}

impl KeyWrap {
    /// Its name in requests and answers.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::CkmRsaAesKeyWrap => "CKM_RSA_AES_KEY_WRAP",
            Self::RsaAesKeyWrap256 => "RSA_AES_KEY_WRAP_256",
            Self::RsaAesKeyWrap384 => "RSA_AES_KEY_WRAP_384",
        }
    }

    /// The one with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [
            Self::CkmRsaAesKeyWrap,
            Self::RsaAesKeyWrap256,
            Self::RsaAesKeyWrap384,
        ]
        .into_iter()
        .find(|wrap| wrap.name() == name)
    }
}

/// An answer, parsed and not verified.
#[derive(Debug)]
pub struct Release<'t>(Jws<'t>);

/// What was asked for, and of whom.
#[derive(Clone, Copy, Debug)]
pub struct ReleaseExpectations<'e> {
    /// Roots the signer's certificates may lead to.
    pub roots: &'e [TrustAnchor<'e>],
    /// The time of verification.
    pub at: Timestamp,
    /// Names of hosts, of which the signer's certificate must be for one (wildcards in the certificate count).
    pub hosts: &'e [&'e str],
    /// Versioned id of the key asked for: `https://HOST/keys/NAME/VERSION`.
    pub key_id: &'e str,
    /// The encryption asked for.
    pub enc: KeyWrap,
    /// The nonce sent.
    pub nonce: &'e str,
    /// Id of the key in the attestation token that the answer must be encrypted to.
    pub wrapping_key_id: &'e str,
}

/// A key, released to us, still encrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReleasedKey {
    ciphertext: Vec<u8>,
    public: RsaKey,
    nonce_echoed: bool,
}

impl ReleasedKey {
    /// RSA-OAEP of an AES key, as long as our key's modulus, then AES key wrap with padding (RFC 5649) of PKCS #8.
    #[must_use]
    pub fn ciphertext(&self) -> &[u8] {
        &self.ciphertext
    }

    /// The released key's public half, which the decrypted private key must have.
    #[must_use]
    pub fn public(&self) -> &RsaKey {
        &self.public
    }

    /// Whether the vault sent the nonce back. That it does is not documented; one it sends is compared.
    #[must_use]
    pub fn nonce_echoed(&self) -> bool {
        self.nonce_echoed
    }
}

impl<'t> Release<'t> {
    /// Reads an answer's `value`: three parts, RS256, no member twice.
    ///
    /// # Errors
    /// [`ReleaseError::Jws`].
    pub fn parse(compact: &'t str) -> Result<Self, ReleaseError> {
        Ok(Self(Jws::parse(compact, MAX_RELEASE)?))
    }

    /// Verifies the answer.
    ///
    /// # Errors
    /// [`ReleaseError`], for the first of the rules that does not hold: chain, host, signature, key, encryption,
    /// nonce, our key.
    pub fn verify(self, expected: &ReleaseExpectations<'_>) -> Result<ReleasedKey, ReleaseError> {
        let chain = self.0.certificates.as_deref();
        let chain = chain.ok_or(ReleaseError::NoCertificates)?;
        verify_chain(chain, expected.roots, expected.at)?;
        // A verified chain has a first certificate.
        let signer = chain.first().map_or(&[][..], Vec::as_slice);
        check_host(signer, expected.hosts)?;
        if !signed_by(signer, &self.0) {
            return Err(ReleaseError::Signature);
        }
        let payload = &self.0.payload;
        same(payload, "request.kid", expected.key_id)?;
        same(payload, "response.key.key.kid", expected.key_id)?;
        same(payload, "request.enc", expected.enc.name())?;
        let nonce_echoed = match payload.at("request.nonce") {
            None | Some(Json::Null) => false,
            Some(Json::String(nonce)) if nonce == expected.nonce => true,
            Some(_) => return Err(ReleaseError::Nonce),
        };
        let kind = string(payload, "response.key.key.kty")?;
        if !matches!(kind, "RSA" | "RSA-HSM") {
            return Err(other("response.key.key.kty", "RSA-HSM", kind));
        }
        let key = payload.at("response.key.key").and_then(RsaKey::of);
        let public = key.ok_or_else(|| ReleaseError::Member {
            member: "response.key.key",
            expected: "base64url of n and e",
            found: "other members".to_owned(),
        })?;
        Ok(ReleasedKey {
            ciphertext: unwrapped(payload, expected)?,
            public,
            nonce_echoed,
        })
    }
}

fn check_host(certificate: &[u8], hosts: &[&str]) -> Result<(), ReleaseError> {
    let der = CertificateDer::from(certificate);
    let certificate = EndEntityCert::try_from(&der)
        .map_err(|error| ChainError::Certificate(error.to_string()))?;
    let is_for = |host: &&str| {
        DnsName::try_from(*host).is_ok_and(|name| {
            let name = ServerName::DnsName(name);
            certificate.verify_is_valid_for_subject_name(&name).is_ok()
        })
    };
    if hosts.iter().any(is_for) {
        return Ok(());
    }
    let found: Vec<&str> = certificate.valid_dns_names().collect();
    Err(ReleaseError::Host {
        expected: hosts.join(", "),
        found: if found.is_empty() {
            "no host".to_owned()
        } else {
            found.join(", ")
        },
    })
}

/// The ciphertext in `key_hsm`, if it is encrypted as asked for and to the key asked for.
fn unwrapped(payload: &Json, expected: &ReleaseExpectations<'_>) -> Result<Vec<u8>, ReleaseError> {
    const MEMBER: &str = "response.key.key.key_hsm";
    let malformed = |expected, found: String| ReleaseError::Member {
        member: MEMBER,
        expected,
        found,
    };
    let text = string(payload, MEMBER)?;
    let bytes = base64::url(text)
        .ok_or_else(|| malformed("base64url without padding", "another text".to_owned()))?;
    let wrapped: Json = serde_json::from_slice(&bytes)
        .map_err(|error| malformed("base64url of a JSON object", error.to_string()))?;
    let member = |path, member| {
        let found = wrapped.at(path);
        found
            .and_then(Json::string)
            .ok_or_else(|| missing(member, "a string", found))
    };
    for (path, name, wanted) in [
        ("schema_version", "key_hsm.schema_version", "1.0"),
        ("header.alg", "key_hsm.header.alg", "dir"),
        ("header.enc", "key_hsm.header.enc", expected.enc.name()),
    ] {
        let found = member(path, name)?;
        if found != wanted {
            return Err(other(name, wanted, found));
        }
    }
    let key = member("header.kid", "key_hsm.header.kid")?;
    if key != expected.wrapping_key_id {
        return Err(ReleaseError::WrappingKey {
            expected: expected.wrapping_key_id.to_owned(),
            found: key.to_owned(),
        });
    }
    base64::url(member("ciphertext", "key_hsm.ciphertext")?)
        .filter(|ciphertext| !ciphertext.is_empty())
        .ok_or_else(|| ReleaseError::Member {
            member: "key_hsm.ciphertext",
            expected: "base64url without padding",
            found: "another text".to_owned(),
        })
}

fn missing(member: &'static str, expected: &'static str, found: Option<&Json>) -> ReleaseError {
    ReleaseError::Member {
        member,
        expected,
        found: found.map_or("nothing", Json::kind).to_owned(),
    }
}

fn other(member: &'static str, expected: &str, found: &str) -> ReleaseError {
    ReleaseError::Other {
        member,
        expected: expected.to_owned(),
        found: found.to_owned(),
    }
}

fn string<'p>(payload: &'p Json, path: &'static str) -> Result<&'p str, ReleaseError> {
    let found = payload.at(path);
    found
        .and_then(Json::string)
        .ok_or_else(|| missing(path, "a string", found))
}

fn same(payload: &Json, path: &'static str, expected: &str) -> Result<(), ReleaseError> {
    let found = string(payload, path)?;
    if found == expected {
        return Ok(());
    }
    Err(other(path, expected, found))
}
