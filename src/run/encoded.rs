//! A key's bytes in the form the node reads.

use nodeseal_memory::{LockMemoryError, Secret};

use crate::config::Encoding;

/// Calls `with` with `bytes` in the form `encoding` names; what is made on the way is wiped.
///
/// # Errors
/// When there is no locked memory for another form.
pub fn encoded<T>(
    encoding: Encoding,
    bytes: &[u8],
    with: impl FnOnce(&[u8]) -> T,
) -> Result<T, LockMemoryError> {
    match encoding {
        Encoding::Raw => Ok(with(bytes)),
        Encoding::Hex => {
            let mut text = Secret::zeroed(bytes.len().saturating_mul(2))?;
            for (digits, byte) in text.expose_mut().chunks_exact_mut(2).zip(bytes) {
                digits.copy_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
            }
            Ok(with(text.expose()))
        }
    }
}

/// The digit of a value below 16, computed rather than looked up so that no memory access depends on a key.
fn digit(value: u8) -> u8 {
    let above_nine = (9_i16 - i16::from(value)) >> 8;
    // b'0' + value, and 39 more (b'a' - b'0' - 10) above nine: `above_nine` is then -1, all ones, else 0.
    let shift = u8::try_from(above_nine & 39).unwrap_or(0);
    b'0'.wrapping_add(value).wrapping_add(shift)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_byte_has_its_two_lower_case_digits() {
        let bytes: Vec<u8> = (0..=255).collect();
        let expected: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let found = encoded(Encoding::Hex, &bytes, <[u8]>::to_vec).unwrap();
        assert_eq!(String::from_utf8(found).unwrap(), expected);
        assert_eq!(
            encoded(Encoding::Raw, &bytes, <[u8]>::to_vec).unwrap(),
            bytes
        );
    }
}
