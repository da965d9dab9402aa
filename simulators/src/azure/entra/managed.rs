//! Managed identities: the instance metadata service's shape, and App Service's. Plain HTTP, on the machine only.

use std::io;
use std::sync::Arc;

use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use super::super::form::parameter;
use super::Entra;
use super::identities::ManagedIdentity;
use crate::http::{Answer, Listener, Received, json as json_answer, serve_plain};

/// Path of instance metadata's token endpoint (Entra, "How managed identities work with virtual machines").
const IMDS: &str = "/metadata/identity/oauth2/token";
/// Path of App Service's, as IDENTITY_ENDPOINT names it.
const APP_SERVICE: &str = "/msi/token";
/// A chip's certificate.
const CERTIFICATION: &str = "/metadata/THIM/amd/certification";

/// An error: status, code, text.
type Refusal = (StatusCode, &'static str, String);

/// Serves managed identities on `listener` until the future is dropped.
///
/// # Errors
/// When no client can be accepted any more.
pub async fn serve_managed(listener: Listener, entra: Arc<Entra>) -> io::Result<()> {
    serve_plain(listener, move |request| {
        let path = request.uri().path();
        match entra.managed(&request) {
            Ok(body) => {
                tracing::info!(path, "answered");
                json_answer(StatusCode::OK, &body)
            }
            Err((status, code, message)) => {
                tracing::info!(path, %status, message, "refused");
                refusal(status, code, &message)
            }
        }
    })
    .await
}

fn refusal(status: StatusCode, code: &str, message: &str) -> Answer {
    let body = json!({ "error": code, "error_description": message });
    json_answer(status, &body)
}

impl Entra {
    fn managed(&self, request: &Received) -> Result<Value, Refusal> {
        let header = |name: &str| {
            let value = request.headers().get(name);
            value.and_then(|value| value.to_str().ok())
        };
        let bad = |message: &str| {
            (
                StatusCode::BAD_REQUEST,
                "invalid_request",
                message.to_owned(),
            )
        };
        if request.method() != Method::GET {
            return Err((
                StatusCode::METHOD_NOT_ALLOWED,
                "invalid_request",
                String::new(),
            ));
        }
        let path = request.uri().path();
        let app_service = path == APP_SERVICE;
        if app_service {
            if header("x-identity-header") != Some(self.config.identity_header.as_str()) {
                let message = "X-IDENTITY-HEADER is missing or wrong".to_owned();
                return Err((StatusCode::UNAUTHORIZED, "unauthorized", message));
            }
        } else {
            if !header("metadata").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
                return Err(bad("Required metadata header not specified"));
            }
            // A request that came through a proxy gets nothing.
            if header("x-forwarded-for").is_some() {
                return Err(bad("X-Forwarded-For is not allowed"));
            }
        }
        if path == CERTIFICATION {
            return self.certification();
        }
        if path != IMDS && !app_service {
            return Err((
                StatusCode::NOT_FOUND,
                "not_found",
                format!("no {path} here"),
            ));
        }
        let query = request.uri().query().unwrap_or_default();
        let named = |names: &[&str]| names.iter().find_map(|name| parameter(query, name));
        if named(&["api-version"]).is_none() {
            return Err(bad("Required query variable 'api-version' is missing"));
        }
        let resource =
            named(&["resource"]).ok_or_else(|| bad("AADSTS50001: The resource is missing"))?;
        let identity = self.identity(
            named(&["client_id"]),
            named(&["object_id", "principal_id"]),
            named(&["msi_res_id", "mi_res_id"]),
        )?;
        let resource = resource.trim_end_matches('/');
        let id = identity.resource_id.clone().unwrap_or_else(|| {
            "/subscriptions/00000000-0000-0000-0000-000000000000/resourcegroups/nodeseal/providers/Microsoft.Compute/virtualMachines/node".to_owned()
        });
        let token = self.access_token(
            &identity.client_id,
            &identity.object_id,
            Some(&id),
            resource,
        );
        let (token, until) = token.map_err(|error| {
            (
                StatusCode::INTERNAL_SERVER_ERROR,
                "server_error",
                error.to_string(),
            )
        })?;
        let now = self.config.clock.now().seconds();
        Ok(json!({
            "access_token": token,
            "client_id": identity.client_id,
            "expires_in": self.config.lifetime.to_string(),
            "expires_on": until.to_string(),
            "ext_expires_in": self.config.lifetime.to_string(),
            "not_before": now.to_string(),
            "resource": resource,
            "token_type": "Bearer",
        }))
    }

    /// The identity named; the system-assigned one, or the only one there is, where none is.
    fn identity(
        &self,
        client_id: Option<String>,
        object_id: Option<String>,
        resource_id: Option<String>,
    ) -> Result<&ManagedIdentity, Refusal> {
        let bad = |message: &str| {
            (
                StatusCode::BAD_REQUEST,
                "invalid_request",
                message.to_owned(),
            )
        };
        let all = &self.config.identities.managed;
        let names = [&client_id, &object_id, &resource_id];
        match names.iter().filter(|name| name.is_some()).count() {
            0 => {}
            1 => {
                let is = |given: &Option<String>, own: Option<&str>| {
                    given
                        .as_deref()
                        .is_some_and(|given| own.is_some_and(|own| own.eq_ignore_ascii_case(given)))
                };
                let found = all.iter().find(|identity| {
                    is(&client_id, Some(&identity.client_id))
                        || is(&object_id, Some(&identity.object_id))
                        || is(&resource_id, identity.resource_id.as_deref())
                });
                return found.ok_or_else(|| bad("Identity not found"));
            }
            _ => {
                return Err(bad(
                    "Only one of client_id, object_id and msi_res_id may be given",
                ));
            }
        }
        let system = all.iter().find(|identity| identity.resource_id.is_none());
        match (system, all.as_slice()) {
            (Some(system), _) => Ok(system),
            (None, [only]) => Ok(only),
            (None, []) => Err(bad("Identity not found")),
            (None, _) => Err(bad(
                "Multiple user assigned identities exist, please specify the clientId / resourceId of the identity in the token request",
            )),
        }
    }

    fn certification(&self) -> Result<Value, Refusal> {
        let missing = |why: String| (StatusCode::NOT_FOUND, "not_found", why);
        let path = self.config.certification.as_ref();
        let path = path.ok_or_else(|| missing("no certification was given".to_owned()))?;
        let bytes = std::fs::read(path).map_err(|error| missing(error.to_string()))?;
        serde_json::from_slice(&bytes).map_err(|error| missing(error.to_string()))
    }
}
