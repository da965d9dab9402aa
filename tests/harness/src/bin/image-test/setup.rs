//! KMS, a key, the image that may use it, and the first boot.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nodeseal_harness::{
    Agent, Cloud, Context, EnclaveMachine, Error, Finished, MachineOptions, MachineTools, Result,
    Table, system_program,
};
use serde_json::Value;

use crate::images::{Image, Images};

/// Memory of the machines in mebibytes.
pub const MEMORY: u32 = 64;
/// Largest image, in bytes.
const MAX_IMAGE: u64 = 8 << 20;
/// Role of the parent instance.
const PARENT_ROLE: &str = "arn:aws:iam::111122223333:role/validator";
/// Id of the parent instance.
const PARENT_ID: &str = "i-0123456789abcdef0";
/// What the agent is told of the node's key.
const NODE_KEY: &str =
    "[[key]]\nname = \"nodekey\"\ntype = \"secp256k1\"\nencoding = \"hex\"\ndeliver = \"memfd\"\n";

/// A byte of the configuration that nothing ever reads.
pub const MARK: char = '0';

/// Everything the steps need.
pub struct World {
    /// KMS and people.
    pub cloud: Cloud,
    /// ARN of the KMS key.
    pub key: String,
    /// QEMU and its vsock.
    pub tools: MachineTools,
    /// What images are made of.
    pub images: Images,
    /// The one the key's policy names.
    pub genuine: Image,
    /// The enclave it runs in.
    pub machine: Option<EnclaveMachine>,
    /// The node's agent.
    pub agent: Agent,
}

/// The parent instance the key's policy names.
pub fn parent() -> MachineOptions {
    MachineOptions {
        memory_mib: MEMORY,
        parent_role: Some(PARENT_ROLE.to_owned()),
        parent_id: Some(PARENT_ID.to_owned()),
    }
}

impl World {
    /// Directory of the configuration that is in the genuine image.
    pub fn config(&self) -> PathBuf {
        self.cloud.path("enclave-config")
    }

    /// An agent of the node on another machine, with the blob of the node's key.
    pub fn agent_on(&self, name: &str, machine: &EnclaveMachine) -> Result<Agent> {
        let agent = configured(
            &self.cloud,
            Cloud::NODE,
            name,
            &machine.address(),
            &self.key,
        )?;
        let blob = agent.blob("nodekey");
        let keys = blob.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(keys).context(keys.display())?;
        fs::copy(self.agent.blob("nodekey"), &blob).context(blob.display())?;
        Ok(agent)
    }

    /// Boots the genuine image anew and points the agent to it.
    pub fn reboot(&mut self) -> Result<()> {
        let old = self
            .machine
            .take()
            .ok_or_else(|| Error::new("no machine"))?;
        let address = old.address();
        old.kill();
        let machine = EnclaveMachine::ready(&self.tools, &self.genuine.path, &parent())?;
        self.agent.replace(&address, &machine.address())?;
        self.machine = Some(machine);
        Ok(())
    }

    /// An error, and what the machine has written to its console.
    pub fn with_console(&self, error: &Error) -> Error {
        let console = self.machine.as_ref().map(EnclaveMachine::console);
        let console = console.unwrap_or_default();
        Error::new(format!("{error}\nconsole of the enclave:\n{console}"))
    }

    /// The running machine.
    pub fn machine(&self) -> Result<&EnclaveMachine> {
        self.machine
            .as_ref()
            .ok_or_else(|| Error::new("no machine"))
    }
}

/// Sets everything up.
pub fn play(table: &mut Table) -> Result<World> {
    let tools = table.step("QEMU with nitro-enclave, vhost-device-vsock", || {
        Ok((MachineTools::find()?, "found".to_owned()))
    })?;
    let cloud = table.step("AWS KMS, simulated, takes the emulator's documents", || {
        let cloud = Cloud::start_with(&["--accept-unsigned-emulator-documents"])?;
        Ok((cloud, "verifies SigV4, PCRs and policies".to_owned()))
    })?;
    let images = Images::find(cloud.directory.path())?;
    let released = Images::released();
    table.step("nodeseal-image measure, of what make image built", || {
        let found = released.measured()?;
        if found.pointer("/Measurements/PCR0").and_then(Value::as_str) != Some(&released.pcr(0)?) {
            return Err(Error::new(format!("not what the build printed: {found}")));
        }
        Ok(((), format!("PCR0 {:.16}…", released.pcr(0)?)))
    })?;
    let key = table.step(
        "a key, its policy on the measurements by policy aws show",
        || {
            let key = cloud
                .kms
                .create_key(&policy(&cloud, "released", &released)?)?;
            Ok((key.clone(), key))
        },
    )?;
    let config = cloud.path("enclave-config");
    let genuine = table.step("an image for that key: config measured as PCR2", || {
        configuration(&cloud, &config, &key)?;
        let image = images.build("genuine", &config, &[])?;
        let bytes = image.bytes()?;
        if image.pcr(1)? != released.pcr(1)? || image.pcr(2)? == released.pcr(2)? {
            return Err(Error::new("PCR1 differs, or PCR2 does not"));
        }
        if bytes > MAX_IMAGE {
            return Err(Error::new(format!("{bytes} bytes, at most {MAX_IMAGE}")));
        }
        let path = policy(&cloud, "genuine", &image)?.display().to_string();
        cloud.kms.administrate(&["put-policy", &key, &path])?;
        Ok((image, format!("{bytes} bytes")))
    })?;
    let machine = table.step(&format!("booted with {MEMORY} MiB"), || {
        let mut machine = EnclaveMachine::boot(&tools, &genuine.path, &parent())?;
        let first = machine.first_answer()?;
        Ok((
            machine,
            format!("first answer after {} ms", first.as_millis()),
        ))
    })?;
    let agent = configured(&cloud, Cloud::NODE, "node", &machine.address(), &key)?;
    table.step(
        "the guest's NSM has the PCRs computed from the file",
        || same_pcrs(&agent, &genuine, &[0, 1, 2]),
    )?;
    table.step("a signed image has the PCR8 of its certificate", || {
        signed(&cloud, &tools, &images, &config, &key)
    })?;
    Ok(World {
        cloud,
        key,
        tools,
        images,
        genuine,
        machine: Some(machine),
        agent,
    })
}

/// The configuration that goes into the image: this key, by this KMS's authority.
fn configuration(cloud: &Cloud, directory: &Path, key: &str) -> Result<()> {
    fs::create_dir_all(directory).context(directory.display())?;
    let roots = directory.join("kms-ca.pem");
    fs::write(&roots, cloud.kms.authority_pem()?).context(roots.display())?;
    // 2 is the host of a virtual machine; the parent of a Nitro Enclave is 3.
    let text = format!(
        "# {MARK}\nparent_cid = 2\n\n[log]\nlevel = \"debug\"\n\n\
         [aws_kms]\nallowed_keys = [{key:?}]\nroots = \"kms-ca.pem\"\n"
    );
    let file = directory.join("nodeseal-enclave.toml");
    fs::write(&file, text).context(file.display())
}

/// The key policy for an image on the genuine parent, as `nodeseal policy aws show` writes it; lint finds nothing.
fn policy(cloud: &Cloud, name: &str, image: &Image) -> Result<PathBuf> {
    let release = cloud.write_release(name, "")?;
    let mut show = Agent::bare()?;
    show.args(["policy", "aws", "show"]).arg(&release);
    show.arg("--measurements").arg(&image.measurements);
    show.args(["--parent-role", PARENT_ROLE, "--parent-id", PARENT_ID]);
    let shown = Finished::of(&mut show)?.success("nodeseal policy aws show")?;
    let path = cloud.path(&format!("{name}-policy.json"));
    fs::write(&path, shown.stdout).context(path.display())?;
    let mut lint = Agent::bare()?;
    lint.args(["policy", "aws", "lint"]).arg(&path);
    Finished::of(&mut lint)?.success("nodeseal policy aws lint")?;
    Ok(path)
}

/// The agent of node `node` in the directory `name`, on the enclave at `address`; it seals under `key`, attested.
pub fn configured(
    cloud: &Cloud,
    node: &str,
    name: &str,
    address: &str,
    key: &str,
) -> Result<Agent> {
    let directory = cloud.path(name);
    fs::create_dir_all(&directory).context(directory.display())?;
    let mut agent = Agent::init(&directory, node, address)?;
    agent.replace(
        "locks = [{ kind = \"tpm\" }]",
        &format!("locks = [{{ kind = \"aws-kms\", key = {key:?}, attested = true }}]"),
    )?;
    agent.configure(&format!("{NODE_KEY}\n{}", cloud.egress(&[&cloud.kms])?))?;
    agent.set_environment(cloud.instance.clone());
    Ok(agent)
}

/// Compares what the guest's NSM reports with what was computed from the file.
fn same_pcrs(agent: &Agent, image: &Image, indices: &[u8]) -> Result<((), String)> {
    let (_, report) = agent.json(["status"])?;
    for index in indices {
        let found = report.pointer(&format!("/facts/pcr{index}"));
        let expected = image.pcr(*index)?;
        if found.and_then(Value::as_str) != Some(&expected) {
            return Err(Error::new(format!(
                "PCR{index}: expected {expected}, the guest says: {report:#}"
            )));
        }
    }
    Ok(((), format!("PCR {indices:?}")))
}

/// Key and certificate by openssl, as AWS's guide to signed images makes them.
fn signed(
    cloud: &Cloud,
    tools: &MachineTools,
    images: &Images,
    config: &Path,
    key: &str,
) -> Result<((), String)> {
    let (signing_key, certificate) = (cloud.path("signing.key"), cloud.path("signing.pem"));
    let mut openssl = Command::new(system_program("openssl")?);
    openssl
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-384",
            "-nodes",
        ])
        .args(["-days", "1", "-subj", "/CN=nodeseal"])
        .arg("-keyout")
        .arg(&signing_key)
        .arg("-out")
        .arg(&certificate);
    Finished::of(&mut openssl)?.success("openssl req")?;
    let (signing_key, certificate) = (
        signing_key.display().to_string(),
        certificate.display().to_string(),
    );
    let more = [
        "--signing-key",
        &signing_key,
        "--signing-certificate",
        &certificate,
    ];
    let image = images.build("signed", config, &more)?;
    let machine = EnclaveMachine::ready(tools, &image.path, &parent())?;
    let agent = configured(cloud, Cloud::NODE, "signed-node", &machine.address(), key)?;
    same_pcrs(&agent, &image, &[0, 1, 2, 8])
}
