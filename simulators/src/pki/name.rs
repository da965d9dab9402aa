//! Distinguished names, attribute by attribute in the given order (RFC 5280 section 4.1.2.4).

use crate::der::{of, oid, tag, value};

/// An attribute of a name. The string types are those of the genuine certificates.
#[derive(Clone, Copy)]
pub(crate) enum Attribute {
    Country,
    State,
    Locality,
    Organization,
    Unit,
    CommonName,
}

impl Attribute {
    /// Last byte of `id-at` n (2.5.4.n) and the string's tag.
    fn encoding(self) -> (u8, u8) {
        match self {
            Self::CommonName => (3, tag::UTF8_STRING),
            Self::Country => (6, tag::PRINTABLE_STRING),
            Self::Locality => (7, tag::UTF8_STRING),
            Self::State => (8, tag::UTF8_STRING),
            Self::Organization => (10, tag::UTF8_STRING),
            Self::Unit => (11, tag::UTF8_STRING),
        }
    }
}

/// The DER of a name of these attributes.
pub(crate) fn name(attributes: &[(Attribute, &str)]) -> Vec<u8> {
    let relative: Vec<Vec<u8>> = attributes
        .iter()
        .map(|(attribute, text)| {
            let (number, string) = attribute.encoding();
            let typed = of(
                tag::SEQUENCE,
                &[&oid(&[0x55, 0x04, number]), &value(string, text.as_bytes())],
            );
            value(tag::SET, &typed)
        })
        .collect();
    value(tag::SEQUENCE, &relative.concat())
}
