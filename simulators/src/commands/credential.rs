//! `nodeseal-sim credential`: makes an access key the simulated KMS knows.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use nodeseal_sim::credentials::{Credential, CredentialDirectory, administrator_policy};
use nodeseal_sim::time::Clock;
use serde_json::{Value, json};

use super::Failure;

/// Arguments of `credential`.
#[derive(Args)]
pub struct Arguments {
    /// Directory of credentials, shared with `aws-kms`
    #[arg(long, value_name = "DIRECTORY")]
    credentials: PathBuf,
    /// Whose it is: arn:aws:iam::ACCOUNT:user/NAME, arn:aws:sts::ACCOUNT:assumed-role/ROLE/SESSION, …
    #[arg(long, value_name = "ARN")]
    principal: String,
    /// IAM policy of the principal (JSON); may be repeated
    #[arg(long, value_name = "FILE")]
    policy: Vec<PathBuf>,
    /// Adds a policy that allows everything of KMS
    #[arg(long)]
    administrator: bool,
    /// Makes a session that ends after so many seconds
    #[arg(long, value_name = "SECONDS")]
    lifetime: Option<u64>,
    /// How to print it
    #[arg(long, value_enum, default_value_t = Form::Process)]
    format: Form,
}

#[derive(Clone, Copy, ValueEnum)]
enum Form {
    /// JSON as `credential_process` programs print it
    Process,
    /// Shell assignments: AWS_ACCESS_KEY_ID=…
    Env,
}

/// Makes one and prints it.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let directory = CredentialDirectory::at(&arguments.credentials)?;
    let mut policies = policies(&arguments.policy)?;
    if arguments.administrator {
        policies.push(administrator_policy());
    }
    let now = Clock::system().now();
    let expires = arguments.lifetime.map(|seconds| now.plus_seconds(seconds));
    let made = Credential::generate(&arguments.principal, policies, expires)?;
    directory.put(&made)?;
    match arguments.format {
        Form::Process => println!("{}", process(&made)),
        Form::Env => {
            println!("export AWS_ACCESS_KEY_ID={}", made.access_key_id);
            println!("export AWS_SECRET_ACCESS_KEY={}", made.secret_access_key);
            if let Some(token) = &made.session_token {
                println!("export AWS_SESSION_TOKEN={token}");
            }
        }
    }
    Ok(())
}

fn process(made: &Credential) -> Value {
    let mut answer = json!({
        "Version": 1,
        "AccessKeyId": made.access_key_id,
        "SecretAccessKey": made.secret_access_key,
    });
    if let Some(object) = answer.as_object_mut() {
        if let Some(token) = &made.session_token {
            object.insert("SessionToken".to_owned(), json!(token));
        }
        if let Some(expires) = &made.expires {
            object.insert("Expiration".to_owned(), json!(expires));
        }
    }
    answer
}

/// Reads IAM policies from files.
pub fn policies(paths: &[PathBuf]) -> Result<Vec<Value>, Failure> {
    let read = |path: &PathBuf| policy(path).map_err(|e| format!("{}: {e}", path.display()).into());
    paths.iter().map(read).collect()
}

fn policy(path: &Path) -> Result<Value, Failure> {
    Ok(serde_json::from_slice(&std::fs::read(path)?)?)
}
