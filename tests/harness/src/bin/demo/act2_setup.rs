//! A KMS key whose policy names an enclave's measurements; a node key made and keystores sealed under it.

use nodeseal_harness::{Agent, Context, Error, Finished, Result, Simulator, keystores};
use serde_json::Value;

use crate::act1_setup::{NODE_KEY, generate, seal};
use crate::act1_start::Start;
use crate::cloud::{ADMINISTRATOR, Cloud, RUNTIME, write};
use crate::table::Table;

/// The node's id.
pub const NODE: &str = "validator-1";

/// What the refusals need.
pub struct Enclaved {
    /// KMS and people.
    pub cloud: Cloud,
    /// The genuine enclave.
    pub enclave: Simulator,
    /// ARN of the key.
    pub key: String,
    /// The node's agent.
    pub agent: Agent,
    /// Address of the node's key, as `generate` printed it.
    pub address: String,
}

impl Enclaved {
    /// The release policy for this PCR0.
    pub fn release_policy(pcr0: &str) -> String {
        format!(
            "version = 1\n\n[principals]\nruntime = [{RUNTIME:?}]\nadministrators = [{ADMINISTRATOR:?}]\n\n\
             [encryption_context]\n\"nodeseal:node\" = [{NODE:?}]\n\n\
             [[generation]]\nname = \"demo\"\nprovider = \"nitro-enclave\"\npcrs = {{ 0 = {pcr0:?} }}\n"
        )
    }

    /// What a start of the node needs.
    pub fn started(&self) -> Start<'_> {
        Start {
            agent: &self.agent,
            directory: self.agent.directory(),
            address: &self.address,
            trusted: ("the enclave", Some(self.enclave.running.pid())),
        }
    }

    /// PCR0 of the genuine enclave.
    pub fn pcr0(&self) -> Result<&str> {
        pcr0(&self.enclave)
    }

    /// An agent for the same node on another enclave, with the blob of the node's key.
    pub fn agent_on(&self, enclave: &str) -> Result<Agent> {
        let directory = self.cloud.path(&format!("{enclave}-node"));
        let address = self.cloud.enclave_address(enclave);
        let agent = configured(&self.cloud, &directory, &address, &self.key)?;
        let blob = agent.blob("nodekey");
        std::fs::create_dir_all(directory.join("keys")).context(blob.display())?;
        std::fs::copy(self.agent.blob("nodekey"), &blob).context(blob.display())?;
        Ok(agent)
    }
}

/// Sets everything up.
pub fn play(table: &mut Table) -> Result<Enclaved> {
    let cloud = table.step("AWS KMS, simulated, over TLS under its own CA", || {
        let cloud = Cloud::start()?;
        Ok((cloud, "verifies SigV4, documents and policies".to_owned()))
    })?;
    let enclave = table.step("a Nitro Enclave, simulated", || {
        let enclave = cloud.enclave("enclave", &["--image", "nodeseal"])?;
        let found = format!("PCR0 {:.16}…", pcr0(&enclave)?);
        Ok((enclave, found))
    })?;
    table.step("nodeseal policy aws show, from its measurements", || {
        written(&cloud, "key", pcr0(&enclave)?)?;
        lint(&cloud, "key-policy.json", 0)
    })?;
    let key = table.step("the key, created by its administrator with boto3", || {
        let policy = cloud.path("key-policy.json");
        let key = cloud.administrate(&["create", &policy.display().to_string()])?;
        Ok((key.clone(), key))
    })?;
    let directory = cloud.path("node");
    let agent = configured(&cloud, &directory, &cloud.enclave_address("enclave"), &key)?;
    let address = table.step("nodeseal generate, inside the enclave", || generate(&agent))?;
    let data = directory.join("data");
    keystores::make(&data)?;
    table.step("nodeseal seal DIRECTORY --shred", || seal(&agent, &data))?;
    Ok(Enclaved {
        cloud,
        enclave,
        key,
        agent,
        address,
    })
}

/// PCR0 an enclave was booted with.
fn pcr0(enclave: &Simulator) -> Result<&str> {
    let found = enclave
        .ready()
        .pointer("/measurements/PCR0")
        .and_then(Value::as_str);
    found.ok_or_else(|| Error::new(format!("no PCR0 in {}", enclave.ready())))
}

/// Writes NAME-release.toml for this PCR0 and, by `nodeseal policy aws show`, NAME-policy.json.
pub fn written(cloud: &Cloud, name: &str, pcr0: &str) -> Result<()> {
    let release = cloud.path(&format!("{name}-release.toml"));
    write(&release, Enclaved::release_policy(pcr0))?;
    let mut show = Agent::bare()?;
    show.args(["policy", "aws", "show"]).arg(&release);
    let shown = Finished::of(&mut show)?.success("nodeseal policy aws show")?;
    write(&cloud.path(&format!("{name}-policy.json")), shown.stdout)
}

/// Expects that `nodeseal policy aws lint` of a file ends with this code.
pub fn lint(cloud: &Cloud, policy: &str, code: i32) -> Result<((), String)> {
    let mut command = Agent::bare()?;
    command
        .args(["policy", "aws", "lint"])
        .arg(cloud.path(policy));
    let done = Finished::of(&mut command)?;
    if done.code != code {
        let said = format!("{}{}", done.text(), done.stderr);
        return Err(Error::new(format!(
            "lint: expected {code}, found {}: {said}",
            done.code
        )));
    }
    let found = match code {
        0 => "lint: no way around attestation".to_owned(),
        _ => "lint: findings, exit code 1".to_owned(),
    };
    Ok(((), found))
}

fn configured(
    cloud: &Cloud,
    directory: &std::path::Path,
    address: &str,
    key: &str,
) -> Result<Agent> {
    std::fs::create_dir_all(directory).context(directory.display())?;
    let mut agent = Agent::init(directory, NODE, address)?;
    agent.replace(
        "locks = [{ kind = \"tpm\" }]",
        &format!("locks = [{{ kind = \"aws-kms\", key = {key:?}, attested = true }}]"),
    )?;
    agent.configure(&format!("{NODE_KEY}\n{}", cloud.egress()?))?;
    agent.set_environment(cloud.instance.clone());
    Ok(agent)
}
