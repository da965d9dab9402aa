//! What the conditions of a statement ask of attestation documents, and whether that is enough.

use std::collections::{BTreeMap, BTreeSet};

use super::{Code, Findings};
use crate::hex;
use crate::nitro::{PCR_LEN, Pcr};
use crate::policy::aws::condition::{Condition, Kind, Quantifier};
use crate::policy::aws::known::{
    Measured, PCR7_SECURE_BOOT_OFF, is_constant_of_every_tpm, measured,
};
use crate::policy::aws::pattern::is_wild;
use crate::policy::aws::statement::{Effect, Statement};

/// What a statement pins: for each PCR the values it may have.
#[derive(Debug, Default)]
pub(super) struct Measurement {
    pins: BTreeMap<Measured, BTreeSet<Pcr>>,
    /// Whether any condition is about attestation at all.
    asked: bool,
    /// Whether a condition was found that lets requests without a document pass.
    hollow: bool,
    /// Whether no document can fit.
    never: bool,
}

/// Reads the conditions on attestation, with what is wrong in each.
pub(super) fn read(statement: &Statement, findings: &mut Findings) -> Measurement {
    let mut found = Measurement::default();
    for condition in &statement.conditions {
        let Some(what) = measured(&condition.key) else {
            continue;
        };
        found.asked = true;
        if what == Measured::Unknown {
            let why = format!("there is no condition key {}", condition.key);
            findings.add(Code::UnknownMeasurement, why);
            found.never = true;
        } else if statement.effect == Effect::Allow {
            if is_hollow(condition, findings) {
                found.hollow = true;
            } else if condition.operator.kind != Kind::Null {
                found.pin(what, condition, findings);
            }
        } else if condition.operator.kind != Kind::Null {
            let _ = values(condition, findings);
        }
    }
    if statement.effect == Effect::Allow {
        found.contradictions(findings);
    }
    found
}

/// Whether a condition of an Allow fits a request without a document, or any document.
fn is_hollow(condition: &Condition, findings: &mut Findings) -> bool {
    let operator = condition.operator;
    let key = &condition.key;
    let mut add = |code, why: &str| findings.add(code, format!("{operator} {key} {why}"));
    let absent = || {
        condition
            .values
            .iter()
            .any(|v| v.eq_ignore_ascii_case("true"))
    };
    if operator.kind == Kind::Null && absent() {
        add(Code::NullMeasurement, "asks that there is no document");
    } else if operator.kind.is_negated() {
        add(
            Code::NegatedMeasurement,
            "fits a request without a document, and other software",
        );
    } else if operator.if_exists {
        add(Code::IfExists, "fits a request without a document");
    } else if operator.quantifier == Some(Quantifier::ForAllValues) {
        add(Code::ForAllValues, "fits a request without a document");
    } else if operator.kind == Kind::StringLike && condition.values.iter().any(|v| is_wild(v)) {
        add(Code::WildcardMeasurement, "fits more than one value");
    } else if condition.values.iter().any(|v| v.contains("${")) {
        add(
            Code::VariableMeasurement,
            "is compared with what the request says",
        );
    } else {
        return false;
    }
    true
}

/// The values of a condition that a PCR can have.
fn values(condition: &Condition, findings: &mut Findings) -> BTreeSet<Pcr> {
    let kind = condition.operator.kind;
    let exact = matches!(
        kind,
        Kind::StringEquals | Kind::StringNotEquals | Kind::StringLike | Kind::StringNotLike
    );
    let any_case = matches!(
        kind,
        Kind::StringEqualsIgnoreCase | Kind::StringNotEqualsIgnoreCase
    );
    if !exact && !any_case {
        let why = format!(
            "{} {} compares no strings",
            condition.operator, condition.key
        );
        findings.add(Code::WrongOperator, why);
        return BTreeSet::new();
    }
    let mut possible = BTreeSet::new();
    for value in &condition.values {
        if value.contains("${") || (kind == Kind::StringNotLike && is_wild(value)) {
            continue;
        }
        match hex::decode_array::<PCR_LEN>(value) {
            None => {
                let why = format!(
                    "{}: {value:?} is not 96 hexadecimal digits ({} letters)",
                    condition.key,
                    value.chars().count()
                );
                findings.add(Code::ImpossibleValue, why);
            }
            Some(_) if exact && value.bytes().any(|b| b.is_ascii_uppercase()) => {
                let why = format!(
                    "{} {} has letters in upper case",
                    condition.operator, condition.key
                );
                findings.add(Code::CaseSensitiveValue, why);
            }
            Some(value) => {
                possible.insert(value);
            }
        }
    }
    possible
}

impl Measurement {
    /// Whether a document is asked for whose values are written out.
    pub(super) fn is_pinned(&self) -> bool {
        !self.pins.is_empty() || self.never
    }

    fn pin(&mut self, what: Measured, condition: &Condition, findings: &mut Findings) {
        let values = values(condition, findings);
        if values.is_empty() {
            self.never = true;
        }
        match self.pins.get_mut(&what) {
            None => drop(self.pins.insert(what, values)),
            Some(before) => {
                let both: BTreeSet<Pcr> = before.intersection(&values).copied().collect();
                if both.is_empty() && !before.is_empty() && !values.is_empty() {
                    let why = format!("{} is asked to have two values", condition.key);
                    findings.add(Code::Contradiction, why);
                    self.never = true;
                }
                *before = both;
            }
        }
    }

    fn contradictions(&mut self, findings: &mut Findings) {
        let enclave = self
            .pins
            .keys()
            .any(|what| matches!(what, Measured::Enclave(_)));
        let nitrotpm = self
            .pins
            .keys()
            .any(|what| matches!(what, Measured::NitroTpm(_)));
        if enclave && nitrotpm {
            let why = "it asks for PCRs of an enclave and of a NitroTPM, which no document has";
            findings.add(Code::MixedForms, why);
            self.never = true;
        }
    }

    fn enclave(&self, pcr: u8) -> Option<&BTreeSet<Pcr>> {
        self.pins.get(&Measured::Enclave(pcr))
    }

    fn nitrotpm(&self, pcr: u8) -> Option<&BTreeSet<Pcr>> {
        self.pins.get(&Measured::NitroTpm(pcr))
    }

    /// Whether what an Allow of secret answers asks for is enough. `guarded`: a Deny asks for enough anyway.
    pub(super) fn lint(&self, guarded: bool, findings: &mut Findings) {
        if self.never {
            return;
        }
        if self.pins.is_empty() {
            if !guarded && !self.asked {
                let why =
                    "it allows answers in plaintext to callers without an attestation document";
                findings.add(Code::UnattestedUse, why);
            } else if !guarded && !self.hollow {
                let why = "it takes the document of any enclave or NitroTPM";
                findings.add(Code::ImageNotPinned, why);
            }
            return;
        }
        if self
            .pins
            .keys()
            .any(|what| matches!(what, Measured::Enclave(_)))
        {
            self.lint_enclave(guarded, findings);
        } else {
            self.lint_nitrotpm(guarded, findings);
        }
    }

    fn lint_enclave(&self, guarded: bool, findings: &mut Findings) {
        let zero = |pcr| {
            self.enclave(pcr)
                .is_some_and(|values| values.contains(&[0; PCR_LEN]))
        };
        // A zero PCR8 beside a PCR0 says that the image is not signed.
        let debug: Vec<String> = [0, 1, 2, 8]
            .into_iter()
            .filter(|pcr| zero(*pcr) && (*pcr != 8 || self.enclave(0).is_none()))
            .map(|pcr| format!("PCR{pcr}"))
            .collect();
        if !debug.is_empty() {
            let why = format!(
                "{} may be zero, as in every enclave in debug mode",
                debug.join(", ")
            );
            findings.add(Code::ZeroMeasurement, why);
        }
        let pinned = |pcr| self.enclave(pcr).is_some();
        if guarded || pinned(0) || pinned(8) || (pinned(1) && pinned(2)) {
            return;
        }
        let of_parent = |what: &Measured| matches!(what, Measured::Enclave(3 | 4));
        if self.pins.keys().all(of_parent) {
            let why = "it asks for the parent's role or instance (PCR3, PCR4), not for the image";
            findings.add(Code::ParentOnly, why);
        } else {
            let why = "it asks neither for PCR0 nor for PCR8, so other images pass";
            findings.add(Code::ImageNotPinned, why);
        }
    }

    fn lint_nitrotpm(&self, guarded: bool, findings: &mut Findings) {
        if self.nitrotpm(1).is_some() {
            let why = "it asks for NitroTPMPCR1";
            findings.add(Code::UnstablePcr1, why);
        }
        let off = |value: &Pcr| hex::encode(value) == PCR7_SECURE_BOOT_OFF;
        let secure_boot_off = self
            .nitrotpm(7)
            .is_some_and(|values| values.iter().any(off));
        if secure_boot_off {
            let why = "NitroTPMPCR7 has the value of every instance without Secure Boot";
            findings.add(Code::SecureBootOff, why);
        }
        if !guarded && self.nitrotpm(12).is_none() {
            let why = "it does not ask for NitroTPMPCR12, the command line given to the boot image";
            findings.add(Code::NoPcr12, why);
        }
        let constant = |values: &BTreeSet<Pcr>| values.iter().any(is_constant_of_every_tpm);
        match (self.nitrotpm(4), self.nitrotpm(7)) {
            (Some(values), _) if constant(values) => {
                let why = "NitroTPMPCR4 has a value that says nothing about what was booted";
                findings.add(Code::NitrotpmConstant, why);
            }
            (Some(_), _) => {}
            (None, Some(_)) => {
                if !secure_boot_off {
                    let why = "NitroTPMPCR7 alone takes every image of the Secure Boot keys, old ones too";
                    findings.add(Code::SignerOnly, why);
                }
            }
            (None, None) if guarded => {}
            (None, None) => {
                let idle = |(what, values): (&Measured, &BTreeSet<Pcr>)| {
                    matches!(what, Measured::NitroTpm(0 | 2 | 3 | 6)) || constant(values)
                };
                if self.pins.iter().all(idle) {
                    let why = "every NitroTPM instance has these values";
                    findings.add(Code::NitrotpmConstant, why);
                } else {
                    let why = "it asks neither for NitroTPMPCR4 nor for NitroTPMPCR7";
                    findings.add(Code::BootNotPinned, why);
                }
            }
        }
    }
}

/// Whether a key with only these values says by itself which software runs.
pub(super) fn is_decisive(key: &str, values: &[String]) -> bool {
    let strong = |weak: fn(&Pcr) -> bool| {
        values
            .iter()
            .all(|value| hex::decode_array::<PCR_LEN>(value).is_some_and(|value| !weak(&value)))
    };
    match measured(key) {
        Some(Measured::Enclave(0 | 8)) => strong(|value| *value == [0; PCR_LEN]),
        Some(Measured::NitroTpm(4 | 7)) => strong(is_constant_of_every_tpm),
        _ => false,
    }
}
