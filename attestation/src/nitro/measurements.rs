//! Measurements that software is known by: some PCRs of one kind of document.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{Context, SHA384};
use serde::Deserialize;

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
    /// Not what the build of an image prints.
    #[error(
        "expected what `nitro-cli build-enclave` prints, {{\"Measurements\": {{\"HashAlgorithm\": \"Sha384 …\", \"PCR0\": …}}}}: {0}"
    )]
    Build(String),
}

/// What `nitro-cli build-enclave`, `nitro-cli describe-eif` and our own build print, as far as it is read here.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Build {
    measurements: BTreeMap<String, String>,
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

    /// Reads the measurements of an enclave image as its build printed them: JSON with `Measurements`, in which every
    /// PCR is one of the image.
    ///
    /// # Errors
    /// Says what is not as `nitro-cli` prints it.
    pub fn of_build(json: &str) -> Result<Self, MeasurementsError> {
        let build: Build = serde_json::from_str(json)
            .map_err(|error| MeasurementsError::Build(error.to_string()))?;
        let mut pcrs = build.measurements;
        let algorithm = pcrs.remove("HashAlgorithm").unwrap_or_default();
        if !algorithm.starts_with("Sha384") {
            let found = format!("HashAlgorithm is {algorithm:?}");
            return Err(MeasurementsError::Build(found));
        }
        let index = |(name, value): (String, String)| match name.strip_prefix("PCR") {
            Some(index) => Ok((index.to_owned(), value)),
            None => Err(MeasurementsError::Build(format!("{name:?} is no PCR"))),
        };
        let pcrs = pcrs.into_iter().map(index).collect::<Result<_, _>>()?;
        Self::parse(Form::NitroEnclave.name(), &pcrs)
    }

    /// These, and what the hypervisor measures of the parent instance: its role (ARN) into PCR3, its id into PCR4.
    /// AWS Nitro Enclaves user guide, "Where to get an enclave's measurements".
    #[must_use]
    pub fn with_parent(mut self, role: Option<&str>, instance: Option<&str>) -> Self {
        for (index, measured) in [(3, role), (4, instance)] {
            if let Some(measured) = measured {
                let mut register = Context::new(&SHA384);
                register.update(&[0; PCR_LEN]);
                register.update(measured.as_bytes());
                let mut value = [0; PCR_LEN];
                value.copy_from_slice(register.finish().as_ref());
                self.pcrs.insert(index, value);
            }
        }
        self
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn build(pcrs: &str) -> String {
        format!("{{\"Measurements\": {{\"HashAlgorithm\": \"Sha384 {{ ... }}\"{pcrs}}}}}")
    }

    #[test]
    fn what_a_build_printed_is_read_and_the_parent_added() {
        let value = "0a".repeat(48);
        let printed = build(&format!(", \"PCR0\": \"{value}\", \"PCR8\": \"{value}\""));
        let read = Measurements::of_build(&printed).unwrap();
        assert_eq!(read.form(), Form::NitroEnclave);
        assert_eq!(read.pcrs().keys().copied().collect::<Vec<_>>(), [0, 8]);
        assert_eq!(read.pcrs()[&0], [0x0a; 48]);
        // By Python's hashlib: sha384(bytes(48) + b"i-0123456789abcdef0").
        let read = read.with_parent(None, Some("i-0123456789abcdef0"));
        assert_eq!(read.pcrs().keys().copied().collect::<Vec<_>>(), [0, 4, 8]);
        assert_eq!(
            hex::encode(&read.pcrs()[&4]),
            "d6432900ac1c343cb40286898792c55e962aef0cc35c4910c0c286145b51af19e782cb21cc31a042671d7dfbd398251c"
        );
    }

    #[test]
    fn what_no_build_printed_is_refused_by_name() {
        let error = |json: &str| Measurements::of_build(json).unwrap_err();
        let built = |what: &str| MeasurementsError::Build(what.to_owned());
        assert!(matches!(error("no JSON"), MeasurementsError::Build(_)));
        assert!(matches!(error("{}"), MeasurementsError::Build(_)));
        assert_eq!(
            error("{\"Measurements\": {}}"),
            built("HashAlgorithm is \"\"")
        );
        assert_eq!(error(&build("")), MeasurementsError::Empty);
        assert_eq!(
            error(&build(", \"pcr0\": \"00\"")),
            built("\"pcr0\" is no PCR")
        );
        let value = error(&build(", \"PCR0\": \"00\""));
        let found = "00".to_owned();
        assert_eq!(value, MeasurementsError::Value { index: 0, found });
    }
}
