//! Real keystore files, made and opened by the tools of their formats (tests/node/keystores.mjs).

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::{Context, Error, Finished, Result, javascript_runtime, node_packages};

/// Whose keys a pair of keystores holds, as derived from the private keys in them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identities {
    /// Ethereum address of geth's keystore.
    pub address: String,
    /// BLS12-381 public key of the validator's keystore.
    pub pubkey: String,
}

/// Makes `directory`/geth (keystore v3, password.txt) and `directory`/lighthouse (validators/, secrets/: EIP-2335),
/// with a fresh key each.
///
/// # Errors
/// When the tools are not installed or fail.
pub fn make(directory: &Path) -> Result<Identities> {
    run("make", directory)
}

/// Opens both keystores with their passwords.
///
/// # Errors
/// When a file is missing or a password does not open its keystore.
pub fn check(directory: &Path) -> Result<Identities> {
    run("check", directory)
}

fn run(action: &str, directory: &Path) -> Result<Identities> {
    let what = format!("keystores.mjs {action}");
    let mut command = Command::new(javascript_runtime()?);
    command
        .arg(node_packages()?.join("keystores.mjs"))
        .arg(action)
        .arg(directory);
    let done = Finished::of(&mut command)?.success(&what)?;
    let answer: Value = serde_json::from_slice(&done.stdout).context(&what)?;
    let field = |name: &str| {
        let text = answer.get(name).and_then(Value::as_str);
        text.map(str::to_owned)
            .ok_or_else(|| Error::new(format!("{what}: no {name} in {answer}")))
    };
    Ok(Identities {
        address: field("address")?,
        pubkey: field("pubkey")?,
    })
}
