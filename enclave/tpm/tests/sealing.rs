//! Sealing and unsealing in a real software TPM.
#![allow(clippy::unwrap_used)]

use nodeseal_harness::{Handles, Swtpm};
use nodeseal_memory::Secret;
use nodeseal_tpm::enrolment::{Keep, enroll, verify};
use nodeseal_tpm::esys::EsysTpm;
use nodeseal_tpm::policy::policy_pcr;
use nodeseal_tpm::structures::{sealed_policy, with_size};
use nodeseal_tpm::tpm::{PcrSelection, SealPolicy, Srk, Tpm, UnsealPolicy};
use nodeseal_wire::lock::PcrBank;

fn pcrs(pcrs: &[u8]) -> PcrSelection {
    PcrSelection {
        bank: PcrBank::Sha256,
        pcrs: pcrs.to_vec(),
    }
}

fn enrolled(tpm: &mut dyn Tpm) -> Srk {
    let record = enroll(tpm, Keep::Persistent, 0).unwrap();
    verify(tpm, &record).unwrap()
}

#[test]
fn what_is_sealed_to_pcrs_is_unsealed_and_nothing_stays_in_the_tpm() {
    let swtpm = Swtpm::new().unwrap();
    let mut tpm = EsysTpm::new(swtpm.tcti().parse().unwrap());
    let srk = enrolled(&mut tpm);
    let selection = pcrs(&[0, 1, 2, 3, 4, 5, 6, 7, 11, 12]);
    swtpm.extend_pcr(11).unwrap();
    let secret = Secret::take_from(&mut [7; 32]).unwrap();
    let object = tpm
        .seal(&srk, &SealPolicy::PcrsNow(&selection), &secret)
        .unwrap();
    let values = tpm.read_pcrs(&selection).unwrap();
    assert_eq!(values[8], swtpm.read_pcr(11).unwrap());
    assert_eq!(
        sealed_policy(&with_size(&object.public)),
        Some(policy_pcr(PcrBank::Sha256, &selection.pcrs, &values))
    );
    let policy = UnsealPolicy {
        pcrs: &selection,
        approval: None,
    };
    for _ in 0..3 {
        let opened = tpm.unseal(&srk, &object, &policy).unwrap();
        assert_eq!(opened.expose(), secret.expose());
        assert_eq!(swtpm.count_handles(Handles::Transient).unwrap(), 0);
        assert_eq!(swtpm.count_handles(Handles::LoadedSessions).unwrap(), 0);
        tpm.refresh();
        assert_eq!(swtpm.count_handles(Handles::Transient).unwrap(), 0);
        assert_eq!(swtpm.count_handles(Handles::LoadedSessions).unwrap(), 0);
    }
}
