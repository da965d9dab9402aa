//! AWS for tests, benchmarks and the demo: a simulated KMS, simulated enclaves, and people with credentials.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::{Agent, Context, Error, Finished, Kms, Result, Simulator, program, short_dir};

/// The node that keys are sealed for.
const NODE: &str = "validator-1";
/// Region of the key.
const REGION: &str = "eu-west-1";
/// Who may rewrite the key's policy, and not use the key.
const ADMINISTRATOR: &str = "arn:aws:iam::111122223333:user/kms-admin";
/// Who may use the key, from the measured software.
const RUNTIME: &str = "arn:aws:iam::111122223333:role/validator";
/// A session of that role.
const SESSION: &str = "arn:aws:sts::111122223333:assumed-role/validator/i-0123456789abcdef0";

/// Names and values of environment variables.
pub(crate) type Environment = Vec<(String, String)>;

/// One account.
pub struct Cloud {
    /// Everything lies here.
    pub directory: TempDir,
    /// KMS in the region of the node.
    pub kms: Kms,
    /// Credentials of the instance the node runs on.
    pub instance: Environment,
}

impl Cloud {
    /// The node that keys are sealed for.
    pub const NODE: &str = NODE;
    /// Region of the node.
    pub const REGION: &str = REGION;

    /// Starts KMS and gives two people credentials.
    ///
    /// # Errors
    /// When something of it does not start.
    pub fn start() -> Result<Self> {
        Self::start_with(&[])
    }

    /// [`Cloud::start`], with further arguments for KMS.
    ///
    /// # Errors
    /// When something of it does not start.
    pub fn start_with(more: &[&str]) -> Result<Self> {
        let directory = short_dir()?;
        let state = directory.path().join("kms").display().to_string();
        let mut arguments = vec!["--state", &state, "--region", REGION];
        arguments.extend(more);
        let log = directory.path().join("kms.log");
        let kms = Simulator::start("aws-kms", arguments, &log)?;
        let credentials = Path::new(kms.told("credentials")?);
        let administrator = credential(credentials, ADMINISTRATOR, &["--administrator"])?;
        let instance = credential(credentials, SESSION, &["--lifetime=3600"])?;
        Ok(Self {
            kms: Kms::new(kms, REGION, environment(&administrator)?),
            instance: environment(&instance)?,
            directory,
        })
    }

    /// Starts KMS in a further region.
    ///
    /// # Errors
    /// When it does not start.
    pub fn region(&self, region: &str) -> Result<Kms> {
        let state = format!("--state={}", self.path(region).display());
        let shared = self.path("kms").display().to_string();
        let arguments = [
            state,
            format!("--region={region}"),
            format!("--root={shared}"),
            format!("--tls={shared}"),
            format!("--credentials={}", self.kms.told("credentials")?),
        ];
        let log = self.path(&format!("{region}.log"));
        let kms = Simulator::start("aws-kms", arguments, &log)?;
        Ok(Kms::new(kms, region, self.kms.administrator().to_vec()))
    }

    /// Credentials of a session of the instance's role, as a credential process prints them.
    ///
    /// # Errors
    /// When they cannot be made.
    pub fn session(&self, seconds: u64) -> Result<Value> {
        let credentials = Path::new(self.kms.told("credentials")?);
        credential(credentials, SESSION, &[&format!("--lifetime={seconds}")])
    }

    /// Starts an enclave that listens on `NAME.sock`, booted as `platform` says.
    ///
    /// # Errors
    /// When it does not start.
    pub fn enclave(&self, name: &str, platform: &[&str]) -> Result<Simulator> {
        let address = self.enclave_address(name);
        let root = self.path("kms").display().to_string();
        let authority = self.kms.told("ca")?;
        let mut arguments = vec!["--listen", &address, "--root", &root, "--kms-ca", authority];
        arguments.extend(["--region", REGION]);
        arguments.extend(platform);
        Simulator::start("enclave", arguments, &self.path(&format!("{name}.log")))
    }

    /// Where the agent finds the enclave `name`.
    #[must_use]
    pub fn enclave_address(&self, name: &str) -> String {
        format!("unix:{}", self.path(&format!("{name}.sock")).display())
    }

    /// The agent of the node on the enclave `name`, in the directory `NAME-node`, with the instance's credentials;
    /// it seals under the KMS key `key`, attested.
    ///
    /// # Errors
    /// When it cannot be configured.
    pub fn agent(&self, name: &str, key: &str) -> Result<Agent> {
        let directory = self.path(&format!("{name}-node"));
        fs::create_dir_all(&directory).context(directory.display())?;
        let mut agent = Agent::init(&directory, NODE, &self.enclave_address(name))?;
        agent.replace(
            "locks = [{ kind = \"tpm\" }]",
            &format!("locks = [{{ kind = \"aws-kms\", key = {key:?}, attested = true }}]"),
        )?;
        agent.configure(&self.egress(&[&self.kms])?)?;
        agent.set_environment(self.instance.clone());
        Ok(agent)
    }

    /// The agent's settings that lead to these KMS instead of AWS's.
    ///
    /// # Errors
    /// When a simulator did not tell where it is.
    pub fn egress(&self, regions: &[&Kms]) -> Result<String> {
        let mut text = format!("[egress]\ndirectory = {:?}\n", self.directory.path());
        text.push_str("[egress.addresses]\n");
        for kms in regions {
            let host = format!("kms.{}.amazonaws.com:443", kms.region());
            text.push_str(&format!("{host:?} = {:?}\n", kms.address()?));
        }
        Ok(text)
    }

    /// Writes NAME-release.toml, a release policy with these generations (TOML); its path.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_release(&self, name: &str, generations: &str) -> Result<PathBuf> {
        let path = self.path(&format!("{name}-release.toml"));
        let text = format!(
            "version = 1\n\n[principals]\nruntime = [{RUNTIME:?}]\nadministrators = [{ADMINISTRATOR:?}]\n\n\
             [encryption_context]\n\"nodeseal:node\" = [{NODE:?}]\n\n{generations}"
        );
        fs::write(&path, text).context(path.display())?;
        Ok(path)
    }

    /// Writes NAME-release.toml for this PCR0 and, by `nodeseal policy aws show`, NAME-policy.json; the path of that.
    ///
    /// # Errors
    /// When nodeseal refuses it.
    pub fn write_policy(&self, name: &str, pcr0: &str) -> Result<PathBuf> {
        let release = self.write_release(
            name,
            &format!(
                "[[generation]]\nname = \"now\"\nprovider = \"nitro-enclave\"\npcrs = {{ 0 = {pcr0:?} }}\n"
            ),
        )?;
        let mut show = Agent::bare()?;
        show.args(["policy", "aws", "show"]).arg(&release);
        let shown = Finished::of(&mut show)?.success("nodeseal policy aws show")?;
        let policy = self.path(&format!("{name}-policy.json"));
        fs::write(&policy, shown.stdout).context(policy.display())?;
        Ok(policy)
    }

    /// A path in the directory.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

/// Makes an access key of `principal`, as a credential process prints it.
fn credential(directory: &Path, principal: &str, more: &[&str]) -> Result<Value> {
    let mut command = Command::new(program("nodeseal-sim")?);
    command.args(["credential", "--principal", principal]);
    command.arg("--credentials").arg(directory).args(more);
    let made = Finished::of(&mut command)?.success("nodeseal-sim credential")?;
    serde_json::from_slice(&made.stdout)
        .map_err(|error| Error::new(format!("nodeseal-sim credential: {error}")))
}

/// Credentials in the variables every SDK of AWS reads.
fn environment(credential: &Value) -> Result<Environment> {
    let mut environment = Vec::new();
    for (variable, name) in [
        ("AWS_ACCESS_KEY_ID", "AccessKeyId"),
        ("AWS_SECRET_ACCESS_KEY", "SecretAccessKey"),
        ("AWS_SESSION_TOKEN", "SessionToken"),
    ] {
        match credential.get(name).and_then(Value::as_str) {
            Some(value) => environment.push((variable.to_owned(), value.to_owned())),
            // Only sessions have one.
            None if name == "SessionToken" => {}
            None => return Err(Error::new(format!("no {name} in {credential}"))),
        }
    }
    Ok(environment)
}
