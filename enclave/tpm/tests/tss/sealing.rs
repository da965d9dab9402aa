//! The two sequences everything is for: seal 32 bytes, unseal them.

use nodeseal_memory::Secret;
use tss_esapi::Error;
use tss_esapi::attributes::SessionAttributesBuilder;
use tss_esapi::constants::SessionType;
use tss_esapi::handles::ObjectHandle;
use tss_esapi::interface_types::algorithm::HashingAlgorithm;
use tss_esapi::interface_types::resource_handles::Hierarchy;
use tss_esapi::interface_types::session_handles::{AuthSession, PolicySession};
use tss_esapi::structures::{
    Digest, EccParameter, EccSignature, Nonce, Private, Public, SensitiveData, Signature,
};
use tss_esapi::traits::{Marshall, UnMarshall};

use super::commands::Commands;
use nodeseal_tpm::error::TpmError;
use nodeseal_tpm::policy::{approval_digest, policy_pcr};
use nodeseal_tpm::structures::{Name, sealed_template};
use nodeseal_tpm::tpm::{Approval, PcrSelection, SealPolicy, SealedObject, Srk, UnsealPolicy};

/// Bytes sealed in one object.
const SECRET_LENGTH: usize = 32;

impl Commands<'_> {
    pub(super) fn seal(
        &mut self,
        srk: &Srk,
        policy: &SealPolicy<'_>,
        secret: &Secret,
    ) -> Result<SealedObject, TpmError> {
        const COMMAND: &str = "TPM2_Create";
        let parent = self.srk(srk)?;
        let session = self.session(parent, SessionType::Hmac)?;
        let policy = match policy {
            SealPolicy::Digest(digest) => *digest,
            SealPolicy::PcrsNow(selection) => {
                // An audit session only for its HMAC: the values that are sealed to are the TPM's.
                let audited = SessionAttributesBuilder::new().with_audit(true);
                self.attributes(session, audited.with_continue_session(true))?;
                self.context.set_sessions((Some(session), None, None));
                let values = self.read_pcrs(selection);
                self.context.clear_sessions();
                policy_pcr(selection.bank, &selection.pcrs, &values?)
            }
        };
        let last = SessionAttributesBuilder::new()
            .with_audit(false)
            .with_decrypt(true)
            .with_encrypt(true)
            .with_continue_session(false);
        self.attributes(session, last)?;
        let template = Public::unmarshall(&sealed_template(&policy));
        let template = self.check(COMMAND, template)?;
        let data = SensitiveData::try_from(secret.expose());
        let data = self.check(COMMAND, data)?;
        let made = self.context.execute_with_session(Some(session), |context| {
            context.create(parent, template, None, Some(data), None, None)
        });
        let made = self.check(COMMAND, made)?;
        self.forget(session);
        let public = made.out_public.marshall();
        let public = self.check(COMMAND, public)?;
        if srk.handle.is_none() {
            self.flush(parent.into())?;
        }
        Ok(SealedObject {
            public,
            private: made.out_private.value().to_vec(),
        })
    }

    pub(super) fn unseal(
        &mut self,
        srk: &Srk,
        object: &SealedObject,
        policy: &UnsealPolicy<'_>,
    ) -> Result<Secret, TpmError> {
        let parent = self.srk(srk)?;
        let session = self.session(parent, SessionType::Policy)?;
        let answers_encrypted = SessionAttributesBuilder::new()
            .with_encrypt(true)
            .with_continue_session(false);
        self.attributes(session, answers_encrypted)?;
        let steps = PolicySession::try_from(session);
        let steps = self.check("TPM2_StartAuthSession", steps)?;
        self.policy_pcr(steps, policy.pcrs)?;
        if let Some(approval) = &policy.approval {
            self.policy_authorize(steps, approval)?;
        }
        let public = Public::unmarshall(&object.public);
        let public = self.check("TPM2_Load", public)?;
        let private = Private::try_from(object.private.as_slice());
        let private = self.check("TPM2_Load", private)?;
        let loaded = self
            .context
            .execute_with_session(Some(AuthSession::Password), |context| {
                context.load(parent, private, public)
            });
        let loaded: ObjectHandle = self.check("TPM2_Load", loaded)?.into();
        let unsealed = self
            .context
            .execute_with_session(Some(session), |context| context.unseal(loaded));
        let unsealed = self.check("TPM2_Unseal", unsealed)?;
        self.forget(session);
        let mut secret = Secret::zeroed(SECRET_LENGTH)?;
        if unsealed.value().len() != SECRET_LENGTH {
            return Err(TpmError::NotSealedByUs("not 32 bytes long"));
        }
        secret.expose_mut().copy_from_slice(unsealed.value());
        self.flush(loaded)?;
        if srk.handle.is_none() {
            self.flush(parent.into())?;
        }
        Ok(secret)
    }

    fn policy_pcr(
        &mut self,
        session: PolicySession,
        selection: &PcrSelection,
    ) -> Result<(), TpmError> {
        const COMMAND: &str = "TPM2_PolicyPCR";
        let list = self.selection_list(COMMAND, selection.bank, &selection.pcrs)?;
        // No digest given: the TPM takes the values of now, and Unseal decides whether they are the right ones.
        let done = self.context.execute_without_session(|context| {
            context.policy_pcr(session, Digest::default(), list)
        });
        self.check(COMMAND, done)
    }

    fn policy_authorize(
        &mut self,
        session: PolicySession,
        approval: &Approval<'_>,
    ) -> Result<(), TpmError> {
        const COMMAND: &str = "TPM2_VerifySignature";
        let signer_name = self.check(COMMAND, signer_name(approval))?;
        let (public, digest, signature) = self.check(COMMAND, parts(approval))?;
        // Not the null hierarchy: its tickets are refused by TPM2_PolicyAuthorize.
        let signer = self.context.execute_without_session(|context| {
            context.load_external_public(public, Hierarchy::Owner)
        });
        let signer = self.check("TPM2_LoadExternal", signer)?;
        let ticket = self
            .context
            .execute_without_session(|context| context.verify_signature(signer, digest, signature));
        let ticket = self.check(COMMAND, ticket)?;
        self.flush(signer.into())?;
        let approved = Digest::try_from(approval.approved.as_slice());
        let approved = self.check(COMMAND, approved)?;
        let reference = Nonce::try_from(approval.reference);
        let reference = self.check(COMMAND, reference)?;
        let done = self.context.execute_without_session(|context| {
            context.policy_authorize(session, approved, reference, &signer_name, ticket)
        });
        self.check("TPM2_PolicyAuthorize", done)
    }
}

fn signer_name(approval: &Approval<'_>) -> Result<tss_esapi::structures::Name, Error> {
    tss_esapi::structures::Name::try_from(Name::of(approval.signer).0.to_vec())
}

/// The signer's key, what it signed, and its signature, as the library takes them.
fn parts(approval: &Approval<'_>) -> Result<(Public, Digest, Signature), Error> {
    let digest = approval_digest(approval.approved, approval.reference);
    let (r, s) = approval.signature.split_at(SECRET_LENGTH);
    let signature = EccSignature::create(
        HashingAlgorithm::Sha256,
        EccParameter::try_from(r)?,
        EccParameter::try_from(s)?,
    )?;
    Ok((
        Public::unmarshall(approval.signer)?,
        Digest::try_from(digest.as_slice())?,
        Signature::EcDsa(signature),
    ))
}
