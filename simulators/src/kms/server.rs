//! The HTTPS front of a KMS.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, DATE, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::body::AnswerBody;
use super::faults::{DropMoment, Fault, WrongCertificate};
use super::{Kms, SignedRequest};
use crate::http;
use crate::pki::{PkiError, ServerCertificate, TlsAuthority};

const DAY: u64 = 24 * 3600;
/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// The front could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// No certificate.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// TLS refuses the settings.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// The socket failed.
    #[error("listening: {0}")]
    Io(#[from] io::Error),
}

/// A KMS that listens.
pub struct Server {
    kms: Arc<Kms>,
    listener: TcpListener,
    authority: TlsAuthority,
    names: Vec<String>,
    tls: Arc<ServerConfig>,
}

impl Server {
    /// Listens on `address`, with a certificate of `authority` for `names`.
    ///
    /// # Errors
    /// [`ServerError`].
    pub async fn bind(
        kms: Arc<Kms>,
        address: SocketAddr,
        authority: TlsAuthority,
        names: Vec<String>,
    ) -> Result<Self, ServerError> {
        let now = kms.clock().now();
        let certificate = authority.issue(&ServerCertificate {
            names: &names,
            not_before: now.minus_seconds(DAY),
            not_after: now.plus_seconds(365 * DAY),
        })?;
        Ok(Self {
            kms,
            listener: TcpListener::bind(address).await?,
            authority,
            names,
            tls: settings(certificate)?,
        })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until the future is dropped.
    ///
    /// # Errors
    /// When no client can be accepted any more.
    pub async fn serve(self) -> Result<(), ServerError> {
        let mut clients = JoinSet::new();
        loop {
            let (stream, peer) = self.listener.accept().await?;
            // Answers are small and awaited: nothing is gained by holding them back.
            stream.set_nodelay(true)?;
            let tls = match self.kms.faults().for_connection() {
                Some(Fault::WrongCertificate { which }) => self.wrong(which)?,
                Some(_) => continue,
                None => self.tls.clone(),
            };
            clients.spawn(client(self.kms.clone(), tls, stream, peer));
            while clients.try_join_next().is_some() {}
        }
    }

    fn wrong(&self, which: WrongCertificate) -> Result<Arc<ServerConfig>, ServerError> {
        let now = self.kms.clock().now();
        let mut wanted = ServerCertificate {
            names: &self.names,
            not_before: now.minus_seconds(2 * DAY),
            not_after: now.plus_seconds(DAY),
        };
        let other_name = ["kms.example.invalid".to_owned()];
        let stranger;
        let mut authority = &self.authority;
        match which {
            WrongCertificate::OtherAuthority => {
                stranger = TlsAuthority::generate(now)?;
                authority = &stranger;
            }
            WrongCertificate::OtherName => wanted.names = &other_name,
            WrongCertificate::Expired => wanted.not_after = now.minus_seconds(DAY),
        }
        settings(authority.issue(&wanted)?)
    }
}

fn settings(certificate: Arc<CertifiedKey>) -> Result<Arc<ServerConfig>, ServerError> {
    let settings = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certificate)));
    Ok(Arc::new(settings))
}

async fn client(kms: Arc<Kms>, tls: Arc<ServerConfig>, stream: TcpStream, peer: SocketAddr) {
    let handshake = TlsAcceptor::from(tls).accept(stream);
    let stream = match tokio::time::timeout(HANDSHAKE, handshake).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::info!(%peer, %error, "no TLS"),
        Err(_) => return tracing::info!(%peer, "no TLS in time"),
    };
    let service = service_fn(|request| answer(kms.clone(), request, peer));
    let served = http::connection().serve_connection(TokioIo::new(stream), service);
    if let Err(error) = served.await {
        tracing::debug!(%peer, %error, "a client is gone");
    }
}

/// Answers one request; an error makes the connection end without an answer.
async fn answer(
    kms: Arc<Kms>,
    request: Request<Incoming>,
    peer: SocketAddr,
) -> io::Result<Response<AnswerBody>> {
    let plain = |status, text: &'static str| {
        let mut response =
            Response::new(AnswerBody::new(Bytes::from_static(text.as_bytes()), None));
        *response.status_mut() = status;
        response
    };
    let request = match http::whole(request).await {
        Ok(request) => request,
        Err(status) => return Ok(plain(status, "the request body is too long or too slow")),
    };
    match (request.method(), request.uri().path()) {
        (&Method::POST, "/") => {}
        // What the genuine endpoints answer to health checks.
        (&Method::GET, "/ping") => return Ok(plain(StatusCode::OK, "healthy")),
        _ => {
            return Ok(plain(
                StatusCode::NOT_FOUND,
                "<UnknownOperationException/>\n",
            ));
        }
    }
    let headers: Vec<(String, String)> = request
        .headers()
        .iter()
        .map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            (name.as_str().to_owned(), value)
        })
        .collect();
    let signed = SignedRequest {
        method: request.method().as_str(),
        path: request.uri().path(),
        query: request.uri().query().unwrap_or_default(),
        headers: &headers,
        body: request.body(),
    };
    let answered = kms.answer(&signed, &peer.ip().to_string());
    let fault = answered.fault.as_ref();
    if let Some(Fault::Drop {
        when: DropMoment::Answer,
    }) = fault
    {
        return Err(io::Error::new(
            io::ErrorKind::ConnectionAborted,
            "told to drop",
        ));
    }
    if let Some(Fault::Delay { milliseconds }) = fault {
        tokio::time::sleep(Duration::from_millis(*milliseconds)).await;
    }
    let body = match fault {
        Some(Fault::Garbage) => Bytes::from_static(b"<html>nothing to see here</html>"),
        _ => Bytes::from(answered.body.to_string()),
    };
    let mut response = Response::new(AnswerBody::new(body, fault));
    *response.status_mut() = StatusCode::from_u16(answered.status).unwrap_or_default();
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/x-amz-json-1.1"),
    );
    let mut put = |name, text: &str| {
        if let Ok(value) = HeaderValue::from_str(text) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    put("x-amzn-requestid", &answered.request_id);
    if let Some(code) = &answered.error {
        put("x-amzn-errortype", code);
    }
    // SDKs learn from it how far their clock is off.
    put(DATE.as_str(), &kms.clock().now().http());
    Ok(response)
}
