//! A KMS key whose policy names an enclave's measurements; a node key made and keystores sealed under it.

use nodeseal_harness::{
    Agent, Cloud, Context, Error, Finished, NodeStart, Result, Simulator, Table, keystores,
};

use crate::act1_setup::{NODE_KEY, generate, seal};

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
    /// What a start of the node needs.
    pub fn started(&self) -> NodeStart<'_> {
        NodeStart {
            agent: &self.agent,
            directory: self.agent.directory(),
            address: &self.address,
            trusted: ("the enclave", Some(self.enclave.running.pid())),
        }
    }

    /// An agent for the same node on another enclave, with the blob of the node's key.
    pub fn agent_on(&self, enclave: &str) -> Result<Agent> {
        let agent = self.cloud.agent(enclave, &self.key)?;
        let blob = agent.blob("nodekey");
        std::fs::create_dir_all(agent.directory().join("keys")).context(blob.display())?;
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
        let found = format!("PCR0 {:.16}…", enclave.pcr0()?);
        Ok((enclave, found))
    })?;
    table.step("nodeseal policy aws show, from its measurements", || {
        cloud.write_policy("key", enclave.pcr0()?)?;
        lint(&cloud, "key-policy.json", 0)
    })?;
    let key = table.step("the key, created by its administrator with boto3", || {
        let key = cloud.kms.create_key(&cloud.path("key-policy.json"))?;
        Ok((key.clone(), key))
    })?;
    let agent = cloud.agent("enclave", &key)?;
    agent.configure(NODE_KEY)?;
    let address = table.step("nodeseal generate, inside the enclave", || generate(&agent))?;
    let data = agent.directory().join("data");
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
