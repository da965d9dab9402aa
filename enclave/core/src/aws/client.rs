//! One call of KMS: attempts within a deadline, pauses between them.

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_kms::config::retry::RetryConfig;
use aws_sdk_kms::config::timeout::TimeoutConfig;
use aws_sdk_kms::config::{
    BehaviorVersion, Config, Credentials, IdentityCache, Region, StalledStreamProtectionConfig,
};
use aws_sdk_kms::operation::RequestId;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{DataKeySpec, KeyEncryptionMechanism, RecipientInfo};
use nodeseal_memory::Secret;
use nodeseal_wire::message::{AwsCredentials, Class};
use tokio::time::{Instant, sleep, timeout};

use super::arn::KeyArn;
use super::config::AwsKmsConfig;
use super::connector::{Ahead, Connector};
use super::fault::CODES;
use crate::tunnel::pause::full_jitter;
use crate::tunnel::{Fault, Tunnel};

/// Longest pause before the second attempt; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Longest pause of all.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// What KMS is asked.
pub(super) struct Question<'a> {
    pub(super) key: &'a KeyArn,
    pub(super) credentials: &'a AwsCredentials,
    /// The way to KMS.
    pub(super) tunnel: Tunnel,
    /// EncryptionContext.
    pub(super) context: HashMap<String, String>,
    /// The attestation document, where the request is attested.
    pub(super) document: Option<&'a [u8]>,
    /// What to decrypt; none asks for a new data key.
    pub(super) ciphertext: Option<&'a [u8]>,
}

/// What KMS answered, of which nothing is checked.
pub(super) struct Answer {
    pub(super) key: Option<String>,
    pub(super) plaintext: Option<Secret>,
    pub(super) for_recipient: Option<Vec<u8>>,
    pub(super) ciphertext: Option<Vec<u8>>,
    pub(super) request_id: Option<String>,
}

/// How often KMS was asked until it answered or was given up.
#[derive(Default)]
pub(super) struct Attempts {
    /// All of them.
    pub(super) count: u32,
    /// Ids of the requests before the last, as far as KMS told them.
    pub(super) earlier: Vec<String>,
}

/// Completes an operation and sends it. Both operations have the same members, but the SDK no type for that.
macro_rules! answered {
    ($question:ident, $operation:ident, |$answer:ident| $ciphertext:expr) => {{
        let sent = $operation
            .key_id($question.key.as_str())
            .set_encryption_context(Some($question.context.clone()))
            .set_recipient($question.recipient())
            .send();
        let $answer = sent.await.map_err(|error| Fault::of(&error))?;
        Ok(Answer {
            request_id: $answer.request_id().map(str::to_owned),
            key: $answer.key_id,
            plaintext: secret($answer.plaintext)?,
            for_recipient: $answer.ciphertext_for_recipient.map(Blob::into_inner),
            ciphertext: $ciphertext.map(Blob::into_inner),
        })
    }};
}

impl Question<'_> {
    /// IAM name of the operation.
    pub(super) fn operation(&self) -> &'static str {
        match self.ciphertext {
            Some(_) => "kms:Decrypt",
            None => "kms:GenerateDataKey",
        }
    }

    /// Asks until there is an answer, a fault that does not pass, no attempt left, or no time left. The first attempt
    /// uses the connection `ahead`.
    pub(super) async fn ask(
        &self,
        config: &AwsKmsConfig,
        ahead: Option<Ahead>,
        deadline: Instant,
    ) -> (Result<Answer, Fault>, Attempts) {
        let client = self.client(config, ahead);
        let mut attempts = Attempts::default();
        loop {
            attempts.count = attempts.count.saturating_add(1);
            let left = deadline.saturating_duration_since(Instant::now());
            let limit = left.min(config.attempt);
            let fault = match timeout(limit, self.once(&client)).await {
                Ok(Ok(answer)) => return (Ok(answer), attempts),
                Ok(Err(fault)) => fault,
                Err(_) => Fault::timeout(&CODES, limit),
            };
            let pause = full_jitter(attempts.count, FIRST_PAUSE, LONGEST_PAUSE);
            let late = deadline.saturating_duration_since(Instant::now()) <= pause;
            if !fault.passing || attempts.count >= config.attempts || late {
                return (Err(fault), attempts);
            }
            tracing::warn!(
                code = fault.code,
                attempt = attempts.count,
                "KMS did not answer, trying again"
            );
            attempts.earlier.extend(fault.request_id);
            sleep(pause).await;
        }
    }

    /// The SDK does signing, JSON and errors. Retries, time limits and connections are ours.
    fn client(&self, config: &AwsKmsConfig, ahead: Option<Ahead>) -> aws_sdk_kms::Client {
        let credentials = Credentials::new(
            &self.credentials.access_key_id,
            &self.credentials.secret_access_key,
            self.credentials.session_token.clone(),
            // Whether they are expired is for KMS to say: its clock counts.
            None,
            "agent",
        );
        let config = Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(self.key.region().to_owned()))
            .endpoint_url(format!("https://{}", config.endpoint(self.key)))
            .credentials_provider(credentials)
            .identity_cache(IdentityCache::no_cache())
            .time_source(config.clock.clone())
            .disable_clock_skew_correction(true)
            .retry_config(RetryConfig::disabled())
            .timeout_config(TimeoutConfig::disabled())
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .http_client(Connector::new(self.tunnel.clone(), ahead))
            .build();
        aws_sdk_kms::Client::from_conf(config)
    }

    async fn once(&self, client: &aws_sdk_kms::Client) -> Result<Answer, Fault> {
        match self.ciphertext {
            Some(ciphertext) => {
                let decrypt = client.decrypt().ciphertext_blob(Blob::new(ciphertext));
                answered!(self, decrypt, |answer| None)
            }
            None => {
                let generate = client.generate_data_key().key_spec(DataKeySpec::Aes256);
                answered!(self, generate, |answer| answer.ciphertext_blob)
            }
        }
    }

    fn recipient(&self) -> Option<RecipientInfo> {
        let recipient = RecipientInfo::builder()
            .key_encryption_algorithm(KeyEncryptionMechanism::RsaesOaepSha256)
            .attestation_document(Blob::new(self.document?));
        Some(recipient.build())
    }
}

/// Plaintext on pages of its own; an empty one is none (API_Decrypt: "null or empty").
fn secret(plaintext: Option<Blob>) -> Result<Option<Secret>, Fault> {
    let mut bytes = plaintext.map(Blob::into_inner).unwrap_or_default();
    if bytes.is_empty() {
        return Ok(None);
    }
    Secret::take_from(&mut bytes)
        .map(Some)
        .map_err(|error| Fault::new(Class::Internal, "memory", error.to_string()))
}
