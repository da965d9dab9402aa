//! Client assertions: JWTs an application signs itself (RFC 7523), or has from another issuer (workload identity).

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use aws_lc_rs::signature::{
    RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, RsaParameters, UnparsedPublicKey,
};
use nodeseal_attestation::azure::{Jwks, Token, TokenError};
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

/// An assertion taken apart; nothing of it is believed yet.
struct Parts {
    header: Value,
    claims: Value,
}

impl Parts {
    fn read(assertion: &str) -> Option<Self> {
        let mut parts = assertion.split('.');
        let (header, claims) = (parts.next()?, parts.next()?);
        let (_signature, None) = (parts.next()?, parts.next()) else {
            return None;
        };
        let json = |part: &str| serde_json::from_slice(&unbase64url(part)?).ok();
        Some(Self {
            header: json(header)?,
            claims: json(claims)?,
        })
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.header.get(name).and_then(Value::as_str)
    }

    fn claim(&self, name: &str) -> &str {
        let claim = self.claims.get(name).and_then(Value::as_str);
        claim.unwrap_or_default()
    }
}

/// Whether `assertion` speaks for `app`; `audiences` are the token endpoint's names.
///
/// One may be shown again as long as it is in time: clients cache them, and nothing says that Entra minds.
pub(super) fn check(
    app: &App,
    assertion: &str,
    audiences: &[String],
    now: u64,
) -> Result<(), Refusal> {
    let malformed = || (50_027, "JWT token is invalid or malformed.".to_owned());
    let parts = Parts::read(assertion).ok_or_else(malformed)?;
    let own = parts.claim("iss") == app.client_id;
    if own || (app.certificate.is_some() && app.federated.is_empty()) {
        certified(app, assertion, &parts, audiences)?;
        return in_time(&parts, now);
    }
    if app.federated.is_empty() {
        let client = &app.client_id;
        let message =
            format!("The client '{client}' has no configured federated identity credentials.");
        return Err((70_025, message));
    }
    federated(app, assertion, &parts, now)
}

/// One the application has signed with its certificate's key (Entra, "Certificate credentials").
fn certified(
    app: &App,
    assertion: &str,
    parts: &Parts,
    audiences: &[String],
) -> Result<(), Refusal> {
    let invalid = |why: &str| {
        let message = format!("Client assertion contains an invalid signature. [Reason - {why}]");
        (700_027, message)
    };
    let registered = app.certificate.as_ref();
    let registered = registered.map(|pem| CertificateDer::from_pem_slice(pem.as_bytes()));
    let registered = registered.transpose();
    let registered =
        registered.map_err(|_| invalid("The registered certificate cannot be read."))?;
    // By the newer member or the older.
    let (shown, hash) = match (parts.header("x5t#S256"), parts.header("x5t")) {
        (Some(shown), _) => (shown, &SHA256),
        (None, Some(shown)) => (shown, &SHA1_FOR_LEGACY_USE_ONLY),
        (None, None) => {
            let message = "Invalid JWT token. No certificate thumbprint specified in token header.";
            return Err((50_027, message.to_owned()));
        }
    };
    let is_shown = |der: &CertificateDer<'_>| {
        unbase64url(shown).as_deref() == Some(digest(hash, der).as_ref())
    };
    let certificate = registered.filter(is_shown).ok_or_else(|| {
        let message = format!(
            "The certificate with identifier used to sign the client assertion is not registered on application. \
             [Reason - The key was not found., Thumbprint of key used by client: '{shown}']"
        );
        (700_027, message)
    })?;
    let key = der::spki_of_certificate(&certificate)
        .ok_or_else(|| invalid("The registered certificate has no RSA key."))?;
    let algorithm: &RsaParameters = match parts.header("alg") {
        Some("RS256") => &RSA_PKCS1_2048_8192_SHA256,
        Some("PS256") => &RSA_PSS_2048_8192_SHA256,
        _ => return Err(invalid("The algorithm is not RS256 or PS256.")),
    };
    let (signed, signature) = assertion.rsplit_once('.').unwrap_or_default();
    UnparsedPublicKey::new(algorithm, key)
        .verify(
            signed.as_bytes(),
            &unbase64url(signature).unwrap_or_default(),
        )
        .map_err(|_| {
            invalid("The key was found, but use of the key to verify the signature failed.")
        })?;
    if [parts.claim("iss"), parts.claim("sub")] != [app.client_id.as_str(); 2] {
        let message =
            "Client assertion application identifier doesn't match 'client_id' parameter.";
        return Err((700_021, message.to_owned()));
    }
    if !audiences
        .iter()
        .any(|audience| audience == parts.claim("aud"))
    {
        let message = "Client assertion audience claim does not match Realm issuer.";
        return Err((700_023, message.to_owned()));
    }
    Ok(())
}

fn in_time(parts: &Parts, now: u64) -> Result<(), Refusal> {
    // NumericDate may have a fraction (RFC 7519 section 2), and MSAL's has.
    let number = |name: &str| parts.claims.get(name).and_then(Value::as_f64);
    let (earliest, latest) = (now.saturating_sub(LEEWAY), now.saturating_add(LEEWAY));
    #[allow(clippy::cast_precision_loss)]
    let (earliest, latest) = (earliest as f64, latest as f64);
    let early = number("nbf").is_some_and(|nbf| nbf > latest);
    let late = number("exp").is_none_or(|exp| exp <= earliest);
    if early || late {
        return Err(out_of_time());
    }
    Ok(())
}

fn out_of_time() -> Refusal {
    let message = "Client assertion is not within its valid time range.";
    (700_024, message.to_owned())
}

/// One of another issuer's (Entra, "Workload identity federation"): what does not fit is named, each by its number.
fn federated(app: &App, assertion: &str, parts: &Parts, now: u64) -> Result<(), Refusal> {
    let none = |number, what: &str, found: &str| {
        let message = format!(
            "No matching federated identity record found for presented assertion {what} '{found}'. Check your federated \
             identity credential Subject, Audience and Issuer against the presented assertion."
        );
        (number, message)
    };
    let (issuer, subject) = (parts.claim("iss"), parts.claim("sub"));
    let mut trusted = app
        .federated
        .iter()
        .filter(|c| c.issuer == issuer)
        .peekable();
    if trusted.peek().is_none() {
        return Err(none(700_211, "issuer", issuer));
    }
    let credential = trusted.find(|credential| credential.subject == subject);
    let credential = credential.ok_or_else(|| none(700_213, "subject", subject))?;
    let audiences: Vec<&str> = match parts.claims.get("aud") {
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
        one => one.and_then(Value::as_str).into_iter().collect(),
    };
    if !audiences.contains(&FEDERATED) {
        return Err(none(700_212, "audience", &audiences.join(" ")));
    }
    let failed = |error: &dyn std::fmt::Display| {
        let message = format!("Assertion failed signature validation. [Reason - {error}]");
        (50_013, message)
    };
    let keys = Jwks::parse(credential.keys.to_string().as_bytes()).map_err(|e| failed(&e))?;
    let authenticated = Token::parse(assertion)
        .and_then(|token| token.authenticate(&keys, issuer, Timestamp::from_seconds(now), LEEWAY));
    authenticated.map(drop).map_err(|error| match error {
        TokenError::Expired { .. } | TokenError::NotYetValid { .. } => out_of_time(),
        error => failed(&error),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::super::Federated;
    use super::*;
    use crate::pki::TokenSigner;
    use crate::text::{base64url, unbase64};
    use crate::time::Timestamp as Moment;

    const NOW: u64 = 1_795_680_000;
    const ENDPOINT: &str = "https://login.example/tenant/oauth2/v2.0/token";
    const CLUSTER: &str = "https://cluster.example";
    const ACCOUNT: &str = "system:serviceaccount:nodes:validator";

    struct Bench {
        app: App,
        signer: TokenSigner,
        /// The registered certificate, DER.
        certificate: Vec<u8>,
        _directory: tempfile::TempDir,
    }

    impl Bench {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let now = Moment(NOW * 1000);
            let signer = TokenSigner::in_directory(directory.path(), "app", now).unwrap();
            let jwks = signer.jwks();
            let certificate = jwks["keys"][0]["x5c"][0].as_str().unwrap();
            let pem =
                format!("-----BEGIN CERTIFICATE-----\n{certificate}\n-----END CERTIFICATE-----\n");
            Self {
                app: App {
                    client_id: "app-1".to_owned(),
                    object_id: "object-1".to_owned(),
                    secret: None,
                    certificate: Some(pem),
                    federated: Vec::new(),
                },
                certificate: unbase64(certificate).unwrap(),
                signer,
                _directory: directory,
            }
        }

        /// The application has no certificate, but believes a cluster.
        fn federated() -> Self {
            let mut bench = Self::new();
            bench.app.certificate = None;
            bench.app.federated = vec![Federated {
                issuer: CLUSTER.to_owned(),
                subject: ACCOUNT.to_owned(),
                keys: bench.signer.jwks(),
            }];
            bench
        }

        fn thumbprint(&self) -> String {
            base64url(digest(&SHA256, &self.certificate))
        }

        fn assertion(&self, header: &[(&str, &str)], changed: &[(&str, Value)]) -> String {
            let mut claims = json!({
                "iss": "app-1", "sub": "app-1", "aud": ENDPOINT, "jti": "1", "iat": NOW, "nbf": NOW, "exp": NOW + 600,
            });
            if !self.app.federated.is_empty() {
                claims["iss"] = CLUSTER.into();
                claims["sub"] = ACCOUNT.into();
                claims["aud"] = json!([FEDERATED]);
            }
            for (name, value) in changed {
                claims[*name] = value.clone();
            }
            self.signer.token(header, &claims).unwrap()
        }

        fn check(&self, assertion: &str) -> Result<(), Refusal> {
            check(&self.app, assertion, &[ENDPOINT.to_owned()], NOW)
        }

        /// Number and text of the refusal of an assertion that is good but for these claims.
        fn refused(&self, changed: &[(&str, Value)]) -> (u32, String) {
            let header = [("x5t#S256", self.thumbprint())];
            let header: Vec<_> = header.iter().map(|(n, v)| (*n, v.as_str())).collect();
            self.check(&self.assertion(&header, changed)).unwrap_err()
        }
    }

    #[test]
    fn a_certificates_assertion_is_taken_by_either_thumbprint_more_than_once() {
        let bench = Bench::new();
        let assertion = bench.assertion(&[("x5t#S256", &bench.thumbprint())], &[]);
        bench.check(&assertion).unwrap();
        bench.check(&assertion).unwrap();
        let older = base64url(digest(&SHA1_FOR_LEGACY_USE_ONLY, &bench.certificate));
        bench
            .check(&bench.assertion(&[("x5t", &older)], &[]))
            .unwrap();
    }

    #[test]
    fn a_certificates_assertion_is_refused_for_its_thumbprint_key_names_audience_or_time() {
        let bench = Bench::new();
        assert_eq!(
            bench.check(&bench.assertion(&[], &[])).unwrap_err(),
            (
                50_027,
                "Invalid JWT token. No certificate thumbprint specified in token header."
                    .to_owned()
            )
        );
        let other = bench.assertion(&[("x5t#S256", "AAAA")], &[]);
        assert_eq!(
            bench.check(&other).unwrap_err(),
            (
                700_027,
                "The certificate with identifier used to sign the client assertion is not registered on application. \
                 [Reason - The key was not found., Thumbprint of key used by client: 'AAAA']"
                    .to_owned()
            )
        );
        // Another's signature under the registered thumbprint.
        let stranger = Bench::new();
        let forged = stranger.assertion(&[("x5t#S256", &bench.thumbprint())], &[]);
        assert_eq!(
            bench.check(&forged).unwrap_err(),
            (
                700_027,
                "Client assertion contains an invalid signature. [Reason - The key was found, but use of the key to \
                 verify the signature failed.]"
                    .to_owned()
            )
        );
        let names = "Client assertion application identifier doesn't match 'client_id' parameter.";
        for claim in ["iss", "sub"] {
            let found = bench.refused(&[(claim, "app-2".into())]);
            assert_eq!(found, (700_021, names.to_owned()), "{claim}");
        }
        assert_eq!(
            bench.refused(&[("aud", "https://login.example/other".into())]),
            (
                700_023,
                "Client assertion audience claim does not match Realm issuer.".to_owned()
            )
        );
        for changed in [
            ("exp", json!(NOW - 300)),
            ("nbf", json!(NOW + 301)),
            ("exp", Value::Null),
        ] {
            let found = bench.refused(std::slice::from_ref(&changed));
            let expected = "Client assertion is not within its valid time range.";
            assert_eq!(found, (700_024, expected.to_owned()), "{changed:?}");
        }
        assert_eq!(bench.check("a.b").unwrap_err().0, 50_027);
    }

    #[test]
    fn another_issuers_assertion_is_refused_for_issuer_subject_audience_key_or_time() {
        let bench = Bench::federated();
        bench.check(&bench.assertion(&[], &[])).unwrap();
        let none = |what: &str, found: &str| {
            format!(
                "No matching federated identity record found for presented assertion {what} '{found}'. Check your \
                 federated identity credential Subject, Audience and Issuer against the presented assertion."
            )
        };
        for (claim, value, number, what) in [
            ("iss", "https://cluster.example/", 700_211, "issuer"),
            (
                "sub",
                "system:serviceaccount:nodes:other",
                700_213,
                "subject",
            ),
            ("aud", "https://vault.azure.net", 700_212, "audience"),
        ] {
            assert_eq!(
                bench.refused(&[(claim, value.into())]),
                (number, none(what, value))
            );
        }
        let late = bench.refused(&[("exp", json!(NOW - 301))]);
        let expected = "Client assertion is not within its valid time range.";
        assert_eq!(late, (700_024, expected.to_owned()));
        let mut stranger = Bench::federated();
        stranger.signer = Bench::new().signer;
        let (number, text) = stranger.refused(&[]);
        assert_eq!(number, 50_013);
        assert!(
            text.starts_with("Assertion failed signature validation. [Reason - "),
            "{text}"
        );
        let mut nothing = Bench::new();
        nothing.app.certificate = None;
        assert_eq!(
            nothing.refused(&[("iss", CLUSTER.into())]),
            (
                70_025,
                "The client 'app-1' has no configured federated identity credentials.".to_owned()
            )
        );
    }
}
