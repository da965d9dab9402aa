//! Opening any number of blobs as one batch: files are read, requests sent and replies taken at the same time.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use nodeseal_wire::blob::MAX_BLOB;
use nodeseal_wire::message::{
    BlobRef, Class, Context, DataKeyReport, MAX_BATCH, OpenRequest, Outcome, Refusal, Reply,
    Request,
};
use rustix::fs::{CWD, Mode, OFlags, openat};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

use super::{ClientError, Connection, receive, send};
use crate::aws::credentials_expired;
use crate::report::warn;
use crate::supplies::Supplies;

/// A request is sent when it holds this many bytes of blobs: large enough that a round trip does not matter, small
/// enough that reading, sending and opening overlap. One blob more (at most 1 MiB) stays far below the frame's limit.
const CHUNK_BYTES: usize = 256 << 10;
/// Most blobs in one request.
const CHUNK_BLOBS: usize = MAX_BATCH / 16;
/// Below this many blobs, files are read at once and without threads, which would cost more than they gain.
const FEW: usize = 32;
/// Threads that read files. Reading is system calls, so a second one gains a little where the first waits for a disk.
const READERS: usize = 2;
/// Files a reader takes from the list at a time.
const STRIDE: usize = 64;
/// Requests on their way at the same time.
const IN_FLIGHT: usize = 4;
/// Requests' worth of files that may be read while the first lock is still being asked.
const READ_AHEAD: usize = 64;
/// What is read of a file at once: a usual blob whole.
const FILE_ROOM: usize = 8 << 10;

/// A blob to be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobSource {
    /// Its file.
    pub path: PathBuf,
    /// The name its header must have; none takes any name of the node.
    pub name: Option<String>,
}

/// One blob, opened.
pub struct Opened<'a> {
    /// The sealed blob; what its header says is proved now.
    pub blob: &'a [u8],
    /// The key, in locked memory that is wiped after the next few.
    pub key: &'a [u8],
}

/// Blobs read and not yet asked for, or asked for and not yet answered.
struct Chunk {
    /// Place in the list of sources, and length in bytes.
    blobs: Vec<(usize, u32)>,
    bytes: Vec<u8>,
    /// Files that could not be read.
    failed: Vec<(usize, Refusal)>,
}

/// Opens the blobs as one batch, so that each lock is asked once per data key. `each` is told of every blob by its
/// place in `sources`, in any order, as soon as it is known; what it returns as an error ends the batch.
///
/// # Errors
/// What `each` returns, or that the connection failed. That a blob was refused is told to `each`.
pub async fn open_blobs<E: From<ClientError>>(
    connection: &mut Connection,
    node: &str,
    mut supplies: Supplies,
    sources: impl Into<Arc<[BlobSource]>>,
    mut each: impl FnMut(usize, Result<Opened<'_>, Refusal>) -> Result<(), E>,
) -> Result<Vec<DataKeyReport>, E> {
    let mut batch = Batch {
        node,
        context: supplies.take(),
        supplies,
    };
    let sources = sources.into();
    // Blobs for which the credentials were too old.
    let mut again = Vec::new();
    let mut reports = open_once(
        connection,
        &mut batch,
        &sources,
        |index, opened| match opened {
            Err(refusal) if credentials_expired(&refusal) => {
                again.push((index, refusal));
                Ok(())
            }
            opened => each(index, opened),
        },
    )
    .await?;
    if again.is_empty() {
        return Ok(reports);
    }
    // Renewed once. What is refused then is refused.
    match batch.supplies.renewed().await {
        Ok(credentials) => batch.context.aws = Some(credentials),
        Err(error) => {
            warn(&format!("warning: {error}"));
            for (index, refusal) in again {
                each(index, Err(refusal))?;
            }
            return Ok(reports);
        }
    }
    let places: Vec<usize> = again.into_iter().map(|(index, _)| index).collect();
    let sources = places.iter().filter_map(|index| sources.get(*index));
    let sources: Arc<[BlobSource]> = sources.cloned().collect();
    let more = open_once(
        connection,
        &mut batch,
        &sources,
        |index, opened| match places.get(index) {
            Some(place) => each(*place, opened),
            None => Ok(()),
        },
    )
    .await?;
    reports.extend(more);
    Ok(reports)
}

/// What is the same for every request of a batch.
struct Batch<'n> {
    node: &'n str,
    context: Context,
    supplies: Supplies,
}

/// One pass over `sources`.
async fn open_once<E: From<ClientError>>(
    connection: &mut Connection,
    batch: &mut Batch<'_>,
    sources: &Arc<[BlobSource]>,
    mut each: impl FnMut(usize, Result<Opened<'_>, Refusal>) -> Result<(), E>,
) -> Result<Vec<DataKeyReport>, E> {
    if sources.is_empty() {
        return Ok(Vec::new());
    }
    let (read, to_ask) = mpsc::channel(READ_AHEAD);
    let (asked, to_answer) = mpsc::channel(IN_FLIGHT);
    start_reading(sources, read);
    let wait = connection.timeout;
    let (mut incoming, outgoing) = connection.stream.split();
    let asker = Asker {
        outgoing,
        wait,
        request: Request::Open(OpenRequest {
            node: batch.node.to_owned(),
            blobs: Vec::new(),
            more: true,
            context: std::mem::take(&mut batch.context),
        }),
        supplies: &mut batch.supplies,
        sources,
        asked,
    };
    let asking = async { asker.ask_all(to_ask).await.map_err(E::from) };
    let taking = take_replies(&mut incoming, wait, to_answer, &mut each);
    let (asked, reports) = tokio::try_join!(asking, taking)?;
    if let Request::Open(open) = asked {
        batch.context = open.context;
    }
    Ok(reports)
}

/// Starts to read the files. The channel closes after the last.
fn start_reading(sources: &Arc<[BlobSource]>, out: mpsc::Sender<Chunk>) {
    let next = Arc::new(AtomicUsize::new(0));
    if sources.len() <= FEW {
        let sources = Arc::clone(sources);
        tokio::spawn(async move {
            let mut chunk = Chunk::with_room(FILE_ROOM);
            for (index, source) in sources.iter().enumerate() {
                chunk.read(index, source);
                if chunk.is_full() && out.send(chunk.replaced()).await.is_err() {
                    return;
                }
            }
            // A closed channel means that the batch has failed and nobody waits for more.
            let _ = out.send(chunk).await;
        });
        return;
    }
    for _ in 0..READERS {
        let (sources, next, out) = (Arc::clone(sources), Arc::clone(&next), out.clone());
        tokio::task::spawn_blocking(move || {
            let mut chunk = Chunk::with_room(CHUNK_BYTES + FILE_ROOM);
            loop {
                let start = next.fetch_add(STRIDE, Ordering::Relaxed);
                let Some(rest) = sources.get(start..).filter(|rest| !rest.is_empty()) else {
                    break;
                };
                for (index, source) in rest.iter().take(STRIDE).enumerate() {
                    chunk.read(start + index, source);
                    if chunk.is_full() && out.blocking_send(chunk.replaced()).is_err() {
                        return;
                    }
                }
            }
            let _ = out.blocking_send(chunk);
        });
    }
}

impl Chunk {
    fn with_room(bytes: usize) -> Self {
        Self {
            blobs: Vec::new(),
            bytes: Vec::with_capacity(bytes),
            failed: Vec::new(),
        }
    }

    /// Gives the chunk, and puts an empty one in its place.
    fn replaced(&mut self) -> Self {
        std::mem::replace(self, Self::with_room(CHUNK_BYTES + FILE_ROOM))
    }

    fn is_full(&self) -> bool {
        self.bytes.len() >= CHUNK_BYTES || self.blobs.len() >= CHUNK_BLOBS
    }

    fn read(&mut self, index: usize, source: &BlobSource) {
        let start = self.bytes.len();
        match read_blob(source, &mut self.bytes) {
            Ok(length) => self.blobs.push((index, length)),
            Err(refusal) => {
                self.bytes.truncate(start);
                self.failed.push((index, refusal));
            }
        }
    }
}

/// Appends the file and returns its length; on an error, what was appended does not count.
fn read_blob(source: &BlobSource, bytes: &mut Vec<u8>) -> Result<u32, Refusal> {
    let length = read_file(source, bytes).map_err(|error| Refusal {
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
fn read_file(source: &BlobSource, bytes: &mut Vec<u8>) -> rustix::io::Result<usize> {
    // A named pipe must not make the agent wait for its writer.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = openat(CWD, &source.path, flags, Mode::empty())?;
    let mut length = 0;
    while length <= MAX_BLOB {
        bytes.reserve(FILE_ROOM);
        match rustix::io::read(&file, rustix::buffer::spare_capacity(bytes)) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

/// Asks for chunks, one request each.
struct Asker<'a, W> {
    outgoing: W,
    wait: Duration,
    request: Request,
    supplies: &'a mut Supplies,
    sources: &'a [BlobSource],
    asked: mpsc::Sender<Chunk>,
}

impl<W: AsyncWrite + Unpin> Asker<'_, W> {
    /// Asks for every chunk; the last request says that it is the last, and is given back.
    async fn ask_all(mut self, mut chunks: mpsc::Receiver<Chunk>) -> Result<Request, ClientError> {
        let mut held: Option<Chunk> = None;
        while let Some(chunk) = chunks.recv().await {
            if chunk.blobs.is_empty() {
                self.pass_on(chunk).await;
            } else if let Some(previous) = held.replace(chunk) {
                self.ask(previous, true).await?;
            }
        }
        if let Some(last) = held {
            self.ask(last, false).await?;
        }
        Ok(self.request)
    }

    async fn ask(&mut self, chunk: Chunk, more: bool) -> Result<(), ClientError> {
        if let Request::Open(open) = &mut self.request {
            open.more = more;
            self.supplies
                .complete(&mut open.context, &chunk.bytes)
                .await;
            let reference = |(index, length): &(usize, u32)| BlobRef {
                name: self
                    .sources
                    .get(*index)
                    .and_then(|source| source.name.clone()),
                length: *length,
            };
            open.blobs = chunk.blobs.iter().map(reference).collect();
        }
        let message = self.request.encode();
        send(&mut self.outgoing, self.wait, &message, &chunk.bytes).await?;
        self.pass_on(chunk).await;
        Ok(())
    }

    /// Lets the chunk's reply be taken. Where nobody takes it, the taking side has failed and says so itself.
    async fn pass_on(&mut self, chunk: Chunk) {
        let _ = self.asked.send(chunk).await;
    }
}

/// Takes the reply to each chunk.
async fn take_replies<E: From<ClientError>>(
    incoming: &mut (impl AsyncRead + Unpin),
    wait: Duration,
    mut asked: mpsc::Receiver<Chunk>,
    each: &mut impl FnMut(usize, Result<Opened<'_>, Refusal>) -> Result<(), E>,
) -> Result<Vec<DataKeyReport>, E> {
    let mut reports = Vec::new();
    while let Some(chunk) = asked.recv().await {
        for (index, refusal) in chunk.failed {
            each(index, Err(refusal))?;
        }
        if chunk.blobs.is_empty() {
            continue;
        }
        let (reply, keys) = receive(incoming, wait).await?;
        let unfit = || ClientError::Unexpected {
            expected: "one outcome per blob and the keys",
        };
        let Reply::Opened(batch) = reply else {
            return Err(unfit().into());
        };
        if batch.outcomes.len() != chunk.blobs.len() {
            return Err(unfit().into());
        }
        let mut blobs = chunk.bytes.as_slice();
        let mut keys = keys.expose();
        for ((index, length), outcome) in chunk.blobs.into_iter().zip(batch.outcomes) {
            let blob = blobs.split_off(..length as usize).ok_or_else(unfit)?;
            match outcome {
                Outcome::Delivered(length) => {
                    let key = keys.split_off(..length as usize).ok_or_else(unfit)?;
                    each(index, Ok(Opened { blob, key }))?;
                }
                Outcome::Refused(refusal) => each(index, Err(refusal))?,
                Outcome::Held => return Err(unfit().into()),
            }
        }
        if !keys.is_empty() {
            return Err(unfit().into());
        }
        reports.extend(batch.data_keys);
    }
    Ok(reports)
}
