//! RSA-OAEP-256 by a public key of a vault, done here: Azure advises it, and sealing needs no permission to wrap.

use aws_lc_rs::rsa::{
    OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, PublicEncryptingKey, PublicKeyComponents,
};
use azure_security_keyvault_keys::models::JsonWebKey;
use nodeseal_core::tunnel::Fault;
use nodeseal_memory::Secret;
use nodeseal_wire::lock::AZURE_CIPHERTEXT;
use nodeseal_wire::message::Class;

use super::fault::CODES;

/// The public half of an RSA key, as a JWK has it: big-endian, without leading zeros.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RsaPublic {
    pub(crate) modulus: Vec<u8>,
    pub(crate) exponent: Vec<u8>,
}

impl RsaPublic {
    /// Takes it from a vault's answer.
    pub(crate) fn of(key: &JsonWebKey) -> Result<Self, Fault> {
        let (Some(modulus), Some(exponent)) = (&key.n, &key.e) else {
            let kind = key.kty.as_ref().map(|kind| format!("{kind:?}"));
            let kind = kind.unwrap_or_else(|| "unknown".to_owned());
            let text = format!("the key is of type {kind}; only RSA keys wrap secrets");
            return Err(Fault::new(Class::Misuse, "azure-key-type", text));
        };
        let (least, most) = AZURE_CIPHERTEXT;
        if !(least..=most).contains(&modulus.len()) {
            let text = format!(
                "the key's modulus has {} bytes, where {least} to {most} are expected",
                modulus.len()
            );
            return Err(Fault::answer(CODES.malformed, text));
        }
        Ok(Self {
            modulus: modulus.clone(),
            exponent: exponent.clone(),
        })
    }

    /// RSAES-OAEP with SHA-256, MGF1 of SHA-256 and no label (RFC 8017 §7.1.1; JWA RSA-OAEP-256): as long as the modulus.
    pub(crate) fn wrap(&self, secret: &Secret) -> Result<Vec<u8>, Fault> {
        let failed = |_| Fault::new(Class::Internal, "crypto", "RSA-OAEP-256 encryption failed");
        let components = PublicKeyComponents {
            n: self.modulus.as_slice(),
            e: self.exponent.as_slice(),
        };
        let key: PublicEncryptingKey = components.try_into().map_err(failed)?;
        let key = OaepPublicEncryptingKey::new(key).map_err(failed)?;
        let mut ciphertext = vec![0; key.ciphertext_size()];
        let length = key
            .encrypt(
                &OAEP_SHA256_MGF1SHA256,
                secret.expose(),
                &mut ciphertext,
                None,
            )
            .map_err(failed)?
            .len();
        ciphertext.truncate(length);
        Ok(ciphertext)
    }
}
