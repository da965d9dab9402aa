//! Azure as nodeseal meets it: Key Vault, the attestation service, Entra with managed identities, and a machine's vTPM.

pub mod attestation;
mod discovery;
pub mod entra;
mod error;
mod faults;
mod form;
pub mod vault;
pub mod vtpm;

pub use discovery::Discovery;
pub use error::AzureError;
pub use faults::{CommonFault, Fault, FaultQueue};
