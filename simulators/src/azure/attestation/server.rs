//! The HTTPS front of the attestation service, and its admin door.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};

use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use super::super::error::{AzureError, AzureResult};
use super::super::faults::Fault;
use super::super::form::parameter;
use super::faults::AttestationFault;
use super::{Attestation, envelope, request};
use crate::http::{self, Listener, Received, Refused};
use crate::https::{BadConnection, HttpsListener, Reply, ServerError, Service};
use crate::pki::TokenSigner;
use crate::text::{base64, base64url, uuid};
use crate::time::Offset;

/// Versions of AzureGuest that are known here.
const API_VERSIONS: [&str; 3] = ["2020-10-01", "2022-08-01", "2025-06-01"];

/// Serves `service` on `listener` until the future is dropped.
///
/// # Errors
/// When no client can be accepted any more.
pub async fn serve(listener: HttpsListener, service: Arc<Attestation>) -> Result<(), ServerError> {
    listener.serve(service).await
}

impl Service for Attestation {
    fn bad_connection(&self) -> Option<BadConnection> {
        self.faults.for_connection()
    }

    async fn answer(&self, request: Received, _peer: SocketAddr) -> Reply {
        let path = request.uri().path().trim_end_matches('/');
        let issuer = &self.config.issuer;
        let mut fault = None;
        let result = match (request.method(), path) {
            (&Method::GET, "/certs") => Ok(self.config.signer.jwks()),
            (&Method::GET, "/.well-known/openid-configuration") => Ok(json!({
                "issuer": issuer,
                "jwks_uri": format!("{issuer}/certs"),
                "response_types_supported": ["token"],
                "id_token_signing_alg_values_supported": ["RS256"],
                "claims_supported": ["is-debuggable", "x-ms-attestation-type", "x-ms-runtime"],
            })),
            (&Method::POST, "/attest/AzureGuest") => {
                fault = self.faults.for_request("AttestAzureGuest");
                match fault.as_ref().and_then(Fault::injected) {
                    Some(error) => Err(error),
                    None => self.attest(&request, fault.as_ref().and_then(|f| f.own().copied())),
                }
            }
            (method, path) => Err(AzureError::new(
                StatusCode::NOT_FOUND,
                "NotFound",
                format!("this simulator has no {method} {path}"),
            )),
        };
        let mut reply = match &result {
            Ok(body) => {
                tracing::info!(path, "answered");
                Reply::json(StatusCode::OK, body)
            }
            Err(error) => {
                tracing::info!(path, reason = error.message, "refused");
                let reply = Reply::json(error.status, &error.body());
                match error.retry_after {
                    Some(seconds) => reply.with("retry-after", seconds.to_string()),
                    None => reply,
                }
            }
        };
        if let Some(fault) = &fault {
            reply.delivery = fault.delivery();
        }
        reply.with("x-ms-request-id", uuid().unwrap_or_default())
    }
}

impl Attestation {
    fn attest(&self, received: &Received, fault: Option<AttestationFault>) -> AzureResult<Value> {
        let query = received.uri().query().unwrap_or_default();
        let version = parameter(query, "api-version").unwrap_or_default();
        if !API_VERSIONS.contains(&version.as_str()) {
            let message = format!(
                "api-version: {version:?} is not one of {}",
                API_VERSIONS.join(", ")
            );
            return Err(request::invalid(message));
        }
        let guest = request::read(received.body())?;
        for value in guest.client_payload.values() {
            request::bytes("ClientPayload", value)?;
        }
        let checked = self.check(&guest)?;
        let mut claims = self.claims(&guest, &checked)?;
        tamper(&mut claims, fault);
        let signer: &TokenSigner = match fault {
            Some(AttestationFault::ForeignToken) => &self.config.stranger,
            _ => &self.config.signer,
        };
        let location = format!("{}/certs", self.config.issuer);
        let mut token = signer.token(&[("jku", &location)], &claims)?;
        if fault == Some(AttestationFault::ForeignToken) {
            token = self.relabelled(&token)?;
        }
        let garbled = fault == Some(AttestationFault::GarbledEnvelope);
        let mut envelope = envelope::seal(&token, &checked.ephemeral, garbled)?;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if fault == Some(AttestationFault::ReplayEnvelope)
            && let Some(before) = last.take()
        {
            envelope = before;
        }
        *last = Some(envelope.clone());
        Ok(json!({ "token": envelope }))
    }

    /// A stranger's token under the service's own key id.
    fn relabelled(&self, token: &str) -> AzureResult<String> {
        let honest = self.config.signer.token(&[], &json!({}))?;
        let header = honest.split('.').next().unwrap_or_default();
        let rest = token.split_once('.').map_or("", |(_, rest)| rest);
        Ok(format!("{header}.{rest}"))
    }
}

fn tamper(claims: &mut Value, fault: Option<AttestationFault>) {
    match fault {
        Some(AttestationFault::ExpiredToken) => {
            let hours = |claims: &Value, name: &str, hours: u64| {
                claims
                    .get(name)
                    .and_then(Value::as_u64)
                    .unwrap_or_default()
                    .saturating_sub(hours * 3600)
            };
            for (name, ago) in [("iat", 9), ("nbf", 9)] {
                claims[name] = hours(claims, name, ago).into();
            }
            claims["exp"] = (hours(claims, "iat", 0).saturating_add(8 * 3600)).into();
        }
        Some(AttestationFault::OtherIssuer) => {
            claims["iss"] = "https://sharedother.other.attest.azure.net".into();
        }
        Some(AttestationFault::OtherNonce) => {
            claims["x-ms-runtime"]["client-payload"]["nonce"] = base64(&[0; 32]).into();
        }
        Some(AttestationFault::OtherKey) => {
            claims["x-ms-runtime"]["keys"][0]["n"] = base64url([0xd5; 256]).into();
        }
        _ => {}
    }
}

/// Answers on `listener` until the future is dropped: `/faults`, and PUT `/clock`.
///
/// # Errors
/// When no client can be accepted any more.
pub async fn serve_admin(listener: Listener, service: Arc<Attestation>) -> io::Result<()> {
    http::serve_plain(listener, move |request| {
        administer(&service, &request).unwrap_or_else(|(status, body)| http::text(status, body))
    })
    .await
}

fn administer(service: &Attestation, request: &Received) -> Result<http::Answer, Refused> {
    match (request.method(), request.uri().path()) {
        (_, "/faults") => service.faults().queue().administer(request),
        (&Method::PUT, "/clock") => {
            http::read::<Offset>(request)?.set(service.clock());
            Ok(http::json(StatusCode::OK, &json!({})))
        }
        (method, path) => Err((StatusCode::NOT_FOUND, format!("no {method} {path} here"))),
    }
}
