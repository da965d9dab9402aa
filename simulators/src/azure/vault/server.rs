//! The HTTPS front of a vault: one request, from its token to its audit record.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use hyper::StatusCode;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::super::error::{AzureError, AzureResult};
use super::super::faults::throttled;
use super::Vault;
use super::audit::Record;
use super::faults::VaultFault;
use super::names::{Operation, Target, target};
use crate::http::Received;
use crate::https::{BadConnection, HttpsListener, Reply, ServerError, Service};
use crate::text::uuid;
use crate::time::Timestamp;

/// Versions of the data plane that are known here (azure-rest-api-specs).
const API_VERSIONS: [&str; 7] = [
    "7.3",
    "7.4",
    "7.5",
    "7.6",
    "2025-07-01",
    "2026-04-01",
    "2026-03-01-preview",
];

/// A call in progress.
pub(super) struct Call<'a> {
    pub(super) target: &'a Target,
    pub(super) body: &'a [u8],
    /// `https://HOST`, as the client has dialled it.
    pub(super) base: &'a str,
    pub(super) api_version: &'a str,
    pub(super) now: Timestamp,
}

impl Call<'_> {
    /// The body, read.
    pub(super) fn body<T: DeserializeOwned>(&self) -> AzureResult<T> {
        let body = if self.body.is_empty() {
            b"{}"
        } else {
            self.body
        };
        serde_json::from_slice(body).map_err(|error| AzureError::bad(format!("body: {error}")))
    }

    /// Id of the key, or of a version of it.
    pub(super) fn id(&self, version: Option<&str>) -> String {
        let id = format!("{}/keys/{}", self.base, self.target.name);
        match version {
            Some(version) => format!("{id}/{version}"),
            None => id,
        }
    }
}

/// Serves `vault` on `listener` until the future is dropped.
///
/// # Errors
/// When no client can be accepted any more.
pub async fn serve(listener: HttpsListener, vault: Arc<Vault>) -> Result<(), ServerError> {
    listener.serve(vault).await
}

impl Service for Vault {
    fn bad_connection(&self) -> Option<BadConnection> {
        self.faults.for_connection()
    }

    async fn answer(&self, request: Received, peer: SocketAddr) -> Reply {
        let started = Instant::now();
        let header = |name: &str| {
            let value = request.headers().get(name);
            value
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default()
        };
        let request_id = uuid().unwrap_or_default();
        let client_request_id = header("x-ms-client-request-id").to_owned();
        let host = request
            .uri()
            .authority()
            .map_or_else(|| header("host"), |a| a.as_str());
        let base = format!("https://{host}");
        let api_version = query(&request, "api-version").unwrap_or_default();
        let target = target(request.method(), request.uri().path());
        let operation = target.as_ref().map_or("Unknown", |t| t.operation.name());
        let fault = self.faults.for_request(operation);

        let mut claims = None;
        let mut result = Err(AzureError::new(
            StatusCode::NOT_FOUND,
            "NotFound",
            format!(
                "this simulator has no {} {}",
                request.method(),
                request.uri().path()
            ),
        ));
        if let Some(target) = &target {
            let call = Call {
                target,
                body: request.body(),
                base: &base,
                api_version: &api_version,
                now: self.clock().now(),
            };
            result = self.authenticate(&request);
            if let Ok(found) = &result {
                claims = Some(found.clone());
                let own = fault.as_ref().and_then(|fault| fault.own().copied());
                result = match fault.as_ref().and_then(|fault| fault.injected()) {
                    Some(error) => Err(error),
                    None => match self.admit(&call, found) {
                        Ok(()) => self.perform(&call, own).await,
                        Err(error) => Err(error),
                    },
                };
            }
        }
        let status = match &result {
            Ok(Value::Null) => StatusCode::NO_CONTENT,
            Ok(_) => StatusCode::OK,
            Err(error) => error.status,
        };
        let refusal = result.as_ref().err();
        let id = target.as_ref().map(|t| format!("{base}/keys/{}", t.name));
        // What a client sends before it knows where tokens come from is logged as such.
        let operation = match status {
            StatusCode::UNAUTHORIZED => "Authentication",
            _ => operation,
        };
        let record = Record {
            time: self.clock().now(),
            vault: &self.config.name,
            operation,
            api_version: &api_version,
            status: status.as_u16(),
            refusal: refusal.map(|e| (e.inner.clone().unwrap_or_default(), e.message.clone())),
            milliseconds: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
            address: &peer.ip().to_string(),
            correlation_id: if client_request_id.is_empty() {
                &request_id
            } else {
                &client_request_id
            },
            claims: claims.as_ref(),
            client: header("user-agent"),
            uri: &format!("{base}{}", request.uri()),
            id: id.as_deref(),
        };
        self.audit.write(&record.json());
        match refusal {
            None => tracing::info!(operation, request_id, "answered"),
            Some(error) => {
                tracing::info!(operation, request_id, %status, reason = error.message, "refused");
            }
        }
        let mut reply = match &result {
            Ok(Value::Null) => Reply::new(status, "application/json; charset=utf-8", ""),
            Ok(body) => Reply::json(status, body),
            Err(error) => self.refusal(error),
        };
        if let Some(fault) = &fault {
            reply.delivery = fault.delivery();
        }
        if !client_request_id.is_empty() {
            reply = reply.with("x-ms-client-request-id", client_request_id);
        }
        reply
            .with("x-ms-request-id", request_id)
            .with("x-ms-keyvault-region", "westeurope")
            .with("x-ms-keyvault-service-version", "nodeseal-sim")
            .with(
                "x-ms-keyvault-network-info",
                format!(
                    "conn_type=Ipv4;addr={};act_addr_fam=InterNetwork;",
                    peer.ip()
                ),
            )
    }
}

impl Vault {
    fn refusal(&self, error: &AzureError) -> Reply {
        let mut reply = Reply::json(error.status, &error.body());
        if error.challenge {
            let config = &self.config;
            let challenge = format!(
                "Bearer authorization=\"{}/{}\", resource=\"{}\"",
                config.authority, config.tenant, config.resource
            );
            reply = reply.with("www-authenticate", challenge);
        }
        if let Some(seconds) = error.retry_after {
            reply = reply.with("retry-after", seconds.to_string());
        }
        reply
    }

    /// Whether the call is taken: its API version, its caller's roles, the vault's limits.
    fn admit(&self, call: &Call<'_>, claims: &Value) -> AzureResult<()> {
        if !API_VERSIONS.contains(&call.api_version) {
            return Err(AzureError::bad(format!(
                "api-version: {:?} is not supported; this simulator knows {}",
                call.api_version,
                API_VERSIONS.join(", ")
            )));
        }
        self.authorize(claims, call.target)?;
        self.window
            .take(call.now, self.cost(call))
            .map_err(|milliseconds| {
                let mut error = throttled();
                error.retry_after = self.config.retry_after.then(|| milliseconds.div_ceil(1000));
                error
            })
    }

    async fn perform(&self, call: &Call<'_>, fault: Option<VaultFault>) -> AzureResult<Value> {
        match call.target.operation {
            Operation::Create => self.create(call, false),
            Operation::Import => self.create(call, true),
            Operation::Get => self.get(call),
            Operation::List => self.list(call, false),
            Operation::ListVersions => self.list_versions(call),
            Operation::Update => self.update(call),
            Operation::Rotate => self.rotate(call),
            Operation::Delete => self.delete(call),
            Operation::GetDeleted => self.get_deleted(call),
            Operation::ListDeleted => self.list(call, true),
            Operation::Recover => self.recover(call),
            Operation::Purge => self.purge(call),
            Operation::Encrypt | Operation::Decrypt | Operation::Wrap | Operation::Unwrap => {
                self.cipher(call, fault)
            }
            Operation::Release => self.release(call, fault).await,
        }
    }
}

/// A parameter of the query.
fn query(request: &Received, name: &str) -> Option<String> {
    let query = request.uri().query().unwrap_or_default();
    super::super::form::parameter(query, name)
}
