//! `nodeseal-sim nsm`: a Nitro Security Module behind a unix socket.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use nodeseal_sim::http::bind_unix;
use nodeseal_sim::nsm::{MapEncoding, Measurements, NsmConfig, NsmSimulator, serve};
use nodeseal_sim::pki::NitroRoot;
use nodeseal_sim::time::Clock;

use super::{Failure, ready, until_asked_to_stop};

/// What the simulated hypervisor measures and signs with; shared with `enclave`.
#[derive(Args)]
pub struct Platform {
    /// Directory of the root (nitro-root.pem, nitro-root.key), made if missing; share it with `aws-kms`
    #[arg(long, value_name = "DIRECTORY")]
    root: PathBuf,
    /// Region named in the certificates
    #[arg(long, default_value = "us-east-1")]
    region: String,
    /// Parent instance; measured into PCR4
    #[arg(long, default_value = "i-0123456789abcdef0")]
    instance_id: String,
    /// Role of the parent instance; measured into PCR3
    #[arg(long, value_name = "ARN")]
    role_arn: Option<String>,
    /// PCR0-2 (and 8) as `nitro-cli build-enclave` printed them (JSON)
    #[arg(long, value_name = "FILE", conflicts_with = "image")]
    measurements: Option<PathBuf>,
    /// Without --measurements: PCR0-2 are derived from this name
    #[arg(long, value_name = "NAME", default_value = "image")]
    image: String,
    /// Sets one of PCR0-15 (hexadecimal), over the measurements; may be repeated
    #[arg(long, value_name = "INDEX=HEX")]
    pcr: Vec<String>,
    /// Debug mode: PCR0, 1, 2 and 8 are zero
    #[arg(long)]
    debug: bool,
    /// How document maps are written
    #[arg(long, value_enum, default_value_t = Encoding::Indefinite)]
    map_encoding: Encoding,
    /// Seconds the clock is ahead of the system's (behind, if negative)
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 0,
        allow_hyphen_values = true
    )]
    clock_offset: i64,
}

#[derive(Clone, Copy, ValueEnum)]
enum Encoding {
    Definite,
    Indefinite,
}

impl Platform {
    /// Boots the module.
    pub fn boot(&self) -> Result<NsmSimulator, Failure> {
        let clock = Clock::system();
        let root = NitroRoot::in_directory(&self.root, clock.now())?;
        clock.set_offset(self.clock_offset.saturating_mul(1000));
        let mut measurements = match &self.measurements {
            Some(path) => Measurements::from_file(path)?,
            None => Measurements::of_name(&self.image),
        };
        if let Some(arn) = &self.role_arn {
            measurements.set_role_arn(arn);
        }
        for text in &self.pcr {
            let (index, value) = text
                .split_once('=')
                .and_then(|(index, value)| Some((index.parse().ok()?, value)))
                .ok_or_else(|| format!("--pcr {text}: expected INDEX=HEX"))?;
            measurements.set(index, value)?;
        }
        Ok(NsmSimulator::boot(NsmConfig {
            root,
            region: self.region.clone(),
            instance_id: self.instance_id.clone(),
            measurements,
            debug: self.debug,
            map_encoding: match self.map_encoding {
                Encoding::Definite => MapEncoding::Definite,
                Encoding::Indefinite => MapEncoding::Indefinite,
            },
            clock,
        })?)
    }
}

/// Arguments of `nsm`.
#[derive(Args)]
pub struct Arguments {
    /// Unix socket to listen on; frames are a big-endian u32 length and CBOR
    #[arg(long, value_name = "PATH")]
    socket: PathBuf,
    #[command(flatten)]
    platform: Platform,
}

/// Serves until asked to stop.
pub async fn run(arguments: Arguments) -> Result<(), Failure> {
    let nsm = Arc::new(arguments.platform.boot()?);
    let listener = bind_unix(&arguments.socket)
        .map_err(|error| format!("{}: {error}", arguments.socket.display()))?;
    ready(&serde_json::json!({
        "socket": arguments.socket,
        "module_id": nsm.module_id(),
        "measurements": measurements(&nsm),
    }))?;
    tokio::select! {
        result = serve(listener, nsm) => result?,
        result = until_asked_to_stop() => result?,
    }
    Ok(())
}

/// The measurements as `nitro-cli` prints them, with PCR3, PCR4 and PCR8.
pub fn measurements(nsm: &NsmSimulator) -> serde_json::Value {
    let mut object = serde_json::Map::new();
    object.insert("HashAlgorithm".to_owned(), "Sha384 { ... }".into());
    for index in [0, 1, 2, 3, 4, 8] {
        let value = nsm.pcr(index).unwrap_or([0; 48]);
        let value = nodeseal_sim::text::hex(&value);
        object.insert(format!("PCR{index}"), value.into());
    }
    object.into()
}
