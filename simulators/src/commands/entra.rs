//! `nodeseal-sim entra`: tokens for applications and managed identities.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use nodeseal_sim::azure::entra::{
    Entra, EntraConfig, Identities, SIGNER, TENANT, serve, serve_managed,
};
use nodeseal_sim::http::{Endpoint, Listener};
use nodeseal_sim::https::HttpsListener;
use nodeseal_sim::pki::{TlsAuthority, TokenSigner};
use nodeseal_sim::text::uuid;
use nodeseal_sim::time::Clock;

use super::{Failure, ready, until_asked_to_stop};

/// Arguments of `entra`.
#[derive(Args)]
pub struct Arguments {
    /// Directory of its state: signing key and identities; made if missing
    #[arg(long, value_name = "DIRECTORY")]
    state: PathBuf,
    /// Address of the token endpoint
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Address of the machine's own endpoint for managed identities, plain HTTP
    #[arg(long, default_value = "127.0.0.1:0")]
    imds: Endpoint,
    /// Directory of the TLS authority (tls-ca.pem, tls-ca.key), made if missing [default: STATE]
    #[arg(long, value_name = "DIRECTORY")]
    tls: Option<PathBuf>,
    /// A further name for the TLS certificate; may be repeated
    #[arg(long, value_name = "NAME")]
    host: Vec<String>,
    /// The tenant
    #[arg(long, default_value = TENANT)]
    tenant: String,
    /// Applications and managed identities (JSON), made if missing [default: STATE/identities.json]
    #[arg(long, value_name = "FILE")]
    identities: Option<PathBuf>,
    /// Life of tokens, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 86_400)]
    lifetime: u64,
    /// Answer of the metadata service about the chip's certificate, as `azure-vtpm` writes it
    #[arg(long, value_name = "FILE")]
    amd_certification: Option<PathBuf>,
}

/// Serves until asked to stop.
pub async fn run(arguments: Arguments) -> Result<(), Failure> {
    let clock = Clock::system();
    let state = &arguments.state;
    let tls = arguments.tls.unwrap_or_else(|| state.clone());
    let signer = TokenSigner::in_directory(state, SIGNER, clock.now())?;
    let file = arguments
        .identities
        .unwrap_or_else(|| state.join("identities.json"));
    let identities = Identities::load_or_create(&file)?;
    let known = serde_json::to_value(&identities)?;
    let identity_header = uuid()?;
    let entra = Arc::new(Entra::new(EntraConfig {
        tenant: arguments.tenant.clone(),
        identities,
        signer,
        lifetime: arguments.lifetime,
        identity_header: identity_header.clone(),
        certification: arguments.amd_certification,
        clock: clock.clone(),
    }));
    let authority = TlsAuthority::in_directory(&tls, clock.now())?;
    let names = ["localhost", "127.0.0.1", "::1", "login.microsoftonline.com"];
    let mut names: Vec<String> = names.map(str::to_owned).to_vec();
    names.extend(arguments.host);
    let listener = HttpsListener::bind(arguments.listen, authority, names, clock).await?;
    let imds = Listener::bind(&arguments.imds).await?;
    ready(&serde_json::json!({
        "endpoint": format!("https://localhost:{}", listener.address()?.port()),
        "address": listener.address()?,
        "imds": imds.name()?,
        "identity_endpoint": format!("{}/msi/token", imds.name()?),
        "identity_header": identity_header,
        "tenant": arguments.tenant,
        "ca": tls.join("tls-ca.pem"),
        "identities": known,
    }))?;
    tokio::select! {
        result = serve(listener, entra.clone()) => result?,
        result = serve_managed(imds, entra) => result?,
        result = until_asked_to_stop() => result?,
    }
    Ok(())
}
