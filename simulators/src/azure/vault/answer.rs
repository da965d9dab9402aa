//! The answer to a release: the key encrypted for the token's key, in a JWS by the vault's front end; and what can go
//! wrong with it.

use std::sync::PoisonError;

use aws_lc_rs::key_wrap::{AES_256, AesKek, KeyWrapPadded};
use nodeseal_attestation::azure::{KeyWrap, RsaKey};
use serde_json::{Value, json};

use super::super::error::{AzureError, AzureResult};
use super::Vault;
use super::faults::VaultFault;
use super::key::{Key, Version, Wanted};
use super::server::Call;
use crate::rsa::{self, Padding};
use crate::text::{base64url, random};

/// What is released, and to whom.
pub(super) struct Released<'a> {
    pub(super) call: &'a Call<'a>,
    pub(super) key: &'a Key,
    pub(super) version: &'a Version,
    pub(super) nonce: Option<&'a str>,
    pub(super) enc: KeyWrap,
    /// Id of the token's key, and the key.
    pub(super) recipient: (String, RsaKey),
    pub(super) fault: Option<VaultFault>,
}

impl Released<'_> {
    fn is(&self, fault: VaultFault) -> bool {
        self.fault == Some(fault)
    }

    /// A key that has nothing to do with any of this.
    fn stranger(&self) -> AzureResult<Version> {
        let wanted = Wanted {
            kty: Some("RSA".to_owned()),
            ..Wanted::default()
        };
        Version::generate(&wanted, self.call.now)
    }

    fn ciphertext(&self) -> AzureResult<Vec<u8>> {
        let private = if self.is(VaultFault::OtherPrivateKey) {
            self.stranger()?.pkcs8()?
        } else {
            self.version.pkcs8()?
        };
        let mut ciphertext = if self.is(VaultFault::ForeignRecipient) {
            wrap(&self.stranger()?.public()?, self.enc, &private)?
        } else {
            wrap(&self.recipient.1, self.enc, &private)?
        };
        if self.is(VaultFault::GarbledKey)
            && let Some(last) = ciphertext.last_mut()
        {
            *last ^= 1;
        }
        Ok(ciphertext)
    }

    fn enc(&self) -> &'static str {
        if self.is(VaultFault::OtherEnc) {
            KeyWrap::CkmRsaAesKeyWrap.name()
        } else {
            self.enc.name()
        }
    }

    /// The request as the vault repeats it.
    fn request(&self, id: &str) -> Value {
        let call = self.call;
        let mut request = json!({
            "api-version": call.api_version,
            "enc": self.enc(),
            "kid": if call.target.version.is_some() { id.to_owned() } else { call.id(None) },
        });
        if let Some(nonce) = self.nonce.filter(|_| !self.is(VaultFault::NoNonce)) {
            let other = self.is(VaultFault::OtherNonce);
            request["nonce"] = (if other { "another" } else { nonce }).into();
        }
        request
    }

    /// What is signed; `bundle` describes the key.
    fn payload(&self, mut bundle: Value) -> AzureResult<Value> {
        let wrapped = json!({
            "schema_version": "1.0",
            "header": {"kid": self.recipient.0, "alg": "dir", "enc": self.enc()},
            "ciphertext": base64url(self.ciphertext()?),
        });
        let id = if self.is(VaultFault::OtherKeyId) {
            format!("{}/keys/another/{}", self.call.base, self.version.id)
        } else {
            self.call.id(Some(&self.version.id))
        };
        bundle["key"]["kid"] = id.as_str().into();
        bundle["key"]["key_hsm"] = base64url(wrapped.to_string()).into();
        Ok(json!({ "request": self.request(&id), "response": { "key": bundle } }))
    }
}

impl Vault {
    /// The JWS around a released key.
    pub(super) fn answer_release(&self, released: &Released<'_>) -> AzureResult<String> {
        let last = || {
            let last = self.last_release.lock();
            last.unwrap_or_else(PoisonError::into_inner)
        };
        if released.is(VaultFault::ReplayRelease)
            && let Some(before) = last().clone()
        {
            return Ok(before);
        }
        let version = Some(released.version.id.as_str());
        let bundle = self.describe(released.call, released.key, version)?;
        let payload = released.payload(bundle)?;
        let (front_end, stranger) = (&self.config.front_end, &self.config.stranger);
        let signed = match released.fault {
            Some(VaultFault::ForeignJws) => stranger.sign(&payload),
            Some(VaultFault::ForgedJws) => front_end.signed_by(stranger, &payload),
            _ => front_end.sign(&payload),
        };
        let signed = signed.map_err(AzureError::internal)?;
        *last() = Some(signed.clone());
        Ok(signed)
    }
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
