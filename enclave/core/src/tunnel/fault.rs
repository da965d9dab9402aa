//! One thing that went wrong with a key service: what every service's client makes refusals of.

use std::time::Duration;

use nodeseal_wire::message::{Class, Refusal};

use super::egress::EgressError;
use super::http::ConnectError;
use crate::refusal::refuse;

/// One thing that went wrong.
#[derive(Debug)]
pub struct Fault {
    /// What sort of no.
    pub class: Class,
    /// Its name (docs/cli.md).
    pub code: &'static str,
    /// What happened, without saying to which operation and key.
    pub text: String,
    /// Whether the same may work in a moment.
    pub passing: bool,
    /// How long the service asks to be left alone (RFC 9110 §10.2.3, Retry-After).
    pub retry_after: Option<Duration>,
    /// Under which the service remembers the request, where it said so.
    pub request_id: Option<String>,
}

/// Names of faults of one service's connections.
pub struct Codes {
    /// The way out does not reach the service.
    pub unreachable: &'static str,
    /// The connection broke.
    pub connection: &'static str,
    /// No complete answer in time.
    pub timeout: &'static str,
    /// An answer that is none.
    pub malformed: &'static str,
    /// An answer larger than any this service gives.
    pub too_large: &'static str,
    /// Our client cannot ask.
    pub client: &'static str,
}

impl Fault {
    /// One that does not pass by itself.
    pub fn new(class: Class, code: &'static str, text: impl Into<String>) -> Self {
        Self {
            class,
            code,
            text: text.into(),
            passing: false,
            retry_after: None,
            request_id: None,
        }
    }

    /// One that may pass.
    pub fn passing(code: &'static str, text: impl Into<String>) -> Self {
        Self {
            passing: true,
            ..Self::new(Class::Unavailable, code, text)
        }
    }

    /// An answer from the service itself, by TLS, that the service would not give.
    pub fn answer(code: &'static str, text: impl Into<String>) -> Self {
        Self::new(Class::Damaged, code, text)
    }

    /// No answer within one attempt's time.
    #[must_use]
    pub fn timeout(codes: &Codes, after: Duration) -> Self {
        let text = format!("no complete answer within {} ms", after.as_millis());
        Self::passing(codes.timeout, text)
    }

    /// Why there was no answer.
    #[must_use]
    pub fn of_connection(codes: &Codes, error: &ConnectError) -> Self {
        let text = error.to_string();
        match error {
            ConnectError::Egress(EgressError::Address { .. }) => {
                Self::new(Class::Misuse, "egress-address", text)
            }
            ConnectError::Egress(EgressError::Refused { .. }) => {
                Self::new(Class::Misuse, "egress-refused", text)
            }
            ConnectError::Egress(EgressError::Protocol { .. }) => {
                Self::new(Class::Misuse, "egress-protocol", text)
            }
            ConnectError::Egress(EgressError::Unreachable { .. }) => {
                Self::passing("egress-unreachable", text)
            }
            ConnectError::Egress(EgressError::Failed { kind, .. }) => {
                let code = match kind.as_str() {
                    "dns_error" | "dns_timeout" => "name-unresolved",
                    "connection_refused" => "connection-refused",
                    _ => codes.unreachable,
                };
                Self::passing(code, text)
            }
            ConnectError::Io { .. } => Self::passing(codes.connection, text),
            ConnectError::Tls { source, .. } => match source {
                rustls::Error::InvalidCertificate(_) => {
                    Self::new(Class::Unavailable, "tls-certificate", text)
                }
                _ => Self::new(Class::Unavailable, "tls-failed", text),
            },
            ConnectError::Http { .. } => Self::answer(codes.malformed, text),
            ConnectError::TooLarge { .. } => Self::answer(codes.too_large, text),
            ConnectError::Request(_) => Self::new(Class::Internal, codes.client, text),
        }
    }

    /// The refusal of `operation` on `key`.
    #[must_use]
    pub fn refusal(self, operation: &str, key: &str, more: &str) -> Refusal {
        let message = format!("{operation} with {key}: {}{more}", self.text);
        refuse(self.class, self.code, message)
    }
}
