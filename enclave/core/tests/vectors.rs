//! The published vectors of docs/format.md open by every way; `tests/python/open_blob.py` opens the same.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use nodeseal_attestation::hex;
use nodeseal_core::keyring::Keyring;
use nodeseal_core::lock::{BoxFuture, KeyService, LockContext, NewLock, OpenedLock};
use nodeseal_core::refusal::refuse;
use nodeseal_core::seal::{ContentKey, ReadBlob};
use nodeseal_memory::Secret;
use nodeseal_wire::header::KnownWays;
use nodeseal_wire::lock::{Lock, LockSpec};
use nodeseal_wire::message::{Class, Context, Refusal};

/// Answers each lock with the secret the vector gives for it.
struct Known(Vec<(Lock, Vec<u8>)>);

impl KeyService for Known {
    fn makes(&self, _: &LockSpec) -> bool {
        false
    }

    fn opens(&self, _: &Lock) -> bool {
        true
    }

    fn new_secret<'a>(
        &'a self,
        _: &'a LockSpec,
        _: LockContext<'a>,
    ) -> BoxFuture<'a, Result<NewLock, Refusal>> {
        Box::pin(async { Err(refuse(Class::Misuse, "vectors", "only opens locks")) })
    }

    fn open_secret<'a>(
        &'a self,
        lock: &'a Lock,
        _: LockContext<'a>,
    ) -> BoxFuture<'a, Result<OpenedLock, Refusal>> {
        let known = self.0.iter().find(|(known, _)| known == lock);
        let secret = Secret::copy_of(&known.unwrap().1).unwrap();
        Box::pin(async move {
            Ok(OpenedLock {
                secret,
                facts: Vec::new(),
            })
        })
    }
}

#[test]
fn every_published_vector_opens_by_each_of_its_ways() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/vectors/blob-v1.json"
    );
    let vectors: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let vectors = vectors.as_array().unwrap();
    assert_eq!(vectors.len(), 6);
    for vector in vectors {
        let title = vector["title"].as_str().unwrap();
        let text = |field: &str| hex::decode(vector[field].as_str().unwrap()).unwrap();
        let blob = text("blob");
        let mut buffer = Secret::copy_of(&blob).unwrap();
        let read =
            ReadBlob::parse(buffer.expose(), 0..blob.len(), &mut KnownWays::default()).unwrap();
        let header = &read.header;
        let secrets = vector["lock_secrets"].as_array().unwrap();
        assert_eq!(secrets.len(), header.ways.len(), "{title}");
        let mut data_key = None;
        for (way, secrets) in header.ways.iter().zip(secrets) {
            let secrets = secrets.as_array().unwrap().iter();
            let known = way
                .locks
                .iter()
                .cloned()
                .zip(secrets.map(|s| hex::decode(s.as_str().unwrap()).unwrap()));
            let keyring = Keyring::new(vec![Arc::new(Known(known.collect()))]);
            let ways = std::slice::from_ref(way);
            let context = Context::default();
            let opened = keyring.open(&header.node, &header.data_key_id, ways, &context);
            let (key, _) = runtime.block_on(opened).unwrap();
            assert_eq!(key.key.expose(), text("data_key"), "{title}");
            data_key = Some(key);
        }
        let place = read
            .open(
                &data_key.unwrap(),
                &mut buffer,
                &mut ContentKey::new().unwrap(),
            )
            .unwrap();
        assert_eq!(buffer.expose()[place], text("key"), "{title}");
    }
}
