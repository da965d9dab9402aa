//! The rules of the layout, as ARCHITECTURE.md gives them: who may depend on whom, where secrets are touched, what
//! appears nowhere. Plain looks at the text of the tree and at `cargo metadata`.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;

/// What each crate may use of the others, tests and benches aside. A crate that is not here may not exist.
const MAY_USE: &str = "
nodeseal: nodeseal-attestation nodeseal-memory nodeseal-wire
nodeseal-attestation:
nodeseal-azure: nodeseal-attestation nodeseal-core nodeseal-memory nodeseal-wire
nodeseal-core: nodeseal-attestation nodeseal-memory nodeseal-wire
nodeseal-harness:
nodeseal-image: nodeseal-attestation
nodeseal-memory:
nodeseal-nitro: nodeseal-attestation nodeseal-core nodeseal-memory nodeseal-wire
nodeseal-sim: nodeseal-attestation nodeseal-core nodeseal-memory nodeseal-wire
nodeseal-tpm: nodeseal-attestation nodeseal-azure nodeseal-core nodeseal-memory nodeseal-wire
nodeseal-wire: nodeseal-memory
";

/// What must not be linked, through whomever it comes: the untrusted side has no code that opens a blob, each binary
/// links only the hardware it is for, verification knows no network, and shipped code has one crypto provider.
const MUST_NOT_LINK: &str = "
nodeseal: nodeseal-azure nodeseal-core nodeseal-sim nodeseal-harness tss-esapi aws-nitro-enclaves-nsm-api ring openssl-sys rsa
nodeseal-tpm: nodeseal-sim nodeseal-harness nodeseal-nitro tss-esapi aws-nitro-enclaves-nsm-api ring openssl-sys rsa
nodeseal-nitro: nodeseal-azure azure_core nodeseal-sim nodeseal-harness nodeseal-tpm tss-esapi ring openssl-sys rsa
nodeseal-image: nodeseal-core nodeseal-sim nodeseal-harness tokio ring openssl-sys rsa
nodeseal-attestation: tokio hyper socket2 nodeseal-memory ring openssl-sys rsa
";

/// The only files that look inside a secret, and what for.
const EXPOSES: &str = "
enclave/azure/src/attest.rs: a token out of its envelope
enclave/azure/src/release.rs: a released key, and the secret it opens
enclave/azure/src/wrap.rs: a lock's new secret, to be encrypted to a vault's key
enclave/core/src/aws/cms/mod.rs: the content key of a KMS answer
enclave/core/src/aws/recipient.rs: the private key a KMS answer is encrypted to
enclave/core/src/crypto.rs: key derivation and AES-256-GCM
enclave/core/src/keyring.rs: held data keys
enclave/core/src/keys.rs: the public key of a private one
enclave/core/src/seal.rs: the content of a blob
enclave/core/src/service.rs: frames to the agent
enclave/core/src/service/open.rs: opened keys on their way to the agent
enclave/core/src/service/seal.rs: keys to be sealed, from the agent
enclave/memory/src/secret.rs: its definition
enclave/tpm/src/lock.rs: the secret of a lock
enclave/tpm/src/tpm2/guest.rs: what the ephemeral key of an Azure machine decrypts
enclave/tpm/src/tpm2/sealing.rs: the secret of a lock, to and from the TPM
enclave/tpm/src/tpm2/session.rs: the key of a session with the TPM
enclave/wire/src/frame.rs: the payload of a frame
src/client/open.rs: dividing a reply into keys
src/commands/attest.rs: evidence, which is no secret but comes as a payload
src/commands/open.rs: a key written to standard output
src/commands/seal.rs: the key in a file to be sealed
src/commands/seal/shred.rs: comparing a file with its blob before it is removed
src/files/plaintext.rs: files to be sealed, files just opened
src/run.rs: keys handed to the node
src/run/encoded.rs: a key in hexadecimal
src/run/node.rs: a key on the node's standard input
src/sealing.rs: files on their way to be sealed, and compared with the blob before they are shredded
";

/// The only files with `unsafe`.
const UNSAFE: [&str; 5] = [
    "enclave/memory/src/allocator.rs",
    "enclave/memory/src/lib.rs",
    "enclave/memory/src/process.rs",
    "enclave/memory/src/secret.rs",
    "enclave/nitro/src/entropy.rs",
];

/// Longest file, its tests aside.
const MAX_LINES: usize = 400;

/// A table of "name: words" lines.
fn table(text: &'static str) -> BTreeMap<&'static str, Vec<&'static str>> {
    let row = |line: &'static str| {
        let (name, words) = line.split_once(':')?;
        Some((name, words.split_whitespace().collect()))
    };
    text.lines().filter_map(row).collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every text file of the tree by its path from the root, built and installed things aside.
fn tree() -> &'static BTreeMap<String, String> {
    static TREE: OnceLock<BTreeMap<String, String>> = OnceLock::new();
    TREE.get_or_init(|| {
        let mut files = BTreeMap::new();
        collect(root(), &mut files);
        assert!(files.contains_key("Cargo.toml"), "the root was not found");
        files
    })
}

fn collect(directory: &Path, files: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path: PathBuf = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy();
        // In a second worktree .git is a file.
        if ["target", ".git", "node_modules"].contains(&name.as_ref()) {
            continue;
        }
        if path.is_dir() {
            collect(&path, files);
        } else if let Ok(text) = fs::read_to_string(&path) {
            let path = path.strip_prefix(root()).unwrap();
            files.insert(path.to_str().unwrap().to_owned(), text);
        }
    }
}

fn sources() -> impl Iterator<Item = (&'static str, &'static str)> {
    let rust = |(path, _): &(&String, &String)| path.ends_with(".rs");
    tree()
        .iter()
        .filter(rust)
        .map(|(path, text)| (path.as_str(), text.as_str()))
}

/// Whether the whole file is for tests, benches or examples.
fn is_test(path: &str) -> bool {
    let mut parts = path.split('/');
    parts.any(|part| ["tests", "benches", "fuzz", "examples", "tests.rs"].contains(&part))
}

/// Lines up to the tests at the end of a file.
fn without_tests(text: &str) -> impl Iterator<Item = &str> {
    text.lines().take_while(|line| *line != "#[cfg(test)]")
}

/// A line of code without its comment.
fn code(line: &str) -> &str {
    let trimmed = line.trim_start();
    if trimmed.starts_with("//") {
        return "";
    }
    line.split_once(" // ").map_or(line, |(code, _)| code)
}

/// Where, outside tests, a line of code makes `wrong` true.
fn found(
    files: impl Iterator<Item = (&'static str, &'static str)>,
    wrong: impl Fn(&str) -> bool,
) -> Vec<String> {
    let mut places = Vec::new();
    for (path, text) in files {
        for (number, line) in without_tests(text).enumerate() {
            if wrong(code(line)) {
                places.push(format!("{path}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    places
}

fn none(what: &str, places: &[String]) {
    assert!(places.is_empty(), "{what}:\n{}", places.join("\n"));
}

fn has_word(line: &str, word: &str) -> bool {
    line.split(|c: char| !c.is_alphanumeric() && c != '_')
        .any(|part| part == word)
}

fn cargo(arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO"));
    let output = command
        .args(arguments)
        .current_dir(root())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo {}: {said}", arguments[0]);
    String::from_utf8(output.stdout).unwrap()
}

fn metadata() -> &'static Value {
    static METADATA: OnceLock<Value> = OnceLock::new();
    METADATA.get_or_init(|| {
        let text = cargo(&["metadata", "--locked", "--no-deps", "--format-version", "1"]);
        serde_json::from_str(&text).unwrap()
    })
}

fn list<'a>(value: &'a Value, field: &str) -> &'a Vec<Value> {
    value[field].as_array().unwrap()
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap()
}

/// The crates of the workspace by name.
fn members() -> BTreeMap<&'static str, &'static Value> {
    list(metadata(), "packages")
        .iter()
        .map(|p| (text(p, "name"), p))
        .collect()
}

/// Names of everything linked into a crate, as cargo resolves it when this crate is built: dependencies of
/// dependencies, without those for tests and for building. `None` if there is no such crate.
fn linked(name: &str) -> Option<BTreeSet<String>> {
    members().get(name)?;
    let tree = cargo(&[
        "tree",
        "--locked",
        "--edges",
        "normal",
        "--prefix",
        "none",
        "--package",
        name,
    ]);
    let lines = tree.lines().skip(1);
    Some(
        lines
            .filter_map(|line| line.split(' ').next())
            .map(str::to_owned)
            .collect(),
    )
}

#[test]
fn crates_depend_on_each_other_in_one_direction_only() {
    let allowed = table(MAY_USE);
    for (name, package) in members() {
        let Some(allowed) = allowed.get(name) else {
            panic!("{name} has no place in the order of crates");
        };
        for dependency in list(package, "dependencies") {
            let other = text(dependency, "name");
            let ours = dependency.get("path").is_some();
            let always = dependency["kind"].is_null();
            assert!(
                !ours || !always || allowed.contains(&other),
                "{name} uses {other}"
            );
        }
    }
}

#[test]
fn nothing_links_what_it_must_not() {
    for (name, forbidden) in table(MUST_NOT_LINK) {
        let Some(linked) = linked(name) else { continue };
        assert!(!linked.is_empty(), "{name}");
        let wrong: Vec<_> = forbidden
            .iter()
            .filter(|other| linked.contains(**other))
            .collect();
        assert!(wrong.is_empty(), "{name} links {wrong:?}");
    }
}

#[test]
fn every_crate_takes_the_lints_of_the_workspace_and_has_no_features() {
    for (name, package) in members() {
        let manifest = fs::read_to_string(text(package, "manifest_path")).unwrap();
        assert!(manifest.contains("[lints]\nworkspace = true"), "{name}");
        assert_eq!(package["features"], serde_json::json!({}), "{name}");
    }
    let conditional = concat!("feature", " = ");
    none(
        "conditional code",
        &found(sources(), |line| line.contains(conditional)),
    );
}

#[test]
fn secrets_are_looked_into_by_the_listed_files_only() {
    let doors = [concat!(".expose", "("), concat!(".expose_mut", "(")];
    let mut using = BTreeSet::new();
    for (path, text) in sources().filter(|(path, _)| !is_test(path)) {
        if without_tests(text).any(|line| doors.iter().any(|door| code(line).contains(door))) {
            using.insert(path);
        }
    }
    let listed: BTreeSet<_> = table(EXPOSES).into_keys().collect();
    let unlisted: Vec<_> = using.difference(&listed).collect();
    let idle: Vec<_> = listed.difference(&using).collect();
    assert!(unlisted.is_empty(), "not listed: {unlisted:?}");
    assert!(idle.is_empty(), "listed, but do not: {idle:?}");
}

#[test]
fn unsafe_code_is_in_the_listed_files_only() {
    let other = sources().filter(|(path, _)| !UNSAFE.contains(path) && *path != file!());
    none(
        "unsafe",
        &found(other, |line| has_word(line, concat!("un", "safe"))),
    );
    let allow = concat!("allow(un", "safe_code");
    let other = sources().filter(|(path, _)| !UNSAFE.contains(path));
    none(
        "the lint switched off",
        &found(other, |line| line.contains(allow)),
    );
}

#[test]
fn no_code_ends_the_process_behind_its_callers_back() {
    let calls = [concat!("process::", "exit"), concat!("process::", "abort")];
    let places = found(sources(), |line| {
        calls.iter().any(|call| line.contains(call))
    });
    none("only main's return value ends a process", &places);
}

#[test]
fn no_file_is_longer_than_400_lines_without_its_tests() {
    let long = sources()
        .filter(|(path, _)| !is_test(path) || path.starts_with("tests/harness/"))
        .map(|(path, text)| (path, without_tests(text).count()))
        .filter(|(_, lines)| *lines > MAX_LINES)
        .map(|(path, lines)| format!("{path}: {lines} lines"))
        .collect::<Vec<_>>();
    none("too long", &long);
}

#[test]
fn every_source_file_begins_with_what_it_is() {
    let bare = sources()
        .filter(|(path, text)| !text.starts_with("//! ") && !path.ends_with("tests.rs"))
        .map(|(path, _)| path.to_owned())
        .collect::<Vec<_>>();
    none("no //! line at the top", &bare);
}

#[test]
fn only_simulators_and_tests_name_what_is_not_real() {
    let unreal = [
        concat!("mo", "ck"),
        concat!("fa", "ke"),
        concat!("s", "im"),
        concat!("s", "ims"),
    ];
    let names_it = |line: &str| {
        words(line)
            .iter()
            .any(|word| unreal.contains(&word.as_str()) || word.starts_with("simulat"))
    };
    let shipped =
        || sources().filter(|(path, _)| !path.starts_with("simulators/") && !is_test(path));
    none("in code", &found(shipped(), names_it));
    let paths: Vec<_> = shipped()
        .map(|(path, _)| path.to_owned())
        .filter(|p| names_it(p))
        .collect();
    none("in paths", &paths);
}

/// The words of the identifiers in a line, in lower case: `TpmFoo` and `tpm_foo` are "tpm" and "foo".
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut before = ' ';
    for c in line.chars() {
        if !c.is_alphabetic() || (c.is_uppercase() && before.is_lowercase()) {
            words.push(String::new());
        }
        if c.is_alphabetic() {
            words.last_mut().unwrap().extend(c.to_lowercase());
        }
        before = c;
    }
    words
}

#[test]
fn verification_reads_no_clock() {
    let clocks = ["SystemTime", "Instant", "UNIX_EPOCH", "now"];
    let attestation =
        sources().filter(|(path, _)| path.starts_with("attestation/") && !is_test(path));
    let places = found(attestation, |line| {
        clocks.iter().any(|clock| has_word(line, clock))
    });
    none("time is an argument", &places);
}

#[test]
fn nothing_is_left_undone_or_skipped() {
    let marks = [
        concat!("to", "do!("),
        concat!("unimple", "mented!("),
        concat!("#[ig", "nore"),
    ];
    let mut places = Vec::new();
    for (path, text) in sources() {
        let left = text
            .lines()
            .filter(|line| marks.iter().any(|mark| line.contains(mark)));
        places.extend(left.map(|line| format!("{path}: {}", line.trim())));
    }
    none("left undone", &places);
}

#[test]
fn no_path_of_one_machine_and_no_registry_host_is_in_the_tree() {
    let paths = ["work", "farm", "root"].map(|top| format!("/{top}/"));
    let mut places = Vec::new();
    for (path, text) in tree() {
        let one_machine = |line: &&str| {
            paths.iter().any(|path| {
                let at = line.find(path.as_str());
                let rest = at.map(|at| &line[at + path.len()..]);
                rest.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()))
            })
        };
        places.extend(
            text.lines()
                .filter(one_machine)
                .map(|line| format!("{path}: {}", line.trim())),
        );
    }
    none("a path of one machine", &places);
    let lock = &tree()["tests/node/package-lock.json"];
    assert!(
        !lock.contains("\"resolved\""),
        "package-lock.json names the registry it came from"
    );
}
