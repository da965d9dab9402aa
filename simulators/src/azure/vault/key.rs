//! Keys of a vault: made, imported, described.

use std::collections::BTreeMap;

use aws_lc_rs::rsa::{KeyPairComponents, KeySize};
use aws_lc_rs::signature::{RsaKeyPair, RsaPublicKeyComponents};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::super::error::{AzureError, AzureResult};
use crate::rsa;
use crate::text::{base64, base64url, hex, random, unbase64, unbase64url};
use crate::time::Timestamp;

/// What keys may do that name nothing.
const ALL_OPERATIONS: [&str; 6] = [
    "encrypt",
    "decrypt",
    "sign",
    "verify",
    "wrapKey",
    "unwrapKey",
];

/// A key: its versions, oldest first.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Key {
    pub(super) versions: Vec<Version>,
    pub(super) policy: Option<Policy>,
    pub(super) deleted: Option<Deleted>,
}

/// When a key was deleted, and when it is gone for good (seconds).
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Deleted {
    pub(super) at: u64,
    pub(super) purge: u64,
}

/// A release policy, as it came.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Policy {
    pub(super) content_type: String,
    /// base64url of JSON.
    pub(super) data: String,
    pub(super) immutable: bool,
}

/// A version of a key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Version {
    pub(super) id: String,
    pub(super) kty: String,
    /// Standard base64 of PKCS #8.
    pkcs8: String,
    pub(super) key_ops: Vec<String>,
    pub(super) attributes: Attributes,
    pub(super) tags: BTreeMap<String, String>,
}

/// What can be set of a key, and when it was (seconds).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Attributes {
    pub(super) enabled: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) nbf: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) exp: Option<u64>,
    pub(super) created: u64,
    pub(super) updated: u64,
    pub(super) exportable: bool,
}

/// The members of a request that make or change a key.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    pub(super) kty: Option<String>,
    pub(super) key_size: Option<u32>,
    pub(super) public_exponent: Option<u32>,
    pub(super) key_ops: Option<Vec<String>>,
    #[serde(default)]
    pub(super) attributes: WantedAttributes,
    #[serde(default)]
    pub(super) tags: Option<BTreeMap<String, String>>,
    pub(super) release_policy: Option<WantedPolicy>,
    /// Import only: whether the key goes into the HSM.
    #[serde(rename = "Hsm", alias = "hsm")]
    pub(super) hsm: Option<bool>,
    /// Import only: the private key.
    pub(super) key: Option<Value>,
    pub(super) crv: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WantedAttributes {
    pub(super) enabled: Option<bool>,
    pub(super) nbf: Option<u64>,
    pub(super) exp: Option<u64>,
    pub(super) exportable: Option<bool>,
    // Sent back by clients that change what they got.
    #[serde(rename = "created")]
    _created: Option<u64>,
    #[serde(rename = "updated")]
    _updated: Option<u64>,
    #[serde(rename = "recoveryLevel")]
    _recovery_level: Option<String>,
    #[serde(rename = "recoverableDays")]
    _recoverable_days: Option<u32>,
    #[serde(rename = "hsmPlatform")]
    _hsm_platform: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WantedPolicy {
    #[serde(rename = "contentType")]
    pub(super) content_type: Option<String>,
    pub(super) data: String,
    #[serde(default)]
    pub(super) immutable: bool,
}

impl Version {
    /// Makes a key as wanted.
    pub(super) fn generate(wanted: &Wanted, now: Timestamp) -> AzureResult<Self> {
        let kty = wanted.kty.clone().unwrap_or_default();
        if !matches!(kty.as_str(), "RSA" | "RSA-HSM") {
            return Err(AzureError::bad(format!(
                "kty: this simulator has RSA and RSA-HSM keys, not {kty:?}"
            )));
        }
        if wanted.crv.is_some() || wanted.public_exponent.is_some_and(|e| e != 65_537) {
            return Err(AzureError::bad(
                "crv, public_exponent: not in this simulator",
            ));
        }
        let size = match wanted.key_size.unwrap_or(2048) {
            2048 => KeySize::Rsa2048,
            3072 => KeySize::Rsa3072,
            4096 => KeySize::Rsa4096,
            other => {
                let message = format!("key_size: {other} is not 2048, 3072 or 4096");
                return Err(AzureError::bad(message));
            }
        };
        let pair = RsaKeyPair::generate(size).map_err(AzureError::internal)?;
        Self::of(&pair, kty, wanted, now)
    }

    /// Takes in a key from outside (RFC 7518 section 6.3.2).
    pub(super) fn import(wanted: &Wanted, now: Timestamp) -> AzureResult<Self> {
        let key = wanted.key.as_ref().unwrap_or(&Value::Null);
        let given = key.get("kty").and_then(Value::as_str).unwrap_or_default();
        if !matches!(given, "RSA" | "RSA-HSM") {
            return Err(AzureError::bad(format!(
                "key.kty: this simulator takes RSA keys, not {given:?}"
            )));
        }
        let number = |name: &str| -> AzureResult<Vec<u8>> {
            let text = key.get(name).and_then(Value::as_str);
            let bytes = text.and_then(unbase64url);
            let mut bytes = bytes.ok_or_else(|| AzureError::bad(format!("key.{name}: missing")))?;
            let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
            bytes.drain(..zeros);
            Ok(bytes)
        };
        let components = KeyPairComponents {
            public_key: RsaPublicKeyComponents {
                n: number("n")?,
                e: number("e")?,
            },
            d: number("d")?,
            p: number("p")?,
            q: number("q")?,
            dP: number("dp")?,
            dQ: number("dq")?,
            qInv: number("qi")?,
        };
        let pair = RsaKeyPair::from_components(&components)
            .map_err(|error| AzureError::bad(format!("key: {error}")))?;
        let hsm = wanted.hsm.unwrap_or(given == "RSA-HSM");
        let kty = if hsm { "RSA-HSM" } else { "RSA" };
        let mut version = Self::of(&pair, kty.to_owned(), wanted, now)?;
        if let Some(operations) = key.get("key_ops").and_then(Value::as_array) {
            let named = operations.iter().filter_map(Value::as_str);
            version.key_ops = named.map(str::to_owned).collect();
        }
        Ok(version)
    }

    fn of(pair: &RsaKeyPair, kty: String, wanted: &Wanted, now: Timestamp) -> AzureResult<Self> {
        let pkcs8 = rsa::pkcs8(pair).ok_or_else(|| AzureError::internal("writing a key"))?;
        let operations = wanted.key_ops.clone();
        Ok(Self {
            id: hex(&random::<16>().map_err(AzureError::internal)?),
            kty,
            pkcs8: base64(&pkcs8),
            key_ops: operations
                .unwrap_or_else(|| ALL_OPERATIONS.iter().map(|op| (*op).to_owned()).collect()),
            attributes: Attributes {
                enabled: wanted.attributes.enabled.unwrap_or(true),
                nbf: wanted.attributes.nbf,
                exp: wanted.attributes.exp,
                created: now.seconds(),
                updated: now.seconds(),
                exportable: wanted.attributes.exportable.unwrap_or(false),
            },
            tags: wanted.tags.clone().unwrap_or_default(),
        })
    }

    /// Another version with the same settings.
    pub(super) fn rotated(&self, now: Timestamp) -> AzureResult<Self> {
        let bytes = self.public()?.modulus.len();
        let wanted = Wanted {
            kty: Some(self.kty.clone()),
            key_size: u32::try_from(bytes * 8).ok(),
            key_ops: Some(self.key_ops.clone()),
            tags: Some(self.tags.clone()),
            ..Wanted::default()
        };
        let mut next = Self::generate(&wanted, now)?;
        next.attributes.exportable = self.attributes.exportable;
        Ok(next)
    }

    pub(super) fn is_hsm(&self) -> bool {
        self.kty.ends_with("-HSM")
    }

    pub(super) fn pkcs8(&self) -> AzureResult<Vec<u8>> {
        unbase64(&self.pkcs8).ok_or_else(|| AzureError::internal("the state file"))
    }

    pub(super) fn public(&self) -> AzureResult<nodeseal_attestation::azure::RsaKey> {
        rsa::public(&self.pkcs8()?).ok_or_else(|| AzureError::internal("the state file"))
    }

    /// The public JSON Web Key.
    pub(super) fn jwk(&self, id: &str) -> AzureResult<Value> {
        let public = self.public()?;
        Ok(json!({
            "kid": id,
            "kty": self.kty,
            "key_ops": self.key_ops,
            "n": base64url(&public.modulus),
            "e": base64url(&public.exponent),
        }))
    }

    /// The attributes, with what the vault adds.
    pub(super) fn attributes(&self, recoverable_days: u64) -> Value {
        let mut attributes = json!(self.attributes);
        attributes["recoveryLevel"] = "Recoverable+Purgeable".into();
        attributes["recoverableDays"] = recoverable_days.into();
        if self.is_hsm() {
            attributes["hsmPlatform"] = "2".into();
        }
        attributes
    }
}

impl Key {
    /// The version of this id, or the newest where none is named.
    pub(super) fn version(&self, id: Option<&str>) -> Option<&Version> {
        match id {
            None => self.versions.last(),
            Some(id) => self.versions.iter().find(|version| version.id == id),
        }
    }

    pub(super) fn version_mut(&mut self, id: Option<&str>) -> Option<&mut Version> {
        match id {
            None => self.versions.last_mut(),
            Some(id) => self.versions.iter_mut().find(|version| version.id == id),
        }
    }
}

impl Policy {
    /// As answers have it.
    pub(super) fn json(&self) -> Value {
        json!({
            "contentType": self.content_type,
            "data": self.data,
            "immutable": self.immutable,
        })
    }
}
