//! Reading blobs' files into requests' worths.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use nodeseal_wire::blob::MAX_BLOB;
use nodeseal_wire::message::{Class, MAX_BATCH, Refusal};
use rustix::fd::OwnedFd;
use rustix::fs::{CWD, Mode, OFlags, openat};
use tokio::sync::mpsc;

use super::BlobSource;

/// A request is sent when it holds this many bytes of blobs: large enough that what a request costs beside them does not
/// matter, small enough that reading, sending and opening overlap. One blob more (at most 1 MiB) stays far below the
/// frame's limit.
const CHUNK_BYTES: usize = 512 << 10;
/// Most blobs in one request.
const CHUNK_BLOBS: usize = MAX_BATCH / 4;
/// Up to this many blobs, files are read at once and without threads, which would cost more than they gain.
const FEW: usize = 32;
/// Threads that read files. Reading is system calls, so a second one gains a little where the first waits for a disk.
const READERS: usize = 2;
/// Files a reader takes from the list at a time.
const STRIDE: usize = 64;
/// Requests' worth of files read ahead: enough while the first lock is being asked, little enough to stay in the
/// processor's cache.
const READ_AHEAD: usize = 4;
/// Room for each file: a usual blob is read by one call.
const FILE_ROOM: usize = 8 << 10;

/// Blobs read and not yet asked for, or asked for and not yet answered.
pub struct Chunk {
    /// Place in the list of sources, and length in bytes, of each.
    pub blobs: Vec<(usize, u32)>,
    /// One after the other.
    pub bytes: Vec<u8>,
    /// Whether they were asked for, so that a reply comes.
    pub asked: bool,
    /// Files that could not be read.
    pub failed: Vec<(usize, Refusal)>,
    /// Where `bytes` goes when nobody needs it any more.
    pub spare: Spare,
}

/// Buffers that were used: having their memory from the system anew costs as much as reading the files does.
#[derive(Clone, Default)]
pub struct Spare(Arc<Mutex<Vec<Vec<u8>>>>);

impl Spare {
    fn take(&self) -> Vec<u8> {
        let mut spare = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = || Vec::with_capacity(CHUNK_BYTES + FILE_ROOM);
        spare.pop().unwrap_or_else(room)
    }

    /// Keeps a buffer for the next chunk.
    pub fn give(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        let mut spare = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        spare.push(buffer);
    }
}

/// Starts to read the files. The channel closes after the last.
pub fn start_reading(sources: &Arc<[BlobSource]>) -> mpsc::Receiver<Chunk> {
    let (out, chunks) = mpsc::channel(READ_AHEAD);
    let next = Arc::new(AtomicUsize::new(0));
    if sources.len() <= FEW {
        let sources = Arc::clone(sources);
        tokio::spawn(async move {
            let few = Vec::with_capacity(FILE_ROOM);
            let (mut chunk, mut files) = (Chunk::of(few, Spare::default()), FileReader::default());
            for (index, source) in sources.iter().enumerate() {
                chunk.read(&mut files, index, source);
                if chunk.is_full() && out.send(chunk.replaced()).await.is_err() {
                    return;
                }
            }
            // A closed channel means that the batch has failed and nobody waits for more.
            let _ = out.send(chunk).await;
        });
        return chunks;
    }
    let spare = Spare::default();
    for _ in 0..READERS {
        let (sources, next, out) = (Arc::clone(sources), Arc::clone(&next), out.clone());
        let spare = spare.clone();
        tokio::task::spawn_blocking(move || {
            let mut chunk = Chunk::of(spare.take(), spare);
            let mut files = FileReader::default();
            loop {
                let start = next.fetch_add(STRIDE, Ordering::Relaxed);
                let Some(rest) = sources.get(start..).filter(|rest| !rest.is_empty()) else {
                    break;
                };
                for (index, source) in rest.iter().take(STRIDE).enumerate() {
                    chunk.read(&mut files, start + index, source);
                    if chunk.is_full() && out.blocking_send(chunk.replaced()).is_err() {
                        return;
                    }
                }
                // Where more than one request is needed, the first is a small one: the locks are asked while the rest
                // is read.
                if start == 0
                    && sources.len() > CHUNK_BLOBS
                    && out.blocking_send(chunk.replaced()).is_err()
                {
                    return;
                }
            }
            let _ = out.blocking_send(chunk);
        });
    }
    chunks
}

impl Chunk {
    fn of(bytes: Vec<u8>, spare: Spare) -> Self {
        Self {
            blobs: Vec::new(),
            bytes,
            asked: false,
            failed: Vec::new(),
            spare,
        }
    }

    /// Gives the chunk, and puts an empty one in its place.
    fn replaced(&mut self) -> Self {
        let empty = Self::of(self.spare.take(), self.spare.clone());
        std::mem::replace(self, empty)
    }

    fn is_full(&self) -> bool {
        self.bytes.len() >= CHUNK_BYTES || self.blobs.len() >= CHUNK_BLOBS
    }

    fn read(&mut self, files: &mut FileReader, index: usize, source: &BlobSource) {
        let start = self.bytes.len();
        match files.read_blob(&source.path, &mut self.bytes) {
            Ok(length) => self.blobs.push((index, length)),
            Err(refusal) => {
                self.bytes.truncate(start);
                self.failed.push((index, refusal));
            }
        }
    }
}

/// Reads files, many of which are in the same directory: looking up its path once per file would be felt.
#[derive(Default)]
struct FileReader {
    directory: Option<(PathBuf, OwnedFd)>,
}

impl FileReader {
    /// Appends the file and returns its length; on an error, what was appended does not count.
    fn read_blob(&mut self, path: &Path, bytes: &mut Vec<u8>) -> Result<u32, Refusal> {
        let length = self.read(path, bytes).map_err(|error| Refusal {
            class: Class::Internal,
            code: "unreadable".to_owned(),
            message: format!("cannot be read: {error}"),
        })?;
        match u32::try_from(length) {
            Ok(fits) if length <= MAX_BLOB => Ok(fits),
            _ => Err(Refusal {
                class: Class::Damaged,
                code: "not-a-blob".to_owned(),
                message: format!("expected a sealed blob of at most {MAX_BLOB} bytes, found more"),
            }),
        }
    }

    /// Appends the file, or its start where it is larger than any blob.
    fn read(&mut self, path: &Path, bytes: &mut Vec<u8>) -> rustix::io::Result<usize> {
        let file = self.open(path)?;
        let mut length = 0;
        while length <= MAX_BLOB {
            bytes.reserve(FILE_ROOM);
            let room = bytes.capacity() - bytes.len();
            match rustix::io::read(&file, rustix::buffer::spare_capacity(bytes)) {
                Ok(more) => {
                    length += more;
                    // A file gives less than there is room for only at its end (read(3p)): no need to ask once more.
                    if more < room {
                        break;
                    }
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(length)
    }

    fn open(&mut self, path: &Path) -> rustix::io::Result<OwnedFd> {
        // A named pipe must not make the agent wait for its writer.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return openat(CWD, path, flags, Mode::empty());
        };
        if parent.as_os_str().is_empty() {
            return openat(CWD, path, flags, Mode::empty());
        }
        match &self.directory {
            Some((known, directory)) if known.as_os_str() == parent.as_os_str() => {
                openat(directory, name, flags, Mode::empty())
            }
            _ => {
                let of_directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                let directory = openat(CWD, parent, of_directory, Mode::empty())?;
                let file = openat(&directory, name, flags, Mode::empty());
                self.directory = Some((parent.to_owned(), directory));
                file
            }
        }
    }
}
