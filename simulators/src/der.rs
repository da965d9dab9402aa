//! Writing DER, a little reading, and the indefinite lengths of BER where AWS KMS writes them (ITU-T X.690).

use rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

/// Universal and context tags written here.
pub(crate) mod tag {
    pub const BOOLEAN: u8 = 0x01;
    pub const INTEGER: u8 = 0x02;
    pub const BIT_STRING: u8 = 0x03;
    pub const OCTET_STRING: u8 = 0x04;
    pub const NULL: u8 = 0x05;
    pub const OID: u8 = 0x06;
    pub const UTF8_STRING: u8 = 0x0c;
    pub const PRINTABLE_STRING: u8 = 0x13;
    pub const UTC_TIME: u8 = 0x17;
    pub const GENERALIZED_TIME: u8 = 0x18;
    pub const SEQUENCE: u8 = 0x30;
    pub const SET: u8 = 0x31;
    /// `[n]`, primitive.
    pub const fn context(n: u8) -> u8 {
        0x80 | n
    }
    /// `[n]`, constructed.
    pub const fn constructed(n: u8) -> u8 {
        0xa0 | n
    }
}

/// One value with a definite length.
pub(crate) fn value(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    let length = content.len();
    if length < 0x80 {
        out.push(length.to_le_bytes()[0]);
    } else {
        let bytes = length.to_be_bytes();
        let skip = bytes.iter().take_while(|b| **b == 0).count();
        let significant = bytes.get(skip..).unwrap_or_default();
        out.push(0x80 | significant.len().to_le_bytes()[0]);
        out.extend_from_slice(significant);
    }
    out.extend_from_slice(content);
    out
}

/// One constructed value of these parts.
pub(crate) fn of(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    value(tag, &parts.concat())
}

/// One constructed value of these parts with an indefinite length (X.690 section 8.1.3.6).
pub(crate) fn indefinite(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    [&[tag, 0x80], parts.concat().as_slice(), &[0, 0]].concat()
}

/// An OBJECT IDENTIFIER from its content bytes.
pub(crate) fn oid(content: &[u8]) -> Vec<u8> {
    value(tag::OID, content)
}

/// A non-negative INTEGER from its big-endian bytes.
pub(crate) fn integer(magnitude: &[u8]) -> Vec<u8> {
    let skip = magnitude.iter().take_while(|b| **b == 0).count();
    let significant = magnitude.get(skip..).unwrap_or_default();
    match significant.first() {
        None => value(tag::INTEGER, &[0]),
        Some(first) if first & 0x80 != 0 => value(tag::INTEGER, &[&[0], significant].concat()),
        Some(_) => value(tag::INTEGER, significant),
    }
}

/// The SubjectPublicKeyInfo of a certificate, DER both.
pub(crate) fn spki_of_certificate(certificate: &[u8]) -> Option<Vec<u8>> {
    let der = CertificateDer::from(certificate);
    let certificate = EndEntityCert::try_from(&der).ok()?;
    Some(certificate.subject_public_key_info().to_vec())
}

/// The common name of a certificate's subject, as far as it is one of ours: one attribute of at most 127 bytes.
pub(crate) fn common_name(certificate: &[u8]) -> Option<String> {
    const COMMON_NAME: &[u8] = &[6, 3, 0x55, 4, 3];
    let der = CertificateDer::from(certificate);
    let certificate = EndEntityCert::try_from(&der).ok()?;
    let subject = certificate.subject();
    let at = subject
        .windows(COMMON_NAME.len())
        .position(|window| window == COMMON_NAME)?;
    let [_tag, length @ 0..0x80, text @ ..] = subject.get(at + COMMON_NAME.len()..)? else {
        return None;
    };
    let text = text.get(..usize::from(*length))?;
    String::from_utf8(text.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_take_the_form_der_asks_for() {
        assert_eq!(value(4, &[0; 127])[..2], [4, 127]);
        assert_eq!(value(4, &[0; 128])[..3], [4, 0x81, 128]);
        assert_eq!(value(4, &[0; 255])[..3], [4, 0x81, 255]);
        assert_eq!(value(4, &[0; 256])[..4], [4, 0x82, 1, 0]);
    }

    #[test]
    fn integers_are_shortest_and_never_negative() {
        assert_eq!(integer(&[]), [2, 1, 0]);
        assert_eq!(integer(&[0, 0, 1]), [2, 1, 1]);
        assert_eq!(integer(&[0x80]), [2, 2, 0, 0x80]);
    }

    #[test]
    fn an_indefinite_value_ends_with_two_zero_bytes() {
        assert_eq!(
            indefinite(tag::SEQUENCE, &[&[5, 0]]),
            [0x30, 0x80, 5, 0, 0, 0]
        );
    }
}
