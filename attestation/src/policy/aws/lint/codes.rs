//! The codes of findings, with their weight and what to do. docs/policy.md has the same table.

use crate::policy::codes::{Severity, codes};

codes! {
    /// An account as a whole is allowed.
    AccountRoot, "account-root", Bypass,
        "Name the roles or users; with the account, any IAM policy in it can allow the same";
    /// An Allow of secret answers without attestation.
    UnattestedUse, "unattested-use", Bypass,
        "Ask for kms:RecipientAttestation:PCR0 (or NitroTPMPCR4 and NitroTPMPCR12) in the statement";
    /// An Allow by pattern.
    WildcardAction, "wildcard-action", Bypass,
        "List the actions: kms:Decrypt and kms:GenerateDataKey for the runtime, management apart";
    /// An Allow by NotAction.
    NotAction, "not-action", Bypass,
        "List the actions under Action; NotAction allows all that are not listed, new ones too";
    /// An Allow of ReEncryptFrom.
    ReEncrypt, "re-encrypt", Bypass,
        "Remove it and deny kms:ReEncrypt*: it moves data under another key without attestation";
    /// An Allow of CreateGrant.
    CreateGrant, "create-grant", Bypass,
        "Remove it and deny kms:CreateGrant: grants cannot ask for attestation";
    /// An Allow of PutKeyPolicy to those who use the key, or to many.
    PutKeyPolicy, "put-key-policy", Bypass,
        "Give it to one administrator role that no running software can take on";
    /// An Allow of ReplicateKey to those who use the key, or to many.
    ReplicateKey, "replicate-key", Bypass,
        "Remove it: a replica holds the same key under a policy that the caller writes";
    /// NotPrincipal with Allow.
    NotPrincipal, "not-principal", Bypass,
        "Name under Principal who is meant; NotPrincipal allows everyone else";
    /// Everyone is allowed.
    OpenPrincipal, "open-principal", Bypass,
        "Name the role under Principal, or ask for aws:PrincipalArn";
    /// A measurement is asked for only if it exists.
    IfExists, "if-exists", Bypass,
        "Use the operator without IfExists: a request without a document fits";
    /// A measurement is asked for by ForAllValues.
    ForAllValues, "for-all-values", Bypass,
        "Use the operator without ForAllValues: a request without a document fits";
    /// A measurement is asked for by a negated operator.
    NegatedMeasurement, "negated-measurement", Bypass,
        "Use StringEqualsIgnoreCase: in an Allow a negated operator fits a request without a document";
    /// A measurement is asked to be absent.
    NullMeasurement, "null-measurement", Bypass,
        "Use StringEqualsIgnoreCase with the value; this allows just the requests without a document";
    /// A measurement is asked for by a pattern.
    WildcardMeasurement, "wildcard-measurement", Bypass,
        "Use StringEqualsIgnoreCase with the whole value";
    /// A measurement is asked for by a variable.
    VariableMeasurement, "variable-measurement", Bypass,
        "Write the value out; a variable can be the very key it is compared with";
    /// Only the parent's role or instance is asked for.
    ParentOnly, "parent-only", Bypass,
        "Ask for PCR0 too: enclaves in debug mode keep PCR3 and PCR4";
    /// The image of the enclave is not asked for.
    ImageNotPinned, "image-not-pinned", Bypass,
        "Ask for PCR0, or for PCR8 if every image of the signer may run";
    /// A zero measurement is allowed.
    ZeroMeasurement, "zero-measurement", Bypass,
        "Take the value of an enclave that does not run in debug mode";
    /// What a NitroTPM instance booted is not asked for.
    BootNotPinned, "boot-not-pinned", Bypass,
        "Ask for NitroTPMPCR4 and NitroTPMPCR12, or with Secure Boot for NitroTPMPCR7 and NitroTPMPCR12";
    /// A value that every NitroTPM has.
    NitrotpmConstant, "nitrotpm-constant", Bypass,
        "Ask for NitroTPMPCR4 and NitroTPMPCR12 with the values of nitro-tpm-pcr-compute";
    /// PCR7 as without Secure Boot.
    SecureBootOff, "secure-boot-off", Bypass,
        "Turn on Secure Boot with keys of your own, or leave PCR7 out and ask for NitroTPMPCR4";
    /// PCR12 is not asked for.
    NoPcr12, "no-pcr12", Bypass,
        "Ask for NitroTPMPCR12 (48 zero bytes): without it any kernel command line can be appended";
    /// A statement without a principal.
    MissingPrincipal, "missing-principal", Broken,
        "Name the role under Principal; KMS refuses the policy as it is";
    /// A principal with a wildcard inside.
    WildcardPrincipal, "wildcard-principal", Broken,
        "Write the ARN out: principals take no wildcards, only conditions on aws:PrincipalArn do";
    /// A value that no PCR can have.
    ImpossibleValue, "impossible-value", Broken,
        "Take the 96 hexadecimal digits of the SHA-384 measurement";
    /// A value in upper case, compared case by case.
    CaseSensitiveValue, "case-sensitive-value", Broken,
        "Use StringEqualsIgnoreCase, or lower case, in which KMS has the values";
    /// Enclave and NitroTPM in one statement.
    MixedForms, "mixed-forms", Broken,
        "Write a statement each: a document is of an enclave or of a NitroTPM";
    /// Conditions that exclude each other.
    Contradiction, "contradiction", Broken,
        "Write a statement for each set of values";
    /// A name that KMS does not know.
    UnknownMeasurement, "unknown-measurement", Broken,
        "Use ImageSha384, PCR0 to PCR31 or NitroTPMPCR0 to NitroTPMPCR23";
    /// An operator that fits no measurement.
    WrongOperator, "wrong-operator", Broken,
        "Use StringEqualsIgnoreCase: measurements are strings";
    /// Actions that carry no document under a measurement.
    UnattestableAction, "unattestable-action", Broken,
        "Move it to a statement of its own: it carries no attestation document, so it never matches here";
    /// A service in between under a measurement.
    ViaService, "via-service", Broken,
        "Remove kms:ViaService: attested calls come from the trusted side itself";
    /// Another resource than the key.
    ResourceNotStar, "resource-not-star", Notice,
        "Write \"Resource\": \"*\"";
    /// An administrator who can change the policy.
    PolicyWriter, "policy-writer", Notice,
        "Keep that role for people, ask for a second factor, and watch for PutKeyPolicy in CloudTrail";
    /// Every image of a signer may run.
    SignerOnly, "signer-only", Notice,
        "Ask for PCR4 too if older images of the same signer must not open keys";
    /// PCR1 of a NitroTPM.
    UnstablePcr1, "unstable-pcr1", Notice,
        "Leave NitroTPMPCR1 out: it differs between instances";
    /// No encryption context.
    NoEncryptionContext, "no-encryption-context", Notice,
        "Ask for kms:EncryptionContext:KEY with the node's value";
    /// No explicit Deny.
    NoDeny, "no-deny", Notice,
        "Deny the attestable actions by StringNotEqualsIgnoreCase, as nodeseal writes it";
    /// Nobody may change the policy.
    Unmanageable, "unmanageable", Notice,
        "Allow kms:PutKeyPolicy to an administrator role, if that is not meant";
}
