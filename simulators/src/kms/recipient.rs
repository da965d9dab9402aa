//! The recipient of a secret: a verified attestation document with a key to answer to.

use nodeseal_attestation::nitro::{Anchor, DebugEnclaves, Document, Form, Verified};
use nodeseal_attestation::time;
use serde_json::{Map, Value, json};

use super::error::{ApiError, ApiResult};
use crate::text::base64;
use crate::time::Timestamp;

/// Who proved what it is, and the key it wants its answer under.
pub(super) struct Recipient<'b> {
    pub(super) verified: Verified<'b>,
    /// As in the document: DER SubjectPublicKeyInfo, not yet looked at.
    pub(super) public_key: &'b [u8],
}

impl<'b> Recipient<'b> {
    /// Verifies `document` under the root `root` (DER) at `now`.
    ///
    /// Whether debug enclaves are served is left to the key policy, as with AWS: their PCR0 is just a value.
    pub(super) fn verify(document: &'b [u8], root: &[u8], now: Timestamp) -> ApiResult<Self> {
        let refused = |error: &dyn std::fmt::Display| {
            let message = format!(
                "1 validation error detected: Value at 'recipient.attestationDocument' is not a valid attestation document: {error}"
            );
            ApiError::validation(message)
        };
        let anchor = Anchor::from_der(root).map_err(ApiError::internal)?;
        let at = time::Timestamp::from_milliseconds(now.0);
        let parsed = Document::parse(document).map_err(|error| refused(&error))?;
        let public_key = parsed.public_key();
        let verified = parsed
            .verify(at, &anchor, DebugEnclaves::DangerAccept)
            .map_err(|error| refused(&error))?;
        let public_key = public_key.ok_or_else(|| refused(&"it has no public_key"))?;
        Ok(Self {
            verified,
            public_key,
        })
    }

    /// `additionalEventData.recipient` of a CloudTrail record; values in base64, as the one real log seen has them.
    pub(super) fn trail(&self) -> Value {
        let document = self.verified.document();
        let (shown, prefix): (&[u8], _) = match document.form() {
            Form::NitroEnclave => (&[1, 2, 3, 4, 8], "attestationDocumentEnclavePCR"),
            Form::NitroTpm => (&[4, 7, 8, 9, 16, 23], "attestationDocumentNitroTPMPCR"),
        };
        let mut data = Map::new();
        let id = json!(document.module_id());
        data.insert("attestationDocumentModuleId".to_owned(), id);
        if let (Form::NitroEnclave, Some(image)) = (document.form(), document.pcr(0)) {
            let name = "attestationDocumentEnclaveImageDigest".to_owned();
            data.insert(name, json!(base64(image)));
        }
        for index in shown {
            if let Some(value) = document.pcr(*index) {
                data.insert(format!("{prefix}{index}"), json!(base64(value)));
            }
        }
        Value::Object(data)
    }
}
