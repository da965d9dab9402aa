//! HTTPS of the SDK through the agent's proxy.

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;

use crate::tunnel::{ConnectError, Tunnel};

/// Most bytes of an answer's body: several times the longest KMS gives.
pub(super) const MAX_BODY: usize = 64 << 10;

/// The SDK's HTTP client.
#[derive(Clone, Debug)]
pub(super) struct Connector(pub(super) Tunnel);

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
        let host = request.uri().authority().map(ToString::to_string);
        let answer = self.0.exchange(request).await?.map(SdkBody::from);
        HttpResponse::try_from(answer).map_err(|error| ConnectError::Http {
            host: host.unwrap_or_default(),
            reason: error.to_string(),
        })
    }
}
