//! The codes of findings, with their weight and what to do. docs/policy.md has the same table.

use crate::policy::codes::{Severity, codes};

codes! {
    /// Tokens of a service that is not Azure's are taken.
    ForeignAuthority, "foreign-authority", Bypass,
        "Name your region's attestation service: whoever runs another one writes tokens as they like";
    /// A rule without conditions.
    EmptyRule, "empty-rule", Bypass,
        "Write the conditions, as nodeseal policy azure show does";
    /// Machines of every kind fit.
    AnyKind, "any-kind", Bypass,
        "Ask for x-ms-isolation-tee.x-ms-compliance-status \"azure-compliant-cvm\", or for x-ms-attestation-type \"azurevm\"";
    /// The service's verdict on a confidential VM is not asked for.
    NotCompliant, "not-compliant", Bypass,
        "Ask for x-ms-isolation-tee.x-ms-compliance-status \"azure-compliant-cvm\"";
    /// Every machine of a kind fits.
    AnyMachine, "any-machine", Bypass,
        "Ask for the machine's id: x-ms-isolation-tee.x-ms-runtime.vm-configuration.vmUniqueId, or x-ms-azurevm-vmid";
    /// A confidential VM whose memory the host can read fits.
    DebugAllowed, "debug-allowed", Bypass,
        "Ask for x-ms-isolation-tee.x-ms-sevsnpvm-is-debuggable \"false\"";
    /// A machine whose kernel or boot can be debugged fits.
    BootDebugAllowed, "boot-debug-allowed", Bypass,
        "Ask for the five claims about debugging, as nodeseal policy azure show writes them";
    /// A machine started without Secure Boot fits.
    NoSecureBoot, "no-secure-boot", Bypass,
        "Ask for secureboot \"true\"";
    /// A claim at a path where a guest's token has none.
    WrongClaimPath, "wrong-claim-path", Broken,
        "Put x-ms-isolation-tee. before it: without, it fits tokens asked for past the TPM only";
    /// Conditions that exclude each other.
    Contradiction, "contradiction", Broken,
        "Write an entry for each set of values";
    /// A choice of nothing.
    EmptyChoice, "empty-choice", Broken,
        "Write the conditions, or remove the entry";
    /// A comparison with a boolean.
    BooleanValue, "boolean-value", Broken,
        "Write \"true\" or \"false\" as a string";
    /// The form of a preview.
    LegacyForm, "legacy-form", Broken,
        "Write {\"claim\": NAME, \"equals\": VALUE}";
    /// An operator other than `equals`.
    UnconfirmedOperator, "unconfirmed-operator", Broken,
        "Use equals: that vaults know another operator is not confirmed";
    /// Another version of the grammar.
    UnknownVersion, "unknown-version", Broken,
        "Write \"version\": \"1.0.0\"";
    /// More ways than can be looked at.
    TooManyWays, "too-many-ways", Broken,
        "Write fewer alternatives within one entry: this one was not looked at";
    /// An issuer spelled otherwise than in tokens.
    AuthoritySpelling, "authority-spelling", Notice,
        "Spell it as the token does: lower case, no slash at the end";
    /// The policy can be replaced.
    NotImmutable, "not-immutable", Notice,
        "Make the policy immutable (az keyvault key create --immutable true), or keep update rights from whoever may release";
    /// Trusted Launch VMs fit.
    TrustedLaunch, "trusted-launch", Notice,
        "Use a confidential VM if the host must not read keys; that vaults release to Trusted Launch is not confirmed";
    /// A claim that Azure changes.
    UnstableClaim, "unstable-claim", Notice,
        "Leave it out: updates of the platform change it, and the key cannot be opened after one";
}
