//! What every service of Azure can be told to do wrong; each adds its own.

use hyper::StatusCode;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::error::AzureError;
use crate::delivery::{Delivery, DropMoment, WrongCertificate};
use crate::faults::Queue;
use crate::https::BadConnection;

/// A fault of every service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "kebab-case")]
pub enum CommonFault {
    /// 429.
    Throttle {
        /// `Retry-After`, in seconds; none for no such header.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after: Option<u64>,
    },
    /// An error of this status and code.
    Error {
        /// HTTP status.
        status: u16,
        /// `code`.
        code: String,
        /// `innererror.code`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        inner: Option<String>,
        /// `message`.
        #[serde(default)]
        message: String,
    },
    /// The right answer, late.
    Delay {
        /// How late.
        milliseconds: u64,
    },
    /// A body that is no JSON, with status 200.
    Garbage,
    /// The next TLS handshake shows a certificate clients must refuse.
    WrongCertificate {
        /// What is wrong with it.
        which: WrongCertificate,
    },
    /// The connection ends.
    Drop {
        /// When.
        when: DropMoment,
    },
}

/// A fault: a service's own, or one of every service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Fault<S> {
    /// The service's own.
    Own(S),
    /// Of every service.
    Common(CommonFault),
}

impl<'de, S: DeserializeOwned> Deserialize<'de> for Fault<S> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        match CommonFault::deserialize(&value) {
            Ok(common) => Ok(Self::Common(common)),
            Err(error) if !error.to_string().starts_with("unknown variant") => {
                Err(D::Error::custom(error))
            }
            Err(_) => S::deserialize(&value)
                .map(Self::Own)
                .map_err(D::Error::custom),
        }
    }
}

/// The faults to come.
pub struct FaultQueue<S>(Queue<Fault<S>>);

impl<S> Default for FaultQueue<S> {
    fn default() -> Self {
        Self(Queue::default())
    }
}

impl<S: Clone + Serialize + DeserializeOwned> FaultQueue<S> {
    /// The queue they stand in.
    #[must_use]
    pub fn queue(&self) -> &Queue<Fault<S>> {
        &self.0
    }

    /// What the next connection gets instead of a good one.
    pub(super) fn for_connection(&self) -> Option<BadConnection> {
        let taken = self.0.take(|planned| planned.fault.of_connections());
        Some(match taken? {
            Fault::Common(CommonFault::WrongCertificate { which }) => {
                BadConnection::Certificate(which)
            }
            _ => BadConnection::Dropped,
        })
    }

    /// The fault for a request of `operation`.
    pub(super) fn for_request(&self, operation: &str) -> Option<Fault<S>> {
        self.0
            .take(|planned| !planned.fault.of_connections() && planned.is_for(operation))
    }
}

impl<S> Fault<S> {
    fn of_connections(&self) -> bool {
        matches!(
            self,
            Self::Common(
                CommonFault::WrongCertificate { .. }
                    | CommonFault::Drop {
                        when: DropMoment::Accept
                    }
            )
        )
    }

    /// How the answer is delivered.
    pub(super) fn delivery(&self) -> Delivery {
        match self {
            Self::Common(CommonFault::Delay { milliseconds }) => Delivery::Late(*milliseconds),
            Self::Common(CommonFault::Garbage) => Delivery::Garbage,
            Self::Common(CommonFault::Drop {
                when: DropMoment::Answer,
            }) => Delivery::Dropped,
            Self::Common(CommonFault::Drop {
                when: DropMoment::Body,
            }) => Delivery::CutOff,
            _ => Delivery::AtOnce,
        }
    }

    /// The error to answer instead of doing what was asked.
    pub(super) fn injected(&self) -> Option<AzureError> {
        match self {
            Self::Common(CommonFault::Throttle { retry_after }) => Some(AzureError {
                retry_after: *retry_after,
                ..throttled()
            }),
            Self::Common(CommonFault::Error {
                status,
                code,
                inner,
                message,
            }) => Some(AzureError {
                inner: inner.clone(),
                ..AzureError::new(
                    StatusCode::from_u16(*status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
                    code,
                    message,
                )
            }),
            _ => None,
        }
    }

    /// The service's own fault.
    pub(super) fn own(&self) -> Option<&S> {
        match self {
            Self::Own(own) => Some(own),
            Self::Common(_) => None,
        }
    }
}

/// 429 as Key Vault answers it.
pub(super) fn throttled() -> AzureError {
    let message = "Request was not processed because too many requests were received. Reason: VaultRequestTypeLimitReached";
    AzureError::new(StatusCode::TOO_MANY_REQUESTS, "Throttled", message)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::super::vault::VaultFault;
    use super::*;
    use crate::faults::Planned;

    #[test]
    fn a_service_s_own_faults_and_the_common_ones_are_read_and_no_others() {
        let read = |value: Value| Planned::<Fault<VaultFault>>::from_json(&value);
        for value in [
            json!({"fault": "foreign-jws", "times": 1, "operation": "KeyRelease"}),
            json!({"fault": "throttle", "retry_after": 3, "times": 2}),
            json!({"fault": "error", "status": 503, "code": "X", "inner": "Y", "message": "z", "times": 1}),
        ] {
            assert_eq!(
                serde_json::to_value(read(value.clone()).unwrap()).unwrap(),
                value
            );
        }
        let error = |value: Value| read(value).unwrap_err();
        assert!(error(json!({"fault": "rain"})).starts_with("unknown variant `rain`"));
        assert_eq!(
            error(json!({"fault": "delay"})),
            "missing field `milliseconds`"
        );
        assert_eq!(
            error(json!({"fault": "throttle", "retry": 3})),
            "a member \"retry\" means nothing to this fault"
        );
    }

    #[test]
    fn connections_and_requests_take_their_own_faults() {
        let faults = FaultQueue::<VaultFault>::default();
        for value in [
            json!({"fault": "drop", "when": "accept"}),
            json!({"fault": "other-nonce", "operation": "KeyRelease"}),
            json!({"fault": "throttle"}),
        ] {
            faults.queue().add(Planned::from_json(&value).unwrap());
        }
        let throttled = faults.for_request("KeyGet").unwrap().injected().unwrap();
        assert_eq!(throttled.status, StatusCode::TOO_MANY_REQUESTS);
        let own = faults.for_request("KeyRelease").unwrap();
        assert_eq!(own.own(), Some(&VaultFault::OtherNonce));
        assert!(faults.for_request("KeyRelease").is_none());
        assert!(matches!(
            faults.for_connection(),
            Some(BadConnection::Dropped)
        ));
        assert!(faults.for_connection().is_none());
    }
}
