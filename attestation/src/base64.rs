//! Base64 in its one encoding: padding where it belongs and nowhere else, no bits left over, no white space.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

/// The bytes of base64url without padding (RFC 7515 section 2), none where it is not that.
pub(crate) fn url(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

/// The bytes of standard base64 with padding (RFC 4648 section 4), none where it is not that.
pub(crate) fn standard(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_alphabet_is_read_in_its_one_encoding_only() {
        assert_eq!(url("-_8"), Some(vec![0xfb, 0xff]));
        assert_eq!(standard("+/8="), Some(vec![0xfb, 0xff]));
        for text in ["-_8=", "+/8", "-_9", "-", " -_8", "-_8\n"] {
            assert_eq!(url(text), None, "{text:?}");
        }
        for text in ["-_8=", "+/8", "+/9=", "+/8==", "+/8= "] {
            assert_eq!(standard(text), None, "{text:?}");
        }
    }
}
