//! The offline policy signer's public key, from PEM as `openssl ec -pubout` writes it.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ParsedPublicKey};

use crate::structures::signer_public;

/// SubjectPublicKeyInfo of an uncompressed P-256 point, up to the point's coordinates (RFC 5480 §2).
const SPKI_P256: [u8; 27] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x02, 0x01, 0x06, 0x08, 0x2A,
    0x86, 0x48, 0xCE, 0x3D, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04,
];

/// Marshalled TPMT_PUBLIC of the key in a PEM file.
///
/// # Errors
/// What is wrong with it, for people.
pub fn public_from_pem(pem: &str) -> Result<Vec<u8>, &'static str> {
    const FORM: &str = "not one PEM block -----BEGIN PUBLIC KEY-----";
    let body = pem
        .trim()
        .strip_prefix("-----BEGIN PUBLIC KEY-----")
        .and_then(|rest| rest.strip_suffix("-----END PUBLIC KEY-----"))
        .ok_or(FORM)?;
    let der = base64(body).ok_or(FORM)?;
    let point = der
        .strip_prefix(&SPKI_P256)
        .filter(|point| point.len() == 64)
        .ok_or("not an ECDSA P-256 key")?;
    let (x, y) = point.split_at(32);
    let whole = [&[4], point].concat();
    ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, whole)
        .map_err(|_| "a point that is not on P-256")?;
    match (x.try_into(), y.try_into()) {
        (Ok(x), Ok(y)) => Ok(signer_public(x, y)),
        _ => Err(FORM),
    }
}

/// Decodes base64 with padding (RFC 4648 §4), white space between lines ignored.
fn base64(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text.bytes().filter(|c| !c.is_ascii_whitespace()).collect();
    let padding = digits.iter().rev().take_while(|c| **c == b'=').count();
    if !digits.len().is_multiple_of(4) || padding > 2 {
        return None;
    }
    let mut out = Vec::with_capacity(digits.len() / 4 * 3);
    for group in digits.chunks(4) {
        let mut bits = 0u32;
        for digit in group {
            let value = match digit {
                b'A'..=b'Z' => digit - b'A',
                b'a'..=b'z' => digit - b'a' + 26,
                b'0'..=b'9' => digit - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                b'=' => 0,
                _ => return None,
            };
            bits = bits << 6 | u32::from(value);
        }
        let [_, bytes @ ..] = bits.to_be_bytes();
        out.extend(bytes);
    }
    let inner_padding = digits.len().checked_sub(padding)?;
    if digits.get(..inner_padding)?.contains(&b'=') {
        return None;
    }
    out.truncate(out.len().checked_sub(padding)?);
    Some(out)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::structures::signer_point;

    // The base point of P-256 (SP 800-186 §3.2.1.3), as openssl writes a public key.
    const BASE_POINT: &str = "-----BEGIN PUBLIC KEY-----\n\
        MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaxfR8uEsQkf4vOblY6RA8ncDfYEt\n\
        6zOg9KE5RdiYwpZP40Li/hp/m47n60p8D54WK84zV2sxXs7LtkBoN79R9Q==\n\
        -----END PUBLIC KEY-----\n";

    #[test]
    fn a_key_as_openssl_writes_it_is_read() {
        let point = signer_point(&public_from_pem(BASE_POINT).unwrap()).unwrap();
        assert_eq!(point[..5], [4, 0x6B, 0x17, 0xD1, 0xF2]);
        assert_eq!(point[61..], [0x37, 0xBF, 0x51, 0xF5]);
    }

    #[test]
    fn a_point_off_the_curve_is_refused() {
        let off = BASE_POINT.replace("R9Q==", "R9g==");
        assert_eq!(
            public_from_pem(&off).unwrap_err(),
            "a point that is not on P-256"
        );
    }

    #[test]
    fn other_files_are_refused() {
        for (pem, problem) in [
            ("", "not one PEM block -----BEGIN PUBLIC KEY-----"),
            (
                "-----BEGIN PUBLIC KEY-----\nMF=kw\n-----END PUBLIC KEY-----",
                "not one PEM block -----BEGIN PUBLIC KEY-----",
            ),
            (
                "-----BEGIN PUBLIC KEY-----\nMFkw\n-----END PUBLIC KEY-----",
                "not an ECDSA P-256 key",
            ),
        ] {
            assert_eq!(public_from_pem(pem).unwrap_err(), problem, "{pem}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[A-Za-z0-9+/= ]{0,40}") {
            let _ = base64(&text);
            let _ = public_from_pem(&format!("-----BEGIN PUBLIC KEY-----{text}-----END PUBLIC KEY-----"));
        }
    }
}
