//! Opening any number of blobs as one batch: files are read, requests sent and replies taken at the same time.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use nodeseal_wire::message::{
    BlobRef, Context, DataKeyReport, OpenRequest, Outcome, Refusal, Reply, Request,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

use super::read::{Chunk, start_reading};
use super::{ClientError, Connection, receive, send};
use crate::supplies::Supplies;

/// Requests on their way at the same time, beside what is read ahead.
const IN_FLIGHT: usize = 2;

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
    let all: Arc<[BlobSource]> = sources.into();
    let mut sources = Arc::clone(&all);
    let mut places: Vec<usize> = (0..all.len()).collect();
    let mut reports = Vec::new();
    loop {
        // Blobs whose refusal may have a cure: newer credentials, or time.
        let mut again = Vec::new();
        let curable = batch.supplies.curable_now();
        let more = open_once(connection, &mut batch, &sources, |index, opened| {
            let Some(place) = places.get(index) else {
                return Ok(());
            };
            match opened {
                Err(refusal) if curable(&refusal) => {
                    again.push((*place, refusal));
                    Ok(())
                }
                opened => each(*place, opened),
            }
        });
        reports.extend(more.await?);
        if again.is_empty() {
            return Ok(reports);
        }
        let refusals: Vec<&Refusal> = again.iter().map(|(_, refusal)| refusal).collect();
        let Batch {
            context, supplies, ..
        } = &mut batch;
        if !supplies.cure(context, &refusals).await {
            for (place, refusal) in again {
                each(place, Err(refusal))?;
            }
            return Ok(reports);
        }
        places = again.into_iter().map(|(place, _)| place).collect();
        let these = places.iter().filter_map(|place| all.get(*place));
        sources = these.cloned().collect();
    }
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
    let (asked, to_answer) = mpsc::channel(IN_FLIGHT);
    let to_ask = start_reading(sources);
    let wait = connection.timeout;
    let (incoming, outgoing) = (&mut connection.incoming, &mut connection.outgoing);
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
    let taking = take_replies(incoming, wait, to_answer, &mut each);
    let (asked, reports) = tokio::try_join!(asking, taking)?;
    if let Request::Open(open) = asked {
        batch.context = open.context;
    }
    Ok(reports)
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
        let mut left = self.sources.len();
        let mut more_expected = false;
        while let Some(chunk) = chunks.recv().await {
            left = left.saturating_sub(chunk.blobs.len() + chunk.failed.len());
            // Where the last files could not be read, a request without blobs ends the batch.
            if chunk.blobs.is_empty() && (left > 0 || !more_expected) {
                self.pass_on(chunk).await;
                continue;
            }
            more_expected = left > 0;
            self.ask(chunk, more_expected).await?;
        }
        Ok(self.request)
    }

    async fn ask(&mut self, mut chunk: Chunk, more: bool) -> Result<(), ClientError> {
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
        chunk.asked = true;
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
    let mut spare = None;
    while let Some(chunk) = asked.recv().await {
        for (index, refusal) in chunk.failed {
            each(index, Err(refusal))?;
        }
        if !chunk.asked {
            continue;
        }
        let (reply, payload) = receive(incoming, wait, spare.take()).await?;
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
        let mut keys = payload.expose();
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
        chunk.spare.give(chunk.bytes);
        // Wiped now; its pages take the next keys.
        spare = Some(payload.emptied());
    }
    Ok(reports)
}
