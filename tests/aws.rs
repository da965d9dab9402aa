//! The agent with a simulated Nitro Enclave and a simulated AWS KMS: way out, credentials, policies, evidence, audit.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nodeseal_harness::{
    Agent, Finished, Simulator, Swtpm, TpmProcess, checkout, program, python, short_dir,
};
use serde_json::Value;
use tempfile::TempDir;

const ACCOUNT: &str = "111122223333";
const REGION: &str = "us-east-1";
const NODE: &str = "validator-1";
const SECRET: &str = "the keystore's password";

/// A KMS with one key whose policy nodeseal wrote for one enclave, and the agent of a node beside that enclave.
struct World {
    directory: TempDir,
    kms: Simulator,
    _enclave: Simulator,
    agent: Agent,
    key: String,
}

impl World {
    fn new() -> Self {
        Self::with_enclave(&[])
    }

    fn with_enclave(more: &[&str]) -> Self {
        let directory = short_dir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let state = at("kms").display().to_string();
        let kms = ["--state", &state, "--region", REGION];
        let kms = Simulator::start("aws-kms", kms, &at("kms.log")).unwrap();
        let listen = format!("unix:{}", at("enclave.sock").display());
        let mut arguments = vec![
            "--listen",
            &listen,
            "--root",
            &state,
            "--deadline=60",
            "--attempt=30",
        ];
        arguments.extend(["--kms-ca", kms.told("ca").unwrap()]);
        arguments.extend(more);
        let enclave = Simulator::start("enclave", arguments, &at("enclave.log")).unwrap();
        let agent = Agent::init(directory.path(), NODE, &listen).unwrap();
        let mut world = Self {
            directory,
            kms,
            _enclave: enclave,
            agent,
            key: String::new(),
        };
        let policy = world.write_policy();
        world.key = world.create_key(&policy);
        world.configure();
        world
    }

    fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The key policy, as `policy aws show` writes it for the enclave that is running.
    fn write_policy(&self) -> String {
        let pcr0 = self._enclave.ready()["measurements"]["PCR0"]
            .as_str()
            .unwrap();
        let release = format!(
            "version = 1\n[principals]\nruntime = [\"arn:aws:iam::{ACCOUNT}:role/node\"]\n\
             administrators = [\"arn:aws:iam::{ACCOUNT}:user/admin\"]\n\
             [encryption_context]\n\"nodeseal:node\" = [\"{NODE}\"]\n\
             [[generation]]\nname = \"1\"\nprovider = \"nitro-enclave\"\npcrs = {{ 0 = \"{pcr0}\" }}\n"
        );
        fs::write(self.at("release.toml"), release).unwrap();
        let release = self.at("release.toml").display().to_string();
        let shown = self.agent.run(["policy", "aws", "show", &release]).unwrap();
        shown.success("policy aws show").unwrap().text()
    }

    fn create_key(&self, policy: &str) -> String {
        let code = "import boto3, sys; print(boto3.client('kms', endpoint_url=sys.argv[1], verify=sys.argv[2], \
                    region_name='us-east-1').create_key(Policy=sys.argv[3])['KeyMetadata']['Arn'])";
        let admin = self.credential("user/admin", "iam", &["--administrator"]);
        let mut command = Command::new(python().unwrap());
        command
            .args(["-c", code])
            .args([
                self.kms.told("endpoint").unwrap(),
                self.kms.told("ca").unwrap(),
                policy,
            ])
            .current_dir(checkout());
        set_credentials(&mut command, &admin);
        let made = Finished::of(&mut command).unwrap();
        made.success("create_key").unwrap().text().trim().to_owned()
    }

    fn configure(&self) {
        let config = self.agent.config();
        let text = fs::read_to_string(&config).unwrap();
        let text = text
            .replacen("label = \"tpm\"", "label = \"kms\"", 1)
            .replacen(
                "{ kind = \"tpm\" }",
                &format!(
                    "{{ kind = \"aws-kms\", key = \"{}\", attested = true }}",
                    self.key
                ),
                1,
            );
        let to = self
            .kms
            .told("endpoint")
            .unwrap()
            .strip_prefix("https://")
            .unwrap();
        let more = format!(
            "\n[[key]]\nname = \"password\"\n[egress]\ndirectory = \".\"\n\
             [egress.addresses]\n\"kms.{REGION}.amazonaws.com:443\" = \"{to}\"\n"
        );
        fs::write(config, text + &more).unwrap();
    }

    /// Credentials of a principal, as a credential process prints them.
    fn credential(&self, principal: &str, service: &str, more: &[&str]) -> Value {
        let principal = format!("arn:aws:{service}::{ACCOUNT}:{principal}");
        let mut command = Command::new(program("nodeseal-sim").unwrap());
        command
            .args(["credential", "--principal", &principal, "--credentials"])
            .arg(self.kms.told("credentials").unwrap())
            .args(more);
        let made = Finished::of(&mut command).unwrap();
        serde_json::from_str(&made.success("credential").unwrap().text()).unwrap()
    }

    /// A session of the node's role.
    fn session(&self, lifetime: u64) -> Value {
        let lifetime = format!("--lifetime={lifetime}");
        self.credential("assumed-role/node/session", "sts", &[&lifetime])
    }

    /// The agent with nothing of AWS in its environment but what is added.
    fn agent(&self, arguments: &[&str]) -> Command {
        let mut command = self.agent.command(arguments).unwrap();
        command.current_dir(self.directory.path());
        for name in [
            "AWS_ACCESS_KEY_ID",
            "AWS_SECRET_ACCESS_KEY",
            "AWS_SESSION_TOKEN",
            "AWS_PROFILE",
        ] {
            command.env_remove(name);
        }
        command
            .env("HOME", self.directory.path())
            .env("AWS_EC2_METADATA_DISABLED", "true");
        command
    }

    /// The agent as the node's role.
    fn as_node(&self, arguments: &[&str]) -> Finished {
        let mut command = self.agent(arguments);
        set_credentials(&mut command, &self.session(3600));
        Finished::of(&mut command).unwrap()
    }

    /// Seals the password.
    fn seal(&self) {
        let file = self.at("password");
        fs::write(&file, SECRET).unwrap();
        self.as_node(&["seal", "password"]).success("seal").unwrap();
    }

    /// A credential process that prints the first of `answers`, then the next, the last for ever after, each time
    /// leaving a line in the file `asked`.
    fn credential_process(&self, command: &mut Command, answers: &[&Value]) {
        for (number, answer) in answers.iter().enumerate() {
            fs::write(
                self.at(&format!("answer-{}", number + 1)),
                answer.to_string(),
            )
            .unwrap();
        }
        let script = format!(
            "#!/bin/sh\ncd {}\necho asked >> asked\nn=$(wc -l < asked)\ntest $n -gt {max} && n={max}\ncat answer-$n\n",
            self.directory.path().display(),
            max = answers.len(),
        );
        let path = self.at("credentials.sh");
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let profile = format!("[default]\ncredential_process = {}\n", path.display());
        fs::write(self.at("aws-config"), profile).unwrap();
        command.env("AWS_CONFIG_FILE", self.at("aws-config"));
    }

    fn asked(&self) -> usize {
        let asked = fs::read_to_string(self.at("asked")).unwrap_or_default();
        asked.lines().count()
    }
}

fn set_credentials(command: &mut Command, credential: &Value) {
    for (variable, name) in [
        ("AWS_ACCESS_KEY_ID", "AccessKeyId"),
        ("AWS_SECRET_ACCESS_KEY", "SecretAccessKey"),
        ("AWS_SESSION_TOKEN", "SessionToken"),
    ] {
        match credential[name].as_str() {
            Some(value) => command.env(variable, value),
            None => command.env_remove(variable),
        };
    }
}

/// A credential that does not say when it ends, so that nobody can know before KMS does.
fn timeless(mut credential: Value) -> Value {
    credential.as_object_mut().unwrap().remove("Expiration");
    credential
}

#[test]
fn the_measured_enclave_opens_the_nodes_key_and_the_log_has_the_request() {
    let world = World::new();
    world.seal();
    let done = world.as_node(&["run", "--", "cat", "{password}"]);
    assert_eq!(
        (done.code, done.text().as_str(), done.stderr.as_str()),
        (0, SECRET, "")
    );
    // Nothing of the way out is left.
    let left = fs::read_dir(world.directory.path()).unwrap();
    let left = left.filter(|entry| {
        let name = entry.as_ref().unwrap().file_name();
        name.to_string_lossy().starts_with("nodeseal-egress-")
    });
    assert_eq!(left.count(), 0);

    world
        .agent
        .run(["audit", "verify"])
        .unwrap()
        .success("audit verify")
        .unwrap();
    let log = fs::read_to_string(world.at("audit.jsonl")).unwrap();
    let last: Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
    assert_eq!(last["event"], "open");
    let data_key = &last["data-keys"][0];
    assert_eq!(
        (&data_key["way"], &data_key["locks"][0]),
        (&"kms".into(), &"aws-kms".into())
    );
    let facts = data_key["facts"].as_array().unwrap();
    let fact =
        |name: &str| facts.iter().find(|fact| fact["name"] == name).unwrap()["value"].clone();
    assert_eq!(fact("kms-key"), world.key.as_str());
    let trail = fs::read_to_string(world.kms.told("trail").unwrap()).unwrap();
    assert!(trail.contains(fact("kms-request-id").as_str().unwrap()));
}

#[test]
fn credentials_that_expired_are_renewed_once_and_the_batch_is_opened() {
    let world = World::new();
    world.seal();
    let (old, new) = (timeless(world.session(0)), timeless(world.session(3600)));
    let mut open = world.agent(&["open", "--stdout", "password"]);
    world.credential_process(&mut open, &[&old, &new]);
    let done = Finished::of(&mut open).unwrap();
    assert_eq!(
        (done.code, done.text().as_str()),
        (0, SECRET),
        "{}",
        done.stderr
    );
    assert_eq!(world.asked(), 2);
    // Old ones again: refused then, and not asked for ever.
    fs::remove_file(world.at("asked")).unwrap();
    let mut open = world.agent(&["--json", "open", "--to", "opened", "password"]);
    world.credential_process(&mut open, &[&old]);
    let done = Finished::of(&mut open).unwrap();
    let report: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(
        (done.code, &report["error"]["code"]),
        (5, &"expired-credentials".into())
    );
    assert_eq!(world.asked(), 2);
}

#[test]
fn sealing_renews_expired_credentials_too() {
    let world = World::new();
    let (old, new) = (timeless(world.session(0)), timeless(world.session(3600)));
    fs::write(world.at("password"), SECRET).unwrap();
    let mut seal = world.agent(&["seal", "password"]);
    world.credential_process(&mut seal, &[&old, &new]);
    Finished::of(&mut seal).unwrap().success("seal").unwrap();
    assert_eq!(world.asked(), 2);
}

#[test]
fn an_instances_role_gives_credentials_by_its_metadata_service() {
    let world = World::new();
    world.seal();
    let arguments = [
        "--credentials",
        world.kms.told("credentials").unwrap(),
        "--role",
        "node",
    ];
    let imds = Simulator::start("imds", arguments, &world.at("imds.log")).unwrap();
    let endpoint = imds.told("endpoint").unwrap();
    let endpoint = match endpoint.starts_with("http") {
        true => endpoint.to_owned(),
        false => format!("http://{endpoint}"),
    };
    let mut open = world.agent(&["open", "--stdout", "password"]);
    open.env_remove("AWS_EC2_METADATA_DISABLED")
        .env("AWS_EC2_METADATA_SERVICE_ENDPOINT", endpoint);
    let done = Finished::of(&mut open).unwrap();
    assert_eq!(
        (done.code, done.text().as_str()),
        (0, SECRET),
        "{}",
        done.stderr
    );
}

#[test]
fn without_credentials_the_reason_is_told_beside_the_refusal() {
    let world = World::new();
    world.seal();
    let done = Finished::of(&mut world.agent(&["open", "--stdout", "password"])).unwrap();
    assert_ne!(done.code, 0);
    assert!(
        done.stderr.starts_with("warning: no AWS credentials: "),
        "{}",
        done.stderr
    );
}

#[test]
fn the_enclave_gets_out_to_allowed_hosts_only() {
    let world = World::with_enclave(&["--kms-endpoint", "us-east-1=kms.attacker.example:443"]);
    fs::write(world.at("password"), SECRET).unwrap();
    let done = world.as_node(&["--json", "seal", "password"]);
    let report: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(
        (done.code, &report["error"]["code"]),
        (2, &"egress-refused".into()),
        "{report}"
    );
    let message = report["error"]["message"].as_str().unwrap();
    assert!(
        message.contains("kms.attacker.example:443 is not an allowed host"),
        "{message}"
    );
}

#[test]
fn nobody_asks_for_credentials_where_no_lock_needs_them() {
    let world = World::new();
    let swtpm = Swtpm::new().unwrap();
    let tpm = TpmProcess::start(&swtpm.tcti()).unwrap();
    let directory = world.at("tpm-node");
    fs::create_dir(&directory).unwrap();
    let agent = Agent::init(&directory, NODE, &tpm.address()).unwrap();
    let file = directory.join("password");
    fs::write(&file, SECRET).unwrap();
    for arguments in [
        vec!["seal", file.to_str().unwrap()],
        vec!["open", "--stdout", "password"],
    ] {
        let mut command = agent.command(arguments).unwrap();
        world.credential_process(&mut command, &[&Value::Null]);
        Finished::of(&mut command)
            .unwrap()
            .success("the command")
            .unwrap();
    }
    assert_eq!(world.asked(), 0);
}

#[test]
fn the_policy_nodeseal_wrote_is_clean_live_and_the_default_one_is_not() {
    let world = World::new();
    let admin = world.credential("user/admin", "iam", &[]);
    let release = world.at("release.toml").display().to_string();
    let live = |arguments: &[&str]| {
        let mut command = world.agent(arguments);
        set_credentials(&mut command, &admin);
        command
            .env("AWS_ENDPOINT_URL_KMS", world.kms.told("endpoint").unwrap())
            .env("SSL_CERT_FILE", world.kms.told("ca").unwrap());
        Finished::of(&mut command).unwrap()
    };
    let done = live(&["policy", "aws", "lint", &world.key]);
    assert_eq!(done.code, 0, "{}{}", done.text(), done.stderr);
    let done = live(&["policy", "aws", "diff", &release, &world.key]);
    assert_eq!(
        (done.code, done.text().as_str()),
        (0, "the same\n"),
        "{}",
        done.stderr
    );

    let default = format!(
        "{{\"Version\":\"2012-10-17\",\"Id\":\"key-default-1\",\"Statement\":[{{\"Sid\":\"Enable IAM User Permissions\",\
         \"Effect\":\"Allow\",\"Principal\":{{\"AWS\":\"arn:aws:iam::{ACCOUNT}:root\"}},\"Action\":\"kms:*\",\"Resource\":\"*\"}}]}}"
    );
    fs::write(world.at("default.json"), default).unwrap();
    let default = world.at("default.json").display().to_string();
    let (code, report) = world
        .agent
        .json(["policy", "aws", "lint", &default])
        .unwrap();
    assert_eq!((code, &report["clean"]), (1, &false.into()));
    let findings = report["findings"].as_array().unwrap();
    assert!(
        findings
            .iter()
            .any(|finding| finding["code"] == "account-root"),
        "{report}"
    );
    let done = world
        .agent
        .run(["policy", "aws", "diff", &release, &default])
        .unwrap();
    assert_eq!(done.code, 1);
    assert!(done.text().contains("+ statement"), "{}", done.text());
    let missing = world.at("missing.json").display().to_string();
    assert_eq!(
        world
            .agent
            .run(["policy", "aws", "lint", &missing])
            .unwrap()
            .code,
        2
    );
    assert_eq!(
        live(&["policy", "aws", "lint", "arn:aws:kms:us-east-1:1:key/none"]).code,
        2
    );
}

#[test]
fn evidence_is_verified_under_the_root_it_should_come_from() {
    let world = World::new();
    let root = world.at("kms/nitro-root.pem").display().to_string();
    let document = world.at("document").display().to_string();
    let attest = [
        "attest", "--root", &root, "--nonce", "00ff", "--out", &document,
    ];
    let done = world.agent.run(attest).unwrap();
    assert_eq!(done.code, 0, "{}{}", done.text(), done.stderr);
    assert!(
        done.text().starts_with("evidence: nitro-enclave\n"),
        "{}",
        done.text()
    );
    let (code, report) = world
        .agent
        .json(["verify", &document, "--root", &root])
        .unwrap();
    assert_eq!((code, &report["document"]["nonce"]), (0, &"00ff".into()));
    // The genuine root did not sign a simulator's document.
    let (code, report) = world.agent.json(["verify", &document]).unwrap();
    assert_eq!((code, &report["error"]["code"]), (3, &"attestation".into()));
    // Ten years on, its certificates are not valid any more.
    let later = [
        "verify",
        &document,
        "--root",
        &root,
        "--at",
        "2099-01-01T00:00:00Z",
    ];
    let done = world.agent.run(later).unwrap();
    assert_eq!(done.code, 3, "{}", done.text());
    // Another measurement than the expected one.
    let expected = format!(
        "[[generation]]\nname = \"x\"\nprovider = \"nitro-enclave\"\npcrs = {{ 0 = \"{}\" }}\n",
        "ab".repeat(48)
    );
    fs::write(world.at("expected.toml"), expected).unwrap();
    let expected = world.at("expected.toml").display().to_string();
    let done = world
        .agent
        .run(["verify", &document, "--root", &root, "--expect", &expected])
        .unwrap();
    assert_eq!(done.code, 3);
    assert!(
        done.text()
            .contains("FAILED the measurements are those of an allowed generation"),
        "{}",
        done.text()
    );
}

#[test]
fn genuine_documents_are_verified_at_their_own_time_by_the_command() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/fixtures/attestation");
    if !fixtures.is_dir() {
        println!("skipped: ../shared/fixtures not present");
        return;
    }
    for (name, at, status) in [
        ("enclave-2026-01-indefinite-map.cbor", None, 3),
        ("nitrotpm-2026-02.cbor", None, 3),
    ] {
        let path = fixtures.join(name);
        let mut command = Command::new(program("nodeseal").unwrap());
        command
            .arg("--json")
            .arg("verify")
            .arg(&path)
            .args(at.into_iter().flat_map(|at: &str| ["--at", at]));
        let done = Finished::of(&mut command).unwrap();
        // Today all of them have expired; everything else about them holds.
        let report: Value = serde_json::from_slice(&done.stdout).unwrap();
        assert_eq!(done.code, status, "{name}: {report}");
        let made = report["document"]["timestamp"].as_str().unwrap();
        let mut command = Command::new(program("nodeseal").unwrap());
        command.arg("verify").arg(&path).args(["--at", made]);
        let done = Finished::of(&mut command).unwrap();
        assert_eq!(done.code, 0, "{name}: {}", done.text());
    }
}
