//! The authorities behind a simulated Azure: who signs tokens, attestation keys, chips and released keys.

use std::path::Path;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use nodeseal_attestation::azure::RsaKey;
use serde_json::{Value, json};

use super::certificate::{
    Algorithm, AlternativeName, CRL_SIGN, DIGITAL_SIGNATURE, Extension, KEY_CERT_SIGN, Key,
    Profile, Subject, issue,
};
use super::name::{Attribute, name};
use super::store::{Issuer, PkiError, load_or_create, pem};
use super::tls::TlsAuthority;
use crate::text::{base64, base64url, random};
use crate::time::Timestamp;

const DAY: u64 = 24 * 3600;
const CA_USAGE: u8 = KEY_CERT_SIGN | CRL_SIGN;

fn serial() -> Result<Vec<u8>, PkiError> {
    Ok([&[0x40], random::<15>()?.as_slice()].concat())
}

/// A certificate authority's self-signed certificate with a new key.
fn authority(algorithm: Algorithm, common_name: &str, now: Timestamp) -> Result<Issuer, PkiError> {
    let key = Key::generate(algorithm)?;
    let subject = name(&[(Attribute::CommonName, common_name)]);
    let profile = Profile {
        serial: &serial()?,
        subject: &subject,
        not_before: now.minus_seconds(DAY),
        not_after: now.plus_seconds(25 * 365 * DAY),
        extensions: &[
            Extension::Authority(None),
            Extension::SubjectKey,
            Extension::Usage(CA_USAGE, true),
        ],
    };
    let certificate = issue(&profile, &key, &key, &subject)?;
    Ok(Issuer { certificate, key })
}

/// A service that signs tokens by RS256, under a certificate of its own that proves nothing by itself.
pub struct TokenSigner {
    issuer: Issuer,
    key_id: String,
}

impl TokenSigner {
    /// Loads `NAME.pem` and `NAME.key` from `directory`, or makes them at time `now`.
    ///
    /// # Errors
    /// [`PkiError`].
    pub fn in_directory(directory: &Path, named: &str, now: Timestamp) -> Result<Self, PkiError> {
        let made = || authority(Algorithm::Rsa2048, named, now);
        let issuer = load_or_create(directory, named, Algorithm::Rsa2048, made)?;
        let key_id = base64url(digest(&SHA256, &issuer.certificate).as_ref());
        Ok(Self { issuer, key_id })
    }

    /// Its JSON Web Key Set: the certificate, and no more than the services of Azure have.
    #[must_use]
    pub fn jwks(&self) -> Value {
        let mut key = json!({
            "kty": "RSA", "use": "sig", "alg": "RS256",
            "kid": self.key_id, "x5c": [base64(&self.issuer.certificate)],
        });
        if let Some(rsa) = self.issuer.key.rsa() {
            key["n"] = base64url(&rsa.modulus).into();
            key["e"] = base64url(&rsa.exponent).into();
        }
        json!({ "keys": [key] })
    }

    /// A token of these claims; `more` goes into the header.
    ///
    /// # Errors
    /// [`PkiError`].
    pub fn token(&self, more: &[(&str, &str)], claims: &Value) -> Result<String, PkiError> {
        let mut header = json!({"alg": "RS256", "typ": "JWT", "kid": self.key_id});
        for (member, value) in more {
            header[*member] = (*value).into();
        }
        jws(&self.issuer.key, &header, claims)
    }
}

/// A compact JWS by RS256.
fn jws(key: &Key, header: &Value, payload: &Value) -> Result<String, PkiError> {
    let signed = format!(
        "{}.{}",
        base64url(header.to_string()),
        base64url(payload.to_string())
    );
    let signature = base64url(key.sign(signed.as_bytes())?);
    Ok(format!("{signed}.{signature}"))
}

/// Certifies the attestation keys of vTPMs.
pub struct AttestationKeyRoot(Issuer);

impl AttestationKeyRoot {
    /// Loads `azure-ak-root.pem` and its key from `directory`, or makes them at time `now`.
    ///
    /// # Errors
    /// [`PkiError`].
    pub fn in_directory(directory: &Path, now: Timestamp) -> Result<Self, PkiError> {
        let made = || {
            authority(
                Algorithm::Rsa2048,
                "nodeseal-sim Azure Virtual TPM Root",
                now,
            )
        };
        load_or_create(directory, "azure-ak-root", Algorithm::Rsa2048, made).map(Self)
    }

    /// Certificate (DER).
    #[must_use]
    pub fn certificate(&self) -> &[u8] {
        &self.0.certificate
    }

    /// A certificate (DER) for an attestation key of the virtual machine `vm_id`.
    ///
    /// # Errors
    /// [`PkiError`].
    pub fn certify(&self, key: &RsaKey, vm_id: &str, now: Timestamp) -> Result<Vec<u8>, PkiError> {
        let subject = name(&[(Attribute::CommonName, &format!("{vm_id}.TrustedVM.Azure"))]);
        let profile = Profile {
            serial: &serial()?,
            subject: &subject,
            not_before: now.minus_seconds(DAY),
            not_after: now.plus_seconds(365 * DAY),
            extensions: &[
                Extension::EndEntity,
                Extension::AuthorityKey,
                Extension::SubjectKey,
                Extension::Usage(DIGITAL_SIGNATURE, true),
            ],
        };
        let root = name(&[(Attribute::CommonName, "nodeseal-sim Azure Virtual TPM Root")]);
        issue(&profile, key, &self.0.key, &root)
    }
}

/// Certifies chips, as AMD's root does.
pub struct ChipRoot(Issuer);

/// A chip's key and certificate.
pub struct Chip {
    key: Key,
    /// Certificate (DER).
    pub certificate: Vec<u8>,
    /// Certificate of the root (DER).
    pub root: Vec<u8>,
}

impl ChipRoot {
    /// Loads `amd-root.pem` and its key from `directory`, or makes them at time `now`.
    ///
    /// # Errors
    /// [`PkiError`].
    pub fn in_directory(directory: &Path, now: Timestamp) -> Result<Self, PkiError> {
        let made = || authority(Algorithm::P384, "nodeseal-sim ARK", now);
        load_or_create(directory, "amd-root", Algorithm::P384, made).map(Self)
    }

    /// Certificate (DER).
    #[must_use]
    pub fn certificate(&self) -> &[u8] {
        &self.0.certificate
    }

    /// A new chip.
    ///
    /// # Errors
    /// [`PkiError`].
    pub fn chip(&self, now: Timestamp) -> Result<Chip, PkiError> {
        let key = Key::generate(Algorithm::P384)?;
        let profile = Profile {
            serial: &serial()?,
            subject: &name(&[(Attribute::CommonName, "SEV-VCEK")]),
            not_before: now.minus_seconds(DAY),
            not_after: now.plus_seconds(7 * 365 * DAY),
            extensions: &[
                Extension::EndEntity,
                Extension::Usage(DIGITAL_SIGNATURE, true),
            ],
        };
        let root = name(&[(Attribute::CommonName, "nodeseal-sim ARK")]);
        Ok(Chip {
            certificate: issue(&profile, &key, &self.0.key, &root)?,
            root: self.0.certificate.clone(),
            key,
        })
    }
}

impl Chip {
    /// ECDSA P-384 with SHA-384 over `report`, DER.
    ///
    /// # Errors
    /// [`PkiError`].
    pub fn sign(&self, report: &[u8]) -> Result<Vec<u8>, PkiError> {
        self.key.sign(report)
    }

    /// Its certificate and the chain above it, PEM each, as the metadata service answers them.
    #[must_use]
    pub fn certification(&self) -> Value {
        json!({
            "vcekCert": pem("CERTIFICATE", &self.certificate),
            "tcbm": "0000000000000000",
            "certificateChain": pem("CERTIFICATE", &self.root),
        })
    }
}

/// A vault's front end, whose certificate signs released keys.
pub struct FrontEnd {
    key: Key,
    /// Leaf, issuing authority, root (DER).
    chain: Vec<Vec<u8>>,
}

impl FrontEnd {
    /// A new one under `root`, for these names.
    ///
    /// # Errors
    /// [`PkiError`].
    pub fn new(root: &TlsAuthority, names: &[String], now: Timestamp) -> Result<Self, PkiError> {
        let middle_name = name(&[
            (Attribute::Organization, "nodeseal simulators"),
            (
                Attribute::CommonName,
                "nodeseal-sim Azure TLS Issuing CA 01",
            ),
        ]);
        let middle_key = Key::generate(Algorithm::P256)?;
        let middle = Profile {
            serial: &serial()?,
            subject: &middle_name,
            not_before: now.minus_seconds(DAY),
            not_after: now.plus_seconds(1000 * DAY),
            extensions: &[
                Extension::Authority(Some(0)),
                Extension::AuthorityKey,
                Extension::SubjectKey,
                Extension::Usage(CA_USAGE, true),
            ],
        };
        let middle = root.certify(&middle, &middle_key)?;
        let names: Vec<AlternativeName> = names.iter().map(|n| AlternativeName::of(n)).collect();
        let key = Key::generate(Algorithm::Rsa2048)?;
        let leaf = Profile {
            serial: &serial()?,
            subject: &name(&[(Attribute::CommonName, "vault.azure.net")]),
            not_before: now.minus_seconds(DAY),
            not_after: now.plus_seconds(365 * DAY),
            extensions: &[
                Extension::EndEntity,
                Extension::AuthorityKey,
                Extension::SubjectKey,
                Extension::Usage(DIGITAL_SIGNATURE, true),
                Extension::ServerAuth,
                Extension::Names(&names),
            ],
        };
        let leaf = issue(&leaf, &key, &middle_key, &middle_name)?;
        Ok(Self {
            key,
            chain: vec![leaf, middle, root.certificate().to_vec()],
        })
    }

    /// A released key's JWS.
    ///
    /// # Errors
    /// [`PkiError`].
    pub fn sign(&self, payload: &Value) -> Result<String, PkiError> {
        self.signed_by(self, payload)
    }

    /// The same, signed with another's key under these certificates: a forgery.
    ///
    /// # Errors
    /// [`PkiError`].
    pub fn signed_by(&self, other: &Self, payload: &Value) -> Result<String, PkiError> {
        let leaf = self.chain.first().map_or(&[][..], Vec::as_slice);
        let sha1 = digest(&SHA1_FOR_LEGACY_USE_ONLY, leaf);
        let chain: Vec<String> = self.chain.iter().map(|der| base64(der)).collect();
        let header = json!({
            "alg": "RS256",
            "kid": crate::text::hex(&self.key.identifier()).to_uppercase(),
            "x5t": base64url(sha1),
            "x5t#S256": base64url(digest(&SHA256, leaf)),
            "typ": "JWT",
            "x5c": chain,
        });
        jws(&other.key, &header, payload)
    }
}
