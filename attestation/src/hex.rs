//! Hexadecimal as measurements are written: lower case out, either case in.

use std::fmt::Write as _;

/// Lower-case hexadecimal of `bytes`.
#[must_use]
pub fn encode(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

/// The bytes of hexadecimal `text` of either case, none where it is not hexadecimal or of odd length.
#[must_use]
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    digits
        .chunks_exact(2)
        .map(|pair| match pair {
            [high, low] => Some((digit(*high)? << 4) | digit(*low)?),
            _ => None,
        })
        .collect()
}

/// The `N` bytes of hexadecimal `text` of either case, none where it has another length or is not hexadecimal.
#[must_use]
pub fn decode_array<const N: usize>(text: &str) -> Option<[u8; N]> {
    // Before any allocation: the text may be long.
    if text.len() != N.checked_mul(2)? {
        return None;
    }
    decode(text)?.try_into().ok()
}

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_case_is_read_and_lower_case_is_written() {
        assert_eq!(decode("00fFaB"), Some(vec![0, 0xff, 0xab]));
        assert_eq!(encode(&[0, 0xff, 0xab]), "00ffab");
    }

    #[test]
    fn odd_lengths_other_letters_and_other_sizes_are_refused() {
        assert_eq!(decode("0"), None);
        assert_eq!(decode("0g"), None);
        assert_eq!(decode_array::<2>("0011ff"), None);
        assert_eq!(decode_array::<2>("é0"), None);
    }
}
