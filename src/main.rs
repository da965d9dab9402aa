//! Host agent and command line: carries sealed keys to the trusted side and hands opened ones to the node.
//!
//! In reading order: [`cli`] what can be asked, [`commands`] one file each, [`config`], [`client`] the trusted side's
//! connection, [`vsock`], [`sealing`] and [`selection`] of keys, [`files`], [`run`] the node, [`audit`], [`report`] and [`failure`].

mod audit;
mod aws;
mod azure;
mod cli;
mod client;
mod commands;
mod config;
mod context;
mod egress;
mod failure;
mod files;
mod hints;
mod key_text;
mod public_key;
mod report;
mod run;
mod sealing;
mod selection;
mod supplies;
mod vsock;

use std::process::ExitCode;

use nodeseal_memory::WipingAllocator;

#[global_allocator]
static HEAP: WipingAllocator = WipingAllocator;

fn main() -> ExitCode {
    commands::main()
}
