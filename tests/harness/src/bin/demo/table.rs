//! The table the demo prints: a line for each step, as it is done.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use nodeseal_harness::{Error, Result};

/// Width of the first column.
const WIDTH: usize = 52;

/// Prints steps and remembers how many there were.
pub struct Table {
    begun: Instant,
    steps: usize,
}

impl Table {
    /// An empty table.
    pub fn new() -> Self {
        Self {
            begun: Instant::now(),
            steps: 0,
        }
    }

    /// A heading.
    pub fn act(&mut self, title: &str) {
        println!("\n{title}\n");
    }

    /// Does `step`, called `what`, and prints what it found.
    ///
    /// # Errors
    /// That of the step.
    pub fn step<T>(&mut self, what: &str, step: impl FnOnce() -> Result<(T, String)>) -> Result<T> {
        print!("  {what:<WIDTH$} ");
        // A line that only appears later is no reason to stop.
        let _ = io::stdout().flush();
        match step() {
            Ok((value, found)) => {
                println!("{found}");
                self.steps += 1;
                Ok(value)
            }
            Err(error) => {
                println!("FAILED");
                Err(Error::new(format!("{what}: {error}")))
            }
        }
    }

    /// How many steps were done.
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// Time since the beginning.
    pub fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }
}
