//! `nodeseal-nitro --check FILE`: a configuration is read as the enclave will read it, before it is built into an image.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::process::Command;

/// Exit status of nodeseal-nitro with these arguments, and what it said without the path of the directory.
fn said(directory: &Path, arguments: &[&str]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nodeseal-nitro"));
    let done = command
        .current_dir(directory)
        .args(arguments)
        .output()
        .unwrap();
    assert!(done.stdout.is_empty());
    let text = String::from_utf8(done.stderr).unwrap();
    (done.status.code().unwrap(), text)
}

#[test]
fn the_example_in_deploy_passes() {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy");
    assert_eq!(
        said(&deploy, &["--check", "nodeseal-enclave.toml"]),
        (0, String::new())
    );
}

#[test]
fn what_the_enclave_would_end_with_is_told_with_status_2() {
    let directory = tempfile::tempdir().unwrap();
    let kms = "[aws_kms]\nallowed_keys = [\"arn:aws:kms:eu-west-1:111122223333:key/1\"]\n";
    for (text, expected) in [
        (
            "[aws_kms]\nallowed_keys = [\"alias/node\"]\n".to_owned(),
            "aws_kms: ",
        ),
        (
            format!("{kms}roots = \"ca.pem\"\n"),
            "c.toml: aws_kms: roots: ca.pem: No such file or directory",
        ),
        (
            format!("{kms}endpoints = {{ eu-west-1 = \"https://kms\" }}\n"),
            "aws_kms: ",
        ),
        (format!("port = 0\n{kms}"), "c.toml: port: must be from 1"),
        (format!("debug = true\n{kms}"), "c.toml: TOML parse error"),
    ] {
        fs::write(directory.path().join("c.toml"), &text).unwrap();
        let (status, told) = said(directory.path(), &["--check", "c.toml"]);
        assert_eq!(status, 2, "{text}");
        let expected = format!("nodeseal-nitro: {expected}");
        assert!(told.starts_with(&expected), "{text}: {told}");
    }
    let (status, told) = said(directory.path(), &["--check", "none.toml"]);
    let expected = "nodeseal-nitro: cannot read none.toml: No such file or directory";
    assert_eq!((status, told.starts_with(expected)), (2, true), "{told}");
}

#[test]
fn outside_of_an_image_it_does_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    for arguments in [&[][..], &["--check"], &["--serve", "c.toml"]] {
        let (status, told) = said(directory.path(), arguments);
        assert_eq!(status, 2);
        let expected = "nodeseal-nitro: the first process of an enclave image (docs/nitro.md)";
        assert!(told.starts_with(expected), "{told}");
    }
}
