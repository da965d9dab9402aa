//! Secrets in memory that is locked, kept out of dumps and wiped, and the hardening of a process that holds them.
//!
//! This is the one crate with `unsafe`: agent and trusted side share it, and neither needs any of its own for secrets.
//! - [`Secret`]: bytes on pages of their own.
//! - [`WipingAllocator`]: a heap that overwrites what is freed.
//! - [`harden_process`], [`lock_all_memory`]: no core dumps, no tracing by others, nothing swapped out; [`wipe_stack`]:
//!   nothing left on the stack.

mod allocator;
mod process;
mod secret;

pub use allocator::WipingAllocator;
pub use process::{HardenError, harden_process, inherited_descriptor, lock_all_memory, wipe_stack};
pub use secret::{LockMemoryError, Secret};
