//! The simulators' own certificate authorities: one in the shape of the Nitro hypervisor's,
//! Azure's, one for TLS.
//!
//! Their roots live in a directory and can be shared by several simulators. Nothing outside trusts them.

mod azure;
mod certificate;
mod name;
mod nitro;
mod store;
mod tls;

pub use azure::{AttestationKeyRoot, Chip, ChipRoot, FrontEnd, TokenSigner};
pub use nitro::{NitroIdentity, NitroRoot, Signed};
pub use store::PkiError;
pub use tls::{ServerCertificate, TlsAuthority};
