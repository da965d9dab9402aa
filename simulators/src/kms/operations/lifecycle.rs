//! CreateKey, DescribeKey, ListKeys, EnableKey, DisableKey, ScheduleKeyDeletion, CancelKeyDeletion, ListResourceTags.

use serde_json::{Value, json};

use super::super::call::Call;
use super::super::error::{ApiError, ApiResult};
use super::super::key::{Key, KeyState, seconds};
use super::super::request::{
    CreateKey, DescribeKey, Listing, OneKey, ScheduleKeyDeletion, in_range, members, no_grants,
};
use super::{page, policies};

pub(super) fn create_key(call: &mut Call<'_>, body: &Value) -> ApiResult<Value> {
    let request: CreateKey = members(body)?;
    call.allowed_without_key("CreateKey", None)?;
    let only = |what: &str, found: Option<&str>, known: &str| match found {
        Some(other) if other != known => Err(ApiError::unsupported(&format!("{what} {other}"))),
        _ => Ok(()),
    };
    only(
        "keys of usage",
        request.key_usage.as_deref(),
        "ENCRYPT_DECRYPT",
    )?;
    only(
        "keys of spec",
        request.key_spec.as_deref(),
        "SYMMETRIC_DEFAULT",
    )?;
    let older = request.customer_master_key_spec.as_deref();
    only("keys of spec", older, "SYMMETRIC_DEFAULT")?;
    only("keys of origin", request.origin.as_deref(), "AWS_KMS")?;
    if request.multi_region {
        return Err(ApiError::unsupported("multi-Region keys"));
    }
    let account = &call.kms.account;
    let policy = request.policy.unwrap_or_else(|| default_policy(account));
    let key = Key::generate(request.description, policy, request.tags, call.now);
    let key = key.map_err(ApiError::internal)?;
    let arn = call.kms.store.arn(&key.id);
    let bypass = request.bypass_policy_lockout_safety_check;
    policies::acceptable(call, &arn, &key.policy, bypass)?;
    call.resources.push(arn.clone());
    let metadata = key.metadata(account, &arn);
    call.kms.store.put(key)?;
    Ok(json!({"KeyMetadata": metadata}))
}

/// What a key gets when none is given (developer guide, "Default key policy").
fn default_policy(account: &str) -> String {
    let policy = json!({
        "Version": "2012-10-17",
        "Id": "key-default-1",
        "Statement": [{
            "Sid": "Enable IAM User Permissions",
            "Effect": "Allow",
            "Principal": {"AWS": format!("arn:aws:iam::{account}:root")},
            "Action": "kms:*",
            "Resource": "*",
        }],
    });
    format!("{policy:#}")
}

pub(super) fn describe_key(call: &mut Call<'_>, body: &Value) -> ApiResult<Value> {
    let request: DescribeKey = members(body)?;
    no_grants(&request.grant_tokens)?;
    let (key, arn) = call.key(&request.key_id)?;
    call.allowed("DescribeKey", &key, &arn)?;
    Ok(json!({"KeyMetadata": key.metadata(&call.kms.account, &arn)}))
}

pub(super) fn list_keys(call: &mut Call<'_>, body: &Value) -> ApiResult<Value> {
    let request: Listing = members(body)?;
    call.allowed_without_key("ListKeys", None)?;
    let store = &call.kms.store;
    let items = store.ids(call.now).into_iter().map(|id| {
        let value = json!({"KeyId": id, "KeyArn": store.arn(&id)});
        (id, value)
    });
    page(
        "Keys",
        items.collect(),
        request.limit,
        request.marker.as_deref(),
    )
}

pub(super) fn list_resource_tags(call: &mut Call<'_>, body: &Value) -> ApiResult<Value> {
    let request: Listing = members(body)?;
    let (key, arn) = call.key(request.key_id.as_deref().unwrap_or_default())?;
    call.allowed("ListResourceTags", &key, &arn)?;
    Ok(json!({"Tags": key.tags, "Truncated": false}))
}

pub(super) fn enable_key(call: &mut Call<'_>, body: &Value) -> ApiResult<Value> {
    set_state(call, body, "EnableKey", KeyState::Enabled)
}

pub(super) fn disable_key(call: &mut Call<'_>, body: &Value) -> ApiResult<Value> {
    set_state(call, body, "DisableKey", KeyState::Disabled)
}

fn set_state(call: &mut Call<'_>, body: &Value, action: &str, state: KeyState) -> ApiResult<Value> {
    let request: OneKey = members(body)?;
    let (key, arn) = call.key(&request.key_id)?;
    call.allowed(action, &key, &arn)?;
    key.must_not_be_pending(&arn)?;
    change(call, &key, state)?;
    Ok(json!({}))
}

pub(super) fn schedule_key_deletion(call: &mut Call<'_>, body: &Value) -> ApiResult<Value> {
    let request: ScheduleKeyDeletion = members(body)?;
    let (key, arn) = call.key(&request.key_id)?;
    call.allowed("ScheduleKeyDeletion", &key, &arn)?;
    key.must_not_be_pending(&arn)?;
    let days = request.pending_window_in_days.unwrap_or(30);
    let days = in_range("pendingWindowInDays", days, 7, 30)?;
    let at = call.now.plus_seconds(days as u64 * 24 * 3600).0;
    change(call, &key, KeyState::PendingDeletion(at))?;
    Ok(json!({
        "KeyId": arn,
        "DeletionDate": seconds(at),
        "KeyState": "PendingDeletion",
        "PendingWindowInDays": days,
    }))
}

/// The key is disabled afterwards, as with AWS.
pub(super) fn cancel_key_deletion(call: &mut Call<'_>, body: &Value) -> ApiResult<Value> {
    let request: OneKey = members(body)?;
    let (key, arn) = call.key(&request.key_id)?;
    call.allowed("CancelKeyDeletion", &key, &arn)?;
    if !matches!(key.state, KeyState::PendingDeletion(_)) {
        let message = format!("{arn} is not pending deletion.");
        return Err(ApiError::new("KMSInvalidStateException", message));
    }
    change(call, &key, KeyState::Disabled)?;
    Ok(json!({"KeyId": arn}))
}

fn change(call: &Call<'_>, key: &Key, state: KeyState) -> ApiResult<()> {
    let mut changed = key.clone();
    changed.state = state;
    call.kms.store.put(changed)
}
