//! The interposer between a hand-marshalled TPM client and a real software TPM.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use nodeseal_harness::Swtpm;
use nodeseal_harness::tpm_commands::{read_pcr, transact};
use nodeseal_sim::interposer::rule::error_answer;
use nodeseal_sim::interposer::{Action, Interposer, Rule, code};

/// TPM2_GetRandom of 16 bytes.
const GET_RANDOM: [u8; 12] = [0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x7B, 0, 16];

/// TPM2_CreatePrimary of a P-256 storage key in the owner hierarchy, empty password.
fn create_primary() -> Vec<u8> {
    let public = [
        &[0, 0x23, 0, 0x0B, 0, 3, 4, 0x72, 0, 0][..], // ECC, SHA-256, attributes, no policy
        &[0, 6, 0, 128, 0, 0x43, 0, 0x10, 0, 3, 0, 0x10], // AES-128-CFB, no scheme, P-256, no KDF
        &[0, 0, 0, 0],
    ]
    .concat();
    let mut body = vec![0x40, 0, 0, 1, 0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0];
    body.extend([0, 4, 0, 0, 0, 0]);
    body.extend([0, u8::try_from(public.len()).unwrap()]);
    body.extend(public);
    body.extend([0, 0, 0, 0, 0, 0]);
    let mut command = vec![0x80, 2];
    command.extend(u32::try_from(body.len() + 10).unwrap().to_be_bytes());
    command.extend([0, 0, 1, 0x31]);
    command.extend(body);
    command
}

fn set_up() -> (Swtpm, Interposer) {
    let tpm = Swtpm::new().unwrap();
    let interposer = Interposer::start(tpm.port()).unwrap();
    (tpm, interposer)
}

#[test]
fn every_byte_is_recorded_both_ways_and_commands_are_counted_by_code() {
    let (_tpm, interposer) = set_up();
    let answer = transact(interposer.port(), &GET_RANDOM).unwrap();
    read_pcr(interposer.port(), 7).unwrap();
    let record = interposer.take_record();
    assert_eq!(record.count(code("GetRandom").unwrap()), 1);
    assert_eq!(record.count(code("PCR_Read").unwrap()), 1);
    assert_eq!(record.exchanges[0].command, GET_RANDOM);
    assert_eq!(record.exchanges[0].answer, Some(answer.clone()));
    assert_eq!(record.exchanges[0].forged, None);
    assert!(record.contains(&answer[12..]));
    assert!(!record.contains(b"not on the line"));
    assert_eq!(interposer.record().bytes(), 0);
}

#[test]
fn the_control_port_is_passed_on_and_recorded() {
    let (_tpm, interposer) = set_up();
    let control = format!("127.0.0.1:{}", interposer.port() + 1);
    let done = std::process::Command::new("swtpm_ioctl")
        .args(["--tcp", &control, "-c"])
        .output()
        .unwrap();
    assert!(done.status.success(), "{done:?}");
    assert!(!interposer.record().control.is_empty());
}

#[test]
fn a_swapped_key_is_the_attackers_and_its_name_fits_it() {
    let (_tpm, interposer) = set_up();
    let create = code("CreatePrimary").unwrap();
    interposer.set_rules([Rule::every(create, Action::SwapKey)]);
    let forged = transact(interposer.port(), &create_primary()).unwrap();
    assert_eq!(forged[6..10], [0; 4], "the TPM made the key");
    let record = interposer.record();
    let honest = record.exchanges[0].answer.as_ref().unwrap();
    assert_eq!(record.exchanges[0].forged.as_ref(), Some(&forged));
    assert_eq!(forged.len(), honest.len());
    let point = interposer.attacker().point();
    let holds = |bytes: &[u8], needle: &[u8]| bytes.windows(needle.len()).any(|w| w == needle);
    assert!(holds(&forged, &point[..32]) && holds(&forged, &point[32..]));
    assert!(!holds(honest, &point[..32]));
    // Public area: handle 4, parameter size 4, its own size 2.
    let size = usize::from(u16::from_be_bytes([forged[18], forged[19]]));
    let public = &forged[20..20 + size];
    let name = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, public);
    assert!(holds(&forged, name.as_ref()));
}

#[test]
fn an_old_answer_is_replayed_without_the_tpm_seeing_the_command() {
    let (_tpm, interposer) = set_up();
    let first = transact(interposer.port(), &GET_RANDOM).unwrap();
    assert_ne!(transact(interposer.port(), &GET_RANDOM).unwrap(), first);
    interposer.set_rules([Rule::every(code("GetRandom").unwrap(), Action::Replay)]);
    assert_eq!(transact(interposer.port(), &GET_RANDOM).unwrap(), first);
    assert_eq!(interposer.record().exchanges[2].answer, None);
}

#[test]
fn one_bit_of_the_chosen_answer_or_command_is_inverted() {
    let (_tpm, interposer) = set_up();
    interposer.set_rules([
        Rule::nth_of_all(1, Action::FlipAnswer(12 * 8)),
        Rule::nth_of_all(2, Action::FlipCommand(11 * 8 + 7)),
    ]);
    for expected in [16, 16, 17] {
        let answer = transact(interposer.port(), &GET_RANDOM).unwrap();
        assert_eq!(answer[11], expected, "bytes of randomness");
    }
    let record = interposer.record();
    assert_eq!(record.exchanges[0].forged, None);
    let honest = record.exchanges[1].answer.as_ref().unwrap();
    let forged = record.exchanges[1].forged.as_ref().unwrap();
    let differing = honest.iter().zip(forged).map(|(a, b)| (a ^ b).count_ones());
    assert_eq!(differing.sum::<u32>(), 1);
}

#[test]
fn dropped_commands_and_answers_end_the_connection_and_the_next_one_works() {
    let (_tpm, interposer) = set_up();
    interposer.set_rules([
        Rule::nth_of_all(0, Action::DropCommand),
        Rule::nth_of_all(1, Action::DropAnswer),
    ]);
    for _ in 0..2 {
        let error = transact(interposer.port(), &GET_RANDOM)
            .unwrap_err()
            .to_string();
        assert_eq!(error, "talking to the TPM: failed to fill whole buffer");
    }
    transact(interposer.port(), &GET_RANDOM).unwrap();
    let record = interposer.record();
    assert_eq!(record.exchanges[0].answer, None);
    assert!(record.exchanges[1].answer.is_some());
}

#[test]
fn an_answer_can_be_delayed_or_made_up() {
    let (_tpm, interposer) = set_up();
    let delay = Duration::from_millis(50);
    interposer.set_rules([
        Rule::nth_of_all(0, Action::Delay(delay)),
        Rule::nth_of_all(1, Action::Answer(error_answer(0x922))),
    ]);
    let before = Instant::now();
    transact(interposer.port(), &GET_RANDOM).unwrap();
    assert!(before.elapsed() >= delay);
    let answer = transact(interposer.port(), &GET_RANDOM).unwrap();
    assert_eq!(answer, [0x80, 1, 0, 0, 0, 10, 0, 0, 9, 0x22]);
}
