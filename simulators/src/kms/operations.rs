//! The operations, by the name in `x-amz-target`.

mod aliases;
mod cryptographic;
mod lifecycle;
mod policies;

use serde_json::{Value, json};

use super::call::Call;
use super::error::{ApiError, ApiResult};

type Operation = fn(&mut Call<'_>, &Value) -> ApiResult<Value>;

/// Every operation there is: name, whether it changes nothing, and what does it.
const OPERATIONS: [(&str, bool, Operation); 19] = [
    ("CancelKeyDeletion", false, lifecycle::cancel_key_deletion),
    ("CreateAlias", false, aliases::create_alias),
    ("CreateKey", false, lifecycle::create_key),
    ("Decrypt", true, cryptographic::decrypt),
    ("DescribeKey", true, lifecycle::describe_key),
    ("DisableKey", false, lifecycle::disable_key),
    ("EnableKey", false, lifecycle::enable_key),
    ("Encrypt", true, cryptographic::encrypt),
    ("GenerateDataKey", true, cryptographic::generate_data_key),
    (
        "GenerateDataKeyWithoutPlaintext",
        true,
        cryptographic::generate_data_key_without_plaintext,
    ),
    ("GenerateRandom", true, cryptographic::generate_random),
    ("GetKeyPolicy", true, policies::get_key_policy),
    ("ListAliases", true, aliases::list_aliases),
    ("ListKeyPolicies", true, policies::list_key_policies),
    ("ListKeys", true, lifecycle::list_keys),
    ("ListResourceTags", true, lifecycle::list_resource_tags),
    ("PutKeyPolicy", false, policies::put_key_policy),
    ("ReEncrypt", false, cryptographic::re_encrypt),
    (
        "ScheduleKeyDeletion",
        false,
        lifecycle::schedule_key_deletion,
    ),
];

/// Whether `name` is an operation that changes nothing, as the trail says.
pub(super) fn read_only(name: &str) -> bool {
    let found = OPERATIONS
        .iter()
        .find(|(operation, _, _)| *operation == name);
    found.is_none_or(|(_, read_only, _)| *read_only)
}

/// Carries out `name`.
pub(super) fn perform(call: &mut Call<'_>, name: &str, body: &Value) -> ApiResult<Value> {
    let found = OPERATIONS
        .iter()
        .find(|(operation, _, _)| *operation == name);
    let (_, _, operation) = found.ok_or_else(|| ApiError::unsupported(&format!("kms:{name}")))?;
    operation(call, body)
}

/// One page of `items` after `marker`, as the listing operations answer.
fn page(
    name: &str,
    items: Vec<(String, Value)>,
    limit: Option<usize>,
    marker: Option<&str>,
) -> ApiResult<Value> {
    let limit = super::request::in_range("limit", limit.unwrap_or(100), 1, 1000)?;
    let after = items
        .iter()
        .filter(|(id, _)| marker.is_none_or(|marker| id.as_str() > marker));
    let after: Vec<&(String, Value)> = after.take(limit + 1).collect();
    let truncated = after.len() > limit;
    let shown = after.get(..limit).unwrap_or(&after);
    let values: Vec<&Value> = shown.iter().map(|(_, value)| value).collect();
    let mut answer = json!({ name: values, "Truncated": truncated });
    if let (true, Some((id, _)), Some(object)) = (truncated, shown.last(), answer.as_object_mut()) {
        object.insert("NextMarker".to_owned(), json!(id));
    }
    Ok(answer)
}
