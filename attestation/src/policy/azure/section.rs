//! The section `[azure]` of a release policy: whose word is taken, about which machines.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::normal_authority;

/// Most entries of the policy written: services × machines × ids × hardware.
const MAX_ENTRIES: usize = 256;
/// Longest text of a policy, in bytes.
const MAX_TEXT: usize = 256 * 1024;

/// Machines that may have the key.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// What people call them.
    pub name: String,
    /// What kind they are of.
    pub kind: MachineKind,
    /// Hardware of confidential VMs; SEV-SNP unless given.
    #[serde(default)]
    pub tee: Vec<Tee>,
    /// Unique ids of the machines, as their tokens spell them (`vmUniqueId`, `x-ms-azurevm-vmid`).
    pub vm_ids: Vec<String>,
    /// Further claims and what they must be.
    #[serde(default)]
    pub claims: BTreeMap<String, String>,
}

/// Kinds of virtual machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MachineKind {
    /// Confidential VM: memory closed to the host.
    ConfidentialVm,
    /// Trusted Launch VM. Whether a vault releases keys to such is not confirmed.
    TrustedLaunch,
}

/// Hardware of a confidential VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tee {
    /// AMD SEV-SNP.
    SevSnp,
    /// Intel TDX.
    Tdx,
}

/// The section, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AzureSection {
    attestation: Vec<String>,
    machines: Vec<Machine>,
}

/// Why a section is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AzureError {
    /// The text is longer than is taken (bytes).
    #[error("release policy: expected at most {max} bytes, found {found}")]
    Size {
        /// Longest text taken.
        max: usize,
        /// The length found.
        found: usize,
    },
    /// Not TOML, or of another shape.
    #[error("release policy: {0}")]
    Toml(String),
    /// Another version.
    #[error("release policy: version: expected 1, found {0}")]
    Version(u32),
    /// There is no section.
    #[error("release policy: azure: expected a section [azure] (docs/policy.md), found none")]
    Missing,
    /// Not the address of an attestation service.
    #[error(
        "release policy: azure.attestation: expected addresses as tokens spell their issuer \
         (https://sharedweu.weu.attest.azure.net, no slash at the end), each once, found {0}"
    )]
    Attestation(String),
    /// No machine, or one without a name of its own.
    #[error(
        "release policy: azure.machine: expected at least one, each with a name of its own, found {0}"
    )]
    Machine(String),
    /// A machine cannot be written.
    #[error("release policy: azure.machine {name:?}: {why}")]
    Weak {
        /// Its name.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// The policy would have too many entries.
    #[error(
        "release policy: azure: expected at most {MAX_ENTRIES} entries (services × machines × ids × hardware), found {0}"
    )]
    Entries(usize),
}

/// The section as TOML spells it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::policy) struct Table {
    attestation: Vec<String>,
    #[serde(default)]
    machine: Vec<Machine>,
}

/// What else is in the file is another's matter.
#[derive(Deserialize)]
struct File {
    version: u32,
    azure: Option<Table>,
}

impl AzureSection {
    /// Reads the section out of a release policy in TOML; docs/policy.md has the format.
    ///
    /// # Errors
    /// [`AzureError`].
    pub fn parse(text: &str) -> Result<Self, AzureError> {
        if text.len() > MAX_TEXT {
            return Err(AzureError::Size {
                max: MAX_TEXT,
                found: text.len(),
            });
        }
        let file: File =
            toml::from_str(text).map_err(|error| AzureError::Toml(error.to_string()))?;
        if file.version != 1 {
            return Err(AzureError::Version(file.version));
        }
        Self::check(file.azure.ok_or(AzureError::Missing)?)
    }

    pub(in crate::policy) fn check(table: Table) -> Result<Self, AzureError> {
        let Table {
            attestation,
            machine: machines,
        } = table;
        let mut seen = BTreeSet::new();
        for service in &attestation {
            if !is_service(service) || !seen.insert(service.as_str()) {
                return Err(AzureError::Attestation(format!("{service:?}")));
            }
        }
        if attestation.is_empty() {
            return Err(AzureError::Attestation("none".to_owned()));
        }
        let mut names = BTreeSet::new();
        for machine in &machines {
            if machine.name.is_empty() || !names.insert(machine.name.as_str()) {
                return Err(AzureError::Machine(format!("{:?}", machine.name)));
            }
            if let Some(why) = weakness(machine) {
                return Err(AzureError::Weak {
                    name: machine.name.clone(),
                    why,
                });
            }
        }
        if machines.is_empty() {
            return Err(AzureError::Machine("none".to_owned()));
        }
        let each = |m: &Machine| m.vm_ids.len().saturating_mul(m.tees().len());
        let entries = machines.iter().map(each).sum::<usize>();
        let entries = entries.saturating_mul(attestation.len());
        if entries > MAX_ENTRIES {
            return Err(AzureError::Entries(entries));
        }
        Ok(Self {
            attestation,
            machines,
        })
    }

    /// Addresses of the attestation services whose word is taken.
    #[must_use]
    pub fn attestation(&self) -> &[String] {
        &self.attestation
    }

    /// The machines, any one of which may have the key.
    #[must_use]
    pub fn machines(&self) -> &[Machine] {
        &self.machines
    }
}

impl Machine {
    /// The hardware it may be; one of no meaning for Trusted Launch.
    pub(super) fn tees(&self) -> &[Tee] {
        if self.tee.is_empty() {
            return &[Tee::SevSnp];
        }
        &self.tee
    }
}

/// `https://HOST`, in the one spelling tokens have.
fn is_service(address: &str) -> bool {
    let host = address.strip_prefix("https://").unwrap_or_default();
    let letters = |byte: u8| byte.is_ascii_alphanumeric() || b".-:".contains(&byte);
    !host.is_empty() && host.bytes().all(letters) && normal_authority(address) == address
}

fn weakness(machine: &Machine) -> Option<String> {
    if machine.vm_ids.is_empty() {
        return Some(
            "vm_ids: expected at least one: without, any machine in Azure fits".to_owned(),
        );
    }
    if let Some(id) = machine.vm_ids.iter().find(|id| !is_uuid(id)) {
        return Some(format!(
            "vm_ids: expected ids as tokens spell them (8-4-4-4-12 hexadecimal digits), found {id:?}"
        ));
    }
    if machine.kind == MachineKind::TrustedLaunch && !machine.tee.is_empty() {
        return Some("tee: expected none: a Trusted Launch VM has none".to_owned());
    }
    let written = super::compose::fixed(machine.kind, Tee::SevSnp);
    let taken = |claim: &&String| {
        claim.is_empty() || *claim == "iss" || written.iter().any(|(fixed, _)| fixed == *claim)
    };
    if let Some(claim) = machine.claims.keys().find(taken) {
        return Some(format!(
            "claims: {claim:?} is asked for anyway, or cannot be"
        ));
    }
    None
}

fn is_uuid(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let hexadecimal = |part: &&str| part.bytes().all(|byte| byte.is_ascii_hexdigit());
    parts.iter().map(|part| part.len()).eq([8, 4, 4, 4, 12]) && parts.iter().all(hexadecimal)
}
