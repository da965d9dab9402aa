//! Reasons about AWS: KMS, credentials, the way out, attestation.

/// As [`super::hint`] looks them up.
pub const HINTS: &[(&str, &str)] = &[
    (
        "attestation",
        "the checks above say which one; do not trust what made the document until it holds",
    ),
    (
        "aws-credentials-missing",
        "give the agent credentials: an instance role, a profile, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    ),
    (
        "egress-missing",
        "the agent could not open its way out; the warning above says why ([egress] in the configuration)",
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
        "kms-answer-plaintext",
        "an answer to an attested request must have no plaintext: something that is not AWS KMS answers",
    ),
    (
        "kms-answer-other-key",
        "another KMS key answered than was asked: treat the way to KMS as attacked",
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
        "kms-credentials",
        "KMS does not know these credentials: `aws sts get-caller-identity` shows whose they are",
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
        "tls-certificate",
        "something that is not KMS answers, or the trusted side's trust anchors or clock are wrong",
    ),
];
