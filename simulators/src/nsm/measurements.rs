//! What the hypervisor measures before the enclave runs: PCR0 to PCR4 and PCR8.

use std::path::Path;

use serde::Deserialize;

use super::pcrs::{PcrBank, PcrValue, extended};
use crate::files::{self, FileError};
use crate::text::unhex;

/// PCRs that exist to be measured at boot; the others stay zero until the application extends them.
const ZEROED_IN_DEBUG_MODE: [u16; 4] = [0, 1, 2, 8];
/// PCR0 to PCR15 are locked before the enclave runs.
const LOCKED_AT_BOOT: u16 = 16;

/// Measurements of an enclave image and of where it runs.
#[derive(Clone, Default)]
pub struct Measurements {
    values: Vec<(u16, PcrValue)>,
    role_arn: Option<String>,
}

/// Why measurements were not taken.
#[derive(Debug, thiserror::Error)]
pub enum MeasurementsError {
    /// No such file, or not readable.
    #[error(transparent)]
    File(#[from] FileError),
    /// Not what `nitro-cli build-enclave` and `describe-eif` print.
    #[error("{path}: {cause}")]
    Json {
        /// The file.
        path: String,
        /// What is wrong with it.
        cause: serde_json::Error,
    },
    /// Not a SHA-384 value.
    #[error("PCR {index}: expected 96 hexadecimal digits, found {found:?}")]
    Value {
        /// The PCR.
        index: u16,
        /// The text found.
        found: String,
    },
    /// Not a PCR measured at boot.
    #[error("PCR {0} is not measured at boot: expected 0 to 15")]
    Index(u16),
}

/// What `nitro-cli` prints, as far as it is read here.
#[derive(Deserialize)]
struct NitroCliOutput {
    #[serde(rename = "Measurements")]
    measurements: NitroCliMeasurements,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NitroCliMeasurements {
    #[serde(rename = "HashAlgorithm")]
    _algorithm: String,
    #[serde(rename = "PCR0")]
    pcr0: String,
    #[serde(rename = "PCR1")]
    pcr1: String,
    #[serde(rename = "PCR2")]
    pcr2: String,
    #[serde(rename = "PCR8")]
    pcr8: Option<String>,
}

impl Measurements {
    /// Values of PCR0, PCR1 and PCR2 (image, kernel with boot ramdisk, application).
    #[must_use]
    pub fn of_image(pcr0: PcrValue, pcr1: PcrValue, pcr2: PcrValue) -> Self {
        Self {
            values: vec![(0, pcr0), (1, pcr1), (2, pcr2)],
            role_arn: None,
        }
    }

    /// Stand-ins for an image of this name: different for each name, the same each time.
    #[must_use]
    pub fn of_name(name: &str) -> Self {
        let value = |part: &str| extended(&[0; 48], format!("{name}/{part}").as_bytes());
        Self::of_image(value("image"), value("kernel"), value("application"))
    }

    /// From the JSON `nitro-cli build-enclave` and `describe-eif` print.
    ///
    /// # Errors
    /// [`MeasurementsError`].
    pub fn from_file(path: &Path) -> Result<Self, MeasurementsError> {
        let bytes = std::fs::read(path).map_err(files::FileError::at(path))?;
        let output: NitroCliOutput =
            serde_json::from_slice(&bytes).map_err(|cause| MeasurementsError::Json {
                path: path.display().to_string(),
                cause,
            })?;
        let found = output.measurements;
        let mut measurements = Self::default();
        measurements.set(0, &found.pcr0)?;
        measurements.set(1, &found.pcr1)?;
        measurements.set(2, &found.pcr2)?;
        if let Some(pcr8) = found.pcr8 {
            measurements.set(8, &pcr8)?;
        }
        Ok(measurements)
    }

    /// Sets the value of one PCR, as hexadecimal, over what it was.
    ///
    /// # Errors
    /// [`MeasurementsError`].
    pub fn set(&mut self, index: u16, value: &str) -> Result<(), MeasurementsError> {
        if index >= LOCKED_AT_BOOT {
            return Err(MeasurementsError::Index(index));
        }
        let bytes = unhex(value).and_then(|bytes| PcrValue::try_from(bytes).ok());
        let bytes = bytes.ok_or_else(|| MeasurementsError::Value {
            index,
            found: value.to_owned(),
        })?;
        self.values.push((index, bytes));
        Ok(())
    }

    /// The parent instance's role, measured into PCR3.
    pub fn set_role_arn(&mut self, arn: &str) {
        self.role_arn = Some(arn.to_owned());
    }

    /// The bank as the enclave finds it.
    pub(super) fn bank(&self, instance_id: &str, debug: bool) -> PcrBank {
        let mut bank = PcrBank::default();
        let mut measured = vec![(4, extended(&[0; 48], instance_id.as_bytes()))];
        if let Some(arn) = &self.role_arn {
            measured.push((3, extended(&[0; 48], arn.as_bytes())));
        }
        measured.extend(&self.values);
        for (index, value) in measured {
            let zero = debug && ZEROED_IN_DEBUG_MODE.contains(&index);
            // In range and not yet locked, so neither of these can be refused.
            let _ = bank.set(index, if zero { [0; 48] } else { value });
        }
        let _ = bank.lock_below(LOCKED_AT_BOOT);
        bank
    }
}
