//! Reasons about Azure: identities, Key Vault, attestation.

/// As [`super::hint`] looks them up.
pub const HINTS: &[(&str, &str)] = &[
    (
        "azure-answer-other-key",
        "another key answered than was asked: treat the way to the vault as attacked",
    ),
    (
        "azure-ak-certificate",
        "Azure writes the certificate soon after the machine is made, and renews it; wait some minutes, or stop and start \
         the machine",
    ),
    (
        "azure-attestation-not-allowed",
        "the trusted side's own configuration lists the attestation services it asks ([azure.release] attestation_services)",
    ),
    (
        "azure-attestation-refused",
        "the attestation service does not accept this machine's evidence: its message says which part",
    ),
    (
        "azure-attestation-rejected",
        "the vault could not check the attestation token: does the release policy's `authority` name the attestation \
         service as its tokens do, and can the vault reach it?",
    ),
    (
        "azure-bad-parameter",
        "the blob is damaged, or was sealed with another version of the key; take it from a backup",
    ),
    (
        "azure-ciphertext-invalid",
        "the blob is damaged, or was sealed under another key; take it from a backup",
    ),
    (
        "azure-debug",
        "no key is used on a machine that can be debugged: turn debugging off, or find out who turned it on",
    ),
    (
        "azure-evidence",
        "on a confidential VM the agent must reach the metadata service (169.254.169.254), or amd_certification names \
         another place",
    ),
    (
        "azure-firewall",
        "the vault's firewall does not let this machine in: add its subnet or a private endpoint (az keyvault network-rule)",
    ),
    (
        "azure-key-disabled",
        "its owner has disabled this version of the key: that is how keys are revoked. Ask before it is enabled again",
    ),
    (
        "azure-key-not-allowed",
        "the trusted side's own configuration lists the keys it uses ([azure] allowed_keys)",
    ),
    (
        "azure-key-not-found",
        "is the id right, and the key not deleted (az keyvault key list-deleted)?",
    ),
    (
        "azure-key-state",
        "`az keyvault key show` and `list-deleted` show what state the key is in",
    ),
    (
        "azure-key-type",
        "make an RSA key: az keyvault key create --kty RSA-HSM (docs/azure.md)",
    ),
    (
        "azure-machine-kind",
        "a Trusted Launch VM is only taken with [azure.release] allow_trusted_launch = true (docs/azure.md says what that \
         gives up)",
    ),
    (
        "azure-no-vtpm",
        "the lock azure-release is for confidential VMs and Trusted Launch VMs of Azure; elsewhere use azure-unwrap and tpm",
    ),
    (
        "azure-pcrs-changed",
        "something extended a PCR of the boot while the machine ran; restart it",
    ),
    (
        "azure-permission",
        "the identity lacks the role: Key Vault Crypto Service Encryption User to unwrap, Crypto Service Release User to \
         release; a new assignment takes minutes to work",
    ),
    (
        "azure-policy-mismatch",
        "the machine is not what the key's release policy names: compare with `nodeseal policy azure diff`",
    ),
    (
        "azure-release-answer",
        "the vault's answer is not what was asked for: treat the way to the vault as attacked",
    ),
    (
        "azure-release-recipient",
        "the vault encrypted the key for another machine or boot: a token or an answer was replayed",
    ),
    (
        "azure-release-replayed",
        "an answer to another request came: treat the way to the vault as attacked",
    ),
    (
        "azure-release-signer",
        "another vault, or none, signed the answer: [azure.release] signer_roots and signer_names say who may",
    ),
    (
        "azure-release-refused",
        "the code AKV.SKR.* says what is wrong with the key: is it exportable, with a release policy (docs/azure.md)?",
    ),
    (
        "azure-secure-boot",
        "the machine was started without Secure Boot: turn it on and restart, or find out who turned it off",
    ),
    (
        "azure-throttled",
        "a vault takes 10 releases in 10 s: the agent asked until [trusted] patience was over; start again, or spread \
         the nodes over more vaults",
    ),
    (
        "azure-timeout",
        "try again; is the way from this machine to the vault slow, or filtered?",
    ),
    (
        "azure-token-missing",
        "the agent had no access token; the warning above says why ([[azure]] in the configuration)",
    ),
    (
        "azure-token-other-boot",
        "a token of an earlier boot or of another machine was replayed: treat the way to the attestation service as attacked",
    ),
    (
        "azure-token-other-machine",
        "[azure.release] vm_id names another machine than this one",
    ),
    (
        "azure-token-refused",
        "it was renewed once already: is the vault in the identity's tenant, and the clock right?",
    ),
    (
        "azure-unavailable",
        "try again; a second [[way]] to a key in another vault rides out an outage",
    ),
    (
        "azure-unreachable",
        "does the host's name resolve, and may this machine connect to port 443? [egress] addresses names a private endpoint",
    ),
];
