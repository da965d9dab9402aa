//! What the agent's commands do, against a trusted side in the test's own process.
#![allow(clippy::unwrap_used)]

mod support;

use std::os::unix::fs::{PermissionsExt, symlink};

use serde_json::Value;
use support::{Bench, names};

/// Private key 1 and what it is called.
const KEY_ONE: &str = "0x0000000000000000000000000000000000000000000000000000000000000001\n";
const ADDRESS_ONE: &str = "0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf";

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

#[test]
fn a_sealed_file_opens_to_the_same_bytes_with_mode_0600() {
    let bench = Bench::new();
    bench.write("password", b"secret\n\0\xff");
    bench.succeeds(&["seal", "password"]);
    bench.succeeds(&["open", "password", "--to", "out"]);
    assert_eq!(std::fs::read(bench.path("out")).unwrap(), b"secret\n\0\xff");
    let mode = bench.path("out").metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(
        bench.succeeds(&["open", "password", "--stdout"]),
        b"secret\n\0\xff"
    );
}

#[test]
fn neither_a_blob_nor_an_opened_key_replaces_a_file() {
    let bench = Bench::new();
    bench.write("a", "one");
    bench.succeeds(&["seal", "a"]);
    let blob = std::fs::read(bench.path("keys/a.sealed")).unwrap();
    let exists = |file: &str| (1, format!("error: {file}: exists, and is not overwritten"));
    let found = bench.fails(&["seal", "a"]);
    assert!(
        found
            .1
            .ends_with("keys/a.sealed: exists, and is not overwritten"),
        "{found:?}"
    );
    let found = bench.fails(&["generate", "--name", "a", "--type", "ed25519"]);
    assert!(
        found
            .1
            .ends_with("keys/a.sealed: exists, and is not overwritten"),
        "{found:?}"
    );
    assert_eq!(bench.fails(&["open", "a", "--to", "a"]), exists("a"));
    assert_eq!(std::fs::read(bench.path("keys/a.sealed")).unwrap(), blob);
    assert_eq!(bench.fails(&["init"]), exists("nodeseal.toml"));
}

#[test]
fn a_typed_key_is_sealed_from_hex_or_bytes_and_written_as_asked() {
    let bench = Bench::new();
    bench.write("nodekey", KEY_ONE);
    bench.write("raw", [[0; 31].as_slice(), &[1]].concat());
    bench.succeeds(&["seal", "nodekey", "raw", "--type", "secp256k1"]);
    let opened = bench.succeeds(&["open", "nodekey", "--stdout"]);
    assert_eq!(opened, std::fs::read(bench.path("raw")).unwrap());
    let hex = bench.succeeds(&["open", "raw", "--stdout", "--encoding", "hex"]);
    assert_eq!(hex, KEY_ONE.trim_start_matches("0x").trim_end().as_bytes());
    let (status, shown) = bench.json(&["inspect", "keys/nodekey.sealed"]);
    assert_eq!(status, 0);
    assert_eq!(text(&shown["blobs"][0]["address"]), ADDRESS_ONE);
    bench.write("bad", "0xzz");
    let message =
        "error: bad: expected a secp256k1 key: 32 bytes, or 64 hexadecimal digits; found 4 bytes";
    let failed = bench.fails(&["seal", "bad", "--type", "secp256k1"]);
    assert_eq!(failed, (2, message.to_owned()));
    bench.write("zero", [0; 32]);
    let (status, failed) = bench.json(&["seal", "zero", "--type", "secp256k1"]);
    assert_eq!((status, text(&failed["error"]["code"])), (2, "bad-key"));
}

#[test]
fn generate_tells_the_public_half_and_the_blob_agrees() {
    let bench = Bench::new();
    for (key_type, digits) in [
        ("secp256k1", 66),
        ("ed25519", 64),
        ("p256", 66),
        ("bls12-381", 96),
    ] {
        let (status, made) = bench.json(&["generate", "--name", key_type, "--type", key_type]);
        assert_eq!(status, 0, "{made}");
        assert_eq!(text(&made["public_key"]).len(), digits);
        let (_, shown) = bench.json(&["inspect", text(&made["blob"])]);
        assert_eq!(shown["blobs"][0]["public_key"], made["public_key"]);
        let ethereum = key_type == "secp256k1";
        assert_eq!(made["address"].is_string(), ethereum);
        assert_eq!(
            made["node_id"].as_str().map(str::len),
            ethereum.then_some(128)
        );
    }
    assert_eq!(bench.json(&["open", "keys", "--check"]).0, 0);
}

#[test]
fn one_command_and_whatever_joins_it_share_a_data_key_that_is_asked_for_once() {
    let bench = Bench::new();
    for number in 0..300 {
        bench.write(&format!("many/{number}"), vec![b'k'; 4000]);
    }
    bench.succeeds(&["seal", "many"]);
    bench.succeeds(&[
        "generate",
        "--name",
        "late",
        "--type",
        "p256",
        "--join",
        "keys/0.sealed",
    ]);
    let before = bench.locks_opened();
    let (status, opened) = bench.json(&["open", "keys", "--check"]);
    assert_eq!(status, 0);
    assert_eq!(opened["keys"].as_array().unwrap().len(), 301);
    assert_eq!(opened["data_keys"].as_array().unwrap().len(), 1);
    assert_eq!(bench.locks_opened(), before + 1);
    std::fs::create_dir(bench.path("out")).unwrap();
    bench.succeeds(&["open", "keys", "--to", "out"]);
    assert_eq!(names(&bench.path("out")).len(), 301);
    assert_eq!(bench.locks_opened(), before + 2);
}

#[test]
fn of_a_data_directory_only_key_files_are_sealed_and_the_rest_is_counted() {
    let bench = Bench::new();
    for file in [
        "geth/nodekey",
        "geth/jwtsecret",
        "keystore/UTC--2026--ab",
        "validators/0x1/voting-keystore.json",
    ] {
        bench.write(&format!("data/{file}"), "key");
    }
    for file in ["geth/chaindata/000001.ldb", "geth/LOCK", "other.sealed"] {
        bench.write(&format!("data/{file}"), "no key");
    }
    let (status, sealed) = bench.json(&["seal", "data"]);
    assert_eq!(status, 0);
    let sealed_names: Vec<_> = sealed["sealed"]
        .as_array()
        .unwrap()
        .iter()
        .map(|key| text(&key["name"]))
        .collect();
    assert_eq!(
        sealed_names,
        [
            "geth/jwtsecret",
            "geth/nodekey",
            "keystore/UTC--2026--ab",
            "validators/0x1/voting-keystore.json"
        ]
    );
    assert_eq!(sealed["passed_over"], 2);
    assert!(bench.path("keys/geth/nodekey.sealed").exists());
    let (_, sealed) = bench.json(&["seal", "data", "--all", "--skip-existing"]);
    assert_eq!(sealed["sealed"].as_array().unwrap().len(), 2);
    assert_eq!(sealed["existing"].as_array().unwrap().len(), 4);
}

#[test]
fn files_that_are_no_keys_are_refused_before_anything_is_sealed() {
    let bench = Bench::new();
    bench.write("good", "key");
    bench.write("name with space", "key");
    bench.write("large", vec![0; 1 << 20]);
    symlink(bench.path("good"), bench.path("link")).unwrap();
    for (file, status, problem) in [
        (
            "link",
            1,
            "error: link: expected a regular file, found a symbolic link",
        ),
        (
            "/dev/null",
            1,
            "error: /dev/null: expected a regular file, found a device or socket",
        ),
        (
            "large",
            1,
            "error: large: expected at most 983040 bytes, found 1048576",
        ),
        (
            "missing",
            1,
            "error: missing: cannot open: No such file or directory (os error 2)",
        ),
        (
            "name with space",
            2,
            "error: name with space: name: expected 1 to 255 letters, digits and ._-+@:/ \
             (not starting with / or ., without ..), found \"name with space\"",
        ),
    ] {
        assert_eq!(
            bench.fails(&["seal", "good", file]),
            (status, problem.to_owned())
        );
        assert_eq!(names(&bench.path("keys")), [""; 0]);
    }
    bench.write("sub/good", "another");
    let twice = bench.fails(&["seal", "good", "sub/good"]);
    let message = "error: sub/good: another file gives the name \"good\" too";
    assert_eq!(twice, (2, message.to_owned()));
    bench.succeeds(&["seal", "name with space", "--name", "named"]);
}

#[test]
fn shred_removes_what_was_sealed_and_only_that() {
    let bench = Bench::new();
    bench.write("one", "first");
    bench.write("two", "second");
    std::fs::hard_link(bench.path("two"), bench.path("again")).unwrap();
    let (status, message) = bench.fails(&["seal", "two", "--shred"]);
    assert_eq!(
        (status, &*message),
        (1, "error: two: was kept: it has 2 names (hard links)")
    );
    let (_, sealed) = bench.json(&["seal", "one", "--shred"]);
    assert_eq!(sealed["sealed"][0]["removed"], true);
    assert!(!bench.path("one").exists());
    assert_eq!(bench.succeeds(&["open", "one", "--stdout"]), b"first");
    // Sealed before, removed now; but not where the blob holds something else.
    bench.write("one", "other");
    let (status, message) = bench.fails(&["seal", "one", "--shred", "--skip-existing"]);
    assert_eq!(status, 1);
    assert!(message.contains("one: was kept: its blob"), "{message}");
    assert_eq!(std::fs::read(bench.path("one")).unwrap(), b"other");
    bench.write("one", "first");
    bench.succeeds(&["seal", "one", "--shred", "--skip-existing"]);
    assert!(!bench.path("one").exists());
}

#[test]
fn rotate_gives_a_new_data_key_and_leaves_nothing_old() {
    let bench = Bench::new();
    bench.write("password", "secret");
    bench.succeeds(&["seal", "password"]);
    bench.succeeds(&["generate", "--name", "node", "--type", "secp256k1"]);
    let inspect =
        |name: &str| bench.json(&["inspect", &format!("keys/{name}.sealed")]).1["blobs"][0].clone();
    let (old_node, old_password) = (inspect("node"), inspect("password"));
    assert_ne!(old_node["data_key"], old_password["data_key"]);
    let key = bench.succeeds(&["open", "node", "--stdout"]);
    let (status, rotated) = bench.json(&["rotate", "--all"]);
    assert_eq!(status, 0, "{rotated}");
    let (node, password) = (inspect("node"), inspect("password"));
    assert_eq!(node["data_key"], password["data_key"]);
    assert_ne!(node["data_key"], old_node["data_key"]);
    assert_eq!(
        (&node["generation"], &node["public_key"]),
        (&1.into(), &old_node["public_key"])
    );
    assert_eq!(bench.succeeds(&["open", "node", "--stdout"]), key);
    assert_eq!(bench.succeeds(&["open", "password", "--stdout"]), b"secret");
    assert_eq!(
        names(&bench.path("keys")),
        ["node.sealed", "password.sealed"]
    );
}

#[test]
fn a_blob_that_does_not_open_is_not_rotated_and_what_an_interrupted_rotation_kept_is_told() {
    let bench = Bench::new();
    bench.write("password", "secret");
    bench.succeeds(&["seal", "password"]);
    let blob = bench.path("keys/password.sealed");
    let good = std::fs::read(&blob).unwrap();
    let mut bad = good.clone();
    *bad.last_mut().unwrap() ^= 1;
    std::fs::write(&blob, &bad).unwrap();
    std::fs::write(bench.path("keys/password.sealed.old"), &good).unwrap();
    let (status, failed) = bench.json(&["rotate", "password"]);
    assert_eq!(
        (status, text(&failed["error"]["code"])),
        (4, "blob-authentication")
    );
    let message = text(&failed["error"]["message"]);
    assert!(
        message.ends_with("password.sealed.old is from before an interrupted rotation"),
        "{message}"
    );
    assert_eq!(std::fs::read(&blob).unwrap(), bad);
    // The good one back in its place: rotation proves it and removes the old one.
    std::fs::write(&blob, &good).unwrap();
    bench.succeeds(&["rotate", "password"]);
    assert_eq!(names(&bench.path("keys")), ["password.sealed"]);
}

#[test]
fn one_bad_blob_does_not_keep_the_others_from_opening() {
    let bench = Bench::new();
    for name in ["a", "b", "c", "d"] {
        bench.write(name, name);
    }
    bench.succeeds(&["seal", "a", "b", "c", "d"]);
    std::fs::copy(bench.path("keys/a.sealed"), bench.path("keys/b.sealed")).unwrap();
    std::fs::write(bench.path("keys/c.sealed"), "no blob").unwrap();
    std::fs::create_dir(bench.path("out")).unwrap();
    let (status, opened) = bench.json(&["open", "a", "b", "c", "d", "--to", "out"]);
    assert_eq!(status, 4);
    let codes: Vec<_> = opened["keys"]
        .as_array()
        .unwrap()
        .iter()
        .map(|key| key["error"]["code"].as_str())
        .collect();
    assert_eq!(
        codes,
        [None, Some("wrong-name"), Some("blob-malformed"), None]
    );
    assert_eq!(names(&bench.path("out")), ["a", "d"]);
    let message = text(&opened["error"]["message"]);
    assert!(
        message.starts_with("2 of 4 keys failed, the first: "),
        "{message}"
    );
}

#[test]
fn a_blob_of_another_node_or_of_another_type_than_configured_is_refused() {
    let bench = Bench::new();
    bench.succeeds(&["generate", "--name", "key", "--type", "ed25519"]);
    let config = std::fs::read_to_string(bench.path("nodeseal.toml")).unwrap();
    bench.write(
        "other.toml",
        config.replace("node = \"v1\"", "node = \"v2\""),
    );
    let (status, failed) = bench.json(&["--config", "other.toml", "open", "key", "--check"]);
    assert_eq!((status, text(&failed["error"]["code"])), (4, "wrong-node"));
    bench.write(
        "typed.toml",
        config + "\n[[key]]\nname = \"key\"\ntype = \"p256\"\n",
    );
    let (status, failed) = bench.json(&["--config", "typed.toml", "open", "key", "--check"]);
    assert_eq!((status, text(&failed["error"]["code"])), (4, "wrong-type"));
    let run = ["--config", "typed.toml", "run", "--", "true"];
    let message =
        "error: key: the blob holds a key of type ed25519, the configuration expects p256";
    assert_eq!(bench.fails(&run), (4, message.to_owned()));
}

#[test]
fn status_and_lock_ask_the_trusted_side() {
    let bench = Bench::new();
    bench.succeeds(&["generate", "--name", "key", "--type", "ed25519"]);
    bench.succeeds(&["open", "key", "--check"]);
    let (status, said) = bench.json(&["status"]);
    assert_eq!(status, 0);
    assert_eq!(
        (text(&said["provider"]), &said["opened"]),
        ("test", &1.into())
    );
    assert_eq!(
        bench.json(&["lock"]),
        (0, serde_json::json!({ "locked": true }))
    );
}

#[test]
fn every_opening_is_in_the_audit_log_before_its_key_is_out() {
    let bench = Bench::new();
    bench.write("a", "one");
    bench.succeeds(&["seal", "a"]);
    bench.succeeds(&["rotate", "a"]);
    bench.succeeds(&["open", "a", "--stdout"]);
    let log = std::fs::read_to_string(bench.path("audit.jsonl")).unwrap();
    let event = |line: &str| serde_json::from_str::<Value>(line).unwrap()["event"].clone();
    let events: Vec<_> = log.lines().map(event).collect();
    assert_eq!(events, ["seal", "rotate", "open", "open"]);
    // No log, no key.
    bench.write(
        "nodeseal.toml",
        std::fs::read_to_string(bench.path("nodeseal.toml")).unwrap()
            + "[audit]\nfile = \"missing/log\"",
    );
    let output = bench.run(&["open", "a", "--stdout"]);
    assert_eq!((output.status.code(), &*output.stdout), (Some(1), &b""[..]));
    assert_eq!(
        bench.run(&["open", "a", "--to", "out"]).status.code(),
        Some(1)
    );
    assert!(!names(&bench.path("")).contains(&"out".to_owned()));
}
