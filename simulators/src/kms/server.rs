//! The HTTPS front of a KMS.

use std::net::SocketAddr;
use std::sync::Arc;

use hyper::{Method, StatusCode};

use super::faults::Fault;
use super::{Kms, SignedRequest};
use crate::http::Received;
use crate::https::{BadConnection, HttpsListener, Reply, ServerError, Service};

/// Serves `kms` on `listener` until the future is dropped.
///
/// # Errors
/// When no client can be accepted any more.
pub async fn serve(listener: HttpsListener, kms: Arc<Kms>) -> Result<(), ServerError> {
    listener.serve(kms).await
}

impl Service for Kms {
    fn bad_connection(&self) -> Option<BadConnection> {
        Some(match self.faults().for_connection()? {
            Fault::WrongCertificate { which } => BadConnection::Certificate(which),
            _ => BadConnection::Dropped,
        })
    }

    async fn answer(&self, request: Received, peer: SocketAddr) -> Reply {
        let plain = |status, text: &'static str| Reply::new(status, "text/plain", text);
        match (request.method(), request.uri().path()) {
            (&Method::POST, "/") => {}
            // What the genuine endpoints answer to health checks.
            (&Method::GET, "/ping") => return plain(StatusCode::OK, "healthy"),
            _ => return plain(StatusCode::NOT_FOUND, "<UnknownOperationException/>\n"),
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
        let answered = self.answer_signed(&signed, &peer.ip().to_string());
        let status = StatusCode::from_u16(answered.status).unwrap_or_default();
        let mut reply = Reply::new(
            status,
            "application/x-amz-json-1.1",
            answered.body.to_string(),
        );
        reply.delivery = answered
            .fault
            .map_or_else(Default::default, |fault| fault.delivery());
        reply = reply.with("x-amzn-requestid", answered.request_id);
        if let Some(code) = answered.error {
            reply = reply.with("x-amzn-errortype", code);
        }
        // SDKs learn from it how far their clock is off.
        reply.with("date", self.clock().now().http())
    }
}
