//! GetKeyPolicy, PutKeyPolicy, ListKeyPolicies.

use serde_json::{Value, json};

use super::super::authorize;
use super::super::call::Call;
use super::super::error::{ApiError, ApiResult};
use super::super::request::{GetKeyPolicy, Listing, PutKeyPolicy, members};

/// Most bytes of a key policy.
const MAX_POLICY: usize = 32_768;

pub(super) fn get_key_policy(call: &mut Call<'_>, body: &Value) -> ApiResult<Value> {
    let request: GetKeyPolicy = members(body)?;
    let (key, arn) = call.key(&request.key_id)?;
    call.allowed("GetKeyPolicy", &key, &arn)?;
    only_default(request.policy_name.as_deref())?;
    Ok(json!({"Policy": key.policy, "PolicyName": "default"}))
}

pub(super) fn put_key_policy(call: &mut Call<'_>, body: &Value) -> ApiResult<Value> {
    let request: PutKeyPolicy = members(body)?;
    let (key, arn) = call.key(&request.key_id)?;
    call.allowed("PutKeyPolicy", &key, &arn)?;
    only_default(request.policy_name.as_deref())?;
    key.must_not_be_pending(&arn)?;
    acceptable(
        call,
        &arn,
        &request.policy,
        request.bypass_policy_lockout_safety_check,
    )?;
    let mut changed = key.clone();
    changed.policy = request.policy;
    call.kms.store.put(changed)?;
    Ok(json!({}))
}

pub(super) fn list_key_policies(call: &mut Call<'_>, body: &Value) -> ApiResult<Value> {
    let request: Listing = members(body)?;
    let (key, arn) = call.key(request.key_id.as_deref().unwrap_or_default())?;
    call.allowed("ListKeyPolicies", &key, &arn)?;
    Ok(json!({"PolicyNames": ["default"], "Truncated": false}))
}

/// Whether `policy` is one, and leaves the caller in control of the key.
pub(super) fn acceptable(
    call: &Call<'_>,
    arn: &str,
    policy: &str,
    bypass_lockout_check: bool,
) -> ApiResult<()> {
    if policy.len() > MAX_POLICY {
        let message = format!("The policy exceeds {MAX_POLICY} bytes.");
        return Err(ApiError::new("LimitExceededException", message));
    }
    authorize::well_formed(policy)?;
    if bypass_lockout_check {
        return Ok(());
    }
    call.would_keep_control(arn, policy)
}

fn only_default(name: Option<&str>) -> ApiResult<()> {
    match name {
        None | Some("default") => Ok(()),
        Some(other) => {
            let message = format!("No such policy exists: {other}");
            Err(ApiError::not_found(message))
        }
    }
}
