//! Configurations good and bad.
#![allow(clippy::unwrap_used)]

use super::*;

const GOOD: &str = r#"
node = "validator-1"
policies = "policies"
[trusted]
address = "unix:/run/nodeseal-tpm/tpm.sock"
timeout = "90s"
[[way]]
label = "tpm"
locks = [{ kind = "tpm" }]
[[way]]
label = "both"
locks = [{ kind = "tpm" }, { kind = "aws-kms", key = "arn:aws:kms:eu-west-1:1:key/1", attested = false }]
[[key]]
name = "nodekey"
type = "secp256k1"
encoding = "hex"
[[key]]
name = "keystore/one"
blob = "elsewhere/one"
deliver = "file"
path = "run/one"
uid = 1000
"#;

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(text, Path::new("/etc/nodeseal"))
}

#[test]
fn paths_are_relative_to_the_file_and_defaults_are_filled_in() {
    let config = parse(GOOD).unwrap();
    assert_eq!(config.keys, Path::new("/etc/nodeseal/keys"));
    assert_eq!(
        config.policies.as_deref(),
        Some(Path::new("/etc/nodeseal/policies"))
    );
    assert_eq!(config.trusted.timeout, Duration::from_secs(90));
    assert_eq!(config.trusted.connect_timeout, Duration::from_secs(5));
    assert_eq!(
        config.trusted.address.to_string(),
        "unix:/run/nodeseal-tpm/tpm.sock"
    );
    assert_eq!(config.way_specs().len(), 2);
    let nodekey = config.entry("nodekey").unwrap();
    assert_eq!(nodekey.blob, Path::new("/etc/nodeseal/keys/nodekey.sealed"));
    assert_eq!(
        (nodekey.encoding, &nodekey.deliver),
        (Encoding::Hex, &Deliver::Memfd { fd: None })
    );
    assert_eq!(
        config.blob_path("keystore/one"),
        Path::new("/etc/nodeseal/elsewhere/one")
    );
    assert_eq!(
        config.blob_path("new/key"),
        Path::new("/etc/nodeseal/keys/new/key.sealed")
    );
    let file = Deliver::File {
        path: "/etc/nodeseal/run/one".into(),
        uid: Some(1000),
    };
    assert_eq!(config.entry("keystore/one").unwrap().deliver, file);
}

#[test]
fn what_is_wrong_is_named() {
    for (from, to, problem) in [
        ("timeout =", "timeuot =", "unknown field `timeuot`"),
        (
            "{ kind = \"tpm\" }]\n[[way",
            "{ kind = \"tpm\", pcrs = [7] }]\n[[way",
            "unknown field `pcrs`",
        ),
        (
            "kind = \"tpm\" }, ",
            "kind = \"aws-kms\", key = \"k\", attested = true }, ",
            "needs a tpm lock beside it",
        ),
        (
            "label = \"both\"",
            "label = \"tpm\"",
            "two ways have the label \"tpm\"",
        ),
        (
            "name = \"keystore/one\"",
            "name = \"nodekey\"",
            "two keys have the name \"nodekey\"",
        ),
        (
            "name = \"keystore/one\"",
            "name = \"../one\"",
            "key name: expected 1 to 255 letters",
        ),
        (
            "\"validator-1\"",
            "\"validator 1\"",
            "node: expected 1 to 255 letters",
        ),
        (
            "\"secp256k1\"",
            "\"secp256r1\"",
            "expected one of opaque, secp256k1, ed25519, p256, bls12-381, found \"secp256r1\"",
        ),
        ("\"secp256k1\"", "\"opaque\"", "encoding must be \"raw\""),
        (
            "path = \"run/one\"\n",
            "",
            "deliver = \"file\" needs a path",
        ),
        (
            "deliver = \"file\"",
            "deliver = \"stdin\"",
            "path and uid are for deliver = \"file\" only",
        ),
        (
            "unix:/run",
            "tcp:/run",
            "expected \"unix:PATH\", \"vsock:CID:PORT\" or \"hybrid:PATH:PORT\", found \"tcp:/run/nodeseal-tpm/tpm.sock\"",
        ),
        (
            "unix:/run/nodeseal-tpm/tpm.sock",
            "hybrid:/run/vm.vsock:x",
            "expected \"unix:PATH\", \"vsock:CID:PORT\" or \"hybrid:PATH:PORT\"",
        ),
        ("\"90s\"", "\"90\"", "expected a duration"),
        (
            "locks = [{ kind = \"tpm\" }]",
            "locks = []",
            "way \"tpm\" has no locks",
        ),
    ] {
        let text = GOOD.replacen(from, to, 1);
        assert_ne!(text, GOOD, "{from:?} occurs");
        let error = parse(&text).unwrap_err();
        assert!(error.contains(problem), "{problem:?} in {error:?}");
    }
}

#[test]
fn only_one_key_can_have_standard_input() {
    let key = |name| format!("[[key]]\nname = \"{name}\"\ndeliver = \"stdin\"\n");
    let error = parse(&format!("{GOOD}{}{}", key("a"), key("b"))).unwrap_err();
    assert_eq!(
        error,
        "keys \"a\" and \"b\": only one key can be delivered on standard input"
    );
}

#[test]
fn a_firecracker_address_is_read_and_written_back() {
    let address = Address::try_from("hybrid:/vm.vsock:5000".to_owned()).unwrap();
    assert_eq!(
        address,
        Address::Hybrid {
            path: "/vm.vsock".into(),
            port: 5000
        }
    );
    assert_eq!(address.to_string(), "hybrid:/vm.vsock:5000");
}

#[test]
fn what_init_writes_is_a_configuration_with_every_commented_setting_in_force_too() {
    let text = include_str!("../commands/init.toml")
        .replace("@NODE@", "validator-1")
        .replace("@ADDRESS@", "unix:/run/nodeseal-tpm/tpm.sock");
    Config::parse(&text, Path::new("/base")).unwrap();
    // A setting follows its number sign at once, prose after a space.
    let setting = |line: &str| match line.strip_prefix('#') {
        Some(rest) if !rest.starts_with(' ') => rest.to_owned(),
        _ => line.to_owned(),
    };
    let all: Vec<String> = text.lines().map(setting).collect();
    let config = Config::parse(&all.join("\n"), Path::new("/base")).unwrap();
    assert_eq!(config.run.user.as_deref(), Some("geth"));
    assert_eq!(config.audit.file, Path::new("/base/audit.jsonl"));
    assert_eq!(config.egress.hosts.len(), 1);
    assert_eq!(config.entries.len(), 2);
}
