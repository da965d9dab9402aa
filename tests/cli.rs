//! Cases of the command line, one file each in tests/cli: files to be there, arguments, exit status, exact output.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    args: Vec<String>,
    #[serde(default)]
    files: BTreeMap<String, String>,
    /// Files given in hexadecimal.
    #[serde(default)]
    hex: BTreeMap<String, String>,
    status: i32,
    #[serde(default)]
    stdout: String,
    #[serde(default)]
    stderr: String,
    /// Files that must be there afterwards, with this content.
    #[serde(default)]
    after: BTreeMap<String, String>,
}

#[test]
fn every_case_in_tests_cli_comes_out_as_written() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli");
    let mut count = 0;
    for entry in std::fs::read_dir(cases).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let case: Case = toml::from_str(&text).unwrap_or_else(|e| panic!("{path:?}: {e}"));
        check(&path, case);
        count += 1;
    }
    assert!(count > 20, "{count} cases");
}

fn check(path: &Path, case: Case) {
    let directory = tempfile::tempdir().unwrap();
    let put = |name: &str, content: &[u8]| {
        let file = directory.path().join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, content).unwrap();
    };
    for (name, text) in &case.files {
        put(name, text.as_bytes());
    }
    for (name, digits) in &case.hex {
        let digits: String = digits.split_whitespace().collect();
        let byte = |i| u8::from_str_radix(&digits[2 * i..2 * i + 2], 16).unwrap();
        put(name, &(0..digits.len() / 2).map(byte).collect::<Vec<_>>());
    }
    let output = Command::new(env!("CARGO_BIN_EXE_nodeseal"))
        .args(&case.args)
        .current_dir(&directory)
        .env_clear()
        .output()
        .unwrap();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(stdout, case.stdout, "standard output of {path:?}");
    assert_eq!(stderr, case.stderr, "standard error of {path:?}");
    assert_eq!(
        output.status.code(),
        Some(case.status),
        "exit status of {path:?}"
    );
    for (name, content) in &case.after {
        let found = std::fs::read_to_string(directory.path().join(name));
        assert_eq!(found.unwrap(), *content, "{name} after {path:?}");
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}
