//! Signature Version 4, the server's side (AWS General Reference, "Signature Version 4 signing process").

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign};

use super::error::ApiError;
use crate::credentials::Credential;
use crate::text::{hex, unhex};
use crate::time::Timestamp;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// How far the client's clock may be off, in seconds.
const TOLERANCE: u64 = 300;

/// A request as it arrived.
pub struct SignedRequest<'a> {
    /// `POST`.
    pub method: &'a str,
    /// Path, percent-encoded as on the wire.
    pub path: &'a str,
    /// Query without `?`, percent-encoded as on the wire.
    pub query: &'a str,
    /// Headers in order, names in lower case.
    pub headers: &'a [(String, String)],
    /// Body.
    pub body: &'a [u8],
}

/// Where and when a signature is valid.
pub struct Scope<'a> {
    /// Region the service runs in.
    pub region: &'a str,
    /// Service name.
    pub service: &'a str,
    /// The present.
    pub now: Timestamp,
}

/// The parts of an Authorization header.
pub struct Authorization<'a> {
    /// Who claims to have signed; not verified.
    pub access_key_id: &'a str,
    date: &'a str,
    region: &'a str,
    service: &'a str,
    signed_headers: Vec<&'a str>,
    signature: &'a str,
}

impl SignedRequest<'_> {
    /// A header's value; several are joined with a comma.
    pub(super) fn header(&self, name: &str) -> Option<String> {
        let values: Vec<&str> = self
            .headers
            .iter()
            .filter(|(found, _)| found == name)
            .map(|(_, value)| value.as_str())
            .collect();
        (!values.is_empty()).then(|| values.join(","))
    }
}

fn incomplete(message: impl Into<String>) -> ApiError {
    ApiError::new("IncompleteSignatureException", message)
}

fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::new("InvalidSignatureException", message)
}

/// Reads the Authorization header's `value`.
///
/// # Errors
/// The answer to a header that is no SigV4 authorization.
pub fn authorization(value: &str) -> Result<Authorization<'_>, ApiError> {
    let fields = value
        .strip_prefix(ALGORITHM)
        .filter(|rest| rest.starts_with(' '))
        .ok_or_else(|| incomplete(format!("Unsupported AWS 'algorithm': expected {ALGORITHM}")))?;
    let (mut credential, mut headers, mut signature) = (None, None, None);
    for field in fields.split(',') {
        match field.trim().split_once('=') {
            Some(("Credential", value)) => credential = Some(value),
            Some(("SignedHeaders", value)) => headers = Some(value),
            Some(("Signature", value)) => signature = Some(value),
            _ => {
                return Err(incomplete(format!(
                    "'{field}' not a valid key=value pair in Authorization header"
                )));
            }
        }
    }
    let missing =
        |name: &str| incomplete(format!("Authorization header requires '{name}' parameter."));
    let credential = credential.ok_or_else(|| missing("Credential"))?;
    let headers = headers.ok_or_else(|| missing("SignedHeaders"))?;
    let signature = signature.ok_or_else(|| missing("Signature"))?;
    let parts: Vec<&str> = credential.split('/').collect();
    let [access_key_id, date, region, service, "aws4_request"] = parts.as_slice() else {
        return Err(incomplete(format!(
            "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got '{credential}'"
        )));
    };
    Ok(Authorization {
        access_key_id,
        date,
        region,
        service,
        signed_headers: headers.split(';').collect(),
        signature,
    })
}

/// Checks that `credential` signed `request` for `scope`, and that it may still be used.
///
/// # Errors
/// The answer to a request that is not.
pub fn check(
    request: &SignedRequest<'_>,
    authorization: &Authorization<'_>,
    credential: &Credential,
    scope: &Scope<'_>,
) -> Result<(), ApiError> {
    let when = request.header("x-amz-date").ok_or_else(|| {
        incomplete(
            "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.",
        )
    })?;
    let signed_at = Timestamp::parse_basic(&when).ok_or_else(|| {
        incomplete(format!(
            "Date must be in ISO-8601 'basic format'. Got '{when}'."
        ))
    })?;
    for (what, found, expected) in [
        ("region", authorization.region, scope.region),
        ("service", authorization.service, scope.service),
    ] {
        if found != expected {
            return Err(invalid(format!(
                "Credential should be scoped to a valid {what}, not '{found}'. Credential should be scoped to correct {what}: '{expected}'. "
            )));
        }
    }
    if when.get(..8) != Some(authorization.date) {
        let (date, day) = (authorization.date, when.get(..8).unwrap_or_default());
        return Err(invalid(format!(
            "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '{date}' != '{day}', from '{when}'."
        )));
    }
    must_be_signed(request, authorization)?;
    let canonical = canonical_request(request, &authorization.signed_headers);
    let canonical_hash = hex(digest(&SHA256, canonical.as_bytes()).as_ref());
    let to_sign = format!(
        "{ALGORITHM}\n{when}\n{}/{}/{}/aws4_request\n{canonical_hash}",
        authorization.date, authorization.region, authorization.service
    );
    let expected = signature(&credential.secret_access_key, authorization, &to_sign);
    let found = unhex(authorization.signature).unwrap_or_default();
    if verify_slices_are_equal(&expected, &found).is_err() {
        return Err(invalid(
            "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details.",
        ));
    }
    in_time(signed_at, scope.now)?;
    let token = request.header("x-amz-security-token");
    if token != credential.session_token {
        return Err(ApiError::new(
            "UnrecognizedClientException",
            "The security token included in the request is invalid.",
        ));
    }
    if credential.expired(scope.now) {
        return Err(ApiError::new(
            "ExpiredTokenException",
            "The security token included in the request is expired",
        ));
    }
    Ok(())
}

/// The host and every `x-amz-` header must be under the signature.
fn must_be_signed(
    request: &SignedRequest<'_>,
    authorization: &Authorization<'_>,
) -> Result<(), ApiError> {
    let amazon = request.headers.iter().map(|(name, _)| name.as_str());
    let amazon = amazon.filter(|name| name.starts_with("x-amz-"));
    for name in std::iter::once("host").chain(amazon) {
        if !authorization.signed_headers.contains(&name) {
            return Err(invalid(format!(
                "'{name}' must be a 'SignedHeader' in the AWS Authorization."
            )));
        }
    }
    Ok(())
}

fn in_time(signed_at: Timestamp, now: Timestamp) -> Result<(), ApiError> {
    let (earliest, latest) = (now.minus_seconds(TOLERANCE), now.plus_seconds(TOLERANCE));
    let (at, current) = (signed_at.basic(), now.basic());
    if signed_at.seconds() < earliest.seconds() {
        let earliest = earliest.basic();
        return Err(invalid(format!(
            "Signature expired: {at} is now earlier than {earliest} ({current} - 5 min.)"
        )));
    }
    if signed_at.seconds() > latest.seconds() {
        let latest = latest.basic();
        return Err(invalid(format!(
            "Signature not yet current: {at} is still later than {latest} ({current} + 5 min.)"
        )));
    }
    Ok(())
}

fn canonical_request(request: &SignedRequest<'_>, signed_headers: &[&str]) -> String {
    let mut pairs: Vec<(&str, &str)> = request
        .query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .collect();
    pairs.sort_unstable();
    let query: Vec<String> = pairs
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let headers: String = signed_headers
        .iter()
        .map(|name| {
            let values = request.headers.iter().filter(|(found, _)| found == name);
            let values: Vec<String> = values
                .map(|(_, value)| value.split_whitespace().collect::<Vec<_>>().join(" "))
                .collect();
            format!("{name}:{}\n", values.join(","))
        })
        .collect();
    let path = if request.path.is_empty() {
        "/"
    } else {
        request.path
    };
    format!(
        "{}\n{path}\n{}\n{headers}\n{}\n{}",
        request.method,
        query.join("&"),
        signed_headers.join(";"),
        hex(digest(&SHA256, request.body).as_ref())
    )
}

fn signature(secret: &str, authorization: &Authorization<'_>, to_sign: &str) -> Vec<u8> {
    let mac = |key: &[u8], message: &str| {
        let tag = sign(&Key::new(HMAC_SHA256, key), message.as_bytes());
        tag.as_ref().to_vec()
    };
    let date = mac(format!("AWS4{secret}").as_bytes(), authorization.date);
    let region = mac(&date, authorization.region);
    let service = mac(&region, authorization.service);
    mac(&mac(&service, "aws4_request"), to_sign)
}

#[cfg(test)]
mod tests;
