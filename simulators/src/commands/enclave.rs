//! `nodeseal-sim enclave`: a simulated Nitro Enclave running the trusted side.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use nodeseal_core::aws::AwsKmsConfig;
use nodeseal_core::tunnel::Roots;
use nodeseal_sim::enclave::{EnclaveAddress, EnclaveListener, serve_enclave, trusted_side};

use super::nsm::{Platform, measurements};
use super::{Failure, ready, until_asked_to_stop};

/// Arguments of `enclave`. In an enclave image those about KMS are measured; here they are not.
#[derive(Args)]
pub struct Arguments {
    /// Where the agent connects: unix:PATH, or hybrid:PATH:PORT (a socket in front of a vsock)
    #[arg(long, value_name = "ADDRESS")]
    listen: EnclaveAddress,
    /// Certificates (PEM) KMS is trusted by [default: the public ones]
    #[arg(long, value_name = "FILE")]
    kms_ca: Vec<PathBuf>,
    /// Endpoint of KMS in a region [default: AWS's]; may be repeated
    #[arg(long, value_name = "REGION=HOST:PORT", value_parser = endpoint)]
    kms_endpoint: Vec<(String, String)>,
    /// The only KMS keys used, by ARN [default: any]; may be repeated
    #[arg(long, value_name = "ARN")]
    allowed_key: Vec<String>,
    /// Longest that making or opening one lock may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 15)]
    deadline: u64,
    /// Longest one attempt of it may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    attempt: u64,
    #[command(flatten)]
    platform: Platform,
}

fn endpoint(text: &str) -> Result<(String, String), String> {
    let (region, host) = text
        .split_once('=')
        .ok_or_else(|| format!("expected REGION=HOST:PORT, found {text:?}"))?;
    Ok((region.to_owned(), host.to_owned()))
}

/// Serves until asked to stop.
pub async fn run(arguments: Arguments) -> Result<(), Failure> {
    let mut kms = AwsKmsConfig {
        allowed_keys: Some(arguments.allowed_key).filter(|keys| !keys.is_empty()),
        endpoints: BTreeMap::from_iter(arguments.kms_endpoint),
        deadline: Duration::from_secs(arguments.deadline),
        attempt: Duration::from_secs(arguments.attempt),
        dial: arguments.listen.dial(),
        ..AwsKmsConfig::default()
    };
    if !arguments.kms_ca.is_empty() {
        let mut pem = Vec::new();
        for path in &arguments.kms_ca {
            let bytes = std::fs::read(path);
            pem.extend(bytes.map_err(|error| format!("{}: {error}", path.display()))?);
        }
        kms.roots = Roots::Pem(pem);
    }
    let nsm = Arc::new(arguments.platform.boot()?);
    let side = trusted_side(nsm.clone(), kms)?;
    let listener = EnclaveListener::bind(&arguments.listen)?;
    ready(&serde_json::json!({
        "module_id": nsm.module_id(),
        "measurements": measurements(&nsm),
        "root": nodeseal_sim::text::hex(&nsm.root_sha256()),
    }))?;
    tokio::select! {
        result = serve_enclave(listener, side.clone()) => result?,
        result = until_asked_to_stop() => result?,
    }
    side.lock();
    Ok(())
}
