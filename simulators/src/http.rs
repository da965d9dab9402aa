//! HTTP/1.1 serving shared by the simulated services: bounded bodies, bounded waits, many clients.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinSet;

/// Most bytes of a request body. The largest genuine one, an attestation document of 262144 bytes, is a third of it.
pub(crate) const MAX_BODY: usize = 1 << 20;
/// How long a client may take for its headers, and again for its body.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where to listen.
#[derive(Clone, Debug)]
pub enum Endpoint {
    /// TCP; port 0 takes a free one.
    Tcp(SocketAddr),
    /// Unix socket.
    Unix(PathBuf),
}

impl std::str::FromStr for Endpoint {
    type Err = String;

    /// `unix:PATH` or `ADDRESS:PORT`.
    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("unix:") {
            Some(path) if !path.is_empty() => Ok(Self::Unix(PathBuf::from(path))),
            _ => text
                .parse()
                .map(Self::Tcp)
                .map_err(|_| format!("{text:?}: expected unix:PATH or ADDRESS:PORT")),
        }
    }
}

/// A socket that listens.
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// Unix socket.
    Unix(UnixListener, PathBuf),
}

impl Listener {
    /// Listens on `endpoint`, replacing a unix socket nobody listens on any more.
    ///
    /// # Errors
    /// When the address is taken or not ours.
    pub async fn bind(endpoint: &Endpoint) -> io::Result<Self> {
        match endpoint {
            Endpoint::Tcp(address) => Ok(Self::Tcp(TcpListener::bind(address).await?)),
            Endpoint::Unix(path) => Ok(Self::Unix(bind_unix(path)?, path.clone())),
        }
    }

    /// How a client names it: `http://ADDRESS:PORT` or `unix:PATH`.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn name(&self) -> io::Result<String> {
        match self {
            Self::Tcp(listener) => Ok(format!("http://{}", listener.local_addr()?)),
            Self::Unix(_, path) => Ok(format!("unix:{}", path.display())),
        }
    }
}

/// Listens on the unix socket `path`, replacing one nobody listens on any more.
///
/// # Errors
/// When somebody does, or the path cannot be used.
pub fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    let probe = std::os::unix::net::UnixStream::connect(path);
    if probe.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
        std::fs::remove_file(path)?;
    }
    UnixListener::bind(path)
}

/// A request read whole.
pub(crate) type Received = Request<Bytes>;
/// An answer held whole.
pub(crate) type Answer = Response<Full<Bytes>>;

/// What is answered instead of what was asked for: status and text.
pub(crate) type Refused = (StatusCode, String);

/// Answers every client of `listener` by `answer` until the future is dropped.
///
/// # Errors
/// When no client can be accepted any more.
pub(crate) async fn serve_plain<F>(listener: Listener, answer: F) -> io::Result<()>
where
    F: Fn(Received) -> Answer + Send + Sync + 'static,
{
    let answer = Arc::new(answer);
    let mut clients = JoinSet::new();
    loop {
        match &listener {
            Listener::Tcp(tcp) => {
                let (stream, _) = tcp.accept().await?;
                clients.spawn(plain_client(stream, answer.clone()));
            }
            Listener::Unix(unix, _) => {
                let (stream, _) = unix.accept().await?;
                clients.spawn(plain_client(stream, answer.clone()));
            }
        }
        while clients.try_join_next().is_some() {}
    }
}

async fn plain_client<S, F>(stream: S, answer: Arc<F>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Fn(Received) -> Answer + Send + Sync + 'static,
{
    let service = service_fn(|request: Request<Incoming>| {
        let answer = answer.clone();
        async move {
            Ok::<_, Infallible>(match whole(request).await {
                Ok(request) => answer(request),
                Err(status) => text(status, "the request body is too long or too slow"),
            })
        }
    });
    if let Err(error) = connection()
        .serve_connection(TokioIo::new(stream), service)
        .await
    {
        tracing::debug!(%error, "a client is gone");
    }
}

/// The settings every connection is served with.
pub(crate) fn connection() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE);
    builder
}

/// Reads the request's body.
///
/// # Errors
/// The status to answer when it is too long or too slow.
pub(crate) async fn whole<B>(request: Request<B>) -> Result<Received, StatusCode>
where
    B: Body,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (head, body) = request.into_parts();
    let read = Limited::new(body, MAX_BODY).collect();
    match tokio::time::timeout(PATIENCE, read).await {
        Ok(Ok(body)) => Ok(Request::from_parts(head, body.to_bytes())),
        Ok(Err(_)) => Err(StatusCode::PAYLOAD_TOO_LARGE),
        Err(_) => Err(StatusCode::REQUEST_TIMEOUT),
    }
}

/// The JSON in a request to an admin door.
pub(crate) fn read<T: DeserializeOwned>(request: &Received) -> Result<T, Refused> {
    serde_json::from_slice(request.body())
        .map_err(|error| (StatusCode::BAD_REQUEST, error.to_string()))
}

/// A plain-text answer.
pub(crate) fn text(status: StatusCode, body: impl Into<String>) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body.into())));
    *answer.status_mut() = status;
    answer
}

/// A JSON answer.
pub(crate) fn json(status: StatusCode, body: &Value) -> Answer {
    let mut answer = text(status, body.to_string());
    let kind = hyper::header::HeaderValue::from_static("application/json");
    answer
        .headers_mut()
        .insert(hyper::header::CONTENT_TYPE, kind);
    answer
}
