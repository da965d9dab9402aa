//! The inside of a Nitro Enclave: what runs as the first and only process of a nodeseal image.
//!
//! In reading order:
//! - [`config`]: what the measured configuration says; the parent instance can change none of it.
//! - [`init`]: the first process's own duties.
//! - [`nsm`]: the Nitro Security Module: evidence, measurements, randomness.
//! - [`entropy`]: the kernel's pool, fed before any key is made.
//! - [`clock`]: the time, taken from attestation documents and not from the parent.
//! - [`heartbeat`]: the parent told that the enclave is up.
//! - [`log`]: lines on their way to the parent, bounded.
//! - [`vsock`]: the way to the parent.
//! - [`serve`]: the service.
//!
//! Build it as `make image` does:
//!
//! ```text
//! RUSTFLAGS="-C target-feature=+crt-static" cargo build --locked --profile image \
//!     --package nodeseal-nitro --target x86_64-unknown-linux-gnu --target-dir DIRECTORY
//! ```
//!
//! `DIRECTORY/x86_64-unknown-linux-gnu/image/nodeseal-nitro` is the image's `/init`.

pub mod clock;
pub mod config;
pub mod entropy;
pub mod heartbeat;
pub mod init;
pub mod log;
pub mod nsm;
pub mod serve;
pub mod vsock;
