//! Whether a caller may do something: the key policy, and the caller's IAM policies where they count.

use nodeseal_attestation::nitro::Claims;
use nodeseal_attestation::policy::aws::{Caller, Decision, Miss, Policy, Request, evaluate, parse};
use serde_json::json;

use super::call::Call;
use super::ciphertext::EncryptionContext;
use super::error::{ApiError, ApiResult};
use crate::credentials::Credential;

/// What is asked.
pub(super) struct Question<'a> {
    /// Action, without `kms:`.
    pub(super) action: &'a str,
    /// ARN of the key and its policy; none for actions that are about no key.
    pub(super) key: Option<(&'a str, &'a str)>,
    pub(super) context: &'a EncryptionContext,
    pub(super) recipient: Option<&'a Claims<'a>>,
}

/// Refuses what is not allowed, with AWS's text; why exactly goes to the log.
pub(super) fn decide(call: &Call<'_>, question: &Question<'_>) -> ApiResult<()> {
    let caller = caller(call.caller)?;
    let arn = caller.arn().to_owned();
    let (resource, policy) = match question.key {
        Some((arn, policy)) => (arn, policy.to_owned()),
        // Without a key there is no key policy: the account has the say, that is, IAM policies have.
        None => ("*", account_decides(&call.kms.account)),
    };
    let policy = parse(&policy).map_err(ApiError::internal)?;
    let mut request = request(call, question, caller, resource);
    for policy in identity_policies(call.caller)? {
        request = request.identity_policy(policy);
    }
    let decision = evaluate(&policy, &request);
    let action = format!("kms:{}", question.action);
    tracing::info!(caller = arn, action, resource, %decision, "decided");
    let reason = match &decision {
        Decision::Allowed { .. } => return Ok(()),
        Decision::Denied { by } if by.ends_with("(IAM)") => {
            "with an explicit deny in an identity-based policy".to_owned()
        }
        Decision::Denied { .. } => "with an explicit deny in a resource-based policy".to_owned(),
        Decision::NotAllowed { nearest } => {
            let by_account = nearest.iter().any(|near| near.miss == Miss::IdentityPolicy);
            let kind = if by_account { "identity" } else { "resource" };
            format!("because no {kind}-based policy allows the {action} action")
        }
    };
    Err(ApiError::new(
        "AccessDeniedException",
        format!(
            "User: {arn} is not authorized to perform: {action} on resource: {resource} {reason}"
        ),
    ))
}

/// Refuses what is no key policy.
pub(super) fn well_formed(policy: &str) -> ApiResult<()> {
    parse(policy)
        .map(drop)
        .map_err(|error| ApiError::new("MalformedPolicyDocumentException", error.to_string()))
}

fn request(call: &Call<'_>, question: &Question<'_>, caller: Caller, resource: &str) -> Request {
    let action = question.action;
    let mut request = Request::new(caller, format!("kms:{action}"), resource)
        .context_key("aws:SourceIp", call.source_address)
        .context_key("aws:SecureTransport", "true")
        .context_key("aws:CurrentTime", call.now.to_string())
        .context_key("aws:EpochTime", call.now.seconds().to_string())
        .context_key("aws:RequestedRegion", &call.kms.region)
        .encryption_context(question.context);
    if question.key.is_some() {
        request = request
            .context_key("kms:KeySpec", "SYMMETRIC_DEFAULT")
            .context_key("kms:KeyUsage", "ENCRYPT_DECRYPT")
            .context_key("kms:KeyOrigin", "AWS_KMS");
    }
    let uses_the_key = ["Encrypt", "Decrypt", "ReEncrypt", "GenerateDataKey"];
    if uses_the_key.iter().any(|name| action.starts_with(name)) {
        request = request.context_key("kms:EncryptionAlgorithm", "SYMMETRIC_DEFAULT");
    }
    match question.recipient {
        Some(recipient) => request.dangerously_attested(recipient),
        None => request,
    }
}

fn caller(credential: &Credential) -> ApiResult<Caller> {
    let arn = &credential.principal_arn;
    let account = credential.account();
    let caller = match arn.splitn(6, ':').last().unwrap_or_default() {
        "root" => Caller::account_root(account),
        name => match name
            .strip_prefix("assumed-role/")
            .and_then(|name| name.split_once('/'))
        {
            Some((role, session)) => {
                Caller::role(&format!("arn:aws:iam::{account}:role/{role}"), session)
            }
            None => Caller::user(arn),
        },
    };
    caller.map_err(|error| {
        ApiError::internal(format!("credential {}: {error}", credential.access_key_id))
    })
}

fn identity_policies(credential: &Credential) -> ApiResult<Vec<Policy>> {
    let parsed = credential
        .policies
        .iter()
        .map(|policy| parse(&policy.to_string()));
    parsed.collect::<Result<_, _>>().map_err(|error| {
        let id = &credential.access_key_id;
        ApiError::internal(format!("credential {id}: an IAM policy: {error}"))
    })
}

fn account_decides(account: &str) -> String {
    let policy = json!({
        "Version": "2012-10-17",
        "Statement": [{
            "Effect": "Allow",
            "Principal": {"AWS": format!("arn:aws:iam::{account}:root")},
            "Action": "kms:*",
            "Resource": "*",
        }],
    });
    policy.to_string()
}
