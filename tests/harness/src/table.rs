//! The table the demo and the image's test print: a line for each step, as it is done.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use crate::{Error, Result};

/// Width of the first column.
const WIDTH: usize = 52;

/// Prints steps and remembers how many there were.
pub struct Table {
    begun: Instant,
    steps: usize,
}

impl Default for Table {
    fn default() -> Self {
        Self::new()
    }
}

impl Table {
    /// An empty table.
    #[must_use]
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
    #[must_use]
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// Time since the beginning.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }
}
