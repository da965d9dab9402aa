//! Client assertions: JWTs an application signs itself (RFC 7523), or has from another issuer (workload identity).

use aws_lc_rs::signature::{
    RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, RsaParameters, UnparsedPublicKey,
};
use nodeseal_attestation::azure::{Jwks, Token};
use nodeseal_attestation::time::Timestamp;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::Value;

use super::identities::App;
use crate::der;
use crate::text::unbase64url;

/// Audience of federated tokens.
const FEDERATED: &str = "api://AzureADTokenExchange";
/// How far clocks may differ, in seconds.
const LEEWAY: u64 = 300;

/// Why an assertion is refused: number of the error and its text.
pub(super) type Refusal = (u32, String);

/// Whether `assertion` speaks for `app`; `audiences` are the token endpoint's names.
pub(super) fn check(
    app: &App,
    assertion: &str,
    audiences: &[String],
    now: u64,
) -> Result<(), Refusal> {
    let invalid = |why: &str| {
        (
            700_027,
            format!("Client assertion failed signature validation: {why}."),
        )
    };
    let mut parts = assertion.split('.');
    let (Some(header), Some(payload), Some(signature), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err((50_027, "JWT token is invalid or malformed.".to_owned()));
    };
    let read = |part: &str| -> Option<Value> { serde_json::from_slice(&unbase64url(part)?).ok() };
    let (Some(header), Some(claims)) = (read(header), read(payload)) else {
        return Err((50_027, "JWT token is invalid or malformed.".to_owned()));
    };
    let text = |name: &str| claims.get(name).and_then(Value::as_str).unwrap_or_default();
    if text("iss") != app.client_id {
        return federated(app, assertion, text("iss"), text("sub"), &claims, now);
    }
    let algorithm: &RsaParameters = match header.get("alg").and_then(Value::as_str) {
        Some("RS256") => &RSA_PKCS1_2048_8192_SHA256,
        Some("PS256") => &RSA_PSS_2048_8192_SHA256,
        _ => return Err(invalid("alg is not RS256 or PS256")),
    };
    let certificate = app.certificate.as_deref();
    let certificate = certificate.ok_or_else(|| invalid("no certificate is registered"))?;
    let certificate = CertificateDer::from_pem_slice(certificate.as_bytes())
        .map_err(|_| invalid("the registered certificate cannot be read"))?;
    let key = der::spki_of_certificate(&certificate)
        .ok_or_else(|| invalid("the registered certificate has no RSA key"))?;
    let signed = assertion.rsplit_once('.').map_or("", |(signed, _)| signed);
    let signature = unbase64url(signature).unwrap_or_default();
    UnparsedPublicKey::new(algorithm, key)
        .verify(signed.as_bytes(), &signature)
        .map_err(|_| invalid("the key is not the registered one"))?;
    if text("sub") != app.client_id {
        return Err((
            700_021,
            "Client assertion's subject is not its issuer.".to_owned(),
        ));
    }
    if !audiences.iter().any(|audience| audience == text("aud")) {
        let message = format!(
            "Client assertion audience claim does not match: {}",
            text("aud")
        );
        return Err((700_212, message));
    }
    in_time(&claims, now)
}

fn in_time(claims: &Value, now: u64) -> Result<(), Refusal> {
    // NumericDate may have a fraction (RFC 7519 section 2), and MSAL's has.
    let number = |name: &str| claims.get(name).and_then(Value::as_f64);
    let (earliest, latest) = (now.saturating_sub(LEEWAY), now.saturating_add(LEEWAY));
    #[allow(clippy::cast_precision_loss)]
    let (earliest, latest) = (earliest as f64, latest as f64);
    let early = number("nbf").is_some_and(|nbf| nbf > latest);
    let late = number("exp").is_none_or(|exp| exp <= earliest);
    if early || late {
        let message = "Client assertion is not within its valid time range.";
        return Err((700_024, message.to_owned()));
    }
    Ok(())
}

fn federated(
    app: &App,
    assertion: &str,
    issuer: &str,
    subject: &str,
    claims: &Value,
    now: u64,
) -> Result<(), Refusal> {
    let known = |c: &&super::Federated| c.issuer == issuer && c.subject == subject;
    let credential = app.federated.iter().find(known).ok_or_else(|| {
        let message = format!(
            "No matching federated identity record found for presented assertion. Assertion Issuer: '{issuer}'. \
             Assertion Subject: '{subject}'."
        );
        (70_021, message)
    })?;
    let audience = match claims.get("aud") {
        Some(Value::Array(list)) => list.iter().any(|one| one == FEDERATED),
        one => one.is_some_and(|one| one == FEDERATED),
    };
    if !audience {
        let message = format!("Assertion audience is not {FEDERATED}.");
        return Err((700_212, message));
    }
    let failed = |error: &dyn std::fmt::Display| (50_013, format!("Assertion failed: {error}"));
    let keys = Jwks::parse(credential.keys.to_string().as_bytes()).map_err(|e| failed(&e))?;
    Token::parse(assertion)
        .and_then(|token| token.authenticate(&keys, issuer, Timestamp::from_seconds(now), LEEWAY))
        .map(drop)
        .map_err(|error| failed(&error))
}
