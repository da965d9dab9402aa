//! Azure as act 3 needs it: simulated attestation service, Key Vault, Entra, and virtual machines with vTPMs.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use nodeseal_harness::{
    Agent, Context, Error, Finished, Result, Simulator, Swtpm, TpmProcess, checkout, free_ports,
    python, short_dir,
};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Host of the attestation service.
pub const ISSUER: &str = "sharedweu.weu.attest.azure.net";
/// Host of the vault.
pub const VAULT: &str = "demo.vault.azure.net";
/// Roles the machines' identity has: to read the key's public half, and to have it released.
pub const ROLES: [&str; 2] = [
    "Key Vault Crypto Service Encryption User",
    "Key Vault Crypto Service Release User",
];

/// One subscription.
pub struct Azure {
    /// Everything lies here.
    pub directory: TempDir,
    attestation: Simulator,
    vault: Option<Simulator>,
    ready: PathBuf,
}

/// A virtual machine: its TPM, nodeseal-tpm on it, and the metadata service beside it.
pub struct Vm {
    /// The software TPM behind the front.
    pub tpm: Swtpm,
    /// nodeseal-tpm.
    pub trusted: TpmProcess,
    /// Its unique id.
    pub id: String,
    _front: Simulator,
    entra: Simulator,
}

impl Azure {
    /// Starts the attestation service; the vault follows once there is a machine.
    pub fn start() -> Result<Self> {
        let directory = short_dir()?;
        let at = |name: &str| directory.path().join(name).display().to_string();
        let issuer = format!("https://{ISSUER}");
        let arguments = [
            "--state",
            &at("maa"),
            "--tls",
            &at("tls"),
            "--issuer",
            &issuer,
        ];
        let log = directory.path().join("maa.log");
        let attestation = Simulator::start("attestation", arguments, &log)?;
        Ok(Self {
            ready: directory.path().join("ready.json"),
            directory,
            attestation,
            vault: None,
        })
    }

    fn at(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// A path in the directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Boots a machine called `name` as `platform` says, with nodeseal-tpm on it.
    pub fn machine(&self, name: &str, platform: &[&str]) -> Result<Vm> {
        let tpm = Swtpm::distinct()?;
        let (address, port) = (format!("127.0.0.1:{}", tpm.port()), free_ports(2)?);
        let (state, root, port) = (self.at(name), self.at("maa"), port.to_string());
        let mut arguments = vec![
            "--state", &state, "--root", &root, "--tpm", &address, "--port", &port,
        ];
        arguments.extend(platform);
        let log = self.path(&format!("{name}.log"));
        let front = Simulator::start("azure-vtpm", arguments, &log)?;
        let (entra_state, tls) = (self.at("entra"), self.at("tls"));
        let arguments = [
            "--state",
            &entra_state,
            "--tls",
            &tls,
            "--amd-certification",
            front.told("amd_certification")?,
        ];
        let log = self.path(&format!("{name}-entra.log"));
        let entra = Simulator::start("entra", arguments, &log)?;
        let ca = self.attestation.told("ca")?;
        let more = format!(
            "[azure]\nallowed_keys = [\"https://{VAULT}/keys/node\"]\nroots = {ca:?}\n\
             [azure.release]\nattestation_services = [\"https://{ISSUER}\"]\nsigner_roots = {ca:?}\nevent_log = {:?}\n",
            front.told("event_log")?
        );
        let mut trusted = TpmProcess::configured(front.told("tcti")?, &more)?;
        trusted.enroll()?.success("nodeseal-tpm enroll")?;
        trusted.serve()?;
        Ok(Vm {
            id: front.told("vm_id")?.to_owned(),
            tpm,
            trusted,
            _front: front,
            entra,
        })
    }

    /// Starts the vault, whose officer is an application and whose user is the machines' identity.
    pub fn open_vault(&mut self, vm: &Vm) -> Result<()> {
        let officer = format!("{}=Key Vault Crypto Officer", principal(vm, "apps")?);
        let users = ROLES.map(|role| match principal(vm, "managed") {
            Ok(id) => format!("{id}={role}"),
            Err(error) => error.to_string(),
        });
        let connect = format!("{ISSUER}={}", self.attestation.told("address")?);
        let (state, tls, entra) = (self.at("vault"), self.at("tls"), self.at("entra"));
        let [reads, releases] = &users;
        let arguments = [
            "--state",
            &state,
            "--tls",
            &tls,
            "--entra",
            &entra,
            "--name",
            "demo",
            "--connect",
            &connect,
            "--assign",
            &officer,
            "--assign",
            reads,
            "--assign",
            releases,
            // The demo has no time to be throttled.
            "--limit",
            "1000",
        ];
        let log = self.path("vault.log");
        let vault = Simulator::start("key-vault", arguments, &log)?;
        let ready = json!({
            "vault": vault.ready(),
            "attestation": self.attestation.ready(),
            "entra": vm.entra.ready(),
        });
        fs::write(&self.ready, ready.to_string()).context(self.ready.display())?;
        self.vault = Some(vault);
        Ok(())
    }

    /// Runs tests/python/vault_key.py (azure-keyvault-keys); what it printed.
    pub fn administrate(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(python()?);
        command
            .arg(checkout().join("tests/python/vault_key.py"))
            .arg(&self.ready)
            .args(arguments);
        let done = Finished::of(&mut command)?.success("vault_key.py")?;
        Ok(done.text().trim().to_owned())
    }

    /// The node's agent on `vm`, in a directory called `name`.
    pub fn agent(&self, vm: &Vm, name: &str, node: &str, more: &str) -> Result<Agent> {
        let directory = self.path(name);
        std::fs::create_dir_all(&directory).context(directory.display())?;
        let mut agent = Agent::init(&directory, node, &vm.trusted.address())?;
        agent.replace(
            "locks = [{ kind = \"tpm\" }]",
            &format!(
                "locks = [{{ kind = \"azure-release\", key = \"https://{VAULT}/keys/node\", attestation = \
                 \"https://{ISSUER}\" }}, {{ kind = \"tpm\" }}]"
            ),
        )?;
        let (vault, imds) = (self.told_by_vault("address")?, vm.entra.told("imds")?);
        // A top-level field stands before the first table.
        agent.replace(
            "keys = \"keys\"",
            &format!(
                "keys = \"keys\"\namd_certification = \"{imds}/metadata/THIM/amd/certification\""
            ),
        )?;
        agent.configure(&format!(
            "{more}\n[[azure]]\nidentity = \"managed\"\n[egress]\ndirectory = {:?}\n[egress.addresses]\n\
             \"{VAULT}:443\" = {vault:?}\n\"{ISSUER}:443\" = {:?}\n",
            self.directory.path(),
            self.attestation.told("address")?
        ))?;
        agent.set_environment(vec![
            (
                "IDENTITY_ENDPOINT".to_owned(),
                vm.entra.told("identity_endpoint")?.to_owned(),
            ),
            (
                "IDENTITY_HEADER".to_owned(),
                vm.entra.told("identity_header")?.to_owned(),
            ),
        ]);
        Ok(agent)
    }

    /// Every request the vault has answered, as AuditEvent records have it.
    pub fn audit(&self) -> Result<Vec<Value>> {
        let path = self.told_by_vault("audit")?;
        let text = std::fs::read_to_string(path).context(path)?;
        let record = |line: &str| {
            serde_json::from_str(line).map_err(|error| Error::new(format!("{path}: {error}")))
        };
        text.lines().map(record).collect()
    }

    fn told_by_vault(&self, what: &str) -> Result<&str> {
        let vault = self.vault.as_ref();
        vault.ok_or_else(|| Error::new("no vault"))?.told(what)
    }
}

/// Object id of the first of these identities.
pub fn principal(vm: &Vm, kind: &str) -> Result<String> {
    let ready = vm.entra.ready();
    let id = ready.pointer(&format!("/identities/{kind}/0/object_id"));
    let id = id.and_then(Value::as_str).map(str::to_owned);
    id.ok_or_else(|| Error::new(format!("no {kind} in {ready}")))
}
