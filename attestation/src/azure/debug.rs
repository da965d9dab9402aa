//! The claims that say whether a machine can be looked into, and what they must be.

/// Claims of every AzureGuest token (Azure Attestation, "sample tokens" of the guest attestation client) about
/// debugging: what they must be where nobody shall look in.
pub(crate) const BOOT: [(&str, bool); 5] = [
    ("x-ms-azurevm-bootdebug-enabled", false),
    ("x-ms-azurevm-debuggersdisabled", true),
    ("x-ms-azurevm-hypervisordebug-enabled", false),
    ("x-ms-azurevm-kerneldebug-enabled", false),
    ("x-ms-azurevm-testsigning-enabled", false),
];

/// Whether the host may read the memory of an SEV-SNP machine (bit DEBUG of its guest policy).
pub(crate) const SNP: &str = "x-ms-isolation-tee.x-ms-sevsnpvm-is-debuggable";

/// Whether Secure Boot was on.
pub(crate) const SECURE_BOOT: &str = "secureboot";
