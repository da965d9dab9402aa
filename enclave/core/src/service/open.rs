//! `Open`: a batch of blobs, each data key asked for once.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use futures_util::stream::{self, StreamExt};
use nodeseal_memory::Secret;
use nodeseal_wire::header::{KnownWays, Way};
use nodeseal_wire::message::{
    Batch, BlobRef, Class, Context, DataKeyReport, OpenRequest, Outcome, Refusal, Reply,
};

use super::held::HeldKeys;
use super::release::Releases;
use super::{Payload, TrustedSide, compute};
use crate::keyring::crypto_failed;
use crate::lock::BoxFuture;
use crate::refusal::{malformed_blob, refuse};
use crate::seal::{ContentKey, DataKey, ReadBlob};

/// How many data keys of one request may fail to open before the rest is refused unasked: a TPM or a key service is
/// not to be kept busy by a heap of forged blobs.
const MAX_FAILED: usize = 32;
/// How many data keys are opened at the same time.
const AT_ONCE: usize = 32;

/// A blob read, or why not.
pub(super) type Read = Result<ReadBlob, Refusal>;

impl TrustedSide {
    pub(super) async fn open(
        &self,
        held: &Arc<HeldKeys>,
        request: OpenRequest,
        payload: Secret,
    ) -> Result<(Reply, Payload), Refusal> {
        let places = places(request.blobs.iter().map(|blob| blob.length), payload.len())?;
        let (node, blobs) = (request.node.clone(), request.blobs);
        let bytes = payload.len();
        let releases = self.limits.releases;
        let (reads, payload) = compute(bytes, move || {
            let mut known = KnownWays::default();
            let read = |(blob, place): (&BlobRef, &Range<usize>)| {
                let name = blob.name.as_deref();
                read_expected(&payload, place, &node, name, releases, &mut known)
            };
            let reads: Vec<Read> = blobs.iter().zip(&places).map(read).collect();
            (reads, payload)
        })
        .await?;
        let (keys, failed, data_keys) = self
            .data_keys(held, &request.node, &reads, &request.context)
            .await;
        let (outcomes, payload) =
            compute(bytes, move || open_all(reads, payload, &keys, &failed)).await??;
        if !request.more {
            held.clear();
        }
        let delivered = outcomes
            .iter()
            .filter(|outcome| matches!(outcome, Outcome::Delivered(_)))
            .count() as u64;
        self.opened.fetch_add(delivered, Relaxed);
        self.refused
            .fetch_add((outcomes.len() as u64).saturating_sub(delivered), Relaxed);
        let batch = Batch {
            outcomes,
            data_keys,
        };
        Ok((Reply::Opened(batch), Payload::Keys(payload)))
    }

    /// Opens the data key of each blob that could be read, once per data key, several at the same time: a start takes as
    /// long as one answer of a key service, not as one after the other.
    ///
    /// What a blob claims about its ways is believed by nobody yet, so a forged blob must not spoil the data key of the
    /// honest ones: a failure counts only for blobs with the very same ways.
    pub(super) async fn data_keys(
        &self,
        held: &HeldKeys,
        node: &str,
        reads: &[Read],
        request: &Context,
    ) -> (OpenKeys, FailedKeys, Vec<DataKeyReport>) {
        let mut keys = OpenKeys::new();
        let mut wanted: Vec<Wanted<'_>> = Vec::new();
        let mut places = HashMap::new();
        for header in reads.iter().flatten().map(|read| &read.header) {
            let id = &header.data_key_id;
            if keys.contains_key(id) {
                continue;
            }
            if let Some(key) = held.get(id) {
                keys.insert(*id, key);
                continue;
            }
            let place = *places.entry(id).or_insert(wanted.len());
            match wanted.get_mut(place) {
                Some(wanted) => wanted.claim(&header.ways),
                None => wanted.push(Wanted {
                    id,
                    claims: vec![&header.ways],
                }),
            }
        }
        let failures = AtomicUsize::new(0);
        let mut opens: Vec<BoxFuture<'_, _>> = Vec::with_capacity(wanted.len());
        for wanted in &wanted {
            opens.push(Box::pin(self.open_any(node, wanted, request, &failures)));
        }
        let mut opens = stream::iter(opens).buffered(AT_ONCE);
        let mut failed = FailedKeys::default();
        let mut reports = Vec::new();
        while let Some((opened, failures)) = opens.next().await {
            failed.0.extend(failures);
            if let Some((key, report)) = opened {
                let id = key.id;
                held.keep(key);
                keys.extend(held.get(&id).map(|key| (id, key)));
                reports.push(report);
            }
        }
        (keys, failed, reports)
    }

    /// Opens a data key by the first claim that holds, and tells of those before; `failures` are counted over all.
    async fn open_any(
        &self,
        node: &str,
        wanted: &Wanted<'_>,
        request: &Context,
        failures: &AtomicUsize,
    ) -> (Option<(DataKey, DataKeyReport)>, Vec<FailedKey>) {
        let mut failed = Vec::new();
        for ways in &wanted.claims {
            if failures.load(Relaxed) >= MAX_FAILED {
                break;
            }
            match self.keyring.open(node, wanted.id, ways, request).await {
                Ok(opened) => return (Some(opened), failed),
                Err(refusal) => {
                    failures.fetch_add(1, Relaxed);
                    failed.push((*wanted.id, ways.to_vec(), refusal));
                }
            }
        }
        (None, failed)
    }
}

/// A data key that must be opened.
struct Wanted<'r> {
    id: &'r [u8; 16],
    /// Each a list of ways that some blob has; the first by which it opens counts.
    claims: Vec<&'r [Way]>,
}

impl<'r> Wanted<'r> {
    fn claim(&mut self, ways: &'r [Way]) {
        if self.claims.len() < MAX_FAILED && !self.claims.contains(&ways) {
            self.claims.push(ways);
        }
    }
}

/// Data keys that are open.
pub(super) type OpenKeys = HashMap<[u8; 16], Arc<DataKey>>;

/// Id and ways of a data key that did not open, and why.
type FailedKey = ([u8; 16], Vec<Way>, Refusal);

/// Data keys that did not open.
#[derive(Default)]
pub(super) struct FailedKeys(Vec<FailedKey>);

impl FailedKeys {
    fn find(&self, id: &[u8; 16], ways: &[Way]) -> Option<&Refusal> {
        let same = |(failed, its_ways, _): &&FailedKey| failed == id && its_ways == ways;
        self.0.iter().find(same).map(|(.., refusal)| refusal)
    }
}

/// Where each of the parts of a payload lies.
pub(super) fn places(
    lengths: impl Iterator<Item = u32>,
    payload: usize,
) -> Result<Vec<Range<usize>>, Refusal> {
    let mut places = Vec::new();
    let mut start: usize = 0;
    for length in lengths {
        // At most MAX_BATCH lengths of 32 bits: no overflow where usize has 64.
        let end = start.saturating_add(length as usize);
        places.push(start..end);
        start = end;
    }
    if start == payload {
        return Ok(places);
    }
    Err(refuse(
        Class::Misuse,
        "payload-length",
        format!("the request speaks of {start} bytes of payload, it came with {payload}"),
    ))
}

/// Reads a blob that must belong to this node and, where it is known, have this name.
pub(super) fn read_expected(
    payload: &Secret,
    place: &Range<usize>,
    node: &str,
    name: Option<&str>,
    releases: Releases,
    known: &mut KnownWays,
) -> Read {
    let read = ReadBlob::parse(payload.expose(), place.clone(), known)
        .map_err(|error| malformed_blob(&error))?;
    let header = &read.header;
    if header.node != node {
        let message = format!(
            "the blob belongs to node \"{}\", expected \"{node}\"",
            header.node
        );
        return Err(refuse(Class::Damaged, "wrong-node", message));
    }
    if let Some(name) = name.filter(|name| *name != header.name) {
        let message = format!(
            "the blob holds key \"{}\", expected \"{name}\"",
            header.name
        );
        return Err(refuse(Class::Damaged, "wrong-name", message));
    }
    releases.check(header.release)?;
    Ok(read)
}

/// The data key of a blob that was read, or why there is none.
pub(super) fn key_of<'k>(
    read: &ReadBlob,
    keys: &'k OpenKeys,
    failed: &FailedKeys,
) -> Result<&'k DataKey, Refusal> {
    let id = &read.header.data_key_id;
    if let Some(key) = keys.get(id) {
        return Ok(key);
    }
    Err(failed
        .find(id, &read.header.ways)
        .cloned()
        .unwrap_or_else(|| {
            let message = format!(
                "not tried: {MAX_FAILED} data keys of this request had failed to open before"
            );
            refuse(Class::Misuse, "too-many-failures", message)
        }))
}

/// Opens each blob where it lies and moves the keys together at the front of the payload.
fn open_all(
    reads: Vec<Read>,
    mut payload: Secret,
    keys: &OpenKeys,
    failed: &FailedKeys,
) -> Result<(Vec<Outcome>, Secret), Refusal> {
    let mut content_key = ContentKey::new().map_err(crypto_failed)?;
    let mut outcomes = Vec::with_capacity(reads.len());
    let mut end: usize = 0;
    for read in reads {
        let opened = read.and_then(|read| {
            let data_key = key_of(&read, keys, failed)?;
            let place = read.open(data_key, &mut payload, &mut content_key)?;
            Ok(place)
        });
        outcomes.push(match opened {
            Ok(place) => {
                let length = place.len();
                // A blob is longer than its key, so `end` never passes the start of the next blob.
                payload.expose_mut().copy_within(place, end);
                end = end.saturating_add(length);
                Outcome::Delivered(u32::try_from(length).unwrap_or(u32::MAX))
            }
            Err(refusal) => Outcome::Refused(refusal),
        });
    }
    payload.truncate(end);
    Ok((outcomes, payload))
}
