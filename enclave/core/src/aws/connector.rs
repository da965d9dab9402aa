//! HTTPS of the SDK through the agent's proxy; TLS ends here, and nothing is read without a bound.

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::header::{HOST, HeaderValue};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;

use super::egress::{Egress, EgressError};

/// Most bytes of an answer's body: several times the longest KMS gives.
pub(super) const MAX_BODY: usize = 64 << 10;
/// Most bytes of an answer's headers.
const MAX_HEADERS: usize = 32 << 10;

/// No answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error(transparent)]
    Egress(#[from] EgressError),
    #[error("{host} is not trusted to be KMS: {source}")]
    Tls { host: String, source: rustls::Error },
    #[error("the connection to {host} failed: {source}")]
    Io {
        host: String,
        source: std::io::Error,
    },
    #[error("{host} does not speak HTTP: {reason}")]
    Http { host: String, reason: String },
    #[error("{host} answers with more than {MAX_BODY} bytes")]
    TooLarge { host: String },
    #[error("the request cannot be sent: {0}")]
    Request(String),
}

/// The SDK's HTTP client: one connection for each request.
#[derive(Clone)]
pub(super) struct Connector {
    pub(super) tls: TlsConnector,
    pub(super) egress: Egress,
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Connector").field(&self.egress).finish()
    }
}

impl HttpClient for Connector {
    fn http_connector(
        &self,
        _: &HttpConnectorSettings,
        _: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let this = self.clone();
        HttpConnectorFuture::new(async move {
            let answer = this.send(request).await;
            answer.map_err(|error| ConnectorError::other(Box::new(error), None))
        })
    }
}

impl Connector {
    /// Dropping the future closes the connection; the caller bounds the time that way.
    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, ConnectError> {
        let bad_request = |reason: &dyn ToString| ConnectError::Request(reason.to_string());
        let mut request = request
            .try_into_http1x()
            .map_err(|error| bad_request(&error))?;
        let authority = request.uri().authority().cloned();
        let authority = authority.ok_or_else(|| bad_request(&"it names no host"))?;
        let host = authority.host().to_owned();
        let target = format!("{host}:{}", authority.port_u16().unwrap_or(443));
        let value = HeaderValue::from_str(authority.as_str());
        let value = value.map_err(|error| bad_request(&error))?;
        request.headers_mut().insert(HOST, value);
        let path = request.uri().path_and_query().cloned();
        *request.uri_mut() = path.map_or_else(|| hyper::Uri::from_static("/"), Into::into);

        let stream = self.egress.connect(&target).await?;
        let name = ServerName::try_from(host.clone()).map_err(|error| bad_request(&error))?;
        let stream = self
            .tls
            .connect(name, stream)
            .await
            .map_err(|error| connection_failed(&target, error))?;
        let http = |error: hyper::Error| http_failed(&target, &error);
        let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
            .max_buf_size(MAX_HEADERS)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(http)?;
        let exchange = async {
            let response = sender.send_request(request).await.map_err(http)?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, MAX_BODY).collect().await;
            let body = body.map_err(|error| body_failed(&target, error.as_ref()))?;
            let body = SdkBody::from(body.to_bytes());
            let response = hyper::Response::from_parts(head, body);
            HttpResponse::try_from(response).map_err(|error| ConnectError::Http {
                host: target.clone(),
                reason: error.to_string(),
            })
        };
        // The connection's own end says nothing the exchange does not say better.
        tokio::select! {
            biased;
            answer = exchange => answer,
            never = async { let _ = connection.await; std::future::pending().await } => never,
        }
    }
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

fn body_failed(
    target: &str,
    error: &(dyn std::error::Error + Send + Sync + 'static),
) -> ConnectError {
    if error.is::<LengthLimitError>() {
        return ConnectError::TooLarge {
            host: target.to_owned(),
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
