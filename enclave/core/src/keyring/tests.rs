#![allow(clippy::unwrap_used)]
use super::*;
use crate::lock::{BoxFuture, NewLock, OpenedLock};
use nodeseal_wire::lock::AwsKmsLock;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Locks whose secret lies in the clear in the lock itself: enough to see what the keyring makes of locks.
#[derive(Default)]
struct Open {
    asked: AtomicU32,
}

impl KeyService for Open {
    fn makes(&self, spec: &LockSpec) -> bool {
        matches!(spec, LockSpec::AwsKms { .. })
    }

    fn opens(&self, lock: &Lock) -> bool {
        matches!(lock, Lock::AwsKms(_))
    }

    fn new_secret<'a>(
        &'a self,
        spec: &'a LockSpec,
        _: LockContext<'a>,
    ) -> BoxFuture<'a, Result<NewLock, Refusal>> {
        Box::pin(async move {
            let LockSpec::AwsKms { key, attested } = spec else {
                return Err(unknown_lock("tpm"));
            };
            let secret = random_key().map_err(crypto_failed)?;
            Ok(NewLock {
                lock: Lock::AwsKms(AwsKmsLock {
                    key: key.clone(),
                    attested: *attested,
                    ciphertext: secret.expose().to_vec(),
                }),
                secret,
                facts: Vec::new(),
            })
        })
    }

    fn open_secret<'a>(
        &'a self,
        lock: &'a Lock,
        _: LockContext<'a>,
    ) -> BoxFuture<'a, Result<OpenedLock, Refusal>> {
        Box::pin(async move {
            self.asked.fetch_add(1, Relaxed);
            match lock {
                Lock::AwsKms(kms) if kms.key.contains("down") => {
                    Err(refuse(Class::Unavailable, "down", "region is down"))
                }
                Lock::AwsKms(kms) if kms.key.contains("revoked") => {
                    Err(refuse(Class::Denied, "revoked", "key is disabled"))
                }
                Lock::AwsKms(kms) => Ok(OpenedLock {
                    secret: Secret::copy_of(&kms.ciphertext).unwrap(),
                    facts: Vec::new(),
                }),
                other => Err(unknown_lock(other.kind())),
            }
        })
    }
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(future)
}

fn way(label: &str, keys: &[&str]) -> WaySpec {
    let lock = |key: &&str| LockSpec::AwsKms {
        key: (*key).to_owned(),
        attested: true,
    };
    WaySpec {
        label: label.into(),
        locks: keys.iter().map(lock).collect(),
    }
}

fn made(ways: &[WaySpec]) -> (Keyring, Arc<Open>, NewDataKey) {
    let service = Arc::new(Open::default());
    let keyring = Keyring::new(vec![service.clone()]);
    let made = run(keyring.make("n", ways, &Context::default())).unwrap();
    (keyring, service, made)
}

fn open(
    keyring: &Keyring,
    node: &str,
    id: &[u8; 16],
    ways: &[Way],
) -> Result<(DataKey, DataKeyReport), Refusal> {
    run(keyring.open(node, id, ways, &Context::default()))
}

#[test]
fn a_data_key_opens_by_any_one_way_with_all_its_locks() {
    let (keyring, _, new) = made(&[way("one", &["a"]), way("both", &["b", "c"])]);
    for single in &new.ways {
        let (key, report) = open(
            &keyring,
            "n",
            &new.data_key.id,
            std::slice::from_ref(single),
        )
        .unwrap();
        assert_eq!(key.key.expose(), new.data_key.key.expose());
        assert_eq!(report.way, single.label);
    }
}

#[test]
fn the_second_way_opens_when_the_first_is_down_and_the_report_says_so() {
    let (keyring, _, new) = made(&[way("eu", &["down"]), way("us", &["a"])]);
    let (_, report) = open(&keyring, "n", &new.data_key.id, &new.ways).unwrap();
    assert_eq!(report.way, "us");
    assert_eq!(report.failed.len(), 1);
    assert_eq!(report.failed[0].0, "eu");
    assert_eq!(report.failed[0].1.code, "down");
}

#[test]
fn when_no_way_opens_each_is_named_and_an_outage_leaves_hope() {
    let (keyring, _, new) = made(&[way("eu", &["revoked"]), way("us", &["down"])]);
    let refusal = open(&keyring, "n", &new.data_key.id, &new.ways)
        .err()
        .unwrap();
    assert_eq!(
        (refusal.class, refusal.code.as_str()),
        (Class::Unavailable, "no-way-opened")
    );
    assert_eq!(
        refusal.message,
        "no way opened: eu: key is disabled (revoked); us: region is down (down)"
    );
    let refusal = open(&keyring, "n", &new.data_key.id, &new.ways[..1])
        .err()
        .unwrap();
    assert_eq!(
        (refusal.class, refusal.code.as_str()),
        (Class::Denied, "revoked")
    );
}

#[test]
fn a_way_moved_to_another_node_data_key_label_or_lock_order_does_not_open() {
    let (keyring, _, new) = made(&[way("both", &["b", "c"])]);
    let id = &new.data_key.id;
    let refused =
        |node: &str, id: &[u8; 16], way: Way| open(&keyring, node, id, &[way]).err().unwrap().code;
    let original = &new.ways[0];
    assert_eq!(
        refused("m", id, original.clone()),
        "data-key-authentication"
    );
    assert_eq!(
        refused("n", &[0; 16], original.clone()),
        "data-key-authentication"
    );
    let mut renamed = original.clone();
    renamed.label = "other".into();
    assert_eq!(refused("n", id, renamed), "data-key-authentication");
    let mut swapped = original.clone();
    swapped.locks.reverse();
    assert_eq!(refused("n", id, swapped), "data-key-authentication");
    let mut fewer = original.clone();
    fewer.locks.pop();
    assert_eq!(refused("n", id, fewer), "data-key-authentication");
    for at in 0..WRAPPED_KEY_LENGTH {
        let mut flipped = original.clone();
        flipped.wrapped_data_key[at] ^= 1;
        assert_eq!(refused("n", id, flipped), "data-key-authentication");
    }
}

#[test]
fn a_way_without_locks_or_with_a_lock_nobody_serves_is_not_made() {
    let keyring = Keyring::new(vec![Arc::new(Open::default())]);
    let refused = |ways: &[WaySpec]| {
        let made = run(keyring.make("n", ways, &Context::default()));
        made.err().unwrap().code
    };
    assert_eq!(refused(&[]), "no-way");
    assert_eq!(refused(&[way("none", &[])]), "bad-way");
    let tpm = WaySpec {
        label: "tpm".into(),
        locks: vec![LockSpec::Tpm],
    };
    assert_eq!(refused(&[tpm]), "lock-not-served");
}
