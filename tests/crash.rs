//! SIGKILL at any instant of a command that writes: the directory is in the old or the new state, and the same command
//! run again ends in the new one.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nodeseal_wire::blob::Blob;
use support::{Bench, names};

/// How often each command is killed.
const KILLS: usize = 120;
const KEYS: usize = 6;

fn key(number: usize) -> Vec<u8> {
    format!("the key number {number} ")
        .repeat(200 + number)
        .into_bytes()
}

/// Runs the command and kills it after `share` of `whole`; whether it was still alive then.
fn kill_within(bench: &Bench, arguments: &[&str], whole: Duration, share: f64) -> bool {
    let mut command = bench.command(arguments);
    let mut child = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let end = Instant::now() + whole.mul_f64(share);
    // Spinning hits instants that sleeping would step over.
    while Instant::now() < end {
        std::hint::spin_loop();
    }
    child.kill().unwrap();
    child.wait().unwrap().signal() == Some(9)
}

fn shares() -> impl Iterator<Item = f64> {
    let random = |_| {
        let digits = RandomState::new().build_hasher().finish();
        (digits % 10_000) as f64 / 10_000.0
    };
    (0..KILLS).map(random)
}

/// Whole files only: each name either is the blob suffix of a key or one that is cleaned up next time.
fn blobs(bench: &Bench) -> BTreeMap<String, Vec<u8>> {
    let mut blobs = BTreeMap::new();
    for name in names(&bench.path("keys")) {
        let bytes = std::fs::read(bench.path("keys").join(&name)).unwrap();
        if name.starts_with(".nodeseal-") && name.ends_with(".new") {
            continue;
        }
        let blob = Blob::parse(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        let of_key = name.strip_suffix(".old").unwrap_or(&name);
        assert_eq!(of_key, format!("{}.sealed", blob.header.name));
        blobs.insert(name, bytes);
    }
    blobs
}

fn refill(bench: &Bench) {
    let _ = std::fs::remove_dir_all(bench.path("keys"));
    for number in 0..KEYS {
        bench.write(&format!("plain/k{number}"), key(number));
    }
}

fn time_of(bench: &Bench, arguments: &[&str]) -> Duration {
    let start = Instant::now();
    bench.succeeds(arguments);
    start.elapsed()
}

#[test]
fn seal_with_shred_killed_anywhere_has_each_key_as_file_or_as_blob() {
    let bench = Bench::new();
    let seal = ["seal", "plain", "--shred", "--skip-existing"];
    refill(&bench);
    let whole = time_of(&bench, &seal);
    let mut killed = 0;
    for share in shares() {
        refill(&bench);
        killed += usize::from(kill_within(&bench, &seal, whole, share));
        let blobs = blobs(&bench);
        for number in 0..KEYS {
            match std::fs::read(bench.path(&format!("plain/k{number}"))) {
                Ok(content) => assert_eq!(content, key(number), "k{number} is whole"),
                Err(_) => assert!(
                    blobs.contains_key(&format!("k{number}.sealed")),
                    "k{number}"
                ),
            }
        }
        bench.succeeds(&seal);
        opens_to_all_keys(&bench);
        assert_eq!(names(&bench.path("plain")), [""; 0]);
        assert_eq!(names(&bench.path("keys")).len(), KEYS, "leftovers are gone");
    }
    assert!(killed > KILLS / 4, "{killed} kills of {KILLS} came in time");
}

#[test]
fn rotate_killed_anywhere_has_each_key_in_its_old_or_its_new_blob() {
    let bench = Bench::new();
    refill(&bench);
    bench.succeeds(&["seal", "plain"]);
    let whole = time_of(&bench, &["rotate", "--all"]);
    let mut killed = 0;
    for share in shares() {
        killed += usize::from(kill_within(&bench, &["rotate", "--all"], whole, share));
        let blobs = blobs(&bench);
        for number in 0..KEYS {
            assert!(
                blobs.contains_key(&format!("k{number}.sealed")),
                "k{number}"
            );
        }
        opens_to_all_keys(&bench);
        bench.succeeds(&["rotate", "--all"]);
        opens_to_all_keys(&bench);
        assert_eq!(names(&bench.path("keys")).len(), KEYS, "leftovers are gone");
    }
    assert!(killed > KILLS / 4, "{killed} kills of {KILLS} came in time");
}

fn opens_to_all_keys(bench: &Bench) {
    let out = bench.path("out");
    let _ = std::fs::remove_dir_all(&out);
    std::fs::create_dir(&out).unwrap();
    bench.succeeds(&["open", "keys", "--to", "out"]);
    for number in 0..KEYS {
        assert_eq!(read(&out, number), key(number));
    }
}

fn read(directory: &Path, number: usize) -> Vec<u8> {
    std::fs::read(directory.join(format!("k{number}"))).unwrap()
}
