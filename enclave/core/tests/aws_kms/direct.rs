//! HTTPS to the simulator without a proxy, for the administrator.

use std::sync::Arc;

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

#[derive(Clone)]
pub struct Direct(TlsConnector);

impl std::fmt::Debug for Direct {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Direct")
    }
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

impl Direct {
    pub fn new(authority: &[u8]) -> Self {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(authority).unwrap())
            .unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self(TlsConnector::from(Arc::new(config)))
    }

    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, Failure> {
        let mut request = request.try_into_http1x()?;
        let authority = request.uri().authority().cloned().ok_or("no host")?;
        let host = authority.as_str().parse()?;
        request.headers_mut().insert(hyper::header::HOST, host);
        *request.uri_mut() = hyper::Uri::from_static("/");
        let stream = TcpStream::connect(authority.as_str()).await?;
        let name = ServerName::try_from(authority.host().to_owned())?;
        let stream = self.0.connect(name, stream).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let (head, body) = sender.send_request(request).await?.into_parts();
        let body = SdkBody::from(body.collect().await?.to_bytes());
        Ok(HttpResponse::try_from(hyper::Response::from_parts(
            head, body,
        ))?)
    }
}

impl HttpClient for Direct {
    fn http_connector(
        &self,
        _: &HttpConnectorSettings,
        _: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for Direct {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let this = self.clone();
        HttpConnectorFuture::new(
            async move { this.send(request).await.map_err(ConnectorError::io) },
        )
    }
}
