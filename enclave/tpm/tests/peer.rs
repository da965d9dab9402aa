//! What this program seals, the TPM software stack unseals, and the other way round.
#![allow(clippy::unwrap_used)]

mod common;
mod tss;

use common::{Signer, enrol, pcrs, same};
use nodeseal_harness::{Handles, Swtpm};
use nodeseal_memory::Secret;
use nodeseal_tpm::enrolment::{Keep, enroll, verify};
use nodeseal_tpm::policy::policy_authorize;
use nodeseal_tpm::structures::Name;
use nodeseal_tpm::tpm::{Approval, SealPolicy, Srk, Tpm, UnsealPolicy};
use nodeseal_tpm::tpm2::Tpm2;
use tss::EsysTpm;

const PCRS: [u8; 3] = [7, 11, 12];

/// Runs `work` with either implementation as the first, the other as the second.
fn both_ways(swtpm: &Swtpm, mut work: impl FnMut(&mut dyn Tpm, &mut dyn Tpm)) {
    let tcti = swtpm.tcti();
    let mut ours = Tpm2::new(tcti.parse().unwrap());
    let mut theirs = EsysTpm::new(tcti.parse().unwrap());
    work(&mut ours, &mut theirs);
    work(&mut theirs, &mut ours);
    assert_eq!(swtpm.count_handles(Handles::Transient).unwrap(), 0);
    assert_eq!(swtpm.count_handles(Handles::LoadedSessions).unwrap(), 0);
}

/// Seals with one, unseals with the other.
fn seal_and_unseal(swtpm: &Swtpm, srk: &Srk, to: &SealPolicy<'_>, by: &UnsealPolicy<'_>) {
    both_ways(swtpm, |sealer, opener| {
        let secret = Secret::copy_of(&[0x5A; 32]).unwrap();
        let object = sealer.seal(srk, to, &secret).unwrap();
        sealer.refresh();
        let opened = opener.unseal(srk, &object, by).unwrap();
        opener.refresh();
        assert!(same(&opened, &secret));
    });
}

#[test]
fn what_either_seals_to_pcr_values_the_other_unseals() {
    let swtpm = Swtpm::new().unwrap();
    swtpm.extend_pcr(11).unwrap();
    let selection = pcrs(&PCRS);
    let by = UnsealPolicy {
        pcrs: &selection,
        approval: None,
    };
    for keep in [Keep::Persistent, Keep::Transient] {
        let record = enrol(&swtpm.tcti(), keep);
        let srk = verify(&mut Tpm2::new(swtpm.tcti().parse().unwrap()), &record).unwrap();
        seal_and_unseal(&swtpm, &srk, &SealPolicy::PcrsNow(&selection), &by);
    }
}

#[test]
fn what_either_seals_to_a_signer_the_other_unseals() {
    let swtpm = Swtpm::new().unwrap();
    let record = enrol(&swtpm.tcti(), Keep::Persistent);
    let srk = verify(&mut Tpm2::new(swtpm.tcti().parse().unwrap()), &record).unwrap();
    let (signer, selection) = (Signer::new(), pcrs(&PCRS));
    let values = PCRS.map(|pcr| swtpm.read_pcr(pcr).unwrap().to_vec());
    let approved = signer.approve(&PCRS, &values);
    let key = signer.policy_signer();
    let by = UnsealPolicy {
        pcrs: &selection,
        approval: Some(Approval {
            signer: &key.public,
            reference: &key.reference,
            approved: &approved.approved,
            signature: &approved.signature,
        }),
    };
    let policy = policy_authorize(&Name::of(&key.public), &key.reference);
    seal_and_unseal(&swtpm, &srk, &SealPolicy::Digest(policy), &by);
}

#[test]
fn both_find_the_same_keys_and_values_in_a_tpm() {
    let swtpm = Swtpm::new().unwrap();
    swtpm.extend_pcr(7).unwrap();
    let all = pcrs(&(0..24).collect::<Vec<u8>>());
    both_ways(&swtpm, |one, other| {
        let record = enroll(one, Keep::Persistent, 7).unwrap();
        one.refresh();
        assert_eq!(enroll(other, Keep::Persistent, 7).unwrap(), record);
        other.refresh();
        let values = one.read_pcrs(&all).unwrap();
        one.refresh();
        assert_eq!(values.len(), 24);
        assert_eq!(other.read_pcrs(&all).unwrap(), values);
        other.refresh();
    });
}
