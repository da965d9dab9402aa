//! The enclave image file, version 4: a header, then sections one after the other.
//!
//! All numbers are big-endian (aws-nitro-enclaves-image-format, src/defs/mod.rs).

mod read;
#[cfg(test)]
mod tests;
mod write;

pub use read::{EifError, Parsed, Section};
pub use write::Image;

/// What the file begins with.
pub const MAGIC: [u8; 4] = *b".eif";
/// The version written. Readers take 3 too, which differs by having no metadata.
pub const VERSION: u16 = 4;
/// Length of the header in bytes.
pub const HEADER_LEN: usize = 548;
/// Length of the head of a section in bytes.
pub const SECTION_HEADER_LEN: usize = 12;
/// Most sections a header has room for.
pub const MAX_SECTIONS: usize = 32;
/// Header flag: for aarch64, not x86_64.
const FLAG_ARM64: u16 = 1;
/// Where the CRC is in the header: its last four bytes.
const CRC_AT: usize = HEADER_LEN - 4;

/// What a section holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The kernel, a bzImage.
    Kernel,
    /// The kernel's command line.
    CommandLine,
    /// A ramdisk. All of them are handed to the kernel as one, in order.
    Ramdisk,
    /// Signatures, as CBOR.
    Signature,
    /// What people may want to know of the image, as JSON. Not measured.
    Metadata,
}

impl Kind {
    /// The number that stands for it in a section's head.
    #[must_use]
    pub fn number(self) -> u16 {
        match self {
            Self::Kernel => 1,
            Self::CommandLine => 2,
            Self::Ramdisk => 3,
            Self::Signature => 4,
            Self::Metadata => 5,
        }
    }

    /// What people call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::CommandLine => "command line",
            Self::Ramdisk => "ramdisk",
            Self::Signature => "signature",
            Self::Metadata => "metadata",
        }
    }

    fn from_number(number: u16) -> Option<Self> {
        let all = [
            Self::Kernel,
            Self::CommandLine,
            Self::Ramdisk,
            Self::Signature,
            Self::Metadata,
        ];
        all.into_iter().find(|kind| kind.number() == number)
    }
}

/// CRC-32 (ISO-HDLC) of everything but the CRC itself: the header up to it, then the sections.
fn checksum(header: &[u8], sections: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(header);
    crc.update(sections);
    crc.finalize()
}
