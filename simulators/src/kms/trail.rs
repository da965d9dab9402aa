//! The trail: one JSON line per attempt, in the shape of a CloudTrail record (user guide, "CloudTrail record contents";
//! KMS developer guide, "Logging AWS KMS API calls" and "Monitoring Nitro enclaves").

use serde_json::{Map, Value, json};

use super::error::ApiError;
use crate::credentials::Credential;
use crate::text::uuid;
use crate::time::Timestamp;

/// Members that never appear in a record.
const SECRET_OR_LONG: [&str; 4] = [
    "Plaintext",
    "CiphertextBlob",
    "Recipient",
    "CiphertextForRecipient",
];

/// One attempt.
pub(super) struct Attempt<'a> {
    pub(super) time: Timestamp,
    pub(super) region: &'a str,
    pub(super) account: &'a str,
    pub(super) operation: &'a str,
    pub(super) request_id: &'a str,
    pub(super) source_address: &'a str,
    pub(super) user_agent: Option<String>,
    /// Who the signature claims; not verified where the call was refused for its signature.
    pub(super) access_key_id: Option<&'a str>,
    pub(super) caller: Option<&'a Credential>,
    pub(super) body: &'a Value,
    pub(super) result: Result<&'a Value, &'a ApiError>,
    pub(super) resources: &'a [String],
    pub(super) recipient: Option<&'a Value>,
}

/// The record of an attempt.
pub(super) fn record(attempt: &Attempt<'_>) -> Value {
    let read_only = super::operations::read_only(attempt.operation);
    let answer = attempt.result.ok().filter(|_| !read_only);
    let resources: Vec<Value> = attempt
        .resources
        .iter()
        .map(|arn| json!({"accountId": attempt.account, "type": "AWS::KMS::Key", "ARN": arn}))
        .collect();
    let mut record = json!({
        "eventVersion": "1.11",
        "userIdentity": identity(attempt),
        "eventTime": attempt.time.to_string(),
        "eventSource": "kms.amazonaws.com",
        "eventName": attempt.operation,
        "awsRegion": attempt.region,
        "sourceIPAddress": attempt.source_address,
        "userAgent": attempt.user_agent,
        "requestParameters": parameters(attempt.body),
        "responseElements": answer.map_or(Value::Null, parameters),
        "requestID": attempt.request_id,
        "eventID": uuid().unwrap_or_default(),
        "readOnly": read_only,
        "resources": resources,
        "eventType": "AwsApiCall",
        "managementEvent": true,
        "recipientAccountId": attempt.account,
        "eventCategory": "Management",
    });
    let Some(object) = record.as_object_mut() else {
        return record;
    };
    if let Err(error) = attempt.result {
        // CloudTrail writes this one without its ending.
        let code = match error.code.as_str() {
            "AccessDeniedException" => "AccessDenied",
            other => other,
        };
        object.insert("errorCode".to_owned(), json!(code));
        object.insert("errorMessage".to_owned(), json!(error.message));
    }
    if let Some(recipient) = attempt.recipient {
        let data = json!({ "recipient": recipient });
        object.insert("additionalEventData".to_owned(), data);
    }
    record
}

fn identity(attempt: &Attempt<'_>) -> Value {
    let Some(caller) = attempt.caller else {
        return json!({"type": "Unknown", "accessKeyId": attempt.access_key_id});
    };
    let arn = &caller.principal_arn;
    let kind = match arn.rsplit(':').next().unwrap_or_default() {
        "root" => "Root",
        name if name.starts_with("assumed-role/") => "AssumedRole",
        _ => "IAMUser",
    };
    json!({
        "type": kind,
        "arn": arn,
        "accountId": caller.account(),
        "accessKeyId": caller.access_key_id,
    })
}

/// Members as CloudTrail writes them: names in lower camel case, nothing secret, null if none.
fn parameters(members: &Value) -> Value {
    let Some(object) = members.as_object().filter(|object| !object.is_empty()) else {
        return Value::Null;
    };
    let shown = object
        .iter()
        .filter(|(name, _)| !SECRET_OR_LONG.contains(&name.as_str()));
    let renamed = shown.map(|(name, value)| {
        let mut letters = name.chars();
        let first = letters.next().map(|letter| letter.to_ascii_lowercase());
        (
            first.into_iter().chain(letters).collect::<String>(),
            value.clone(),
        )
    });
    Value::Object(renamed.collect::<Map<String, Value>>())
}
