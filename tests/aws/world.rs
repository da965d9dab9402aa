//! An enclave, a KMS with one key whose policy nodeseal wrote for that enclave, and the agent of a node beside it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use nodeseal_harness::{Agent, Cloud, Finished, Simulator};
use serde_json::Value;

/// What the node's key is.
pub const SECRET: &str = "the keystore's password";

/// Everything there is.
pub struct World {
    pub cloud: Cloud,
    enclave: Simulator,
    pub agent: Agent,
    /// ARN of the KMS key.
    pub key: String,
}

impl World {
    pub fn new() -> Self {
        Self::with_enclave(&["--deadline=60", "--attempt=30"])
    }

    /// With the password sealed.
    pub fn sealed() -> Self {
        let world = Self::new();
        world.seal();
        world
    }

    /// The enclave has these arguments besides its own.
    pub fn with_enclave(more: &[&str]) -> Self {
        let cloud = Cloud::start().unwrap();
        let enclave = cloud.enclave("enclave", more).unwrap();
        let policy = cloud.write_policy("key", enclave.pcr0().unwrap()).unwrap();
        let key = cloud.kms.create_key(&policy).unwrap();
        let agent = cloud.agent("enclave", &key).unwrap();
        agent.replace("label = \"tpm\"", "label = \"kms\"").unwrap();
        Self {
            cloud,
            enclave,
            agent,
            key,
        }
    }

    /// PCR0 of the enclave, in hexadecimal.
    pub fn pcr0(&self) -> String {
        self.enclave.pcr0().unwrap().to_owned()
    }

    /// A path in the node's directory.
    pub fn at(&self, name: &str) -> PathBuf {
        self.agent.directory().join(name)
    }

    /// The agent with nothing of AWS in its environment but what is added.
    pub fn agent(&self, arguments: &[&str]) -> Command {
        let mut command = self.agent.command(arguments).unwrap();
        command.current_dir(self.agent.directory());
        for name in [
            "AWS_ACCESS_KEY_ID",
            "AWS_SECRET_ACCESS_KEY",
            "AWS_SESSION_TOKEN",
            "AWS_PROFILE",
        ] {
            command.env_remove(name);
        }
        command
            .env("HOME", self.agent.directory())
            .env("AWS_EC2_METADATA_DISABLED", "true");
        command
    }

    /// The agent as the node's role.
    pub fn as_node(&self, arguments: &[&str]) -> Finished {
        let mut command = self.agent(arguments);
        command.envs(self.cloud.instance.iter().cloned());
        Finished::of(&mut command).unwrap()
    }

    /// The agent as the node's role, with `--json`: exit code and document.
    pub fn json_as_node(&self, arguments: &[&str]) -> (i32, Value) {
        let done = self.as_node(&[&["--json"], arguments].concat());
        let document = serde_json::from_slice(&done.stdout);
        (done.code, document.unwrap_or_else(|_| panic!("{done:?}")))
    }

    /// Seals the password.
    pub fn seal(&self) {
        fs::write(self.at("password"), SECRET).unwrap();
        self.agent
            .configure("[[key]]\nname = \"password\"")
            .unwrap();
        self.as_node(&["seal", "password"]).success("seal").unwrap();
    }

    /// Opens the password with the credentials that `give` gives the command; it must succeed.
    pub fn opens(&self, give: impl FnOnce(&mut Command)) {
        let mut open = self.agent(&["open", "--stdout", "password"]);
        give(&mut open);
        let done = Finished::of(&mut open).unwrap();
        let found = (done.code, done.text());
        assert_eq!(found, (0, SECRET.to_owned()), "{}", done.stderr);
    }

    /// A credential process that prints the first of `answers`, then the next, the last for ever after, each time
    /// leaving a line in the file `asked`.
    pub fn credential_process(&self, command: &mut Command, answers: &[&Value]) {
        for (number, answer) in answers.iter().enumerate() {
            let path = self.at(&format!("answer-{}", number + 1));
            fs::write(path, answer.to_string()).unwrap();
        }
        let script = format!(
            "#!/bin/sh\ncd {}\necho asked >> asked\nn=$(wc -l < asked)\ntest $n -gt {max} && n={max}\ncat answer-$n\n",
            self.agent.directory().display(),
            max = answers.len(),
        );
        let path = self.at("credentials.sh");
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let profile = format!("[default]\ncredential_process = {}\n", path.display());
        fs::write(self.at("aws-config"), profile).unwrap();
        command.env("AWS_CONFIG_FILE", self.at("aws-config"));
    }

    /// How often the credential process was asked.
    pub fn asked(&self) -> usize {
        let asked = fs::read_to_string(self.at("asked")).unwrap_or_default();
        asked.lines().count()
    }

    /// The last record of the audit log, which is whole.
    pub fn last_record(&self) -> Value {
        let verified = self.agent.run(["audit", "verify"]).unwrap();
        verified.success("audit verify").unwrap();
        let log = fs::read_to_string(self.at("audit.jsonl")).unwrap();
        serde_json::from_str(log.lines().last().unwrap()).unwrap()
    }
}

/// A credential of the instance that has expired and one that has not, neither of which says so: nobody can know before
/// KMS does.
pub fn expired_and_not(world: &World) -> (Value, Value) {
    let timeless = |seconds| {
        let mut credential = world.cloud.session(seconds).unwrap();
        credential.as_object_mut().unwrap().remove("Expiration");
        credential
    };
    (timeless(0), timeless(3600))
}
