//! What the trusted side's own configuration says about AWS KMS.
//!
//! In an enclave image this is measured. Nothing of it can be changed by the agent: that would be changing who may
//! answer for KMS.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_smithy_async::time::TimeSource;
use rustls::ClientConfig;

use super::arn::{ArnError, KeyArn};
use super::recipient::RecipientError;
use crate::tunnel::{Clock, Dial, Roots, Sockets, TlsError};

/// How AWS KMS is reached and which of its keys are used.
#[derive(Clone, Debug)]
pub struct AwsKmsConfig {
    /// Who may sign the certificates of KMS.
    pub roots: Roots,
    /// ARNs of the only keys that are used; none allows any key a blob names.
    pub allowed_keys: Option<Vec<String>>,
    /// Endpoints other than AWS's public ones, by region: `HOST` or `HOST:PORT`, port 443 unless given.
    pub endpoints: BTreeMap<String, String>,
    /// Longest that making or opening one lock takes, everything included.
    pub deadline: Duration,
    /// Longest that one attempt takes.
    pub attempt: Duration,
    /// Most attempts; passing faults alone are tried again.
    pub attempts: u32,
    /// Recipient keys that lie ready: this many requests at once have one each.
    pub recipient_keys: usize,
    /// How long further requests share the key of one that is on its way, instead of waiting for their own; zero: never.
    pub recipient_shared: Duration,
    /// The time, for certificates and request signatures. In an enclave it is not the parent's.
    pub clock: Clock,
    /// How the agent's proxy is reached.
    pub dial: Arc<dyn Dial>,
}

impl Default for AwsKmsConfig {
    fn default() -> Self {
        Self {
            roots: Roots::WebPki,
            allowed_keys: None,
            endpoints: BTreeMap::new(),
            deadline: Duration::from_secs(15),
            attempt: Duration::from_secs(5),
            attempts: 5,
            recipient_keys: 4,
            recipient_shared: Duration::from_secs(5),
            clock: Clock::system(),
            dial: Arc::new(Sockets),
        }
    }
}

impl TimeSource for Clock {
    fn now(&self) -> SystemTime {
        Self::now(self)
    }
}

/// The configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AwsKmsConfigError {
    /// An allowed key is no ARN.
    #[error("allowed keys: {0}")]
    AllowedKey(#[from] ArnError),
    /// An endpoint is no host name.
    #[error("endpoint of region {region}: {endpoint:?} is not HOST or HOST:PORT")]
    Endpoint {
        /// The region.
        region: String,
        /// What was given.
        endpoint: String,
    },
    /// The trust anchors cannot be used, or TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Recipient keys cannot be made.
    #[error(transparent)]
    Recipient(#[from] RecipientError),
}

impl AwsKmsConfig {
    /// Whether a key service can be made of it.
    ///
    /// # Errors
    /// Names what cannot be used.
    pub fn check(&self) -> Result<(), AwsKmsConfigError> {
        self.check_endpoints()?;
        self.allowed()?;
        self.tls().map(drop)
    }

    /// TLS to KMS.
    pub(super) fn tls(&self) -> Result<ClientConfig, AwsKmsConfigError> {
        Ok(self.roots.client(&self.clock)?)
    }

    /// The allowed keys, read.
    pub(super) fn allowed(&self) -> Result<Option<Vec<KeyArn>>, AwsKmsConfigError> {
        let parse = |keys: &Vec<String>| keys.iter().map(|key| KeyArn::parse(key)).collect();
        Ok(self.allowed_keys.as_ref().map(parse).transpose()?)
    }

    /// Checks that the endpoints are nothing but hosts and ports.
    pub(super) fn check_endpoints(&self) -> Result<(), AwsKmsConfigError> {
        for (region, endpoint) in &self.endpoints {
            let (host, port) = endpoint.split_once(':').unwrap_or((endpoint, "443"));
            let plain = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'.';
            let sound = !host.is_empty() && host.bytes().all(plain) && port.parse::<u16>().is_ok();
            if !sound {
                return Err(AwsKmsConfigError::Endpoint {
                    region: region.clone(),
                    endpoint: endpoint.clone(),
                });
            }
        }
        Ok(())
    }

    /// Where the key's region is served: `HOST` or `HOST:PORT`.
    pub(super) fn endpoint(&self, key: &KeyArn) -> String {
        let other = self.endpoints.get(key.region()).cloned();
        other.unwrap_or_else(|| key.endpoint())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn refusal(config: &AwsKmsConfig) -> String {
        let tls = config.tls().map(drop);
        let checked = tls.and_then(|()| config.allowed().map(drop));
        let checked = checked.and_then(|()| config.check_endpoints());
        checked.unwrap_err().to_string()
    }

    #[test]
    fn the_default_trusts_the_public_roots_and_aws_endpoints() {
        let config = AwsKmsConfig::default();
        config.tls().unwrap();
        let key = KeyArn::parse("arn:aws:kms:eu-west-1:111122223333:key/1").unwrap();
        assert_eq!(config.endpoint(&key), "kms.eu-west-1.amazonaws.com");
    }

    #[test]
    fn roots_without_a_certificate_are_refused() {
        let pem = b"nothing".to_vec();
        let config = AwsKmsConfig {
            roots: Roots::Pem(pem),
            ..AwsKmsConfig::default()
        };
        assert_eq!(refusal(&config), "roots: no certificate");
    }

    #[test]
    fn an_allowed_key_that_is_an_alias_is_refused() {
        let alias = "arn:aws:kms:eu-west-1:111122223333:alias/node".to_owned();
        let config = AwsKmsConfig {
            allowed_keys: Some(vec![alias]),
            ..AwsKmsConfig::default()
        };
        assert!(refusal(&config).starts_with("allowed keys: "));
    }

    #[test]
    fn an_endpoint_with_more_than_host_and_port_is_refused() {
        for endpoint in ["", ":1", "a/b", "https://a", "user@a", "a:b", "a:70000"] {
            let endpoints = [("eu-west-1".to_owned(), endpoint.to_owned())];
            let config = AwsKmsConfig {
                endpoints: endpoints.into(),
                ..AwsKmsConfig::default()
            };
            let found = refusal(&config);
            assert!(found.starts_with("endpoint of region eu-west-1"), "{found}");
        }
    }
}
