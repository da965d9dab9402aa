//! A guest's request: `AttestationInfo`, base64url of JSON, its members base64 (guest attestation client library).

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::super::error::{AzureError, AzureResult};
use crate::text::{unbase64, unbase64url};

/// 400 as the service answers it.
pub(super) fn invalid(message: impl Into<String>) -> AzureError {
    AzureError::new(hyper::StatusCode::BAD_REQUEST, "InvalidParameter", message)
}

#[derive(Deserialize)]
struct Outer {
    #[serde(rename = "AttestationInfo")]
    info: String,
}

/// What a guest sends.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct Guest {
    pub(super) attestation_protocol_version: String,
    #[serde(rename = "OSType")]
    pub(super) os_type: String,
    #[serde(rename = "OSDistro")]
    pub(super) os_distro: String,
    #[serde(rename = "OSVersionMajor")]
    pub(super) os_version_major: Value,
    #[serde(rename = "OSVersionMinor")]
    pub(super) os_version_minor: Value,
    #[serde(rename = "OSBuild")]
    pub(super) os_build: String,
    pub(super) tcg_logs: String,
    #[serde(default)]
    pub(super) client_payload: BTreeMap<String, String>,
    pub(super) tpm_info: TpmInfo,
    pub(super) isolation_info: IsolationInfo,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct TpmInfo {
    pub(super) aik_cert: String,
    pub(super) aik_pub: String,
    pub(super) pcr_quote: String,
    pub(super) pcr_signature: String,
    pub(super) enc_key_pub: String,
    pub(super) enc_key_certify_info: String,
    pub(super) enc_key_certify_info_signature: String,
    pub(super) pcr_set: Vec<u8>,
    #[serde(rename = "PCRs")]
    pub(super) pcrs: Vec<Pcr>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct Pcr {
    pub(super) index: u8,
    pub(super) digest: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct IsolationInfo {
    #[serde(rename = "Type")]
    pub(super) kind: String,
    pub(super) evidence: Option<Evidence>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct Evidence {
    pub(super) proof: String,
    pub(super) run_time_data: String,
}

/// An SEV-SNP proof.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct SnpProof {
    pub(super) snp_report: String,
    pub(super) vcek_cert_chain: String,
}

/// Reads a request's body.
pub(super) fn read(body: &[u8]) -> AzureResult<Guest> {
    let outer: Outer =
        serde_json::from_slice(body).map_err(|error| invalid(format!("body: {error}")))?;
    let info =
        unbase64url(&outer.info).ok_or_else(|| invalid("AttestationInfo: expected base64url"))?;
    json("AttestationInfo", &info)
}

/// JSON in a member.
pub(super) fn json<T: DeserializeOwned>(member: &str, bytes: &[u8]) -> AzureResult<T> {
    serde_json::from_slice(bytes).map_err(|error| invalid(format!("{member}: {error}")))
}

/// The bytes of a member in standard base64.
pub(super) fn bytes(member: &str, text: &str) -> AzureResult<Vec<u8>> {
    unbase64(text).ok_or_else(|| invalid(format!("{member}: expected standard base64")))
}

/// Text in standard base64.
pub(super) fn text(member: &str, text: &str) -> AzureResult<String> {
    String::from_utf8(bytes(member, text)?).map_err(|_| invalid(format!("{member}: no UTF-8")))
}

/// A version number, which clients send as a number, as text, or as text in base64.
pub(super) fn version(value: &Value) -> u64 {
    let text = match value {
        Value::String(text) => {
            let decoded = unbase64(text).and_then(|bytes| String::from_utf8(bytes).ok());
            decoded
                .filter(|decoded| decoded.parse::<u64>().is_ok())
                .unwrap_or_else(|| text.clone())
        }
        other => other.to_string(),
    };
    text.parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::text::base64url;

    #[test]
    fn what_is_no_request_is_refused_by_name() {
        let message = |body: &str| read(body.as_bytes()).err().map(|error| error.message);
        assert_eq!(
            message(r#"{"AttestationInfo": "?"}"#).as_deref(),
            Some("AttestationInfo: expected base64url")
        );
        let inner = base64url(r#"{"AttestationProtocolVersion": "2.0"}"#);
        let missing = message(&format!(r#"{{"AttestationInfo": "{inner}"}}"#));
        assert!(missing.is_some_and(|m| m.starts_with("AttestationInfo: missing field `OSType`")));
    }

    #[test]
    fn versions_come_in_three_forms() {
        for value in [
            Value::from(12),
            "12".into(),
            crate::text::base64(b"12").into(),
        ] {
            assert_eq!(version(&value), 12, "{value}");
        }
        assert_eq!(version(&Value::Null), 0);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(text in "\\PC{0,100}") {
            let _ = read(text.as_bytes());
            let _ = read(format!(r#"{{"AttestationInfo": "{}"}}"#, base64url(&text)).as_bytes());
        }
    }
}
