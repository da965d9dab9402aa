//! What a bzImage says of itself (Linux, Documentation/arch/x86/boot.rst).

/// Where the header's magic is, and what.
const MAGIC_AT: usize = 0x202;
const MAGIC: &[u8] = b"HdrS";
/// Where the offset of the version text is; the text is 0x200 bytes after it.
const VERSION_POINTER_AT: usize = 0x20e;
/// Longest release taken, in bytes (Linux: __NEW_UTS_LEN).
const MAX_RELEASE: usize = 64;

/// Not a kernel that can be booted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("kernel: expected a bzImage for x86, found something else")]
pub struct NotBzImage;

/// The release of the kernel, as in "6.12.107".
///
/// # Errors
/// When this is no bzImage.
pub fn release(kernel: &[u8]) -> Result<&str, NotBzImage> {
    read(kernel).ok_or(NotBzImage)
}

fn read(kernel: &[u8]) -> Option<&str> {
    if !kernel.get(MAGIC_AT..)?.starts_with(MAGIC) {
        return None;
    }
    let pointer = kernel.get(VERSION_POINTER_AT..)?.first_chunk::<2>()?;
    let at = usize::from(u16::from_le_bytes(*pointer)).checked_add(0x200)?;
    let text = kernel.get(at..)?;
    let text = text.get(..text.len().min(MAX_RELEASE))?;
    let end = text.iter().position(|byte| !byte.is_ascii_graphic())?;
    std::str::from_utf8(text.get(..end)?)
        .ok()
        .filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn sample() -> Vec<u8> {
        let mut kernel = vec![0; 0x400];
        kernel[MAGIC_AT..MAGIC_AT + 4].copy_from_slice(MAGIC);
        kernel[VERSION_POINTER_AT] = 0x80;
        kernel[0x280..0x290].copy_from_slice(b"6.12.107 (you@me");
        kernel
    }

    #[test]
    fn the_release_is_what_comes_before_the_builder() {
        assert_eq!(release(&sample()).unwrap(), "6.12.107");
    }

    #[test]
    fn what_is_no_bzimage_is_refused() {
        assert_eq!(release(b"\x7fELF").unwrap_err(), NotBzImage);
        assert_eq!(release(&sample()[..0x280]).unwrap_err(), NotBzImage);
        assert_eq!(release(&sample()[..0x283]).unwrap_err(), NotBzImage);
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..0x300), pointer: [u8; 2]) {
            let mut kernel = bytes;
            if kernel.len() > 0x210 {
                kernel[MAGIC_AT..MAGIC_AT + 4].copy_from_slice(MAGIC);
                kernel[VERSION_POINTER_AT..VERSION_POINTER_AT + 2].copy_from_slice(&pointer);
            }
            let _ = release(&kernel);
        }
    }
}
