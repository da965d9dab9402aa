//! HTTPS of the SDK through the agent's proxy.

use std::sync::{Arc, Mutex, PoisonError};

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use hyper::http::uri::Authority;
use tokio::task::JoinSet;

use crate::tunnel::{ConnectError, Connected, Tunnel, authority_of};

/// Most bytes of an answer's body: several times the longest KMS gives.
pub(super) const MAX_BODY: usize = 64 << 10;

/// A connection that is being made before there is a request for it; it ends with this.
pub(super) type Ahead = JoinSet<Result<Connected, ConnectError>>;

/// The SDK's HTTP client.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    tunnel: Tunnel,
    /// What the first request takes.
    ahead: Arc<Mutex<Option<Ahead>>>,
}

impl Connector {
    pub(super) fn new(tunnel: Tunnel, ahead: Option<Ahead>) -> Self {
        Self {
            tunnel,
            ahead: Arc::new(Mutex::new(ahead)),
        }
    }

    async fn connected(&self, to: &Authority) -> Result<Connected, ConnectError> {
        let ahead = self.ahead.lock();
        let ahead = ahead.unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut connecting) = ahead
            && let Some(Ok(connected)) = connecting.join_next().await
        {
            return connected;
        }
        self.tunnel.connect(to).await
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
    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, ConnectError> {
        let request = request
            .try_into_http1x()
            .map_err(|error| ConnectError::Request(error.to_string()))?;
        let authority = authority_of(&request)?;
        let connected = self.connected(&authority).await?;
        let answer = self.tunnel.exchange_on(connected, request).await?;
        HttpResponse::try_from(answer.map(SdkBody::from)).map_err(|error| ConnectError::Http {
            host: authority.to_string(),
            reason: error.to_string(),
        })
    }
}
