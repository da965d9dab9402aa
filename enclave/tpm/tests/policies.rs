//! Policies in a real software TPM: PCR values fixed at sealing, PCR values approved by an offline signer.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Signer, enrol, locks, open, open_with, pcrs, refused, same, seal};
use nodeseal_harness::tpm_commands::transact;
use nodeseal_harness::{Handles, Swtpm};
use nodeseal_tpm::enrolment::Keep;
use nodeseal_tpm::policy::{policy_authorize, policy_pcr};
use nodeseal_tpm::structures::{Name, pcr_selection};
use nodeseal_wire::lock::{Lock, PcrBank};

const PCRS: [u8; 3] = [7, 11, 12];

fn values(swtpm: &Swtpm) -> Vec<Vec<u8>> {
    PCRS.iter()
        .map(|pcr| swtpm.read_pcr(*pcr).unwrap().to_vec())
        .collect()
}

fn nothing_left(swtpm: &Swtpm) {
    assert_eq!(swtpm.count_handles(Handles::Transient).unwrap(), 0);
    assert_eq!(swtpm.count_handles(Handles::LoadedSessions).unwrap(), 0);
}

#[tokio::test]
async fn a_lock_opens_in_the_pcr_state_it_was_sealed_in_and_in_no_other() {
    let swtpm = Swtpm::new().unwrap();
    let record = enrol(&swtpm.tcti(), Keep::Persistent);
    let locks = locks(&swtpm.tcti(), &record, None, &PCRS).await.unwrap();
    swtpm.extend_pcr(11).unwrap();
    let made = seal(&locks).await.unwrap();
    let opened = open(&locks, &made.lock).await.unwrap();
    assert!(same(&opened.secret, &made.secret));
    nothing_left(&swtpm);

    let sealed = policy_pcr(PcrBank::Sha256, &PCRS, &values(&swtpm));
    swtpm.extend_pcr(12).unwrap();
    let now = values(&swtpm);
    let current = policy_pcr(PcrBank::Sha256, &PCRS, &now);
    let (code, message) = refused(open(&locks, &made.lock).await);
    assert_eq!(code, "tpm-pcr-mismatch");
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    for told in [
        "sha256:7,11,12".to_owned(),
        format!("sealed to policy {}", hex(&sealed)),
        format!("the PCRs now give {}", hex(&current)),
        format!("PCR 12 is {}", hex(&now[2])),
    ] {
        assert!(message.contains(&told), "{told}: {message}");
    }
    // PCRs outside the policy do not matter.
    swtpm.reboot().unwrap();
    swtpm.extend_pcr(11).unwrap();
    swtpm.extend_pcr(10).unwrap();
    assert!(same(
        &open(&locks, &made.lock).await.unwrap().secret,
        &made.secret
    ));
    nothing_left(&swtpm);
}

#[tokio::test]
async fn an_offline_signature_makes_a_new_pcr_state_open_without_sealing_again() {
    let swtpm = Swtpm::new().unwrap();
    let record = enrol(&swtpm.tcti(), Keep::Persistent);
    let signer = Signer::new();
    let locks = locks(&swtpm.tcti(), &record, Some(&signer), &PCRS)
        .await
        .unwrap();
    let made = seal(&locks).await.unwrap();

    let (code, _) = refused(open(&locks, &made.lock).await);
    assert_eq!(code, "tpm-policy-not-approved", "no policy given");

    let first = signer.approve(&PCRS, &values(&swtpm));
    let opened = open_with(&locks, &made.lock, std::slice::from_ref(&first))
        .await
        .unwrap();
    assert!(same(&opened.secret, &made.secret));

    swtpm.extend_pcr(11).unwrap();
    let (code, message) =
        refused(open_with(&locks, &made.lock, std::slice::from_ref(&first)).await);
    assert_eq!(code, "tpm-policy-not-approved");
    assert!(
        message.contains("1 signed policies were given"),
        "{message}"
    );

    let second = signer.approve(&PCRS, &values(&swtpm));
    let both = [first, second];
    for _ in 0..2 {
        let opened = open_with(&locks, &made.lock, &both).await.unwrap();
        assert!(same(&opened.secret, &made.secret));
    }
    nothing_left(&swtpm);
}

#[tokio::test]
async fn a_policy_that_another_key_signed_or_for_another_purpose_is_refused() {
    let swtpm = Swtpm::new().unwrap();
    let record = enrol(&swtpm.tcti(), Keep::Persistent);
    let signer = Signer::new();
    let locks = locks(&swtpm.tcti(), &record, Some(&signer), &PCRS)
        .await
        .unwrap();
    let made = seal(&locks).await.unwrap();
    let digest = policy_pcr(PcrBank::Sha256, &PCRS, &values(&swtpm));
    for forged in [
        Signer::new().sign(&PCRS, digest, Signer::REFERENCE),
        signer.sign(&PCRS, digest, b"another purpose"),
    ] {
        let (code, _) = refused(open_with(&locks, &made.lock, &[forged]).await);
        assert_eq!(code, "tpm-policy-signature");
    }
}

#[tokio::test]
async fn a_key_made_from_its_template_for_each_use_opens_too() {
    let swtpm = Swtpm::new().unwrap();
    let record = enrol(&swtpm.tcti(), Keep::Transient);
    assert_eq!(record.srk.handle, None);
    let locks = locks(&swtpm.tcti(), &record, None, &PCRS).await.unwrap();
    let made = seal(&locks).await.unwrap();
    let opened = open(&locks, &made.lock).await.unwrap();
    assert!(same(&opened.secret, &made.secret));
    nothing_left(&swtpm);
}

#[tokio::test]
async fn an_altered_lock_is_refused_by_what_was_altered() {
    let swtpm = Swtpm::new().unwrap();
    let record = enrol(&swtpm.tcti(), Keep::Persistent);
    let locks = locks(&swtpm.tcti(), &record, None, &PCRS).await.unwrap();
    let Lock::Tpm(genuine) = seal(&locks).await.unwrap().lock else {
        panic!("not a tpm lock")
    };
    let mut wrong_key = genuine.clone();
    wrong_key.srk_name[9] ^= 1;
    let mut damaged = genuine.clone();
    *damaged.private.last_mut().unwrap() ^= 1;
    let mut longer = genuine.clone();
    longer.private.push(0);
    let mut with_auth = genuine.clone();
    with_auth.public[9] |= 0x40;
    let mut other_policy = genuine.clone();
    other_policy.public[12] ^= 1;
    let mut other_pcrs = genuine.clone();
    other_pcrs.pcrs = vec![6];
    for (lock, expected) in [
        (wrong_key, "tpm-other"),
        (damaged, "tpm-integrity"),
        (longer, "tpm-not-sealed-by-us"),
        (with_auth, "tpm-not-sealed-by-us"),
        (other_policy, "tpm-integrity"),
        (other_pcrs, "tpm-pcr-mismatch"),
    ] {
        let (code, message) = refused(open(&locks, &Lock::Tpm(lock)).await);
        assert_eq!(code, expected, "{message}");
    }
    nothing_left(&swtpm);
}

#[test]
fn policy_digests_in_software_are_those_of_a_trial_session() {
    let swtpm = Swtpm::new().unwrap();
    swtpm.extend_pcr(7).unwrap();
    let run = |code: u32, body: &[u8]| {
        let size = u32::try_from(body.len() + 10).unwrap().to_be_bytes();
        let command = [&[0x80, 0x01], &size[..], &code.to_be_bytes(), body].concat();
        let answer = transact(swtpm.port(), &command).unwrap();
        assert_eq!(answer[6..10], [0; 4], "{code:#x}");
        answer[10..].to_vec()
    };
    // StartAuthSession: no key, no bind, nonce of 16, no salt, trial (3), no symmetric, SHA-256.
    let null = [0x40, 0, 0, 7];
    let start = [
        &null[..],
        &null,
        &[0, 16],
        &[5; 16],
        &[0, 0, 3, 0, 0x10, 0, 0x0B],
    ];
    let session = run(0x176, &start.concat())[..4].to_vec();
    let digest = || run(0x189, &session)[2..].to_vec();

    let selection = pcr_selection(PcrBank::Sha256, &PCRS);
    run(0x17F, &[&session[..], &[0, 0], &selection].concat());
    let expected = policy_pcr(PcrBank::Sha256, &pcrs(&PCRS).pcrs, &values(&swtpm));
    assert_eq!(digest(), expected);

    // PolicyAuthorize: approved policy, policyRef, key's Name, an empty ticket, which a trial session takes.
    let signer = Name::of(b"any public area");
    let reference = b"nodeseal/policy/test";
    let ticket = [&[0x80, 0x22], &null[..], &[0, 0]].concat();
    let authorize = [
        &session[..],
        &[0, 32],
        &expected,
        &[0, 20],
        reference,
        &[0, 34],
        &signer.0,
        &ticket,
    ];
    run(0x16A, &authorize.concat());
    assert_eq!(digest(), policy_authorize(&signer, reference));
}
