//! Appending to the log: under a lock, onto whatever a crash may have left, on disk before it returns.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::format_rfc3339;
use super::record::{Event, Kind, NO_RECORD, Record, Torn, sha256};

/// How long another agent may hold the lock; appending takes milliseconds.
const LOCK_DEADLINE: Duration = Duration::from_secs(10);
/// Between two tries for the lock.
const LOCK_PAUSE: Duration = Duration::from_millis(2);
/// First step back from the end of the log in search of its last record; doubled until that is found.
const FIRST_STEP: u64 = 16 << 10;

/// The audit log cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// A step on a file failed.
    #[error("audit log: cannot {step} {}: {source}", path.display())]
    Io {
        /// What was tried.
        step: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// Another process holds the lock.
    #[error("audit log: {} was locked by another process for {} s", path.display(), LOCK_DEADLINE.as_secs())]
    Locked {
        /// The log.
        path: PathBuf,
    },
    /// The last line is no record, and no head says what it was.
    #[error(
        "audit log: the last line of {} is not a record and {} does not say what it was",
        path.display(),
        head_path(path).display()
    )]
    Damaged {
        /// The log.
        path: PathBuf,
    },
    /// The head is not one.
    #[error("audit log: {} is not the head of a log: {problem}", path.display())]
    Head {
        /// The head's file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A value that JSON cannot hold.
    #[error("audit log: {0}")]
    Encode(#[from] serde_json::Error),
}

/// Number and hash of the last record, kept apart from the log so that a log cut short is noticed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// Number of the last record.
    pub seq: u64,
    /// Its hash, hexadecimal.
    pub hash: String,
}

/// Where the head of the log `log` is kept.
#[must_use]
pub fn head_path(log: &Path) -> PathBuf {
    let mut name = log.as_os_str().to_owned();
    name.push(".head");
    name.into()
}

/// Reads a head; none where there is no file, or an empty one, which a power cut can leave.
///
/// # Errors
/// When it cannot be read or says something else.
pub(super) fn read_head(path: &Path) -> Result<Option<Head>, AuditError> {
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        outcome => outcome.map_err(failed("read", path))?,
    };
    if text.is_empty() {
        return Ok(None);
    }
    serde_json::from_str(&text)
        .map(Some)
        .map_err(|error| AuditError::Head {
            path: path.to_owned(),
            problem: error.to_string(),
        })
}

/// [`read_head`], while nobody appends to `log`.
///
/// # Errors
/// Those of [`read_head`], or that the log cannot be locked.
pub fn read_settled_head(path: &Path, log: &Path) -> Result<Option<Head>, AuditError> {
    let file = File::open(log).map_err(failed("read", log))?;
    let deadline = Instant::now() + LOCK_DEADLINE;
    lock(&file, log, FlockOperation::NonBlockingLockShared, deadline)?;
    read_head(path)
}

/// Appends one record and returns when it is on disk.
///
/// The chain goes on from the head where that is further than the log, so that what was cut off stays missed.
///
/// # Errors
/// See [`AuditError`].
pub fn append(path: &Path, event: &Event, now: SystemTime) -> Result<(), AuditError> {
    let mut file = open_locked(path)?;
    let tail = Tail::read(&mut file).map_err(failed("read", path))?;
    let head_file = head_path(path);
    let head = read_head(&head_file)?;
    let mut last = last_record(path, &tail, head)?;

    let mut text = String::new();
    if let Some(rest) = &tail.unfinished {
        text.push('\n');
        if Record::parse(rest).is_err() {
            let mut repair = Event::new(Kind::Repair, &event.node);
            repair.torn = Some(Torn {
                bytes: rest.len() as u64,
                sha256: sha256(rest),
            });
            last = add(&mut text, &last, repair, now)?;
        }
    }
    last = add(&mut text, &last, event.clone(), now)?;
    file.write_all(text.as_bytes())
        .map_err(failed("write", path))?;
    file.sync_data().map_err(failed("write to disk", path))?;
    write_head(&head_file, &last)
}

/// Appends the record of `event` after `last` to `text`.
fn add(text: &mut String, last: &Head, event: Event, now: SystemTime) -> Result<Head, AuditError> {
    let record = Record {
        seq: last.seq.saturating_add(1),
        prev: last.hash.clone(),
        time: format_rfc3339(now),
        uid: rustix::process::getuid().as_raw(),
        event,
    };
    let (line, hash) = record.line()?;
    text.push_str(&line);
    Ok(Head {
        seq: record.seq,
        hash,
    })
}

/// The record the next one follows: the later of the log's last and the head's.
fn last_record(path: &Path, tail: &Tail, head: Option<Head>) -> Result<Head, AuditError> {
    let unfinished = tail.unfinished.as_deref();
    let complete = tail.last.as_deref();
    // A whole record that only lacks its line end counts.
    let in_log = unfinished
        .and_then(|line| Record::parse(line).ok())
        .or_else(|| complete.and_then(|line| Record::parse(line).ok()))
        .map(|(record, hash)| Head {
            seq: record.seq,
            hash,
        });
    match (in_log, head) {
        // Further than the head: a crash came between the two writes.
        (Some(in_log), Some(head)) if in_log.seq > head.seq => Ok(in_log),
        (_, Some(head)) => Ok(head),
        (Some(in_log), None) => Ok(in_log),
        (None, None) if complete.is_some() => Err(AuditError::Damaged {
            path: path.to_owned(),
        }),
        (None, None) => Ok(Head {
            seq: 0,
            hash: NO_RECORD.to_owned(),
        }),
    }
}

/// Opens the log and takes its lock; tries again where the log was moved away in the meantime.
fn open_locked(path: &Path) -> Result<File, AuditError> {
    let deadline = Instant::now() + LOCK_DEADLINE;
    loop {
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)
            .map_err(failed("open", path))?;
        lock(
            &file,
            path,
            FlockOperation::NonBlockingLockExclusive,
            deadline,
        )?;
        if is_still(&file, path) {
            return Ok(file);
        }
    }
}

fn lock(
    file: &File,
    path: &Path,
    how: FlockOperation,
    deadline: Instant,
) -> Result<(), AuditError> {
    loop {
        match flock(file, how) {
            Ok(()) => return Ok(()),
            Err(Errno::WOULDBLOCK) if Instant::now() < deadline => std::thread::sleep(LOCK_PAUSE),
            Err(Errno::WOULDBLOCK) => {
                return Err(AuditError::Locked {
                    path: path.to_owned(),
                });
            }
            Err(errno) => return Err(failed("lock", path)(errno.into())),
        }
    }
}

fn is_still(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::metadata(path)) {
        (Ok(ours), Ok(theirs)) => (ours.dev(), ours.ino()) == (theirs.dev(), theirs.ino()),
        _ => false,
    }
}

/// The end of the log.
struct Tail {
    /// The last line, without its line end.
    last: Option<Vec<u8>>,
    /// What follows the last line end.
    unfinished: Option<Vec<u8>>,
}

impl Tail {
    /// Reads back from the end until the whole last line is there.
    fn read(file: &mut File) -> std::io::Result<Self> {
        let length = file.seek(SeekFrom::End(0))?;
        let mut step = FIRST_STEP;
        loop {
            let start = length.saturating_sub(step);
            file.seek(SeekFrom::Start(start))?;
            let rest = length - start;
            // Room for all of it, so that it is read at once.
            let mut bytes = Vec::with_capacity(usize::try_from(rest).unwrap_or_default());
            file.take(rest).read_to_end(&mut bytes)?;
            let mut parts = bytes.rsplitn(3, |byte| *byte == b'\n');
            let unfinished = parts.next().unwrap_or_default();
            let last = parts.next();
            if start == 0 || parts.next().is_some() {
                return Ok(Self {
                    last: last.map(<[u8]>::to_vec),
                    unfinished: (!unfinished.is_empty()).then(|| unfinished.to_vec()),
                });
            }
            step = step.saturating_mul(2);
        }
    }
}

/// Writes the head over the old one: in place, since it never gets shorter, and replacing a file just written makes
/// some file systems wait for their disk. It may be behind after a power cut, never ahead.
fn write_head(path: &Path, head: &Head) -> Result<(), AuditError> {
    let mut text = serde_json::to_string(head)?;
    text.push('\n');
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(failed("write", path))?;
    file.write_all(text.as_bytes())
        .map_err(failed("write", path))
}

/// Makes the error of a failed step on `path`.
pub(super) fn failed<'p>(
    step: &'static str,
    path: &'p Path,
) -> impl Fn(std::io::Error) -> AuditError + 'p {
    move |source| AuditError::Io {
        step,
        path: path.to_owned(),
        source,
    }
}
