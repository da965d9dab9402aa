//! nodeseal with a simulated Nitro Enclave and AWS KMS, beside the floor: what one attested Decrypt costs by itself.
//!
//! Each round runs every contender once, so that a machine that slows down slows all of them down.
#![allow(missing_docs)]

#[path = "aws/floor.rs"]
mod floor;
#[path = "aws/many.rs"]
mod many;
mod report;
#[path = "aws/tunnel.rs"]
mod tunnel;

use std::fmt::Display;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use floor::Floor;
use many::Client;
use nodeseal_harness::{Agent, Cloud, Context, Error, Finished, Result};
use report::{Report, median, ms, ratio, timed};
use serde_json::json;
use tunnel::Tunnel;

const ROUNDS: usize = 31;
const BATCH_ROUNDS: usize = 5;
const IMAGE: &str = "nodeseal";
/// Clients at once.
const MANY: usize = 64;
/// How late KMS answers where the network matters: more than any region is away.
const NETWORK: Duration = Duration::from_millis(500);
/// Between two rounds: recipient keys are made ahead, and opens that come one right after the other would soon measure
/// nothing but that.
const REFILL: Duration = Duration::from_millis(100);
/// Keys of the largest batch.
const LARGEST: usize = 10_000;
/// Size of a geth keystore file.
const KEY_LENGTH: usize = 491;

fn main() -> Result<()> {
    let mut report = Report::default();
    let cloud = Cloud::start()?;
    let enclave = cloud.enclave("enclave", &["--image", IMAGE])?;
    let key = cloud
        .kms
        .create_key(&cloud.write_policy("key", enclave.pcr0()?)?)?;
    let agent = cloud.agent("enclave", &key)?;
    let node_key = ["generate", "--name", "nodekey", "--type", "secp256k1"];
    agent.run(node_key)?.success("generate")?;
    let blob = fs::read(agent.blob("nodekey")).context("blob")?;
    let tunnel = Tunnel::start(cloud.directory.path(), cloud.kms.address()?)?;
    let floor = Floor::new(&cloud, &tunnel, IMAGE, &blob)?;
    one_open(&mut report, &agent, &floor)?;
    let client = Client::new(&cloud, &cloud.path("enclave.sock"), tunnel.address(), &blob);
    at_once(&mut report, &cloud, &Arc::new(client))?;
    batches(&mut report, &cloud, &agent)?;
    report.write()
}

/// Whole processes, one key.
fn one_open(report: &mut Report, agent: &Agent, floor: &Floor) -> Result<()> {
    let (mut ours, mut floors, mut processes, mut nothings) = (vec![], vec![], vec![], vec![]);
    for round in 0..=ROUNDS {
        let our_time = rested(|| run(agent, &["open", "nodekey", "--stdout"]))?;
        let floor_time = rested(|| floor.ask())?;
        let process_time = rested(|| run(agent, &["--version"]))?;
        let nothing_time = rested(|| Finished::of(&mut Command::new("true")).map(drop))?;
        // The first round warms caches.
        if round > 0 {
            ours.push(our_time);
            floors.push(floor_time);
            processes.push(process_time);
            nothings.push(nothing_time);
        }
    }
    let (ours, floor) = (median(ours), median(floors));
    let (process, nothing) = (median(processes), median(nothings));
    println!("one attested open, whole processes, median of {ROUNDS} rounds:");
    report.figure("aws_open_ms", ms(ours), "nodeseal open");
    report.figure(
        "aws_floor_ms",
        ms(floor),
        "one TLS connection, one attested Decrypt, its answer opened",
    );
    report.figure(
        "aws_open_vs_floor",
        ratio(ours, floor),
        "wanted: at most 1.3",
    );
    report.figure(
        "aws_part_process_ms",
        ms(process),
        "a process starts and ends (nodeseal --version)",
    );
    report.figure(
        "aws_open_vs_process_and_floor",
        ratio(ours, process.saturating_add(floor)),
        "by the reading that a process must start as well",
    );
    report.figure(
        "aws_least_vs_floor",
        ratio(nothing.saturating_add(floor), floor),
        "a program that does nothing (true), and the floor: no command can be below",
    );
    Ok(())
}

/// Many clients of one enclave, through one way out.
fn at_once(report: &mut Report, cloud: &Cloud, client: &Arc<Client>) -> Result<()> {
    std::thread::sleep(4 * REFILL);
    let took = client.open_at_once(MANY)?;
    println!("{MANY} attested opens at once through one egress:");
    let slowest = took.each.iter().max().copied().unwrap_or_default();
    report.figure("aws_64_opens_ms", ms(took.all), "all of them");
    report.figure(
        "aws_64_opens_median_ms",
        ms(median(took.each)),
        "one of them",
    );
    report.figure(
        "aws_64_opens_slowest_ms",
        ms(slowest),
        "the slowest of them",
    );
    let late = |times| {
        cloud
            .kms
            .order(&json!({"fault": "delay", "milliseconds": NETWORK.as_millis(), "times": times}))
    };
    late(1)?;
    let one = client.open_at_once(1)?.all;
    late(MANY)?;
    let all = client.open_at_once(MANY)?.all;
    println!("the same with KMS {} ms away:", NETWORK.as_millis());
    report.figure("aws_far_open_ms", ms(one), "one open");
    report.figure("aws_64_far_opens_ms", ms(all), "all of them");
    report.figure(
        "aws_64_far_opens_vs_one",
        ratio(all, one),
        "64 if each waited for the network of the one before",
    );
    Ok(())
}

/// Batches of keys under one data key: time, and calls of KMS.
fn batches(report: &mut Report, cloud: &Cloud, agent: &Agent) -> Result<()> {
    println!("keys of {KEY_LENGTH} bytes under one data key, median of {BATCH_ROUNDS} rounds:");
    for count in [1, 100, LARGEST] {
        let name = format!("{count}-keys");
        let (plain, blobs) = (cloud.path(&name), cloud.path(&format!("{name}-sealed")));
        fs::create_dir(&plain).context("keys")?;
        for number in 0..count {
            let path = plain.join(format!("key-{number:05}.json"));
            fs::write(&path, vec![b'k'; KEY_LENGTH]).context(path.display())?;
        }
        let [plain, blobs] = [&plain, &blobs].map(|path| path.display().to_string());
        run(agent, &["seal", "--all", "--to", &blobs, &plain])?;
        let before = decrypts(cloud)?;
        let mut times = Vec::new();
        for _ in 0..BATCH_ROUNDS {
            times.push(rested(|| run(agent, &["open", "--check", &blobs]))?);
        }
        let calls = (decrypts(cloud)? - before) as f64 / BATCH_ROUNDS as f64;
        let found = fs::read_dir(Path::new(&blobs)).context("blobs")?.count();
        if found != count {
            return Err(Error::new(format!("{found} blobs of {count} keys")));
        }
        let figure = format!("aws_open_batch_{count}_ms");
        report.figure(&figure, ms(median(times)), "nodeseal open --check");
        if count == LARGEST {
            report.figure("kms_calls_per_10000_keys", calls, "1");
        }
    }
    Ok(())
}

/// How often KMS was asked to decrypt.
fn decrypts(cloud: &Cloud) -> Result<usize> {
    let trail = cloud.kms.trail()?;
    let decrypt = trail
        .iter()
        .filter(|record| record["eventName"] == "Decrypt");
    Ok(decrypt.count())
}

/// How long `work` takes. All begin from the same rest: a machine that just worked is quicker.
fn rested(work: impl FnOnce() -> Result<()>) -> Result<Duration> {
    std::thread::sleep(REFILL);
    Ok(timed(work)?.0)
}

fn run(agent: &Agent, arguments: &[&str]) -> Result<()> {
    let done = Finished::of(&mut agent.command(arguments)?)?;
    done.success(&arguments.join(" ")).map(drop)
}

fn failed(error: impl Display) -> Error {
    Error::new(error.to_string())
}
