//! Whatever goes wrong with KMS, as a named refusal (docs/cli.md lists the codes).

use std::error::Error;

use aws_sdk_kms::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use nodeseal_wire::message::Class;

use super::cms::CmsError;
use crate::tunnel::{Codes, Fault, printable};

/// Header of an answer that has the id under which KMS remembers the request.
const REQUEST_ID: &str = "x-amzn-requestid";

/// Names of what can happen to a connection to KMS.
pub(super) const CODES: Codes = Codes {
    unreachable: "kms-unreachable",
    connection: "kms-connection",
    timeout: "kms-timeout",
    malformed: "kms-answer-malformed",
    too_large: "kms-answer-too-large",
    client: "kms-client",
};

impl Fault {
    /// Why the call failed.
    pub(super) fn of<E>(error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        match error {
            SdkError::DispatchFailure(failure) => {
                let source = failure.as_connector_error().and_then(Error::source);
                match source.and_then(|source| source.downcast_ref()) {
                    Some(error) => Self::of_connection(&CODES, error),
                    None => Self::new(Class::Internal, "kms-client", chain(error)),
                }
            }
            SdkError::ServiceError(failure) => {
                let (error, raw) = (failure.err(), failure.raw());
                let fault =
                    Self::of_service(error.code(), error.message().unwrap_or_default(), raw);
                Self {
                    request_id: raw.headers().get(REQUEST_ID).map(clean),
                    ..fault
                }
            }
            // Not JSON, or not the JSON of this operation.
            SdkError::ResponseError(failure) => match failure.raw().status().as_u16() {
                status @ 500.. => Self::of_status(status, failure.raw()),
                status => Self::answer(
                    "kms-answer-malformed",
                    format!(
                        "HTTP {status} with an answer that cannot be read: {}",
                        said(&chain(error), failure.raw())
                    ),
                ),
            },
            _ => Self::new(Class::Internal, "kms-client", chain(error)),
        }
    }

    /// Errors of API_Decrypt, API_GenerateDataKey and "Common Errors" of the KMS API reference.
    fn of_service(code: Option<&str>, message: &str, raw: &HttpResponse) -> Self {
        let status = raw.status().as_u16();
        let Some(code) = code else {
            return Self::of_status(status, raw);
        };
        let text = format!("{}: {}", printable(code.as_bytes(), 80), said(message, raw));
        let named = |class, name| Self::new(class, name, text.clone());
        let lower = message.to_ascii_lowercase();
        match code {
            "AccessDeniedException" | "AccessDenied" => named(Class::Denied, "kms-access-denied"),
            "DisabledException" => named(Class::Denied, "kms-key-disabled"),
            "KMSInvalidStateException"
                if lower.contains("pending deletion") || lower.contains("pendingdeletion") =>
            {
                named(Class::Denied, "kms-pending-deletion")
            }
            "KMSInvalidStateException" => named(Class::Denied, "kms-key-state"),
            "NotFoundException" => named(Class::Denied, "kms-key-not-found"),
            "InvalidCiphertextException" => Self::new(
                Class::Damaged,
                "kms-ciphertext-invalid",
                format!(
                    "{text}; the ciphertext is damaged, or was made for another node or data key"
                ),
            ),
            "IncorrectKeyException" => named(Class::Damaged, "kms-wrong-key"),
            "InvalidKeyUsageException" => named(Class::Misuse, "kms-key-usage"),
            "ValidationException" => named(Class::Denied, "kms-validation"),
            "ExpiredTokenException" | "ExpiredToken" => {
                named(Class::Unavailable, "expired-credentials")
            }
            "RequestExpired" | "RequestTimeTooSkewed" | "RequestInTheFuture" => {
                named(Class::Unavailable, "kms-clock-skew")
            }
            "InvalidSignatureException" | "SignatureDoesNotMatch"
                if lower.contains("expired") || lower.contains("not yet current") =>
            {
                named(Class::Unavailable, "kms-clock-skew")
            }
            "InvalidSignatureException"
            | "SignatureDoesNotMatch"
            | "IncompleteSignature"
            | "IncompleteSignatureException"
            | "UnrecognizedClientException"
            | "InvalidClientTokenId"
            | "MissingAuthenticationTokenException"
            | "NotAuthorized"
            | "OptInRequired" => named(Class::Denied, "kms-credentials"),
            "ThrottlingException"
            | "Throttling"
            | "TooManyRequestsException"
            | "RequestLimitExceeded" => Self::passing("kms-throttled", text),
            "DependencyTimeoutException"
            | "KeyUnavailableException"
            | "KMSInternalException"
            | "InternalFailure"
            | "InternalServerError"
            | "ServiceUnavailable"
            | "ServiceUnavailableException"
            | "RequestTimeout" => Self::passing("kms-unavailable", text),
            _ if status == 429 => Self::passing("kms-throttled", text),
            _ if status >= 500 => Self::passing("kms-unavailable", text),
            _ => named(Class::Internal, "kms-error"),
        }
    }

    fn of_status(status: u16, raw: &HttpResponse) -> Self {
        let text = format!("HTTP {status}: {}", said("", raw));
        match status {
            429 => Self::passing("kms-throttled", text),
            500.. => Self::passing("kms-unavailable", text),
            _ => Self::answer("kms-answer-malformed", text),
        }
    }
}

impl From<CmsError> for Fault {
    fn from(error: CmsError) -> Self {
        let text = format!("CiphertextForRecipient: {error}");
        match error {
            CmsError::Recipient => Self::answer("kms-cms-recipient", text),
            CmsError::ContentKey | CmsError::Content => Self::answer("kms-cms-decryption", text),
            CmsError::Memory(_) => Self::new(Class::Internal, "memory", text),
            _ => Self::answer("kms-cms-malformed", text),
        }
    }
}

/// A request id, as far as it may be shown.
fn clean(id: &str) -> String {
    printable(id.as_bytes(), 80)
}

/// What KMS said, when by its clock, and the id under which it remembers.
fn said(message: &str, raw: &HttpResponse) -> String {
    let header = |name| raw.headers().get(name).unwrap_or("none");
    format!(
        "{:?} (request id {}, {})",
        printable(message.as_bytes(), 1000),
        clean(header(REQUEST_ID)),
        printable(header("date").as_bytes(), 40)
    )
}

/// The error and what is behind it.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text = format!("{text}: {error}");
        next = error.source();
    }
    printable(text.as_bytes(), 1000)
}
