//! `open`: sealed keys become plaintext, in a file or on standard output. Or only a look whether they would.

use std::fs::File;
use std::io::{IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nodeseal_wire::blob::Blob;
use nodeseal_wire::header::Header;
use nodeseal_wire::message::{Class, DataKeyReport, Refusal};
use serde_json::{Map, Value, json};

use super::{App, connect};
use crate::cli::OpenArgs;
use crate::client::{BlobSource, Opened, open_blobs};
use crate::config::Config;
use crate::context::gather;
use crate::failure::Failure;
use crate::files::{FileError, NewFile, SECRET_MODE};
use crate::public_key::hex;
use crate::report::{Report, warn};
use crate::run::encoded;
use crate::selection::{check_type, encoding_of, select};

/// Where keys go.
enum Sink {
    File(PathBuf),
    Directory(PathBuf),
    Stdout,
    Nowhere,
}

/// Opens the keys.
///
/// # Errors
/// When none could be opened. What failed for single keys is in the report.
pub fn run(app: &App, args: &OpenArgs) -> Result<Report, Failure> {
    let config = app.config()?;
    let sources = select(&config, &args.keys)?;
    let sink = Sink::of(args, sources.len())?;
    sink.warn(app.json);
    let context = gather(&config)?;
    let mut outcomes: Vec<Option<Result<Told, Failure>>> = Vec::new();
    outcomes.resize_with(sources.len(), || None);
    // Reading the header of thousands of blobs is felt, so it is done only where something of it is told or compared.
    let look = app.json || !matches!(sink, Sink::Nowhere) || !config.entries.is_empty();
    let data_keys = app.wait_for(async {
        let mut connection = connect(&config).await?;
        let asked = sources.clone();
        open_blobs(&mut connection, &config.node, context, asked, |index, opened| {
            if let Some(outcome) = outcomes.get_mut(index) {
                *outcome = Some(match opened {
                    Ok(opened) if look => take(&config, args, &sink, &opened),
                    Ok(_) => Ok(Told::default()),
                    Err(refusal) => Err(refused(refusal)),
                });
            }
            Ok::<_, Failure>(())
        })
        .await
    })?;
    Ok(reported(&config, &sink, &sources, &outcomes, &data_keys))
}

/// What is told of an opened key.
#[derive(Default)]
struct Told {
    name: String,
    key_type: &'static str,
    public_key: Option<String>,
    file: Option<PathBuf>,
}

fn refused(refusal: Refusal) -> Failure {
    refusal.into()
}

fn take(
    config: &Config,
    args: &OpenArgs,
    sink: &Sink,
    opened: &Opened<'_>,
) -> Result<Told, Failure> {
    let header = Blob::parse(opened.blob)
        .map_err(|error| Failure::new(Class::Internal, "no-blob", error.to_string()))?
        .header;
    check_type(config, &header)?;
    let encoding = encoding_of(config, &header, args.encoding);
    let file = encoded(encoding, opened.key, |key| sink.put(&header, key))
        .map_err(|error| Failure::new(Class::Internal, "locked-memory", error.to_string()))??;
    Ok(Told {
        key_type: header.key_type.name(),
        public_key: header.public_key.as_deref().map(hex),
        name: header.name,
        file,
    })
}

impl Sink {
    fn of(args: &OpenArgs, keys: usize) -> Result<Self, Failure> {
        let Some(path) = &args.to else {
            return match (args.stdout, keys) {
                (true, 1) => Ok(Self::Stdout),
                (true, _) => Err(Failure::usage(format!(
                    "{keys} keys cannot go to standard output together; name a directory with --to"
                ))),
                (false, _) => Ok(Self::Nowhere),
            };
        };
        if path.is_dir() {
            return Ok(Self::Directory(path.clone()));
        }
        if keys != 1 {
            return Err(Failure::usage(format!(
                "{} is not a directory, and {keys} keys cannot go into one file",
                path.display()
            )));
        }
        // Seen before the key is opened; that nothing is replaced is made sure when the file gets its name.
        if path.symlink_metadata().is_ok() {
            return Err(FileError::Exists { path: path.clone() }.into());
        }
        Ok(Self::File(path.clone()))
    }

    /// Says loudly that a key is about to lie open.
    fn warn(&self, quiet: bool) {
        match self {
            Self::Stdout if std::io::stdout().is_terminal() => {
                warn("WARNING: a private key follows, in plaintext, on this terminal.");
                warn("WARNING: it stays in the scrollback, and in any recording of this session.");
            }
            Self::File(path) | Self::Directory(path) if !quiet => warn(&format!(
                "WARNING: private keys are written in plaintext to {}; remove them when done.",
                path.display()
            )),
            _ => {}
        }
    }

    fn put(&self, header: &Header, key: &[u8]) -> Result<Option<PathBuf>, Failure> {
        match self {
            Self::Nowhere => Ok(None),
            Self::Stdout => {
                write_stdout(key).map_err(|error| {
                    let message = format!("cannot write to standard output: {error}");
                    Failure::new(Class::Internal, "file", message)
                })?;
                Ok(None)
            }
            Self::File(path) => create(path, key).map(Some),
            // The name is proved by now, and names that leave their directory are no names (`check_name`).
            Self::Directory(directory) => create(&directory.join(&header.name), key).map(Some),
        }
    }
}

/// Not synced: what is lost in a crash can be opened again.
fn create(path: &Path, key: &[u8]) -> Result<PathBuf, Failure> {
    NewFile::write(path, key, SECRET_MODE)?.publish()?;
    Ok(path.to_owned())
}

/// Past the buffer of the standard library, where the key would stay.
fn write_stdout(key: &[u8]) -> std::io::Result<()> {
    let stdout = std::io::stdout().lock();
    File::from(stdout.as_fd().try_clone_to_owned()?).write_all(key)
}

fn reported(
    config: &Config,
    sink: &Sink,
    sources: &[BlobSource],
    outcomes: &[Option<Result<Told, Failure>>],
    data_keys: &[DataKeyReport],
) -> Report {
    let (mut text, mut keys, mut first, mut failures) = (String::new(), Vec::new(), None, 0);
    for (source, outcome) in sources.iter().zip(outcomes) {
        let path = source.path.display().to_string();
        match outcome {
            Some(Ok(told)) => {
                if let Some(file) = &told.file {
                    text.push_str(&format!("{}: {}\n", told.name, file.display()));
                }
                keys.push(json!({
                    "blob": path,
                    "name": told.name,
                    "type": told.key_type,
                    "public_key": told.public_key,
                    "file": told.file.as_ref().map(|file| file.display().to_string()),
                }));
            }
            Some(Err(failure)) => {
                failures += 1;
                text.push_str(&format!("{path}: {}\n", failure.message));
                keys.push(json!({ "blob": path, "error": failure.json() }));
                first.get_or_insert((path, failure));
            }
            None => {}
        }
    }
    if matches!(sink, Sink::Nowhere) {
        text.push_str(&format!("{} of {} keys open\n", sources.len() - failures, sources.len()));
    }
    if matches!(sink, Sink::Stdout) {
        // Standard output is the key's alone.
        text.clear();
    }
    Report {
        json: json!({
            "node": config.node,
            "keys": keys,
            "data_keys": data_keys.iter().map(data_key_json).collect::<Vec<_>>(),
        }),
        text,
        failed: first.map(|(path, first)| match sources {
            [_] => first.clone().of(path),
            _ => Failure::some_of(failures, sources.len(), first),
        }),
    }
}

fn data_key_json(report: &DataKeyReport) -> Value {
    let facts = report.facts.iter().map(|fact| (fact.name.clone(), fact.value.clone().into()));
    let failed = report.failed.iter().map(|(way, refusal)| {
        json!({ "way": way, "error": Failure::from(refusal.clone()).json() })
    });
    json!({
        "data_key": hex(&report.id),
        "way": report.way,
        "facts": facts.collect::<Map<_, _>>(),
        "failed": failed.collect::<Vec<_>>(),
    })
}
