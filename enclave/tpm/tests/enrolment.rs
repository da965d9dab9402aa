//! The TPM is the one enrolled, or it is said what it is instead.
#![allow(clippy::unwrap_used)]

mod common;

use common::{enrol, locks, open, refused, same, seal};
use nodeseal_harness::tpm_commands::transact;
use nodeseal_harness::{Handles, Swtpm};
use nodeseal_tpm::enrolment::{Enrolment, Keep, Mismatch, enroll};
use nodeseal_tpm::error::TpmError;
use nodeseal_tpm::tpm2::Tpm2;

const PCRS: [u8; 2] = [7, 11];
const SRK: [u8; 4] = [0x81, 0, 0, 1];

async fn mismatch(swtpm: &Swtpm, record: &Enrolment) -> Mismatch {
    match locks(&swtpm.tcti(), record, None, &PCRS).await.err() {
        Some(TpmError::Enrolment(mismatch)) => mismatch,
        other => panic!("{other:?}"),
    }
}

/// TPM2_EvictControl of a persistent key by the owner with the empty password: it is gone.
fn evict(swtpm: &Swtpm) {
    let mut command = vec![0x80, 0x02, 0, 0, 0, 35, 0, 0, 1, 0x20, 0x40, 0, 0, 1];
    command.extend(SRK);
    command.extend([0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0]);
    command.extend(SRK);
    let answer = transact(swtpm.port(), &command).unwrap();
    assert_eq!(answer[6..10], [0; 4]);
}

/// Puts another primary key at the handle of the storage root key: the same template with a `unique` of its own.
fn swap(swtpm: &Swtpm) {
    evict(swtpm);
    // CreatePrimary in the owner hierarchy: empty sensitive, ECC P-256 storage key, x = 01, no outside info, no PCRs.
    let mut public = vec![
        0, 0x23, 0, 0x0B, 0, 3, 4, 0x72, 0, 0, 0, 6, 0, 0x80, 0, 0x43, 0, 0x10, 0, 3, 0, 0x10,
    ];
    public.extend([0, 1, 1, 0, 0]);
    let mut body = vec![0x40, 0, 0, 1, 0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0];
    body.extend([0, 4, 0, 0, 0, 0, 0, u8::try_from(public.len()).unwrap()]);
    body.extend(public);
    body.extend([0, 0, 0, 0, 0, 0]);
    let size = u32::try_from(body.len() + 10).unwrap().to_be_bytes();
    let command = [&[0x80, 0x02], &size[..], &[0, 0, 1, 0x31], &body].concat();
    let answer = transact(swtpm.port(), &command).unwrap();
    assert_eq!(answer[6..10], [0; 4]);
    let key = &answer[10..14];
    let mut command = vec![0x80, 0x02, 0, 0, 0, 35, 0, 0, 1, 0x20, 0x40, 0, 0, 1];
    command.extend(key);
    command.extend([0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0]);
    command.extend(SRK);
    let answer = transact(swtpm.port(), &command).unwrap();
    assert_eq!(answer[6..10], [0; 4]);
    let flush = [&[0x80, 1, 0, 0, 0, 14, 0, 0, 1, 0x65], key].concat();
    assert_eq!(transact(swtpm.port(), &flush).unwrap()[6..10], [0; 4]);
}

#[tokio::test]
async fn enrolling_keeps_the_key_at_the_first_free_handle_and_finds_it_there_again() {
    let swtpm = Swtpm::new().unwrap();
    let before = swtpm.count_handles(Handles::Persistent).unwrap();
    let first = enrol(&swtpm.tcti(), Keep::Persistent);
    assert_eq!(first.srk.handle, Some(0x8100_0001));
    assert_eq!(enrol(&swtpm.tcti(), Keep::Persistent), first);
    assert_eq!(
        swtpm.count_handles(Handles::Persistent).unwrap(),
        before + 1
    );
    assert_eq!(swtpm.count_handles(Handles::Transient).unwrap(), 0);
}

#[tokio::test]
async fn a_handle_taken_by_another_key_is_left_alone() {
    let swtpm = Swtpm::new().unwrap();
    enrol(&swtpm.tcti(), Keep::Persistent);
    swap(&swtpm);
    let record = enrol(&swtpm.tcti(), Keep::Persistent);
    assert_eq!(record.srk.handle, Some(0x8100_0002));
}

#[tokio::test]
async fn another_tpm_a_cleared_one_and_a_swapped_key_are_told_apart() {
    let swtpm = Swtpm::new().unwrap();
    let record = enrol(&swtpm.tcti(), Keep::Persistent);

    let other = Swtpm::distinct().unwrap();
    let found = mismatch(&other, &record).await;
    assert!(
        matches!(&found, Mismatch::DifferentTpm { pinned, .. } if *pinned == record.ek.name),
        "{found}"
    );

    swap(&swtpm);
    let found = mismatch(&swtpm, &record).await;
    assert!(
        matches!(&found, Mismatch::SwappedSrk { handle: 0x8100_0001, pinned, .. } if *pinned == record.srk.name),
        "{found}"
    );

    swtpm.clear().unwrap();
    let found = mismatch(&swtpm, &record).await;
    assert!(
        matches!(&found, Mismatch::Cleared { pinned, .. } if *pinned == record.srk.name),
        "{found}"
    );
}

#[tokio::test]
async fn a_key_swapped_while_the_process_runs_is_refused_at_the_next_use() {
    let swtpm = Swtpm::new().unwrap();
    let record = enrol(&swtpm.tcti(), Keep::Persistent);
    let locks = locks(&swtpm.tcti(), &record, None, &PCRS).await.unwrap();
    let made = seal(&locks).await.unwrap();
    swap(&swtpm);
    assert_eq!(refused(open(&locks, &made.lock).await).0, "tpm-srk-swapped");
    assert_eq!(seal(&locks).await.err().unwrap().code, "tpm-srk-swapped");
    swtpm.clear().unwrap();
    assert_eq!(refused(open(&locks, &made.lock).await).0, "tpm-cleared");
}

#[tokio::test]
async fn a_key_evicted_from_its_handle_is_made_anew() {
    let swtpm = Swtpm::new().unwrap();
    let record = enrol(&swtpm.tcti(), Keep::Persistent);
    let locks = locks(&swtpm.tcti(), &record, None, &PCRS).await.unwrap();
    let made = seal(&locks).await.unwrap();
    evict(&swtpm);
    let opened = open(&locks, &made.lock).await.unwrap();
    assert!(same(&opened.secret, &made.secret));
    assert_eq!(swtpm.count_handles(Handles::Transient).unwrap(), 0);
}

#[tokio::test]
async fn a_lock_of_another_tpm_is_refused_before_the_tpm_is_asked() {
    let (one, other) = (Swtpm::new().unwrap(), Swtpm::distinct().unwrap());
    let records = [&one, &other].map(|tpm| enrol(&tpm.tcti(), Keep::Persistent));
    let first = locks(&one.tcti(), &records[0], None, &PCRS).await.unwrap();
    let second = locks(&other.tcti(), &records[1], None, &PCRS)
        .await
        .unwrap();
    let made = seal(&first).await.unwrap();
    let (code, message) = refused(open(&second, &made.lock).await);
    assert_eq!(code, "tpm-other");
    assert!(
        message.contains(&records[0].srk.name.to_string()),
        "{message}"
    );
}

#[test]
fn a_record_of_a_newer_program_is_refused() {
    let swtpm = Swtpm::new().unwrap();
    let mut tpm = Tpm2::new(swtpm.tcti().parse().unwrap());
    let mut record = enroll(&mut tpm, Keep::Persistent, 0).unwrap();
    record.version = 2;
    let error = nodeseal_tpm::enrolment::verify(&mut tpm, &record).unwrap_err();
    assert_eq!(error.code(), "tpm-enrolment-unknown");
}
