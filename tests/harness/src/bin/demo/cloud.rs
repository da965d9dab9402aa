//! AWS as act 2 needs it: a simulated KMS, simulated enclaves, and people with credentials.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nodeseal_harness::{
    Context, Error, Finished, Result, Simulator, checkout, program, python, short_dir,
};
use serde_json::Value;
use tempfile::TempDir;

use crate::act1_setup::text;

/// Region of the key.
pub const REGION: &str = "eu-west-1";
/// Who may rewrite the key's policy, and not use the key.
pub const ADMINISTRATOR: &str = "arn:aws:iam::111122223333:user/kms-admin";
/// Who may use the key, from the measured software.
pub const RUNTIME: &str = "arn:aws:iam::111122223333:role/validator";
/// A session of that role.
const SESSION: &str = "arn:aws:sts::111122223333:assumed-role/validator/i-0123456789abcdef0";

/// Names and values of environment variables.
pub type Environment = Vec<(String, String)>;

/// One account in one region.
pub struct Cloud {
    /// Everything lies here.
    pub directory: TempDir,
    kms: Simulator,
    /// Credentials of the key's administrator.
    administrator: Environment,
    /// Credentials of the instance the node runs on.
    pub instance: Environment,
}

impl Cloud {
    /// Starts KMS and gives two people credentials.
    pub fn start() -> Result<Self> {
        let directory = short_dir()?;
        let at = directory.path();
        let state = at.join("kms").display().to_string();
        let arguments = ["--state", &state, "--region", REGION];
        let kms = Simulator::start("aws-kms", arguments, &at.join("kms.log"))?;
        let credentials = kms.told("credentials")?;
        let administrator = credential(credentials, &[ADMINISTRATOR, "--administrator"])?;
        let instance = credential(credentials, &[SESSION, "--lifetime", "3600"])?;
        Ok(Self {
            administrator,
            instance,
            directory,
            kms,
        })
    }

    /// Starts an enclave that listens on `NAME.sock`, booted as `platform` says.
    pub fn enclave(&self, name: &str, platform: &[&str]) -> Result<Simulator> {
        let address = self.enclave_address(name);
        let root = self.path("kms").display().to_string();
        let authority = self.authority()?;
        let mut arguments = vec!["--listen", &address, "--root", &root, "--kms-ca", authority];
        arguments.extend(["--region", REGION]);
        arguments.extend(platform);
        Simulator::start("enclave", arguments, &self.path(&format!("{name}.log")))
    }

    /// Where the agent finds the enclave `name`.
    pub fn enclave_address(&self, name: &str) -> String {
        format!("unix:{}", self.path(&format!("{name}.sock")).display())
    }

    /// The agent's settings that lead to this KMS instead of AWS's.
    pub fn egress(&self) -> Result<String> {
        let address = self.kms.told("endpoint")?.trim_start_matches("https://");
        Ok(format!(
            "[egress]\ndirectory = {:?}\n[egress.addresses]\n\"kms.{REGION}.amazonaws.com:443\" = {address:?}\n",
            self.directory.path()
        ))
    }

    /// Runs tests/python/kms_key.py (boto3) as the administrator; what it printed.
    pub fn administrate(&self, arguments: &[&str]) -> Result<String> {
        self.boto3(&self.administrator, arguments)
    }

    /// Runs tests/python/kms_key.py (boto3) with these credentials; what it printed.
    pub fn boto3(&self, who: &Environment, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(python()?);
        command
            .arg(checkout().join("tests/python/kms_key.py"))
            .args([self.kms.told("endpoint")?, self.authority()?, REGION])
            .args(arguments)
            .envs(who.iter().cloned());
        let done = Finished::of(&mut command)?.success("kms_key.py")?;
        Ok(done.text().trim().to_owned())
    }

    /// Every call KMS has answered, as CloudTrail has it.
    pub fn trail(&self) -> Result<Vec<Value>> {
        let path = self.kms.told("trail")?;
        let text = fs::read_to_string(path).context(path)?;
        let record = |line: &str| {
            serde_json::from_str(line).map_err(|error| Error::new(format!("{path}: {error}")))
        };
        text.lines().map(record).collect()
    }

    /// A path in the directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn authority(&self) -> Result<&str> {
        self.kms.told("ca")
    }
}

fn credential(directory: &str, about: &[&str]) -> Result<Environment> {
    let mut command = Command::new(program("nodeseal-sim")?);
    command
        .args(["credential", "--credentials", directory, "--principal"])
        .args(about);
    let made = Finished::of(&mut command)?.success("nodeseal-sim credential")?;
    let made: Value = serde_json::from_slice(&made.stdout)
        .map_err(|error| Error::new(format!("nodeseal-sim credential: {error}")))?;
    let mut environment = vec![
        ("AWS_ACCESS_KEY_ID".to_owned(), text(&made, "AccessKeyId")?),
        (
            "AWS_SECRET_ACCESS_KEY".to_owned(),
            text(&made, "SecretAccessKey")?,
        ),
    ];
    if let Ok(token) = text(&made, "SessionToken") {
        environment.push(("AWS_SESSION_TOKEN".to_owned(), token));
    }
    Ok(environment)
}

/// Writes `content` to a new or existing file.
pub fn write(path: &Path, content: impl AsRef<[u8]>) -> Result<()> {
    fs::write(path, content).context(path.display())
}
