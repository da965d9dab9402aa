//! The release policy: which measurements, asked for by which principals, in which encryption context.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::hex;
use crate::nitro::{Form, Measurements, MeasurementsError};
use crate::policy::aws::known;
use crate::policy::azure::{self, AzureSection};

/// Most generations: a key policy has at most 32 KiB, and a statement of four PCRs takes about 1 KiB.
const MAX_GENERATIONS: usize = 16;
/// Longest text of a policy, in bytes.
const MAX_TEXT: usize = 256 * 1024;
/// The one version of the format.
const VERSION: u32 = 1;

/// Software that may have a data key: one image, or one boot chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generation {
    /// What people call it.
    pub name: String,
    /// What it is known by.
    pub measurements: Measurements,
}

/// Who may do what, by IAM ARN of a role or user. None is in two lists.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Principals {
    /// May have data keys, with attestation only.
    pub runtime: Vec<String>,
    /// May manage the key and its policy, and never use it.
    pub administrators: Vec<String>,
    /// May read the key's state and policy.
    #[serde(default)]
    pub auditors: Vec<String>,
}

/// A release policy, checked: every generation pins what makes attestation mean something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReleasePolicy {
    generations: Vec<Generation>,
    principals: Principals,
    encryption_context: BTreeMap<String, Vec<String>>,
}

/// Why a release policy is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReleasePolicyError {
    /// The text is longer than is taken (bytes).
    #[error("release policy: expected at most {max} bytes, found {found}")]
    Size {
        /// Longest text taken.
        max: usize,
        /// The length found.
        found: usize,
    },
    /// Not TOML, or of another shape.
    #[error("release policy: {0}")]
    Toml(String),
    /// Another version.
    #[error("release policy: version: expected 1, found {0}")]
    Version(u32),
    /// No generation, or too many.
    #[error("release policy: expected 1 to {max} generations, found {found}")]
    Generations {
        /// Most generations taken.
        max: usize,
        /// How many there are.
        found: usize,
    },
    /// Two generations have one name, or one has none.
    #[error("release policy: generation {0:?}: expected a name of its own")]
    Name(String),
    /// A generation's measurements cannot be read.
    #[error("release policy: generation {name:?}: {error}")]
    Measurements {
        /// Its name.
        name: String,
        /// What is wrong.
        error: MeasurementsError,
    },
    /// A generation's measurements would let other software in.
    #[error("release policy: generation {name:?}: {why}")]
    Weak {
        /// Its name.
        name: String,
        /// What would get in.
        why: &'static str,
    },
    /// Nobody is in a list that must have someone.
    #[error("release policy: principals.{0}: expected at least one")]
    NoPrincipal(&'static str),
    /// Not the ARN of one role or user.
    #[error(
        "release policy: principals.{list}: expected the ARN of one role or user \
         (arn:aws:iam::111122223333:role/NAME), found {found:?}"
    )]
    Principal {
        /// In which list.
        list: &'static str,
        /// The principal found.
        found: String,
    },
    /// A principal has two tasks that must be apart.
    #[error(
        "release policy: principals: {0:?} is listed twice; running, managing and auditing are apart"
    )]
    SharedPrincipal(String),
    /// An encryption context that cannot be asked for.
    #[error("release policy: encryption_context: {0}")]
    EncryptionContext(String),
    /// The section for Azure is wrong.
    #[error(transparent)]
    Azure(#[from] azure::AzureError),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    principals: Principals,
    #[serde(default)]
    encryption_context: BTreeMap<String, OneOrMany>,
    #[serde(default)]
    generation: Vec<GenerationTable>,
    azure: Option<azure::Table>,
}

/// A generation as TOML spells it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GenerationTable {
    name: String,
    provider: String,
    pcrs: BTreeMap<String, String>,
}

impl GenerationTable {
    /// The generation; its name is given with the error.
    pub(crate) fn read(self) -> Result<Generation, (String, MeasurementsError)> {
        match Measurements::parse(&self.provider, &self.pcrs) {
            Ok(measurements) => Ok(Generation {
                name: self.name,
                measurements,
            }),
            Err(error) => Err((self.name, error)),
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl ReleasePolicy {
    /// Reads a policy from TOML; docs/policy.md has the format.
    ///
    /// # Errors
    /// Says what cannot be read, or which generation would let in other software than the measured.
    pub fn parse(text: &str) -> Result<Self, ReleasePolicyError> {
        Self::parse_with(text, Vec::new())
    }

    /// Reads a policy from TOML and adds generations to its own, of which it then need not have any.
    ///
    /// # Errors
    /// As [`ReleasePolicy::parse`].
    pub fn parse_with(text: &str, more: Vec<Generation>) -> Result<Self, ReleasePolicyError> {
        if text.len() > MAX_TEXT {
            return Err(ReleasePolicyError::Size {
                max: MAX_TEXT,
                found: text.len(),
            });
        }
        let file: File =
            toml::from_str(text).map_err(|error| ReleasePolicyError::Toml(error.to_string()))?;
        if file.version != VERSION {
            return Err(ReleasePolicyError::Version(file.version));
        }
        // Checked here too, though not used: the file is either right or wrong, whatever is made of it.
        file.azure.map(AzureSection::check).transpose()?;
        let mut generations = file
            .generation
            .into_iter()
            .map(|table| {
                table
                    .read()
                    .map_err(|(name, error)| ReleasePolicyError::Measurements { name, error })
            })
            .collect::<Result<Vec<_>, _>>()?;
        generations.extend(more);
        let encryption_context = file
            .encryption_context
            .into_iter()
            .map(|(key, values)| match values {
                OneOrMany::One(value) => (key, vec![value]),
                OneOrMany::Many(values) => (key, values),
            })
            .collect();
        Self::new(generations, file.principals, encryption_context)
    }

    /// A policy of these parts, checked.
    ///
    /// # Errors
    /// As [`ReleasePolicy::parse`].
    pub fn new(
        generations: Vec<Generation>,
        principals: Principals,
        encryption_context: BTreeMap<String, Vec<String>>,
    ) -> Result<Self, ReleasePolicyError> {
        if generations.is_empty() || generations.len() > MAX_GENERATIONS {
            return Err(ReleasePolicyError::Generations {
                max: MAX_GENERATIONS,
                found: generations.len(),
            });
        }
        let mut names = BTreeSet::new();
        for generation in &generations {
            if generation.name.is_empty() || !names.insert(&generation.name) {
                return Err(ReleasePolicyError::Name(generation.name.clone()));
            }
            if let Some(why) = weakness(&generation.measurements) {
                return Err(ReleasePolicyError::Weak {
                    name: generation.name.clone(),
                    why,
                });
            }
        }
        check_principals(&principals)?;
        check_context(&encryption_context)?;
        Ok(Self {
            generations,
            principals,
            encryption_context,
        })
    }

    /// The software allowed, any one of them.
    #[must_use]
    pub fn generations(&self) -> &[Generation] {
        &self.generations
    }

    /// Who may do what.
    #[must_use]
    pub fn principals(&self) -> &Principals {
        &self.principals
    }

    /// Keys that every request's encryption context must have, each with one of the values.
    #[must_use]
    pub fn encryption_context(&self) -> &BTreeMap<String, Vec<String>> {
        &self.encryption_context
    }
}

/// Why measurements do not pin software, none where they do.
fn weakness(measurements: &Measurements) -> Option<&'static str> {
    let value = |index| measurements.pcrs().get(&index);
    match measurements.form() {
        Form::NitroEnclave => {
            let zero = |index| value(index).is_some_and(|pcr| pcr.iter().all(|byte| *byte == 0));
            // A zero PCR8 alone says that the image is not signed.
            if [0, 1, 2].into_iter().any(zero) || (zero(8) && value(0).is_none()) {
                return Some("this zero PCR is that of every enclave in debug mode");
            }
            if value(0).is_none() && value(8).is_none() {
                return Some(
                    "PCR0 or PCR8 must be among the PCRs: others do not say which image runs",
                );
            }
        }
        Form::NitroTpm => {
            let constant = |index| value(index).is_some_and(known::is_constant_of_every_tpm);
            if constant(4) {
                return Some("this PCR4 is that of a firmware that has loaded nothing");
            }
            if value(7).is_some_and(|pcr| hex::encode(pcr) == known::PCR7_SECURE_BOOT_OFF) {
                return Some("this PCR7 is that of every instance without Secure Boot");
            }
            if value(12).is_none() {
                return Some(
                    "PCR12 must be among the PCRs: without it any kernel command line passes",
                );
            }
            if value(4).is_none() && value(7).is_none() {
                return Some(
                    "PCR4 or PCR7 must be among the PCRs: others do not say what was booted",
                );
            }
        }
    }
    None
}

fn check_principals(principals: &Principals) -> Result<(), ReleasePolicyError> {
    let lists = [
        ("runtime", &principals.runtime, true),
        ("administrators", &principals.administrators, true),
        ("auditors", &principals.auditors, false),
    ];
    let mut seen = BTreeSet::new();
    for (list, arns, needed) in lists {
        if needed && arns.is_empty() {
            return Err(ReleasePolicyError::NoPrincipal(list));
        }
        for arn in arns {
            if !is_role_or_user(arn) {
                return Err(ReleasePolicyError::Principal {
                    list,
                    found: arn.clone(),
                });
            }
            if !seen.insert(arn) {
                return Err(ReleasePolicyError::SharedPrincipal(arn.clone()));
            }
        }
    }
    Ok(())
}

/// `arn:PARTITION:iam::ACCOUNT:role/NAME` or `…:user/NAME`, with or without a path, without wildcards.
fn is_role_or_user(arn: &str) -> bool {
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    let ["arn", partition, "iam", "", account, name] = parts.as_slice() else {
        return false;
    };
    let name = name
        .strip_prefix("role/")
        .or_else(|| name.strip_prefix("user/"));
    matches!(*partition, "aws" | "aws-cn" | "aws-us-gov")
        && account.len() == 12
        && account.bytes().all(|byte| byte.is_ascii_digit())
        && name.is_some_and(|name| {
            // The letters IAM allows in names and paths (IAM user guide, "IAM and AWS STS quotas").
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"+=,.@-_/".contains(&byte);
            !name.is_empty() && name.len() <= 1024 && name.bytes().all(allowed)
        })
}

fn check_context(context: &BTreeMap<String, Vec<String>>) -> Result<(), ReleasePolicyError> {
    let refuse = |what: String| Err(ReleasePolicyError::EncryptionContext(what));
    for (key, values) in context {
        if key.is_empty() || key.contains(['*', '?', '$']) {
            return refuse(format!("{key:?} cannot be a key of a condition"));
        }
        if values.is_empty() {
            return refuse(format!("{key:?} has no value"));
        }
        // In a policy `${` begins a variable.
        if let Some(value) = values.iter().find(|value| value.contains("${")) {
            return refuse(format!("{key:?} has the variable {value:?} as value"));
        }
    }
    Ok(())
}
