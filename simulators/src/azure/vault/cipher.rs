//! Encrypt, decrypt, wrap and unwrap.

use serde::Deserialize;
use serde_json::{Value, json};

use super::super::error::{AzureError, AzureResult};
use super::Vault;
use super::faults::VaultFault;
use super::key::Version;
use super::names::Operation;
use super::server::Call;
use crate::rsa::{self, Padding};
use crate::text::{base64url, unbase64url};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    alg: String,
    value: String,
}

impl Vault {
    pub(super) fn cipher(&self, call: &Call<'_>, fault: Option<VaultFault>) -> AzureResult<Value> {
        let body: Body = call.body()?;
        let (_, version) = self
            .store
            .version(&call.target.name, call.target.version.as_deref())?;
        usable(&version, call.target.operation)?;
        let padding = match body.alg.as_str() {
            "RSA1_5" => Padding::Pkcs1,
            "RSA-OAEP" => Padding::OaepSha1,
            "RSA-OAEP-256" => Padding::OaepSha256,
            other => {
                let message =
                    format!("alg: {other:?} is not one of RSA-OAEP-256, RSA-OAEP, RSA1_5");
                return Err(AzureError::bad(message));
            }
        };
        let value =
            unbase64url(&body.value).ok_or_else(|| AzureError::bad("value: expected base64url"))?;
        let result = match call.target.operation {
            Operation::Encrypt | Operation::Wrap => {
                rsa::encrypt(&version.public()?, padding, &value)
                    .ok_or_else(|| AzureError::bad("value: too long for this key and algorithm"))?
            }
            _ => {
                let mut secret = rsa::decrypt(&version.pkcs8()?, padding, &value).ok_or_else(|| {
                    AzureError::bad(
                        "The parameter is incorrect. The value cannot be decrypted with this key and algorithm.",
                    )
                })?;
                if fault == Some(VaultFault::OtherSecret) {
                    secret.iter_mut().for_each(|byte| *byte ^= 0x55);
                }
                secret
            }
        };
        Ok(json!({
            "kid": call.id(Some(&version.id)),
            "value": base64url(&result),
        }))
    }
}

/// Whether a version lets itself be used so.
pub(super) fn usable(version: &Version, operation: Operation) -> AzureResult<()> {
    if operation.needs_enabled() && !version.attributes.enabled {
        let message = format!(
            "Operation {} is not allowed on a disabled key.",
            operation.key_op().unwrap_or("release")
        );
        return Err(AzureError::forbidden("KeyDisabled", message));
    }
    if let Some(needed) = operation.key_op()
        && !version.key_ops.iter().any(|op| op == needed)
    {
        let message = format!("Operation {needed} is not permitted on this key.");
        return Err(AzureError::forbidden("KeyOperationForbidden", message));
    }
    Ok(())
}
