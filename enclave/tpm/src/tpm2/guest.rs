//! What an Azure machine's TPM does for attestation: evidence around an ephemeral key, and decryption with that key.

use nodeseal_azure::Padding;
use nodeseal_azure::guest::{GuestEvidence, PCRS};
use nodeseal_memory::Secret;
use nodeseal_wire::lock::PcrBank;

use super::command::{Answer, Authorization, Code};
use super::commands::{Commands, OWNER, loaded};
use super::session::{Attributes, Kind};
use crate::error::TpmError;
use crate::policy::policy_pcr;
use crate::structures::{Fields, Name, ephemeral_template, pcr_selection, push_sized, with_size};
use crate::tpm::{PcrSelection, SavedKey, Srk};

/// Attestation key of an Azure machine (Azure, "Guest attestation for confidential VMs: design").
const AK_HANDLE: u32 = 0x8100_0003;
/// NV index of its certificate, DER with zeros after it.
const AK_CERTIFICATE: u32 = 0x01C1_01D0;
/// NV index of the HCL report; absent on Trusted Launch.
const HCL_REPORT: u32 = 0x0140_0001;
/// TPM_RH_NULL (part 2, 7.4).
const NULL: u32 = 0x4000_0007;
/// TPM_RC_HANDLE for the first handle: nothing is there.
const NO_SUCH_HANDLE: u32 = 0x18B;
/// Bytes read from NV at once: every TPM has buffers of that size.
const NV_PART: u16 = 512;
/// Largest NV index read, in bytes: the certificate's has 4096.
const MAX_NV: u16 = 8192;
/// Two empty passwords (TPM_RS_PW), for a command that uses two objects.
const TWO_PASSWORDS: [u8; 18] = [
    0x40, 0, 0, 0x09, 0, 0, 1, 0, 0, 0x40, 0, 0, 0x09, 0, 0, 1, 0, 0,
];

impl Commands<'_> {
    pub(super) fn guest_evidence(&mut self) -> Result<(GuestEvidence, SavedKey), TpmError> {
        let nothing = |command| TpmError::Refused {
            command,
            code: NO_SUCH_HANDLE,
        };
        let ak = self.read_public(AK_HANDLE)?;
        let ak = ak.ok_or_else(|| nothing("TPM2_ReadPublic"))?;
        let certificate = self.nv(AK_CERTIFICATE)?;
        let certificate = certificate.ok_or_else(|| nothing("TPM2_NV_Read"))?;
        let hcl_report = self.nv(HCL_REPORT)?;
        let selection = selection();
        let pcr_values = self.read_pcrs(&selection, None)?;
        let (key, ephemeral) = self.ephemeral(&pcr_values)?;
        // No qualifying data, the key's own scheme.
        let mut parameters = vec![0, 0, 0x00, 0x10];
        let certified = self.run(
            Code::CERTIFY,
            &[key, AK_HANDLE],
            &Authorization::Session(&TWO_PASSWORDS),
            &parameters,
        )?;
        let (certify, certify_signature) = signed(Code::CERTIFY, &certified)?;
        parameters.extend(pcr_selection(PcrBank::Sha256, &PCRS));
        let password = Authorization::Password;
        let quoted = self.run(Code::QUOTE, &[AK_HANDLE], &password, &parameters)?;
        let (quote, quote_signature) = signed(Code::QUOTE, &quoted)?;
        let saved = self.run(Code::CONTEXT_SAVE, &[key], &Authorization::None, &[])?;
        self.flush(key)?;
        let saved = SavedKey {
            context: saved.parameters,
            name: Name::of(&ephemeral),
        };
        let evidence = GuestEvidence {
            ak_certificate: without_zeros(certificate),
            ak_public: with_size(&ak),
            quote,
            quote_signature,
            ephemeral_public: with_size(&ephemeral),
            certify,
            certify_signature,
            pcr_values,
            hcl_report,
            ..GuestEvidence::default()
        };
        Ok((evidence, saved))
    }

    /// Makes the ephemeral key in the null hierarchy: the same until the TPM is reset, then gone for good.
    fn ephemeral(&mut self, values: &[Vec<u8>]) -> Result<(u32, Vec<u8>), TpmError> {
        let code = Code::CREATE_PRIMARY;
        let policy = policy_pcr(PcrBank::Sha256, &PCRS, values);
        // TPM2B_SENSITIVE_CREATE with neither authValue nor data.
        let mut parameters = vec![0, 4, 0, 0, 0, 0];
        push_sized(&mut parameters, &ephemeral_template(&policy));
        // No outsideInfo, no creationPCR.
        parameters.extend([0; 6]);
        let answer = self.run(code, &[NULL], &Authorization::Password, &parameters)?;
        let public = Fields(&answer.parameters).sized();
        let public = public.ok_or_else(|| code.bad("no public area"))?.to_vec();
        Ok((loaded(code, &answer)?, public))
    }

    /// Content of an NV index the owner may read; none if there is no such index.
    fn nv(&mut self, index: u32) -> Result<Option<Vec<u8>>, TpmError> {
        let code = Code::NV_READ_PUBLIC;
        let answer = match self.run(code, &[index], &Authorization::None, &[]) {
            Err(TpmError::Refused {
                code: NO_SUCH_HANDLE,
                ..
            }) => return Ok(None),
            answer => answer?,
        };
        let size = nv_size(&answer.parameters).filter(|size| *size <= MAX_NV);
        let size = size.ok_or_else(|| code.bad("no public area of an NV index"))?;
        let mut content = Vec::new();
        for offset in (0..size).step_by(usize::from(NV_PART)) {
            let part = NV_PART.min(size.saturating_sub(offset));
            let parameters = [part, offset].map(u16::to_be_bytes).concat();
            let password = Authorization::Password;
            let answer = self.run(Code::NV_READ, &[OWNER, index], &password, &parameters)?;
            let read = Fields(&answer.parameters)
                .sized()
                .filter(|read| read.len() == usize::from(part));
            content.extend(read.ok_or_else(|| Code::NV_READ.bad("not as much as was asked for"))?);
        }
        Ok(Some(content))
    }

    /// Decrypts with the ephemeral key, the answer encrypted on the line.
    pub(super) fn guest_decrypt(
        &mut self,
        srk: &Srk,
        saved: &SavedKey,
        padding: Padding,
        ciphertext: &[u8],
    ) -> Result<Secret, TpmError> {
        let code = Code::RSA_DECRYPT;
        let salt = self.srk(srk)?;
        let none = Authorization::None;
        let answer = self.run(Code::CONTEXT_LOAD, &[], &none, &saved.context)?;
        let key = loaded(Code::CONTEXT_LOAD, &answer)?;
        let mut session = self.session(&salt, Kind::Policy)?;
        self.policy_pcr(&session, &selection())?;
        let mut parameters = Vec::new();
        push_sized(&mut parameters, ciphertext);
        match padding {
            // TPM_ALG_RSAES; TPM_ALG_OAEP with SHA-256 (part 2, 6.3).
            Padding::Pkcs1 => parameters.extend([0x00, 0x15]),
            Padding::OaepSha256 => parameters.extend([0x00, 0x17, 0x00, 0x0B]),
        }
        push_sized(&mut parameters, &[]);
        let answer = self.run_in(
            &mut session,
            Attributes::LAST_ANSWER_ENCRYPTED,
            code,
            Some((key, saved.name)),
            parameters,
        )?;
        self.forget(session.handle);
        let plain = Fields(&answer.parameters).sized();
        let mut secret = Secret::copy_of(plain.ok_or_else(|| code.bad("no message"))?)?;
        session.decrypt(secret.expose_mut())?;
        self.flush(key)?;
        self.flush_parent(srk, &salt)?;
        Ok(secret)
    }
}

fn selection() -> PcrSelection {
    PcrSelection {
        bank: PcrBank::Sha256,
        pcrs: PCRS.to_vec(),
    }
}

/// The structure as it was signed (TPM2B_ATTEST), and the bare signature (TPMT_SIGNATURE, RSASSA with SHA-256).
fn signed(code: Code, answer: &Answer) -> Result<(Vec<u8>, Vec<u8>), TpmError> {
    let mut fields = Fields(&answer.parameters);
    let parts = (
        fields.sized(),
        fields.u16(),
        fields.u16(),
        fields.sized(),
        fields.rest(),
    );
    match parts {
        (Some(attest), Some(0x0014), Some(0x000B), Some(signature), []) => {
            Ok((attest.to_vec(), signature.to_vec()))
        }
        _ => Err(code.bad("not a structure and its RSASSA signature")),
    }
}

/// Size in TPM2B_NV_PUBLIC (part 2, 13.5).
fn nv_size(parameters: &[u8]) -> Option<u16> {
    let mut fields = Fields(Fields(parameters).sized()?);
    let (_index, _algorithm, _attributes) = (fields.u32()?, fields.u16()?, fields.u32()?);
    let _policy = fields.sized()?;
    fields.u16()
}

/// A certificate without what fills its NV index: DER says how long it is.
fn without_zeros(mut certificate: Vec<u8>) -> Vec<u8> {
    let length = match certificate.as_slice() {
        [0x30, 0x82, high, low, ..] => {
            usize::from(u16::from_be_bytes([*high, *low])).saturating_add(4)
        }
        _ => certificate.len(),
    };
    certificate.truncate(length);
    certificate
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_ends_where_its_der_ends() {
        let padded = [&[0x30, 0x82, 0, 2, 7, 7][..], &[0; 90]].concat();
        assert_eq!(without_zeros(padded), [0x30, 0x82, 0, 2, 7, 7]);
        assert_eq!(without_zeros(vec![1, 2]), [1, 2]);
    }

    #[test]
    fn the_size_of_an_nv_index_stands_at_the_end_of_its_public_area() {
        let public = [0, 14, 1, 0xC1, 1, 0xD0, 0, 0x0B, 0, 2, 0, 2, 0, 0, 0x10, 0];
        assert_eq!(nv_size(&public), Some(4096));
        for end in 0..public.len() {
            assert_eq!(nv_size(public.get(..end).unwrap_or_default()), None);
        }
    }
}
