//! HTTPS serving shared by the simulated services: certificates of their own authority, bad ones on demand.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::delivery::{AnswerBody, Delivery, WrongCertificate};
use crate::http::{self, Received};
use crate::pki::{PkiError, ServerCertificate, TlsAuthority};
use crate::time::Clock;

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

/// What a new connection gets instead of TLS with a good certificate.
pub(crate) enum BadConnection {
    Certificate(WrongCertificate),
    Dropped,
}

/// The answer to a request.
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    /// Besides Content-Type.
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) content_type: &'static str,
    pub(crate) body: Bytes,
    pub(crate) delivery: Delivery,
}

impl Reply {
    /// Text of a type, without further headers, at once.
    pub(crate) fn new(
        status: StatusCode,
        content_type: &'static str,
        body: impl Into<Bytes>,
    ) -> Self {
        Self {
            status,
            headers: Vec::new(),
            content_type,
            body: body.into(),
            delivery: Delivery::AtOnce,
        }
    }

    /// JSON.
    pub(crate) fn json(status: StatusCode, body: &serde_json::Value) -> Self {
        let text = body.to_string();
        Self::new(status, "application/json; charset=utf-8", text)
    }

    /// The same with a header.
    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// What answers.
pub(crate) trait Service: Send + Sync + 'static {
    /// Whether the next connection is to be a bad one.
    fn bad_connection(&self) -> Option<BadConnection>;

    /// Answers one request.
    fn answer(&self, request: Received, peer: SocketAddr) -> impl Future<Output = Reply> + Send;
}

/// A socket, and certificates for it.
pub struct HttpsListener {
    listener: TcpListener,
    authority: TlsAuthority,
    names: Vec<String>,
    clock: Clock,
    tls: Arc<ServerConfig>,
}

impl HttpsListener {
    /// Listens on `address`, with a certificate of `authority` for `names`.
    ///
    /// # Errors
    /// [`ServerError`].
    pub async fn bind(
        address: SocketAddr,
        authority: TlsAuthority,
        names: Vec<String>,
        clock: Clock,
    ) -> Result<Self, ServerError> {
        let now = clock.now();
        let certificate = authority.issue(&ServerCertificate {
            names: &names,
            not_before: now.minus_seconds(DAY),
            not_after: now.plus_seconds(365 * DAY),
        })?;
        Ok(Self {
            listener: TcpListener::bind(address).await?,
            authority,
            names,
            clock,
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
    pub(crate) async fn serve<S: Service>(self, service: Arc<S>) -> Result<(), ServerError> {
        let mut clients = JoinSet::new();
        loop {
            let (stream, peer) = self.listener.accept().await?;
            // Answers are small and awaited: nothing is gained by holding them back.
            stream.set_nodelay(true)?;
            let tls = match service.bad_connection() {
                Some(BadConnection::Certificate(which)) => self.wrong(which)?,
                Some(BadConnection::Dropped) => continue,
                None => self.tls.clone(),
            };
            clients.spawn(client(service.clone(), tls, stream, peer));
            while clients.try_join_next().is_some() {}
        }
    }

    fn wrong(&self, which: WrongCertificate) -> Result<Arc<ServerConfig>, ServerError> {
        let now = self.clock.now();
        let mut wanted = ServerCertificate {
            names: &self.names,
            not_before: now.minus_seconds(2 * DAY),
            not_after: now.plus_seconds(DAY),
        };
        let other_name = ["other.example.invalid".to_owned()];
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

async fn client<S: Service>(
    service: Arc<S>,
    tls: Arc<ServerConfig>,
    stream: TcpStream,
    peer: SocketAddr,
) {
    let handshake = TlsAcceptor::from(tls).accept(stream);
    let stream = match tokio::time::timeout(HANDSHAKE, handshake).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::info!(%peer, %error, "no TLS"),
        Err(_) => return tracing::info!(%peer, "no TLS in time"),
    };
    let service = service_fn(|request| answer(service.clone(), request, peer));
    let served = http::connection().serve_connection(TokioIo::new(stream), service);
    if let Err(error) = served.await {
        tracing::debug!(%peer, %error, "a client is gone");
    }
}

/// Answers one request; an error makes the connection end without an answer.
async fn answer<S: Service>(
    service: Arc<S>,
    request: Request<Incoming>,
    peer: SocketAddr,
) -> io::Result<Response<AnswerBody>> {
    let reply = match http::whole(request).await {
        Ok(request) => service.answer(request, peer).await,
        Err(status) => Reply::new(
            status,
            "text/plain",
            "the request body is too long or too slow",
        ),
    };
    match reply.delivery {
        Delivery::Dropped => {
            return Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "told to drop",
            ));
        }
        Delivery::Late(milliseconds) => {
            tokio::time::sleep(Duration::from_millis(milliseconds)).await;
        }
        _ => {}
    }
    let (status, body) = match reply.delivery {
        Delivery::Garbage => (
            StatusCode::OK,
            Bytes::from_static(b"<html>nothing to see here</html>"),
        ),
        _ => (reply.status, reply.body),
    };
    let mut response = Response::new(AnswerBody::new(body, reply.delivery));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(reply.content_type));
    for (name, text) in reply.headers {
        if let Ok(value) = HeaderValue::from_str(&text) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    Ok(response)
}
