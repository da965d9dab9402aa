//! Calls of Key Vault: attempts within a deadline, pauses between them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use azure_core::http::{ClientOptions, RetryOptions, Transport as SdkTransport, UserAgentOptions};
use azure_security_keyvault_keys::models::{
    EncryptionAlgorithm, Key, KeyClientGetKeyOptions, KeyClientReleaseOptions,
    KeyEncryptionAlgorithm, KeyOperationParameters, KeyOperationResult, KeyReleaseResult,
    ReleaseParameters,
};
use azure_security_keyvault_keys::{KeyClient, KeyClientOptions};
use nodeseal_core::lock::LockContext;
use nodeseal_core::refusal::refuse;
use nodeseal_core::tunnel::pause::{full_jitter, part_of};
use nodeseal_core::tunnel::{Egress, Fault, Tunnel};
use nodeseal_wire::message::{AzureToken, Class, Fact, Refusal};
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsConnector;

use super::config::{AzureConfig, AzureConfigError};
use super::fault::{self, CODES, THROTTLED, TOKEN_REJECTED};
use super::key_id::KeyId;
use super::transport::{Challenges, MAX_BODY, PassedToken, Trace, Transport};
use super::wrap::RsaPublic;

/// Longest pause before the second attempt after a fault that may pass; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// Longest pause of these.
const LONGEST_PAUSE: Duration = Duration::from_secs(3);
/// How often the longest pause at a busy vault is the first one.
const THROTTLE_GROWTH: u32 = 16;
/// Attempts with a token the vault cannot verify.
const TOKEN_ATTEMPTS: u32 = 3;
/// Longest deadline that is kept to, whatever is configured.
const LONGEST_DEADLINE: Duration = Duration::from_secs(3600);

/// What all locks of Key Vault share: the configuration, trust, and what was learned of vaults.
pub struct Vaults {
    pub(crate) config: AzureConfig,
    allowed: Vec<KeyId>,
    pub(crate) tls: TlsConnector,
    challenges: Arc<Challenges>,
    /// Public halves of versions, which never change.
    public_keys: Mutex<HashMap<String, RsaPublic>>,
}

/// One lock being made or opened: its key, and what the request brought along.
pub(crate) struct Call<'a> {
    vaults: &'a Vaults,
    pub(crate) key: KeyId,
    pub(crate) egress: Egress,
    token: &'a AzureToken,
    pub(crate) deadline: Instant,
}

/// What a vault is asked about the key.
pub(crate) enum Question<'a> {
    /// Its public half; the newest version's where the id names none.
    Get,
    /// To unwrap this.
    Unwrap(&'a [u8]),
    /// To release it against this attestation token, with this nonce in the answer.
    Release { token: &'a str, nonce: &'a str },
}

/// What it answered, of which nothing is checked.
pub(crate) enum Answer {
    Key(Box<Key>),
    Unwrapped(KeyOperationResult),
    Released(KeyReleaseResult),
}

/// An answer, with what is in the vault's log about it.
pub(crate) struct Answered {
    pub(crate) answer: Answer,
    pub(crate) trace: Trace,
    pub(crate) attempts: u32,
}

impl Question<'_> {
    /// Name of the operation's data action.
    fn operation(&self) -> &'static str {
        match self {
            Self::Get => "keys/read",
            Self::Unwrap(_) => "keys/unwrap",
            Self::Release { .. } => "keys/release",
        }
    }
}

impl Vaults {
    /// Vaults as this configuration allows them.
    ///
    /// # Errors
    /// When the configuration cannot be used.
    pub fn new(config: AzureConfig) -> Result<Arc<Self>, AzureConfigError> {
        Ok(Arc::new(Self {
            allowed: config.allowed()?,
            tls: TlsConnector::from(Arc::new(config.roots.client(&config.clock)?)),
            config,
            challenges: Arc::default(),
            public_keys: Mutex::default(),
        }))
    }

    /// Begins to make or open a lock of `key`.
    pub(crate) fn call<'a>(
        &'a self,
        key: &str,
        context: LockContext<'a>,
    ) -> Result<Call<'a>, Refusal> {
        let misuse = |code: &str, message: String| refuse(Class::Misuse, code, message);
        let key = KeyId::parse(key).map_err(|error| misuse("azure-key-id", error.to_string()))?;
        if !self.allowed.iter().any(|allowed| allowed.covers(&key)) {
            let allowed: Vec<_> = self.allowed.iter().map(KeyId::to_string).collect();
            let message = format!(
                "the configuration of this trusted side does not allow key {key}; allowed: {}",
                allowed.join(", ")
            );
            return Err(refuse(Class::Denied, "azure-key-not-allowed", message));
        }
        let tokens = &context.request.azure.tokens;
        let token = tokens.iter().find(|token| token.vault == key.host());
        let token = token.ok_or_else(|| {
            let message = format!(
                "the request came without an access token for {}",
                key.host()
            );
            misuse("azure-token-missing", message)
        })?;
        let egress = context.request.egress.as_deref().ok_or_else(|| {
            let found = "the request names no egress address, and this side has no network";
            misuse("egress-missing", found.to_owned())
        })?;
        let egress =
            Egress::parse(egress).map_err(|error| misuse("egress-address", error.to_string()))?;
        Ok(Call {
            vaults: self,
            key,
            egress,
            token,
            deadline: Instant::now() + self.config.deadline.min(LONGEST_DEADLINE),
        })
    }
}

impl Call<'_> {
    /// Asks until there is an answer, a fault that does not pass, no attempt left, or no time left.
    ///
    /// # Errors
    /// A refusal that names the operation, the key and the ids under which the vault remembers; `more` is its end.
    pub(crate) async fn ask(
        &self,
        question: Question<'_>,
        more: impl Fn(&Fault) -> String,
    ) -> Result<Answered, Refusal> {
        let trace = Arc::new(Mutex::new(Trace::default()));
        let asked = self.attempts(&question, &trace).await;
        let trace = trace.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match asked {
            Ok((answer, attempts)) => Ok(Answered {
                answer,
                trace,
                attempts,
            }),
            Err((fault, attempts)) => {
                let ids = format!(
                    " (request id {}, client request id {}{})",
                    trace.request_id.as_deref().unwrap_or("none"),
                    trace.client_request_id,
                    match attempts {
                        0 | 1 => String::new(),
                        attempts => format!(", {attempts} attempts"),
                    }
                );
                let more = format!("{ids}{}", more(&fault));
                Err(fault.refusal(question.operation(), &self.key.to_string(), &more))
            }
        }
    }

    async fn attempts(
        &self,
        question: &Question<'_>,
        trace: &Arc<Mutex<Trace>>,
    ) -> Result<(Answer, u32), (Fault, u32)> {
        let config = &self.vaults.config;
        let client = self.client(trace).map_err(|error| (fault::of(&error), 0))?;
        let mut attempt = 1;
        loop {
            let left = self.deadline.saturating_duration_since(Instant::now());
            let limit = left.min(config.attempt);
            let fault = match timeout(limit, self.once(&client, question)).await {
                Ok(Ok(answer)) => return Ok((answer, attempt)),
                Ok(Err(error)) => {
                    let after = trace
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .retry_after;
                    Fault {
                        retry_after: after.map(Duration::from_secs),
                        ..fault::of(&error)
                    }
                }
                Err(_) => Fault::timeout(&CODES, limit),
            };
            let pause = self.pause(&fault, attempt);
            let most = match fault.code {
                THROTTLED => u32::MAX,
                TOKEN_REJECTED => TOKEN_ATTEMPTS,
                _ => config.attempts,
            };
            let late = self.deadline.saturating_duration_since(Instant::now()) <= pause;
            if !fault.passing || attempt >= most || late {
                return Err((fault, attempt));
            }
            tracing::warn!(
                code = fault.code,
                attempt,
                "the vault did not answer, trying again"
            );
            sleep(pause).await;
            attempt = attempt.saturating_add(1);
        }
    }

    /// A busy vault says how long it wants to be left alone, or is left alone for longer each time.
    fn pause(&self, fault: &Fault, attempt: u32) -> Duration {
        let first = self.vaults.config.throttle_pause;
        match (fault.code, fault.retry_after) {
            (_, Some(after)) => after.saturating_add(part_of(first)),
            (THROTTLED, None) => full_jitter(attempt, first, first.saturating_mul(THROTTLE_GROWTH)),
            _ => full_jitter(attempt, FIRST_PAUSE, LONGEST_PAUSE),
        }
    }

    /// The SDK does URLs, JSON, the challenge and errors. Retries, time limits and connections are ours.
    fn client(&self, trace: &Arc<Mutex<Trace>>) -> azure_core::Result<KeyClient> {
        let transport = Transport {
            tunnel: self.tunnel(),
            challenges: Arc::clone(&self.vaults.challenges),
            trace: Arc::clone(trace),
        };
        let credential = PassedToken {
            token: self.token.token.clone(),
            expires: self.token.expires,
        };
        let client_options = ClientOptions {
            retry: RetryOptions::none(),
            transport: Some(SdkTransport::new(Arc::new(transport))),
            user_agent: UserAgentOptions {
                // A token of RFC 9110, so no slash.
                application_id: Some(concat!("nodeseal-", env!("CARGO_PKG_VERSION")).to_owned()),
            },
            ..ClientOptions::default()
        };
        let options = KeyClientOptions {
            client_options,
            verify_challenge_resource: Some(self.vaults.config.verify_challenge_resource),
            ..KeyClientOptions::default()
        };
        let endpoint = format!("https://{}", self.key.host());
        KeyClient::new(&endpoint, Arc::new(credential), Some(options))
    }

    /// The way to the vault and to the attestation service.
    pub(crate) fn tunnel(&self) -> Tunnel {
        Tunnel {
            tls: self.vaults.tls.clone(),
            egress: self.egress.clone(),
            max_body: MAX_BODY,
        }
    }

    async fn once(
        &self,
        client: &KeyClient,
        question: &Question<'_>,
    ) -> azure_core::Result<Answer> {
        let name = self.key.name();
        let key_version = self.key.version().map(str::to_owned);
        match question {
            Question::Get => {
                let options = KeyClientGetKeyOptions {
                    key_version,
                    ..KeyClientGetKeyOptions::default()
                };
                let answer = client.get_key(name, Some(options)).await?;
                Ok(Answer::Key(Box::new(answer.into_model()?)))
            }
            Question::Unwrap(ciphertext) => {
                let parameters = KeyOperationParameters {
                    algorithm: Some(EncryptionAlgorithm::RsaOaep256),
                    value: Some(ciphertext.to_vec()),
                    ..KeyOperationParameters::default()
                };
                let version = key_version.unwrap_or_default();
                let answer = client
                    .unwrap_key(name, &version, parameters.try_into()?, None)
                    .await?;
                Ok(Answer::Unwrapped(answer.into_model()?))
            }
            Question::Release { token, nonce } => {
                let parameters = ReleaseParameters {
                    target_attestation_token: Some((*token).to_owned()),
                    nonce: Some((*nonce).to_owned()),
                    algorithm: Some(KeyEncryptionAlgorithm::RsaAesKeyWrap256),
                };
                let options = KeyClientReleaseOptions {
                    key_version,
                    ..KeyClientReleaseOptions::default()
                };
                let answer = client
                    .release(name, parameters.try_into()?, Some(options))
                    .await?;
                Ok(Answer::Released(answer.into_model()?))
            }
        }
    }

    /// The public half of the key, with the id of its version: asked for once per version.
    ///
    /// # Errors
    /// When the vault does not give it, or gives another key's.
    pub(crate) async fn public_key(&self) -> Result<(KeyId, RsaPublic, Vec<Fact>), Refusal> {
        let known = || {
            self.vaults
                .public_keys
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
        };
        if self.key.version().is_some()
            && let Some(public) = known().get(&self.key.to_string()).cloned()
        {
            let facts = vec![fact("azure-key", self.key.to_string())];
            return Ok((self.key.clone(), public, facts));
        }
        let answered = self.ask(Question::Get, |_| String::new()).await?;
        let facts = answered.facts();
        let refusal =
            |fault: Fault| fault.refusal(Question::Get.operation(), &self.key.to_string(), "");
        let key = match answered.answer {
            Answer::Key(answer) => answer.key,
            _ => None,
        };
        let Some(key) = key else {
            let text = "the answer carries no key";
            return Err(refusal(Fault::answer(CODES.malformed, text)));
        };
        let id = key.kid.as_deref().unwrap_or("none");
        let version = KeyId::parse(id)
            .ok()
            .filter(|id| self.key.covers(id) && id.version().is_some());
        let Some(version) = version else {
            return Err(refusal(other_key(id)));
        };
        let public = RsaPublic::of(&key).map_err(refusal)?;
        known().insert(version.to_string(), public.clone());
        let mut facts = facts;
        facts.insert(0, fact("azure-key", version.to_string()));
        Ok((version, public, facts))
    }
}

impl Answered {
    /// For the audit log: what joins it to the vault's.
    pub(crate) fn facts(&self) -> Vec<Fact> {
        vec![
            fact("azure-client-request-id", &self.trace.client_request_id),
            fact(
                "azure-request-id",
                self.trace.request_id.as_deref().unwrap_or("none"),
            ),
            fact("azure-attempts", self.attempts.to_string()),
        ]
    }
}

/// The answer is by another key than was asked.
pub(crate) fn other_key(found: &str) -> Fault {
    let found = nodeseal_core::tunnel::printable(found.as_bytes(), 200);
    let text = format!("the answer is by another key: {found}");
    Fault::answer("azure-answer-other-key", text)
}

pub(crate) fn fact(name: &str, value: impl Into<String>) -> Fact {
    Fact {
        name: name.to_owned(),
        value: value.into(),
    }
}
