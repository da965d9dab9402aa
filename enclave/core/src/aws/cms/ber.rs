//! Just enough BER (X.690 §8.1) to read a structure whose shape is known: nothing is skipped, so nothing nests deeper
//! than the caller reads.

use super::CmsError;

/// INTEGER.
pub(super) const INTEGER: u8 = 0x02;
/// OCTET STRING, primitive.
pub(super) const OCTET_STRING: u8 = 0x04;
/// OBJECT IDENTIFIER.
pub(super) const OBJECT_IDENTIFIER: u8 = 0x06;
/// SEQUENCE.
pub(super) const SEQUENCE: u8 = 0x30;
/// SET.
pub(super) const SET: u8 = 0x31;

/// Bytes not read yet.
pub(super) struct Ber<'a> {
    rest: &'a [u8],
}

enum Length {
    Definite(usize),
    Indefinite,
}

impl<'a> Ber<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The next tag, without taking it.
    pub(super) fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// Everything was read.
    pub(super) fn end(&self, what: &'static str) -> Result<(), CmsError> {
        match self.rest.len() {
            0 => Ok(()),
            found => Err(CmsError::Trailing { what, found }),
        }
    }

    /// The contents of a primitive of that tag, with a definite length.
    pub(super) fn primitive(&mut self, what: &'static str, tag: u8) -> Result<&'a [u8], CmsError> {
        match self.header(what, tag)? {
            Length::Definite(length) => self.take(what, length),
            Length::Indefinite => Err(CmsError::Length { what }),
        }
    }

    /// What `read` makes of the contents of a constructed value of that tag, of which it must leave nothing; both
    /// forms of length are taken.
    pub(super) fn constructed<T>(
        &mut self,
        what: &'static str,
        tag: u8,
        read: impl FnOnce(&mut Self) -> Result<T, CmsError>,
    ) -> Result<T, CmsError> {
        match self.header(what, tag)? {
            Length::Definite(length) => {
                let mut contents = Self::new(self.take(what, length)?);
                let value = read(&mut contents)?;
                contents.end(what)?;
                Ok(value)
            }
            Length::Indefinite => {
                let value = read(self)?;
                match self.take(what, 2)? {
                    [0, 0] => Ok(value),
                    _ => Err(CmsError::Unterminated { what }),
                }
            }
        }
    }

    fn header(&mut self, what: &'static str, tag: u8) -> Result<Length, CmsError> {
        let found = self.byte(what)?;
        if found != tag {
            return Err(CmsError::Tag {
                what,
                expected: tag,
                found,
            });
        }
        // Lengths fit two bytes because the whole is bounded; the shorter form is used wherever it fits.
        match self.byte(what)? {
            0x80 => Ok(Length::Indefinite),
            short @ ..0x80 => Ok(Length::Definite(short.into())),
            0x81 => match self.byte(what)? {
                length @ 0x80.. => Ok(Length::Definite(length.into())),
                _ => Err(CmsError::Length { what }),
            },
            0x82 => match u16::from_be_bytes([self.byte(what)?, self.byte(what)?]) {
                length @ 0x100.. => Ok(Length::Definite(length.into())),
                _ => Err(CmsError::Length { what }),
            },
            _ => Err(CmsError::Length { what }),
        }
    }

    fn byte(&mut self, what: &'static str) -> Result<u8, CmsError> {
        let (first, rest) = self
            .rest
            .split_first()
            .ok_or(CmsError::Truncated { what })?;
        self.rest = rest;
        Ok(*first)
    }

    fn take(&mut self, what: &'static str, length: usize) -> Result<&'a [u8], CmsError> {
        let (taken, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or(CmsError::Truncated { what })?;
        self.rest = rest;
        Ok(taken)
    }
}
