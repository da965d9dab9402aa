#![allow(clippy::unwrap_used)]
#[path = "../../tests/support/open_locks.rs"]
mod open_locks;

use super::*;
use open_locks::OpenLocks;

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

fn made(ways: &[WaySpec]) -> (Keyring, NewDataKey) {
    let keyring = Keyring::new(vec![Arc::new(OpenLocks::default())]);
    let made = run(keyring.make("n", ways, &Context::default())).unwrap();
    (keyring, made)
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
    let (keyring, new) = made(&[way("one", &["a"]), way("both", &["b", "c"])]);
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
    let (keyring, new) = made(&[way("eu", &["down"]), way("us", &["a"])]);
    let (_, report) = open(&keyring, "n", &new.data_key.id, &new.ways).unwrap();
    assert_eq!(report.way, "us");
    assert_eq!(report.failed.len(), 1);
    assert_eq!(report.failed[0].0, "eu");
    assert_eq!(report.failed[0].1.code, "down");
}

#[test]
fn when_no_way_opens_each_is_named_and_an_outage_leaves_hope() {
    let (keyring, new) = made(&[way("eu", &["revoked"]), way("us", &["down"])]);
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
    let (keyring, new) = made(&[way("both", &["b", "c"])]);
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
    let keyring = Keyring::new(vec![Arc::new(OpenLocks::default())]);
    let refused = |ways: &[WaySpec]| {
        let made = run(keyring.make("n", ways, &Context::default()));
        made.err().unwrap().code
    };
    assert_eq!(refused(&[]), "no-way");
    assert_eq!(refused(&[way("none", &[])]), "bad-way");
    let vault = WaySpec {
        label: "vault".into(),
        locks: vec![LockSpec::AzureUnwrap { key: "k".into() }],
    };
    assert_eq!(refused(&[vault]), "lock-not-served");
}

#[test]
fn a_way_that_fails_after_a_service_had_answered_names_that_request() {
    // The service answers the first lock as its first question.
    let (keyring, new) = made(&[way("eu", &["a", "revoked"]), way("us", &["b"])]);
    let (_, report) = open(&keyring, "n", &new.data_key.id, &new.ways).unwrap();
    let (label, refusal) = &report.failed[0];
    assert_eq!((label.as_str(), refusal.code.as_str()), ("eu", "revoked"));
    let expected = "key is disabled; answered before it: kms request id 1";
    assert_eq!(refusal.message, expected);

    let mut forged = new.ways[1].clone();
    forged.wrapped_data_key[0] ^= 1;
    let refusal = open(&keyring, "n", &new.data_key.id, &[forged])
        .err()
        .unwrap();
    let expected = "was changed; answered before it: kms request id 4";
    assert!(refusal.message.ends_with(expected), "{}", refusal.message);
}

#[test]
fn a_data_key_that_is_not_made_names_what_services_had_answered_for_it() {
    let keyring = Keyring::new(vec![Arc::new(OpenLocks::default())]);
    let ways = [way("eu", &["a"]), way("us", &["b", "new"])];
    let refusal = run(keyring.make("n", &ways, &Context::default()))
        .err()
        .unwrap();
    assert_eq!(
        refusal.message,
        "no new data keys; answered before it: kms request id made, kms request id made"
    );
}
