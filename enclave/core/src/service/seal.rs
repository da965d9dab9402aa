//! `Seal`: keys given, generated or sealed again, all under one data key.

use std::ops::Range;
use std::sync::Arc;

use nodeseal_memory::Secret;
use nodeseal_wire::frame::MAX_FRAME;
use nodeseal_wire::header::{KnownWays, Way};
use nodeseal_wire::message::{
    Batch, Class, DataKeyReport, DataKeySource, KeyAbout, NewKey, Outcome, Refusal, Reply,
    SealRequest,
};

use super::held::HeldKeys;
use super::open::{FailedKeys, OpenKeys, Read, key_of, places, read_expected};
use super::release::Releases;
use super::{Payload, TrustedSide, compute};
use crate::keyring::crypto_failed;
use crate::keys;
use crate::refusal::refuse;
use crate::seal::{ContentKey, DataKey, NewBlob, ReadBlob, seal};

/// Room left in a reply's frame for everything but the blobs.
const REPLY_ROOM: usize = 1 << 20;

/// Making a key takes about as long as sealing so many bytes.
const MADE_KEY: usize = 1 << 10;

/// The data key to seal under, and the ways the new headers will have.
struct Target {
    data_key: Arc<DataKey>,
    ways: Arc<[Way]>,
    reports: Vec<DataKeyReport>,
}

impl TrustedSide {
    pub(super) async fn seal(
        &self,
        held: &Arc<HeldKeys>,
        request: SealRequest,
        payload: Secret,
    ) -> Result<(Reply, Payload), Refusal> {
        let joined = match request.data_key {
            DataKeySource::Join(length) => Some(length),
            DataKeySource::New(_) => None,
        };
        let of_keys = request.keys.iter().map(|key| match key {
            NewKey::Given { length, .. } | NewKey::Resealed { length } => *length,
            NewKey::Generated(_) => 0,
        });
        let mut places = places(joined.into_iter().chain(of_keys), payload.len())?;
        let join_place = joined.map(|_| places.remove(0));
        let mut known = KnownWays::default();
        let releases = self.limits.releases;
        let reads: Vec<Option<Read>> = request
            .keys
            .iter()
            .zip(&places)
            .map(|(key, place)| match key {
                NewKey::Resealed { .. } => {
                    let node = &request.node;
                    let read = read_expected(&payload, place, node, None, releases, &mut known);
                    Some(read)
                }
                _ => None,
            })
            .collect();
        // The join comes first, so that its data key is there when blobs of the same data key are sealed again.
        let (target, payload) = self.target(held, &request, join_place, payload).await?;
        let to_open: Vec<Read> = reads.into_iter().flatten().collect();
        let (keys, failed, opened) = self
            .data_keys(held, &request.node, &to_open, &request.context)
            .await;
        held.clear();
        let reports = target.reports.into_iter().chain(opened).collect();
        let (about, ways, data_key) = (request, target.ways, target.data_key);
        let bytes = payload.len().max(places.len().saturating_mul(MADE_KEY));
        let (outcomes, blobs) = compute(bytes, move || {
            let work = Work {
                request: &about,
                data_key: &data_key,
                ways: &ways,
                keys: &keys,
                failed: &failed,
                payload,
                content_key: ContentKey::new().map_err(crypto_failed)?,
                releases,
            };
            work.seal_all(&places, to_open)
        })
        .await??;
        let batch = Batch {
            outcomes,
            data_keys: reports,
        };
        Ok((Reply::Sealed(batch), Payload::Public(blobs)))
    }

    async fn target(
        &self,
        held: &Arc<HeldKeys>,
        request: &SealRequest,
        join_place: Option<Range<usize>>,
        mut payload: Secret,
    ) -> Result<(Target, Secret), Refusal> {
        let (DataKeySource::New(ways), None) = (&request.data_key, &join_place) else {
            let place = join_place.unwrap_or_default();
            let known = &mut KnownWays::default();
            let releases = self.limits.releases;
            let read = read_expected(&payload, &place, &request.node, None, releases, known);
            let reads = [read];
            let (keys, failed, reports) = self
                .data_keys(held, &request.node, &reads, &request.context)
                .await;
            let [read] = reads;
            let read = read?;
            key_of(&read, &keys, &failed)?;
            let data_key = keys
                .get(&read.header.data_key_id)
                .cloned()
                .ok_or_else(|| refuse(Class::Internal, "no-data-key", "the data key is gone"))?;
            // Only a blob that opens proves that its ways were written by whoever had the data key.
            let target = compute(place.len(), move || {
                read.open(
                    &data_key,
                    &mut payload,
                    &mut ContentKey::new().map_err(crypto_failed)?,
                )?;
                let ways = read.header.ways;
                let target = Target {
                    data_key,
                    ways,
                    reports,
                };
                Ok::<_, Refusal>((target, payload))
            });
            return target.await?;
        };
        let made = self
            .keyring
            .make(&request.node, ways, &request.context)
            .await?;
        let target = Target {
            data_key: Arc::new(made.data_key),
            ways: made.ways.into(),
            reports: made.reports,
        };
        Ok((target, payload))
    }
}

/// Everything sealing needs once the data keys are there.
struct Work<'w> {
    request: &'w SealRequest,
    data_key: &'w DataKey,
    ways: &'w [Way],
    keys: &'w OpenKeys,
    failed: &'w FailedKeys,
    payload: Secret,
    content_key: ContentKey,
    releases: Releases,
}

impl Work<'_> {
    fn seal_all(
        mut self,
        places: &[Range<usize>],
        to_open: Vec<Read>,
    ) -> Result<(Vec<Outcome>, Vec<u8>), Refusal> {
        let mut to_open = to_open.into_iter();
        let mut outcomes = Vec::with_capacity(places.len());
        let mut blobs = Vec::new();
        for (key, place) in self.request.keys.iter().zip(places) {
            let sealed = match key {
                NewKey::Given { about, .. } => self.seal_given(about, place),
                NewKey::Generated(about) => self.releases.check(about.release).and_then(|()| {
                    let mut key = keys::generate(about.key_type)?;
                    let blob = new_blob(self.request, self.ways, about);
                    Ok(seal(
                        self.data_key,
                        blob,
                        key.expose_mut(),
                        &mut self.content_key,
                    )?)
                }),
                NewKey::Resealed { .. } => to_open.next().map_or_else(
                    || Err(refuse(Class::Internal, "no-blob", "a blob was not read")),
                    |read| self.seal_again(&read?),
                ),
            };
            outcomes.push(match sealed {
                Ok(blob) => {
                    blobs.extend_from_slice(&blob);
                    Outcome::Delivered(u32::try_from(blob.len()).unwrap_or(u32::MAX))
                }
                Err(refusal) => Outcome::Refused(refusal),
            });
            if blobs.len() > MAX_FRAME - REPLY_ROOM {
                let message = "the sealed blobs do not fit one reply; seal fewer keys at a time";
                return Err(refuse(Class::Misuse, "batch-too-large", message));
            }
        }
        Ok((outcomes, blobs))
    }

    fn seal_given(&mut self, about: &KeyAbout, place: &Range<usize>) -> Result<Vec<u8>, Refusal> {
        self.releases.check(about.release)?;
        self.seal_at(place, new_blob(self.request, self.ways, about))
    }

    fn seal_again(&mut self, read: &ReadBlob) -> Result<Vec<u8>, Refusal> {
        let old_key = key_of(read, self.keys, self.failed)?;
        let place = read.open(old_key, &mut self.payload, &mut self.content_key)?;
        let about = NewBlob {
            node: &self.request.node,
            name: &read.header.name,
            key_type: read.header.key_type,
            release: read.header.release,
            generation: read.header.generation.saturating_add(1),
            created: self.request.created,
            ways: self.ways,
        };
        self.seal_at(&place, about)
    }

    /// Seals the key that lies at `place` of the payload.
    fn seal_at(&mut self, place: &Range<usize>, about: NewBlob<'_>) -> Result<Vec<u8>, Refusal> {
        let payload = self.payload.expose_mut();
        let key = payload.get_mut(place.clone()).unwrap_or_default();
        Ok(seal(self.data_key, about, key, &mut self.content_key)?)
    }
}

fn new_blob<'a>(request: &'a SealRequest, ways: &'a [Way], about: &'a KeyAbout) -> NewBlob<'a> {
    NewBlob {
        node: &request.node,
        name: &about.name,
        key_type: about.key_type,
        release: about.release,
        generation: 0,
        created: request.created,
        ways,
    }
}
