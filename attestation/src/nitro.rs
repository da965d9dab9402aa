//! AWS attestation documents, of Nitro Enclaves and of NitroTPM: bytes, parsed ([`Document`]), verified ([`Verified`]).

mod anchor;
mod cbor;
mod certificate;
mod chain;
mod claims;
pub mod cose;
mod document;
mod error;
mod expectations;
mod measurements;
mod report;
mod verify;

pub use anchor::{Anchor, AnchorError};
pub use certificate::CertificateError;
pub use claims::Claims;
pub use document::{Document, Form, PCR_LEN, Pcr};
pub use error::{ParseError, Position, VerifyError};
pub use expectations::{Expectations, ExpectationsError, Unmet};
pub use measurements::{Measurements, MeasurementsError, Mismatch};
pub use report::{Check, CheckResult, Outcome, Report, Summary, report};
pub use verify::{DebugEnclaves, Verified};
