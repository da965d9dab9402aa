//! What a caller expects a document to say, beyond its being genuine.

use serde::Deserialize;

use super::document::Document;
use super::measurements::MeasurementsError;
use super::report::Check;
use super::verify::DebugEnclaves;
use crate::hex;
use crate::policy::{Generation, GenerationTable, ReleasePolicy};
use crate::time::Timestamp;

/// What a document should say. Empty: anything.
#[derive(Clone, Debug, Default)]
pub struct Expectations {
    generations: Vec<Generation>,
    module_id: Option<String>,
    public_key: Option<Vec<u8>>,
    user_data: Option<Vec<u8>>,
    nonce: Option<Vec<u8>>,
    max_age_seconds: Option<u64>,
    debug: DebugEnclaves,
}

/// Why expectations cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExpectationsError {
    /// Not TOML, or of another shape.
    #[error("expectations: {0}")]
    Toml(String),
    /// A member is not hexadecimal.
    #[error("expectations: {field}: expected hexadecimal")]
    Hex {
        /// Which member.
        field: &'static str,
    },
    /// A generation's measurements cannot be read.
    #[error("expectations: generation {name:?}: {error}")]
    Measurements {
        /// Its name.
        name: String,
        /// What is wrong.
        error: MeasurementsError,
    },
}

/// An expectation that a document does not meet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unmet {
    /// No generation fits; how the nearest differs.
    #[error("no allowed generation fits; the nearest, {nearest:?}: {differences}")]
    Generation {
        /// Name of the nearest.
        nearest: String,
        /// How it differs.
        differences: String,
    },
    /// A member has another value.
    #[error("{field}: expected {expected}, found {found}")]
    Member {
        /// Which member.
        field: &'static str,
        /// The value expected.
        expected: String,
        /// The document's.
        found: String,
    },
    /// Too old, or not yet made.
    #[error("made at {made}: expected at most {max} s before {at}")]
    Age {
        /// When the document was made.
        made: Timestamp,
        /// Oldest taken, in seconds.
        max: u64,
        /// The time of verification.
        at: Timestamp,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    generation: Vec<GenerationTable>,
    module_id: Option<String>,
    public_key: Option<String>,
    user_data: Option<String>,
    nonce: Option<String>,
    max_age_seconds: Option<u64>,
}

impl Expectations {
    /// Reads expectations from TOML: `[[generation]]` as in a release policy, of which one must fit; `module_id`;
    /// `public_key`, `user_data` and `nonce` in hexadecimal; `max_age_seconds`.
    ///
    /// # Errors
    /// Says what cannot be read.
    pub fn parse(text: &str) -> Result<Self, ExpectationsError> {
        let file: File =
            toml::from_str(text).map_err(|error| ExpectationsError::Toml(error.to_string()))?;
        let bytes = |field, text: Option<String>| {
            text.map(|text| hex::decode(&text).ok_or(ExpectationsError::Hex { field }))
                .transpose()
        };
        let generations = file
            .generation
            .into_iter()
            .map(|table| {
                table
                    .read()
                    .map_err(|(name, error)| ExpectationsError::Measurements { name, error })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            generations,
            module_id: file.module_id,
            public_key: bytes("public_key", file.public_key)?,
            user_data: bytes("user_data", file.user_data)?,
            nonce: bytes("nonce", file.nonce)?,
            max_age_seconds: file.max_age_seconds,
            debug: DebugEnclaves::Refuse,
        })
    }

    /// One of these generations must fit.
    #[must_use]
    pub fn with_generations(mut self, generations: impl IntoIterator<Item = Generation>) -> Self {
        self.generations.extend(generations);
        self
    }

    /// The document must carry this nonce.
    #[must_use]
    pub fn with_nonce(mut self, nonce: &[u8]) -> Self {
        self.nonce = Some(nonce.to_vec());
        self
    }

    /// The document must carry this public key.
    #[must_use]
    pub fn with_public_key(mut self, public_key: &[u8]) -> Self {
        self.public_key = Some(public_key.to_vec());
        self
    }

    /// **Dangerous**: documents of enclaves in debug mode are taken too.
    #[must_use]
    pub fn danger_accept_debug_enclaves(mut self) -> Self {
        self.debug = DebugEnclaves::DangerAccept;
        self
    }

    pub(super) fn debug(&self) -> DebugEnclaves {
        self.debug
    }

    /// What is expected, and whether `document` meets it as of `at`.
    pub(super) fn outcomes(
        &self,
        document: &Document<'_>,
        at: Timestamp,
    ) -> Vec<(Check, Result<String, Unmet>)> {
        let mut outcomes = Vec::new();
        if !self.generations.is_empty() {
            outcomes.push((Check::Measurements, self.generation(document)));
        }
        if let Some(expected) = &self.module_id {
            let found = document.module_id();
            outcomes.push((
                Check::ModuleId,
                member("module_id", expected.clone(), found.to_owned()),
            ));
        }
        for (check, field, expected, found) in [
            (
                Check::PublicKey,
                "public_key",
                &self.public_key,
                document.public_key(),
            ),
            (
                Check::UserData,
                "user_data",
                &self.user_data,
                document.user_data(),
            ),
            (Check::Nonce, "nonce", &self.nonce, document.nonce()),
        ] {
            if let Some(expected) = expected {
                let found = found.map_or_else(|| "none".to_owned(), hex::encode);
                outcomes.push((check, member(field, hex::encode(expected), found)));
            }
        }
        if let Some(max) = self.max_age_seconds {
            let made = document.timestamp();
            let age = at.milliseconds().checked_sub(made.milliseconds());
            let outcome = match age {
                Some(age) if age <= max.saturating_mul(1000) => Ok(format!("{} s", age / 1000)),
                _ => Err(Unmet::Age { made, max, at }),
            };
            outcomes.push((Check::Age, outcome));
        }
        outcomes
    }

    fn generation(&self, document: &Document<'_>) -> Result<String, Unmet> {
        let mut nearest: Option<(&Generation, Vec<super::Mismatch>)> = None;
        for generation in &self.generations {
            let mismatches = generation.measurements.mismatches(document);
            if mismatches.is_empty() {
                return Ok(format!("generation {:?}", generation.name));
            }
            let nearer = nearest
                .as_ref()
                .is_none_or(|(_, others)| mismatches.len() < others.len());
            if nearer {
                nearest = Some((generation, mismatches));
            }
        }
        let (nearest, differences) = nearest.map_or_else(Default::default, |(nearest, found)| {
            let differences: Vec<String> = found.iter().map(ToString::to_string).collect();
            (nearest.name.clone(), differences.join("; "))
        });
        Err(Unmet::Generation {
            nearest,
            differences,
        })
    }
}

impl From<&ReleasePolicy> for Expectations {
    fn from(policy: &ReleasePolicy) -> Self {
        Self::default().with_generations(policy.generations().iter().cloned())
    }
}

fn member(field: &'static str, expected: String, found: String) -> Result<String, Unmet> {
    if expected == found {
        return Ok(String::new());
    }
    Err(Unmet::Member {
        field,
        expected,
        found,
    })
}
