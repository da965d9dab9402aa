//! CreateAlias, ListAliases.

use serde_json::{Value, json};

use super::super::call::Call;
use super::super::error::{ApiError, ApiResult};
use super::super::request::{CreateAlias, Listing, members};
use super::page;

pub(super) fn create_alias(call: &mut Call<'_>, body: &Value) -> ApiResult<Value> {
    let request: CreateAlias = members(body)?;
    let name = &request.alias_name;
    let well_formed = name.strip_prefix("alias/").is_some_and(|rest| {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"/_-".contains(&b);
        !rest.is_empty() && name.len() <= 256 && rest.bytes().all(allowed)
    });
    if !well_formed || name.starts_with("alias/aws/") {
        let message =
            format!("{name} is not a name an alias may have: alias/ and letters, digits, / _ -");
        return Err(ApiError::new("InvalidAliasNameException", message));
    }
    let (key, arn) = call.key(&request.target_key_id)?;
    call.allowed("CreateAlias", &key, &arn)?;
    key.must_not_be_pending(&arn)?;
    call.kms.store.put_alias(name, &key.id)?;
    Ok(json!({}))
}

pub(super) fn list_aliases(call: &mut Call<'_>, body: &Value) -> ApiResult<Value> {
    let request: Listing = members(body)?;
    call.allowed_without_key("ListAliases", None)?;
    let wanted = match &request.key_id {
        Some(name) => Some(call.key(name)?.0.id.clone()),
        None => None,
    };
    let store = &call.kms.store;
    let items = store.aliases().into_iter();
    let items = items.filter(|(_, id)| wanted.as_ref().is_none_or(|wanted| wanted == id));
    let items = items.map(|(name, id)| {
        let arn = store.alias_arn(&name);
        let value = json!({"AliasName": name, "AliasArn": arn, "TargetKeyId": id});
        (name, value)
    });
    page(
        "Aliases",
        items.collect(),
        request.limit,
        request.marker.as_deref(),
    )
}
