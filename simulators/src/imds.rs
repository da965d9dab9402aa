//! The instance metadata service, version 2 only (EC2 user guide, "Use the Instance Metadata Service").
//!
//! Session tokens by PUT, everything else only with one; the role's credentials expire and are renewed before they do.
//! Credentials it issues are put into the directory the simulated KMS looks them up in.

use std::collections::HashMap;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use crate::credentials::{Credential, CredentialDirectory, CredentialError};
use crate::http::{Answer, Listener, Received, Refused, json as json_answer, serve_plain, text};
use crate::text::{base64, random};
use crate::time::{Clock, Timestamp};

const TTL: &str = "x-aws-ec2-metadata-token-ttl-seconds";
const TOKEN: &str = "x-aws-ec2-metadata-token";
/// Longest life of a session token, in seconds.
const MAX_TTL: u64 = 21_600;
/// Most session tokens alive at once.
const MAX_TOKENS: usize = 10_000;
/// New credentials are there this long (in seconds) before the old ones expire, or a tenth of their life if less.
const RENEWED_AHEAD: u64 = 300;
const CREDENTIALS: &str = "/latest/meta-data/iam/security-credentials/";

/// The instance whose metadata is served.
pub struct ImdsConfig {
    /// Region.
    pub region: String,
    /// Account number, 12 digits.
    pub account: String,
    /// Instance id.
    pub instance_id: String,
    /// Name of the role attached to the instance, if any.
    pub role: Option<String>,
    /// IAM policies of the role.
    pub policies: Vec<Value>,
    /// Life of the credentials, in seconds.
    pub lifetime: u64,
    /// Where issued credentials become known.
    pub credentials: CredentialDirectory,
    /// The present.
    pub clock: Clock,
}

/// A simulated metadata service.
pub struct Imds {
    config: ImdsConfig,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Session tokens and their ends.
    tokens: HashMap<String, Timestamp>,
    issued: Option<Issued>,
}

struct Issued {
    credential: Credential,
    at: Timestamp,
    until: Timestamp,
}

/// Serves `imds` on `listener` until the future is dropped.
///
/// # Errors
/// When no client can be accepted any more.
pub async fn serve_imds(listener: Listener, imds: Imds) -> io::Result<()> {
    serve_plain(listener, move |request| imds.answer(&request)).await
}

impl Imds {
    /// The service of this instance.
    #[must_use]
    pub fn new(config: ImdsConfig) -> Self {
        Self {
            config,
            state: Mutex::default(),
        }
    }

    fn answer(&self, request: &Received) -> Answer {
        let path = request.uri().path();
        let answered = if path == "/latest/api/token" {
            self.token(request)
        } else if !self.has_token(request) {
            refused(StatusCode::UNAUTHORIZED)
        } else if request.method() == Method::GET {
            self.metadata(path)
        } else {
            refused(StatusCode::METHOD_NOT_ALLOWED)
        };
        let answer = answered.unwrap_or_else(|(status, body)| text(status, body));
        tracing::info!(method = %request.method(), path, status = answer.status().as_u16(), "answered");
        answer
    }

    fn token(&self, request: &Received) -> Result<Answer, Refused> {
        if request.method() != Method::PUT {
            return refused(StatusCode::METHOD_NOT_ALLOWED);
        }
        // A request that came through a proxy gets no token.
        if request.headers().contains_key("x-forwarded-for") {
            return refused(StatusCode::FORBIDDEN);
        }
        let ttl = request
            .headers()
            .get(TTL)
            .and_then(|value| value.to_str().ok());
        let ttl = ttl.and_then(|ttl| ttl.parse::<u64>().ok());
        let ttl = ttl.filter(|ttl| (1..=MAX_TTL).contains(ttl));
        let ttl = ttl.ok_or((StatusCode::BAD_REQUEST, String::new()))?;
        let token = random::<40>().map_err(internal)?;
        let token = base64(&token);
        let now = self.config.clock.now();
        let mut state = self.state();
        state.tokens.retain(|_, end| now < *end);
        if state.tokens.len() >= MAX_TOKENS {
            return refused(StatusCode::SERVICE_UNAVAILABLE);
        }
        state.tokens.insert(token.clone(), now.plus_seconds(ttl));
        let mut answer = text(StatusCode::OK, token);
        answer.headers_mut().insert(TTL, ttl.into());
        Ok(answer)
    }

    fn has_token(&self, request: &Received) -> bool {
        let token = request
            .headers()
            .get(TOKEN)
            .and_then(|value| value.to_str().ok());
        let end = token.and_then(|token| self.state().tokens.get(token).copied());
        end.is_some_and(|end| self.config.clock.now() < end)
    }

    fn metadata(&self, path: &str) -> Result<Answer, Refused> {
        let config = &self.config;
        let ok = |body: &str| Ok(text(StatusCode::OK, body));
        let missing = || (StatusCode::NOT_FOUND, String::new());
        if let Some(name) = path.strip_prefix(CREDENTIALS) {
            let role = config.role.as_deref().ok_or_else(missing)?;
            return match name {
                "" => ok(role),
                name if name == role => {
                    let body = self.role_credentials(role).map_err(internal)?;
                    Ok(json_answer(StatusCode::OK, &body))
                }
                _ => Err(missing()),
            };
        }
        match path {
            "/latest/meta-data/iam/security-credentials" => {
                ok(config.role.as_deref().ok_or_else(missing)?)
            }
            "/latest/meta-data/instance-id" => ok(&config.instance_id),
            "/latest/meta-data/placement/region" => ok(&config.region),
            "/latest/meta-data/placement/availability-zone" => ok(&format!("{}a", config.region)),
            "/latest/dynamic/instance-identity/document" => {
                let document = json!({
                    "accountId": config.account,
                    "architecture": "x86_64",
                    "availabilityZone": format!("{}a", config.region),
                    "instanceId": config.instance_id,
                    "region": config.region,
                    "version": "2017-09-30",
                });
                Ok(json_answer(StatusCode::OK, &document))
            }
            _ => Err(missing()),
        }
    }

    /// What is valid now, issued anew when the old is about to end.
    fn role_credentials(&self, role: &str) -> Result<Value, CredentialError> {
        let config = &self.config;
        let now = config.clock.now();
        let mut state = self.state();
        let ahead = RENEWED_AHEAD.min(config.lifetime / 10);
        let good = |issued: &Issued| issued.at <= now && now.plus_seconds(ahead) < issued.until;
        let issued = match state.issued.take().filter(good) {
            Some(issued) => issued,
            None => {
                let session = &config.instance_id;
                let principal = format!(
                    "arn:aws:sts::{}:assumed-role/{role}/{session}",
                    config.account
                );
                let until = now.plus_seconds(config.lifetime);
                let policies = config.policies.clone();
                let credential = Credential::generate(&principal, policies, Some(until))?;
                config.credentials.put(&credential)?;
                Issued {
                    credential,
                    at: now,
                    until,
                }
            }
        };
        let body = json!({
            "Code": "Success",
            "LastUpdated": issued.at.to_string(),
            "Type": "AWS-HMAC",
            "AccessKeyId": issued.credential.access_key_id,
            "SecretAccessKey": issued.credential.secret_access_key,
            "Token": issued.credential.session_token,
            "Expiration": issued.until.to_string(),
        });
        state.issued = Some(issued);
        Ok(body)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn refused(status: StatusCode) -> Result<Answer, Refused> {
    Err((status, String::new()))
}

fn internal(error: impl std::fmt::Display) -> Refused {
    tracing::error!(%error, "no answer");
    (StatusCode::INTERNAL_SERVER_ERROR, String::new())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use http_body_util::BodyExt;
    use hyper::Request;
    use hyper::body::Bytes;

    const START: Timestamp = Timestamp(1_700_000_000_000);

    struct Bench {
        imds: Imds,
        clock: Clock,
        credentials: CredentialDirectory,
        _directory: tempfile::TempDir,
    }

    fn bench(role: Option<&str>) -> Bench {
        let directory = tempfile::tempdir().unwrap();
        let credentials = CredentialDirectory::at(directory.path()).unwrap();
        let clock = Clock::standing_at(START);
        let imds = Imds::new(ImdsConfig {
            region: "eu-west-1".to_owned(),
            account: "111122223333".to_owned(),
            instance_id: "i-0123456789abcdef0".to_owned(),
            role: role.map(str::to_owned),
            policies: Vec::new(),
            lifetime: 3600,
            credentials: credentials.clone(),
            clock: clock.clone(),
        });
        Bench {
            imds,
            clock,
            credentials,
            _directory: directory,
        }
    }

    impl Bench {
        fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> (u16, String) {
            let mut request = Request::builder().method(method).uri(path);
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let answer = self.imds.answer(&request.body(Bytes::new()).unwrap());
            let status = answer.status().as_u16();
            let runtime = tokio::runtime::Builder::new_current_thread()
                .build()
                .unwrap();
            let body = runtime
                .block_on(answer.into_body().collect())
                .unwrap()
                .to_bytes();
            (status, String::from_utf8(body.to_vec()).unwrap())
        }

        fn token(&self, ttl: &str) -> String {
            let (status, token) = self.ask("PUT", "/latest/api/token", &[(TTL, ttl)]);
            assert_eq!(status, 200);
            token
        }

        fn role_credentials(&self) -> Value {
            let token = self.token("60");
            let path = format!("{CREDENTIALS}node");
            let (status, body) = self.ask("GET", &path, &[(TOKEN, &token)]);
            assert_eq!(status, 200);
            serde_json::from_str(&body).unwrap()
        }
    }

    #[test]
    fn nothing_is_told_without_a_living_token() {
        let bench = bench(Some("node"));
        let path = "/latest/meta-data/instance-id";
        assert_eq!(bench.ask("GET", path, &[]), (401, String::new()));
        assert_eq!(
            bench.ask("GET", path, &[(TOKEN, "guess")]),
            (401, String::new())
        );
        let token = bench.token("10");
        let expected = (200, "i-0123456789abcdef0".to_owned());
        assert_eq!(bench.ask("GET", path, &[(TOKEN, &token)]), expected);
        bench.clock.set_offset(10_000);
        assert_eq!(
            bench.ask("GET", path, &[(TOKEN, &token)]),
            (401, String::new())
        );
    }

    #[test]
    fn a_token_needs_a_life_within_limits_a_put_and_no_proxy() {
        let bench = bench(Some("node"));
        let path = "/latest/api/token";
        for headers in [&[][..], &[(TTL, "0")], &[(TTL, "21601")], &[(TTL, "x")]] {
            assert_eq!(bench.ask("PUT", path, headers).0, 400);
        }
        assert_eq!(bench.ask("GET", path, &[(TTL, "60")]).0, 405);
        let proxied = [(TTL, "60"), ("x-forwarded-for", "10.0.0.1")];
        assert_eq!(bench.ask("PUT", path, &proxied).0, 403);
    }

    #[test]
    fn credentials_stay_until_shortly_before_they_expire() {
        let bench = bench(Some("node"));
        let first = bench.role_credentials();
        assert_eq!(first["Expiration"], "2023-11-14T23:13:20Z");
        let id = first["AccessKeyId"].as_str().unwrap();
        let known = bench.credentials.find(id).unwrap().unwrap();
        let principal = "arn:aws:sts::111122223333:assumed-role/node/i-0123456789abcdef0";
        assert_eq!(known.principal_arn, principal);
        assert_eq!(known.session_token.as_deref(), first["Token"].as_str());
        bench.clock.set_offset(3_299_000);
        assert_eq!(bench.role_credentials(), first);
        bench.clock.set_offset(3_300_000);
        let second = bench.role_credentials();
        assert_ne!(second["AccessKeyId"], first["AccessKeyId"]);
        let old = bench.credentials.find(id).unwrap().unwrap();
        assert!(!old.expired(bench.clock.now()));
    }

    #[test]
    fn an_instance_without_a_role_has_no_credentials() {
        let bench = bench(None);
        let token = bench.token("60");
        assert_eq!(bench.ask("GET", CREDENTIALS, &[(TOKEN, &token)]).0, 404);
    }

    #[test]
    fn another_role_s_credentials_are_not_there() {
        let bench = bench(Some("node"));
        let token = bench.token("60");
        assert_eq!(
            bench.ask("GET", CREDENTIALS, &[(TOKEN, &token)]),
            (200, "node".to_owned())
        );
        let other = format!("{CREDENTIALS}admin");
        assert_eq!(bench.ask("GET", &other, &[(TOKEN, &token)]).0, 404);
    }
}
