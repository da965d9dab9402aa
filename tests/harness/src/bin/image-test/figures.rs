//! What was measured, printed and written to target/bench/image.json.

use std::fs;

use nodeseal_harness::{Context, EnclaveMachine, Error, Result, checkout};
use serde_json::{Value, json};

use crate::setup::{MEMORY, World, parent};

/// Boots measured; the median counts.
const BOOTS: usize = 5;
/// Longest our part of a boot may take under emulation, in milliseconds.
const MAX_OURS: u64 = 300;

/// Sizes in bytes, times in milliseconds.
pub struct Figures(Value);

impl Figures {
    /// Measures: the running machine, which took `cpu` milliseconds for its one opening, and some boots.
    pub fn of(world: &World, calls: usize, cpu: u64) -> Result<Self> {
        let (_, after_open) = world.agent.json(["status"])?;
        let (mut answers, mut kernels, mut ours) = (vec![], vec![], vec![]);
        for boot in 0..BOOTS {
            let mut machine = EnclaveMachine::boot(&world.tools, &world.genuine.path, &parent())?;
            answers.push(u64::try_from(machine.first_answer()?.as_millis()).unwrap_or(u64::MAX));
            let agent = world.agent_on(&format!("boot-{boot}"), &machine)?;
            let (_, report) = agent.json(["status"])?;
            let (all, own) = (fact(&report, "boot-ms")?, fact(&report, "ours-ms")?);
            kernels.push(all.saturating_sub(own));
            ours.push(own);
        }
        let (kernel_bytes, program_bytes) = world.images.parts()?;
        Ok(Self(json!({
            "image_bytes": world.genuine.bytes()?,
            "kernel_bytes": kernel_bytes,
            "program_bytes": program_bytes,
            "memory_mib": MEMORY,
            "boot_ms": median(answers),
            "boot_ms_kernel": median(kernels),
            "boot_ms_ours": median(ours),
            "core_rss_bytes": fact(&after_open, "resident-kib")? * 1024,
            "core_cpu_ms_per_open": cpu,
            "kms_calls_per_open": calls,
        })))
    }

    /// Prints the figures and writes them down.
    pub fn print_and_write(&self) -> Result<()> {
        println!("\nUnder software emulation, medians of {BOOTS} boots:");
        for (name, value) in self.0.as_object().into_iter().flatten() {
            println!("  {name:<20} {value}");
        }
        let ours = self
            .0
            .get("boot_ms_ours")
            .and_then(Value::as_u64)
            .unwrap_or(u64::MAX);
        if ours > MAX_OURS {
            println!("  our part of the boot is longer than {MAX_OURS} ms");
        }
        let path = checkout().join("target/bench/image.json");
        let directory = checkout().join("target/bench");
        fs::create_dir_all(&directory).context(directory.display())?;
        fs::write(&path, format!("{:#}\n", self.0)).context(path.display())
    }
}

/// A number the enclave says of itself in its status.
pub fn fact(report: &Value, name: &str) -> Result<u64> {
    let found = report.pointer(&format!("/facts/{name}"));
    let number = found
        .and_then(Value::as_str)
        .and_then(|text| text.parse().ok());
    number.ok_or_else(|| Error::new(format!("no number {name} in {report:#}")))
}

fn median(mut values: Vec<u64>) -> u64 {
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or(0)
}
