//! Strict reading of DER (X.690): definite, shortest lengths; nothing after the last element.

/// Boolean, the tags are those of X.680.
pub(crate) const BOOLEAN: u8 = 0x01;
/// Integer.
pub(crate) const INTEGER: u8 = 0x02;
/// Bit string.
pub(crate) const BIT_STRING: u8 = 0x03;
/// Octet string.
pub(crate) const OCTET_STRING: u8 = 0x04;
/// Object identifier.
pub(crate) const OID: u8 = 0x06;
/// Sequence.
pub(crate) const SEQUENCE: u8 = 0x30;
/// Time with two digits of the year.
pub(crate) const UTC_TIME: u8 = 0x17;
/// Time with four digits of the year.
pub(crate) const GENERALIZED_TIME: u8 = 0x18;

/// Bytes are not the DER that was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// One element.
#[derive(Clone, Copy)]
pub(crate) struct Element<'b> {
    /// Its contents.
    pub(crate) contents: &'b [u8],
    /// Tag, length and contents.
    pub(crate) whole: &'b [u8],
}

/// Reads elements off a byte string one after the other.
pub(crate) struct Reader<'b> {
    rest: &'b [u8],
}

impl<'b> Reader<'b> {
    pub(crate) fn new(bytes: &'b [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Tag of the next element, none at the end.
    pub(crate) fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// The next element, which must have this tag.
    pub(crate) fn element(&mut self, tag: u8) -> Result<Element<'b>, Malformed> {
        let (found, after) = self.rest.split_first().ok_or(Malformed)?;
        if *found != tag {
            return Err(Malformed);
        }
        let (first, after) = after.split_first().ok_or(Malformed)?;
        let (length, after) = match *first {
            short @ 0..=0x7f => (usize::from(short), after),
            0x81 => {
                let (length, after) = after.split_first().ok_or(Malformed)?;
                (usize::from(*length), after)
            }
            0x82 => {
                let (length, after) = after.split_first_chunk::<2>().ok_or(Malformed)?;
                (usize::from(u16::from_be_bytes(*length)), after)
            }
            // Certificates of documents have at most 1024 bytes.
            _ => return Err(Malformed),
        };
        let shortest = match *first {
            0x81 => length >= 0x80,
            0x82 => length >= 0x100,
            _ => true,
        };
        if !shortest {
            return Err(Malformed);
        }
        let (contents, after) = after.split_at_checked(length).ok_or(Malformed)?;
        let whole = self
            .rest
            .get(..self.rest.len() - after.len())
            .ok_or(Malformed)?;
        self.rest = after;
        Ok(Element { contents, whole })
    }

    /// The contents of the next element, which must have this tag.
    pub(crate) fn contents(&mut self, tag: u8) -> Result<&'b [u8], Malformed> {
        self.element(tag).map(|element| element.contents)
    }

    /// A reader of the contents of the next element, which must have this tag.
    pub(crate) fn nested(&mut self, tag: u8) -> Result<Self, Malformed> {
        self.contents(tag).map(Self::new)
    }

    /// The contents of the next element if it has this tag.
    pub(crate) fn optional(&mut self, tag: u8) -> Result<Option<&'b [u8]>, Malformed> {
        if self.peek() == Some(tag) {
            return self.contents(tag).map(Some);
        }
        Ok(None)
    }

    /// A boolean: in DER only 00 and ff.
    pub(crate) fn boolean(&mut self) -> Result<bool, Malformed> {
        match self.contents(BOOLEAN)? {
            [0] => Ok(false),
            [0xff] => Ok(true),
            _ => Err(Malformed),
        }
    }

    /// A bit string of whole bytes.
    pub(crate) fn whole_bits(&mut self) -> Result<&'b [u8], Malformed> {
        match self.contents(BIT_STRING)?.split_first() {
            Some((0, bytes)) => Ok(bytes),
            _ => Err(Malformed),
        }
    }

    /// Nothing may follow.
    pub(crate) fn finish(self) -> Result<(), Malformed> {
        if self.rest.is_empty() {
            return Ok(());
        }
        Err(Malformed)
    }
}
