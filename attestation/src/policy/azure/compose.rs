//! A release policy written: for each service, machine and id one entry, `equals` only, nothing nested, which every
//! reading of the documents allows.

use super::grammar::{Authority, ClaimCondition, Condition, Operator, Policy, Rule, VERSION};
use super::section::{AzureSection, Machine, MachineKind, Tee};
use crate::azure::Value;
use crate::azure::debug;

/// Path of a confidential VM's unique id.
pub(super) const TEE_VM_ID: &str = "x-ms-isolation-tee.x-ms-runtime.vm-configuration.vmUniqueId";
/// Path of every VM's id.
pub(super) const VM_ID: &str = "x-ms-azurevm-vmid";
/// What a confidential VM must be.
pub(super) const COMPLIANCE: &str = "x-ms-isolation-tee.x-ms-compliance-status";
/// What hardware.
pub(super) const TEE_TYPE: &str = "x-ms-isolation-tee.x-ms-attestation-type";
/// What kind of token.
pub(super) const TYPE: &str = "x-ms-attestation-type";

/// The release policy of a key that these machines may have.
#[must_use]
pub fn release_policy(section: &AzureSection) -> Policy {
    let mut any_of = Vec::new();
    for service in section.attestation() {
        for machine in section.machines() {
            for tee in tees(machine) {
                for id in &machine.vm_ids {
                    any_of.push(Authority {
                        authority: service.clone(),
                        rule: Rule::AllOf(conditions(machine, *tee, id)),
                    });
                }
            }
        }
    }
    Policy {
        version: VERSION.to_owned(),
        any_of,
    }
}

fn tees(machine: &Machine) -> &[Tee] {
    match machine.kind {
        MachineKind::ConfidentialVm => machine.tees(),
        MachineKind::TrustedLaunch => &[Tee::SevSnp],
    }
}

/// What every machine of a kind must claim. Booleans are written as strings: so the documents' samples do.
pub(super) fn fixed(kind: MachineKind, tee: Tee) -> Vec<(&'static str, &'static str)> {
    let mut all = vec![(TYPE, "azurevm")];
    if kind == MachineKind::ConfidentialVm {
        let hardware = match tee {
            Tee::SevSnp => "sevsnpvm",
            Tee::Tdx => "tdxvm",
        };
        all.extend([(TEE_TYPE, hardware), (COMPLIANCE, "azure-compliant-cvm")]);
        if tee == Tee::SevSnp {
            all.push((debug::SNP, "false"));
        }
    }
    all.push((debug::SECURE_BOOT, "true"));
    let boolean = |value| if value { "true" } else { "false" };
    all.extend(debug::BOOT.map(|(claim, value)| (claim, boolean(value))));
    all
}

fn conditions(machine: &Machine, tee: Tee, id: &str) -> Vec<Condition> {
    let id_claim = match machine.kind {
        MachineKind::ConfidentialVm => TEE_VM_ID,
        MachineKind::TrustedLaunch => VM_ID,
    };
    let fixed = fixed(machine.kind, tee);
    let more = machine.claims.iter().map(|(c, v)| (c.as_str(), v.as_str()));
    fixed
        .into_iter()
        .chain([(id_claim, id)])
        .chain(more)
        .map(|(claim, value)| {
            Condition::Claim(ClaimCondition {
                claim: claim.to_owned(),
                operator: Operator::Equals,
                value: Value::String(value.to_owned()),
                legacy: false,
            })
        })
        .collect()
}
