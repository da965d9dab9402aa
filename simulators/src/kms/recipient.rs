//! The recipient of a secret: a verified attestation document with a key to answer to.
//!
//! Where the KMS was told to, an unsigned document of QEMU's `nitro-enclave` machine will do.

use nodeseal_attestation::nitro::{Anchor, Claims, DebugEnclaves, Document, Form, ParseError};
use nodeseal_attestation::time;
use serde_json::{Map, Value, json};

use super::error::{ApiError, ApiResult};
use crate::text::base64;
use crate::time::Timestamp;

/// Who proved what it is, and the key it wants its answer under.
pub(super) struct Recipient<'b> {
    pub(super) claims: Claims<'b>,
    /// As in the document: DER SubjectPublicKeyInfo, not yet looked at.
    pub(super) public_key: &'b [u8],
}

/// What it takes to be a recipient.
#[derive(Clone)]
pub(super) struct Proof {
    /// Certificate (DER) documents have to verify under.
    pub(super) root: Vec<u8>,
    /// Whether unsigned documents of QEMU are taken too: whoever can write one is then whatever it says.
    pub(super) accept_unsigned: bool,
}

impl<'b> Recipient<'b> {
    /// Verifies `document` at `now`.
    ///
    /// Whether debug enclaves are served is left to the key policy, as with AWS: their PCR0 is just a value.
    pub(super) fn verify(document: &'b [u8], proof: &Proof, now: Timestamp) -> ApiResult<Self> {
        let claims = match Document::parse(document) {
            Err(ParseError::Algorithm { .. }) if proof.accept_unsigned => {
                let claims = Claims::read(document).map_err(|error| refused(&error))?;
                if !claims.is_emulated() {
                    return Err(refused(
                        &"it is neither signed with ES384 nor one of QEMU's",
                    ));
                }
                claims
            }
            parsed => {
                let anchor = Anchor::from_der(&proof.root).map_err(ApiError::internal)?;
                let at = time::Timestamp::from_milliseconds(now.0);
                let verified = parsed
                    .map_err(|error| refused(&error))?
                    .verify(at, &anchor, DebugEnclaves::DangerAccept)
                    .map_err(|error| refused(&error))?;
                Claims::clone(verified.document())
            }
        };
        let public_key = claims.public_key();
        let public_key = public_key.ok_or_else(|| refused(&"it has no public_key"))?;
        Ok(Self { claims, public_key })
    }

    /// `additionalEventData.recipient` of a CloudTrail record; values in base64, as the one real log seen has them.
    pub(super) fn trail(&self) -> Value {
        let document = &self.claims;
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

fn refused(error: &dyn std::fmt::Display) -> ApiError {
    ApiError::validation(format!(
        "1 validation error detected: Value at 'recipient.attestationDocument' is not a valid attestation document: {error}"
    ))
}
