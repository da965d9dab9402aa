//! The trail: one JSON line per attempt, in the shape of a CloudTrail record (user guide, "CloudTrail record contents";
//! KMS developer guide, "Logging AWS KMS API calls" and "Monitoring Nitro enclaves").

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde_json::{Map, Value, json};

use super::error::ApiError;
use crate::credentials::Credential;
use crate::files::FileError;
use crate::text::uuid;
use crate::time::Timestamp;

/// Members that never appear in a record.
const SECRET_OR_LONG: [&str; 4] = [
    "Plaintext",
    "CiphertextBlob",
    "Recipient",
    "CiphertextForRecipient",
];

/// The file records are appended to.
pub(super) struct Trail {
    path: PathBuf,
    file: Mutex<File>,
}

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

impl Trail {
    /// Appends to `path`.
    pub(super) fn at(path: &Path) -> Result<Self, FileError> {
        let mut options = OpenOptions::new();
        let file = options.create(true).append(true).mode(0o600).open(path);
        Ok(Self {
            path: path.to_owned(),
            file: Mutex::new(file.map_err(FileError::at(path))?),
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the record of `attempt`; a failing disk is told to the log, not to the caller.
    pub(super) fn write(&self, attempt: &Attempt<'_>) {
        let mut line = record(attempt).to_string();
        line.push('\n');
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = file.write_all(line.as_bytes()) {
            tracing::error!(path = %self.path.display(), %error, "the trail is incomplete");
        }
    }
}

fn record(attempt: &Attempt<'_>) -> Value {
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
