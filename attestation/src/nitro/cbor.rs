//! Strict reading of CBOR in which maps and arrays may be of indefinite length, as genuine documents have them.

use minicbor::Decoder;
use minicbor::data::Type;
use minicbor::decode::Error as MinicborError;

use super::error::ParseError;

/// Deepest nesting skipped in a member that is not known.
const MAX_SKIPPED_DEPTH: usize = 8;

/// Reads items off a byte string one after the other.
pub(super) struct Reader<'b> {
    decoder: Decoder<'b>,
}

/// How many items or entries are still to come.
pub(super) enum Remaining {
    /// The head said so.
    Exactly(u64),
    /// Until the break; at most this many.
    UntilBreak(usize),
}

impl<'b> Reader<'b> {
    pub(super) fn new(bytes: &'b [u8]) -> Self {
        Self {
            decoder: Decoder::new(bytes),
        }
    }

    pub(super) fn position(&self) -> usize {
        self.decoder.position()
    }

    /// An unsigned integer, in any of its lengths.
    pub(super) fn uint(&mut self, field: &'static str) -> Result<u64, ParseError> {
        self.item(field, "an unsigned integer", Decoder::u64)
    }

    /// A byte string of definite length, of `min` to `max` bytes.
    pub(super) fn bytes(
        &mut self,
        field: &'static str,
        min: usize,
        max: usize,
    ) -> Result<&'b [u8], ParseError> {
        let value = self.item(field, "a byte string", Decoder::bytes)?;
        length(field, min, max, value.len())?;
        Ok(value)
    }

    /// A text string of definite length, of `min` to `max` bytes of UTF-8.
    pub(super) fn text(
        &mut self,
        field: &'static str,
        min: usize,
        max: usize,
    ) -> Result<&'b str, ParseError> {
        let value = self.item(field, "a text string", Decoder::str)?;
        length(field, min, max, value.len())?;
        Ok(value)
    }

    /// The head of an array of at most `max` items.
    pub(super) fn array(
        &mut self,
        field: &'static str,
        max: usize,
    ) -> Result<Remaining, ParseError> {
        let count = self.item(field, "an array", Decoder::array)?;
        Self::remaining(field, max, count)
    }

    /// The head of a map of at most `max` entries.
    pub(super) fn map(&mut self, field: &'static str, max: usize) -> Result<Remaining, ParseError> {
        let count = self.item(field, "a map", Decoder::map)?;
        Self::remaining(field, max, count)
    }

    fn remaining(
        field: &'static str,
        max: usize,
        count: Option<u64>,
    ) -> Result<Remaining, ParseError> {
        match count {
            None => Ok(Remaining::UntilBreak(max)),
            Some(found) if usize::try_from(found).is_ok_and(|found| found <= max) => {
                Ok(Remaining::Exactly(found))
            }
            Some(found) => Err(ParseError::Length {
                field,
                min: 0,
                max,
                found,
            }),
        }
    }

    /// Whether another item or entry follows; reads the break if not.
    pub(super) fn more(
        &mut self,
        field: &'static str,
        remaining: &mut Remaining,
    ) -> Result<bool, ParseError> {
        match remaining {
            Remaining::Exactly(0) => Ok(false),
            Remaining::Exactly(left) => {
                *left -= 1;
                Ok(true)
            }
            Remaining::UntilBreak(left) => {
                if matches!(self.decoder.datatype(), Ok(Type::Break)) {
                    self.decoder.set_position(self.decoder.position() + 1);
                    return Ok(false);
                }
                let max = *left;
                *left = max.checked_sub(1).ok_or(ParseError::Expected {
                    field,
                    expected: "the end of an indefinite length",
                    found: "more items than are taken".to_owned(),
                })?;
                Ok(true)
            }
        }
    }

    /// Whether null stands here; reads it if so.
    pub(super) fn null(&mut self) -> bool {
        matches!(self.decoder.datatype(), Ok(Type::Null)) && self.decoder.null().is_ok()
    }

    /// Passes over one item of a member that is not known.
    pub(super) fn skip(&mut self, field: &'static str) -> Result<(), ParseError> {
        self.skip_nested(field, MAX_SKIPPED_DEPTH)
    }

    // Recursion is bounded by the depth; the work by the input, of which every item takes a byte at least.
    fn skip_nested(&mut self, field: &'static str, depth: usize) -> Result<(), ParseError> {
        let deeper = depth.checked_sub(1).ok_or(ParseError::TooDeep {
            max: MAX_SKIPPED_DEPTH,
        });
        let kind = self.item(field, "an item", |decoder| decoder.datatype())?;
        match kind {
            Type::Array | Type::ArrayIndef => {
                let deeper = deeper?;
                let mut remaining = self.array(field, usize::MAX)?;
                while self.more(field, &mut remaining)? {
                    self.skip_nested(field, deeper)?;
                }
                Ok(())
            }
            Type::Map | Type::MapIndef => {
                let deeper = deeper?;
                let mut remaining = self.map(field, usize::MAX)?;
                while self.more(field, &mut remaining)? {
                    self.skip_nested(field, deeper)?;
                    self.skip_nested(field, deeper)?;
                }
                Ok(())
            }
            Type::Tag => {
                let deeper = deeper?;
                self.item(field, "a tag", Decoder::tag)?;
                self.skip_nested(field, deeper)
            }
            Type::Bytes => self.item(field, "a byte string", Decoder::bytes).map(drop),
            Type::String => self.item(field, "a text string", Decoder::str).map(drop),
            Type::BytesIndef | Type::StringIndef | Type::Break | Type::Unknown(_) => {
                self.item(field, "an item of definite length", |_| {
                    Err::<(), _>(MinicborError::message("not taken"))
                })
            }
            _ => self.item(field, "a simple value", Decoder::skip),
        }
    }

    /// Nothing may follow.
    pub(super) fn finish(self, field: &'static str) -> Result<(), ParseError> {
        match self.decoder.input().len().saturating_sub(self.position()) {
            0 => Ok(()),
            count => Err(ParseError::Trailing { field, count }),
        }
    }

    fn item<T>(
        &mut self,
        field: &'static str,
        expected: &'static str,
        read: impl FnOnce(&mut Decoder<'b>) -> Result<T, MinicborError>,
    ) -> Result<T, ParseError> {
        let start = self.position();
        read(&mut self.decoder).map_err(|error| ParseError::Expected {
            field,
            expected,
            found: match self.decoder.input().get(start) {
                Some(byte) if !error.is_end_of_input() => {
                    format!("another item (first byte 0x{byte:02x})")
                }
                _ => "the end of the data".to_owned(),
            },
        })
    }
}

pub(super) fn length(
    field: &'static str,
    min: usize,
    max: usize,
    found: usize,
) -> Result<(), ParseError> {
    if (min..=max).contains(&found) {
        return Ok(());
    }
    Err(ParseError::Length {
        field,
        min,
        max,
        found: found as u64,
    })
}
