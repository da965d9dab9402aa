//! The systemd unit keeps what docs/tpm.md says of it.
#![allow(clippy::unwrap_used)]

use std::process::Command;

/// Ten times the exposure level that must not be exceeded (systemd-analyze(1), "security"): 0.7 in docs/tpm.md.
const THRESHOLD: &str = "7";

#[test]
fn the_unit_is_as_closed_as_the_documentation_says() {
    let unit = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../deploy/nodeseal-tpm.service"
    );
    let threshold = format!("--threshold={THRESHOLD}");
    let analysed = Command::new("systemd-analyze")
        .args(["security", "--offline=true", "--no-pager", &threshold, unit])
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
