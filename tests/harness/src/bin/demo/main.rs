//! `make demo`: nodeseal's job from beginning to end on real programs, and what must fail, failing.

mod act1_refusals;
mod act1_setup;
mod act2_refusals;
mod act2_setup;
mod act3;

use std::process::ExitCode;

use nodeseal_harness::{Result, Table};

fn main() -> ExitCode {
    let mut table = Table::new();
    match play(&mut table) {
        Ok(()) => {
            println!("\n{} steps in {:.0?}", table.steps(), table.elapsed());
            println!("demo: ok");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("\n{error}\ndemo: FAILED");
            ExitCode::FAILURE
        }
    }
}

/// Plays every act, or the one whose number is the argument.
fn play(table: &mut Table) -> Result<()> {
    let only = std::env::args().nth(1);
    let wanted = |act: &str| only.as_deref().is_none_or(|only| only == act);
    if wanted("1") {
        table.act("Act 1: a node whose keys are sealed to a TPM");
        let mut machine = act1_setup::play(table)?;
        machine.started().play(table)?;
        act1_refusals::play(table, &mut machine)?;
    }
    if wanted("2") {
        table.act("Act 2: a node whose keys AWS KMS gives to a measured enclave only");
        let enclaved = act2_setup::play(table)?;
        enclaved.started().play(table)?;
        act2_refusals::play(table, &enclaved)?;
    }
    if wanted("3") {
        table.act("Act 3: a node whose key Azure Key Vault releases to one confidential VM only");
        act3::play(table)?;
    }
    Ok(())
}
