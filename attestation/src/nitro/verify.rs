//! From a parsed document to a verified one. The checks are data, so that a report runs the very same ones.

use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED, UnparsedPublicKey};

use super::anchor::Anchor;
use super::chain::{Chain, check_anchor};
use super::cose::sig_structure;
use super::document::{Document, Form};
use super::error::VerifyError;
use super::report::Check;
use crate::time::Timestamp;

/// What to do with a document of an enclave in debug mode: its host reads its console, and anyone can make one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DebugEnclaves {
    /// They prove nothing.
    #[default]
    Refuse,
    /// **Dangerous**: they are taken as if their measurements meant something.
    DangerAccept,
}

/// A document that proves what it says: it was made by the hypervisor under the pinned root, and its certificates were
/// valid at the time given. The only way to one is [`Document::verify`].
#[derive(Clone, Debug)]
pub struct Verified<'b> {
    document: Document<'b>,
    expires: Timestamp,
}

impl<'b> Verified<'b> {
    /// What was verified.
    #[must_use]
    pub fn document(&self) -> &Document<'b> {
        &self.document
    }

    /// When the signing certificate ends, and with it the use of the document.
    #[must_use]
    pub fn expires(&self) -> Timestamp {
        self.expires
    }
}

impl<'b> Document<'b> {
    /// Verifies the document as of `at` under `anchor`.
    ///
    /// # Errors
    /// The first rule that does not hold. The rules are those of aws-nitro-enclaves-nsm-api,
    /// docs/attestation_process.md.
    pub fn verify(
        self,
        at: Timestamp,
        anchor: &Anchor,
        debug: DebugEnclaves,
    ) -> Result<Verified<'b>, VerifyError> {
        check_anchor(&self, anchor)?;
        let chain = Chain::parse(&self)?;
        for (_, check) in CHAIN_CHECKS {
            check(&self, &chain, at, anchor)?;
        }
        check_debug(&self, debug)?;
        let expires = chain.leaf().not_after;
        Ok(Verified {
            document: self,
            expires,
        })
    }
}

type ChainCheck =
    for<'d, 'b> fn(&Document<'b>, &Chain<'d, 'b>, Timestamp, &Anchor) -> Result<(), VerifyError>;

/// What is asked once the certificates are read, cheapest first.
pub(super) const CHAIN_CHECKS: [(Check, ChainCheck); 5] = [
    (Check::Validity, |_, chain, at, _| chain.check_validity(at)),
    (Check::Constraints, |_, chain, _, _| {
        chain.check_constraints()
    }),
    (Check::Names, |_, chain, _, _| chain.check_names()),
    (Check::Path, |_, chain, at, anchor| {
        chain.check_path(at, anchor)
    }),
    (Check::Signature, |document, chain, _, _| {
        check_signature(document, chain)
    }),
];

fn check_signature(document: &Document<'_>, chain: &Chain<'_, '_>) -> Result<(), VerifyError> {
    UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, chain.leaf().key)
        .verify(&sig_structure(document.signed), document.signature)
        .map_err(|_| VerifyError::DocumentSignature)
}

pub(super) fn check_debug(
    document: &Document<'_>,
    debug: DebugEnclaves,
) -> Result<(), VerifyError> {
    match (document.form(), debug) {
        // NitroTPM has no debug mode; its PCR0 is the firmware's.
        (Form::NitroTpm, _) | (Form::NitroEnclave, DebugEnclaves::DangerAccept) => Ok(()),
        (Form::NitroEnclave, DebugEnclaves::Refuse) => match document.pcr(0) {
            None => Err(VerifyError::NoImageMeasurement),
            Some(value) if value.iter().all(|byte| *byte == 0) => Err(VerifyError::DebugEnclave),
            Some(_) => Ok(()),
        },
    }
}
