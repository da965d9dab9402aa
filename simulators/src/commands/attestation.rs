//! `nodeseal-sim attestation`: Azure's attestation service over HTTPS.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use nodeseal_sim::azure::attestation::{Attestation, AttestationConfig, serve, serve_admin};
use nodeseal_sim::http::{Endpoint, Listener};
use nodeseal_sim::https::HttpsListener;
use nodeseal_sim::pki::{AttestationKeyRoot, ChipRoot, TlsAuthority, TokenSigner};
use nodeseal_sim::time::Clock;

use super::{Failure, ready, until_asked_to_stop};

/// Arguments of `attestation`.
#[derive(Args)]
pub struct Arguments {
    /// Directory of its state: signing key, and the roots it trusts, shared with `azure-vtpm`; made if missing
    #[arg(long, value_name = "DIRECTORY")]
    state: PathBuf,
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Where faults are ordered: unix:PATH or ADDRESS:PORT
    #[arg(long, default_value = "127.0.0.1:0")]
    admin: Endpoint,
    /// Directory of the TLS authority (tls-ca.pem, tls-ca.key), made if missing [default: STATE]
    #[arg(long, value_name = "DIRECTORY")]
    tls: Option<PathBuf>,
    /// A further name for the TLS certificate; may be repeated
    #[arg(long, value_name = "NAME")]
    host: Vec<String>,
    /// Issuer of its tokens, as in https://sharedweu.weu.attest.azure.net [default: its address at localhost]
    #[arg(long, value_name = "URL")]
    issuer: Option<String>,
    /// Life of tokens, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 28_800)]
    lifetime: u64,
}

/// Serves until asked to stop.
pub async fn run(arguments: Arguments) -> Result<(), Failure> {
    let clock = Clock::system();
    let now = clock.now();
    let state = &arguments.state;
    let tls = arguments.tls.unwrap_or_else(|| state.clone());
    let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"]
        .map(str::to_owned)
        .to_vec();
    names.extend(arguments.host);
    if let Some(issuer) = &arguments.issuer {
        let host = issuer.strip_prefix("https://").unwrap_or_default();
        let host = host.split([':', '/']).next().unwrap_or_default();
        if host.is_empty() {
            return Err(format!("--issuer {issuer}: expected https://HOST").into());
        }
        names.push(host.to_owned());
    }
    let authority = TlsAuthority::in_directory(&tls, now)?;
    let listener = HttpsListener::bind(arguments.listen, authority, names, clock.clone()).await?;
    let endpoint = format!("https://localhost:{}", listener.address()?.port());
    let issuer = arguments.issuer.unwrap_or_else(|| endpoint.clone());
    let service = Arc::new(Attestation::new(AttestationConfig {
        issuer: issuer.trim_end_matches('/').to_owned(),
        signer: TokenSigner::in_directory(state, "attestation-signing", now)?,
        stranger: TokenSigner::in_directory(state, "attestation-stranger", now)?,
        ak_root: AttestationKeyRoot::in_directory(state, now)?
            .certificate()
            .to_vec(),
        chip_root: ChipRoot::in_directory(state, now)?.certificate().to_vec(),
        lifetime: arguments.lifetime,
        clock,
    }));
    let admin = Listener::bind(&arguments.admin).await?;
    ready(&serde_json::json!({
        "endpoint": endpoint,
        "address": listener.address()?,
        "issuer": issuer,
        "admin": admin.name()?,
        "ca": tls.join("tls-ca.pem"),
        "ak_root": state.join("azure-ak-root.pem"),
        "amd_root": state.join("amd-root.pem"),
    }))?;
    tokio::select! {
        result = serve(listener, service.clone()) => result?,
        result = serve_admin(admin, service) => result?,
        result = until_asked_to_stop() => result?,
    }
    Ok(())
}
