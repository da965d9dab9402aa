//! The blob format by another implementation: docs/format.md, cbor2 and cryptography, no code of nodeseal.
#![allow(clippy::unwrap_used)]

use std::process::Command;

use nodeseal_harness::{Finished, checkout, python};

#[test]
fn a_python_script_opens_every_published_vector() {
    let mut command = Command::new(python().unwrap());
    command
        .arg(checkout().join("tests/python/open_blob.py"))
        .arg(checkout().join("tests/vectors/blob-v1.json"));
    let done = Finished::of(&mut command).unwrap();
    let said = done.success("open_blob.py").unwrap().text();
    assert_eq!(said.lines().count(), 7, "{said}");
    assert!(
        said.contains("opened: two ways of Azure Key Vault\n"),
        "{said}"
    );
    assert_eq!(said.lines().last(), Some("ok"));
}
