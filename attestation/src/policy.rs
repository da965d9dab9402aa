//! Release policies: which software, called by whom, may have a data key; and what the services' own policies say.

pub mod aws;
pub mod azure;
mod codes;
mod release;

pub use codes::Severity;
pub(crate) use release::GenerationTable;
pub use release::{Generation, Principals, ReleasePolicy, ReleasePolicyError};
