//! Whose keys sign an issuer's tokens: OpenID Connect discovery over HTTPS, as Key Vault does it at each release.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use nodeseal_attestation::azure::Jwks;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::http::MAX_BODY;

/// How long an issuer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Looks issuers up.
pub struct Discovery {
    tls: TlsConnector,
    /// Where hosts are really found: `HOST` or `HOST:PORT` to an address.
    connect: BTreeMap<String, SocketAddr>,
    known: Mutex<HashMap<String, Jwks>>,
}

impl Discovery {
    /// Trusts the root `certificate` (DER), as Key Vault trusts DigiCert's.
    ///
    /// # Errors
    /// The certificate is none.
    pub fn new(
        certificate: &[u8],
        connect: BTreeMap<String, SocketAddr>,
    ) -> Result<Self, rustls::Error> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(certificate))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            tls: TlsConnector::from(Arc::new(config)),
            connect,
            known: Mutex::default(),
        })
    }

    /// The keys of `issuer`, asked for again where `key_id` is not among those known.
    ///
    /// # Errors
    /// Why they cannot be had.
    pub(super) async fn keys(&self, issuer: &str, key_id: Option<&str>) -> Result<Jwks, String> {
        let known = self.known().get(issuer).cloned();
        if let Some(keys) = known
            && key_id.is_some_and(|id| keys.ids().any(|known| known == id))
        {
            return Ok(keys);
        }
        let base = issuer.trim_end_matches('/');
        let document = self
            .get(&format!("{base}/.well-known/openid-configuration"))
            .await?;
        let document: Value = serde_json::from_slice(&document)
            .map_err(|error| format!("discovery document of {issuer}: {error}"))?;
        let keys = document.get("jwks_uri").and_then(Value::as_str);
        let keys = keys.ok_or_else(|| format!("{issuer}: no jwks_uri"))?;
        let keys = self.get(keys).await?;
        let keys = Jwks::parse(&keys).map_err(|error| error.to_string())?;
        self.known().insert(issuer.to_owned(), keys.clone());
        Ok(keys)
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<String, Jwks>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn get(&self, address: &str) -> Result<Bytes, String> {
        tokio::time::timeout(PATIENCE, self.fetch(address))
            .await
            .map_err(|_| format!("{address}: no answer in time"))?
            .map_err(|error| format!("{address}: {error}"))
    }

    async fn fetch(
        &self,
        address: &str,
    ) -> Result<Bytes, Box<dyn std::error::Error + Send + Sync>> {
        let uri: Uri = address.parse()?;
        if uri.scheme_str() != Some("https") {
            return Err("expected https".into());
        }
        let host = uri.host().ok_or("no host")?;
        let port = uri.port_u16().unwrap_or(443);
        let named = self
            .connect
            .get(&format!("{host}:{port}"))
            .or_else(|| self.connect.get(host));
        let stream = match named {
            Some(address) => TcpStream::connect(address).await?,
            None => TcpStream::connect((host, port)).await?,
        };
        let name = ServerName::try_from(host.to_owned())?;
        let stream = self.tls.connect(name, stream).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let driver = tokio::spawn(connection);
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let request = Request::get(path)
            .header("host", uri.authority().map_or(host, |a| a.as_str()))
            .body(Empty::<Bytes>::new())?;
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MAX_BODY).collect().await?;
        driver.abort();
        if !status.is_success() {
            return Err(format!("status {status}").into());
        }
        Ok(body.to_bytes())
    }
}
