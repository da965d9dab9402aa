//! Writing X.509 version 3 certificates signed with ECDSA (RFC 5280, RFC 5758).

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, KeyPair,
};

use super::store::PkiError;
use crate::der::{integer, of, oid, tag, value};
use crate::time::Timestamp;

/// Curve and hash of a key.
#[derive(Clone, Copy)]
pub(crate) enum Curve {
    /// P-256 with SHA-256.
    P256,
    /// P-384 with SHA-384.
    P384,
}

impl Curve {
    fn signing(self) -> &'static EcdsaSigningAlgorithm {
        match self {
            Self::P256 => &ECDSA_P256_SHA256_ASN1_SIGNING,
            Self::P384 => &ECDSA_P384_SHA384_ASN1_SIGNING,
        }
    }

    /// `ecdsa-with-SHA256` or `ecdsa-with-SHA384` (RFC 5758 section 3.2).
    fn signature_algorithm(self) -> Vec<u8> {
        let last = match self {
            Self::P256 => 2,
            Self::P384 => 3,
        };
        of(
            tag::SEQUENCE,
            &[&oid(&[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, last])],
        )
    }
}

/// A key of its own, with what certificates say of it.
pub(crate) struct Key {
    curve: Curve,
    pair: EcdsaKeyPair,
    /// PKCS #8, version 1.
    pub(crate) pkcs8: Vec<u8>,
}

impl Key {
    /// A new key.
    pub(crate) fn generate(curve: Curve) -> Result<Self, PkiError> {
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(curve.signing(), &SystemRandom::new())
            .map_err(|_| PkiError::Crypto("making a key"))?;
        Self::read(curve, pkcs8.as_ref())
    }

    /// A key written before.
    pub(crate) fn read(curve: Curve, pkcs8: &[u8]) -> Result<Self, PkiError> {
        let pair = EcdsaKeyPair::from_pkcs8(curve.signing(), pkcs8)
            .map_err(|_| PkiError::Crypto("reading a private key"))?;
        Ok(Self {
            curve,
            pair,
            pkcs8: pkcs8.to_vec(),
        })
    }

    fn spki(&self) -> Result<Vec<u8>, PkiError> {
        let der = self.pair.public_key().as_der();
        let der = der.map_err(|_| PkiError::Crypto("writing a public key"))?;
        Ok(der.as_ref().to_vec())
    }

    /// SHA-1 of the public point (RFC 5280 section 4.2.1.2, method 1).
    fn identifier(&self) -> Vec<u8> {
        let point = self.pair.public_key().as_ref();
        digest(&SHA1_FOR_LEGACY_USE_ONLY, point).as_ref().to_vec()
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
    subject: &Key,
    issuer: &Key,
    issuer_name: &[u8],
) -> Result<Vec<u8>, PkiError> {
    let algorithm = issuer.curve.signature_algorithm();
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
    let signature = issuer
        .pair
        .sign(&SystemRandom::new(), &unsigned)
        .map_err(|_| PkiError::Crypto("signing a certificate"))?;
    Ok(of(
        tag::SEQUENCE,
        &[&unsigned, &algorithm, &bits(signature.as_ref(), 0)],
    ))
}

impl Extension<'_> {
    fn encode(&self, subject: &Key, issuer: &Key) -> Vec<u8> {
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
