//! The token on its way: AES-256-GCM under an inner key that only the TPM's ephemeral key opens (guest attestation
//! client library, `AttestationHelper`).

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use nodeseal_attestation::azure::RsaKey;
use serde_json::json;

use super::super::error::{AzureError, AzureResult};
use crate::rsa::{self, Padding};
use crate::text::{base64, base64url, random};

/// Associated data of every token.
const ASSOCIATED: &[u8] = b"Transport Key";
/// Length of the GCM tag, in bytes.
const TAG: usize = 16;

/// The envelope of a token for a key: base64url of JSON.
pub(super) fn seal(token: &str, recipient: &RsaKey, garbled: bool) -> AzureResult<String> {
    let inner = random::<32>().map_err(AzureError::internal)?;
    let nonce = random::<NONCE_LEN>().map_err(AzureError::internal)?;
    let failed = |_| AzureError::internal("encrypting a token");
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &inner).map_err(failed)?);
    let mut sealed = token.as_bytes().to_vec();
    key.seal_in_place_append_tag(
        Nonce::assume_unique_for_key(nonce),
        Aad::from(ASSOCIATED),
        &mut sealed,
    )
    .map_err(failed)?;
    let tag = sealed.split_off(sealed.len().saturating_sub(TAG));
    if garbled && let Some(byte) = sealed.first_mut() {
        *byte ^= 1;
    }
    let wrapped = rsa::encrypt(recipient, Padding::Pkcs1, &inner)
        .ok_or_else(|| AzureError::internal("encrypting to the ephemeral key"))?;
    let envelope = json!({
        "EncryptedInnerKey": base64(&wrapped),
        "EncryptionParams": {
            "BlockMode": "ChainingModeGCM",
            "BlockPadding": "PKCS7",
            "Cipher": "AES",
            "KeySizeInBits": 256,
            "Iv": base64(&nonce),
        },
        "AuthenticationData": base64(&tag),
        "Jwt": base64(&sealed),
    });
    Ok(base64url(envelope.to_string()))
}
