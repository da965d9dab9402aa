//! Attestation documents: the payload, and the COSE_Sign1 around it.
//!
//! Key order, null members and the eight-byte timestamp are those of every genuine document seen.

use nodeseal_wire::cbor::Writer;

use super::pcrs::PcrValue;
use super::request::Claims;
use super::response::ErrorCode;
use crate::pki::NitroIdentity;
use crate::time::Timestamp;

/// Most bytes of public key, user data and nonce. Genuine documents carry 1024 in each; AWS's text says 512 for two.
const MAX_FIELD: usize = 1024;
/// Protected header {1: -35}: ES384.
const PROTECTED: [u8; 4] = [0xa1, 0x01, 0x38, 0x22];
/// Members of the payload.
const MEMBERS: usize = 9;

/// Whose document it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DocumentForm {
    /// A Nitro Enclave's: `pcrs`.
    Enclave,
    /// A NitroTPM's: `nitrotpm_pcrs`.
    NitroTpm,
}

/// How the payload's map is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapEncoding {
    /// With its length (`a9`), as until 2025.
    Definite,
    /// Without (`bf … ff`), as in 2026.
    Indefinite,
}

/// What a document says.
pub(super) struct Attested<'a> {
    pub(super) form: DocumentForm,
    pub(super) encoding: MapEncoding,
    pub(super) pcrs: &'a [(u16, PcrValue)],
    pub(super) claims: Claims<'a>,
}

impl Attested<'_> {
    /// The signed document (untagged COSE_Sign1).
    pub(super) fn document(
        &self,
        identity: &mut NitroIdentity,
        now: Timestamp,
    ) -> Result<Vec<u8>, ErrorCode> {
        let claims = self.claims;
        for field in [claims.public_key, claims.user_data, claims.nonce] {
            if field.is_some_and(|bytes| bytes.len() > MAX_FIELD) {
                return Err(ErrorCode::InvalidArgument);
            }
        }
        let module_id = identity.module_id().to_owned();
        let mut payload = Vec::new();
        let signed = identity.sign(now, |certificate, bundle| {
            payload = self.payload(&module_id, now, certificate, bundle);
            let mut writer = Writer::new();
            writer.array(4).text("Signature1").bytes(&PROTECTED);
            writer.bytes(&[]).bytes(&payload).finish()
        })?;
        let mut writer = Writer::new();
        writer.array(4).bytes(&PROTECTED).map(0);
        Ok(writer.bytes(&payload).bytes(&signed.signature).finish())
    }

    fn payload(
        &self,
        module_id: &str,
        now: Timestamp,
        certificate: &[u8],
        bundle: &[Vec<u8>],
    ) -> Vec<u8> {
        let mut out = match self.encoding {
            MapEncoding::Definite => Writer::new().map(MEMBERS).finish(),
            MapEncoding::Indefinite => vec![0xbf],
        };
        let mut writer = Writer::new();
        writer.text("module_id").text(module_id);
        writer.text("digest").text("SHA384");
        writer.text("timestamp");
        out.append(&mut writer.finish());
        // Always in eight bytes, even where fewer would do.
        out.push(0x1b);
        out.extend_from_slice(&now.0.to_be_bytes());
        writer.text(match self.form {
            DocumentForm::Enclave => "pcrs",
            DocumentForm::NitroTpm => "nitrotpm_pcrs",
        });
        writer.map(self.pcrs.len());
        for (index, value) in self.pcrs {
            writer.uint(u64::from(*index)).bytes(value);
        }
        writer.text("certificate").bytes(certificate);
        writer.text("cabundle").array(bundle.len());
        for certificate in bundle {
            writer.bytes(certificate);
        }
        for (name, field) in [
            ("public_key", self.claims.public_key),
            ("user_data", self.claims.user_data),
            ("nonce", self.claims.nonce),
        ] {
            writer.text(name).optional(field, |w, bytes| w.bytes(bytes));
        }
        out.append(&mut writer.finish());
        if self.encoding == MapEncoding::Indefinite {
            out.push(0xff);
        }
        out
    }
}
