//! Secure key release: the token judged, the policy evaluated, the key encrypted for the token's key, the answer signed.

use std::sync::PoisonError;

use aws_lc_rs::key_wrap::{AES_256, AesKek, KeyWrapPadded};
use nodeseal_attestation::azure::{Claims, KeyWrap, RsaKey, Token, Value as Claim, encryption_key};
use nodeseal_attestation::policy::azure::{Decision, Policy, evaluate, normal_authority, parse};
use nodeseal_attestation::time::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::error::{AzureError, AzureResult};
use super::Vault;
use super::cipher::usable;
use super::faults::VaultFault;
use super::key::{Key, Version};
use super::server::Call;
use crate::rsa::{self, Padding};
use crate::text::{base64url, random, unbase64url};

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
        let recipient = encryption_key(&claims).map_err(|error| refused(&error))?;
        let answer = self.answer_release(call, &key, &version, &body, enc, &recipient, fault)?;
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

    #[allow(clippy::too_many_arguments)]
    fn answer_release(
        &self,
        call: &Call<'_>,
        key: &Key,
        version: &Version,
        body: &Body,
        enc: KeyWrap,
        (recipient_id, recipient): &(String, RsaKey),
        fault: Option<VaultFault>,
    ) -> AzureResult<String> {
        let mut last = self
            .last_release
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if fault == Some(VaultFault::ReplayRelease)
            && let Some(before) = last.clone()
        {
            return Ok(before);
        }
        let stranger = || {
            Version::generate(
                &super::key::Wanted {
                    kty: Some("RSA".to_owned()),
                    ..Default::default()
                },
                call.now,
            )
        };
        let private = match fault {
            Some(VaultFault::OtherPrivateKey) => stranger()?.pkcs8()?,
            _ => version.pkcs8()?,
        };
        let ciphertext = match fault {
            Some(VaultFault::ForeignRecipient) => wrap(&stranger()?.public()?, enc, &private)?,
            _ => wrap(recipient, enc, &private)?,
        };
        let ciphertext = garbled(ciphertext, fault);
        let said_enc = match fault {
            Some(VaultFault::OtherEnc) => KeyWrap::CkmRsaAesKeyWrap,
            _ => enc,
        };
        let wrapped = json!({
            "schema_version": "1.0",
            "header": {"kid": recipient_id, "alg": "dir", "enc": said_enc.name()},
            "ciphertext": base64url(&ciphertext),
        });
        let id = match fault {
            Some(VaultFault::OtherKeyId) => format!("{}/keys/another/{}", call.base, version.id),
            _ => call.id(Some(&version.id)),
        };
        let mut bundle = self.describe(call, key, Some(&version.id))?;
        bundle["key"]["kid"] = id.as_str().into();
        bundle["key"]["key_hsm"] = base64url(wrapped.to_string()).into();
        let mut request = json!({
            "api-version": call.api_version,
            "enc": said_enc.name(),
            "kid": call.target.version.as_ref().map_or_else(|| call.id(None), |_| id),
        });
        match (&body.nonce, fault) {
            (_, Some(VaultFault::NoNonce)) | (None, _) => {}
            (Some(_), Some(VaultFault::OtherNonce)) => request["nonce"] = "another".into(),
            (Some(nonce), _) => request["nonce"] = nonce.as_str().into(),
        }
        let payload = json!({ "request": request, "response": { "key": bundle } });
        let signed = match fault {
            Some(VaultFault::ForeignJws) => self.config.stranger.sign(&payload),
            Some(VaultFault::ForgedJws) => self
                .config
                .front_end
                .signed_by(&self.config.stranger, &payload),
            _ => self.config.front_end.sign(&payload),
        };
        let signed = signed.map_err(AzureError::internal)?;
        *last = Some(signed.clone());
        Ok(signed)
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

fn garbled(mut ciphertext: Vec<u8>, fault: Option<VaultFault>) -> Vec<u8> {
    if fault == Some(VaultFault::GarbledKey)
        && let Some(last) = ciphertext.last_mut()
    {
        *last ^= 1;
    }
    ciphertext
}

/// CKM_RSA_AES_KEY_WRAP (PKCS #11): RSA-OAEP of a new AES key, then AES key wrap with padding (RFC 5649) of the secret.
fn wrap(recipient: &RsaKey, enc: KeyWrap, secret: &[u8]) -> AzureResult<Vec<u8>> {
    let padding = match enc {
        KeyWrap::CkmRsaAesKeyWrap => Padding::OaepSha1,
        KeyWrap::RsaAesKeyWrap256 => Padding::OaepSha256,
        KeyWrap::RsaAesKeyWrap384 => Padding::OaepSha384,
    };
    let aes = random::<32>().map_err(AzureError::internal)?;
    let failed = |_| AzureError::internal("wrapping a key");
    let mut out = rsa::encrypt(recipient, padding, &aes)
        .ok_or_else(|| AzureError::bad("the token's key cannot be encrypted to"))?;
    let mut wrapped = vec![0; secret.len() + 16];
    let wrapped = AesKek::new(&AES_256, &aes)
        .map_err(failed)?
        .wrap_with_padding(secret, &mut wrapped)
        .map_err(failed)?;
    out.extend_from_slice(wrapped);
    Ok(out)
}
