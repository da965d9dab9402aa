//! The simulators tried with clients nobody here wrote: boto3, botocore and OpenSSL (tests/python/aws_kms.py).

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;

use nodeseal_harness::{Finished, Simulator, checkout, program, python, short_dir};
use serde_json::{Value, json};

const ACCOUNT: &str = "111122223333";

/// Everything a case of the Python script talks to.
struct Bench {
    directory: tempfile::TempDir,
    data: Value,
    kms: Simulator,
    others: Vec<Simulator>,
}

impl Bench {
    fn start() -> Self {
        let directory = short_dir().unwrap();
        let kms = kms(directory.path());
        let mut data = kms.ready().clone();
        let at = |name: &str| directory.path().join(name).display().to_string();
        data["account"] = ACCOUNT.into();
        data["keep"] = at("kept.json").into();
        let user = format!("arn:aws:iam::{ACCOUNT}:user/admin");
        let role = format!("arn:aws:sts::{ACCOUNT}:assumed-role/node/session");
        data["credentials"] = json!({
            "admin": credential(directory.path(), &user, &["--administrator"]),
            "node": credential(directory.path(), &role, &["--lifetime", "3600"]),
            "expired": credential(directory.path(), &role, &["--lifetime", "0", "--administrator"]),
        });
        Self {
            directory,
            data,
            kms,
            others: Vec::new(),
        }
    }

    /// Starts an NSM under the root in the directory `root`.
    fn module(&mut self, name: &str, root: &str, arguments: &[&str]) {
        let at = |name: &str| self.directory.path().join(name).display().to_string();
        let socket = at(&format!("{name}.sock"));
        let root = at(root);
        let mut all = vec!["--socket", &socket, "--root", &root];
        all.extend_from_slice(arguments);
        let module = Simulator::start("nsm", all, &self.directory.path().join("nsm.log")).unwrap();
        self.data["modules"][name] = socket.into();
        self.others.push(module);
    }

    /// The modules attested cases use.
    fn modules(&mut self) {
        let role = format!("arn:aws:iam::{ACCOUNT}:role/node");
        let ours = ["--image", "nodeseal", "--role-arn", &role];
        self.module(
            "enclave",
            "kms",
            &[&ours[..], &["--map-encoding", "definite"]].concat(),
        );
        self.module("debug", "kms", &[&ours[..], &["--debug"]].concat());
        self.module("other", "kms", &["--image", "something-else"]);
        self.module("foreign", "another-root", &ours);
    }

    fn run(&self, case: &str) {
        let path = self.directory.path().join("bench.json");
        std::fs::write(&path, self.data.to_string()).unwrap();
        let mut command = Command::new(python().unwrap());
        command
            .arg(checkout().join("tests/python/aws_kms.py"))
            .arg(case)
            .arg(&path)
            .env_remove("AWS_PROFILE")
            .env(
                "AWS_EC2_METADATA_DISABLED",
                self.data.get("imds").is_none().to_string(),
            );
        let done = Finished::of(&mut command).unwrap();
        assert_eq!(
            done.code,
            0,
            "{}\n{}",
            done.stderr,
            self.kms.running.output()
        );
    }
}

fn kms(directory: &Path) -> Simulator {
    let state = directory.join("kms");
    let arguments = [
        "--state",
        state.to_str().unwrap(),
        "--region",
        "eu-central-1",
    ];
    Simulator::start("aws-kms", arguments, &directory.join("kms.log")).unwrap()
}

fn credential(directory: &Path, principal: &str, more: &[&str]) -> Value {
    let mut command = Command::new(program("nodeseal-sim").unwrap());
    command
        .args(["credential", "--principal", principal, "--credentials"])
        .arg(directory.join("kms/credentials"))
        .args(more);
    let done = Finished::of(&mut command).unwrap();
    let text = done.success("nodeseal-sim credential").unwrap().text();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn keys_are_created_described_and_listed() {
    Bench::start().run("keys_are_created_described_and_listed");
}

#[test]
fn what_is_encrypted_is_decrypted() {
    Bench::start().run("what_is_encrypted_is_decrypted");
}

#[test]
fn another_context_key_or_byte_is_refused() {
    Bench::start().run("another_context_key_or_byte_is_refused");
}

#[test]
fn a_disabled_or_dying_key_does_nothing() {
    Bench::start().run("a_disabled_or_dying_key_does_nothing");
}

#[test]
fn a_policy_is_kept_as_it_was_put_and_never_locks_out() {
    Bench::start().run("a_policy_is_kept_as_it_was_put_and_never_locks_out");
}

#[test]
fn only_the_measured_enclave_gets_the_secret() {
    let mut bench = Bench::start();
    bench.modules();
    bench.run("only_the_measured_enclave_gets_the_secret");
}

#[test]
fn the_trail_lists_every_attempt() {
    let mut bench = Bench::start();
    bench.modules();
    bench.run("the_trail_lists_every_attempt");
}

#[test]
fn signatures_tokens_and_times_are_checked() {
    Bench::start().run("signatures_tokens_and_times_are_checked");
}

#[test]
fn instance_credentials_work_until_they_expire() {
    let mut bench = Bench::start();
    let policy = bench.directory.path().join("role.json");
    let allow = json!({"Effect": "Allow", "Action": "kms:GenerateRandom", "Resource": "*"});
    std::fs::write(
        &policy,
        json!({"Version": "2012-10-17", "Statement": [allow]}).to_string(),
    )
    .unwrap();
    let credentials = bench.directory.path().join("kms/credentials");
    let arguments = [
        "--credentials",
        credentials.to_str().unwrap(),
        "--role",
        "node",
        "--policy",
        policy.to_str().unwrap(),
        "--lifetime",
        "190",
    ];
    let log = bench.directory.path().join("imds.log");
    let imds = Simulator::start("imds", arguments, &log).unwrap();
    bench.data["imds"] = imds.told("endpoint").unwrap().into();
    bench.run("instance_credentials_work_until_they_expire");
}

#[test]
fn faults_come_as_ordered() {
    Bench::start().run("faults_come_as_ordered");
}

#[test]
fn answers_to_a_recipient_are_forged_as_ordered() {
    let mut bench = Bench::start();
    bench.modules();
    bench.run("answers_to_a_recipient_are_forged_as_ordered");
}

#[test]
fn keys_survive_a_killed_service() {
    let mut bench = Bench::start();
    bench.run("seals_for_the_next_start");
    bench.kms.running.kill();
    bench.kms = kms(bench.directory.path());
    for name in ["endpoint", "admin"] {
        bench.data[name] = bench.kms.told(name).unwrap().into();
    }
    bench.run("opens_what_was_sealed_before_the_restart");
}
