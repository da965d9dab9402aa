//! What goes over the line to the TPM, and what happens when somebody sits on it.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{Signer, enrol, locks, open, open_with, refused, same, seal};
use nodeseal_core::keyring::Keyring;
use nodeseal_harness::{Handles, Swtpm};
use nodeseal_sim::interposer::{Action, Interposer, Rule, code};
use nodeseal_tpm::enrolment::Keep;
use nodeseal_wire::lock::LockSpec;
use nodeseal_wire::message::{Context, WaySpec};

const PCRS: [u8; 3] = [7, 11, 12];
/// Most TPM commands that opening a lock may take.
const MAX_COMMANDS: usize = 10;

fn values(swtpm: &Swtpm) -> Vec<Vec<u8>> {
    PCRS.iter()
        .map(|pcr| swtpm.read_pcr(*pcr).unwrap().to_vec())
        .collect()
}

#[tokio::test]
async fn opening_takes_at_most_ten_commands_whatever_the_policy() {
    let swtpm = Swtpm::new().unwrap();
    let record = enrol(&swtpm.tcti(), Keep::Persistent);
    let line = Interposer::start(swtpm.port()).unwrap();
    let signer = Signer::new();
    let count = || -> usize { line.take_record().counts().values().sum() };

    let fixed = locks(&line.tcti(), &record, None, &PCRS).await.unwrap();
    let lock = seal(&fixed).await.unwrap().lock;
    let sealing = count();
    for _ in 0..2 {
        open(&fixed, &lock).await.unwrap();
        // ReadPublic, StartAuthSession, PolicyPCR, Load, Unseal, FlushContext.
        assert_eq!(count(), 6);
    }
    assert!(sealing <= 2 * MAX_COMMANDS, "{sealing} with two starts");

    let approved = locks(&line.tcti(), &record, Some(&signer), &PCRS)
        .await
        .unwrap();
    let lock = seal(&approved).await.unwrap().lock;
    let now = signer.approve(&PCRS, &values(&swtpm));
    let old = signer.approve(&PCRS, &[vec![1; 32], vec![1; 32], vec![1; 32]]);
    count();
    for policies in [vec![now.clone()], vec![old, now]] {
        open_with(&approved, &lock, &policies).await.unwrap();
        assert_eq!(count(), MAX_COMMANDS, "{} policies", policies.len());
    }
}

#[tokio::test]
async fn with_a_key_made_anew_opening_takes_one_command_more() {
    let swtpm = Swtpm::new().unwrap();
    let record = enrol(&swtpm.tcti(), Keep::Transient);
    let line = Interposer::start(swtpm.port()).unwrap();
    let signer = Signer::new();
    let now = signer.approve(&PCRS, &values(&swtpm));
    for (signer, policies, expected) in [(None, vec![], 7), (Some(&signer), vec![now], 11)] {
        let locks = locks(&line.tcti(), &record, signer, &PCRS).await.unwrap();
        let lock = seal(&locks).await.unwrap().lock;
        drop(line.take_record());
        open_with(&locks, &lock, &policies).await.unwrap();
        let count: usize = line.take_record().counts().values().sum();
        assert_eq!(count, expected);
    }
}

#[tokio::test]
async fn whoever_listens_hears_pcr_values_but_neither_a_locks_secret_nor_a_data_key() {
    let swtpm = Swtpm::new().unwrap();
    let line = Interposer::start(swtpm.port()).unwrap();
    let record = enrol(&line.tcti(), Keep::Persistent);
    let locks = locks(&line.tcti(), &record, None, &PCRS).await.unwrap();
    let made = seal(&locks).await.unwrap();
    open(&locks, &made.lock).await.unwrap();
    let heard = line.take_record();
    assert!(heard.bytes() > 1000);
    assert!(heard.contains(&values(&swtpm)[0]), "PCR values are heard");
    assert!(!heard.contains(made.secret.expose()));

    let keyring = Keyring::new(vec![Arc::new(locks)]);
    let way = WaySpec {
        label: "tpm".to_owned(),
        locks: vec![LockSpec::Tpm],
    };
    let request = Context::default();
    let made = keyring.make("node", &[way], &request).await.unwrap();
    let data_key = made.data_key.key.expose();
    let opened = keyring.open("node", &made.data_key.id, &made.ways, &request);
    assert_eq!(opened.await.unwrap().0.key.expose(), data_key);
    let heard = line.take_record();
    assert!(heard.bytes() > 1000);
    assert!(!heard.contains(data_key));
}

#[tokio::test]
async fn a_key_of_the_attackers_own_is_refused_before_anything_is_sent_to_it() {
    let swtpm = Swtpm::new().unwrap();
    let record = enrol(&swtpm.tcti(), Keep::Persistent);
    let line = Interposer::start(swtpm.port()).unwrap();
    let locks = locks(&line.tcti(), &record, None, &PCRS).await.unwrap();
    let made = seal(&locks).await.unwrap();
    let (read, make) = (code("ReadPublic").unwrap(), code("CreatePrimary").unwrap());
    for (rules, expected) in [
        (vec![read], "tpm-srk-swapped"),
        (vec![read, make], "tpm-different"),
    ] {
        line.set_rules(rules.iter().map(|code| Rule::every(*code, Action::SwapKey)));
        let _ = line.take_record();
        assert_eq!(refused(open(&locks, &made.lock).await).0, expected);
        assert_eq!(seal(&locks).await.err().unwrap().code, expected);
        let heard = line.take_record();
        for sent in ["StartAuthSession", "Create", "Load", "Unseal"] {
            assert_eq!(heard.count(code(sent).unwrap()), 0, "{sent}");
        }
    }
    line.set_rules([]);
    assert!(same(
        &open(&locks, &made.lock).await.unwrap().secret,
        &made.secret
    ));
}

#[tokio::test]
async fn an_answer_that_was_altered_or_replayed_is_refused_as_such() {
    let swtpm = Swtpm::new().unwrap();
    let record = enrol(&swtpm.tcti(), Keep::Persistent);
    let line = Interposer::start(swtpm.port()).unwrap();
    let locks = locks(&line.tcti(), &record, None, &PCRS).await.unwrap();
    let made = seal(&locks).await.unwrap();
    open(&locks, &made.lock).await.unwrap();
    let unseal = code("Unseal").unwrap();
    // Bit 200 is in the encrypted secret: header 10 bytes, parameter size 4, length 2.
    for action in [Action::Replay, Action::FlipAnswer(200)] {
        line.set_rules([Rule::every(unseal, action.clone())]);
        let (code, message) = refused(open(&locks, &made.lock).await);
        assert_eq!(code, "tpm-forged-answer", "{action:?}: {message}");
    }
    // The values new blobs are sealed to are authenticated too: header, size, counter, selection, count, length.
    let pcr_read = code("PCR_Read").unwrap();
    line.set_rules([Rule::every(pcr_read, Action::FlipAnswer(8 * 50))]);
    assert_eq!(seal(&locks).await.err().unwrap().code, "tpm-forged-answer");
    line.set_rules([]);
    open(&locks, &made.lock).await.unwrap();
    assert_eq!(swtpm.count_handles(Handles::Transient).unwrap(), 0);
    assert_eq!(swtpm.count_handles(Handles::LoadedSessions).unwrap(), 0);
}

#[tokio::test]
async fn a_line_that_is_cut_is_tried_again_then_named_and_leaves_nothing_in_the_tpm() {
    let swtpm = Swtpm::new().unwrap();
    let record = enrol(&swtpm.tcti(), Keep::Persistent);
    let line = Interposer::start(swtpm.port()).unwrap();
    let locks = locks(&line.tcti(), &record, None, &PCRS).await.unwrap();
    let made = seal(&locks).await.unwrap();
    for command in ["StartAuthSession", "Load", "Unseal"] {
        let command = code(command).unwrap();
        line.set_rules([Rule::nth(command, 0, Action::DropAnswer)]);
        let opened = open(&locks, &made.lock).await.unwrap();
        assert!(same(&opened.secret, &made.secret));
        line.set_rules([Rule::every(command, Action::DropAnswer)]);
        let (code, message) = refused(open(&locks, &made.lock).await);
        assert_eq!(code, "tpm-unreachable", "{message}");
    }
    line.set_rules([]);
    open(&locks, &made.lock).await.unwrap();
    assert_eq!(swtpm.count_handles(Handles::Transient).unwrap(), 0);
    assert_eq!(swtpm.count_handles(Handles::LoadedSessions).unwrap(), 0);
}

#[tokio::test]
async fn a_busy_tpm_is_asked_again_and_named_if_it_stays_busy() {
    let swtpm = Swtpm::new().unwrap();
    let record = enrol(&swtpm.tcti(), Keep::Persistent);
    let line = Interposer::start(swtpm.port()).unwrap();
    let locks = locks(&line.tcti(), &record, None, &PCRS).await.unwrap();
    let made = seal(&locks).await.unwrap();
    let answer = |code: u16| {
        let [high, low] = code.to_be_bytes();
        Action::Answer(vec![0x80, 1, 0, 0, 0, 10, 0, 0, high, low])
    };
    let load = code("Load").unwrap();
    for (code, expected) in [
        (0x922, "tpm-busy"),
        (0x90A, "tpm-busy"),
        (0x908, "tpm-busy"),
        (0x921, "tpm-lockout"),
        (0x101, "tpm-failure-mode"),
        (0x100, "tpm-not-started"),
        (0x902, "tpm-no-slot"),
    ] {
        line.set_rules([Rule::every(load, answer(code))]);
        let (name, message) = refused(open(&locks, &made.lock).await);
        assert_eq!(name, expected, "{message}");
    }
    for once in [0x902, 0x128, 0x910, 0x922] {
        line.set_rules([Rule::nth(load, 0, answer(once))]);
        open(&locks, &made.lock).await.unwrap();
    }
    assert_eq!(swtpm.count_handles(Handles::Transient).unwrap(), 0);
}

#[tokio::test]
async fn a_tpm_that_does_not_answer_is_named_and_used_again_when_it_does() {
    let swtpm = Swtpm::new().unwrap();
    let record = enrol(&swtpm.tcti(), Keep::Persistent);
    let line = Interposer::start(swtpm.port()).unwrap();
    let owner = common::owner(&line.tcti(), Duration::from_millis(500));
    let name = |owner: nodeseal_tpm::owner::TpmOwner| async move {
        owner.run(|tpm| tpm.name_at(0x8100_0001)).await
    };
    assert_eq!(name(owner.clone()).await.unwrap(), Some(record.srk.name));
    let late = Action::Delay(Duration::from_secs(3));
    line.set_rules([Rule::nth(code("ReadPublic").unwrap(), 0, late)]);
    let error = name(owner.clone()).await.unwrap_err();
    assert_eq!(error.code(), "tpm-silent", "{error}");
    // Another thread has taken over; the interposer serves one connection at a time, so it may be silent for a while.
    nodeseal_harness::wait_for("the TPM to answer again", Duration::from_secs(60), || {
        let answered = futures_block(name(owner.clone()));
        Ok(answered.ok())
    })
    .unwrap();
}

/// Runs a future to its end on a runtime of its own thread.
fn futures_block<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> T {
    std::thread::spawn(|| {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(future)
    })
    .join()
    .unwrap()
}

#[tokio::test]
async fn a_tpm_that_goes_away_is_named_and_used_again_when_it_comes_back() {
    let mut swtpm = Swtpm::new().unwrap();
    let record = enrol(&swtpm.tcti(), Keep::Persistent);
    let locks = locks(&swtpm.tcti(), &record, None, &PCRS).await.unwrap();
    let made = seal(&locks).await.unwrap();
    for _ in 0..2 {
        swtpm.kill();
        let (code, message) = refused(open(&locks, &made.lock).await);
        assert_eq!(code, "tpm-unreachable", "{message}");
        assert!(message.contains(&swtpm.tcti()), "{message}");
        swtpm.start().unwrap();
        let opened = open(&locks, &made.lock).await.unwrap();
        assert!(same(&opened.secret, &made.secret));
    }
}

#[tokio::test]
async fn a_lockout_brought_about_by_others_keeps_nothing_from_being_sealed_and_opened() {
    let swtpm = Swtpm::new().unwrap();
    let record = enrol(&swtpm.tcti(), Keep::Persistent);
    let locks = locks(&swtpm.tcti(), &record, None, &PCRS).await.unwrap();
    let made = seal(&locks).await.unwrap();
    // TPM2_DictionaryAttackParameters by the lockout hierarchy: no attempt is left from now on (part 3, 25.3).
    let none_left = [
        &[0x80, 2, 0, 0, 0, 39, 0, 0, 1, 0x3A, 0x40, 0, 0, 0x0A][..],
        &[0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0],
        &[0, 0, 0, 0, 0, 0, 3, 0xE8, 0, 0, 3, 0xE8],
    ];
    // TPM2_GetCapability of TPM_PT_PERMANENT (part 2, 8.6).
    let permanent = [
        0x80, 1, 0, 0, 0, 22, 0, 0, 1, 0x7A, 0, 0, 0, 6, 0, 0, 2, 0, 0, 0, 0, 1,
    ];
    let ask = |command: &[u8]| {
        let answer = nodeseal_harness::tpm_commands::transact(swtpm.port(), command).unwrap();
        assert_eq!(answer[6..10], [0; 4]);
        answer
    };
    ask(&none_left.concat());
    let in_lockout = ask(&permanent)[25] & 2;
    assert_eq!(in_lockout, 2, "bit 9 of the attributes");
    let opened = open(&locks, &made.lock).await.unwrap();
    assert!(same(&opened.secret, &made.secret));
    seal(&locks).await.unwrap();
}

#[tokio::test]
async fn objects_another_program_left_behind_are_flushed_when_the_tpm_is_full() {
    let swtpm = Swtpm::new().unwrap();
    let record = enrol(&swtpm.tcti(), Keep::Persistent);
    let locks = locks(&swtpm.tcti(), &record, None, &PCRS).await.unwrap();
    let made = seal(&locks).await.unwrap();
    // Three unsalted sessions that nobody ends fill this TPM.
    let null = [0x40, 0, 0, 7];
    let mut start = vec![0x80, 1, 0, 0, 0, 43, 0, 0, 1, 0x76];
    start.extend([null, null].concat());
    start.extend([0, 16]);
    start.extend([5; 16]);
    start.extend([0, 0, 0, 0, 0x10, 0, 0x0B]);
    for _ in 0..3 {
        let answer = nodeseal_harness::tpm_commands::transact(swtpm.port(), &start).unwrap();
        assert_eq!(answer[6..10], [0; 4]);
    }
    let opened = open(&locks, &made.lock).await.unwrap();
    assert!(same(&opened.secret, &made.secret));
    assert_eq!(swtpm.count_handles(Handles::LoadedSessions).unwrap(), 0);
}
