//! Locks of AWS KMS, made and opened.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use hyper::http::uri::Authority;
use nodeseal_attestation::hex;
use nodeseal_memory::Secret;
use nodeseal_wire::lock::{AwsKmsLock, Lock, LockSpec, MAX_KMS_CIPHERTEXT};
use nodeseal_wire::message::{Class, Fact, Refusal};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;

use super::arn::KeyArn;
use super::client::{Answer, Attempts, Question};
use super::cms::Envelope;
use super::config::{AwsKmsConfig, AwsKmsConfigError};
use super::connector::{Ahead, MAX_BODY};
use super::presented::Presented;
use super::recipient::{RecipientKey, RecipientKeys, TakenKey};
use crate::evidence::{AttestError, AttestationRequest, Attester};
use crate::lock::{BoxFuture, KeyService, LOCK_SECRET_LENGTH, LockContext, NewLock, OpenedLock};
use crate::refusal::refuse;
use crate::tunnel::{Egress, Fault, Tunnel};

/// Member of the EncryptionContext that holds the node's id.
pub const CONTEXT_NODE: &str = "nodeseal:node";
/// Member of the EncryptionContext that holds the data key's id, 32 lower-case hexadecimal digits.
pub const CONTEXT_DATA_KEY: &str = "nodeseal:data-key";
/// Member of the EncryptionContext that holds the format's version, "1".
pub const CONTEXT_VERSION: &str = "nodeseal:version";

/// Longest deadline that is kept to, whatever is configured.
const LONGEST_DEADLINE: Duration = Duration::from_secs(3600);

/// The key service for locks of AWS KMS.
pub struct AwsKms {
    config: AwsKmsConfig,
    allowed: Option<Vec<KeyArn>>,
    tls: TlsConnector,
    attestation: Option<Attestation>,
}

struct Attestation {
    attester: Arc<dyn Attester>,
    recipients: RecipientKeys,
}

/// What goes into a request so that KMS answers to this trusted side alone.
struct Evidence {
    document: Vec<u8>,
    recipient: Arc<TakenKey>,
    kind: &'static str,
    presented: Option<Presented>,
}

/// A secret that KMS gave, with its ciphertext if it is new.
struct Given {
    secret: Secret,
    ciphertext: Option<Vec<u8>>,
    facts: Vec<Fact>,
}

impl AwsKms {
    /// A key service that proves itself by `attester`. Without one it serves only locks that ask for no attestation,
    /// which stand beside a `tpm` lock. Recipient keys are made from now on, in the background.
    ///
    /// # Errors
    /// When the configuration cannot be used.
    pub fn new(
        config: AwsKmsConfig,
        attester: Option<Arc<dyn Attester>>,
    ) -> Result<Self, AwsKmsConfigError> {
        config.check_endpoints()?;
        let allowed = config.allowed()?;
        let tls = TlsConnector::from(Arc::new(config.tls()?));
        let attestation = match attester {
            Some(attester) => Some(Attestation {
                attester,
                recipients: RecipientKeys::start(config.recipient_keys, config.recipient_shared)?,
            }),
            None => None,
        };
        Ok(Self {
            config,
            allowed,
            tls,
            attestation,
        })
    }

    /// Asks for a new secret, or for that of `ciphertext`.
    async fn ask(
        &self,
        key: &str,
        attested: bool,
        ciphertext: Option<&[u8]>,
        context: LockContext<'_>,
    ) -> Result<Given, Refusal> {
        let deadline = Instant::now() + self.config.deadline.min(LONGEST_DEADLINE);
        let key = self.allowed_key(key)?;
        let credentials = context.request.aws.as_ref().ok_or_else(|| {
            let found = "the request came without AWS credentials";
            refuse(Class::Misuse, "aws-credentials-missing", found)
        })?;
        let egress = context.request.egress.as_deref().ok_or_else(|| {
            let found = "the request names no egress address, and this side has no network";
            refuse(Class::Misuse, "egress-missing", found)
        })?;
        let egress = Egress::through(egress, &self.config.dial)
            .map_err(|error| refuse(Class::Misuse, "egress-address", error.to_string()))?;
        let tunnel = Tunnel {
            tls: self.tls.clone(),
            egress,
            max_body: MAX_BODY,
        };
        let mut ahead = None;
        let evidence = match attested {
            true => {
                ahead = self.connect_ahead(&key, &tunnel);
                Some(self.evidence(&key, deadline).await?)
            }
            false => None,
        };
        let question = Question {
            key: &key,
            credentials,
            tunnel,
            context: encryption_context(context),
            document: evidence.as_ref().map(|e| e.document.as_slice()),
            ciphertext,
        };
        let (answer, attempts) = question.ask(&self.config, ahead, deadline).await;
        let refusal = |fault: Fault, request_id: Option<&str>| {
            let mut more = String::new();
            if let Some(id) = request_id {
                more = format!(" (request id {id})");
            }
            if attempts.count > 1 {
                more = format!("{more}; {} attempts", attempts.count);
            }
            for id in &attempts.earlier {
                more = format!("{more}, before it request id {id}");
            }
            if matches!(fault.code, "kms-access-denied" | "kms-validation") {
                let presented = evidence.as_ref().and_then(|e| e.presented.as_ref());
                more.extend(presented.map(Presented::sentence));
            }
            fault.refusal(question.operation(), key.as_str(), &more)
        };
        let answer = answer.map_err(|fault| refusal(fault, None))?;
        let request_id = answer.request_id.clone();
        let mut facts = facts_of(&key, &answer, &attempts);
        if let Some(evidence) = &evidence {
            facts.extend(evidence.facts());
        }
        let recipient = evidence.as_ref().map(|e| &**e.recipient);
        let (secret, ciphertext) = check(answer, &question, recipient)
            .map_err(|fault| refusal(fault, request_id.as_deref()))?;
        Ok(Given {
            secret,
            ciphertext,
            facts,
        })
    }

    fn allowed_key(&self, key: &str) -> Result<KeyArn, Refusal> {
        let key = KeyArn::parse(key)
            .map_err(|error| refuse(Class::Misuse, "kms-key-arn", error.to_string()))?;
        match &self.allowed {
            Some(allowed) if !allowed.contains(&key) => Err(refuse(
                Class::Denied,
                "kms-key-not-allowed",
                format!(
                    "the configuration of this trusted side does not allow KMS key {key}; allowed: {}",
                    allowed
                        .iter()
                        .map(KeyArn::as_str)
                        .collect::<Vec<_>>()
                        .join(", ")
                ),
            )),
            _ => Ok(key),
        }
    }

    /// Starts to connect to KMS while the evidence is made: neither needs the other.
    fn connect_ahead(&self, key: &KeyArn, tunnel: &Tunnel) -> Option<Ahead> {
        self.attestation.as_ref()?;
        let authority: Authority = self.config.endpoint(key).parse().ok()?;
        let tunnel = tunnel.clone();
        let mut ahead = Ahead::new();
        ahead.spawn(async move { tunnel.connect(&authority).await });
        Some(ahead)
    }

    async fn evidence(&self, key: &KeyArn, deadline: Instant) -> Result<Evidence, Refusal> {
        let attestation = self.attestation.as_ref().ok_or_else(|| {
            let message = format!(
                "the lock of {key} needs an attestation document, which this trusted side cannot make"
            );
            refuse(Class::Misuse, "no-attestation", message)
        })?;
        let kind = attestation.attester.kind();
        let made = timeout_at(deadline, async {
            let recipient = attestation
                .recipients
                .take()
                .await
                .map_err(|error| refuse(Class::Internal, "recipient-key", error.to_string()))?;
            let request = AttestationRequest {
                public_key: Some(recipient.public_key()),
                ..AttestationRequest::default()
            };
            let document = attestation.attester.attest(request).await?;
            Ok(Evidence {
                presented: Presented::read(&document),
                document,
                recipient,
                kind,
            })
        });
        made.await.unwrap_or_else(|_| {
            let device = kind.to_owned();
            let reason = format!("no document within {} ms", self.config.deadline.as_millis());
            Err(AttestError::Device { device, reason }.into())
        })
    }
}

impl Evidence {
    fn facts(&self) -> Vec<Fact> {
        let document = digest(&SHA256, &self.document);
        let mut facts = vec![
            fact("evidence-kind", self.kind),
            fact("evidence-sha256", hex::encode(document.as_ref())),
        ];
        if let Some(presented) = &self.presented {
            facts.push(fact("evidence-module-id", &presented.module_id));
            facts.push(fact("evidence-pcrs", &presented.pcrs));
        }
        facts
    }
}

/// Takes the secret out of an answer that is as it must be.
fn check(
    answer: Answer,
    question: &Question<'_>,
    recipient: Option<&RecipientKey>,
) -> Result<(Secret, Option<Vec<u8>>), Fault> {
    if answer.key.as_deref() != Some(question.key.as_str()) {
        let found = answer.key.as_deref().unwrap_or("none");
        let found = crate::tunnel::printable(found.as_bytes(), 200);
        let text = format!("the answer is by another key: {found}");
        return Err(Fault::answer("kms-answer-other-key", text));
    }
    let secret = match recipient {
        Some(recipient) => {
            if answer.plaintext.is_some() {
                let text = "the answer to an attested request carries Plaintext, so attestation was not looked at";
                return Err(Fault::answer("kms-answer-plaintext", text));
            }
            let envelope = answer.for_recipient.ok_or_else(|| {
                let text = "the answer to an attested request carries no CiphertextForRecipient";
                Fault::answer("kms-answer-no-recipient", text)
            })?;
            Envelope::parse(&envelope)?.open(recipient, LOCK_SECRET_LENGTH)?
        }
        None => answer.plaintext.ok_or_else(|| {
            Fault::answer("kms-answer-malformed", "the answer carries no Plaintext")
        })?,
    };
    if secret.len() != LOCK_SECRET_LENGTH {
        let text = format!(
            "the answer carries a plaintext of {} bytes, where {LOCK_SECRET_LENGTH} are expected",
            secret.len()
        );
        return Err(Fault::answer("kms-answer-malformed", text));
    }
    let length = answer.ciphertext.as_ref().map_or(0, Vec::len);
    if question.ciphertext.is_none() && !(1..=MAX_KMS_CIPHERTEXT).contains(&length) {
        let text = format!(
            "the answer carries a CiphertextBlob of {length} bytes, where 1 to {MAX_KMS_CIPHERTEXT} are expected"
        );
        return Err(Fault::answer("kms-answer-malformed", text));
    }
    Ok((secret, answer.ciphertext))
}

fn encryption_context(context: LockContext<'_>) -> HashMap<String, String> {
    [
        (CONTEXT_NODE, context.node.to_owned()),
        (CONTEXT_DATA_KEY, hex::encode(context.data_key_id)),
        (CONTEXT_VERSION, "1".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

fn facts_of(key: &KeyArn, answer: &Answer, attempts: &Attempts) -> Vec<Fact> {
    let mut facts = vec![
        fact("kms-key", key.as_str()),
        fact("kms-region", key.region()),
        fact(
            "kms-request-id",
            answer.request_id.as_deref().unwrap_or("none"),
        ),
        fact("kms-attempts", attempts.count.to_string()),
    ];
    let earlier = attempts.earlier.iter();
    facts.extend(earlier.map(|id| fact("kms-earlier-request-id", id)));
    facts
}

fn fact(name: &str, value: impl Into<String>) -> Fact {
    Fact {
        name: name.to_owned(),
        value: value.into(),
    }
}

impl KeyService for AwsKms {
    fn makes(&self, spec: &LockSpec) -> bool {
        matches!(spec, LockSpec::AwsKms { .. })
    }

    fn opens(&self, lock: &Lock) -> bool {
        matches!(lock, Lock::AwsKms(_))
    }

    fn new_secret<'a>(
        &'a self,
        spec: &'a LockSpec,
        context: LockContext<'a>,
    ) -> BoxFuture<'a, Result<NewLock, Refusal>> {
        Box::pin(async move {
            let LockSpec::AwsKms { key, attested } = spec else {
                return Err(not_ours());
            };
            let given = self.ask(key, *attested, None, context).await?;
            let lock = AwsKmsLock {
                key: key.clone(),
                attested: *attested,
                ciphertext: given.ciphertext.unwrap_or_default(),
            };
            Ok(NewLock {
                lock: Lock::AwsKms(lock),
                secret: given.secret,
                facts: given.facts,
            })
        })
    }

    fn open_secret<'a>(
        &'a self,
        lock: &'a Lock,
        context: LockContext<'a>,
    ) -> BoxFuture<'a, Result<OpenedLock, Refusal>> {
        Box::pin(async move {
            let Lock::AwsKms(lock) = lock else {
                return Err(not_ours());
            };
            let given = self
                .ask(&lock.key, lock.attested, Some(&lock.ciphertext), context)
                .await?;
            Ok(OpenedLock {
                secret: given.secret,
                facts: given.facts,
            })
        })
    }
}

fn not_ours() -> Refusal {
    refuse(Class::Internal, "lock-not-served", "not a lock of AWS KMS")
}
