//! Reasons about AWS: KMS, credentials, the way out, attestation.

/// As [`super::hint`] looks them up.
pub const HINTS: &[(&str, &str)] = &[
    (
        "attestation",
        "the checks above say which one; do not trust what made the document until it holds",
    ),
    (
        "audit-differs",
        "ask whose the requests above are; pass the logs of all nodes that share the KMS key, and all of the trail",
    ),
    (
        "aws-credentials-missing",
        "give the agent credentials: an instance role, a profile, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    ),
    (
        "cloudtrail-file",
        "`aws cloudtrail lookup-events --lookup-attributes AttributeKey=ResourceName,AttributeValue=KEY-ARN` gives one",
    ),
    (
        "connection-refused",
        "nothing listens there: is the endpoint right ([egress] addresses), and does a firewall refuse?",
    ),
    (
        "egress-address",
        "agent and trusted side do not understand each other: install the same release on both sides",
    ),
    (
        "egress-missing",
        "the agent could not open its way out; the warning above says why ([egress] in the configuration)",
    ),
    (
        "egress-protocol",
        "something else than the agent's proxy listens there: set [egress] directory to one that is the agent's alone",
    ),
    (
        "egress-refused",
        "if the host is meant, add it to [egress] hosts; else ask why the trusted side wants to go there",
    ),
    (
        "egress-unreachable",
        "the trusted side must be able to reach the agent's socket: set [egress] directory to one both can see",
    ),
    (
        "expired-credentials",
        "they were renewed once already: is the source of the credentials (role, profile, process) still good, and the clock right?",
    ),
    (
        "kms-access-denied",
        "compare the key's policy with the image's measurements: `nodeseal policy aws diff`; CloudTrail has the request",
    ),
    (
        "kms-answer-malformed",
        "something between here and KMS changes answers, or is not KMS: what does [egress] addresses lead to?",
    ),
    (
        "kms-answer-no-recipient",
        "KMS did not look at the attestation document: is the endpoint one of AWS KMS?",
    ),
    (
        "kms-answer-other-key",
        "another KMS key answered than was asked: treat the way to KMS as attacked",
    ),
    (
        "kms-answer-plaintext",
        "an answer to an attested request must have no plaintext: something that is not AWS KMS answers",
    ),
    (
        "kms-answer-too-large",
        "KMS gives no such answer: what does [egress] addresses lead to?",
    ),
    (
        "kms-ciphertext-invalid",
        "the blob is damaged, or was sealed for another node; take it from a backup",
    ),
    (
        "kms-clock-skew",
        "correct the clock of the machine that signs the request (chronyc tracking)",
    ),
    (
        "kms-cms-decryption",
        "the answer was changed after KMS encrypted it: treat the way to KMS as attacked",
    ),
    (
        "kms-cms-malformed",
        "KMS gives no such answer: treat the way to KMS as attacked, or report it with the request id",
    ),
    (
        "kms-cms-recipient",
        "the answer is for another request: replayed, or mixed up. Treat the way to KMS as attacked",
    ),
    (
        "kms-connection",
        "try again; something between here and KMS ends connections",
    ),
    (
        "kms-credentials",
        "KMS does not know these credentials: `aws sts get-caller-identity` shows whose they are",
    ),
    (
        "kms-error",
        "look the code up in the KMS API reference; the request id finds the request in CloudTrail",
    ),
    (
        "kms-key-arn",
        "name the key by its ARN, arn:aws:kms:REGION:ACCOUNT:key/ID; aliases can be moved to other keys",
    ),
    (
        "kms-key-disabled",
        "its owner has disabled the key: that is how keys are revoked. Ask before it is enabled again",
    ),
    (
        "kms-key-not-allowed",
        "the trusted side's own configuration lists the KMS keys it uses; in an enclave image it is measured",
    ),
    (
        "kms-key-not-found",
        "is the ARN right, and the key in that region and account?",
    ),
    (
        "kms-key-state",
        "`aws kms describe-key` shows the key's state",
    ),
    (
        "kms-key-usage",
        "the key must be symmetric (SYMMETRIC_DEFAULT, ENCRYPT_DECRYPT)",
    ),
    (
        "kms-pending-deletion",
        "`aws kms cancel-key-deletion` brings it back until its day; after that nothing does",
    ),
    (
        "kms-throttled",
        "try again; `seal` many keys at once so that they share one data key and one request",
    ),
    (
        "kms-timeout",
        "try again; is the way from this machine to KMS slow, or filtered?",
    ),
    (
        "kms-unavailable",
        "try again; a second [[way]] to a key in another region rides out an outage",
    ),
    (
        "kms-unreachable",
        "does the host's name resolve, and may this machine connect to port 443? [egress] addresses names a private endpoint",
    ),
    (
        "kms-validation",
        "KMS does not take the request: it answers so when the attestation document does not hold, too",
    ),
    (
        "kms-wrong-key",
        "the blob names another KMS key than the one it was sealed to; take it from a backup",
    ),
    (
        "live-policy",
        "reading a key's policy needs kms:GetKeyPolicy and the ordinary AWS credentials",
    ),
    (
        "name-unresolved",
        "does this machine's resolver work (`getent hosts NAME`)? [egress] addresses can name an address instead",
    ),
    (
        "no-attestation",
        "open it in the enclave it was sealed for, or seal with attested = false beside a tpm lock",
    ),
    (
        "tls-certificate",
        "something that is not KMS answers, or the trusted side's trust anchors or clock are wrong",
    ),
    (
        "tls-failed",
        "something between here and KMS is not TLS, or cuts into it",
    ),
];
