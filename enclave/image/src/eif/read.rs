//! Reading an image strictly: one that two readers could understand in two ways is refused.
//!
//! AWS's tools walk the sections one after the other, QEMU follows the header's table of offsets; so the table must
//! say exactly where walking leads, and nothing may be left over.

use super::{
    CRC_AT, FLAG_ARM64, HEADER_LEN, Kind, MAGIC, MAX_SECTIONS, SECTION_HEADER_LEN, VERSION,
    checksum,
};

/// Why a file is no enclave image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EifError {
    /// It ends too early.
    #[error("{what}: expected {expected} bytes at offset {at}, the file has {found} there")]
    Truncated {
        /// What is cut off.
        what: &'static str,
        /// Where it begins.
        at: usize,
        /// How long it should be.
        expected: u64,
        /// What is left of the file there.
        found: usize,
    },
    /// A field has a value it must not have.
    #[error("{field}: expected {expected}, found {found}")]
    Field {
        /// Which field.
        field: &'static str,
        /// What may be there.
        expected: String,
        /// What is there.
        found: String,
    },
    /// A field of a section has a value it must not have.
    #[error("section {index}: {field}: expected {expected}, found {found}")]
    Section {
        /// Which section, counted from 0.
        index: usize,
        /// Which field.
        field: &'static str,
        /// What may be there.
        expected: String,
        /// What is there.
        found: String,
    },
    /// A kind of section is there too often or not at all.
    #[error("expected {expected} {} section(s), found {found}", kind.name())]
    Count {
        /// Of which kind.
        kind: Kind,
        /// How many there may be.
        expected: &'static str,
        /// How many there are.
        found: usize,
    },
    /// Bytes after the last section.
    #[error("expected the file to end after its last section at {expected}, found {found} bytes")]
    Trailing {
        /// Where the last section ends.
        expected: usize,
        /// Length of the file.
        found: usize,
    },
    /// The bytes are not those that were written.
    #[error("CRC-32: expected {expected:08x} as computed, found {found:08x}: the file is damaged")]
    Checksum {
        /// As computed.
        expected: u32,
        /// As the header says.
        found: u32,
    },
}

/// A section of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Section<'b> {
    /// What it holds.
    pub kind: Kind,
    /// Its content.
    pub data: &'b [u8],
}

/// An image whose structure and CRC are right. Nothing is said of its sections' contents.
#[derive(Clone, Debug)]
pub struct Parsed<'b> {
    version: u16,
    arm64: bool,
    sections: Vec<Section<'b>>,
}

impl<'b> Parsed<'b> {
    /// Reads a whole file.
    ///
    /// # Errors
    /// Says the first thing that is not as it must be.
    pub fn parse(file: &'b [u8]) -> Result<Self, EifError> {
        let mut header = Fields {
            rest: take(file, 0, HEADER_LEN as u64, "header")?,
        };
        let magic = header.array::<4>();
        if magic != MAGIC {
            let found = String::from_utf8_lossy(&magic).escape_default().to_string();
            return Err(field("magic", "\".eif\"", format!("\"{found}\"")));
        }
        let version = header.u16();
        if !(3..=VERSION).contains(&version) {
            return Err(field("version", "3 or 4", version.to_string()));
        }
        let flags = header.u16();
        if flags & !FLAG_ARM64 != 0 {
            return Err(field(
                "flags",
                "0 (x86_64) or 1 (aarch64)",
                flags.to_string(),
            ));
        }
        let _memory_and_cpus = header.array::<16>();
        zero("reserved", u64::from(header.u16()))?;
        let count = usize::from(header.u16());
        if count > MAX_SECTIONS {
            return Err(field("number of sections", "at most 32", count.to_string()));
        }
        let offsets: [u64; MAX_SECTIONS] = std::array::from_fn(|_| header.u64());
        let sizes: [u64; MAX_SECTIONS] = std::array::from_fn(|_| header.u64());
        zero("unused", u64::from(header.u32()))?;
        let crc = header.u32();

        let mut sections = Vec::with_capacity(count);
        let mut at = HEADER_LEN;
        for (index, (offset, size)) in offsets.into_iter().zip(sizes).enumerate() {
            if index >= count {
                zero("offset of a section that is not there", offset)?;
                zero("size of a section that is not there", size)?;
                continue;
            }
            if offset != at as u64 {
                return Err(section(index, "offset", at.to_string(), offset.to_string()));
            }
            sections.push(read_section(file, index, at, size)?);
            at += SECTION_HEADER_LEN + sections.last().map_or(0, |section| section.data.len());
        }
        if at != file.len() {
            return Err(EifError::Trailing {
                expected: at,
                found: file.len(),
            });
        }
        let header = file.get(..CRC_AT).unwrap_or_default();
        let expected = checksum(header, file.get(HEADER_LEN..).unwrap_or_default());
        if expected != crc {
            return Err(EifError::Checksum {
                expected,
                found: crc,
            });
        }
        let parsed = Self {
            version,
            arm64: flags & FLAG_ARM64 != 0,
            sections,
        };
        parsed.check_counts()?;
        Ok(parsed)
    }

    fn check_counts(&self) -> Result<(), EifError> {
        let rules = [
            (Kind::Kernel, "1", 1..=1),
            (Kind::CommandLine, "1", 1..=1),
            (Kind::Ramdisk, "at least 1", 1..=MAX_SECTIONS),
            (Kind::Signature, "at most 1", 0..=1),
            (Kind::Metadata, "at most 1", 0..=1),
        ];
        for (kind, expected, allowed) in rules {
            let found = self.of(kind).count();
            if !allowed.contains(&found) {
                return Err(EifError::Count {
                    kind,
                    expected,
                    found,
                });
            }
        }
        Ok(())
    }

    /// Version of the format, 3 or 4.
    #[must_use]
    pub fn version(&self) -> u16 {
        self.version
    }

    /// For aarch64, not x86_64.
    #[must_use]
    pub fn arm64(&self) -> bool {
        self.arm64
    }

    /// All sections, in order.
    #[must_use]
    pub fn sections(&self) -> &[Section<'b>] {
        &self.sections
    }

    /// Contents of the sections of one kind, in order.
    pub fn of(&self, kind: Kind) -> impl Iterator<Item = &'b [u8]> + '_ {
        let of_kind = self
            .sections
            .iter()
            .filter(move |section| section.kind == kind);
        of_kind.map(|section| section.data)
    }
}

fn read_section(file: &[u8], index: usize, at: usize, size: u64) -> Result<Section<'_>, EifError> {
    let head = take(file, at, SECTION_HEADER_LEN as u64, "head of a section")?;
    let mut head = Fields { rest: head };
    let number = head.u16();
    let Some(kind) = Kind::from_number(number) else {
        return Err(section(
            index,
            "type",
            "1 to 5".to_owned(),
            number.to_string(),
        ));
    };
    let flags = head.u16();
    if flags != 0 {
        return Err(section(index, "flags", "0".to_owned(), flags.to_string()));
    }
    let found = head.u64();
    if found != size {
        let expected = format!("{size} as in the header");
        return Err(section(index, "size", expected, found.to_string()));
    }
    let data = take(file, at + SECTION_HEADER_LEN, size, kind.name())?;
    Ok(Section { kind, data })
}

/// `length` bytes at offset `at`.
fn take<'b>(
    file: &'b [u8],
    at: usize,
    length: u64,
    what: &'static str,
) -> Result<&'b [u8], EifError> {
    let rest = file.get(at..).unwrap_or_default();
    let part = usize::try_from(length)
        .ok()
        .and_then(|length| rest.get(..length));
    part.ok_or(EifError::Truncated {
        what,
        at,
        expected: length,
        found: rest.len(),
    })
}

fn field(field: &'static str, expected: &str, found: String) -> EifError {
    EifError::Field {
        field,
        expected: expected.to_owned(),
        found,
    }
}

fn section(index: usize, field: &'static str, expected: String, found: String) -> EifError {
    EifError::Section {
        index,
        field,
        expected,
        found,
    }
}

fn zero(name: &'static str, value: u64) -> Result<(), EifError> {
    if value == 0 {
        Ok(())
    } else {
        Err(field(name, "0", value.to_string()))
    }
}

/// Big-endian fields off the front of bytes that are known to be long enough; zeros where they are not.
struct Fields<'b> {
    rest: &'b [u8],
}

impl Fields<'_> {
    fn array<const N: usize>(&mut self) -> [u8; N] {
        match self.rest.split_first_chunk::<N>() {
            Some((first, rest)) => {
                self.rest = rest;
                *first
            }
            None => [0; N],
        }
    }

    fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.array())
    }

    fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.array())
    }

    fn u64(&mut self) -> u64 {
        u64::from_be_bytes(self.array())
    }
}

// The CRC is where the header says it is.
const _: () = assert!(CRC_AT == 4 + 2 + 2 + 8 + 8 + 2 + 2 + 2 * 8 * MAX_SECTIONS + 4);
