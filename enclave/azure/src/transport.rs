//! HTTPS of the SDK through the tunnel, and the token that came with the request.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use azure_core::credentials::{AccessToken, TokenCredential, TokenRequestOptions};
use azure_core::error::ErrorKind;
use azure_core::http::headers::{Headers, WWW_AUTHENTICATE};
use azure_core::http::{AsyncRawResponse, Body, HttpClient, Method, Request, StatusCode};
use azure_core::time::OffsetDateTime;
use azure_core::{Bytes, Error};
use http_body_util::Full;
use nodeseal_core::tunnel::Tunnel;

/// Most bytes of an answer's body: several times the longest release.
pub(crate) const MAX_BODY: usize = 256 << 10;

/// What vaults said one needs to authenticate, by host. The SDK asks each vault once without a token to learn it; what is
/// known already is answered here, so that an open costs one request and not two.
pub(crate) type Challenges = Mutex<HashMap<String, String>>;

/// What one attempt left in the logs of Azure.
#[derive(Clone, Default)]
pub(crate) struct Trace {
    /// `x-ms-client-request-id` of the last attempt: `correlationId` in the vault's log.
    pub(crate) client_request_id: String,
    /// `x-ms-request-id` of the last answer.
    pub(crate) request_id: Option<String>,
    /// `Retry-After` of the last answer, in seconds.
    pub(crate) retry_after: Option<u64>,
}

/// The SDK's HTTP client for one call.
pub(crate) struct Transport {
    pub(crate) tunnel: Tunnel,
    pub(crate) challenges: Arc<Challenges>,
    pub(crate) trace: Arc<Mutex<Trace>>,
}

impl std::fmt::Debug for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Transport").field(&self.tunnel).finish()
    }
}

#[async_trait::async_trait]
impl HttpClient for Transport {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<AsyncRawResponse> {
        let host = request.url().host_str().unwrap_or_default().to_owned();
        let authorized = request
            .headers()
            .iter()
            .any(|(name, _)| name.as_str() == "authorization");
        if !authorized && let Some(challenge) = self.challenge(&host) {
            let mut headers = Headers::new();
            headers.insert(WWW_AUTHENTICATE, challenge);
            let status = StatusCode::Unauthorized;
            return Ok(AsyncRawResponse::from_bytes(status, headers, Bytes::new()));
        }
        let id = request_id()?;
        self.trace().client_request_id.clone_from(&id);
        let sent = self.tunnel.exchange(http_request(request, &id)?);
        let answer = sent
            .await
            .map_err(|error| Error::new(ErrorKind::Io, error))?;
        let status = StatusCode::from(answer.status().as_u16());
        let (head, body) = answer.into_parts();
        let mut headers = Headers::new();
        for (name, value) in &head.headers {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            headers.insert(name.as_str().to_owned(), value);
        }
        let text = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
        let mut trace = self.trace();
        trace.request_id = text("x-ms-request-id").map(str::to_owned);
        trace.retry_after = text("retry-after").and_then(|seconds| seconds.parse().ok());
        drop(trace);
        if status == StatusCode::Unauthorized
            && let Some(challenge) = text("www-authenticate")
        {
            self.challenges
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(host, challenge.to_owned());
        }
        Ok(AsyncRawResponse::from_bytes(status, headers, body))
    }
}

impl Transport {
    fn challenge(&self, host: &str) -> Option<String> {
        let challenges = self
            .challenges
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        challenges.get(host).cloned()
    }

    fn trace(&self) -> std::sync::MutexGuard<'_, Trace> {
        self.trace.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn http_request(request: &Request, id: &str) -> azure_core::Result<hyper::Request<Full<Bytes>>> {
    let bad = |error: hyper::http::Error| Error::new(ErrorKind::Other, error);
    let method = match request.method() {
        Method::Get => hyper::Method::GET,
        Method::Post => hyper::Method::POST,
        other => {
            return Err(Error::with_message(
                ErrorKind::Other,
                format!("method {other:?}"),
            ));
        }
    };
    let mut builder = hyper::Request::builder()
        .method(method)
        .uri(request.url().as_str());
    for (name, value) in request.headers().iter() {
        // Each attempt has an id of its own, the body its own length.
        if !matches!(name.as_str(), "x-ms-client-request-id" | "content-length") {
            builder = builder.header(name.as_str(), value.as_str());
        }
    }
    let body = match request.body() {
        Body::Bytes(bytes) => bytes.clone(),
        Body::SeekableStream(_) => {
            return Err(Error::with_message(ErrorKind::Other, "a stream as body"));
        }
    };
    builder
        .header("x-ms-client-request-id", id)
        .body(Full::new(body))
        .map_err(bad)
}

/// A random UUID (RFC 9562 §5.4).
pub(crate) fn request_id() -> azure_core::Result<String> {
    let mut bytes: [u8; 16] = nodeseal_core::crypto::random()
        .map_err(|error| Error::with_message(ErrorKind::Other, error.to_string()))?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = nodeseal_attestation::hex::encode(&bytes);
    let parts = [0..8, 8..12, 12..16, 16..20, 20..32]
        .map(|part| hex.get(part).unwrap_or_default().to_owned());
    Ok(parts.join("-"))
}

/// Hands out the token the agent passed along. It is never refreshed here: this side has neither the means nor the right.
pub(crate) struct PassedToken {
    pub(crate) token: String,
    pub(crate) expires: u64,
}

impl std::fmt::Debug for PassedToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PassedToken")
    }
}

#[async_trait::async_trait]
impl TokenCredential for PassedToken {
    async fn get_token(
        &self,
        _: &[&str],
        _: Option<TokenRequestOptions<'_>>,
    ) -> azure_core::Result<AccessToken> {
        // Whether it is expired is for the vault to say: its clock counts.
        let expires = i64::try_from(self.expires)
            .ok()
            .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
        let expires = expires.unwrap_or_else(OffsetDateTime::now_utc);
        Ok(AccessToken::new(self.token.clone(), expires))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_request_id_is_a_random_uuid() {
        let id = request_id().unwrap();
        assert_eq!(id.len(), 36);
        assert_eq!(id.as_bytes()[14], b'4');
        assert!(b"89ab".contains(&id.as_bytes()[19]), "{id}");
        assert_ne!(id, request_id().unwrap());
    }
}
