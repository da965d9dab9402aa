//! What to try, for each reason that has a known cure. Codes are listed in docs/cli.md.

mod aws;
mod azure;

/// The advice for a reason.
#[must_use]
pub fn hint(code: &str) -> Option<&'static str> {
    HINTS
        .iter()
        .chain(aws::HINTS)
        .chain(azure::HINTS)
        .find(|(known, _)| *known == code)
        .map(|(_, hint)| *hint)
}

const HINTS: &[(&str, &str)] = &[
    // The agent itself.
    (
        "audit-log",
        "keep the log and its head as they are, find out who changed them, and move both away to begin a new log",
    ),
    (
        "audit-log-locked",
        "another process holds the log: is one of ours stopped (SIGSTOP), or a backup reading it?",
    ),
    (
        "audit-log-write",
        "no key is handed over unless that is recorded: is [audit] file writable, and the disk full?",
    ),
    (
        "private-files",
        "`deliver = \"memfd\"` needs no mounts and no privileges",
    ),
    (
        "changed",
        "look at what changed the file, then run the command again",
    ),
    (
        "exists",
        "choose another name or place, or move that file away; `seal --skip-existing` passes over keys that are sealed already",
    ),
    (
        "hard-links",
        "seal without --shred, and remove each of the file's names by hand",
    ),
    (
        "no-configuration",
        "`nodeseal init` writes one; --config FILE names one elsewhere",
    ),
    (
        "no-such-key",
        "a key is named as in the configuration, as NAME.sealed in its `keys` directory, or by the path of its blob",
    ),
    ("not-a-key", "--type opaque seals a file as it is"),
    (
        "not-a-regular-file",
        "name the file itself, not a link to it",
    ),
    (
        "protocol-version",
        "install the same release of nodeseal on both sides",
    ),
    ("release-sign-unsupported", "seal it with --release deliver"),
    (
        "signed-policy",
        "`nodeseal-tpm` writes signed policies; docs/tpm.md tells how",
    ),
    (
        "too-large",
        "only keys are sealed, not databases; encrypt large data under a sealed key",
    ),
    (
        "trusted-side-access",
        "the trusted side's configuration names the users that may connect, and the socket's mode",
    ),
    (
        "trusted-side-gone",
        "its own log tells why (journalctl -u nodeseal-tpm)",
    ),
    (
        "trusted-side-timeout",
        "is the machine overloaded? [trusted] timeout in the configuration allows it longer",
    ),
    (
        "trusted-side-unreachable",
        "is it running (systemctl status nodeseal-tpm, or nodeseal-enclave), and is [trusted] address where it listens?",
    ),
    (
        "unusable-name",
        "give it a name with --name, or rename the file",
    ),
    (
        "wrong-type",
        "correct `type` of the [[key]] in the configuration, or look for the right blob",
    ),
    // The blob.
    (
        "blob-authentication",
        "the blob was changed or is damaged; take it from a backup",
    ),
    (
        "blob-malformed",
        "the file is no sealed blob, or is damaged; take it from a backup",
    ),
    ("not-a-blob", "the file is no sealed blob"),
    (
        "public-key-mismatch",
        "the blob was made by a broken or hostile program; do not use the key",
    ),
    (
        "wrong-name",
        "blobs have changed places; `nodeseal inspect` shows whose each is",
    ),
    (
        "tpm-different",
        "this is not the TPM that was enrolled; enrol again (`nodeseal-tpm enroll`) if it was replaced on purpose",
    ),
    (
        "tpm-cleared",
        "the TPM was cleared: keys sealed before cannot be opened by it; docs/tpm.md tells how to recover",
    ),
    (
        "tpm-srk-swapped",
        "another storage root key stands where the enrolled one was: treat the machine as attacked",
    ),
    (
        "tpm-srk-mismatch",
        "another storage root key stands where the enrolled one was: docs/tpm.md tells what to look at",
    ),
    (
        "tpm-enrolment-unknown",
        "the enrolment record is damaged or newer; enrol again (`nodeseal-tpm enroll`)",
    ),
    (
        "wrong-node",
        "the blob is another node's; `nodeseal inspect` shows whose",
    ),
    // Locks.
    (
        "data-key-authentication",
        "the blob's locks were changed or are damaged; take it from a backup",
    ),
    (
        "lock-not-served",
        "this trusted side cannot open that kind of lock; use the one the key was sealed for",
    ),
    (
        "locked-memory",
        "raise LimitMEMLOCK= in the unit, or ulimit -l",
    ),
    ("no-way", "add a [[way]] to the configuration"),
    (
        "no-way-opened",
        "each way is told with its reason; one that opens is enough",
    ),
    // The TPM.
    ("tpm-busy", "try again"),
    (
        "tpm-failure-mode",
        "the TPM's self-test failed: restart the machine, then replace the TPM",
    ),
    (
        "tpm-forged-answer",
        "something between the processor and the TPM changes their talk: treat the machine as attacked",
    ),
    (
        "tpm-forged-command",
        "something between the processor and the TPM changes their talk: treat the machine as attacked",
    ),
    (
        "tpm-bad-answer",
        "something between the processor and the TPM changes their talk, or the TPM is broken",
    ),
    (
        "tpm-integrity",
        "the blob's TPM part is damaged, or the TPM was cleared since; docs/tpm.md tells how to recover",
    ),
    (
        "tpm-lockout",
        "wait until the TPM's lockout ends (tpm2_getcap properties-variable), or reset it with the lockout authorisation",
    ),
    (
        "tpm-no-bank",
        "choose a PCR bank the TPM has (tpm2_getcap pcrs) in the trusted side's configuration",
    ),
    (
        "tpm-no-slot",
        "another program leaves sessions or objects in the TPM; /dev/tpmrm0 keeps them apart",
    ),
    (
        "tpm-not-sealed-by-us",
        "the blob was made by a broken or hostile program; do not use the key",
    ),
    (
        "tpm-not-started",
        "the TPM was not started by the firmware (TPM2_Startup)",
    ),
    (
        "tpm-other",
        "the blob was sealed on another machine, or this one's TPM was cleared or replaced: docs/tpm.md tells how to recover",
    ),
    (
        "tpm-pcr-changed",
        "a PCR changed while the key was being opened; try again",
    ),
    (
        "tpm-pcr-mismatch",
        "the boot chain is not the one the key was sealed to. After an update meant to be, see docs/tpm.md; else treat the machine as changed",
    ),
    (
        "tpm-policy-not-approved",
        "sign a policy for these PCR values and put it into the `policies` directory: docs/tpm.md",
    ),
    (
        "tpm-policy-signature",
        "a file in the `policies` directory is not signed by the key the blob names",
    ),
    ("tpm-reset", "the TPM was restarted in between; try again"),
    ("tpm-silent", "is the TPM, or swtpm, still alive?"),
    ("tpm-stopped", "restart nodeseal-tpm"),
    (
        "tpm-unreachable",
        "is the TPM there, and is `tcti` in the trusted side's configuration right?",
    ),
];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_reason_has_one_hint_and_the_reference_lists_it() {
        let manual = include_str!("../docs/cli.md");
        let all = || HINTS.iter().chain(aws::HINTS).chain(azure::HINTS);
        for (index, (code, _)) in all().enumerate() {
            let again = all().skip(index + 1).any(|(later, _)| later == code);
            assert!(!again, "{code} is there twice");
            assert!(
                manual.contains(&format!("`{code}`")),
                "docs/cli.md lists `{code}`"
            );
        }
    }
    #[test]
    fn whatever_goes_wrong_with_kms_has_a_hint() {
        let faults = [
            include_str!("../enclave/core/src/aws/fault.rs"),
            include_str!("../enclave/core/src/tunnel/fault.rs"),
        ];
        let quoted = faults
            .iter()
            .flat_map(|text| text.split('"').skip(1).step_by(2));
        let codes = quoted.filter(|text| {
            [
                "kms-",
                "egress-",
                "tls-",
                "expired-",
                "name-",
                "connection-",
            ]
            .iter()
            .any(|start| text.starts_with(start))
        });
        let mut codes: Vec<_> = codes.collect();
        // A mistake of ours, for which there is nothing to try.
        codes.retain(|code| *code != "kms-client");
        assert!(codes.len() > 30, "the codes were not found: {codes:?}");
        for code in codes {
            assert!(hint(code).is_some(), "{code} has no hint");
        }
    }
}
