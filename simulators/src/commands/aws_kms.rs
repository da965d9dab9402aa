//! `nodeseal-sim aws-kms`: AWS KMS over HTTPS.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, ValueEnum};
use nodeseal_attestation::nitro::Anchor;
use nodeseal_sim::credentials::CredentialDirectory;
use nodeseal_sim::http::{Endpoint, Listener};
use nodeseal_sim::https::HttpsListener;
use nodeseal_sim::kms::{CmsShape, Kms, KmsConfig, serve, serve_admin};
use nodeseal_sim::pki::{NitroRoot, TlsAuthority};
use nodeseal_sim::time::Clock;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::{Failure, ready, until_asked_to_stop};

/// Arguments of `aws-kms`.
#[derive(Args)]
pub struct Arguments {
    /// Directory of this service's state: keys and trail; made if missing
    #[arg(long, value_name = "DIRECTORY")]
    state: PathBuf,
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Where faults are ordered: unix:PATH or ADDRESS:PORT
    #[arg(long, default_value = "127.0.0.1:0")]
    admin: Endpoint,
    /// Region
    #[arg(long, default_value = "us-east-1")]
    region: String,
    /// Account number
    #[arg(long, default_value = "111122223333")]
    account: String,
    /// Directory of credentials, shared with `imds` and `credential` [default: STATE/credentials]
    #[arg(long, value_name = "DIRECTORY")]
    credentials: Option<PathBuf>,
    /// Directory of the root attestation documents must verify under, shared with `nsm` [default: STATE]
    #[arg(long, value_name = "DIRECTORY")]
    root: Option<PathBuf>,
    /// Instead: the root certificate (PEM) of genuine documents, to serve real enclaves
    #[arg(long, value_name = "FILE", conflicts_with = "root")]
    attestation_root: Option<PathBuf>,
    /// DANGEROUS: also take unsigned attestation documents, as QEMU's nitro-enclave machine makes them. Anybody can
    /// write one. For tests of an image that is booted in QEMU
    #[arg(long)]
    accept_unsigned_emulator_documents: bool,
    /// Directory of the TLS authority (tls-ca.pem, tls-ca.key), made if missing [default: STATE]
    #[arg(long, value_name = "DIRECTORY")]
    tls: Option<PathBuf>,
    /// A further name for the TLS certificate; may be repeated
    #[arg(long, value_name = "NAME")]
    name: Vec<String>,
    /// File the trail is appended to [default: STATE/trail.jsonl]
    #[arg(long, value_name = "FILE")]
    trail: Option<PathBuf>,
    /// Shape of answers to recipients
    #[arg(long, value_enum, default_value_t = Shape::Chunked)]
    cms: Shape,
}

#[derive(Clone, Copy, ValueEnum)]
enum Shape {
    Chunked,
    Primitive,
    ManyChunks,
}

/// Serves until asked to stop.
pub async fn run(arguments: Arguments) -> Result<(), Failure> {
    let clock = Clock::system();
    let state = &arguments.state;
    let credentials = arguments
        .credentials
        .unwrap_or_else(|| state.join("credentials"));
    let attestation_root = match &arguments.attestation_root {
        Some(path) => certificate(path)?,
        None => {
            let directory = arguments.root.as_ref().unwrap_or(state);
            let root = NitroRoot::in_directory(directory, clock.now())?;
            root.certificate().to_vec()
        }
    };
    let tls = arguments.tls.as_ref().unwrap_or(state);
    let authority = TlsAuthority::in_directory(tls, clock.now())?;
    let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"]
        .map(str::to_owned)
        .to_vec();
    names.push(format!("kms.{}.amazonaws.com", arguments.region));
    names.extend(arguments.name);
    let kms = Arc::new(Kms::open(KmsConfig {
        directory: state.clone(),
        region: arguments.region,
        account: arguments.account,
        attestation_root,
        accept_unsigned_emulator_documents: arguments.accept_unsigned_emulator_documents,
        credentials: CredentialDirectory::at(&credentials)?,
        trail: arguments.trail,
        cms: match arguments.cms {
            Shape::Chunked => CmsShape::Chunked,
            Shape::Primitive => CmsShape::Primitive,
            Shape::ManyChunks => CmsShape::ManyChunks,
        },
        clock,
    })?);
    if arguments.accept_unsigned_emulator_documents {
        tracing::warn!(
            "UNSIGNED ATTESTATION DOCUMENTS ARE ACCEPTED: whoever can write one is any enclave it likes"
        );
    }
    let clock = kms.clock().clone();
    let listener = HttpsListener::bind(arguments.listen, authority, names, clock).await?;
    let admin = Listener::bind(&arguments.admin).await?;
    ready(&serde_json::json!({
        "endpoint": format!("https://{}", listener.address()?),
        "admin": admin.name()?,
        "ca": tls.join("tls-ca.pem"),
        "credentials": credentials,
        "region": kms.region(),
        "accepts_unsigned_emulator_documents": arguments.accept_unsigned_emulator_documents,
        "trail": kms.trail_path(),
    }))?;
    tokio::select! {
        result = serve(listener, kms.clone()) => result?,
        result = serve_admin(admin, kms) => result?,
        result = until_asked_to_stop() => result?,
    }
    Ok(())
}

/// The certificate (DER) in a PEM file, if documents can be verified under it.
fn certificate(path: &Path) -> Result<Vec<u8>, Failure> {
    let named = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let pem = std::fs::read(path).map_err(|error| named(&error))?;
    let der = CertificateDer::from_pem_slice(&pem).map_err(|error| named(&error))?;
    Anchor::from_der(&der).map_err(|error| named(&error))?;
    Ok(der.to_vec())
}
