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
    if std::process::id() != 1 {
        return elsewhere();
    }
    if let Err(error) = init::alone() {
        eprintln!("nodeseal-nitro: {error}");
        return ExitCode::FAILURE;
    }
    let started = clock::since_boot();
    // Counts from here.
    let _ = clock::processor();
    init::end_with_panics();
    if let Err(error) = run(started) {
        eprintln!("nodeseal-nitro: the enclave ends: {error}");
    }
    // Where even that fails, the end of its first process is the end of the enclave.
    let _ = init::end();
    ExitCode::FAILURE
}

/// What it does anywhere else than in an image: `--check FILE` reads a configuration as the enclave will.
fn elsewhere() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let checked = match arguments.as_slice() {
        [check, path] if check == "--check" => Config::read(Path::new(path))
            .map_err(|error| error.to_string())
            .and_then(|config| config.aws_kms.check().map_err(|error| format!("aws_kms: {error}"))),
        _ => Err(
            "the first process of an enclave image (docs/nitro.md); elsewhere it takes --check FILE, \
             to read a configuration as the enclave will"
                .to_owned(),
        ),
    };
    match checked {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("nodeseal-nitro: {problem}");
            ExitCode::from(2)
        }
    }
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
