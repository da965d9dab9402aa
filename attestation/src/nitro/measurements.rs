//! Measurements that software is known by: some PCRs of one kind of document.

use std::collections::BTreeMap;

use super::document::{Document, Form, PCR_COUNT, PCR_LEN, Pcr};
use crate::hex;

/// PCR values that must all be in a document of one form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measurements {
    form: Form,
    pcrs: BTreeMap<u8, Pcr>,
}

/// Why measurements cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MeasurementsError {
    /// Not a kind of document.
    #[error("provider: expected \"nitro-enclave\" or \"nitro-tpm\", found {0:?}")]
    Provider(String),
    /// No PCR at all.
    #[error("pcrs: expected at least one")]
    Empty,
    /// Not a PCR of that kind of document.
    #[error("pcrs: expected an index of 0 to {max}, found {found:?}")]
    Index {
        /// Highest index of the form.
        max: usize,
        /// The index found.
        found: String,
    },
    /// Not a SHA-384 digest.
    #[error("pcrs: PCR{index}: expected 96 hexadecimal digits (SHA-384), found {found:?}")]
    Value {
        /// Of which PCR.
        index: u8,
        /// The value found.
        found: String,
    },
}

/// How a document differs from measurements.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// It is of the other form.
    #[error("expected a document of a {}, found one of a {}", expected.name(), found.name())]
    Form {
        /// The form expected.
        expected: Form,
        /// The document's.
        found: Form,
    },
    /// A PCR has another value.
    #[error("PCR{index}: expected {expected}, found {found}")]
    Value {
        /// Which PCR.
        index: u8,
        /// The value expected, in hexadecimal.
        expected: String,
        /// The document's value.
        found: String,
    },
    /// A PCR is not in the document.
    #[error("PCR{index}: expected {expected}, found none")]
    Absent {
        /// Which PCR.
        index: u8,
        /// The value expected, in hexadecimal.
        expected: String,
    },
}

impl Measurements {
    /// Reads measurements as configuration spells them: the provider's name, and PCR index to hexadecimal value.
    ///
    /// # Errors
    /// Says which part is none.
    pub fn parse(
        provider: &str,
        pcrs: &BTreeMap<String, String>,
    ) -> Result<Self, MeasurementsError> {
        let form = [Form::NitroEnclave, Form::NitroTpm]
            .into_iter()
            .find(|form| form.name() == provider)
            .ok_or_else(|| MeasurementsError::Provider(provider.to_owned()))?;
        if pcrs.is_empty() {
            return Err(MeasurementsError::Empty);
        }
        let max = form.highest_pcr();
        let mut values = BTreeMap::new();
        for (index, value) in pcrs {
            let index = index
                .parse::<u8>()
                .ok()
                .filter(|read| usize::from(*read) <= max && read.to_string() == *index)
                .ok_or_else(|| MeasurementsError::Index {
                    max,
                    found: index.clone(),
                })?;
            let value =
                hex::decode_array::<PCR_LEN>(value).ok_or_else(|| MeasurementsError::Value {
                    index,
                    found: value.clone(),
                })?;
            values.insert(index, value);
        }
        Ok(Self { form, pcrs: values })
    }

    /// The chosen PCRs of a document; none where it does not name one of them.
    #[must_use]
    pub fn of(document: &Document<'_>, indices: &[u8]) -> Option<Self> {
        let pcrs = indices
            .iter()
            .map(|index| Some((*index, *document.pcr(*index)?)))
            .collect::<Option<BTreeMap<_, _>>>()?;
        (!pcrs.is_empty()).then_some(Self {
            form: document.form(),
            pcrs,
        })
    }

    /// The form of document they are of.
    #[must_use]
    pub fn form(&self) -> Form {
        self.form
    }

    /// The PCRs and their values, never none.
    #[must_use]
    pub fn pcrs(&self) -> &BTreeMap<u8, Pcr> {
        &self.pcrs
    }

    /// Every way `document` differs; none where it has all of them.
    #[must_use]
    pub fn mismatches(&self, document: &Document<'_>) -> Vec<Mismatch> {
        if document.form() != self.form {
            return vec![Mismatch::Form {
                expected: self.form,
                found: document.form(),
            }];
        }
        self.pcrs
            .iter()
            .filter_map(|(&index, expected)| match document.pcr(index) {
                Some(found) if found == expected => None,
                Some(found) => Some(Mismatch::Value {
                    index,
                    expected: hex::encode(expected),
                    found: hex::encode(found),
                }),
                None => Some(Mismatch::Absent {
                    index,
                    expected: hex::encode(expected),
                }),
            })
            .collect()
    }
}

impl Form {
    /// Highest PCR of such documents: a TPM has 24.
    #[must_use]
    pub fn highest_pcr(self) -> usize {
        match self {
            Self::NitroEnclave => PCR_COUNT - 1,
            Self::NitroTpm => 23,
        }
    }
}
