//! Audit records in the shape of a vault's AuditEvent log (docs key-vault/general/logging), one JSON object a line.

use serde_json::{Value, json};

use crate::time::Timestamp;

/// One call.
pub(super) struct Record<'a> {
    pub(super) time: Timestamp,
    pub(super) vault: &'a str,
    pub(super) operation: &'a str,
    pub(super) api_version: &'a str,
    pub(super) status: u16,
    /// Inner code and message of a refusal.
    pub(super) refusal: Option<(String, String)>,
    pub(super) milliseconds: u64,
    pub(super) address: &'a str,
    pub(super) correlation_id: &'a str,
    pub(super) claims: Option<&'a Value>,
    pub(super) client: &'a str,
    pub(super) uri: &'a str,
    /// Id of the key.
    pub(super) id: Option<&'a str>,
}

impl Record<'_> {
    pub(super) fn json(&self) -> Value {
        let claim = |name: &str| {
            let claims = self.claims?;
            claims.get(name).filter(|value| !value.is_null())
        };
        let mut identity = json!({});
        for (written, name) in [
            ("oid", "oid"),
            (
                "http://schemas.microsoft.com/identity/claims/objectidentifier",
                "oid",
            ),
            ("appid", "appid"),
            ("xms_mirid", "xms_mirid"),
        ] {
            if let Some(value) = claim(name) {
                identity["claim"][written] = value.clone();
            }
        }
        let resource = format!(
            "/SUBSCRIPTIONS/00000000-0000-0000-0000-000000000000/RESOURCEGROUPS/NODESEAL/PROVIDERS/MICROSOFT.KEYVAULT/VAULTS/{}",
            self.vault.to_uppercase()
        );
        let signature = match self.status {
            200..=299 => "OK",
            401 => "Unauthorized",
            403 => "Forbidden",
            404 => "Not Found",
            429 => "Too Many Requests",
            _ => "Bad Request",
        };
        let mut properties = json!({
            "clientInfo": self.client,
            "requestUri": self.uri,
            "id": self.id,
            "httpStatusCode": self.status,
            "tlsVersion": "TLS1_3",
            "isRbacAuthorized": self.status != 403,
        });
        if let Some((inner, _)) = &self.refusal {
            properties["innerCode"] = inner.as_str().into();
        }
        json!({
            "time": self.time.to_string(),
            "category": "AuditEvent",
            "operationName": self.operation,
            "operationVersion": self.api_version,
            // Genuine records say Success of refusals too: what counts is httpStatusCode.
            "resultType": "Success",
            "resultSignature": signature,
            "resultDescription": self.refusal.as_ref().map_or("", |(_, message)| message),
            "durationMs": self.milliseconds.to_string(),
            "callerIpAddress": self.address,
            "correlationId": self.correlation_id,
            "identity": identity,
            "resourceId": resource,
            "properties": properties,
        })
    }
}
