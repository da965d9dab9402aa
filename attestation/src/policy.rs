//! Release policies: which software, called by whom, may have a data key; and what the services' own policies say.

pub mod aws;
mod release;

pub(crate) use release::GenerationTable;
pub use release::{Generation, Principals, ReleasePolicy, ReleasePolicyError};
