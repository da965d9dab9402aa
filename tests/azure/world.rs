//! A virtual machine with nodeseal-tpm, a vault with one key, and agents of the node.

use std::fs;
use std::process::Command;

use nodeseal_harness::{Agent, Azure, AzureVm, Finished, TpmProcess, VmOptions};
use serde_json::Value;

/// What the node's key is.
pub const SECRET: &str = "the keystore's password";
/// A way that needs the vault to unwrap for an identity: it is asked at every opening.
pub const UNWRAP: &str = "{ kind = \"azure-unwrap\", key = \"https://demo.vault.azure.net/keys/node\" }, { kind = \"tpm\" }";

/// Everything there is.
pub struct World {
    pub azure: Azure,
    pub vm: AzureVm,
    pub trusted: TpmProcess,
    /// Version of the key.
    pub version: String,
}

/// A command that was refused.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused {
    pub exit: i32,
    pub code: String,
    pub message: String,
    /// What was warned of before, a line each.
    pub warnings: String,
}

impl World {
    /// A confidential VM.
    pub fn new() -> Self {
        Self::of("confidential-vm", VmOptions::default(), "")
    }

    /// A machine of this kind, with these lines of `[azure.release]`.
    pub fn of(kind: &str, options: VmOptions<'_>, release: &str) -> Self {
        let mut azure = Azure::start().unwrap();
        let vm = azure.machine("vm", options).unwrap();
        azure.open_vault(&vm, &[]).unwrap();
        let version = azure.create_key(kind, &[vm.id().unwrap()]).unwrap();
        let trusted = azure.trusted_side(&vm, release).unwrap();
        Self {
            azure,
            vm,
            trusted,
            version,
        }
    }

    /// The agent in the directory `name`, with the sealed password if there is one, asking as `identity`: lines of
    /// `[[azure]]`, or nothing.
    pub fn agent(&self, name: &str, locks: &str, identity: &str) -> Agent {
        let more = format!("[[key]]\nname = \"password\"\n{identity}");
        let agent = self
            .azure
            .agent(&self.vm, &self.trusted, name, locks, &more);
        let agent = agent.unwrap();
        let sealed = self.azure.path("password.sealed");
        if sealed.exists() {
            fs::create_dir_all(agent.directory().join("keys")).unwrap();
            fs::copy(sealed, agent.blob("password")).unwrap();
        }
        agent
    }

    /// Seals the password; every agent made later has it.
    pub fn seal(&self, agent: &Agent) {
        seal(agent, "password", SECRET);
        fs::copy(agent.blob("password"), self.azure.path("password.sealed")).unwrap();
    }

    /// Gives an identity the role to read and unwrap.
    pub fn assign(&self, kind: &str, number: usize) {
        let principal = self.vm.principal(kind, number).unwrap();
        let [unwraps, _] = Azure::ROLES;
        self.azure
            .administrate(&["assign", &principal, unwraps])
            .unwrap();
    }

    /// Opening the password with `prepare`d surroundings is refused.
    pub fn refused_with(&self, agent: &Agent, prepare: impl FnOnce(&mut Command)) -> Refused {
        let mut command = agent
            .command(["--json", "open", "--check", "password"])
            .unwrap();
        prepare(&mut command);
        let done = Finished::of(&mut command).unwrap();
        let report: Value =
            serde_json::from_slice(&done.stdout).unwrap_or_else(|_| panic!("{done:?}"));
        let text = |name: &str| self.masked(report["error"][name].as_str().unwrap_or_default());
        Refused {
            exit: done.code,
            code: text("code"),
            message: text("message")
                .replace(&format!("{}: ", agent.blob("password").display()), ""),
            warnings: self.masked(done.stderr.trim_end()),
        }
    }

    /// Opening the password is refused.
    pub fn refused(&self, agent: &Agent) -> Refused {
        self.refused_with(agent, |_| ())
    }

    /// Without what is other each time: ids, moments, the version of the key, the directory.
    fn masked(&self, text: &str) -> String {
        let mut masked = text.replace(&self.version, "VERSION");
        for word in text.split(|c: char| c.is_whitespace() || ",;='()\\".contains(c)) {
            let word = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
            let id = word.len() == 36 && word.matches('-').count() == 4;
            let moment = word.len() >= 20 && word.ends_with('Z') && word.starts_with("20");
            if id || moment {
                masked = masked.replace(word, "…");
            }
        }
        masked
    }

    /// Object id of whom the vault last unwrapped for.
    pub fn unwrapped_for(&self) -> String {
        let records = self.azure.audit().unwrap();
        let unwrapped = |record: &&Value| {
            record["operationName"] == "KeyUnwrap" && record["properties"]["httpStatusCode"] == 200
        };
        let last = records.iter().rev().find(unwrapped).unwrap();
        last["identity"]["claim"]["oid"]
            .as_str()
            .unwrap()
            .to_owned()
    }
}

/// Seals `content` as the key `name`, under a data key of its own.
pub fn seal(agent: &Agent, name: &str, content: &str) {
    let file = agent.directory().join(name);
    fs::write(&file, content).unwrap();
    let file = file.to_str().unwrap();
    agent
        .run(["seal", "--shred", file])
        .unwrap()
        .success("seal")
        .unwrap();
}

/// The command that opens the password.
pub fn open(agent: &Agent) -> Command {
    agent.command(["open", "--stdout", "password"]).unwrap()
}

/// Runs it; it must print the password.
pub fn opens(command: &mut Command) {
    let done = Finished::of(command).unwrap();
    let found = (done.code, done.text(), done.stderr.as_str());
    assert_eq!(found, (0, SECRET.to_owned(), ""));
}
