//! The `aws-kms` lock.
pub mod cms;
pub mod recipient;
