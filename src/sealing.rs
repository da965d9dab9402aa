//! Sealing any number of keys under one data key: requests of a size that fits, each joining the first one's data key.

use std::time::{SystemTime, UNIX_EPOCH};

use nodeseal_memory::Secret;
use nodeseal_wire::blob::Blob;
use nodeseal_wire::message::{
    DataKeyReport, DataKeySource, NewKey, Outcome, Refusal, Reply, Request, SealRequest,
};

use crate::client::{ClientError, Connection};
use crate::config::Config;
use crate::failure::Failure;
use crate::supplies::{Supplies, named_by};

/// Bytes of new blobs, as far as they can be foretold, in one request. Its reply, and the locked memory for both, stay
/// far below their limits (4 MiB frame; 8 MiB `RLIMIT_MEMLOCK` of an ordinary user).
const REQUEST_BYTES: usize = 2 << 20;
/// What a blob has besides its content: names, salt, and each lock's data.
const BLOB_OVERHEAD: usize = 1024;
const LOCK_OVERHEAD: usize = 1024;

/// Seals keys request by request.
pub struct Sealer<'c> {
    connection: &'c mut Connection,
    request: Request,
    supplies: Supplies,
    /// The blob whose data key is joined, once there is one.
    join: Option<Vec<u8>>,
    overhead: usize,
    /// How data keys came to be made or opened.
    pub reports: Vec<DataKeyReport>,
}

/// A key to be sealed, with how long it is or may be: its bytes in the payload.
pub trait Planned {
    /// What to ask for.
    fn new_key(&self) -> NewKey;
    /// Bytes it has in the payload.
    fn length(&self) -> u32;
    /// Writes these bytes.
    ///
    /// # Errors
    /// When they cannot be had.
    fn fill(&self, place: &mut [u8]) -> Result<(), Failure>;
}

impl<'c> Sealer<'c> {
    /// Seals under the data key of the blob `join`, or else under a new one in the configured ways.
    pub fn new(
        connection: &'c mut Connection,
        config: &Config,
        mut supplies: Supplies,
        join: Option<Vec<u8>>,
    ) -> Self {
        let ways = config.way_specs();
        let locks: usize = ways.iter().map(|way| way.locks.len()).sum();
        let created = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            connection,
            request: Request::Seal(SealRequest {
                node: config.node.clone(),
                created: created.map_or(0, |since| since.as_secs()),
                data_key: DataKeySource::New(ways),
                keys: Vec::new(),
                context: supplies.take(),
            }),
            supplies,
            join,
            overhead: BLOB_OVERHEAD + LOCK_OVERHEAD * locks.max(1),
            reports: Vec::new(),
        }
    }

    /// How many of these fit one request; at least one.
    #[must_use]
    pub fn fitting(&self, planned: &[impl Planned]) -> usize {
        let mut bytes = 0;
        let fits = |key: &&_| {
            bytes += self.overhead + Planned::length(*key) as usize;
            bytes <= REQUEST_BYTES
        };
        planned.iter().take_while(fits).count().max(1)
    }

    /// Seals keys that fit one request: the blob of each, or why there is none.
    ///
    /// # Errors
    /// When a key cannot be had, or the request as a whole failed.
    pub async fn seal(
        &mut self,
        planned: &[impl Planned],
    ) -> Result<Vec<Result<Vec<u8>, Refusal>>, Failure> {
        let join = self.join.as_deref().unwrap_or_default();
        let lengths = planned.iter().map(|key| key.length() as usize);
        let mut payload = Secret::zeroed(join.len() + lengths.sum::<usize>()).map_err(|error| {
            Failure::new(
                nodeseal_wire::message::Class::Internal,
                "locked-memory",
                error.to_string(),
            )
        })?;
        let mut rest = payload.expose_mut();
        if let Some(place) = rest.split_off_mut(..join.len()) {
            place.copy_from_slice(join);
        }
        for key in planned {
            if let Some(place) = rest.split_off_mut(..key.length() as usize) {
                key.fill(place)?;
            }
        }
        if let Request::Seal(request) = &mut self.request {
            request.keys = planned.iter().map(Planned::new_key).collect();
            // Keys of key services are named by new ways, by the blob that is joined, and by blobs that are sealed again.
            let ways = named_by(&request.data_key);
            self.supplies
                .complete(&mut request.context, ways.as_bytes())
                .await;
            self.supplies
                .complete(&mut request.context, payload.expose())
                .await;
            if !join.is_empty() {
                let length = u32::try_from(join.len()).unwrap_or(u32::MAX);
                request.data_key = DataKeySource::Join(length);
            }
        }
        let mut sealed = self.request_once(payload.expose(), planned.len()).await;
        while self.cured(&sealed).await {
            sealed = self.request_once(payload.expose(), planned.len()).await;
        }
        drop(payload);
        let sealed = sealed?;
        if self.join.is_none() {
            self.join = sealed.iter().flatten().next().cloned();
        }
        Ok(sealed)
    }

    async fn request_once(
        &mut self,
        payload: &[u8],
        expected: usize,
    ) -> Result<Vec<Result<Vec<u8>, Refusal>>, ClientError> {
        let reply = self.connection.request(&self.request, payload).await?;
        let unfit = ClientError::Unexpected {
            expected: "one outcome per key and the blobs",
        };
        self.blobs(reply, expected).ok_or(unfit)
    }

    /// Whether asking again makes sense: something was refused for which there was a cure.
    async fn cured(&mut self, sealed: &Result<Vec<Result<Vec<u8>, Refusal>>, ClientError>) -> bool {
        let curable = self.supplies.curable_now();
        let refusals: Vec<&Refusal> = match sealed {
            Ok(sealed) => sealed
                .iter()
                .filter_map(|sealed| sealed.as_ref().err())
                .filter(|refusal| curable(refusal))
                .collect(),
            Err(ClientError::Refused(refusal)) if curable(refusal) => vec![refusal],
            Err(_) => Vec::new(),
        };
        match &mut self.request {
            Request::Seal(request) if !refusals.is_empty() => {
                self.supplies.cure(&mut request.context, &refusals).await
            }
            _ => false,
        }
    }

    fn blobs(
        &mut self,
        (reply, payload): (Reply, Secret),
        expected: usize,
    ) -> Option<Vec<Result<Vec<u8>, Refusal>>> {
        let Reply::Sealed(batch) = reply else {
            return None;
        };
        let mut rest = payload.expose();
        let mut sealed = Vec::with_capacity(expected);
        for outcome in batch.outcomes {
            sealed.push(match outcome {
                Outcome::Delivered(length) => {
                    let blob = rest.split_off(..length as usize)?;
                    Blob::parse(blob).ok()?;
                    Ok(blob.to_vec())
                }
                Outcome::Refused(refusal) => Err(refusal),
                Outcome::Held => return None,
            });
        }
        self.reports.extend(batch.data_keys);
        (sealed.len() == expected && rest.is_empty()).then_some(sealed)
    }
}
