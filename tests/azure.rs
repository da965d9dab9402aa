//! The agent on simulated virtual machines of Azure: as whom it asks a vault, and which machines a vault releases to.
#![allow(clippy::unwrap_used)]

#[path = "azure/identities.rs"]
mod identities;
#[path = "azure/lifecycle.rs"]
mod lifecycle;
#[path = "azure/machines.rs"]
mod machines;
#[path = "azure/policy.rs"]
mod policy;
#[path = "azure/world.rs"]
mod world;
