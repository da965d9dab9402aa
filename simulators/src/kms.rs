//! AWS KMS over HTTPS: signatures, keys, policies, attestation documents, and faults on demand.

mod admin;
mod authorize;
mod call;
mod ciphertext;
mod cms;
mod error;
mod faults;
mod key;
mod operations;
mod recipient;
mod request;
mod server;
mod sigv4;
mod store;
mod tamper;
mod trail;

pub use admin::serve_admin;
pub use cms::{CmsError, CmsShape, envelop};
pub use error::ApiError;
pub use faults::{DropMoment, Fault, Faults, PlaintextKind, PlannedFault, WrongCertificate};
pub use server::serve;
pub use sigv4::{Authorization, Scope, SignedRequest, authorization, check};
pub use store::StoreError;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;

use crate::credentials::{Credential, CredentialDirectory};
use crate::files::FileError;
use crate::records::Records;
use crate::text::uuid;
use crate::time::Clock;
use call::Call;
use error::ApiResult;
use recipient::{Proof, Recipient};
use store::Store;
use tamper::tamper;
use trail::Attempt;

/// Prefix of `x-amz-target`.
const SERVICE: &str = "TrentService.";

/// What a simulated KMS is started with.
pub struct KmsConfig {
    /// Holds keys.json and, unless `trail` names another file, trail.jsonl.
    pub directory: PathBuf,
    /// Region, in ARNs and signatures.
    pub region: String,
    /// Account number, 12 digits.
    pub account: String,
    /// Root certificate (DER) attestation documents have to verify under.
    pub attestation_root: Vec<u8>,
    /// Whether unsigned documents of QEMU's `nitro-enclave` machine are taken too. Whoever can write one is then
    /// whatever enclave it says.
    pub accept_unsigned_emulator_documents: bool,
    /// Access keys.
    pub credentials: CredentialDirectory,
    /// File the trail is appended to.
    pub trail: Option<PathBuf>,
    /// Shape of answers to recipients.
    pub cms: CmsShape,
    /// The present.
    pub clock: Clock,
}

/// A KMS could not be started.
#[derive(Debug, thiserror::Error)]
pub enum KmsError {
    /// Its state could not be loaded.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Its trail cannot be written.
    #[error(transparent)]
    File(#[from] FileError),
}

/// The keys of one account in one region, and everything that answers for them.
pub struct Kms {
    store: Store,
    region: String,
    account: String,
    proof: Proof,
    credentials: CredentialDirectory,
    trail: Records,
    clock: Clock,
    faults: Faults,
    changing: Mutex<Changing>,
}

struct Changing {
    shape: CmsShape,
    /// The last CiphertextForRecipient answered (base64).
    last_cms: Option<String>,
}

/// The answer to a request, before faults of delivery.
pub(crate) struct Answered {
    pub(crate) status: u16,
    pub(crate) body: Value,
    pub(crate) request_id: String,
    /// `__type` of an error.
    pub(crate) error: Option<String>,
    /// The fault this request took, if it is one of delivery.
    pub(crate) fault: Option<Fault>,
}

impl Kms {
    /// Loads the state, or starts with no keys.
    ///
    /// # Errors
    /// [`KmsError`].
    pub fn open(config: KmsConfig) -> Result<Self, KmsError> {
        let store = Store::in_directory(&config.directory, &config.region, &config.account)?;
        let trail = config
            .trail
            .unwrap_or_else(|| config.directory.join("trail.jsonl"));
        Ok(Self {
            store,
            region: config.region,
            account: config.account,
            proof: Proof {
                root: config.attestation_root,
                accept_unsigned: config.accept_unsigned_emulator_documents,
            },
            credentials: config.credentials,
            trail: Records::at(&trail)?,
            clock: config.clock,
            faults: Faults::default(),
            changing: Mutex::new(Changing {
                shape: config.cms,
                last_cms: None,
            }),
        })
    }

    /// Faults to come.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// The clock requests are judged by.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Region in ARNs and signatures.
    #[must_use]
    pub fn region(&self) -> &str {
        &self.region
    }

    /// The file the trail is appended to.
    #[must_use]
    pub fn trail_path(&self) -> &Path {
        self.trail.path()
    }

    /// Shape of answers to recipients.
    #[must_use]
    pub fn cms_shape(&self) -> CmsShape {
        self.changing().shape
    }

    /// Sets it.
    pub fn set_cms_shape(&self, shape: CmsShape) {
        self.changing().shape = shape;
    }

    /// Answers one request and records it.
    pub(crate) fn answer_signed(
        &self,
        request: &SignedRequest<'_>,
        source_address: &str,
    ) -> Answered {
        let request_id = uuid().unwrap_or_default();
        let target = request.header("x-amz-target").unwrap_or_default();
        let operation = target.strip_prefix(SERVICE).unwrap_or(&target);
        let header = request.header("authorization");
        let body = serde_json::from_slice(request.body).unwrap_or(Value::Null);

        let previous = self.changing().last_cms.clone();
        let fault = self
            .faults
            .for_request(operation, &body, previous.is_some());
        let claimed = header.as_deref().ok_or_else(|| {
            ApiError::new(
                "MissingAuthenticationTokenException",
                "Missing Authentication Token",
            )
        });
        let claimed = claimed.and_then(authorization);
        let caller = claimed.as_ref().map_err(Clone::clone);
        let caller = caller.and_then(|claimed| self.authenticate(request, claimed));

        let mut resources = Vec::new();
        let mut recipient = None;
        let mut released = None;
        let result = caller.as_ref().map_err(Clone::clone).and_then(|caller| {
            injected(fault.as_ref())?;
            let mut call = Call {
                kms: self,
                caller,
                source_address,
                now: self.clock.now(),
                resources: Vec::new(),
                recipient: None,
                released: None,
            };
            let result = if !target.starts_with(SERVICE) {
                Err(ApiError::new(
                    "UnknownOperationException",
                    "no such operation",
                ))
            } else if body.is_object() {
                operations::perform(&mut call, operation, &body)
            } else {
                Err(ApiError::new(
                    "SerializationException",
                    "the body is no JSON object",
                ))
            };
            resources = call.resources;
            recipient = call.recipient;
            released = call.released;
            result
        });

        self.trail.write(&trail::record(&Attempt {
            time: self.clock.now(),
            region: &self.region,
            account: &self.account,
            operation,
            request_id: &request_id,
            source_address,
            user_agent: request.header("user-agent"),
            access_key_id: claimed.as_ref().ok().map(|claimed| claimed.access_key_id),
            caller: caller.as_ref().ok(),
            body: &body,
            result: result.as_ref(),
            resources: &resources,
            recipient: recipient.as_ref(),
        }));
        match result {
            Ok(mut answer) => {
                if let Some(cms) = answer.get("CiphertextForRecipient").and_then(Value::as_str) {
                    self.changing().last_cms = Some(cms.to_owned());
                }
                if let Some(fault) = &fault {
                    let released = released.as_ref();
                    if tamper(self, &mut answer, fault, released, previous.as_deref()).is_none() {
                        tracing::error!(?fault, "the fault could not be carried out");
                    }
                }
                tracing::info!(operation, request_id, "answered");
                Answered {
                    status: 200,
                    body: answer,
                    request_id,
                    error: None,
                    fault,
                }
            }
            Err(error) => {
                tracing::info!(
                    operation,
                    request_id,
                    code = error.code,
                    reason = error.message,
                    "refused"
                );
                Answered {
                    status: error.status,
                    body: error.body(),
                    request_id,
                    error: Some(error.code),
                    fault,
                }
            }
        }
    }

    fn authenticate(
        &self,
        request: &SignedRequest<'_>,
        claimed: &Authorization<'_>,
    ) -> ApiResult<Credential> {
        let found = self.credentials.find(claimed.access_key_id);
        let credential = found.map_err(ApiError::internal)?.ok_or_else(|| {
            let message = "The security token included in the request is invalid.";
            ApiError::new("UnrecognizedClientException", message)
        })?;
        let scope = Scope {
            region: &self.region,
            service: "kms",
            now: self.clock.now(),
        };
        check(request, claimed, &credential, &scope)?;
        Ok(credential)
    }

    fn envelop(&self, recipient: &Recipient<'_>, secret: &[u8]) -> ApiResult<Vec<u8>> {
        envelop(recipient.public_key, secret, self.cms_shape())
            .map_err(|error| ApiError::validation(format!("1 validation error detected: {error}")))
    }

    fn changing(&self) -> MutexGuard<'_, Changing> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The error a fault stands for, if it is one.
fn injected(fault: Option<&Fault>) -> ApiResult<()> {
    match fault {
        Some(Fault::Throttle) => Err(ApiError::throttled()),
        Some(Fault::Error {
            status,
            code,
            message,
        }) => Err(ApiError {
            code: code.clone(),
            status: *status,
            message: Some(message.clone()),
        }),
        _ => Ok(()),
    }
}
