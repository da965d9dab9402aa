//! The signature section: one signature over PCR0 and the certificate to check it with, whose digest is PCR8.
//!
//! `[{"signing_certificate": PEM, "signature": COSE_Sign1}]` in CBOR, both values as arrays of small integers, since
//! AWS's writer serializes them so (aws-nitro-enclaves-image-format, src/defs/mod.rs `PcrSignature`). The payload of
//! the COSE_Sign1 is `{"register_index": 0, "register_value": PCR0}`, again with an array of integers (`PcrInfo`).
//! Keys are of P-384, which is what AWS's guide to signed images makes.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P384_SHA384_FIXED, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
    UnparsedPublicKey,
};
use minicbor::decode::Error as CborError;
use minicbor::{Decoder, Encoder};
use nodeseal_attestation::nitro::cose::{SIGNATURE_LEN, envelope, sig_structure};
use nodeseal_attestation::nitro::{PCR_LEN, Pcr};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use webpki::EndEntityCert;

/// Longest certificate (PEM) and signature taken, in bytes.
const MAX_BYTES: usize = 16 * 1024;

/// Why an image is not signed, or not as it must be.
#[derive(Debug, thiserror::Error)]
pub enum SignatureError {
    /// The section has another form.
    #[error("signature section: {0}")]
    Form(String),
    /// The certificate cannot be read.
    #[error("signing certificate: {0}")]
    Certificate(String),
    /// The key cannot be read. What is wrong is not said: it might be part of the key.
    #[error(
        "signing key: expected one PEM block with a P-384 private key (PKCS#8 or SEC1, not encrypted)"
    )]
    Key,
    /// Key and certificate are not a pair.
    #[error("signing key: its public key is not that of the signing certificate")]
    NotAPair,
    /// Signing failed.
    #[error("signing failed in the cryptography library")]
    Signing,
    /// Not over this image, or not by this certificate's key, or not of ES384.
    #[error(
        "signature: expected one over this image's PCR0 by the key of the certificate beside it (ES384), found another"
    )]
    Invalid,
}

/// An X.509 certificate.
#[derive(Clone, Debug)]
pub struct Certificate(CertificateDer<'static>);

impl Certificate {
    /// Reads the first certificate of a PEM file.
    ///
    /// # Errors
    /// When there is none.
    pub fn from_pem(pem: &[u8]) -> Result<Self, SignatureError> {
        let wrong = |error: &dyn std::fmt::Display| SignatureError::Certificate(error.to_string());
        let der = CertificateDer::from_pem_slice(pem).map_err(|error| wrong(&error))?;
        EndEntityCert::try_from(&der).map_err(|error| wrong(&error))?;
        Ok(Self(der))
    }

    /// The certificate in DER.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.0
    }

    /// The SubjectPublicKeyInfo in DER.
    fn public_key(&self) -> Result<Vec<u8>, SignatureError> {
        let certificate = EndEntityCert::try_from(&self.0)
            .map_err(|error| SignatureError::Certificate(error.to_string()))?;
        Ok(certificate.subject_public_key_info().to_vec())
    }
}

/// What signs images.
pub struct Signer {
    key: EcdsaKeyPair,
    pem: Vec<u8>,
    certificate: Certificate,
}

impl Signer {
    /// A private key and its certificate, both as PEM files.
    ///
    /// # Errors
    /// When one of them cannot be read, or they do not belong together.
    pub fn new(key_pem: &[u8], certificate_pem: &[u8]) -> Result<Self, SignatureError> {
        let certificate = Certificate::from_pem(certificate_pem)?;
        let der = PrivateKeyDer::from_pem_slice(key_pem).map_err(|_| SignatureError::Key)?;
        let algorithm = &ECDSA_P384_SHA384_FIXED_SIGNING;
        let key = EcdsaKeyPair::from_private_key_der(algorithm, der.secret_der())
            .map_err(|_| SignatureError::Key)?;
        // The uncompressed point is what an SPKI of a P-384 key ends with.
        if !certificate
            .public_key()?
            .ends_with(key.public_key().as_ref())
        {
            return Err(SignatureError::NotAPair);
        }
        Ok(Self {
            key,
            pem: certificate_pem.to_vec(),
            certificate,
        })
    }

    /// The certificate.
    #[must_use]
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// The signature section of an image with this PCR0.
    ///
    /// # Errors
    /// When the cryptography library fails.
    pub fn section(&self, pcr0: &Pcr) -> Result<Vec<u8>, SignatureError> {
        let payload = pcr_info(pcr0);
        let signature = self
            .key
            .sign(&SystemRandom::new(), &sig_structure(&payload))
            .map_err(|_| SignatureError::Signing)?;
        let signature: [u8; SIGNATURE_LEN] = signature
            .as_ref()
            .try_into()
            .map_err(|_| SignatureError::Signing)?;
        let mut out = Encoder::new(Vec::new());
        infallible(out.array(1).and_then(|out| out.map(2)).map(drop));
        for (name, value) in [
            ("signing_certificate", self.pem.as_slice()),
            ("signature", &envelope(&payload, &signature)),
        ] {
            infallible(out.str(name).map(drop));
            integers(&mut out, value);
        }
        Ok(out.into_writer())
    }
}

/// A signature section, read but not verified.
pub struct SignedPcr0 {
    certificate: Certificate,
    signature: Vec<u8>,
}

impl SignedPcr0 {
    /// Reads a signature section.
    ///
    /// # Errors
    /// Says what has another form than AWS's tools write.
    pub fn parse(section: &[u8]) -> Result<Self, SignatureError> {
        let form = |error: CborError| SignatureError::Form(error.to_string());
        let mut from = Decoder::new(section);
        // AWS's format has room for signatures over further PCRs; there is only ever the one over PCR0.
        expect(from.array().map_err(form)?, 1, "an array of one signature")?;
        expect(from.map().map_err(form)?, 2, "a map of two entries")?;
        let mut value = |name: &str| -> Result<Vec<u8>, SignatureError> {
            let found = from.str().map_err(form)?;
            if found == name {
                return read_integers(&mut from);
            }
            let found: String = found.escape_default().take(64).collect();
            Err(SignatureError::Form(format!(
                "expected {name:?}, found \"{found}\""
            )))
        };
        let pem = value("signing_certificate")?;
        let signature = value("signature")?;
        if from.position() != section.len() {
            return Err(SignatureError::Form(
                "expected nothing after the signature".to_owned(),
            ));
        }
        Ok(Self {
            certificate: Certificate::from_pem(&pem)?,
            signature,
        })
    }

    /// The certificate, if its key signed this PCR0.
    ///
    /// # Errors
    /// When it did not.
    pub fn verify(self, pcr0: &Pcr) -> Result<Certificate, SignatureError> {
        let payload = pcr_info(pcr0);
        // All of the COSE_Sign1 but the signature follows from PCR0.
        let unsigned = envelope(&payload, &[0; SIGNATURE_LEN]);
        let (found, signature) = self
            .signature
            .split_last_chunk::<SIGNATURE_LEN>()
            .ok_or(SignatureError::Invalid)?;
        if unsigned.strip_suffix(&[0; SIGNATURE_LEN]) != Some(found) {
            return Err(SignatureError::Invalid);
        }
        let public_key = self.certificate.public_key()?;
        UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, public_key)
            .verify(&sig_structure(&payload), signature)
            .map_err(|_| SignatureError::Invalid)?;
        Ok(self.certificate)
    }
}

/// What is signed: `{"register_index": 0, "register_value": [48 integers]}`.
fn pcr_info(pcr0: &Pcr) -> Vec<u8> {
    let mut out = Encoder::new(Vec::with_capacity(40 + 2 * PCR_LEN));
    let head = out.map(2).and_then(|out| out.str("register_index"));
    infallible(
        head.and_then(|out| out.u8(0))
            .and_then(|out| out.str("register_value"))
            .map(drop),
    );
    integers(&mut out, pcr0);
    out.into_writer()
}

fn integers(out: &mut Encoder<Vec<u8>>, bytes: &[u8]) {
    infallible(out.array(bytes.len() as u64).map(drop));
    for byte in bytes {
        infallible(out.u8(*byte).map(drop));
    }
}

fn read_integers(from: &mut Decoder<'_>) -> Result<Vec<u8>, SignatureError> {
    let form = |error: CborError| SignatureError::Form(error.to_string());
    let count = from.array().map_err(form)?;
    let count = count
        .and_then(|count| usize::try_from(count).ok())
        .filter(|count| *count <= MAX_BYTES);
    let Some(count) = count else {
        let what = format!("expected an array of at most {MAX_BYTES} bytes");
        return Err(SignatureError::Form(what));
    };
    (0..count).map(|_| from.u8().map_err(form)).collect()
}

fn expect(found: Option<u64>, expected: u64, what: &str) -> Result<(), SignatureError> {
    if found == Some(expected) {
        return Ok(());
    }
    let found = found.map_or("no definite length".to_owned(), |count| count.to_string());
    Err(SignatureError::Form(format!(
        "expected {what}, found {found}"
    )))
}

/// Writing into a vector does not fail.
fn infallible(result: Result<(), minicbor::encode::Error<std::convert::Infallible>>) {
    debug_assert!(result.is_ok());
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384};

    use super::*;

    const PCR0: Pcr = [7; PCR_LEN];

    fn pair(algorithm: &'static rcgen::SignatureAlgorithm) -> (String, String) {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let certificate = CertificateParams::default().self_signed(&key).unwrap();
        (key.serialize_pem(), certificate.pem())
    }

    fn signer() -> Signer {
        let (key, certificate) = pair(&PKCS_ECDSA_P384_SHA384);
        Signer::new(key.as_bytes(), certificate.as_bytes()).unwrap()
    }

    #[test]
    fn a_signature_verifies_over_its_pcr0_only() {
        let signer = signer();
        let section = signer.section(&PCR0).unwrap();
        let certificate = SignedPcr0::parse(&section).unwrap().verify(&PCR0).unwrap();
        assert_eq!(certificate.der(), signer.certificate().der());
        let error = SignedPcr0::parse(&section)
            .unwrap()
            .verify(&[8; PCR_LEN])
            .unwrap_err();
        assert!(matches!(error, SignatureError::Invalid), "{error}");
    }

    #[test]
    fn every_changed_byte_is_refused() {
        let section = signer().section(&PCR0).unwrap();
        // Of the certificate's text only what is inside counts: an image with a changed text has the same PCR8.
        let signature_at = memchr_of(&section, b"signature\x98").unwrap();
        for at in (0..24).chain(signature_at..section.len()) {
            let mut changed = section.clone();
            changed[at] ^= 1;
            let read = SignedPcr0::parse(&changed).and_then(|read| read.verify(&PCR0));
            assert!(read.is_err(), "byte {at}");
        }
        for length in 0..section.len() {
            assert!(SignedPcr0::parse(&section[..length]).is_err(), "{length}");
        }
    }

    fn memchr_of(all: &[u8], part: &[u8]) -> Option<usize> {
        all.windows(part.len()).position(|window| window == part)
    }

    #[test]
    fn a_key_that_is_not_the_certificates_or_of_another_curve_is_refused() {
        let (key, _) = pair(&PKCS_ECDSA_P384_SHA384);
        let (_, certificate) = pair(&PKCS_ECDSA_P384_SHA384);
        let error = Signer::new(key.as_bytes(), certificate.as_bytes())
            .err()
            .unwrap();
        assert!(matches!(error, SignatureError::NotAPair), "{error}");
        let (key, certificate) = pair(&PKCS_ECDSA_P256_SHA256);
        let error = Signer::new(key.as_bytes(), certificate.as_bytes())
            .err()
            .unwrap();
        assert!(matches!(error, SignatureError::Key), "{error}");
        let error = Signer::new(key.as_bytes(), b"no PEM").err().unwrap();
        assert!(matches!(error, SignatureError::Certificate(_)), "{error}");
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(read) = SignedPcr0::parse(&bytes) {
                let _ = read.verify(&PCR0);
            }
        }
    }
}
