//! Where things are: the checkout, built programs, installed node packages, temporary directories with short paths.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Context, Error, Result};

/// Root of the checkout.
#[must_use]
pub fn checkout() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.join("../..")
        .canonicalize()
        .unwrap_or_else(|_| here.join("../.."))
}

/// A fresh directory, removed on drop, whose path stays short: a unix socket's may have 107 bytes.
///
/// # Errors
/// When it cannot be made.
pub fn short_dir() -> Result<tempfile::TempDir> {
    tempfile::Builder::new()
        .prefix("ns-")
        .tempdir_in("/tmp")
        .context("making a directory in /tmp")
}

/// The directory of the profile this program was built into (`target/debug`, `target/release`).
pub(crate) fn built() -> Result<PathBuf> {
    let me = std::env::current_exe().context("finding the running executable")?;
    let mut directory = me.parent().unwrap_or(Path::new("/"));
    if directory.ends_with("deps") || directory.ends_with("examples") {
        directory = directory.parent().unwrap_or(directory);
    }
    Ok(directory.to_owned())
}

/// The built program `name` (which is also its package's name) of the same profile as the caller.
///
/// Builds it when it is not there: `cargo test -p X` builds X's own programs only.
///
/// # Errors
/// When it is missing and cannot be built.
pub fn program(name: &str) -> Result<PathBuf> {
    let directory = built()?;
    let path = directory.join(name);
    if path.is_file() {
        return Ok(path);
    }
    let profile = match directory.file_name().and_then(|n| n.to_str()) {
        Some("debug") | None => "dev",
        Some(profile) => profile,
    };
    let target = directory.parent().unwrap_or(&directory);
    let output = Command::new(env!("CARGO"))
        .args([
            "build",
            "--quiet",
            "--package",
            name,
            "--bin",
            name,
            "--profile",
            profile,
        ])
        .arg("--target-dir")
        .arg(target)
        .current_dir(checkout())
        .output()
        .context(format_args!("running cargo to build {name}"))?;
    if path.is_file() {
        return Ok(path);
    }
    Err(Error::new(format!(
        "{} is missing and cargo did not build it: {}",
        path.display(),
        String::from_utf8_lossy(&output.stderr)
    )))
}

/// A program of the system, by name, from `PATH` and the directories only root has there.
///
/// # Errors
/// When it is not installed.
pub fn system_program(name: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file())
        .ok_or_else(|| Error::new(format!("{name} is not installed: run `make setup`")))
}

/// Where `make setup` installs the packages of tests/node (the node and the keystore tools).
///
/// # Errors
/// When it has not been run.
pub fn node_packages() -> Result<PathBuf> {
    let directory = checkout().join("target/node");
    if directory.join("installed").is_file() {
        Ok(directory)
    } else {
        Err(Error::new(
            "the packages of tests/node are not installed: run `make setup`",
        ))
    }
}

/// The JavaScript runtime `make setup` chose: the system's, or the one it fetched when that is too old.
///
/// # Errors
/// As [`node_packages`].
pub fn javascript_runtime() -> Result<PathBuf> {
    let chosen = node_packages()?.join("installed");
    let text = std::fs::read_to_string(&chosen).context(chosen.display())?;
    Ok(PathBuf::from(text.trim()))
}
