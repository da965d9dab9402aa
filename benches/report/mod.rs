//! Figures of one run: measured alternately, printed as a table, merged into `target/bench/results.json`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nodeseal_harness::{Context, Result, checkout};

/// The figures of this run.
#[derive(Default)]
pub struct Report {
    figures: BTreeMap<String, f64>,
}

impl Report {
    /// Notes a figure and prints it, with what it means and, for a ratio, what it should stay under.
    pub fn figure(&mut self, name: &str, value: f64, meaning: &str) {
        println!("{name:<34} {value:>12.3}  {meaning}");
        self.figures.insert(name.to_owned(), value);
    }

    /// Merges the figures into the results of other benchmarks.
    pub fn write(&self) -> Result<()> {
        let path = results();
        let mut all: BTreeMap<String, f64> = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_default(),
            Err(_) => BTreeMap::new(),
        };
        all.extend(self.figures.clone());
        let text = serde_json::to_string_pretty(&all).unwrap_or_default();
        fs::create_dir_all(path.parent().unwrap_or(Path::new("."))).context("target/bench")?;
        fs::write(&path, text + "\n").context(path.display())
    }
}

fn results() -> PathBuf {
    checkout().join("target/bench/results.json")
}

/// Milliseconds.
pub fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// One time in units of the other.
pub fn ratio(a: Duration, b: Duration) -> f64 {
    a.as_secs_f64() / b.as_secs_f64()
}

/// How long `work` takes.
pub fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<(Duration, T)> {
    let start = Instant::now();
    let done = work()?;
    Ok((start.elapsed(), done))
}

/// The middle one.
pub fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
