//! `nodeseal-image`: builds enclave image files and measures any.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use nodeseal_image::build::{COMMAND_LINE, CONFIG_NAME, Parts, build};
use nodeseal_image::eif::{Kind, Parsed};
use nodeseal_image::measure::Measurements;
use nodeseal_image::signature::Signer;
use serde_json::{Value, json};

/// Largest file read, in bytes. Enclaves have at most this much memory to be loaded into on any instance type worth
/// the name; ours take a thousandth.
const MAX_FILE: u64 = 4 << 30;

/// Builds enclave image files (EIF) that are the same byte for byte whenever their parts are, and measures any.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build an image of a kernel, the enclave's program and its configuration; print its measurements
    Build(BuildArgs),
    /// Print the measurements of any image
    Measure(MeasureArgs),
}

#[derive(Args)]
struct BuildArgs {
    /// The kernel, a bzImage (enclave/image/kernel/build.sh)
    #[arg(long, value_name = "FILE")]
    kernel: PathBuf,
    /// The enclave's program, a static executable
    #[arg(long, value_name = "FILE")]
    init: PathBuf,
    /// The enclave's configuration (docs/nitro.md), which is measured as PCR2: a file, or a directory that has
    /// nodeseal-enclave.toml and the files it names
    #[arg(long, value_name = "PATH")]
    config: PathBuf,
    /// Where the image is written to
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Where the measurements are written to, in the shape nitro-cli prints
    #[arg(long, value_name = "FILE")]
    measurements: Option<PathBuf>,
    /// Name in the metadata, which is not measured
    #[arg(long, value_name = "NAME", default_value = "nodeseal")]
    name: String,
    /// The kernel's command line
    #[arg(long, value_name = "TEXT", default_value = COMMAND_LINE)]
    command_line: String,
    /// Sign the image with this P-384 key (PEM), which gives it a PCR8
    #[arg(long, value_name = "FILE", requires = "signing_certificate")]
    signing_key: Option<PathBuf>,
    /// The key's certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "signing_key")]
    signing_certificate: Option<PathBuf>,
}

#[derive(Args)]
struct MeasureArgs {
    /// The image
    #[arg(value_name = "FILE.eif")]
    image: PathBuf,
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Build(args) => build_image(&args),
        Command::Measure(args) => measure_image(&args),
    };
    match done.and_then(|report| print(&report)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("nodeseal-image: {error}");
            ExitCode::FAILURE
        }
    }
}

fn build_image(args: &BuildArgs) -> Result<Value, String> {
    let parts = Parts {
        kernel: read(&args.kernel)?,
        init: read(&args.init)?,
        config: configuration(&args.config)?,
        command_line: args.command_line.clone(),
        name: args.name.clone(),
    };
    let signer = match (&args.signing_key, &args.signing_certificate) {
        (Some(key), Some(certificate)) => {
            let signer = Signer::new(&read(key)?, &read(certificate)?);
            Some(signer.map_err(|error| error.to_string())?)
        }
        _ => None,
    };
    let (file, measurements) = build(&parts, signer.as_ref()).map_err(|error| error.to_string())?;
    let report = measurements.to_json();
    write(&args.output, &file)?;
    if let Some(path) = &args.measurements {
        write(path, text(&report)?.as_bytes())?;
    }
    Ok(report)
}

fn measure_image(args: &MeasureArgs) -> Result<Value, String> {
    let file = read(&args.image)?;
    let of_file = |error: &dyn std::fmt::Display| format!("{}: {error}", args.image.display());
    let image = Parsed::parse(&file).map_err(|error| of_file(&error))?;
    let measurements = Measurements::of(&image).map_err(|error| of_file(&error))?;
    let mut report = measurements.to_json();
    let metadata = image.of(Kind::Metadata).next();
    report["EifVersion"] = json!(image.version());
    report["Architecture"] = json!(if image.arm64() { "aarch64" } else { "x86_64" });
    report["IsSigned"] = json!(measurements.pcr8.is_some());
    report["Size"] = json!(file.len());
    // Whatever somebody wrote there; nothing is read into it.
    report["Metadata"] = metadata
        .and_then(|metadata| serde_json::from_slice(metadata).ok())
        .unwrap_or(Value::Null);
    Ok(report)
}

/// The files of the configuration by name.
fn configuration(path: &Path) -> Result<BTreeMap<String, Vec<u8>>, String> {
    let of_path = |error: std::io::Error| format!("{}: {error}", path.display());
    if !path.is_dir() {
        return Ok(BTreeMap::from([(CONFIG_NAME.to_owned(), read(path)?)]));
    }
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(path).map_err(of_path)? {
        let entry = entry.map_err(of_path)?;
        let file = entry.path();
        // Not followed: what a link leads to may be anything.
        if !entry.file_type().map_err(of_path)?.is_file() {
            return Err(format!(
                "{}: expected a file, found something else",
                file.display()
            ));
        }
        let Ok(name) = entry.file_name().into_string() else {
            return Err(format!("{}: expected a name in UTF-8", file.display()));
        };
        files.insert(name, read(&file)?);
    }
    Ok(files)
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let of_file = |error: std::io::Error| format!("{}: {error}", path.display());
    let length = fs::metadata(path).map_err(of_file)?.len();
    if length > MAX_FILE {
        let path = path.display();
        return Err(format!(
            "{path}: expected at most {MAX_FILE} bytes, found {length}"
        ));
    }
    fs::read(path).map_err(of_file)
}

/// Replaces `path` as a whole, or not at all.
fn write(path: &Path, content: &[u8]) -> Result<(), String> {
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let replace = || {
        let mut file = tempfile::NamedTempFile::new_in(directory.unwrap_or(Path::new(".")))?;
        file.write_all(content)?;
        file.as_file()
            .set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
        file.as_file().sync_all()?;
        file.persist(path).map(drop).map_err(|error| error.error)
    };
    replace().map_err(|error: std::io::Error| format!("{}: {error}", path.display()))
}

fn text(report: &Value) -> Result<String, String> {
    let text = serde_json::to_string_pretty(report).map_err(|error| error.to_string())?;
    Ok(text + "\n")
}

fn print(report: &Value) -> Result<(), String> {
    let printed = std::io::stdout().write_all(text(report)?.as_bytes());
    printed.map_err(|error| format!("standard output: {error}"))
}
