//! What the service can be told to do wrong.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::delivery::Delivery;
pub use crate::delivery::{DropMoment, WrongCertificate};
use crate::faults::{Planned, Queue};

/// A fault, and which requests it is for.
pub type PlannedFault = Planned<Fault>;

/// What goes wrong. In JSON: `{"fault": "delay", "milliseconds": 500, "times": 3, "operation": "Decrypt"}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "kebab-case")]
pub enum Fault {
    /// ThrottlingException.
    Throttle,
    /// An error of this status and code.
    Error {
        /// HTTP status.
        #[serde(default = "internal_status")]
        status: u16,
        /// `__type`.
        #[serde(default = "internal_code")]
        code: String,
        /// `message`.
        #[serde(default)]
        message: String,
    },
    /// The right answer, late.
    Delay {
        /// How late.
        milliseconds: u64,
    },
    /// The right answer, a byte at a time.
    SlowBody {
        /// Between two bytes.
        milliseconds: u64,
    },
    /// An answer that never ends.
    EndlessBody,
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
    /// An answer to a recipient carries `Plaintext`.
    Plaintext {
        /// How.
        #[serde(default)]
        which: PlaintextKind,
    },
    /// The `CiphertextForRecipient` answered before this request, once there is one.
    ReplayCms,
    /// A `CiphertextForRecipient` for somebody else's RSA key.
    ForeignCms,
    /// A `CiphertextForRecipient` for the right RSA key, holding another secret of the same length.
    OtherSecret,
    /// One bit of the `CiphertextForRecipient`'s last ciphertext block is flipped.
    GarbledCms,
    /// `KeyId` in the answer is another key's ARN.
    WrongKeyId,
}

fn internal_status() -> u16 {
    500
}

fn internal_code() -> String {
    "KMSInternalException".to_owned()
}

/// How `Plaintext` appears.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PlaintextKind {
    /// Beside `CiphertextForRecipient`.
    #[default]
    Beside,
    /// In its place, as services do that ignore `Recipient`.
    Instead,
    /// Beside it, as the empty string, which AWS's text allows.
    Empty,
}

impl Fault {
    /// Whether it hits connections rather than requests.
    fn of_connections(&self) -> bool {
        matches!(
            self,
            Self::WrongCertificate { .. }
                | Self::Drop {
                    when: DropMoment::Accept
                }
        )
    }

    /// Whether it needs an answer to a recipient.
    fn of_recipients(&self) -> bool {
        matches!(
            self,
            Self::Plaintext { .. }
                | Self::ReplayCms
                | Self::ForeignCms
                | Self::OtherSecret
                | Self::GarbledCms
        )
    }
}

impl Fault {
    /// How an answer is delivered.
    pub(super) fn delivery(&self) -> Delivery {
        match self {
            Self::Delay { milliseconds } => Delivery::Late(*milliseconds),
            Self::SlowBody { milliseconds } => Delivery::Slow(*milliseconds),
            Self::EndlessBody => Delivery::Endless,
            Self::Garbage => Delivery::Garbage,
            Self::Drop {
                when: DropMoment::Answer,
            } => Delivery::Dropped,
            Self::Drop {
                when: DropMoment::Body,
            } => Delivery::CutOff,
            _ => Delivery::AtOnce,
        }
    }
}

/// The faults to come, in order. A request takes the first that is for it.
#[derive(Default)]
pub struct Faults(Queue<Fault>);

impl Faults {
    /// The queue they stand in.
    #[must_use]
    pub fn queue(&self) -> &Queue<Fault> {
        &self.0
    }

    /// The fault for a new connection.
    pub(super) fn for_connection(&self) -> Option<Fault> {
        self.0.take(|planned| planned.fault.of_connections())
    }

    /// The fault for a request of `operation` with this body. `can_replay`: an answer to a recipient was given before.
    pub(super) fn for_request(
        &self,
        operation: &str,
        body: &Value,
        can_replay: bool,
    ) -> Option<Fault> {
        let has_recipient = body.get("Recipient").is_some();
        self.0.take(|planned| {
            !planned.fault.of_connections()
                && planned.is_for(operation)
                && (has_recipient || !planned.fault.of_recipients())
                && (can_replay || planned.fault != Fault::ReplayCms)
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn plan(faults: &Faults, value: Value) {
        faults.queue().add(PlannedFault::from_json(&value).unwrap());
    }

    #[test]
    fn a_request_takes_the_first_fault_that_is_for_it() {
        let faults = Faults::default();
        plan(
            &faults,
            json!({"fault": "throttle", "times": 2, "operation": "Decrypt"}),
        );
        plan(&faults, json!({"fault": "foreign-cms"}));
        plan(&faults, json!({"fault": "replay-cms"}));
        plan(
            &faults,
            json!({"fault": "wrong-certificate", "which": "expired"}),
        );
        plan(
            &faults,
            json!({"fault": "delay", "milliseconds": 5, "times": 0}),
        );
        let (plain, attested) = (json!({}), json!({"Recipient": {}}));
        assert_eq!(
            faults.for_request("Decrypt", &plain, true),
            Some(Fault::Throttle)
        );
        let delay = Some(Fault::Delay { milliseconds: 5 });
        assert_eq!(faults.for_request("Encrypt", &plain, true), delay);
        assert_eq!(
            faults.for_request("Decrypt", &attested, true),
            Some(Fault::Throttle)
        );
        assert_eq!(
            faults.for_request("Decrypt", &attested, true),
            Some(Fault::ForeignCms)
        );
        assert_eq!(faults.for_request("Decrypt", &attested, false), delay);
        assert_eq!(
            faults.for_request("Decrypt", &attested, true),
            Some(Fault::ReplayCms)
        );
        assert_eq!(faults.for_request("Decrypt", &attested, true), delay);
        let expired = WrongCertificate::Expired;
        let expected = Some(Fault::WrongCertificate { which: expired });
        assert_eq!(faults.for_connection(), expected);
        assert_eq!(faults.for_connection(), None);
        assert_eq!(faults.queue().pending().len(), 1);
        faults.queue().clear();
        assert_eq!(faults.for_request("Encrypt", &plain, true), None);
    }

    #[test]
    fn faults_are_written_as_they_are_read() {
        for value in [
            json!({"fault": "drop", "when": "body", "times": 1}),
            json!({"fault": "plaintext", "which": "instead", "times": 4, "operation": "Decrypt"}),
            json!({"fault": "error", "status": 503, "code": "X", "message": "y", "times": 1}),
        ] {
            let read = PlannedFault::from_json(&value).unwrap();
            assert_eq!(serde_json::to_value(read).unwrap(), value);
        }
        let error = |value: Value| PlannedFault::from_json(&value).unwrap_err();
        let unknown = error(json!({"fault": "rain"}));
        assert!(unknown.starts_with("unknown variant `rain`"), "{unknown}");
        let misspelt = error(json!({"fault": "throttle", "time": 3}));
        assert_eq!(misspelt, "a member \"time\" means nothing to this fault");
    }
}
