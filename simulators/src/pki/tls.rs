//! The authority of the simulated HTTPS services, and the server certificates it issues.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;

use super::certificate::{
    Algorithm, AlternativeName, CRL_SIGN, DIGITAL_SIGNATURE, Extension, KEY_CERT_SIGN, Key,
    Profile, issue,
};
use super::name::{Attribute, name};
use super::store::{Issuer, PkiError, load_or_create, pem};
use crate::text::random;
use crate::time::Timestamp;

const DAY: u64 = 24 * 3600;

/// Signs server certificates.
pub struct TlsAuthority(Issuer);

/// A server certificate to be, under a [`TlsAuthority`].
pub struct ServerCertificate<'a> {
    /// DNS names and IP addresses a client may dial.
    pub names: &'a [String],
    /// Start of validity.
    pub not_before: Timestamp,
    /// End of validity.
    pub not_after: Timestamp,
}

impl TlsAuthority {
    /// Loads `tls-ca.pem` and `tls-ca.key` from `directory`, or makes them at time `now`.
    ///
    /// # Errors
    /// [`PkiError`].
    pub fn in_directory(directory: &Path, now: Timestamp) -> Result<Self, PkiError> {
        let made = || Self::generate(now).map(|authority| authority.0);
        load_or_create(directory, "tls-ca", Algorithm::P256, made).map(Self)
    }

    /// A new authority, kept nowhere.
    ///
    /// # Errors
    /// [`PkiError`].
    pub fn generate(now: Timestamp) -> Result<Self, PkiError> {
        let key = Key::generate(Algorithm::P256)?;
        let subject = authority_name();
        let profile = Profile {
            serial: &[&[0x40], random::<15>()?.as_slice()].concat(),
            subject: &subject,
            not_before: now.minus_seconds(DAY),
            not_after: now.plus_seconds(3650 * DAY),
            extensions: &[
                // One below it, which issues those that sign released keys.
                Extension::Authority(Some(1)),
                Extension::SubjectKey,
                Extension::Usage(DIGITAL_SIGNATURE | KEY_CERT_SIGN | CRL_SIGN, true),
            ],
        };
        let certificate = issue(&profile, &key, &key, &subject)?;
        Ok(Self(Issuer { certificate, key }))
    }

    /// The authority's certificate as PEM, for a client's trust store.
    #[must_use]
    pub fn certificate_pem(&self) -> String {
        pem("CERTIFICATE", &self.0.certificate)
    }

    /// The authority's certificate (DER).
    #[must_use]
    pub fn certificate(&self) -> &[u8] {
        &self.0.certificate
    }

    /// Signs a certificate (DER).
    pub(super) fn certify(
        &self,
        profile: &Profile<'_>,
        subject: &Key,
    ) -> Result<Vec<u8>, PkiError> {
        issue(profile, subject, &self.0.key, &authority_name())
    }

    /// A new server key with its certificate.
    ///
    /// # Errors
    /// [`PkiError`].
    pub fn issue(&self, wanted: &ServerCertificate<'_>) -> Result<Arc<CertifiedKey>, PkiError> {
        let key = Key::generate(Algorithm::P256)?;
        let names: Vec<AlternativeName> = wanted
            .names
            .iter()
            .map(|n| AlternativeName::of(n))
            .collect();
        let common_name = wanted.names.first().map_or("localhost", String::as_str);
        let profile = Profile {
            serial: &[&[0x40], random::<15>()?.as_slice()].concat(),
            subject: &name(&[(Attribute::CommonName, common_name)]),
            not_before: wanted.not_before,
            not_after: wanted.not_after,
            extensions: &[
                Extension::EndEntity,
                Extension::AuthorityKey,
                Extension::SubjectKey,
                Extension::Usage(DIGITAL_SIGNATURE, true),
                Extension::ServerAuth,
                Extension::Names(&names),
            ],
        };
        let certificate = self.certify(&profile, &key)?;
        let private = PrivatePkcs8KeyDer::from(key.pkcs8.clone());
        let certified = CertifiedKey::from_der(
            vec![CertificateDer::from(certificate)],
            private.into(),
            &default_provider(),
        );
        certified
            .map(Arc::new)
            .map_err(|_| PkiError::Crypto("preparing a server key"))
    }
}

fn authority_name() -> Vec<u8> {
    name(&[
        (Attribute::Organization, "nodeseal simulators"),
        (Attribute::CommonName, "nodeseal-sim TLS authority"),
    ])
}
