//! Secure key release: the token judged, the policy evaluated.

use nodeseal_attestation::azure::{Claims, KeyWrap, Token, Value as Claim, encryption_key};
use nodeseal_attestation::policy::azure::{Decision, Policy, evaluate, normal_authority, parse};
use nodeseal_attestation::time::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::error::{AzureError, AzureResult};
use super::Vault;
use super::answer::Released;
use super::cipher::usable;
use super::faults::VaultFault;
use super::server::Call;
use crate::text::unbase64url;

/// How far clocks may differ, in seconds.
const LEEWAY: u64 = 300;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    target: String,
    nonce: Option<String>,
    enc: Option<String>,
}

impl Vault {
    pub(super) async fn release(
        &self,
        call: &Call<'_>,
        fault: Option<VaultFault>,
    ) -> AzureResult<Value> {
        let body: Body = call.body()?;
        let enc = match body.enc.as_deref() {
            None => KeyWrap::CkmRsaAesKeyWrap,
            Some(name) => KeyWrap::from_name(name)
                .ok_or_else(|| AzureError::bad(format!("enc: {name:?} is not known")))?,
        };
        let asked = call.target.version.as_deref();
        let (key, version) = self.store.version(&call.target.name, asked)?;
        let policy = key
            .policy
            .as_ref()
            .filter(|_| version.attributes.exportable);
        let policy = policy.ok_or_else(|| {
            AzureError::bad("The key is not exportable: it was made without a release policy.")
        })?;
        usable(&version, call.target.operation)?;
        let text = unbase64url(&policy.data).and_then(|bytes| String::from_utf8(bytes).ok());
        let policy = parse(&text.unwrap_or_default()).map_err(AzureError::internal)?;
        let claims = self.attested(&body.target, &policy).await?;
        if let Decision::NotMet(misses) = evaluate(&policy, &claims, self.config.operators) {
            let lacks: Vec<String> = misses.iter().map(ToString::to_string).collect();
            // Azure does not tell; whoever runs a simulator wants to know.
            tracing::info!(
                key = call.target.name,
                lacks = lacks.join("; "),
                "policy not met"
            );
            return Err(AzureError::forbidden(
                "AccessDenied",
                "Target environment attestation does not meet key release policy requirements.",
            ));
        }
        let answer = self.answer_release(&Released {
            call,
            key: &key,
            version: &version,
            nonce: body.nonce.as_deref(),
            enc,
            recipient: encryption_key(&claims).map_err(|error| refused(&error))?,
            fault,
        })?;
        Ok(json!({ "value": answer }))
    }

    /// The claims of an attestation token, if its issuer, whom the policy must name, has signed it.
    async fn attested(&self, token: &str, policy: &Policy) -> AzureResult<Claims> {
        let parsed = Token::parse(token).map_err(|error| refused(&error))?;
        let claimed = parsed.unverified_claims();
        let Some(Claim::String(issuer)) = claimed.value("iss") else {
            return Err(refused(&"no issuer"));
        };
        let mut named = policy.any_of.iter().map(|a| normal_authority(&a.authority));
        if !named.any(|authority| authority == normal_authority(&issuer)) {
            return Err(refused(&format!("the policy does not name {issuer}")));
        }
        let key_id = parsed.key_id().map(str::to_owned);
        let keys = self
            .config
            .discovery
            .keys(&issuer, key_id.as_deref())
            .await
            .map_err(|error| {
                tracing::info!(error, "issuer not reached");
                AzureError::bad(format!(
                    "AKV.SKR.1012: The attestation service {issuer} could not be reached."
                ))
            })?;
        let now = Timestamp::from_milliseconds(self.clock().now().0);
        let (claims, _) = parsed
            .authenticate(&keys, &issuer, now, LEEWAY)
            .map_err(|error| refused(&error))?;
        Ok(claims)
    }
}

/// The refusal of a token, whatever the reason, which Azure does not tell.
fn refused(reason: &dyn std::fmt::Display) -> AzureError {
    tracing::info!(%reason, "attestation token refused");
    AzureError::forbidden(
        "AccessDenied",
        "Target environment attestation statement cannot be verified.",
    )
}
