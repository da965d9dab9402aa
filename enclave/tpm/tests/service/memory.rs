//! What is in the memory of the real process, and when: the scan that finds nothing afterwards finds it while held.

use std::sync::Arc;

use nodeseal_core::keyring::Keyring;
use nodeseal_harness::{Result, memory_scan, wait_for};
use nodeseal_tpm::record;
use nodeseal_wire::blob::Blob;

use super::*;
use crate::common;

/// Larger than any buffer of a unix socket, so that the service keeps it while nobody reads.
const LARGE: usize = 900_000;

fn open_request(blob: &[u8], more: bool) -> Request {
    Request::Open(OpenRequest {
        node: "node-1".to_owned(),
        blobs: vec![BlobRef {
            name: None,
            length: u32::try_from(blob.len()).unwrap(),
        }],
        more,
        context: Context::default(),
    })
}

fn gone(pid: u32, what: &str, needles: &[&[u8]]) {
    let nowhere = || -> Result<Option<()>> {
        for needle in needles {
            if memory_scan(pid, needle)? > 0 {
                return Ok(None);
            }
        }
        Ok(Some(()))
    };
    wait_for(what, SOON, nowhere).unwrap();
}

/// The data key and the secret of the lock of a blob, opened by this process in the same TPM.
async fn opened_here(site: &Site, swtpm: &Swtpm, blob: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let enrolled = record::read(&site.path("enrolment.json"), None).unwrap();
    let tcti = swtpm.tcti();
    let locks = common::locks(&tcti, &enrolled, None, &[7, 11, 12]);
    let locks = locks.await.unwrap();
    let header = Blob::parse(blob).unwrap().header;
    let secret = common::open(&locks, &header.ways[0].locks[0])
        .await
        .unwrap();
    let keyring = Keyring::new(vec![Arc::new(locks)]);
    let context = Context::default();
    let data_key = keyring
        .open(&header.node, &header.data_key_id, &header.ways, &context)
        .await;
    let (data_key, _) = data_key.unwrap();
    (
        data_key.key.expose().to_vec(),
        secret.secret.expose().to_vec(),
    )
}

#[tokio::test]
async fn keys_are_in_its_memory_while_held_and_nowhere_after_delivery_or_lock() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root may look into the memory of a process that is not dumpable");
        return;
    }
    let swtpm = Swtpm::new().unwrap();
    let site = Site::new(&swtpm, "");
    site.enroll().success("enrolling").unwrap();
    let service = site.serve();
    let pid = service.pid();
    let blob = site.connect().await.seal().await;
    gone(pid, "the sealed key to be gone", &[KEY]);
    let (data_key, lock_secret) = opened_here(&site, &swtpm, &blob).await;

    // More of the batch may follow: the data key is kept, the delivered key is not.
    let mut batch = site.connect().await;
    let (reply, key) = batch.ask(&open_request(&blob, true), &blob).await;
    assert!(matches!(reply, Reply::Opened(_)));
    assert_eq!(key, KEY);
    assert!(memory_scan(pid, &data_key).unwrap() > 0);
    gone(
        pid,
        "the delivered key and the lock's secret to be gone",
        &[KEY, &lock_secret],
    );

    let (reply, _) = site.connect().await.ask(&Request::Lock, &[]).await;
    assert_eq!(reply, Reply::Locked);
    gone(
        pid,
        "the data key to be gone",
        &[&data_key, &lock_secret, KEY],
    );
    drop(batch);

    // A client that does not read its reply makes the service hold the key; reading it makes it go.
    let large = KEY.iter().copied().cycle().take(LARGE).collect::<Vec<_>>();
    let blob = site.connect().await.seal_key(&large).await;
    let mut slow = site.connect().await;
    let request = open_request(&blob, false).encode();
    write_frame(&mut slow.0, &request, &blob).await.unwrap();
    wait_for("the key to be held", SOON, || {
        Ok((memory_scan(pid, KEY)? > 0).then_some(()))
    })
    .unwrap();
    let frame = read_frame(&mut slow.0).await.unwrap().unwrap();
    assert_eq!(frame.payload.expose(), large);
    gone(pid, "the key to be gone", &[KEY]);
}
