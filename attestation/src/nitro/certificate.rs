//! One X.509 certificate (RFC 5280) of a chain: ECDSA P-384 with SHA-384, read once, with what AWS's rules look at.

use crate::der::{
    self, BIT_STRING, BOOLEAN, GENERALIZED_TIME, INTEGER, Malformed, OCTET_STRING, OID, Reader,
    SEQUENCE, UTC_TIME,
};
use crate::time::{Timestamp, civil_seconds, number};

/// ecdsa-with-SHA384, 1.2.840.10045.4.3.3.
const ECDSA_SHA384: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03];
/// id-ecPublicKey, 1.2.840.10045.2.1.
const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
/// secp384r1, 1.3.132.0.34.
const P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
/// Uncompressed point of P-384, in bytes.
const POINT_LEN: usize = 97;
/// id-ce-basicConstraints, 2.5.29.19.
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
/// id-ce-keyUsage, 2.5.29.15.
const KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
/// Most extensions; genuine certificates have five.
const MAX_EXTENSIONS: usize = 16;

/// What is wrong with a certificate by itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// Not a certificate in DER, or not of version 3.
    #[error("no X.509 certificate of version 3 in DER: {0}")]
    Malformed(&'static str),
    /// Signed by another algorithm.
    #[error("expected a signature by ecdsa-with-SHA384")]
    SignatureAlgorithm,
    /// Another kind of key.
    #[error("expected a public key on secp384r1, uncompressed")]
    KeyAlgorithm,
    /// An extension stands twice.
    #[error("the extension {0} stands twice")]
    DuplicateExtension(String),
    /// A critical extension is not known here.
    #[error("the critical extension {0} is not known")]
    CriticalExtension(String),
}

/// basicConstraints (RFC 5280 section 4.2.1.9).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct BasicConstraints {
    pub(super) authority: bool,
    pub(super) path_length: Option<u64>,
}

/// keyUsage (RFC 5280 section 4.2.1.3), as far as it matters here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct KeyUsage {
    pub(super) digital_signature: bool,
    pub(super) key_cert_sign: bool,
}

/// A certificate, parsed and not verified.
#[derive(Clone, Debug)]
pub(super) struct Certificate<'b> {
    /// What its signature is made over.
    pub(super) signed: &'b [u8],
    /// DER of r and s.
    pub(super) signature: &'b [u8],
    /// Names as encoded: attribute order differs between levels of genuine chains.
    pub(super) issuer: &'b [u8],
    pub(super) subject: &'b [u8],
    pub(super) not_before: Timestamp,
    pub(super) not_after: Timestamp,
    /// Uncompressed point.
    pub(super) key: &'b [u8],
    /// Both none where the extension is absent.
    pub(super) constraints: Option<BasicConstraints>,
    pub(super) usage: Option<KeyUsage>,
}

impl<'b> Certificate<'b> {
    pub(super) fn parse(bytes: &'b [u8]) -> Result<Self, CertificateError> {
        let malformed = |part: &'static str| move |_: Malformed| CertificateError::Malformed(part);
        let outer = "Certificate";
        let mut reader = Reader::new(bytes);
        let mut certificate = reader.nested(SEQUENCE).map_err(malformed(outer))?;
        reader.finish().map_err(malformed(outer))?;
        let to_be_signed = certificate.element(SEQUENCE).map_err(malformed(outer))?;
        algorithm(certificate.contents(SEQUENCE).map_err(malformed(outer))?)?;
        let signature = certificate.whole_bits().map_err(malformed("signature"))?;
        certificate.finish().map_err(malformed(outer))?;

        let mut tbs = Reader::new(to_be_signed.contents);
        let version = tbs.contents(0xa0).map_err(malformed("version"))?;
        if version != [INTEGER, 1, 2] {
            return Err(CertificateError::Malformed("version"));
        }
        tbs.contents(INTEGER).map_err(malformed("serialNumber"))?;
        algorithm(tbs.contents(SEQUENCE).map_err(malformed("signature"))?)?;
        let issuer = tbs.element(SEQUENCE).map_err(malformed("issuer"))?.whole;
        let mut validity = tbs.nested(SEQUENCE).map_err(malformed("validity"))?;
        let not_before = time(&mut validity).ok_or(CertificateError::Malformed("notBefore"))?;
        let not_after = time(&mut validity).ok_or(CertificateError::Malformed("notAfter"))?;
        validity.finish().map_err(malformed("validity"))?;
        let subject = tbs.element(SEQUENCE).map_err(malformed("subject"))?.whole;
        let spki = tbs
            .contents(SEQUENCE)
            .map_err(malformed("subjectPublicKeyInfo"))?;
        let key = public_key(spki)?;
        let extensions = tbs.contents(0xa3).map_err(malformed("extensions"))?;
        tbs.finish().map_err(malformed("tbsCertificate"))?;
        let (constraints, usage) = extensions_of(extensions)?;
        Ok(Self {
            signed: to_be_signed.whole,
            signature,
            issuer,
            subject,
            not_before,
            not_after,
            key,
            constraints,
            usage,
        })
    }
}

/// Parameters must be absent (RFC 5758 section 3.2).
fn algorithm(contents: &[u8]) -> Result<(), CertificateError> {
    let mut reader = Reader::new(contents);
    match (reader.contents(OID), reader.finish()) {
        (Ok(ECDSA_SHA384), Ok(())) => Ok(()),
        _ => Err(CertificateError::SignatureAlgorithm),
    }
}

fn public_key(spki: &[u8]) -> Result<&[u8], CertificateError> {
    let parse = || -> Result<&[u8], Malformed> {
        let mut reader = Reader::new(spki);
        let mut algorithm = reader.nested(SEQUENCE)?;
        let kind = algorithm.contents(OID)?;
        let curve = algorithm.contents(OID)?;
        algorithm.finish()?;
        let point = reader.whole_bits()?;
        reader.finish()?;
        let uncompressed = point.len() == POINT_LEN && point.first() == Some(&0x04);
        if kind != EC_PUBLIC_KEY || curve != P384 || !uncompressed {
            return Err(Malformed);
        }
        Ok(point)
    };
    parse().map_err(|Malformed| CertificateError::KeyAlgorithm)
}

/// UTCTime until 2049, GeneralizedTime after, both to the second and in Z (RFC 5280 section 4.1.2.5).
fn time(reader: &mut Reader<'_>) -> Option<Timestamp> {
    let (year, rest) = match reader.peek()? {
        UTC_TIME => {
            let (year, rest) = reader.contents(UTC_TIME).ok()?.split_at_checked(2)?;
            let year = number(year)?;
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        _ => {
            let contents = reader.contents(GENERALIZED_TIME).ok()?;
            let (year, rest) = contents.split_at_checked(4)?;
            (number(year)?, rest)
        }
    };
    let [digits @ .., b'Z'] = rest else {
        return None;
    };
    let mut parts = [0; 5];
    if digits.len() != 2 * parts.len() {
        return None;
    }
    for (part, digits) in parts.iter_mut().zip(digits.chunks_exact(2)) {
        *part = number(digits)?;
    }
    let [month, day, hour, minute, second] = parts;
    civil_seconds(year, month, day, hour, minute, second).map(Timestamp::from_seconds)
}

type Extensions = (Option<BasicConstraints>, Option<KeyUsage>);

fn extensions_of(contents: &[u8]) -> Result<Extensions, CertificateError> {
    let malformed = |_: Malformed| CertificateError::Malformed("extensions");
    let mut reader = Reader::new(contents);
    let mut list = reader.nested(SEQUENCE).map_err(malformed)?;
    reader.finish().map_err(malformed)?;
    let (mut constraints, mut usage) = (None, None);
    let mut seen: Vec<&[u8]> = Vec::with_capacity(8);
    while list.peek().is_some() {
        let mut extension = list.nested(SEQUENCE).map_err(malformed)?;
        let kind = extension.contents(OID).map_err(malformed)?;
        // FALSE is the default, which DER leaves out.
        let critical = extension.peek() == Some(BOOLEAN);
        if critical && !extension.boolean().map_err(malformed)? {
            return Err(CertificateError::Malformed("extensions"));
        }
        let value = extension.contents(OCTET_STRING).map_err(malformed)?;
        extension.finish().map_err(malformed)?;
        if seen.contains(&kind) {
            return Err(CertificateError::DuplicateExtension(dotted(kind)));
        }
        seen.push(kind);
        if seen.len() > MAX_EXTENSIONS {
            return Err(CertificateError::Malformed("extensions"));
        }
        match kind {
            BASIC_CONSTRAINTS => {
                let malformed = |_| CertificateError::Malformed("basicConstraints");
                constraints = Some(basic_constraints(value).map_err(malformed)?);
            }
            KEY_USAGE => {
                let malformed = |_| CertificateError::Malformed("keyUsage");
                usage = Some(key_usage(value).map_err(malformed)?);
            }
            _ if critical => return Err(CertificateError::CriticalExtension(dotted(kind))),
            _ => {}
        }
    }
    Ok((constraints, usage))
}

fn basic_constraints(value: &[u8]) -> Result<BasicConstraints, Malformed> {
    let mut reader = Reader::new(value);
    let mut sequence = reader.nested(SEQUENCE)?;
    reader.finish()?;
    let mut constraints = BasicConstraints::default();
    if sequence.peek() == Some(BOOLEAN) {
        constraints.authority = sequence.boolean()?;
    }
    if let Some(length) = sequence.optional(INTEGER)? {
        constraints.path_length = match length {
            [value @ 0..0x80] => Some(u64::from(*value)),
            _ => return Err(Malformed),
        };
    }
    sequence.finish()?;
    Ok(constraints)
}

fn key_usage(value: &[u8]) -> Result<KeyUsage, Malformed> {
    let mut reader = der::Reader::new(value);
    let bits = reader.contents(BIT_STRING)?;
    reader.finish()?;
    // Bit 0 is the highest of the first byte; the first byte of the string counts unused bits.
    let (first, second) = match bits {
        [0..8, first] => (*first, 0),
        [0..8, first, second] => (*first, *second),
        _ => return Err(Malformed),
    };
    if first == 0 && second == 0 {
        return Err(Malformed);
    }
    Ok(KeyUsage {
        digital_signature: first & 0x80 != 0,
        key_cert_sign: first & 0x04 != 0,
    })
}

/// An object identifier in dotted form.
fn dotted(oid: &[u8]) -> String {
    let mut arcs: Vec<u64> = Vec::new();
    let mut arc = 0_u64;
    for byte in oid {
        arc = (arc << 7) | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            if arcs.is_empty() {
                let top = (arc / 40).min(2);
                arcs.push(top);
                arc -= top * 40;
            }
            arcs.push(arc);
            arc = 0;
        }
    }
    let arcs: Vec<String> = arcs.iter().map(u64::to_string).collect();
    arcs.join(".")
}
