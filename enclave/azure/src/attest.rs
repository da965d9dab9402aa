//! The exchange with the attestation service: evidence out, token back, opened in the TPM and checked before use.

use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use hyper::body::Bytes;
use nodeseal_attestation::azure::tpm::RsaPublic;
use nodeseal_attestation::azure::{Claims, Jwks, Token, TokenError, TokenExpectations, TokenKind};
use nodeseal_attestation::hex;
use nodeseal_attestation::time::Timestamp;
use nodeseal_core::crypto::{Cipher, CryptoError, random};
use nodeseal_core::lock::LockContext;
use nodeseal_core::refusal::refuse;
use nodeseal_core::tunnel::pause::full_jitter;
use nodeseal_core::tunnel::{Fault, printable};
use nodeseal_memory::Secret;
use nodeseal_wire::message::{Class, Fact, Refusal};
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

use super::client::{Call, fact};
use super::config::{AzureConfig, ReleaseConfig};
use super::fault::CODES;
use super::guest::{ENVELOPE_AAD, Envelope, GuestEvidence, GuestTpm, Padding};
use super::transport::request_id;

/// How far clocks may differ, in seconds.
const LEEWAY: u64 = 120;
/// Length of the nonce in a token, in bytes.
const NONCE: usize = 32;
/// Longest pause before the second attempt; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// Longest pause of all.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A token that proves this boot of this machine, and what it says.
pub(crate) struct Attested {
    /// As it is sent to a vault.
    pub(crate) token: String,
    /// Id of the key in it that is ours.
    pub(crate) key_id: String,
    /// What it presents, for refusals.
    pub(crate) presented: String,
    pub(crate) facts: Vec<Fact>,
}

/// Asks `service` for a token, with the evidence of `tpm`.
pub(crate) async fn attest(
    call: &Call<'_>,
    config: &AzureConfig,
    release: &ReleaseConfig,
    service: &str,
    tpm: &dyn GuestTpm,
    context: LockContext<'_>,
) -> Result<Attested, Refusal> {
    let crypto = |error: CryptoError| refuse(Class::Internal, "crypto", error.to_string());
    let evidence = tpm.evidence().await?;
    let nonce: [u8; NONCE] = random().map_err(crypto)?;
    let vcek = context.request.azure.vcek_chain.as_deref();
    let request = evidence.request(&nonce, vcek).map_err(|problem| {
        let message = format!("the evidence of this machine: {problem}");
        refuse(Class::Misuse, "azure-evidence", message)
    })?;
    let asking = Asking {
        call,
        config,
        service,
    };
    let path = format!("/attest/AzureGuest?api-version={}", release.attestation_api);
    let body = asking.ask(&path, Some(request.to_string())).await?;
    let envelope = Envelope::parse(&body).map_err(|problem| asking.malformed(&problem))?;
    let mut token = open(tpm, envelope).await?;
    let token = take_text(&mut token).ok_or_else(|| asking.malformed("the token is no text"))?;
    let keys = asking.ask("/certs", None).await?;
    let keys = Jwks::parse(&keys).map_err(|error| asking.malformed(&error.to_string()))?;
    check(&token, &keys, &evidence, &nonce, config, release, service)
}

/// Opens the envelope: the inner key in the TPM, the token with it.
async fn open(tpm: &dyn GuestTpm, envelope: Envelope) -> Result<Secret, Refusal> {
    let other_boot = |detail: String| {
        let message = format!(
            "the attestation token was encrypted to the key of another machine or of an earlier boot: {detail}"
        );
        refuse(Class::Damaged, "azure-token-other-boot", message)
    };
    let key = match tpm.decrypt(Padding::Pkcs1, envelope.inner_key).await {
        Err(refusal) if refusal.code == super::NOT_OURS => return Err(other_boot(refusal.message)),
        key => key?,
    };
    let cipher = Cipher::new(&key)
        .map_err(|_| other_boot(format!("its key has {} bytes, not 32", key.len())))?;
    let mut token = Secret::copy_of(&envelope.token)
        .map_err(|error| refuse(Class::Internal, "memory", error.to_string()))?;
    cipher
        .open(envelope.nonce, ENVELOPE_AAD, token.expose_mut())
        .map_err(|error| other_boot(error.to_string()))?;
    let length = token
        .len()
        .saturating_sub(nodeseal_core::crypto::TAG_LENGTH);
    token.truncate(length);
    Ok(token)
}

/// The token is sent on, so it is no secret once it is opened.
fn take_text(token: &mut Secret) -> Option<String> {
    std::str::from_utf8(token.expose())
        .ok()
        .map(|text| text.trim_end().to_owned())
}

fn check(
    text: &str,
    keys: &Jwks,
    evidence: &GuestEvidence,
    nonce: &[u8],
    config: &AzureConfig,
    release: &ReleaseConfig,
    service: &str,
) -> Result<Attested, Refusal> {
    let invalid = |error: &TokenError| {
        let code = match error {
            TokenError::SecureBoot => "azure-secure-boot",
            TokenError::Debug { .. } => "azure-debug",
            TokenError::OtherKey { .. } => "azure-token-other-boot",
            TokenError::Nonce => "azure-token-replayed",
            TokenError::Machine { .. } => "azure-token-other-machine",
            TokenError::Kind { .. } => "azure-machine-kind",
            TokenError::Expired { .. } | TokenError::NotYetValid { .. } => "azure-token-time",
            _ => "azure-token-invalid",
        };
        let class = match error {
            TokenError::SecureBoot
            | TokenError::Debug { .. }
            | TokenError::Machine { .. }
            | TokenError::Kind { .. } => Class::Denied,
            _ => Class::Damaged,
        };
        refuse(class, code, error.to_string())
    };
    let own = RsaPublic::parse(&evidence.ephemeral_public)
        .map_err(|error| refuse(Class::Internal, "azure-evidence", error.to_string()))?;
    let token = Token::parse(text).map_err(|error| invalid(&error))?;
    let confidential = [TokenKind::SevSnpVm, TokenKind::TdxVm];
    let expected = TokenExpectations {
        issuer: service,
        at: Timestamp::from_seconds(config.clock.unix_seconds()),
        leeway: LEEWAY,
        nonce,
        key_modulus: &own.key.modulus,
        kinds: if release.allow_trusted_launch {
            &[]
        } else {
            &confidential
        },
        secure_boot: release.require_secure_boot,
        allow_debug: release.allow_debug,
        vm_id: release.vm_id.as_deref(),
    };
    let verified = token
        .verify(keys, &expected)
        .map_err(|error| invalid(&error))?;
    let presented = format!(
        "; presented: {} with {}",
        verified.kind(),
        presented(verified.claims(), verified.vm_id())
    );
    let facts = vec![
        fact("azure-attestation", service),
        fact("azure-machine", verified.kind().to_string()),
        fact("azure-vm-id", verified.vm_id().unwrap_or("none")),
        fact("evidence-kind", "azure-guest"),
        fact(
            "evidence-sha256",
            hex::encode(digest(&SHA256, text.as_bytes()).as_ref()),
        ),
    ];
    Ok(Attested {
        token: text.to_owned(),
        key_id: verified.key_id().to_owned(),
        presented,
        facts,
    })
}

/// The claims release policies name.
fn presented(claims: &Claims, vm_id: Option<&str>) -> String {
    let claim = |path: &str| {
        claims
            .value(path)
            .map_or_else(|| "none".to_owned(), |value| value.to_string())
    };
    let isolation = "x-ms-isolation-tee.x-ms-compliance-status";
    format!(
        "vm id {}, secureboot {}, compliance {}",
        vm_id.unwrap_or("none"),
        claim("secureboot"),
        claim(isolation)
    )
}

/// Requests of one exchange.
struct Asking<'a> {
    call: &'a Call<'a>,
    config: &'a AzureConfig,
    service: &'a str,
}

impl Asking<'_> {
    fn malformed(&self, problem: &str) -> Refusal {
        let text = printable(problem.as_bytes(), 300);
        Fault::answer(CODES.malformed, text).refusal("attest/AzureGuest", self.service, "")
    }

    /// Asks, several times if need be, until the call's deadline.
    async fn ask(&self, path: &str, body: Option<String>) -> Result<Bytes, Refusal> {
        let mut attempt = 1;
        loop {
            let left = self.call.deadline.saturating_duration_since(Instant::now());
            let limit = left.min(self.config.attempt);
            let id = request_id().unwrap_or_default();
            let fault = match timeout(limit, self.once(path, body.clone(), &id)).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(fault)) => fault,
                Err(_) => Fault::timeout(&CODES, limit),
            };
            let pause = fault
                .retry_after
                .unwrap_or_default()
                .saturating_add(full_jitter(attempt, FIRST_PAUSE, LONGEST_PAUSE));
            let late = self.call.deadline.saturating_duration_since(Instant::now()) <= pause;
            if !fault.passing || attempt >= self.config.attempts || late {
                let more = format!(" (client request id {id}, {attempt} attempts)");
                return Err(fault.refusal("attest/AzureGuest", self.service, &more));
            }
            sleep(pause).await;
            attempt = attempt.saturating_add(1);
        }
    }

    async fn once(&self, path: &str, body: Option<String>, id: &str) -> Result<Bytes, Fault> {
        let method = match body {
            Some(_) => hyper::Method::POST,
            None => hyper::Method::GET,
        };
        let request = hyper::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.service))
            .header("content-type", "application/json")
            .header("accept", "application/json")
            .header(
                "user-agent",
                concat!("nodeseal/", env!("CARGO_PKG_VERSION")),
            )
            .header("x-ms-client-request-id", id)
            .body(http_body_util::Full::new(Bytes::from(
                body.unwrap_or_default(),
            )))
            .map_err(|error| Fault::new(Class::Internal, CODES.client, error.to_string()))?;
        let answer = self
            .call
            .tunnel()
            .exchange(request)
            .await
            .map_err(|error| Fault::of_connection(&CODES, &error))?;
        let status = answer.status().as_u16();
        let retry_after = answer
            .headers()
            .get("retry-after")
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .map(Duration::from_secs);
        let body = answer.into_body();
        if status == 200 {
            return Ok(body);
        }
        let error: Value = serde_json::from_slice(&body).unwrap_or_default();
        let text = |name: &str| error["error"][name].as_str().unwrap_or("none").to_owned();
        let text = format!(
            "HTTP {status}, {}: {:?}",
            printable(text("code").as_bytes(), 80),
            printable(text("message").as_bytes(), 1000)
        );
        Err(match status {
            429 => Fault {
                retry_after,
                ..Fault::passing("azure-attestation-throttled", text)
            },
            408 | 500.. => Fault::passing("azure-attestation-unavailable", text),
            _ => Fault::new(Class::Denied, "azure-attestation-refused", text),
        })
    }
}
