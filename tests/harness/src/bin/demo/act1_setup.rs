//! A machine with a TPM is enrolled; a node key is made, real keystores are sealed and their plaintext removed.

use std::path::{Path, PathBuf};
use std::process::Command;

use nodeseal_harness::keystores::{self, Identities};
use nodeseal_harness::{
    Agent, Context, Error, Finished, Manufactured, NodeStart, PrivateCa, Result, Swtpm, Table,
    TpmProcess, short_dir, system_program,
};
use serde_json::Value;
use tempfile::TempDir;

/// The node's id.
pub const NODE: &str = "validator-1";

/// How the node's key is handed to it. The EthereumJS client reads 64 hexadecimal digits.
pub const NODE_KEY: &str = r#"
[[key]]
name = "nodekey"
type = "secp256k1"
encoding = "hex"
deliver = "memfd"
"#;

/// Everything the following parts need: the machine, what runs on it, and whose keys were sealed.
pub struct Machine {
    /// Its TPM.
    pub tpm: Swtpm,
    /// nodeseal-tpm on it.
    pub trusted: TpmProcess,
    /// The node's agent.
    pub agent: Agent,
    /// The node's directory.
    pub directory: TempDir,
    /// Address of the node's key, as `generate` printed it.
    pub address: String,
    /// Owners of the sealed keystores.
    pub owners: Identities,
    /// Names of the keys of the sealed keystores.
    pub keystores: Vec<String>,
}

impl Machine {
    /// What a start of the node needs.
    pub fn started(&self) -> NodeStart<'_> {
        NodeStart {
            agent: &self.agent,
            directory: self.directory.path(),
            address: &self.address,
            trusted: ("nodeseal-tpm", self.trusted.pid()),
        }
    }

    /// The blob of the node's key.
    pub fn blob(&self) -> PathBuf {
        self.agent.blob("nodekey")
    }
}

/// Sets the machine up.
pub fn play(table: &mut Table) -> Result<Machine> {
    let ca = PrivateCa::new()?;
    let manufactured = table.step("a TPM, manufactured under a private CA", || {
        let made = ca.manufacture()?;
        let found = verify_certificate(&ca, &made)?;
        Ok((made, found))
    })?;
    let tpm = Swtpm::from_factory(&manufactured)?;
    let mut trusted = TpmProcess::configured(&tpm.tcti(), "")?;
    table.step("nodeseal-tpm enrolls it", || {
        let done = trusted.enroll()?.success("nodeseal-tpm enroll")?;
        Ok(((), line(&done.text(), "storage root key")))
    })?;
    table.step("nodeseal-tpm serves", || {
        trusted.serve()?;
        Ok((
            (),
            format!("unix socket, process {}", trusted.pid().unwrap_or(0)),
        ))
    })?;
    let directory = short_dir()?;
    let agent = table.step("nodeseal init", || {
        let agent = Agent::init(directory.path(), NODE, &trusted.address())?;
        agent.configure(NODE_KEY)?;
        Ok((agent, format!("node {NODE}")))
    })?;
    let address = table.step("nodeseal generate --type secp256k1", || generate(&agent))?;
    let data = directory.path().join("data");
    let owners = table.step("geth and Lighthouse keystores by their own tools", || {
        let owners = keystores::make(&data)?;
        let found = format!("{:.10}…, {:.10}…", owners.address, owners.pubkey);
        Ok((owners, found))
    })?;
    let keystores = table.step("nodeseal seal DIRECTORY --shred", || seal(&agent, &data))?;
    table.step("the sealed keystores open with their tools", || {
        reopen(&agent, &directory.path().join("again"), &keystores, &owners)?;
        Ok(((), "same address, same public key".to_owned()))
    })?;
    Ok(Machine {
        tpm,
        trusted,
        agent,
        directory,
        address,
        owners,
        keystores,
    })
}

/// Checks the endorsement key certificate up to the root with OpenSSL.
fn verify_certificate(ca: &PrivateCa, made: &Manufactured) -> Result<String> {
    let directory = short_dir()?;
    let (der, pem) = (
        directory.path().join("ek.der"),
        directory.path().join("ek.pem"),
    );
    std::fs::write(&der, &made.ek_certificate_rsa).context("the EK certificate")?;
    let openssl = system_program("openssl")?;
    let mut convert = Command::new(&openssl);
    convert
        .args(["x509", "-inform", "DER", "-in"])
        .arg(&der)
        .arg("-out")
        .arg(&pem);
    Finished::of(&mut convert)?.success("openssl x509")?;
    let mut verify = Command::new(&openssl);
    verify
        .arg("verify")
        .arg("-CAfile")
        .arg(ca.root_certificate());
    verify
        .arg("-untrusted")
        .arg(ca.issuer_certificate())
        .arg(&pem);
    Finished::of(&mut verify)?.success("openssl verify")?;
    Ok("EK certificate verified to its root".to_owned())
}

/// Makes the node's key; its address.
pub fn generate(agent: &Agent) -> Result<(String, String)> {
    let (code, report) = agent.json(["generate", "--name", "nodekey", "--type", "secp256k1"])?;
    let address = text(&report, "address")?;
    if code != 0 || !agent.blob("nodekey").is_file() {
        return Err(Error::new(format!(
            "exit code {code}, or no blob: {report}"
        )));
    }
    Ok((address.clone(), address))
}

/// Seals the keystores and passwords below `data`; the names of their keys.
pub fn seal(agent: &Agent, data: &Path) -> Result<(Vec<String>, String)> {
    let (code, report) = agent.json(["seal".as_ref(), data.as_os_str(), "--shred".as_ref()])?;
    let sealed = report
        .get("sealed")
        .and_then(Value::as_array)
        .map_or(&[][..], Vec::as_slice);
    let names: Vec<_> = sealed
        .iter()
        .map(|key| text(key, "name"))
        .collect::<Result<_>>()?;
    let left = files_below(data)?;
    if code != 0 || names.len() != 4 || !left.is_empty() {
        return Err(Error::new(format!(
            "exit code {code}, left {left:?}: {report}"
        )));
    }
    let found = format!("{} files sealed, plaintext removed", names.len());
    Ok((names, found))
}

/// Opens the keystores into `directory` and lets their tools open them.
pub fn reopen(
    agent: &Agent,
    directory: &Path,
    names: &[String],
    owners: &Identities,
) -> Result<()> {
    std::fs::create_dir(directory).context(directory.display())?;
    let mut arguments = vec!["open".to_owned()];
    arguments.extend(names.iter().cloned());
    arguments.extend(["--to".to_owned(), directory.display().to_string()]);
    agent.run(arguments)?.success("nodeseal open")?;
    let found = keystores::check(directory)?;
    std::fs::remove_dir_all(directory).context(directory.display())?;
    if found == *owners {
        return Ok(());
    }
    Err(Error::new(format!("expected {owners:?}, found {found:?}")))
}

fn files_below(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).context(directory.display())? {
        let path = entry.context(directory.display())?.path();
        match path.is_dir() {
            true => files.extend(files_below(&path)?),
            false => files.push(path),
        }
    }
    Ok(files)
}

/// Field `name` of a report.
pub fn text(report: &Value, name: &str) -> Result<String> {
    let found = report.get(name).and_then(Value::as_str).map(str::to_owned);
    found.ok_or_else(|| Error::new(format!("no {name} in {report}")))
}

/// The line of `text` that begins with `label`, in short.
fn line(text: &str, label: &str) -> String {
    let line = text.lines().find_map(|line| line.strip_prefix(label));
    let words: Vec<_> = line.unwrap_or_default().split_whitespace().collect();
    match words[..] {
        [name, ..] => format!("{label} {name:.16}…"),
        [] => text.to_owned(),
    }
}
