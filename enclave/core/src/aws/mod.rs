//! The `aws-kms` lock: a data key of AWS KMS that is given only to an attested trusted side.
//!
//! In reading order:
//! - [`config`]: what the trusted side's own configuration says; nothing of it comes from the agent.
//! - [`section`]: what of it stands in a file.
//! - [`arn`]: ARNs of KMS keys.
//! - [`service`]: the lock made and opened, and what an answer must be like.
//! - [`recipient`]: RSA keys for one answer each, made ahead.
//! - [`cms`]: the envelope KMS answers in.
//! - [`client`]: one call of KMS: deadline, attempts, pauses.
//! - [`fault`]: whatever goes wrong, as a named refusal.
//! - [`presented`]: what our own evidence says.
//! - [`connector`]: HTTPS of the SDK over [`crate::tunnel`].

mod arn;
mod client;
pub mod cms;
mod config;
mod connector;
mod fault;
mod presented;
pub mod recipient;
mod section;
mod service;

pub use arn::{ArnError, KeyArn};
pub use config::{AwsKmsConfig, AwsKmsConfigError};
pub use section::AwsKmsSection;
pub use service::{AwsKms, CONTEXT_DATA_KEY, CONTEXT_NODE, CONTEXT_VERSION};

#[cfg(test)]
mod tests;
