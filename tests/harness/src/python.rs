//! A Python with the packages of tests/python/requirements.txt, in target/venv.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;

use crate::{Context, Error, Finished, Result, checkout, system_program};

/// Python's path. The packages are installed the first time, and again when requirements.txt has changed.
///
/// # Errors
/// When python3-venv is missing or a package cannot be had.
pub fn python() -> Result<PathBuf> {
    let requirements = checkout().join("tests/python/requirements.txt");
    let wanted = fs::read(&requirements).context(requirements.display())?;
    let target = checkout().join("target");
    fs::create_dir_all(&target).context(target.display())?;
    let venv = target.join("venv");
    let python = venv.join("bin/python");
    let installed = venv.join("installed-requirements.txt");
    // Tests run at the same time: one installs, the others wait.
    let lock_path = target.join("venv.lock");
    let lock = File::create(&lock_path).context(lock_path.display())?;
    lock.lock().context(lock_path.display())?;
    if fs::read(&installed).is_ok_and(|found| found == wanted) {
        return Ok(python);
    }
    if venv.exists() {
        fs::remove_dir_all(&venv).context(venv.display())?;
    }
    let mut make = Command::new(system_program("python3")?);
    make.args(["-m", "venv"]).arg(&venv);
    Finished::of(&mut make)?
        .success("python3 -m venv")
        .map_err(|error| Error::new(format!("{error}\nrun `make setup`")))?;
    let mut install = Command::new(&python);
    install
        .args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
        ])
        .args(["--no-deps", "--only-binary=:all:", "--requirement"])
        .arg(&requirements);
    Finished::of(&mut install)?.success("pip install")?;
    fs::write(&installed, wanted).context(installed.display())?;
    Ok(python)
}
