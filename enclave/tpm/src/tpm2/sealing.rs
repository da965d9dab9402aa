//! The two sequences everything is for: seal 32 bytes, unseal them.

use nodeseal_memory::Secret;

use super::command::{Authorization, Code};
use super::commands::{Commands, Key, OWNER, loaded};
use super::session::{Attributes, Kind, Session};
use crate::error::TpmError;
use crate::policy::{approval_digest, policy_pcr};
use crate::structures::{Fields, Name, pcr_selection, push_sized, sealed_template};
use crate::tpm::{Approval, PcrSelection, SealPolicy, SealedObject, Srk, UnsealPolicy};

/// Bytes sealed in one object.
const SECRET_LENGTH: usize = 32;
/// Half of a signature of P-256.
const SCALAR_LENGTH: usize = 32;

impl Commands<'_> {
    pub(super) fn seal(
        &mut self,
        srk: &Srk,
        policy: &SealPolicy<'_>,
        secret: &Secret,
    ) -> Result<SealedObject, TpmError> {
        let code = Code::CREATE;
        let parent = self.srk(srk)?;
        let mut session = self.session(&parent, Kind::Hmac)?;
        let policy = match policy {
            SealPolicy::Digest(digest) => *digest,
            SealPolicy::PcrsNow(selection) => {
                // Under the session only for its HMAC: the values that are sealed to are the TPM's.
                let values = self.read_pcrs(selection, Some(&mut session))?;
                policy_pcr(selection.bank, &selection.pcrs, &values)
            }
        };
        let answer = self.run_in(
            &mut session,
            Attributes::LAST_BOTH_ENCRYPTED,
            code,
            Some((parent.handle, srk.name)),
            create_parameters(secret, &sealed_template(&policy)),
        )?;
        self.forget(session.handle);
        let mut fields = Fields(&answer.parameters);
        let (Some(private), Some(public)) = (fields.sized(), fields.sized()) else {
            return Err(code.bad("not an object's two parts"));
        };
        let (mut private, public) = (private.to_vec(), public.to_vec());
        session.decrypt(&mut private)?;
        self.flush_parent(srk, &parent)?;
        Ok(SealedObject { public, private })
    }

    pub(super) fn unseal(
        &mut self,
        srk: &Srk,
        object: &SealedObject,
        policy: &UnsealPolicy<'_>,
    ) -> Result<Secret, TpmError> {
        let parent = self.srk(srk)?;
        let mut session = self.session(&parent, Kind::Policy)?;
        self.policy_pcr(&session, policy.pcrs)?;
        if let Some(approval) = &policy.approval {
            self.policy_authorize(&session, approval)?;
        }
        let loaded = self.load(&parent, object)?;
        let answer = self.run_in(
            &mut session,
            Attributes::LAST_ANSWER_ENCRYPTED,
            Code::UNSEAL,
            Some((loaded, Name::of(&object.public))),
            Vec::new(),
        )?;
        self.forget(session.handle);
        let sealed = Fields(&answer.parameters)
            .sized()
            .filter(|content| content.len() == SECRET_LENGTH)
            .ok_or(TpmError::NotSealedByUs("not 32 bytes long"))?;
        let mut secret = Secret::copy_of(sealed)?;
        session.decrypt(secret.expose_mut())?;
        self.flush(loaded)?;
        self.flush_parent(srk, &parent)?;
        Ok(secret)
    }

    /// Flushes a storage root key that was made for this use.
    pub(super) fn flush_parent(&mut self, srk: &Srk, parent: &Key) -> Result<(), TpmError> {
        match srk.handle {
            Some(_) => Ok(()),
            None => self.flush(parent.handle),
        }
    }

    fn load(&mut self, parent: &Key, object: &SealedObject) -> Result<u32, TpmError> {
        let mut parameters = Vec::new();
        push_sized(&mut parameters, &object.private);
        push_sized(&mut parameters, &object.public);
        let (handles, password) = ([parent.handle], Authorization::Password);
        let answer = self.run(Code::LOAD, &handles, &password, &parameters)?;
        loaded(Code::LOAD, &answer)
    }

    pub(super) fn policy_pcr(
        &mut self,
        session: &Session,
        selection: &PcrSelection,
    ) -> Result<(), TpmError> {
        // No digest given: the TPM takes the values of now, and Unseal decides whether they are the right ones.
        let mut parameters = vec![0, 0];
        parameters.extend(pcr_selection(selection.bank, &selection.pcrs));
        let handles = [session.handle];
        self.run(
            Code::POLICY_PCR,
            &handles,
            &Authorization::None,
            &parameters,
        )
        .map(drop)
    }

    fn policy_authorize(
        &mut self,
        session: &Session,
        approval: &Approval<'_>,
    ) -> Result<(), TpmError> {
        let none = Authorization::None;
        // No private part. Not the null hierarchy: its tickets are refused by TPM2_PolicyAuthorize.
        let mut parameters = vec![0, 0];
        push_sized(&mut parameters, approval.signer);
        parameters.extend(OWNER.to_be_bytes());
        let answer = self.run(Code::LOAD_EXTERNAL, &[], &none, &parameters)?;
        let signer = loaded(Code::LOAD_EXTERNAL, &answer)?;

        let mut parameters = Vec::new();
        push_sized(
            &mut parameters,
            &approval_digest(approval.approved, approval.reference),
        );
        parameters.extend([0x00, 0x18, 0x00, 0x0B]); // ECDSA, SHA-256
        for half in approval.signature.chunks(SCALAR_LENGTH) {
            push_sized(&mut parameters, half);
        }
        let verified = self.run(Code::VERIFY_SIGNATURE, &[signer], &none, &parameters)?;
        self.flush(signer)?;

        let mut parameters = Vec::new();
        push_sized(&mut parameters, approval.approved);
        push_sized(&mut parameters, approval.reference);
        push_sized(&mut parameters, &Name::of(approval.signer).0);
        // The ticket, as it came.
        parameters.extend(&verified.parameters);
        let handles = [session.handle];
        self.run(Code::POLICY_AUTHORIZE, &handles, &none, &parameters)
            .map(drop)
    }
}

/// Parameters of TPM2_Create (part 3, 12.1), written without growing: the secret is encrypted where it lies here.
fn create_parameters(secret: &Secret, template: &[u8]) -> Vec<u8> {
    const BESIDE: usize = 32;
    let length = secret.len().saturating_add(template.len());
    let mut out = Vec::with_capacity(length.saturating_add(BESIDE));
    // TPM2B_SENSITIVE_CREATE: no authValue, and the secret.
    let sensitive = u16::try_from(secret.len().saturating_add(4)).unwrap_or(u16::MAX);
    out.extend(sensitive.to_be_bytes());
    push_sized(&mut out, &[]);
    push_sized(&mut out, secret.expose());
    push_sized(&mut out, template);
    // No outsideInfo, no creationPCR.
    out.extend([0; 6]);
    out
}
