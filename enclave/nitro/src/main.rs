//! nodeseal-nitro: first process of a Nitro Enclave; opens a node's keys when AWS KMS answers to this image.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use nodeseal_memory::{WipingAllocator, harden_process, lock_all_memory};
use nodeseal_nitro::config::{self, Config};
use nodeseal_nitro::log::{self, Log};
use nodeseal_nitro::serve::serve;
use nodeseal_nitro::{clock, init};

#[global_allocator]
static HEAP: WipingAllocator = WipingAllocator;

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    if let Err(error) = init::alone() {
        eprintln!("nodeseal-nitro: {error}");
        return ExitCode::from(2);
    }
    let started = clock::since_boot();
    init::end_with_panics();
    if let Err(error) = run(started) {
        eprintln!("nodeseal-nitro: the enclave ends: {error}");
    }
    // Where even that fails, the end of its first process is the end of the enclave.
    let _ = init::end();
    ExitCode::FAILURE
}

fn run(started: std::time::Duration) -> Result<(), Failure> {
    init::mounts()?;
    harden_process()?;
    lock_all_memory()?;
    let config = Config::read(Path::new(config::PATH))?;
    let log = Arc::new(Log::default());
    log::install(&log, config.log);
    Ok(serve(config, log, started)?)
}
