//! Who calls: bearer tokens of the tenant, and the roles assigned to whom they name.

use hyper::header::AUTHORIZATION;
use nodeseal_attestation::azure::Token;
use nodeseal_attestation::time::Timestamp;
use serde_json::Value;

use super::super::error::{AzureError, AzureResult};
use super::Vault;
use super::names::Target;
use crate::http::Received;

/// How far clocks may differ, in seconds.
const LEEWAY: u64 = 300;

impl Vault {
    /// The claims of the request's token.
    pub(super) fn authenticate(&self, request: &Received) -> AzureResult<Value> {
        let header = request.headers().get(AUTHORIZATION);
        let header = header.and_then(|value| value.to_str().ok());
        let token = header.and_then(|value| value.strip_prefix("Bearer "));
        let token = token.ok_or_else(|| {
            AzureError::unauthorized("AKV10000: Request is missing a Bearer or PoP token.")
        })?;
        let invalid = |error: &dyn std::fmt::Display| {
            AzureError::unauthorized(format!("AKV10022: Invalid token. {error}"))
        };
        let issuer = format!("https://sts.windows.net/{}/", self.config.tenant);
        let now = Timestamp::from_milliseconds(self.clock().now().0);
        let (claims, _) = Token::parse(token)
            .and_then(|token| token.authenticate(&self.config.token_keys, &issuer, now, LEEWAY))
            .map_err(|error| invalid(&error))?;
        let claims: Value = serde_json::from_str(claims.text()).map_err(|error| invalid(&error))?;
        let audience = claims
            .get("aud")
            .and_then(Value::as_str)
            .unwrap_or_default();
        if audience.trim_end_matches('/') != self.config.resource {
            return Err(AzureError::unauthorized(format!(
                "AKV10022: Invalid audience. Expected {}, found: {audience}.",
                self.config.resource
            )));
        }
        if claims.get("oid").and_then(Value::as_str).is_none() {
            return Err(invalid(&"There is no object id in it."));
        }
        Ok(claims)
    }

    /// Whether whom the claims name may do it.
    pub(super) fn authorize(&self, claims: &Value, target: &Target) -> AzureResult<()> {
        let text = |name: &str| claims.get(name).and_then(Value::as_str).unwrap_or_default();
        let principal = text("oid");
        let action = target.operation.action();
        let assignments = self.store.assignments();
        if assignments
            .iter()
            .any(|assignment| assignment.allows(principal, action, &target.name))
        {
            return Ok(());
        }
        Err(AzureError::forbidden(
            "ForbiddenByRbac",
            format!(
                "Caller is not authorized to perform action on resource.\r\nIf role assignments, deny assignments or role \
                 definitions were changed recently, please observe propagation time.\r\nCaller: \
                 appid={};oid={principal};iss=https://sts.windows.net/{}/\r\nAction: \
                 'Microsoft.KeyVault/vaults/keys/{action}'\r\nResource: \
                 '/subscriptions/00000000-0000-0000-0000-000000000000/resourcegroups/nodeseal/providers/microsoft.keyvault/vaults/{}/keys/{}'\r\n\
                 Assignment: (not found)\r\nDecisionReason: 'DeniedWithNoValidRBAC'\r\nVault: {};location=westeurope\r\n",
                text("appid"),
                self.config.tenant,
                self.config.name,
                target.name,
                self.config.name,
            ),
        ))
    }
}
