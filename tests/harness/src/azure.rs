//! Azure for tests and the demo: a simulated attestation service, Key Vault and Entra, and virtual machines with vTPMs.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    Agent, AzureVm, Context, Error, Finished, Result, Simulator, Swtpm, TpmProcess, VmOptions,
    checkout, free_ports, python, short_dir,
};

/// Host of the attestation service.
const ISSUER: &str = "sharedweu.weu.attest.azure.net";
/// Host of the vault.
const VAULT: &str = "demo.vault.azure.net";

/// One subscription.
///
/// Entra knows three applications (a secret, a certificate, a federated credential) and three managed identities (the
/// system-assigned, two user-assigned), all with the same state for every machine.
pub struct Azure {
    /// Everything lies here.
    pub directory: TempDir,
    attestation: Simulator,
    vault: Option<Simulator>,
}

impl Azure {
    /// The node that keys are sealed for.
    pub const NODE: &str = "validator-1";
    /// Host of the attestation service.
    pub const ISSUER: &str = ISSUER;
    /// Host of the vault.
    pub const VAULT: &str = VAULT;
    /// The key in the vault.
    pub const KEY: &str = "https://demo.vault.azure.net/keys/node";
    /// Roles a node's identity has: to read the key's public half and unwrap, and to have it released.
    pub const ROLES: [&str; 2] = [
        "Key Vault Crypto Service Encryption User",
        "Key Vault Crypto Service Release User",
    ];

    /// Starts the attestation service; the vault follows once there is a machine.
    ///
    /// # Errors
    /// When something of it does not start.
    pub fn start() -> Result<Self> {
        let directory = short_dir()?;
        let at = |name: &str| directory.path().join(name).display().to_string();
        let mut registration = Command::new(python()?);
        registration
            .arg(checkout().join("tests/python/azure_vault.py"))
            .arg("registration")
            .arg(directory.path());
        Finished::of(&mut registration)?.success("azure_vault.py")?;
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
            directory,
            attestation,
            vault: None,
        })
    }

    /// A path in the directory.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn at(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// The attestation service.
    #[must_use]
    pub fn attestation(&self) -> &Simulator {
        &self.attestation
    }

    /// The vault, once it is open.
    ///
    /// # Errors
    /// When it is not.
    pub fn vault(&self) -> Result<&Simulator> {
        self.vault.as_ref().ok_or_else(|| Error::new("no vault"))
    }

    /// Boots a machine called `name`.
    ///
    /// # Errors
    /// When something of it does not start.
    pub fn machine(&self, name: &str, options: VmOptions<'_>) -> Result<AzureVm> {
        let tpm = Swtpm::distinct()?;
        let front = self.front(name, &tpm, free_ports(2)?, options.platform)?;
        let entra = self.entra(name, front.told("amd_certification")?, options.entra)?;
        Ok(AzureVm {
            name: name.to_owned(),
            tpm,
            front,
            entra,
        })
    }

    /// Boots a machine again, with another `platform` maybe: its TPM is reset, and keeps its address.
    ///
    /// # Errors
    /// When it does not start.
    pub fn reboot(&self, vm: &mut AzureVm, platform: &[&str]) -> Result<()> {
        let port = vm.front.ready().get("port").and_then(Value::as_u64);
        let port = port.and_then(|port| u16::try_from(port).ok());
        let port = port.ok_or_else(|| Error::new("the vTPM has no port"))?;
        vm.front.running.kill();
        vm.tpm.reboot()?;
        vm.front = self.front(&vm.name, &vm.tpm, port, platform)?;
        Ok(())
    }

    fn front(&self, name: &str, tpm: &Swtpm, port: u16, platform: &[&str]) -> Result<Simulator> {
        let (address, port) = (format!("127.0.0.1:{}", tpm.port()), port.to_string());
        let (state, root) = (self.at(name), self.at("maa"));
        let mut arguments = vec![
            "--state", &state, "--root", &root, "--tpm", &address, "--port", &port,
        ];
        arguments.extend(platform);
        let log = self.path(&format!("{name}.log"));
        Simulator::start("azure-vtpm", arguments, &log)
    }

    /// Starts Entra with the metadata service of a machine called `name`.
    ///
    /// # Errors
    /// When it does not start.
    pub fn entra(&self, name: &str, certification: &str, more: &[&str]) -> Result<Simulator> {
        let (state, tls) = (self.at("entra"), self.at("tls"));
        let identities = self.at("identities.json");
        let mut arguments = vec![
            "--state",
            &state,
            "--tls",
            &tls,
            "--identities",
            &identities,
            "--amd-certification",
            certification,
        ];
        arguments.extend(more);
        let log = self.path(&format!("{name}-entra.log"));
        Simulator::start("entra", arguments, &log)
    }

    /// nodeseal-tpm on `vm`, enrolled and serving; `more` lines of TOML are about releases.
    ///
    /// # Errors
    /// When it does not start.
    pub fn trusted_side(&self, vm: &AzureVm, more: &str) -> Result<TpmProcess> {
        let ca = self.attestation.told("ca")?;
        let more = format!(
            "[azure]\nallowed_keys = [\"{}\"]\nroots = {ca:?}\n\
             [azure.release]\nattestation_services = [\"https://{ISSUER}\"]\nsigner_roots = {ca:?}\nevent_log = {:?}\n\
             {more}",
            Self::KEY,
            vm.front.told("event_log")?
        );
        let mut trusted = TpmProcess::configured(vm.front.told("tcti")?, &more)?;
        trusted.enroll()?.success("nodeseal-tpm enroll")?;
        trusted.serve()?;
        Ok(trusted)
    }

    /// Starts the vault, whose officer is the application with the secret, and whose user is the machines'
    /// system-assigned identity; it takes 1000 releases in 10 s unless `more` says otherwise.
    ///
    /// # Errors
    /// When it does not start.
    pub fn open_vault(&mut self, vm: &AzureVm, more: &[&str]) -> Result<()> {
        let officer = format!("{}=Key Vault Crypto Officer", vm.principal("apps", 0)?);
        let user = vm.principal("managed", 0)?;
        let [reads, releases] = Self::ROLES.map(|role| format!("{user}={role}"));
        let connect = format!("{ISSUER}={}", self.attestation.told("address")?);
        let (state, tls, entra) = (self.at("vault"), self.at("tls"), self.at("entra"));
        let mut arguments = vec![
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
        ];
        for role in [&officer, &reads, &releases] {
            arguments.extend(["--assign", role]);
        }
        if !more.contains(&"--limit") {
            arguments.extend(["--limit", "1000"]);
        }
        arguments.extend(more);
        let vault = Simulator::start("key-vault", arguments, &self.path("vault.log"))?;
        let ready = json!({
            "vault": vault.ready(),
            "attestation": self.attestation.ready(),
            "entra": vm.entra.ready(),
        });
        let path = self.path("ready.json");
        fs::write(&path, ready.to_string()).context(path.display())?;
        self.vault = Some(vault);
        Ok(())
    }

    /// Writes release-policy.json by `nodeseal policy azure show`: machines of this `kind` (as docs/policy.md has it)
    /// with these ids; its path.
    ///
    /// # Errors
    /// When nodeseal refuses it.
    pub fn write_policy(&self, kind: &str, ids: &[&str]) -> Result<PathBuf> {
        let release = self.path("release.toml");
        let text = format!(
            "version = 1\n[azure]\nattestation = [\"https://{ISSUER}\"]\n\
             [[azure.machine]]\nname = \"validators\"\nkind = {kind:?}\nvm_ids = {ids:?}\n"
        );
        fs::write(&release, text).context(release.display())?;
        let mut show = Agent::bare()?;
        show.args(["policy", "azure", "show"]).arg(&release);
        let shown = Finished::of(&mut show)?.success("nodeseal policy azure show")?;
        let policy = self.path("release-policy.json");
        fs::write(&policy, shown.stdout).context(policy.display())?;
        Ok(policy)
    }

    /// Makes [`Azure::KEY`], released to machines of this `kind` with these ids; the version.
    ///
    /// # Errors
    /// When that fails.
    pub fn create_key(&self, kind: &str, ids: &[&str]) -> Result<String> {
        let policy = self.write_policy(kind, ids)?;
        self.administrate(&["create", "node", &policy.display().to_string()])
    }

    /// Runs tests/python/vault_key.py (azure-keyvault-keys); what it printed.
    ///
    /// # Errors
    /// When it fails, with what it said.
    pub fn administrate(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(python()?);
        command
            .arg(checkout().join("tests/python/vault_key.py"))
            .arg(self.path("ready.json"))
            .args(arguments);
        let done = Finished::of(&mut command)?.success("vault_key.py")?;
        Ok(done.text().trim().to_owned())
    }

    /// The agent of [`Azure::NODE`] on `vm`, in a directory called `name`. Its way has the locks in `locks` (TOML), and
    /// `more` is added to its configuration, `[[azure]]` for instance.
    ///
    /// # Errors
    /// When it cannot be configured.
    pub fn agent(
        &self,
        vm: &AzureVm,
        trusted: &TpmProcess,
        name: &str,
        locks: &str,
        more: &str,
    ) -> Result<Agent> {
        let directory = self.path(name);
        fs::create_dir_all(&directory).context(directory.display())?;
        let mut agent = Agent::init(&directory, Self::NODE, &trusted.address())?;
        agent.replace(
            "locks = [{ kind = \"tpm\" }]",
            &format!("locks = [{locks}]"),
        )?;
        // A top-level field stands before the first table.
        agent.replace(
            "keys = \"keys\"",
            &format!(
                "keys = \"keys\"\namd_certification = \"{}/metadata/THIM/amd/certification\"",
                vm.entra.told("imds")?
            ),
        )?;
        agent.configure(&format!("{more}\n{}", self.egress()?))?;
        agent.set_environment(vm.environment()?);
        Ok(agent)
    }

    /// The agent's settings that lead to these services instead of Azure's.
    ///
    /// # Errors
    /// When there is no vault.
    pub fn egress(&self) -> Result<String> {
        Ok(format!(
            "[egress]\ndirectory = {:?}\n[egress.addresses]\n\"{VAULT}:443\" = {:?}\n\"{ISSUER}:443\" = {:?}\n",
            self.directory.path(),
            self.vault()?.told("address")?,
            self.attestation.told("address")?
        ))
    }

    /// Every request the vault has answered, as AuditEvent records have it.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn audit(&self) -> Result<Vec<Value>> {
        let path = self.vault()?.told("audit")?;
        let text = fs::read_to_string(path).context(path)?;
        let record = |line: &str| {
            serde_json::from_str(line).map_err(|error| Error::new(format!("{path}: {error}")))
        };
        text.lines().map(record).collect()
    }
}

/// Locks of a way: the key released, beside the TPM.
#[must_use]
pub fn release_and_tpm() -> String {
    format!("{}, {{ kind = \"tpm\" }}", release())
}

/// The lock that needs the key released.
#[must_use]
pub fn release() -> String {
    format!(
        "{{ kind = \"azure-release\", key = \"{}\", attestation = \"https://{ISSUER}\" }}",
        Azure::KEY
    )
}
