//! Encrypt, Decrypt, ReEncrypt, GenerateDataKey, GenerateDataKeyWithoutPlaintext, GenerateRandom.
//!
//! Order of checks: members, key, attestation document, authorization, key state, dry run, cipher.

use aws_lc_rs::rand::fill;
use serde_json::{Value, json};

use super::super::call::Call;
use super::super::ciphertext::{self, EncryptionContext};
use super::super::error::{ApiError, ApiResult};
use super::super::key::Key;
use super::super::recipient::Recipient;
use super::super::request::{
    Decrypt, Encrypt, GenerateDataKey, GenerateRandom, ReEncrypt, ciphertext_blob, document,
    in_range, members, no_grants, plaintext, symmetric,
};
use crate::text::base64;

pub(super) fn encrypt(call: &mut Call<'_>, body: &Value) -> ApiResult<Value> {
    let request: Encrypt = members(body)?;
    symmetric(request.encryption_algorithm.as_deref())?;
    no_grants(&request.grant_tokens)?;
    let plaintext = plaintext(&request.plaintext)?;
    let (key, arn) = call.key(&request.key_id)?;
    call.allowed_with("Encrypt", &key, &arn, &request.encryption_context, None)?;
    key.must_be_enabled(&arn)?;
    stop_if_dry(request.dry_run)?;
    Ok(json!({
        "CiphertextBlob": base64(&seal(&key, &request.encryption_context, &plaintext)?),
        "KeyId": arn,
        "EncryptionAlgorithm": "SYMMETRIC_DEFAULT",
    }))
}

pub(super) fn decrypt(call: &mut Call<'_>, body: &Value) -> ApiResult<Value> {
    let request: Decrypt = members(body)?;
    symmetric(request.encryption_algorithm.as_deref())?;
    no_grants(&request.grant_tokens)?;
    let blob = ciphertext_blob(&request.ciphertext_blob)?;
    let (key, arn) = key_of(call, &blob, request.key_id.as_deref())?;
    let document = document(request.recipient.as_ref())?;
    let recipient = call.verified(document.as_ref())?;
    let recipient = recipient.as_ref();
    let context = &request.encryption_context;
    call.allowed_with("Decrypt", &key, &arn, context, recipient)?;
    call.note(recipient);
    key.must_be_enabled(&arn)?;
    stop_if_dry(request.dry_run)?;
    let secret = ciphertext::open(&blob, &key.material()?, context)
        .map_err(|_| ApiError::invalid_ciphertext())?;
    let mut answer = json!({"KeyId": arn, "EncryptionAlgorithm": "SYMMETRIC_DEFAULT"});
    name_material(&mut answer, &key, recipient);
    call.release(&mut answer, &secret, recipient)?;
    Ok(answer)
}

pub(super) fn re_encrypt(call: &mut Call<'_>, body: &Value) -> ApiResult<Value> {
    let request: ReEncrypt = members(body)?;
    symmetric(request.source_encryption_algorithm.as_deref())?;
    symmetric(request.destination_encryption_algorithm.as_deref())?;
    no_grants(&request.grant_tokens)?;
    let blob = ciphertext_blob(&request.ciphertext_blob)?;
    let (source, source_arn) = key_of(call, &blob, request.source_key_id.as_deref())?;
    let (destination, arn) = call.key(&request.destination_key_id)?;
    let (from, to) = (
        &request.source_encryption_context,
        &request.destination_encryption_context,
    );
    call.allowed_with("ReEncryptFrom", &source, &source_arn, from, None)?;
    call.allowed_with("ReEncryptTo", &destination, &arn, to, None)?;
    source.must_be_enabled(&source_arn)?;
    destination.must_be_enabled(&arn)?;
    stop_if_dry(request.dry_run)?;
    let secret = ciphertext::open(&blob, &source.material()?, from)
        .map_err(|_| ApiError::invalid_ciphertext())?;
    Ok(json!({
        "CiphertextBlob": base64(&seal(&destination, to, &secret)?),
        "SourceKeyId": source_arn,
        "KeyId": arn,
        "SourceEncryptionAlgorithm": "SYMMETRIC_DEFAULT",
        "DestinationEncryptionAlgorithm": "SYMMETRIC_DEFAULT",
    }))
}

pub(super) fn generate_data_key(call: &mut Call<'_>, body: &Value) -> ApiResult<Value> {
    let request: GenerateDataKey = members(body)?;
    let document = document(request.recipient.as_ref())?;
    let recipient = call.verified(document.as_ref())?;
    let recipient = recipient.as_ref();
    let (mut answer, secret) = new_data_key(call, &request, "GenerateDataKey", recipient)?;
    call.release(&mut answer, &secret, recipient)?;
    Ok(answer)
}

pub(super) fn generate_data_key_without_plaintext(
    call: &mut Call<'_>,
    body: &Value,
) -> ApiResult<Value> {
    let request: GenerateDataKey = members(body)?;
    if request.recipient.is_some() {
        let message = "GenerateDataKeyWithoutPlaintext has no member Recipient";
        return Err(ApiError::validation(message));
    }
    let action = "GenerateDataKeyWithoutPlaintext";
    new_data_key(call, &request, action, None).map(|(answer, _)| answer)
}

fn new_data_key(
    call: &mut Call<'_>,
    request: &GenerateDataKey,
    action: &str,
    recipient: Option<&Recipient<'_>>,
) -> ApiResult<(Value, Vec<u8>)> {
    no_grants(&request.grant_tokens)?;
    let length = request.length()?;
    let (key, arn) = call.key(&request.key_id)?;
    let context = &request.encryption_context;
    call.allowed_with(action, &key, &arn, context, recipient)?;
    call.note(recipient);
    key.must_be_enabled(&arn)?;
    stop_if_dry(request.dry_run)?;
    let secret = random_bytes(length)?;
    let mut answer = json!({
        "CiphertextBlob": base64(&seal(&key, context, &secret)?),
        "KeyId": arn,
    });
    name_material(&mut answer, &key, recipient);
    Ok((answer, secret))
}

pub(super) fn generate_random(call: &mut Call<'_>, body: &Value) -> ApiResult<Value> {
    let request: GenerateRandom = members(body)?;
    let length = request.number_of_bytes.unwrap_or_default();
    let length = in_range("numberOfBytes", length, 1, 1024)?;
    let document = document(request.recipient.as_ref())?;
    let recipient = call.verified(document.as_ref())?;
    call.allowed_without_key("GenerateRandom", recipient.as_ref())?;
    call.note(recipient.as_ref());
    let mut answer = json!({});
    call.release(&mut answer, &random_bytes(length)?, recipient.as_ref())?;
    Ok(answer)
}

/// The key a blob was made under, which `KeyId` has to name if it is given.
fn key_of(call: &mut Call<'_>, blob: &[u8], named: Option<&str>) -> ApiResult<(Key, String)> {
    let id = ciphertext::key_id(blob).map_err(|_| ApiError::invalid_ciphertext())?;
    if let Some(name) = named {
        let (key, arn) = call.key(name)?;
        if key.id == id {
            return Ok((key, arn));
        }
        return Err(ApiError::new(
            "IncorrectKeyException",
            "The key ID in the request does not identify a CMK that can perform this operation.",
        ));
    }
    let key = call.kms.store.by_id(id, call.now).ok_or_else(|| {
        let message = "The ciphertext refers to a customer master key that does not exist, does not exist in this region, or you are not allowed to access.";
        ApiError::new("AccessDeniedException", message)
    })?;
    let arn = call.kms.store.arn(id);
    call.resources.push(arn.clone());
    Ok((key, arn))
}

fn seal(key: &Key, context: &EncryptionContext, secret: &[u8]) -> ApiResult<Vec<u8>> {
    ciphertext::seal(&key.id, &key.material()?, context, secret).map_err(ApiError::internal)
}

/// AWS leaves the material's id out of an answer to a recipient.
fn name_material(answer: &mut Value, key: &Key, recipient: Option<&Recipient<'_>>) {
    if let (None, Some(object)) = (recipient, answer.as_object_mut()) {
        object.insert("KeyMaterialId".to_owned(), json!(key.material_id()));
    }
}

fn random_bytes(length: usize) -> ApiResult<Vec<u8>> {
    let mut bytes = vec![0; length];
    fill(&mut bytes).map_err(|_| ApiError::internal("no random bytes from the system"))?;
    Ok(bytes)
}

fn stop_if_dry(dry_run: bool) -> ApiResult<()> {
    if dry_run {
        let message = "The request would have succeeded, but the DryRun option is set.";
        return Err(ApiError::new("DryRunOperationException", message));
    }
    Ok(())
}
