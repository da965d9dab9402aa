//! Strict reading and deterministic writing of CBOR (RFC 8949 section 4.2.1).
//!
//! The reader takes only what the writer makes: shortest heads, definite lengths, the expected items in the expected
//! order, nothing after them. It never recurses (the depth is that of the code that reads) and never allocates by a
//! length it has not checked.

use minicbor::decode::Error as MinicborError;
use minicbor::{Decoder, Encoder};

/// Why bytes are not the expected CBOR.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct DecodeError {
    /// What was being read, as docs/format.md names it.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with an item.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Another item stands there, or none.
    #[error("expected {expected}, found {found}")]
    Expected {
        /// The item the format has there.
        expected: String,
        /// What is there.
        found: String,
    },
    /// A string, array or map is too short or too long.
    #[error("expected a length of {min} to {max}, found {found}")]
    Length {
        /// Shortest length allowed (bytes or items).
        min: usize,
        /// Longest length allowed.
        max: usize,
        /// The length found.
        found: u64,
    },
    /// A number or length is not in its shortest form.
    #[error("not in the shortest form (RFC 8949 section 4.2.1)")]
    NotShortest,
    /// Bytes follow the item.
    #[error("{0} bytes follow where nothing should")]
    Trailing(usize),
}

impl DecodeError {
    /// `field` should hold `expected`, but holds `found`.
    pub fn expected(
        field: &'static str,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Self {
        Self {
            field,
            problem: Problem::Expected {
                expected: expected.into(),
                found: found.into(),
            },
        }
    }
}

/// Reads items off a byte string one after the other.
pub struct Reader<'b> {
    decoder: Decoder<'b>,
}

impl<'b> Reader<'b> {
    /// A reader at the start of `bytes`.
    #[must_use]
    pub fn new(bytes: &'b [u8]) -> Self {
        Self {
            decoder: Decoder::new(bytes),
        }
    }

    /// Where the next item starts, in bytes from the start.
    #[must_use]
    pub fn position(&self) -> usize {
        self.decoder.position()
    }

    /// Everything from the next item on.
    #[must_use]
    pub fn rest(&self) -> &'b [u8] {
        let input = self.decoder.input();
        input.get(self.position()..).unwrap_or_default()
    }

    /// An unsigned integer of at most `max`.
    pub fn uint(&mut self, field: &'static str, max: u64) -> Result<u64, DecodeError> {
        let start = self.position();
        let value = self.item(field, "an unsigned integer", Decoder::u64)?;
        self.shortest(field, start, value, 0)?;
        if value > max {
            return Err(DecodeError::expected(
                field,
                format!("at most {max}"),
                value.to_string(),
            ));
        }
        Ok(value)
    }

    /// An unsigned integer that must be `value`.
    pub fn exactly(&mut self, field: &'static str, value: u64) -> Result<(), DecodeError> {
        let found = self.uint(field, u64::MAX)?;
        if found == value {
            return Ok(());
        }
        Err(DecodeError::expected(
            field,
            value.to_string(),
            found.to_string(),
        ))
    }

    /// A byte string of `min` to `max` bytes.
    pub fn bytes(
        &mut self,
        field: &'static str,
        min: usize,
        max: usize,
    ) -> Result<&'b [u8], DecodeError> {
        let start = self.position();
        let value = self.item(field, "a byte string", Decoder::bytes)?;
        self.shortest(field, start, value.len() as u64, value.len())?;
        Self::length(field, min, max, value.len() as u64)?;
        Ok(value)
    }

    /// A byte string of exactly `N` bytes.
    pub fn array_of<const N: usize>(
        &mut self,
        field: &'static str,
    ) -> Result<[u8; N], DecodeError> {
        let value = self.bytes(field, N, N)?;
        value
            .try_into()
            .map_err(|_| DecodeError::expected(field, format!("{N} bytes"), "another length"))
    }

    /// A text string of `min` to `max` bytes of UTF-8.
    pub fn text(
        &mut self,
        field: &'static str,
        min: usize,
        max: usize,
    ) -> Result<&'b str, DecodeError> {
        let start = self.position();
        let value = self.item(field, "a text string", Decoder::str)?;
        self.shortest(field, start, value.len() as u64, value.len())?;
        Self::length(field, min, max, value.len() as u64)?;
        Ok(value)
    }

    /// True or false.
    pub fn boolean(&mut self, field: &'static str) -> Result<bool, DecodeError> {
        self.item(field, "true or false", Decoder::bool)
    }

    /// The head of an array of `min` to `max` items.
    pub fn array(
        &mut self,
        field: &'static str,
        min: usize,
        max: usize,
    ) -> Result<usize, DecodeError> {
        let start = self.position();
        let count = self.item(field, "an array", Decoder::array)?;
        self.count(field, start, min, max, count)
    }

    /// The head of a map of exactly `entries` entries.
    pub fn map(&mut self, field: &'static str, entries: usize) -> Result<(), DecodeError> {
        self.map_of(field, entries, entries).map(drop)
    }

    /// The head of a map of `min` to `max` entries.
    pub fn map_of(
        &mut self,
        field: &'static str,
        min: usize,
        max: usize,
    ) -> Result<usize, DecodeError> {
        let start = self.position();
        let count = self.item(field, "a map", Decoder::map)?;
        self.count(field, start, min, max, count)
    }

    /// Whether null stands here; reads it if so.
    pub fn null(&mut self) -> bool {
        let is_null = matches!(self.decoder.datatype(), Ok(minicbor::data::Type::Null));
        is_null && self.decoder.null().is_ok()
    }

    /// Nothing may follow.
    pub fn finish(self, field: &'static str) -> Result<(), DecodeError> {
        match self.decoder.input().len().saturating_sub(self.position()) {
            0 => Ok(()),
            rest => Err(DecodeError {
                field,
                problem: Problem::Trailing(rest),
            }),
        }
    }

    fn item<T>(
        &mut self,
        field: &'static str,
        expected: &'static str,
        read: impl FnOnce(&mut Decoder<'b>) -> Result<T, MinicborError>,
    ) -> Result<T, DecodeError> {
        let start = self.position();
        read(&mut self.decoder).map_err(|error| {
            let found = if error.is_end_of_input() {
                "the end of the data".to_owned()
            } else {
                match self.decoder.input().get(start) {
                    Some(byte) => format!("another item (first byte 0x{byte:02x})"),
                    None => "the end of the data".to_owned(),
                }
            };
            DecodeError::expected(field, expected, found)
        })
    }

    fn count(
        &self,
        field: &'static str,
        start: usize,
        min: usize,
        max: usize,
        count: Option<u64>,
    ) -> Result<usize, DecodeError> {
        let count = count.ok_or_else(|| {
            DecodeError::expected(field, "a definite length", "an indefinite one")
        })?;
        self.shortest(field, start, count, 0)?;
        Self::length(field, min, max, count)
    }

    fn length(
        field: &'static str,
        min: usize,
        max: usize,
        found: u64,
    ) -> Result<usize, DecodeError> {
        usize::try_from(found)
            .ok()
            .filter(|length| (min..=max).contains(length))
            .ok_or(DecodeError {
                field,
                problem: Problem::Length { min, max, found },
            })
    }

    /// Checks that what was read since `start` is the shortest head for `value` and `content` bytes after it.
    fn shortest(
        &self,
        field: &'static str,
        start: usize,
        value: u64,
        content: usize,
    ) -> Result<(), DecodeError> {
        let head: usize = match value {
            0..24 => 1,
            24..0x100 => 2,
            0x100..0x1_0000 => 3,
            0x1_0000..0x1_0000_0000 => 5,
            _ => 9,
        };
        if self.position().checked_sub(start) == head.checked_add(content) {
            return Ok(());
        }
        Err(DecodeError {
            field,
            problem: Problem::NotShortest,
        })
    }
}

/// Writes items, always in their shortest form, to a byte string.
#[derive(Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// A writer with nothing written yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An unsigned integer.
    pub fn uint(&mut self, value: u64) -> &mut Self {
        self.put(|e| e.u64(value).map(drop))
    }

    /// A byte string.
    pub fn bytes(&mut self, value: &[u8]) -> &mut Self {
        self.put(|e| e.bytes(value).map(drop))
    }

    /// A text string.
    pub fn text(&mut self, value: &str) -> &mut Self {
        self.put(|e| e.str(value).map(drop))
    }

    /// True or false.
    pub fn boolean(&mut self, value: bool) -> &mut Self {
        self.put(|e| e.bool(value).map(drop))
    }

    /// Null.
    pub fn null(&mut self) -> &mut Self {
        self.put(|e| e.null().map(drop))
    }

    /// The head of an array.
    pub fn array(&mut self, items: usize) -> &mut Self {
        self.put(|e| e.array(items as u64).map(drop))
    }

    /// The head of a map.
    pub fn map(&mut self, entries: usize) -> &mut Self {
        self.put(|e| e.map(entries as u64).map(drop))
    }

    /// A value, or null where there is none.
    pub fn optional<T>(
        &mut self,
        value: Option<T>,
        write: impl FnOnce(&mut Self, T) -> &mut Self,
    ) -> &mut Self {
        match value {
            Some(value) => write(self, value),
            None => self.null(),
        }
    }

    /// What was written.
    #[must_use]
    pub fn finish(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    fn put(
        &mut self,
        write: impl FnOnce(
            &mut Encoder<&mut Vec<u8>>,
        ) -> Result<(), minicbor::encode::Error<std::convert::Infallible>>,
    ) -> &mut Self {
        // Writing to a Vec cannot fail: the error type of its writer is `Infallible`.
        let written = write(&mut Encoder::new(&mut self.bytes));
        debug_assert!(written.is_ok());
        self
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn uint(bytes: &[u8]) -> Result<u64, DecodeError> {
        let mut reader = Reader::new(bytes);
        let value = reader.uint("number", u64::MAX)?;
        reader.finish("number").map(|()| value)
    }

    #[test]
    fn numbers_and_lengths_are_read_only_in_their_shortest_form() {
        assert_eq!(uint(&[0x17]), Ok(23));
        assert_eq!(uint(&[0x18, 0x18]), Ok(24));
        let not_shortest = Err(DecodeError {
            field: "number",
            problem: Problem::NotShortest,
        });
        assert_eq!(uint(&[0x18, 0x17]), not_shortest);
        assert_eq!(uint(&[0x19, 0, 0xff]), not_shortest);
        assert_eq!(
            uint(&[0x1b, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]),
            not_shortest
        );
        let long_bytes = Reader::new(&[0x58, 1, 7]).bytes("b", 0, 9).unwrap_err();
        assert_eq!(long_bytes.problem, Problem::NotShortest);
    }

    #[test]
    fn indefinite_lengths_are_refused() {
        for (bytes, read) in [
            (&[0x9f, 0xff][..], "array"),
            (&[0xbf, 0xff][..], "map"),
            (&[0x5f, 0x41, 7, 0xff][..], "bytes"),
            (&[0x7f, 0x61, b'a', 0xff][..], "text"),
        ] {
            let mut reader = Reader::new(bytes);
            let error = match read {
                "array" => reader.array("x", 0, 9).map(drop),
                "map" => reader.map("x", 0),
                "bytes" => reader.bytes("x", 0, 9).map(drop),
                _ => reader.text("x", 0, 9).map(drop),
            }
            .unwrap_err();
            assert!(matches!(error.problem, Problem::Expected { .. }), "{error}");
        }
    }

    #[test]
    fn a_length_beyond_its_limit_is_refused_before_anything_is_allocated() {
        let claim = [0x9b, 0x7f, 0, 0, 0, 0, 0, 0, 0];
        let error = Reader::new(&claim).array("ways", 1, 8).unwrap_err();
        let (min, max, found) = (1, 8, 0x7f00_0000_0000_0000);
        assert_eq!(error.problem, Problem::Length { min, max, found });
    }

    #[test]
    fn errors_name_the_field_the_expected_and_the_found() {
        let error = Reader::new(&[0x01]).text("node", 1, 64).unwrap_err();
        assert_eq!(
            error.to_string(),
            "node: expected a text string, found another item (first byte 0x01)"
        );
        let error = Reader::new(&[0x62, b'a']).text("node", 1, 64).unwrap_err();
        assert_eq!(
            error.to_string(),
            "node: expected a text string, found the end of the data"
        );
        let error = uint(&[1, 2]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "number: 1 bytes follow where nothing should"
        );
    }
}
