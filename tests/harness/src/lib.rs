//! Starts the real programs (swtpm, nodeseal-tpm, nodeseal, a blockchain node) for tests, benchmarks and the demo.
//!
//! - [`Swtpm`]: a software TPM; [`PrivateCa`] manufactures distinct ones with endorsement certificates.
//! - [`TpmProcess`]: nodeseal-tpm enrolled and serving; [`Agent`]: `nodeseal` on a node's directory.
//! - [`Running`], [`Finished`]: a child process, its output, its end.
//! - [`Node`]: a real blockchain node, and who sealed its blocks; [`keystores`]: real keystore files.
//! - [`Simulator`]: a subcommand of `nodeseal-sim`; [`Cloud`]: AWS made of them; [`python()`]: a Python with other people's clients.
//! - [`Azure`]: a subscription made of them, with virtual machines ([`AzureVm`]).
//! - [`EnclaveMachine`]: an enclave image booted in QEMU, with the programs of [`MachineTools`].
//! - [`Table`]: what the demo and the image's test print; [`NodeStart`]: their steps that start a node.
//! - [`memory_scan`]: what is in another process's memory.

mod agent;
pub mod azure;
mod azure_vm;
mod ca;
mod child;
pub mod clique;
mod cloud;
mod enclave_machine;
mod error;
pub mod keystores;
mod kms;
mod memory;
mod node;
mod node_start;
mod places;
mod ports;
mod python;
mod rpc;
mod simulator;
mod swtpm;
mod table;
pub mod tpm_commands;
mod tpm_process;
mod wait;

pub use agent::Agent;
pub use azure::Azure;
pub use azure_vm::{AzureVm, VmOptions};
pub use ca::{Manufactured, PrivateCa};
pub use child::{Finished, Running};
pub use cloud::Cloud;
pub use enclave_machine::{EnclaveMachine, MachineOptions, MachineTools};
pub use error::{Context, Error, Result};
pub use kms::Kms;
pub use memory::memory_scan;
pub use node::Node;
pub use node_start::NodeStart;
pub use places::{checkout, javascript_runtime, node_packages, program, short_dir, system_program};
pub use ports::{free_ports, listens, tcti};
pub use python::python;
pub use simulator::Simulator;
pub use swtpm::Swtpm;
pub use table::Table;
pub use tpm_commands::Handles;
pub use tpm_process::TpmProcess;
pub use wait::wait_for;
