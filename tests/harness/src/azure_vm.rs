//! A virtual machine of a simulated Azure.

use serde_json::Value;

use crate::{Error, Result, Simulator, Swtpm};

/// A virtual machine: its TPM, and the metadata service beside it.
pub struct AzureVm {
    pub(crate) name: String,
    /// The software TPM behind the front.
    pub tpm: Swtpm,
    /// The TPM as Azure provisions it.
    pub front: Simulator,
    /// Entra, and the machine's own endpoint for managed identities.
    pub entra: Simulator,
}

/// How a machine differs from a confidential one with Secure Boot.
#[derive(Clone, Copy, Default)]
pub struct VmOptions<'a> {
    /// Arguments of the vTPM.
    pub platform: &'a [&'a str],
    /// Arguments of Entra and the metadata service.
    pub entra: &'a [&'a str],
}

impl AzureVm {
    /// Its unique id.
    ///
    /// # Errors
    /// When it has none.
    pub fn id(&self) -> Result<&str> {
        self.front.told("vm_id")
    }

    /// An identity Entra knows: `apps` or `managed`, by its number.
    ///
    /// # Errors
    /// When there is none.
    pub fn identity(&self, kind: &str, number: usize) -> Result<&Value> {
        let ready = self.entra.ready();
        let found = ready.pointer(&format!("/identities/{kind}/{number}"));
        found.ok_or_else(|| Error::new(format!("no {kind} {number} in {ready}")))
    }

    /// Its object id, to which roles are assigned.
    ///
    /// # Errors
    /// When there is none.
    pub fn principal(&self, kind: &str, number: usize) -> Result<String> {
        let id = self.identity(kind, number)?.get("object_id");
        let id = id.and_then(Value::as_str).map(str::to_owned);
        id.ok_or_else(|| Error::new(format!("{kind} {number} has no object id")))
    }

    /// What leads the vendor's credentials to these services: App Service's variables for managed identities, the
    /// authority, and whose certificate it has.
    ///
    /// # Errors
    /// When the simulators did not tell.
    pub fn environment(&self) -> Result<Vec<(String, String)>> {
        [
            ("IDENTITY_ENDPOINT", "identity_endpoint"),
            ("IDENTITY_HEADER", "identity_header"),
            ("AZURE_AUTHORITY_HOST", "endpoint"),
            ("SSL_CERT_FILE", "ca"),
        ]
        .map(|(variable, told)| Ok((variable.to_owned(), self.entra.told(told)?.to_owned())))
        .into_iter()
        .collect()
    }
}
