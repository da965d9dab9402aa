//! The systemd unit: it works, and keeps what docs/tpm.md says of it.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::process::Command;

use nodeseal_harness::program;

/// Ten times the exposure level that must not be exceeded (systemd-analyze(1), "security"): 0.7 in docs/tpm.md.
const THRESHOLD: &str = "7";
/// Status of unit/machine.sh where the kernel does not give what it needs.
const CANNOT: i32 = 77;

const DEPLOY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy");
const MACHINE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/unit/machine.sh");

#[test]
fn the_unit_is_as_closed_as_the_documentation_says() {
    let unit = format!("{DEPLOY}/nodeseal-tpm.service");
    let threshold = format!("--threshold={THRESHOLD}");
    let analysed = Command::new("systemd-analyze")
        .args(["security", "--offline=true", "--no-pager", &threshold])
        .arg(unit)
        .output();
    let Ok(analysed) = analysed else {
        println!("skipped: no systemd-analyze here");
        return;
    };
    let said = String::from_utf8_lossy(&analysed.stdout);
    if said.trim().is_empty() {
        println!(
            "skipped: {}",
            String::from_utf8_lossy(&analysed.stderr).trim()
        );
        return;
    }
    assert!(analysed.status.success(), "{said}");
}

#[test]
fn under_a_real_systemd_the_units_start_serve_restart_and_stop() {
    let systemd = fs::exists("/lib/systemd/systemd").unwrap();
    if !rustix::process::geteuid().is_root() || !systemd {
        println!("skipped: needs root and systemd");
        return;
    }
    let work = tempfile::tempdir().unwrap();
    fs::create_dir(work.path().join("fs")).unwrap();
    let programs = program("nodeseal-tpm").unwrap();
    program("nodeseal").unwrap();
    let done = Command::new("sh")
        .args([MACHINE, DEPLOY])
        .args([programs.parent().unwrap(), work.path()])
        .output()
        .unwrap();
    if done.status.code() == Some(CANNOT) {
        let why = String::from_utf8_lossy(&done.stderr).into_owned();
        println!("skipped: no namespaces or overlay here: {why}");
        return;
    }
    let said = fs::read_to_string(work.path().join("said")).unwrap();
    for step in [
        "enroll", "socket", "start", "init", "generate", "open", "restart", "again", "stop",
    ] {
        assert!(said.contains(&format!("{step}: ok\n")), "{step}:\n{said}");
    }
    for (name, value) in [
        ("CapEff", "0000000000000000"),
        ("CapBnd", "0000000000000000"),
        ("NoNewPrivs", "1"),
        ("Seccomp", "2"),
        ("Result=success", ""),
        ("stopping", " every data key is wiped"),
    ] {
        let found = said
            .lines()
            .filter_map(|line| line.split_once(name))
            .any(|(_, rest)| rest.trim_start_matches([':', '\t']) == value);
        assert!(found, "{name}:\n{said}");
    }
    assert!(!said.contains("Uid:\t0\t"), "{said}");
}
