//! Credentials of AWS, by the ordinary chain of its SDKs: environment, profile (with credential processes and assumed
//! roles), web identity, container endpoint, instance metadata (IMDSv2).
//!
//! They go along with a request and are never written down.

use std::time::{Duration, UNIX_EPOCH};

use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::{BehaviorVersion, Region};
use aws_credential_types::provider::ProvideCredentials;
use memchr::memmem;
use nodeseal_wire::message::{AwsCredentials, Refusal};

use crate::egress::Target;
use crate::supplies::said;

/// Longest that the whole chain may take. The metadata service, where there is none, is given up within seconds.
const DEADLINE: Duration = Duration::from_secs(20);
/// What a refusal is called whose credentials were too old for KMS.
const EXPIRED: &str = "expired-credentials";

/// AWS does not give what is asked for.
#[derive(Debug, thiserror::Error)]
pub enum AwsError {
    /// No link of the chain has any, or one of them failed.
    #[error("no AWS credentials: {0}")]
    None(String),
    /// The chain did not end.
    #[error("no AWS credentials within {} s", DEADLINE.as_secs())]
    Timeout,
    /// Something that is no key's ARN.
    #[error("{0:?} is not the ARN of a KMS key")]
    NoKey(String),
    /// KMS does not tell a key's policy.
    #[error("kms:GetKeyPolicy: {0}")]
    Policy(String),
}

/// Walks the chain anew: files and metadata are read again, so what was renewed there is found.
///
/// `region` is where roles are assumed.
///
/// # Errors
/// When there are none.
pub async fn credentials(region: &str) -> Result<AwsCredentials, AwsError> {
    let chain = async {
        // The chain's first link. It is asked by itself because making the others takes longer than all the rest of a
        // start here.
        let environment = EnvironmentVariableCredentialsProvider::new();
        if let Ok(found) = environment.provide_credentials().await {
            return Ok(found);
        }
        let chain = DefaultCredentialsChain::builder()
            .region(Region::new(region.to_owned()))
            .build()
            .await;
        chain.provide_credentials().await
    };
    let found = tokio::time::timeout(DEADLINE, chain)
        .await
        .map_err(|_| AwsError::Timeout)?
        .map_err(|error| AwsError::None(reason(&error)))?;
    let expires = found
        .expiry()
        .and_then(|expiry| expiry.duration_since(UNIX_EPOCH).ok())
        .map(|since| since.as_secs());
    Ok(AwsCredentials {
        access_key_id: found.access_key_id().to_owned(),
        secret_access_key: found.secret_access_key().to_owned(),
        session_token: found.session_token().map(str::to_owned),
        expires,
    })
}

/// The error and everything it is due to, on one line.
fn reason(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// The live policy of a key (kms:GetKeyPolicy).
///
/// The SDK's own settings apply (`AWS_ENDPOINT_URL_KMS`, `SSL_CERT_FILE` and the like): this is an operator's question,
/// not a way to a key.
///
/// # Errors
/// When KMS does not answer with it.
pub async fn live_key_policy(key: &str) -> Result<String, AwsError> {
    let region = region_of(key).filter(|_| Target::of_kms_key(key).is_some());
    let region = region.ok_or_else(|| AwsError::NoKey(key.to_owned()))?;
    let config = aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new(region.to_owned()))
        .load()
        .await;
    let question = aws_sdk_kms::Client::new(&config)
        .get_key_policy()
        .key_id(key)
        .policy_name("default")
        .send();
    let answer = tokio::time::timeout(DEADLINE, question)
        .await
        .map_err(|_| AwsError::Policy(format!("no answer within {} s", DEADLINE.as_secs())))?
        .map_err(|error| AwsError::Policy(reason(&error)))?;
    answer
        .policy
        .ok_or_else(|| AwsError::Policy("KMS answered without a policy".to_owned()))
}

/// ARNs of KMS keys that stand in `bytes`, such as blobs: found by their form, since reading thousands of headers
/// would be felt. In a blob an ARN is followed by a byte that no ARN has.
pub fn kms_keys(bytes: &[u8]) -> impl Iterator<Item = &str> {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b":/_-".contains(byte);
    memmem::find_iter(bytes, b"arn:").filter_map(move |start| {
        let rest = bytes.get(start..)?;
        let end = rest
            .iter()
            .position(|byte| !allowed(byte))
            .unwrap_or(rest.len());
        let arn = std::str::from_utf8(rest.get(..end)?).ok()?;
        Target::of_kms_key(arn).map(|_| arn)
    })
}

/// The region in an ARN.
#[must_use]
pub fn region_of(arn: &str) -> Option<&str> {
    arn.split(':').nth(3)
}

/// Whether newer credentials may turn the refusal into a success.
#[must_use]
pub fn credentials_expired(refusal: &Refusal) -> bool {
    said(refusal, EXPIRED)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use nodeseal_wire::lock::{AwsKmsLock, Lock};
    use nodeseal_wire::message::Class;

    #[test]
    fn the_keys_of_a_blobs_locks_are_found() {
        let arn = |n: u8| format!("arn:aws:kms:eu-west-{n}:111122223333:key/1234-abcd");
        let mut bytes = b"nothing arn: and arn:aws:s3:::bucket ".to_vec();
        for n in [1, 2] {
            let mut w = nodeseal_wire::cbor::Writer::new();
            let lock = Lock::AwsKms(AwsKmsLock {
                key: arn(n),
                attested: true,
                ciphertext: vec![b'a'; 100],
            });
            lock.encode(&mut w);
            bytes.extend(w.finish());
        }
        let found: Vec<&str> = kms_keys(&bytes).collect();
        assert_eq!(found, [arn(1), arn(2)]);
        assert_eq!(region_of(found[1]), Some("eu-west-2"));
        assert_eq!(kms_keys(b"arn").count(), 0);
    }

    #[test]
    fn only_expired_credentials_are_worth_newer_ones() {
        let refusal = |code: &str, message: &str| Refusal {
            class: Class::Unavailable,
            code: code.into(),
            message: message.into(),
        };
        assert!(credentials_expired(&refusal("expired-credentials", "x")));
        let two = "no way opened: eu: too old (expired-credentials); us: no (kms-access-denied)";
        assert!(credentials_expired(&refusal("no-way-opened", two)));
        let two = "no way opened: eu: no (kms-access-denied); us: no (kms-access-denied)";
        assert!(!credentials_expired(&refusal("no-way-opened", two)));
        assert!(!credentials_expired(&refusal("kms-credentials", "x")));
    }
}
