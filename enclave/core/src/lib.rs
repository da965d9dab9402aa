//! Everything that may hold a plaintext key.
//!
//! In reading order:
//! - [`lock`]: the seam to TPMs and key management services.
//! - [`evidence`]: the seam to whatever proves what this trusted side runs.
//! - [`tunnel`]: the way to key services: TLS that ends here, through a proxy.
//! - [`aws`]: locks of AWS KMS.
//! - [`crypto`]: the few primitives, with their domains.
//! - [`keys`]: key types: generation and public halves.
//! - [`seal`]: blobs made and opened under a data key.
//! - [`keyring`]: data keys made and opened through ways and locks.
//! - [`service`]: requests of one connection answered.
//! - [`settings`]: configuration files of trusted sides.

pub mod aws;
pub mod crypto;
pub mod evidence;
pub mod keyring;
pub mod keys;
pub mod lock;
pub mod refusal;
pub mod seal;
pub mod service;
pub mod settings;
pub mod tunnel;

// What unit tests share with integration tests calls this crate by its name.
#[cfg(test)]
extern crate self as nodeseal_core;
