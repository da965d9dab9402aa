//! Key files as they are found: the 32 bytes themselves, or the same in hexadecimal.

use nodeseal_wire::header::KeyType;

/// Length of every typed private key, in bytes.
pub const KEY_LENGTH: usize = 32;

/// A file does not hold a key of the type it should.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a {} key: 32 bytes, or 64 hexadecimal digits; found {found}", expected.name())]
pub struct KeyTextError {
    expected: KeyType,
    found: String,
}

/// Reads the key in a file's content into `key`, which has [`KEY_LENGTH`] if typed, else the content's length.
///
/// A typed key is 32 bytes, or 64 hexadecimal digits with an optional `0x` before and a line end after them. An opaque
/// key is the content as it is.
///
/// # Errors
/// Tells the length found, never the content.
pub fn read_key(key_type: KeyType, content: &[u8], key: &mut [u8]) -> Result<(), KeyTextError> {
    if key_type == KeyType::Opaque || content.len() == KEY_LENGTH {
        key.copy_from_slice(content);
        return Ok(());
    }
    let error = |found: String| KeyTextError {
        expected: key_type,
        found,
    };
    let text = content.strip_suffix(b"\n").unwrap_or(content);
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    let text = text.strip_prefix(b"0x").unwrap_or(text);
    if text.len() != 2 * KEY_LENGTH {
        return Err(error(format!("{} bytes", content.len())));
    }
    for (byte, digits) in key.iter_mut().zip(text.chunks_exact(2)) {
        let value = digits
            .iter()
            .try_fold(0, |value, digit| Some(value << 4 | hex_value(*digit)?));
        *byte = value.ok_or_else(|| error("64 characters that are not all digits".to_owned()))?;
    }
    Ok(())
}

/// Value of a digit. Sealing a key is no place where an attacker can measure time, so this is the plain way.
fn hex_value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const DIGITS: &str = "00112233445566778899aabbccddeeff00112233445566778899AABBCCDDEEFF";

    fn read(key_type: KeyType, content: &[u8]) -> Result<Vec<u8>, String> {
        let length = match key_type {
            KeyType::Opaque => content.len(),
            _ => KEY_LENGTH,
        };
        let mut key = vec![0; length];
        read_key(key_type, content, &mut key).map_err(|error| error.to_string())?;
        Ok(key)
    }

    #[test]
    fn a_typed_key_is_read_from_bytes_and_from_hexadecimal_with_and_without_ornaments() {
        let bytes: Vec<u8> = (0..16u8).map(|i| i * 0x11).collect::<Vec<_>>().repeat(2);
        let forms = [
            DIGITS.to_owned(),
            format!("0x{DIGITS}"),
            format!("{DIGITS}\n"),
            format!("0x{DIGITS}\r\n"),
        ];
        for form in forms {
            assert_eq!(
                read(KeyType::Secp256k1, form.as_bytes()).unwrap(),
                bytes,
                "{form:?}"
            );
        }
        assert_eq!(read(KeyType::Ed25519, &bytes).unwrap(), bytes);
    }

    #[test]
    fn an_opaque_key_is_its_file_to_the_byte() {
        assert_eq!(read(KeyType::Opaque, b"password\n").unwrap(), b"password\n");
        assert_eq!(read(KeyType::Opaque, b"").unwrap(), b"");
    }

    #[test]
    fn what_is_no_key_is_refused_without_being_shown() {
        let refused = |content: &[u8], found: &str| {
            let expected =
                format!("expected a p256 key: 32 bytes, or 64 hexadecimal digits; found {found}");
            assert_eq!(read(KeyType::P256, content).unwrap_err(), expected);
        };
        refused(b"", "0 bytes");
        refused(&[7; 31], "31 bytes");
        refused(&[7; 33], "33 bytes");
        refused(format!("{DIGITS}\n\n").as_bytes(), "66 bytes");
        refused(&[b'g'; 64], "64 characters that are not all digits");
    }

    proptest::proptest! {
        #[test]
        fn no_content_makes_the_reader_panic_and_what_is_read_is_what_was_written(
            content in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..140),
            key: [u8; 32],
        ) {
            let _ = read(KeyType::Ed25519, &content);
            let text: String = key.iter().map(|byte| format!("{byte:02X}")).collect();
            proptest::prop_assert_eq!(read(KeyType::Bls12381, text.as_bytes()).unwrap(), key);
        }
    }
}
