//! `open`: sealed keys become plaintext, in a file or on standard output. Or only a look whether they would.

use std::fs::File;
use std::io::{IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;

use nodeseal_memory::{LockMemoryError, Secret};
use nodeseal_wire::blob::Blob;
use nodeseal_wire::header::{Header, KnownWays};
use nodeseal_wire::message::{Class, DataKeyReport, Refusal};
use serde_json::{Map, Value, json};

use super::{App, connect, recorded};
use crate::audit::{Kind, Trail};
use crate::cli::OpenArgs;
use crate::client::{BlobSource, Connection, Opened, open_blobs};
use crate::config::Config;
use crate::context::gather;
use crate::failure::Failure;
use crate::files::{FileError, NewFile, SECRET_MODE, files_at_a_time};
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

/// An opened key, on its way out.
enum Staged {
    File(NewFile),
    Stdout(Secret),
    Nowhere,
}

/// What is told of an opened key.
struct Told {
    name: String,
    key_type: &'static str,
    public_key: Option<String>,
    file: Option<PathBuf>,
}

/// What became of each blob, in order; nothing is told of one that was only checked. Boxed: with ten thousand of them
/// it is felt how large each is.
type Outcomes<T> = Vec<Option<Outcome<T>>>;
type Outcome<T> = Result<Option<Box<T>>, Box<Failure>>;

/// Opens the keys.
///
/// # Errors
/// When none could be opened. What failed for single keys is in the report.
pub fn run(app: &App, args: &OpenArgs) -> Result<Report, Failure> {
    let config = app.config()?;
    let sources: Arc<[BlobSource]> = select(&config, &args.keys)?.into();
    let sink = Sink::of(args, sources.len())?;
    sink.warn(app.json);
    let job = Job {
        config: &config,
        args,
        // Reading the header of each of thousands of blobs is felt: it is done where something of it is used.
        look: app.json || !matches!(sink, Sink::Nowhere) || !config.entries.is_empty(),
        sink: &sink,
    };
    let at_a_time = match sink {
        // Keys appear in their directory only after the audit log has them.
        Sink::Directory(_) => files_at_a_time(),
        _ => sources.len(),
    };
    let mut outcomes = Outcomes::<Told>::new();
    let mut data_keys = Vec::new();
    app.wait_for(async {
        let mut connection = connect(&config).await?;
        let groups = match sources.len() {
            all if all <= at_a_time => vec![Arc::clone(&sources)],
            _ => sources.chunks(at_a_time.max(1)).map(Arc::from).collect(),
        };
        for group in groups {
            let opened = job.open(&mut connection, group).await?;
            outcomes.extend(opened.0);
            data_keys.extend(opened.1);
        }
        Ok(())
    })?;
    let done = Done {
        sources: &sources,
        outcomes: &outcomes,
        data_keys: &data_keys,
    };
    Ok(done.report(&job, app.json))
}

/// What is to be done with each key.
struct Job<'a> {
    config: &'a Config,
    args: &'a OpenArgs,
    sink: &'a Sink,
    /// Whether headers are read.
    look: bool,
}

impl Job<'_> {
    async fn open(
        &self,
        connection: &mut Connection,
        sources: Arc<[BlobSource]>,
    ) -> Result<(Outcomes<Told>, Vec<DataKeyReport>), Failure> {
        let mut trail = Trail::new(Kind::Open, &self.config.node);
        let mut outcomes = Outcomes::<(Staged, Told)>::new();
        outcomes.resize_with(sources.len(), || None);
        let (supplies, asked) = (gather(self.config)?, Arc::clone(&sources));
        let mut known = KnownWays::default();
        let node = &self.config.node;
        let opened = open_blobs(connection, node, supplies, asked, |index, opened| {
            if let (Some(outcome), Some(source)) = (outcomes.get_mut(index), sources.get(index)) {
                let taken = self.take(source, opened, &mut trail, &mut known);
                *outcome = Some(taken.map_err(Box::new));
            }
            Ok::<_, Failure>(())
        })
        .await;
        let reports = recorded(trail, self.config, opened)?;
        let outcomes = outcomes.into_iter().map(|outcome| Some(release(outcome?)));
        Ok((outcomes.collect(), reports))
    }

    fn take(
        &self,
        source: &BlobSource,
        opened: Result<Opened<'_>, Refusal>,
        trail: &mut Trail,
        known: &mut KnownWays,
    ) -> Result<Option<Box<(Staged, Told)>>, Failure> {
        let opened = opened.map_err(|refusal| {
            let name = source.name.as_deref().unwrap_or_default();
            trail.refused(name, Some(&source.path), &refusal);
            Failure::from(refusal)
        })?;
        if matches!(self.sink, Sink::Nowhere) {
            trail.checked(opened.blob);
        }
        if !self.look {
            return Ok(None);
        }
        let (staged, told) = self.stage(&opened, known).inspect_err(|failure| {
            let name = source.name.as_deref().unwrap_or_default();
            trail.refused(name, Some(&source.path), &failure.refusal());
        })?;
        if !matches!(self.sink, Sink::Nowhere) {
            trail.done(&told.name, opened.blob);
        }
        Ok(Some(Box::new((staged, told))))
    }

    fn stage(&self, opened: &Opened<'_>, known: &mut KnownWays) -> Result<(Staged, Told), Failure> {
        let header = Blob::parse_with(opened.blob, known)
            .map_err(|error| Failure::new(Class::Internal, "no-blob", error.to_string()))?
            .header;
        check_type(self.config, &header)?;
        let encoding = encoding_of(self.config, &header, self.args.encoding);
        let file = self.sink.file(&header);
        let no_memory = |error: LockMemoryError| {
            Failure::new(Class::Internal, "locked-memory", error.to_string())
        };
        let staged = encoded(encoding, opened.key, |key| match (&file, self.sink) {
            // Not synced: what is lost in a crash can be opened again.
            (Some(file), _) => Ok(Staged::File(NewFile::write(file, key, SECRET_MODE)?)),
            (None, Sink::Stdout) => Secret::copy_of(key).map(Staged::Stdout).map_err(no_memory),
            (None, _) => Ok(Staged::Nowhere),
        })
        .map_err(no_memory)??;
        let told = Told {
            key_type: header.key_type.name(),
            public_key: header.public_key.as_deref().map(hex),
            name: header.name,
            file,
        };
        Ok((staged, told))
    }
}

/// Lets the key out that was opened.
fn release(outcome: Outcome<(Staged, Told)>) -> Outcome<Told> {
    let Some(ready) = outcome? else {
        return Ok(None);
    };
    let (staged, told) = *ready;
    staged.release()?;
    Ok(Some(Box::new(told)))
}

impl Staged {
    /// Lets the key out.
    fn release(self) -> Result<(), Failure> {
        match self {
            Self::File(file) => Ok(file.publish()?),
            Self::Stdout(key) => write_stdout(&key).map_err(|error| {
                let message = format!("cannot write to standard output: {error}");
                Failure::new(Class::Internal, "file", message)
            }),
            Self::Nowhere => Ok(()),
        }
    }
}

/// Past the buffer of the standard library, where the key would stay.
fn write_stdout(key: &Secret) -> std::io::Result<()> {
    let stdout = std::io::stdout().lock();
    File::from(stdout.as_fd().try_clone_to_owned()?).write_all(key.expose())
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

    /// The file for a key. The name is proved by now, and names that leave their directory are none (`check_name`).
    fn file(&self, header: &Header) -> Option<PathBuf> {
        match self {
            Self::File(path) => Some(path.clone()),
            Self::Directory(directory) => Some(directory.join(&header.name)),
            Self::Stdout | Self::Nowhere => None,
        }
    }
}

/// What became of all.
struct Done<'a> {
    sources: &'a [BlobSource],
    outcomes: &'a Outcomes<Told>,
    data_keys: &'a [DataKeyReport],
}

impl Done<'_> {
    fn report(&self, job: &Job<'_>, as_json: bool) -> Report {
        let failures = || {
            let each = self.sources.iter().zip(self.outcomes);
            each.filter_map(|(source, outcome)| match outcome {
                Some(Err(failure)) => Some((source, failure)),
                _ => None,
            })
        };
        let failed = failures().next().map(|(source, first)| match self.sources {
            [_] => first.clone().of(source.path.display()),
            _ => Failure::some_of(failures().count(), self.sources.len(), first),
        });
        let mut report = Report::silent();
        if as_json {
            report.json = self.json(job.config);
        } else if !matches!(job.sink, Sink::Stdout) {
            // Standard output would be the key's alone.
            report.text = self.text(job.sink, failures().count());
        }
        report.failed = failed;
        report
    }

    fn text(&self, sink: &Sink, failures: usize) -> String {
        let mut text = String::new();
        for (source, outcome) in self.sources.iter().zip(self.outcomes) {
            let line = match outcome {
                Some(Ok(Some(told))) => match &told.file {
                    Some(file) => format!("{}: {}\n", told.name, file.display()),
                    None => continue,
                },
                Some(Err(failure)) => format!("{}: {}\n", source.path.display(), failure.message),
                Some(Ok(None)) | None => continue,
            };
            text.push_str(&line);
        }
        if matches!(sink, Sink::Nowhere) {
            let keys = self.sources.len();
            text.push_str(&format!("{} of {keys} keys open\n", keys - failures));
        }
        text
    }

    fn json(&self, config: &Config) -> Value {
        let each = self.sources.iter().zip(self.outcomes);
        let keys = each.filter_map(|(source, outcome)| {
            let path = source.path.display().to_string();
            Some(match outcome.as_ref()? {
                Ok(None) => json!({ "blob": path }),
                Ok(Some(told)) => json!({
                    "blob": path,
                    "name": told.name,
                    "type": told.key_type,
                    "public_key": told.public_key,
                    "file": told.file.as_ref().map(|file| file.display().to_string()),
                }),
                Err(failure) => json!({ "blob": path, "error": failure.json() }),
            })
        });
        json!({
            "node": config.node,
            "keys": keys.collect::<Vec<_>>(),
            "data_keys": self.data_keys.iter().map(data_key_json).collect::<Vec<_>>(),
        })
    }
}

fn data_key_json(report: &DataKeyReport) -> Value {
    let facts = report
        .facts
        .iter()
        .map(|fact| (fact.name.clone(), fact.value.clone().into()));
    let failed = report.failed.iter().map(
        |(way, refusal)| json!({ "way": way, "error": Failure::from(refusal.clone()).json() }),
    );
    json!({
        "data_key": hex(&report.id),
        "way": report.way,
        "facts": facts.collect::<Map<_, _>>(),
        "failed": failed.collect::<Vec<_>>(),
    })
}
