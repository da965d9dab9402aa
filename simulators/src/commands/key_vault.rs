//! `nodeseal-sim key-vault`: Azure Key Vault over HTTPS.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use nodeseal_attestation::azure::Jwks;
use nodeseal_attestation::policy::azure::Operators;
use nodeseal_sim::azure::Discovery;
use nodeseal_sim::azure::entra::{SIGNER, TENANT};
use nodeseal_sim::azure::vault::{Assignment, Limit, Vault, VaultConfig, serve, serve_admin};
use nodeseal_sim::http::{Endpoint, Listener};
use nodeseal_sim::https::HttpsListener;
use nodeseal_sim::pki::{FrontEnd, TlsAuthority, TokenSigner};
use nodeseal_sim::time::Clock;

use super::{Failure, ready, until_asked_to_stop};

/// Arguments of `key-vault`.
#[derive(Args)]
pub struct Arguments {
    /// Directory of this vault's state: keys, roles and audit log; made if missing
    #[arg(long, value_name = "DIRECTORY")]
    state: PathBuf,
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Where faults and roles are ordered: unix:PATH or ADDRESS:PORT
    #[arg(long, default_value = "127.0.0.1:0")]
    admin: Endpoint,
    /// Name of the vault; its certificate is for NAME.vault.azure.net besides localhost
    #[arg(long, default_value = "nodeseal")]
    name: String,
    /// A further name for the certificates; may be repeated
    #[arg(long, value_name = "NAME")]
    host: Vec<String>,
    /// Directory of the TLS authority (tls-ca.pem, tls-ca.key), made if missing [default: STATE]
    #[arg(long, value_name = "DIRECTORY")]
    tls: Option<PathBuf>,
    /// State directory of `entra`, whose tokens are taken [default: STATE]
    #[arg(long, value_name = "DIRECTORY")]
    entra: Option<PathBuf>,
    /// Tenant whose tokens are taken
    #[arg(long, default_value = TENANT)]
    tenant: String,
    /// Where clients are told to get tokens
    #[arg(
        long,
        value_name = "URL",
        default_value = "https://login.microsoftonline.com"
    )]
    authority: String,
    /// Audience of tokens
    #[arg(long, value_name = "URL", default_value = "https://vault.azure.net")]
    resource: String,
    /// A role assigned: OBJECT-ID=ROLE or OBJECT-ID=ROLE@/keys/NAME; may be repeated
    #[arg(long, value_name = "ASSIGNMENT")]
    assign: Vec<Assignment>,
    /// Where an issuer of attestation tokens is really found: HOST[:PORT]=ADDRESS:PORT; may be repeated
    #[arg(long, value_name = "HOST=ADDRESS", value_parser = connection)]
    connect: Vec<(String, SocketAddr)>,
    /// Releases, creations and imports of HSM keys taken in a time; twice as many of software keys
    #[arg(long, value_name = "COUNT", default_value_t = 10)]
    limit: usize,
    /// Other operations with HSM keys of RSA-2048 taken in that time; fewer with longer keys, twice as many with software keys
    #[arg(long, value_name = "COUNT", default_value_t = 2000)]
    limit_others: usize,
    /// That time, in milliseconds
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 10_000)]
    limit_window: u64,
    /// Answer 429 without Retry-After
    #[arg(long)]
    no_retry_after: bool,
    /// Know all operators of release policies, not `equals` only
    #[arg(long)]
    all_operators: bool,
    /// Days a deleted key can be recovered
    #[arg(long, value_name = "DAYS", default_value_t = 90)]
    recoverable_days: u64,
}

fn connection(text: &str) -> Result<(String, SocketAddr), String> {
    let (host, address) = text.split_once('=').ok_or("expected HOST=ADDRESS:PORT")?;
    let address = address
        .parse()
        .map_err(|error| format!("{address}: {error}"))?;
    Ok((host.to_owned(), address))
}

/// Serves until asked to stop.
pub async fn run(arguments: Arguments) -> Result<(), Failure> {
    let clock = Clock::system();
    let now = clock.now();
    let state = &arguments.state;
    let tls = arguments.tls.unwrap_or_else(|| state.clone());
    let entra = arguments.entra.unwrap_or_else(|| state.clone());
    let authority = TlsAuthority::in_directory(&tls, now)?;
    let token_keys = TokenSigner::in_directory(&entra, SIGNER, now)?.jwks();
    let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"]
        .map(str::to_owned)
        .to_vec();
    names.push(format!("{}.vault.azure.net", arguments.name));
    names.extend(arguments.host);
    let connect: BTreeMap<String, SocketAddr> = arguments.connect.into_iter().collect();
    let vault = Arc::new(Vault::open(VaultConfig {
        directory: state.clone(),
        name: arguments.name,
        tenant: arguments.tenant,
        authority: arguments.authority.trim_end_matches('/').to_owned(),
        resource: arguments.resource,
        token_keys: Jwks::parse(token_keys.to_string().as_bytes())?,
        discovery: Discovery::new(authority.certificate(), connect)?,
        front_end: FrontEnd::new(&authority, &names, now)?,
        stranger: FrontEnd::new(&TlsAuthority::generate(now)?, &names, now)?,
        operators: if arguments.all_operators {
            Operators::All
        } else {
            Operators::EqualsOnly
        },
        limit: Limit {
            count: arguments.limit,
            others: arguments.limit_others,
            milliseconds: arguments.limit_window,
        },
        retry_after: !arguments.no_retry_after,
        recoverable_days: arguments.recoverable_days,
        assignments: arguments.assign,
        clock: clock.clone(),
    })?);
    let listener = HttpsListener::bind(arguments.listen, authority, names, clock).await?;
    let admin = Listener::bind(&arguments.admin).await?;
    ready(&serde_json::json!({
        "endpoint": format!("https://localhost:{}", listener.address()?.port()),
        "address": listener.address()?,
        "admin": admin.name()?,
        "ca": tls.join("tls-ca.pem"),
        "audit": vault.audit_path(),
    }))?;
    tokio::select! {
        result = serve(listener, vault.clone()) => result?,
        result = serve_admin(admin, vault) => result?,
        result = until_asked_to_stop() => result?,
    }
    Ok(())
}
