//! Enclave image files (EIF): written so that the same parts always give the same bytes, read strictly, measured.
//!
//! - [`cpio`] makes ramdisks.
//! - [`eif`] is the file: an [`eif::Image`] is written, an [`eif::Parsed`] is read.
//! - [`measure`] has the PCRs Nitro will report of an image.
//! - [`signature`] is the section that gives an image its PCR8.
//! - [`build`] makes an image of nodeseal out of kernel, program and configuration.
//!
//! The rules are those of AWS's `aws-nitro-enclaves-image-format` (src/defs/mod.rs, src/utils/), which is not used
//! itself: it writes the time of the build into the file and needs OpenSSL and an AWS SDK. That two readers agree on
//! what a file holds is checked by another program: QEMU's machine `nitro-enclave` computes the PCRs by itself.

pub mod build;
pub mod cpio;
pub mod eif;
pub mod kernel;
pub mod measure;
pub mod metadata;
pub mod signature;
