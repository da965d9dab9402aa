//! Writing X.509 version 3 certificates signed with ECDSA or RSA (RFC 5280, RFC 5758, RFC 8017).

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, KeyPair,
    RSA_PKCS1_SHA256, RsaKeyPair,
};
use nodeseal_attestation::azure::RsaKey;

use super::store::PkiError;
use crate::der::{integer, of, oid, tag, value};
use crate::time::Timestamp;

/// Kind of a key, and the hash it signs with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Algorithm {
    /// P-256 with SHA-256.
    P256,
    /// P-384 with SHA-384.
    P384,
    /// RSA of 2048 bits, PKCS #1 v1.5 with SHA-256.
    Rsa2048,
}

/// A private key, ready to sign.
enum Pair {
    Ecdsa(EcdsaKeyPair),
    Rsa(RsaKeyPair),
}

/// A key of its own, with what certificates say of it.
pub(crate) struct Key {
    algorithm: Algorithm,
    pair: Pair,
    /// PKCS #8, version 1.
    pub(crate) pkcs8: Vec<u8>,
}

impl Key {
    /// A new key.
    pub(crate) fn generate(algorithm: Algorithm) -> Result<Self, PkiError> {
        let failed = |_| PkiError::Crypto("making a key");
        let random = &SystemRandom::new();
        let pkcs8 = match algorithm {
            Algorithm::P256 => {
                EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, random)
                    .map_err(failed)?
                    .as_ref()
                    .to_vec()
            }
            Algorithm::P384 => {
                EcdsaKeyPair::generate_pkcs8(&ECDSA_P384_SHA384_ASN1_SIGNING, random)
                    .map_err(failed)?
                    .as_ref()
                    .to_vec()
            }
            Algorithm::Rsa2048 => {
                let pair = RsaKeyPair::generate(KeySize::Rsa2048).map_err(failed)?;
                let pkcs8: Pkcs8V1Der<'_> = pair.as_der().map_err(failed)?;
                pkcs8.as_ref().to_vec()
            }
        };
        Self::read(algorithm, &pkcs8)
    }

    /// A key written before.
    pub(crate) fn read(algorithm: Algorithm, pkcs8: &[u8]) -> Result<Self, PkiError> {
        let pair =
            match algorithm {
                Algorithm::P256 => EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8)
                    .map(Pair::Ecdsa),
                Algorithm::P384 => EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_ASN1_SIGNING, pkcs8)
                    .map(Pair::Ecdsa),
                Algorithm::Rsa2048 => RsaKeyPair::from_pkcs8(pkcs8).map(Pair::Rsa),
            };
        Ok(Self {
            algorithm,
            pair: pair.map_err(|_| PkiError::Crypto("reading a private key"))?,
            pkcs8: pkcs8.to_vec(),
        })
    }

    /// Signature of a message, as certificates have it.
    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, PkiError> {
        let failed = |_| PkiError::Crypto("signing");
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Ecdsa(pair) => {
                let signature = pair.sign(&random, message).map_err(failed)?;
                Ok(signature.as_ref().to_vec())
            }
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)
                    .map_err(failed)?;
                Ok(signature)
            }
        }
    }

    /// Modulus and exponent, none where it is no RSA key.
    pub(crate) fn rsa(&self) -> Option<RsaKey> {
        match &self.pair {
            Pair::Rsa(pair) => RsaKey::from_pkcs1_der(pair.public_key().as_ref()),
            Pair::Ecdsa(_) => None,
        }
    }

    /// `ecdsa-with-SHA256` or `ecdsa-with-SHA384` (RFC 5758 section 3.2), `sha256WithRSAEncryption` (RFC 8017).
    fn signature_algorithm(&self) -> Vec<u8> {
        let ecdsa = |last| oid(&[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, last]);
        match self.algorithm {
            Algorithm::P256 => of(tag::SEQUENCE, &[&ecdsa(2)]),
            Algorithm::P384 => of(tag::SEQUENCE, &[&ecdsa(3)]),
            Algorithm::Rsa2048 => {
                let rsa = oid(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11]);
                of(tag::SEQUENCE, &[&rsa, &value(tag::NULL, &[])])
            }
        }
    }
}

/// Whose certificate it is.
pub(crate) trait Subject {
    /// DER SubjectPublicKeyInfo.
    fn spki(&self) -> Result<Vec<u8>, PkiError>;
    /// SHA-1 of the public key (RFC 5280 section 4.2.1.2, method 1).
    fn identifier(&self) -> Vec<u8>;
}

impl Subject for Key {
    fn spki(&self) -> Result<Vec<u8>, PkiError> {
        let der: Result<PublicKeyX509Der<'_>, _> = match &self.pair {
            Pair::Ecdsa(pair) => pair.public_key().as_der(),
            Pair::Rsa(pair) => pair.public_key().as_der(),
        };
        let der = der.map_err(|_| PkiError::Crypto("writing a public key"))?;
        Ok(der.as_ref().to_vec())
    }

    fn identifier(&self) -> Vec<u8> {
        let public = match &self.pair {
            Pair::Ecdsa(pair) => pair.public_key().as_ref(),
            Pair::Rsa(pair) => pair.public_key().as_ref(),
        };
        digest(&SHA1_FOR_LEGACY_USE_ONLY, public).as_ref().to_vec()
    }
}

/// A key that is somebody else's.
impl Subject for RsaKey {
    fn spki(&self) -> Result<Vec<u8>, PkiError> {
        crate::rsa::spki(self).ok_or(PkiError::Crypto("writing a public key"))
    }

    fn identifier(&self) -> Vec<u8> {
        let key = of(
            tag::SEQUENCE,
            &[&integer(&self.modulus), &integer(&self.exponent)],
        );
        digest(&SHA1_FOR_LEGACY_USE_ONLY, &key).as_ref().to_vec()
    }
}

/// What one certificate says.
pub(crate) struct Profile<'a> {
    /// Big-endian, not negative.
    pub(crate) serial: &'a [u8],
    /// DER of the subject.
    pub(crate) subject: &'a [u8],
    pub(crate) not_before: Timestamp,
    pub(crate) not_after: Timestamp,
    /// In order of appearance.
    pub(crate) extensions: &'a [Extension<'a>],
}

/// An extension, as far as certificates here have it.
pub(crate) enum Extension<'a> {
    /// BasicConstraints, critical; with a CA flag and path length.
    Authority(Option<u8>),
    /// BasicConstraints, critical, of a certificate that is no CA.
    EndEntity,
    SubjectKey,
    AuthorityKey,
    /// KeyUsage: the bits as in RFC 5280 section 4.2.1.3 (bit 0 is 0x80), and whether critical.
    Usage(u8, bool),
    /// One CRL distribution point.
    Revocation(&'a str),
    /// Extended key usage serverAuth.
    ServerAuth,
    /// Subject alternative names.
    Names(&'a [AlternativeName]),
}

/// A name a TLS client may have dialled.
#[derive(Clone, Debug)]
pub(crate) enum AlternativeName {
    Dns(String),
    Address(std::net::IpAddr),
}

pub(crate) const DIGITAL_SIGNATURE: u8 = 0x80;
pub(crate) const NON_REPUDIATION: u8 = 0x40;
pub(crate) const KEY_CERT_SIGN: u8 = 0x04;
pub(crate) const CRL_SIGN: u8 = 0x02;

/// Signs `profile` for `subject` by `issuer`, whose name is `issuer_name`.
pub(crate) fn issue(
    profile: &Profile<'_>,
    subject: &dyn Subject,
    issuer: &Key,
    issuer_name: &[u8],
) -> Result<Vec<u8>, PkiError> {
    let algorithm = issuer.signature_algorithm();
    let extensions: Vec<Vec<u8>> = profile
        .extensions
        .iter()
        .map(|extension| extension.encode(subject, issuer))
        .collect();
    let extensions = value(tag::SEQUENCE, &extensions.concat());
    let unsigned = of(
        tag::SEQUENCE,
        &[
            &value(tag::constructed(0), &integer(&[2])),
            &integer(profile.serial),
            &algorithm,
            issuer_name,
            &of(
                tag::SEQUENCE,
                &[&time(profile.not_before), &time(profile.not_after)],
            ),
            profile.subject,
            &subject.spki()?,
            &value(tag::constructed(3), &extensions),
        ],
    );
    let signature = issuer.sign(&unsigned)?;
    Ok(of(
        tag::SEQUENCE,
        &[&unsigned, &algorithm, &bits(&signature, 0)],
    ))
}

impl Extension<'_> {
    fn encode(&self, subject: &dyn Subject, issuer: &Key) -> Vec<u8> {
        let (number, critical, content) = match self {
            Self::Authority(path) => {
                let yes = value(tag::BOOLEAN, &[0xff]);
                let path = path.map(|n| integer(&[n])).unwrap_or_default();
                (19, true, of(tag::SEQUENCE, &[&yes, &path]))
            }
            Self::EndEntity => (19, true, of(tag::SEQUENCE, &[])),
            Self::SubjectKey => (14, false, value(tag::OCTET_STRING, &subject.identifier())),
            Self::AuthorityKey => {
                let key = value(tag::context(0), &issuer.identifier());
                (35, false, value(tag::SEQUENCE, &key))
            }
            Self::Usage(usage, critical) => {
                // DER: trailing zero bits of a named bit list are left out (X.690 section 11.2.2).
                (15, *critical, bits(&[*usage], usage.trailing_zeros()))
            }
            Self::Revocation(address) => {
                let address = value(tag::context(6), address.as_bytes());
                let point = value(tag::constructed(0), &value(tag::constructed(0), &address));
                let point = value(tag::SEQUENCE, &point);
                (31, false, value(tag::SEQUENCE, &point))
            }
            Self::ServerAuth => {
                let server = oid(&[0x2b, 6, 1, 5, 5, 7, 3, 1]);
                (37, false, value(tag::SEQUENCE, &server))
            }
            Self::Names(names) => {
                let names: Vec<Vec<u8>> = names.iter().map(AlternativeName::encode).collect();
                (17, false, value(tag::SEQUENCE, &names.concat()))
            }
        };
        let critical = if critical {
            value(tag::BOOLEAN, &[0xff])
        } else {
            Vec::new()
        };
        let content = value(tag::OCTET_STRING, &content);
        of(
            tag::SEQUENCE,
            &[&oid(&[0x55, 0x1d, number]), &critical, &content],
        )
    }
}

impl AlternativeName {
    /// An address where `text` is one, else a DNS name.
    pub(crate) fn of(text: &str) -> Self {
        match text.parse() {
            Ok(address) => Self::Address(address),
            Err(_) => Self::Dns(text.to_owned()),
        }
    }

    fn encode(&self) -> Vec<u8> {
        match self {
            Self::Dns(host) => value(tag::context(2), host.as_bytes()),
            Self::Address(std::net::IpAddr::V4(address)) => {
                value(tag::context(7), &address.octets())
            }
            Self::Address(std::net::IpAddr::V6(address)) => {
                value(tag::context(7), &address.octets())
            }
        }
    }
}

fn time(point: Timestamp) -> Vec<u8> {
    match point.x509() {
        (true, text) => value(tag::UTC_TIME, text.as_bytes()),
        (false, text) => value(tag::GENERALIZED_TIME, text.as_bytes()),
    }
}

fn bits(bytes: &[u8], unused: u32) -> Vec<u8> {
    let unused = unused.to_le_bytes()[0];
    value(tag::BIT_STRING, &[&[unused], bytes].concat())
}
