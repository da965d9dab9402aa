//! Whatever goes wrong with Key Vault, as a named refusal (docs/cli.md lists the codes).

use std::error::Error as _;

use azure_core::Error;
use azure_core::error::ErrorKind;
use nodeseal_core::tunnel::{Codes, ConnectError, Fault, printable};
use nodeseal_wire::message::Class;
use serde::Deserialize;

/// Names of what can happen to a connection to a vault or an attestation service.
pub(crate) const CODES: Codes = Codes {
    unreachable: "azure-unreachable",
    connection: "azure-connection",
    timeout: "azure-timeout",
    malformed: "azure-answer-malformed",
    too_large: "azure-answer-too-large",
    client: "azure-client",
};

/// A busy vault: asked again until the deadline.
pub(crate) const THROTTLED: &str = "azure-throttled";
/// A token the vault could not verify, which is known to pass (azure-sdk-for-net#27957).
pub(crate) const TOKEN_REJECTED: &str = "azure-attestation-rejected";

/// The body of an error (Azure REST API guidelines, "Error responses"). Both spellings of the inner error are in use.
#[derive(Default, Deserialize)]
struct Envelope {
    #[serde(default)]
    error: Body,
}

#[derive(Default, Deserialize)]
struct Body {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
    #[serde(default, alias = "innerError")]
    innererror: Option<Inner>,
}

#[derive(Default, Deserialize)]
struct Inner {
    #[serde(default)]
    code: String,
}

/// Why the call of the SDK failed.
pub(crate) fn of(error: &Error) -> Fault {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    if let Some(connect) = error.downcast_ref::<ConnectError>() {
        return Fault::of_connection(&CODES, connect);
    }
    while let Some(cause) = source {
        if let Some(connect) = cause.downcast_ref::<ConnectError>() {
            return Fault::of_connection(&CODES, connect);
        }
        source = cause.source();
    }
    match error.kind() {
        ErrorKind::HttpResponse {
            status,
            raw_response,
            ..
        } => {
            let body = raw_response.as_ref().map(|raw| raw.body().as_ref());
            of_service(u16::from(*status), body.unwrap_or_default())
        }
        ErrorKind::DataConversion => Fault::answer(
            CODES.malformed,
            format!("an answer that cannot be read: {}", chain(error)),
        ),
        _ => Fault::new(Class::Internal, CODES.client, chain(error)),
    }
}

/// Errors as reference and recordings of Key Vault have them: "Key Vault REST API error codes", and the SDKs' tests.
pub(crate) fn of_service(status: u16, body: &[u8]) -> Fault {
    let Envelope { error } = serde_json::from_slice(body).unwrap_or_default();
    let inner = error.innererror.unwrap_or_default().code;
    let name = match (error.code.as_str(), inner.as_str()) {
        ("", _) => format!("HTTP {status}"),
        (code, "") => format!("HTTP {status}, {}", printable(code.as_bytes(), 80)),
        (code, inner) => format!(
            "HTTP {status}, {}/{}",
            printable(code.as_bytes(), 80),
            printable(inner.as_bytes(), 80)
        ),
    };
    let text = format!("{name}: {:?}", printable(error.message.as_bytes(), 1000));
    let named = |class, code| Fault::new(class, code, text.clone());
    let says = |part: &str| error.message.to_ascii_lowercase().contains(part);
    match (status, inner.as_str()) {
        (401, _) => named(Class::Unavailable, "azure-token-refused"),
        (403, "KeyDisabled") => named(Class::Denied, "azure-key-disabled"),
        (403, "ForbiddenByFirewall") => named(Class::Denied, "azure-firewall"),
        // The same code as a missing role has: only the message separates them.
        (403, _) if says("statement cannot be verified") => Fault {
            passing: true,
            ..named(Class::Denied, TOKEN_REJECTED)
        },
        (403, _) if says("release policy") => named(Class::Denied, "azure-policy-mismatch"),
        (403, _) if says("is disabled") => named(Class::Denied, "azure-key-disabled"),
        (403, _) => named(Class::Denied, "azure-permission"),
        (404, _) => named(Class::Denied, "azure-key-not-found"),
        (409, _) => named(Class::Denied, "azure-key-state"),
        (429, _) => Fault::passing(THROTTLED, text),
        (408, _) | (500.., _) => Fault::passing("azure-unavailable", text),
        (400, _) if says("akv.skr.") => named(Class::Denied, "azure-release-refused"),
        (400, _) => named(Class::Damaged, "azure-bad-parameter"),
        _ => named(Class::Internal, "azure-error"),
    }
}

/// The error and what is behind it.
fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let more = cause.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        next = cause.source();
    }
    printable(text.as_bytes(), 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(status: u16, body: &str) -> (&'static str, bool) {
        let fault = of_service(status, body.as_bytes());
        (fault.code, fault.passing)
    }

    #[test]
    fn a_missing_role_a_policy_and_a_token_are_told_apart_by_their_message() {
        let denied = |message: &str| {
            format!(
                r#"{{"error":{{"code":"Forbidden","message":"{message}","innererror":{{"code":"AccessDenied"}}}}}}"#
            )
        };
        let body = denied("Caller is not authorized to perform action on resource.");
        assert_eq!(code(403, &body), ("azure-permission", false));
        let body = denied("Target environment attestation statement cannot be verified.");
        assert_eq!(code(403, &body), ("azure-attestation-rejected", true));
        let body =
            denied("Target environment attestation does not meet key release policy requirements");
        assert_eq!(code(403, &body), ("azure-policy-mismatch", false));
    }

    #[test]
    fn inner_codes_are_read_in_both_spellings() {
        for inner in ["innererror", "innerError"] {
            let body = |code: &str| {
                format!(
                    r#"{{"error":{{"code":"Forbidden","message":"m","{inner}":{{"code":"{code}"}}}}}}"#
                )
            };
            assert_eq!(
                code(403, &body("KeyDisabled")),
                ("azure-key-disabled", false)
            );
            let body = body("ForbiddenByFirewall");
            assert_eq!(code(403, &body), ("azure-firewall", false));
            let text = of_service(403, body.as_bytes()).text;
            assert_eq!(text, "HTTP 403, Forbidden/ForbiddenByFirewall: \"m\"");
        }
    }

    #[test]
    fn what_is_not_json_is_named_by_its_status_and_only_passing_faults_pass() {
        assert_eq!(code(429, "slow down"), ("azure-throttled", true));
        assert_eq!(code(503, ""), ("azure-unavailable", true));
        assert_eq!(code(401, "<html>"), ("azure-token-refused", false));
        assert_eq!(code(404, "{}"), ("azure-key-not-found", false));
        assert_eq!(code(418, "{}"), ("azure-error", false));
        let skr = r#"{"error":{"code":"BadParameter","message":"AKV.SKR.1012: no"}}"#;
        assert_eq!(code(400, skr), ("azure-release-refused", false));
        assert_eq!(code(400, "{}"), ("azure-bad-parameter", false));
    }
}
