//! Nothing stays behind in the TPM, however often it is used.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Signer, enrol, locks, open, open_with, refused, same, seal};
use nodeseal_harness::{Handles, Swtpm};
use nodeseal_tpm::enrolment::Keep;

const PCRS: [u8; 3] = [7, 11, 12];
/// Opens in all; every tenth of them fails.
const OPENS: u32 = 10_000;
const COUNT_EVERY: u32 = 500;

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.unwrap().trim().trim_end_matches(" kB");
    kib.parse().unwrap()
}

#[tokio::test]
async fn ten_thousand_opens_leave_no_handle_and_no_session_in_the_tpm() {
    let swtpm = Swtpm::new().unwrap();
    let record = enrol(&swtpm.tcti(), Keep::Persistent);
    let signer = Signer::new();
    let plain = locks(&swtpm.tcti(), &record, None, &PCRS).await.unwrap();
    let signed = locks(&swtpm.tcti(), &record, Some(&signer), &PCRS)
        .await
        .unwrap();
    let made = seal(&plain).await.unwrap();
    let under_signer = seal(&signed).await.unwrap();
    let values: Vec<Vec<u8>> = PCRS
        .iter()
        .map(|pcr| swtpm.read_pcr(*pcr).unwrap().to_vec())
        .collect();
    let approved = [signer.approve(&PCRS, &values)];
    let not_approved = [signer.approve(&PCRS, &[vec![1; 32], vec![1; 32], vec![1; 32]])];
    let persistent = swtpm.count_handles(Handles::Persistent).unwrap();
    let mut resident = 0;
    for nth in 0..OPENS {
        match nth % 10 {
            0 => {
                let result = open_with(&signed, &under_signer.lock, &not_approved).await;
                assert_eq!(refused(result).0, "tpm-policy-not-approved");
            }
            1 => {
                let opened = open_with(&signed, &under_signer.lock, &approved)
                    .await
                    .unwrap();
                assert!(same(&opened.secret, &under_signer.secret));
            }
            _ => drop(open(&plain, &made.lock).await.unwrap()),
        }
        if nth % COUNT_EVERY == COUNT_EVERY - 1 {
            assert_eq!(swtpm.count_handles(Handles::Transient).unwrap(), 0);
            assert_eq!(swtpm.count_handles(Handles::LoadedSessions).unwrap(), 0);
            assert_eq!(swtpm.count_handles(Handles::SavedSessions).unwrap(), 0);
            if resident == 0 {
                resident = resident_kib();
            }
        }
    }
    assert_eq!(
        swtpm.count_handles(Handles::Persistent).unwrap(),
        persistent
    );
    // Nor does this process grow: a leak of 2 KiB per open would be 19 MiB.
    let grown = resident_kib().saturating_sub(resident);
    assert!(
        grown < 4096,
        "{grown} KiB more than after {COUNT_EVERY} opens"
    );
}
