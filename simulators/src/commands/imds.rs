//! `nodeseal-sim imds`: the instance metadata service.

use std::path::PathBuf;

use clap::Args;
use nodeseal_sim::credentials::CredentialDirectory;
use nodeseal_sim::http::{Endpoint, Listener};
use nodeseal_sim::imds::{Imds, ImdsConfig, serve_imds};
use nodeseal_sim::time::Clock;

use super::{Failure, ready, until_asked_to_stop};

/// Arguments of `imds`.
#[derive(Args)]
pub struct Arguments {
    /// Address to listen on; point AWS_EC2_METADATA_SERVICE_ENDPOINT at it
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: Endpoint,
    /// Directory of credentials, shared with `aws-kms`
    #[arg(long, value_name = "DIRECTORY")]
    credentials: PathBuf,
    /// Region
    #[arg(long, default_value = "us-east-1")]
    region: String,
    /// Account number
    #[arg(long, default_value = "111122223333")]
    account: String,
    /// Instance id
    #[arg(long, default_value = "i-0123456789abcdef0")]
    instance_id: String,
    /// Role attached to the instance; without one there are no credentials
    #[arg(long)]
    role: Option<String>,
    /// IAM policy of the role (JSON); may be repeated
    #[arg(long, value_name = "FILE")]
    policy: Vec<PathBuf>,
    /// Life of the role's credentials, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 21_600)]
    lifetime: u64,
}

/// Serves until asked to stop.
pub async fn run(arguments: Arguments) -> Result<(), Failure> {
    let listener = Listener::bind(&arguments.listen).await?;
    let imds = Imds::new(ImdsConfig {
        region: arguments.region,
        account: arguments.account,
        instance_id: arguments.instance_id,
        role: arguments.role,
        policies: super::credential::policies(&arguments.policy)?,
        lifetime: arguments.lifetime,
        credentials: CredentialDirectory::at(&arguments.credentials)?,
        clock: Clock::system(),
    });
    ready(&serde_json::json!({ "endpoint": listener.name()? }))?;
    tokio::select! {
        result = serve_imds(listener, imds) => result?,
        result = until_asked_to_stop() => result?,
    }
    Ok(())
}
