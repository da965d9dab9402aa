//! The token endpoint: client credentials by secret, certificate or another issuer's token.

use std::net::SocketAddr;
use std::sync::Arc;

use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use super::super::form::parameter;
use super::Entra;
use super::assertion;
use crate::http::Received;
use crate::https::{BadConnection, HttpsListener, Reply, ServerError, Service};
use crate::text::uuid;

const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// Serves the token endpoint on `listener` until the future is dropped.
///
/// # Errors
/// When no client can be accepted any more.
pub async fn serve(listener: HttpsListener, entra: Arc<Entra>) -> Result<(), ServerError> {
    listener.serve(entra).await
}

/// An error of the endpoint: status, OAuth 2.0 code, number, text.
type Refusal = (StatusCode, &'static str, u32, String);

impl Service for Entra {
    fn bad_connection(&self) -> Option<BadConnection> {
        None
    }

    async fn answer(&self, request: Received, _peer: SocketAddr) -> Reply {
        let path = request.uri().path().trim_matches('/').to_owned();
        let host = request.headers().get("host");
        let host = host.and_then(|host| host.to_str().ok()).unwrap_or_default();
        let (tenant, rest) = path.split_once('/').unwrap_or((path.as_str(), ""));
        let base = format!("https://{host}/{tenant}");
        let answered = match (request.method(), rest) {
            (&Method::GET, "v2.0/.well-known/openid-configuration") => {
                self.known(tenant).map(|()| {
                    json!({
                        "issuer": format!("{base}/v2.0"),
                        "authorization_endpoint": format!("{base}/oauth2/v2.0/authorize"),
                        "token_endpoint": format!("{base}/oauth2/v2.0/token"),
                        "jwks_uri": format!("{base}/discovery/v2.0/keys"),
                        "response_types_supported": ["code", "token"],
                        "subject_types_supported": ["pairwise"],
                        "id_token_signing_alg_values_supported": ["RS256"],
                    })
                })
            }
            (&Method::GET, "discovery/v2.0/keys") => Ok(self.keys()),
            (&Method::POST, "oauth2/v2.0/token") => {
                let form = String::from_utf8_lossy(request.body()).into_owned();
                self.token(tenant, &base, &form)
            }
            (method, _) => Err((
                StatusCode::NOT_FOUND,
                "invalid_request",
                90_014,
                format!("this simulator has no {method} /{path}"),
            )),
        };
        match answered {
            Ok(body) => {
                tracing::info!(path, "answered");
                Reply::json(StatusCode::OK, &body).with("cache-control", "no-store, no-cache")
            }
            Err((status, code, number, message)) => {
                tracing::info!(path, number, message, "refused");
                let id = uuid().unwrap_or_default();
                let now = self.config.clock.now();
                let body = json!({
                    "error": code,
                    "error_description": format!("AADSTS{number}: {message} Trace ID: {id} Timestamp: {now}"),
                    "error_codes": [number],
                    "timestamp": now.to_string(),
                    "trace_id": id,
                    "correlation_id": id,
                });
                Reply::json(status, &body)
            }
        }
    }
}

impl Entra {
    fn known(&self, tenant: &str) -> Result<(), Refusal> {
        if tenant == self.config.tenant {
            return Ok(());
        }
        let message = format!(
            "Tenant '{tenant}' not found. Check to make sure you have the correct tenant ID and are signing into the correct cloud."
        );
        Err((StatusCode::BAD_REQUEST, "invalid_request", 90_002, message))
    }

    fn token(&self, tenant: &str, base: &str, form: &str) -> Result<Value, Refusal> {
        self.known(tenant)?;
        let bad = |code, number, message: String| (StatusCode::BAD_REQUEST, code, number, message);
        let invalid =
            |(number, message)| (StatusCode::UNAUTHORIZED, "invalid_client", number, message);
        let need = |name: &str| {
            let message =
                format!("The request body must contain the following parameter: '{name}'.");
            parameter(form, name).ok_or_else(|| bad("invalid_request", 900_144, message))
        };
        let grant = need("grant_type")?;
        if grant != "client_credentials" {
            let message = format!("The grant type '{grant}' is not in this simulator.");
            return Err(bad("unsupported_grant_type", 70_003, message));
        }
        let client_id = need("client_id")?;
        let scope = need("scope")?;
        let resource = scope
            .split(' ')
            .find_map(|one| one.strip_suffix("/.default"));
        let resource = resource.ok_or_else(|| {
            let message = format!("The provided value for scope {scope} is not valid. Client credential flows must have a scope value with /.default suffixed to the resource identifier.");
            bad("invalid_scope", 1_002_012, message)
        })?;
        let app = self
            .config
            .identities
            .apps
            .iter()
            .find(|app| app.client_id == client_id);
        let app = app.ok_or_else(|| {
            let message = format!(
                "Application with identifier '{client_id}' was not found in the directory."
            );
            bad("unauthorized_client", 700_016, message)
        })?;
        match (
            parameter(form, "client_secret"),
            parameter(form, "client_assertion"),
        ) {
            (Some(secret), None) => {
                if app.secret.as_deref() != Some(secret.as_str()) {
                    let message = format!(
                        "Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not the client secret ID, for a secret added to app '{client_id}'."
                    );
                    return Err(invalid((7_000_215, message)));
                }
            }
            (None, Some(given)) => {
                if need("client_assertion_type")? != JWT_BEARER {
                    let message = "client_assertion_type is not jwt-bearer.".to_owned();
                    return Err(bad("invalid_request", 900_144, message));
                }
                let audiences = [
                    format!("{base}/oauth2/v2.0/token"),
                    format!("{base}/v2.0"),
                    base.to_owned(),
                ];
                let now = self.config.clock.now().seconds();
                assertion::check(app, &given, &audiences, now).map_err(invalid)?;
            }
            _ => {
                let message = "The request body must contain the following parameter: 'client_assertion' or 'client_secret'.";
                return Err(invalid((7_000_218, message.to_owned())));
            }
        }
        let token = self.access_token(&app.client_id, &app.object_id, None, resource);
        let (token, _) = token.map_err(|error| {
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            (status, "server_error", 90_033, error.to_string())
        })?;
        Ok(json!({
            "token_type": "Bearer",
            "expires_in": self.config.lifetime,
            "ext_expires_in": self.config.lifetime,
            "access_token": token,
        }))
    }
}
