//! `make image-test`: the enclave image booted in QEMU, a node started through it, and what must be refused, refused.
//!
//! Between the guest and the simulated KMS there is nothing of ours but the agent: TLS begins in the guest and goes
//! through its vsock driver, vhost-device-vsock, and the agent's proxy.

mod figures;
mod hostile;
mod images;
mod refusals;
mod setup;
mod start;

use std::process::ExitCode;

use nodeseal_harness::{Result, Table};

fn main() -> ExitCode {
    let mut table = Table::new();
    match play(&mut table) {
        Ok(()) => {
            println!("\n{} steps in {:.0?}", table.steps(), table.elapsed());
            println!("image-test: ok");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("\n{error}\nimage-test: FAILED");
            ExitCode::FAILURE
        }
    }
}

fn play(table: &mut Table) -> Result<()> {
    table.act("The image, measured and booted");
    let mut world = setup::play(table)?;
    table.act("A node key made in the guest, and a node started from it after another boot");
    let figures = start::play(table, &mut world).map_err(|error| world.with_console(&error))?;
    table.act("What is refused");
    refusals::play(table, &world).map_err(|error| world.with_console(&error))?;
    table.act("A parent that is not the agent");
    hostile::play(table, &world).map_err(|error| world.with_console(&error))?;
    figures.print_and_write()
}
