//! The request handler as a client sees it, over an in-memory stream.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

#[path = "support/open_locks.rs"]
mod open_locks;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use nodeseal_core::evidence::{AttestError, AttestationRequest, Attester};
use nodeseal_core::keyring::Keyring;
use nodeseal_core::lock::BoxFuture;
use nodeseal_core::service::{About, ConnectionError, Limits, TrustedSide};
use nodeseal_wire::blob::Blob;
use nodeseal_wire::frame::{read_frame, write_frame};
use nodeseal_wire::header::{KeyType, Release};
use nodeseal_wire::lock::LockSpec;
use nodeseal_wire::message::*;
use open_locks::OpenLocks;
use tokio::io::{AsyncWriteExt, DuplexStream};

/// Evidence that is the nonce itself.
struct Echo;

impl Attester for Echo {
    fn kind(&self) -> &'static str {
        "echo"
    }

    fn attest<'a>(
        &'a self,
        request: AttestationRequest<'a>,
    ) -> BoxFuture<'a, Result<Vec<u8>, AttestError>> {
        Box::pin(async move { Ok(request.nonce.unwrap_or_default().to_vec()) })
    }
}

struct Client {
    stream: DuplexStream,
    served: tokio::task::JoinHandle<Result<(), ConnectionError>>,
}

impl Client {
    fn connect(side: &Arc<TrustedSide>) -> Self {
        let (stream, other) = tokio::io::duplex(1 << 16);
        let served = tokio::spawn(side.clone().serve(other));
        Self { stream, served }
    }

    async fn greeted(side: &Arc<TrustedSide>) -> Self {
        let mut client = Self::connect(side);
        let hello = Request::Hello {
            protocol: PROTOCOL,
            software: "test".into(),
        };
        let (reply, _) = client.ask(&hello, &[]).await;
        assert!(matches!(
            reply,
            Reply::Hello {
                protocol: PROTOCOL,
                ..
            }
        ));
        client
    }

    async fn ask(&mut self, request: &Request, payload: &[u8]) -> (Reply, Vec<u8>) {
        write_frame(&mut self.stream, &request.encode(), payload)
            .await
            .unwrap();
        let frame = read_frame(&mut self.stream).await.unwrap().unwrap();
        (
            Reply::decode(&frame.message).unwrap(),
            frame.payload.expose().to_vec(),
        )
    }

    async fn seal(
        &mut self,
        data_key: DataKeySource,
        keys: Vec<NewKey>,
        payload: &[u8],
    ) -> (Batch, Vec<Vec<u8>>) {
        let request = Request::Seal(SealRequest {
            node: "n".into(),
            created: 7,
            data_key,
            keys,
            context: Context::default(),
        });
        match self.ask(&request, payload).await {
            (Reply::Sealed(batch), payload) => {
                let blobs = parts(&batch, &payload);
                (batch, blobs)
            }
            (other, _) => panic!("{other:?}"),
        }
    }

    async fn open(&mut self, blobs: &[Vec<u8>], more: bool) -> (Batch, Vec<Vec<u8>>) {
        let request = open_request(blobs, more);
        match self.ask(&request, &blobs.concat()).await {
            (Reply::Opened(batch), payload) => {
                let keys = parts(&batch, &payload);
                (batch, keys)
            }
            (other, _) => panic!("{other:?}"),
        }
    }

    /// How many data keys the trusted side holds.
    async fn held(&mut self) -> u64 {
        match self.ask(&Request::Status, &[]).await {
            (Reply::Status(status), _) => status.data_keys_held,
            (other, _) => panic!("{other:?}"),
        }
    }
}

fn open_request(blobs: &[Vec<u8>], more: bool) -> Request {
    let blob = |blob: &Vec<u8>| BlobRef {
        name: None,
        length: blob.len() as u32,
    };
    Request::Open(OpenRequest {
        node: "n".into(),
        blobs: blobs.iter().map(blob).collect(),
        more,
        context: Context::default(),
    })
}

fn parts(batch: &Batch, payload: &[u8]) -> Vec<Vec<u8>> {
    let mut rest = payload;
    let mut parts = Vec::new();
    for outcome in &batch.outcomes {
        if let Outcome::Delivered(length) = outcome {
            let (part, after) = rest.split_at(*length as usize);
            parts.push(part.to_vec());
            rest = after;
        }
    }
    assert!(rest.is_empty());
    parts
}

fn side_with(limits: Limits) -> (Arc<TrustedSide>, Arc<OpenLocks>) {
    let service = Arc::new(OpenLocks::default());
    let about = About {
        provider: "test",
        software: "test 1".into(),
        facts: Vec::new(),
        live: Vec::new,
        attester: Some(Arc::new(Echo)),
    };
    let side = TrustedSide::new(Keyring::new(vec![service.clone()]), about, limits);
    (side, service)
}

fn side() -> (Arc<TrustedSide>, Arc<OpenLocks>) {
    side_with(Limits::default())
}

fn new_data_key() -> DataKeySource {
    DataKeySource::New(vec![WaySpec {
        label: "w".into(),
        locks: vec![LockSpec::Tpm],
    }])
}

fn about(name: &str, key_type: KeyType) -> KeyAbout {
    KeyAbout {
        name: name.into(),
        key_type,
        release: Release::Deliver,
    }
}

fn given(name: &str, key: &[u8]) -> NewKey {
    NewKey::Given {
        about: about(name, KeyType::Opaque),
        length: key.len() as u32,
    }
}

#[tokio::test]
async fn sealed_generated_joined_and_resealed_keys_open_again() {
    let (side, _) = side();
    let mut client = Client::greeted(&side).await;
    let keys = vec![
        given("a", b"secret a"),
        NewKey::Generated(about("b", KeyType::Secp256k1)),
    ];
    let (_, blobs) = client.seal(new_data_key(), keys, b"secret a").await;
    let header = Blob::parse(&blobs[1]).unwrap().header;
    assert_eq!((header.name.as_str(), header.generation), ("b", 0));
    let (_, opened) = client.open(&blobs, false).await;
    assert_eq!(opened[0], b"secret a");
    let public = nodeseal_core::keys::public_key(KeyType::Secp256k1, &opened[1]).unwrap();
    assert_eq!(public, header.public_key);

    let join = DataKeySource::Join(blobs[0].len() as u32);
    let payload = [&blobs[0][..], b"secret c"].concat();
    let (_, joined) = client
        .seal(join, vec![given("c", b"secret c")], &payload)
        .await;
    let joined_header = Blob::parse(&joined[0]).unwrap().header;
    assert_eq!(joined_header.data_key_id, header.data_key_id);
    assert_eq!(client.open(&joined, false).await.1, [b"secret c"]);

    let again = vec![NewKey::Resealed {
        length: blobs[1].len() as u32,
    }];
    let (_, resealed) = client.seal(new_data_key(), again, &blobs[1]).await;
    let new_header = Blob::parse(&resealed[0]).unwrap().header;
    assert_ne!(new_header.data_key_id, header.data_key_id);
    assert_eq!((new_header.name.as_str(), new_header.generation), ("b", 1));
    assert_eq!(client.open(&resealed, false).await.1[0], opened[1]);
}

#[tokio::test]
async fn a_batch_asks_for_its_data_key_once_and_one_bad_blob_spoils_nothing() {
    let (side, service) = side();
    let mut client = Client::greeted(&side).await;
    let names: Vec<String> = (0..500).map(|i| format!("k{i}")).collect();
    let keys = names.iter().map(|name| given(name, b"1234")).collect();
    let (_, mut blobs) = client
        .seal(new_data_key(), keys, &b"1234".repeat(500))
        .await;
    let last = blobs[3].len() - 1;
    blobs[3][last] ^= 1;
    blobs[5].truncate(last);
    service.asked.store(0, Relaxed);
    let (batch, opened) = client.open(&blobs, false).await;
    assert_eq!(service.asked.load(Relaxed), 1);
    assert_eq!(opened.len(), 498);
    let code = |i: usize| match &batch.outcomes[i] {
        Outcome::Refused(refusal) => refusal.code.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        (code(3), code(5)),
        ("blob-authentication".into(), "blob-malformed".into())
    );
}

#[tokio::test]
async fn the_data_keys_of_a_batch_are_opened_at_the_same_time_and_reported_in_order() {
    let (side, service) = side();
    let mut client = Client::greeted(&side).await;
    let mut blobs = Vec::new();
    for number in 0..32 {
        let name = format!("k{number}");
        let sealed = client
            .seal(new_data_key(), vec![given(&name, b"1")], b"1")
            .await;
        blobs.extend(sealed.1);
    }
    service.asked.store(0, Relaxed);
    service.together.store(32, Relaxed);
    let open = client.open(&blobs, false);
    let (batch, opened) = tokio::time::timeout(Duration::from_secs(60), open)
        .await
        .unwrap();
    assert_eq!(opened.len(), 32);
    let of_blob = |blob: &Vec<u8>| Blob::parse(blob).unwrap().header.data_key_id;
    let expected: Vec<_> = blobs.iter().map(of_blob).collect();
    let reported: Vec<_> = batch.data_keys.iter().map(|report| report.id).collect();
    assert_eq!(reported, expected);
}

#[tokio::test]
async fn a_heap_of_forged_blobs_does_not_keep_locks_busy_for_ever() {
    let (side, service) = side();
    let mut client = Client::greeted(&side).await;
    let (_, blobs) = client
        .seal(new_data_key(), vec![given("a", b"1")], b"1")
        .await;
    let parsed = Blob::parse(&blobs[0]).unwrap();
    let forged = (0..500u16).map(|number| {
        let mut header = parsed.header.clone();
        // Half of them claim other data keys, the rest other ways to one.
        header.data_key_id[0] = (number / 2) as u8 * (number % 2) as u8;
        let mut ways = header.ways.to_vec();
        ways[0].wrapped_data_key[20..22].copy_from_slice(&number.to_be_bytes());
        header.ways = ways.into();
        Blob::encode(&header.encode(), &parsed.nonce, parsed.ciphertext)
    });
    let forged: Vec<_> = forged.collect();
    service.asked.store(0, Relaxed);
    let (batch, opened) = client.open(&forged, false).await;
    assert_eq!(opened.len(), 0);
    // Those on their way when the limit is reached may end.
    assert!((32..64).contains(&service.asked.load(Relaxed)));
    let Outcome::Refused(last) = &batch.outcomes[499] else {
        panic!("{:?}", batch.outcomes[499]);
    };
    assert_eq!(last.code, "too-many-failures");
}

#[tokio::test]
async fn a_forged_way_in_one_blob_does_not_keep_the_others_of_its_data_key_shut() {
    let (side, _) = side();
    let mut client = Client::greeted(&side).await;
    let (_, blobs) = client
        .seal(
            new_data_key(),
            vec![given("a", b"1"), given("b", b"2")],
            b"12",
        )
        .await;
    let parsed = Blob::parse(&blobs[0]).unwrap();
    let mut forged = parsed.header.clone();
    let mut ways = forged.ways.to_vec();
    ways[0].wrapped_data_key[20] ^= 1;
    forged.ways = ways.into();
    let forged = Blob::encode(&forged.encode(), &parsed.nonce, parsed.ciphertext);
    let (batch, opened) = client.open(&[forged, blobs[1].clone()], false).await;
    let Outcome::Refused(refusal) = &batch.outcomes[0] else {
        panic!("the forged blob opened");
    };
    // The honest blob's ways open the data key; the forged header then fails to authenticate under it.
    assert_eq!(refusal.code, "blob-authentication");
    assert_eq!(opened, [b"2"]);
}

#[tokio::test]
async fn a_batch_in_several_requests_asks_once_and_lock_forgets_its_data_key() {
    let (side, service) = side();
    let mut client = Client::greeted(&side).await;
    let (_, blobs) = client
        .seal(
            new_data_key(),
            vec![given("a", b"1"), given("b", b"2")],
            b"12",
        )
        .await;
    service.asked.store(0, Relaxed);
    client.open(&blobs[..1], true).await;
    client.open(&blobs[1..], true).await;
    assert_eq!(service.asked.load(Relaxed), 1);
    assert_eq!(client.held().await, 1);
    let mut other = Client::greeted(&side).await;
    assert_eq!(other.ask(&Request::Lock, &[]).await.0, Reply::Locked);
    assert_eq!(client.held().await, 0);
    client.open(&blobs[1..], false).await;
    assert_eq!(service.asked.load(Relaxed), 2);
    assert_eq!(client.held().await, 0);
}

#[tokio::test]
async fn a_request_without_blobs_ends_a_batch() {
    let (side, _) = side();
    let mut client = Client::greeted(&side).await;
    let keys = vec![given("a", b"1")];
    let (_, blobs) = client.seal(new_data_key(), keys, b"1").await;
    client.open(&blobs, true).await;
    assert_eq!(client.held().await, 1);
    assert_eq!(client.open(&[], false).await.1, Vec::<Vec<u8>>::new());
    assert_eq!(client.held().await, 0);
}

#[tokio::test]
async fn a_blob_of_another_node_name_or_release_is_refused_by_name() {
    let (side, _) = side();
    let mut client = Client::greeted(&side).await;
    let (_, blobs) = client
        .seal(new_data_key(), vec![given("a", b"1")], b"1")
        .await;
    let mut refused = async |node: &str, name: Option<&str>| {
        let request = Request::Open(OpenRequest {
            node: node.into(),
            blobs: vec![BlobRef {
                name: name.map(str::to_owned),
                length: blobs[0].len() as u32,
            }],
            more: false,
            context: Context::default(),
        });
        match client.ask(&request, &blobs[0]).await.0 {
            Reply::Opened(batch) => match &batch.outcomes[0] {
                Outcome::Refused(refusal) => refusal.to_string(),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(
        refused("m", None).await,
        "the blob belongs to node \"n\", expected \"m\""
    );
    assert_eq!(
        refused("n", Some("b")).await,
        "the blob holds key \"a\", expected \"b\""
    );
    let mut sign = about("s", KeyType::Ed25519);
    sign.release = Release::Sign;
    let (batch, _) = client
        .seal(new_data_key(), vec![NewKey::Generated(sign)], &[])
        .await;
    let Outcome::Refused(refusal) = &batch.outcomes[0] else {
        panic!("sealed");
    };
    assert_eq!(refusal.code, "release-sign-unsupported");
}

#[tokio::test]
async fn a_payload_that_is_not_what_the_request_speaks_of_is_refused() {
    let (side, _) = side();
    let mut client = Client::greeted(&side).await;
    let (reply, _) = client
        .ask(&open_request(&[vec![0; 10]], false), &[0; 11])
        .await;
    let Reply::Refused(refusal) = reply else {
        panic!("{reply:?}");
    };
    assert_eq!(refusal.code, "payload-length");
    assert_eq!(
        refusal.message,
        "the request speaks of 10 bytes of payload, it came with 11"
    );
}

#[tokio::test]
async fn evidence_carries_the_nonce_it_was_asked_with() {
    let (side, _) = side();
    let mut client = Client::greeted(&side).await;
    let request = Request::Evidence {
        nonce: vec![1, 2, 3],
    };
    let (reply, document) = client.ask(&request, &[]).await;
    assert_eq!(
        reply,
        Reply::Evidence {
            kind: "echo".into()
        }
    );
    assert_eq!(document, [1, 2, 3]);
}

#[tokio::test]
async fn without_the_right_hello_nothing_is_served() {
    let (side, _) = side();
    for request in [
        Request::Status,
        Request::Hello {
            protocol: PROTOCOL + 1,
            software: "future".into(),
        },
    ] {
        let mut client = Client::connect(&side);
        let (reply, _) = client.ask(&request, &[]).await;
        assert!(matches!(reply, Reply::Refused(refusal) if refusal.code == "bad-hello"));
        let ended = client.served.await.unwrap();
        assert!(matches!(ended, Err(ConnectionError::Protocol(_))));
    }
}

#[tokio::test]
async fn sixty_four_stalled_or_malformed_clients_do_not_disturb_another() {
    let (side, _) = side();
    let mut good = Client::greeted(&side).await;
    let mut others = Vec::new();
    for i in 0..64u32 {
        let mut client = Client::connect(&side);
        let start: &[u8] = match i % 4 {
            0 => &[],
            // A frame that never gets its promised four mebibytes.
            1 => &[0, 0, 0, 1, 0, 0x3f, 0, 0, 0x80],
            2 => &[0xff; 40],
            _ => &[0, 0, 0],
        };
        // Whoever is refused at once may be gone before all is written.
        let _ = client.stream.write_all(start).await;
        others.push(client);
    }
    let (_, blobs) = good
        .seal(new_data_key(), vec![given("a", b"1")], b"1")
        .await;
    assert_eq!(good.open(&blobs, false).await.1, [b"1"]);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_stalls_is_let_go_after_the_limit() {
    let limits = Limits {
        idle: Duration::from_secs(5),
        ..Limits::default()
    };
    let (side, _) = side_with(limits);
    let mut client = Client::greeted(&side).await;
    client.stream.write_all(&[0, 0]).await.unwrap();
    let ended = client.served.await.unwrap().unwrap_err();
    assert_eq!(ended.to_string(), "no whole request within 5 s");
}
