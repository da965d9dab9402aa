//! One HTTP request through the agent's proxy; TLS ends here, and nothing is read without a bound.

use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body, Bytes};
use hyper::header::{HOST, HeaderValue};
use hyper::http::uri::Authority;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::dial::Stream;
use super::egress::{Egress, EgressError};

/// Most bytes of an answer's headers.
const MAX_HEADERS: usize = 32 << 10;

/// No answer.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// No way out.
    #[error(transparent)]
    Egress(#[from] EgressError),
    /// Somebody else answers, or TLS fails.
    #[error("{host} is not trusted: {source}")]
    Tls {
        /// `HOST:PORT`.
        host: String,
        /// What TLS says.
        source: rustls::Error,
    },
    /// The connection broke.
    #[error("the connection to {host} failed: {source}")]
    Io {
        /// `HOST:PORT`.
        host: String,
        /// How.
        source: std::io::Error,
    },
    /// The answer is not HTTP.
    #[error("{host} does not speak HTTP: {reason}")]
    Http {
        /// `HOST:PORT`.
        host: String,
        /// What is wrong.
        reason: String,
    },
    /// The answer is longer than any this service gives.
    #[error("{host} answers with more than {limit} bytes")]
    TooLarge {
        /// `HOST:PORT`.
        host: String,
        /// Most that is read, in bytes.
        limit: usize,
    },
    /// The request is none.
    #[error("the request cannot be sent: {0}")]
    Request(String),
}

/// A way to servers that TLS proves: one connection for each request.
#[derive(Clone)]
pub struct Tunnel {
    /// Whom to trust.
    pub tls: TlsConnector,
    /// The way out.
    pub egress: Egress,
    /// Most bytes of an answer's body.
    pub max_body: usize,
}

/// A server that TLS has proved, for one exchange.
pub struct Connected {
    stream: TlsStream<Box<dyn Stream>>,
    /// `HOST:PORT`.
    target: String,
    /// As the request names it.
    authority: Authority,
}

impl std::fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Tunnel").field(&self.egress).finish()
    }
}

impl Tunnel {
    /// Sends a request whose URI is absolute, and takes the whole answer.
    ///
    /// Dropping the future closes the connection; the caller bounds the time that way.
    ///
    /// # Errors
    /// When there is no complete answer.
    pub async fn exchange<B>(&self, request: Request<B>) -> Result<Response<Bytes>, ConnectError>
    where
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let authority = authority_of(&request)?;
        let connected = self.connect(&authority).await?;
        self.exchange_on(connected, request).await
    }

    /// Connects to `authority`: through the proxy, and by TLS, which proves who answers.
    ///
    /// # Errors
    /// When the way there fails, or somebody else answers.
    pub async fn connect(&self, authority: &Authority) -> Result<Connected, ConnectError> {
        let host = authority.host().to_owned();
        let target = format!("{host}:{}", authority.port_u16().unwrap_or(443));
        let stream = self.egress.connect(&target).await?;
        let name = ServerName::try_from(host).map_err(|error| bad_request(&error))?;
        let stream = self
            .tls
            .connect(name, stream)
            .await
            .map_err(|error| connection_failed(&target, error))?;
        Ok(Connected {
            stream,
            target,
            authority: authority.clone(),
        })
    }

    /// [`Tunnel::exchange`] on a connection that is there already.
    ///
    /// # Errors
    /// When there is no complete answer.
    pub async fn exchange_on<B>(
        &self,
        connected: Connected,
        mut request: Request<B>,
    ) -> Result<Response<Bytes>, ConnectError>
    where
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let Connected {
            stream,
            target,
            authority,
        } = connected;
        let value = HeaderValue::from_str(authority.as_str());
        let value = value.map_err(|error| bad_request(&error))?;
        request.headers_mut().insert(HOST, value);
        let path = request.uri().path_and_query().cloned();
        *request.uri_mut() = path.map_or_else(|| hyper::Uri::from_static("/"), Into::into);
        let http = |error: hyper::Error| http_failed(&target, &error);
        let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
            .max_buf_size(MAX_HEADERS)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(http)?;
        let exchange = async {
            let response = sender.send_request(request).await.map_err(http)?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, self.max_body).collect().await;
            let body = body.map_err(|error| self.body_failed(&target, error.as_ref()))?;
            Ok(Response::from_parts(head, body.to_bytes()))
        };
        // The connection's own end says nothing the exchange does not say better.
        tokio::select! {
            biased;
            answer = exchange => answer,
            never = async { let _ = connection.await; std::future::pending().await } => never,
        }
    }

    fn body_failed(
        &self,
        target: &str,
        error: &(dyn std::error::Error + Send + Sync + 'static),
    ) -> ConnectError {
        if error.is::<LengthLimitError>() {
            return ConnectError::TooLarge {
                host: target.to_owned(),
                limit: self.max_body,
            };
        }
        match error.downcast_ref::<hyper::Error>() {
            Some(error) => http_failed(target, error),
            None => ConnectError::Http {
                host: target.to_owned(),
                reason: error.to_string(),
            },
        }
    }
}

/// Where the request goes.
///
/// # Errors
/// When its URI names no host.
pub fn authority_of<B>(request: &Request<B>) -> Result<Authority, ConnectError> {
    let authority = request.uri().authority().cloned();
    authority.ok_or_else(|| bad_request(&"it names no host"))
}

fn bad_request(reason: &dyn ToString) -> ConnectError {
    ConnectError::Request(reason.to_string())
}

fn connection_failed(target: &str, error: std::io::Error) -> ConnectError {
    let host = target.to_owned();
    let tls = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls.cloned() {
        Some(source) => ConnectError::Tls { host, source },
        None => ConnectError::Io {
            host,
            source: error,
        },
    }
}

fn http_failed(target: &str, error: &hyper::Error) -> ConnectError {
    let host = target.to_owned();
    let cause = std::error::Error::source(error);
    match cause.and_then(|cause| cause.downcast_ref::<std::io::Error>()) {
        // TLS faults after the handshake: a connection cut off, or cut into.
        Some(source) => ConnectError::Io {
            host,
            source: std::io::Error::new(source.kind(), source.to_string()),
        },
        None if error.is_incomplete_message() || error.is_closed() || error.is_canceled() => {
            ConnectError::Io {
                host,
                source: std::io::Error::new(
                    std::io::ErrorKind::UnexpectedEof,
                    "closed before the answer was complete",
                ),
            }
        }
        None => ConnectError::Http {
            host,
            reason: error.to_string(),
        },
    }
}
