//! Files and ports the process may still open (Landlock).

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, NetPort, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, RulesetError, RulesetStatus,
};

use super::{Needs, SandboxError};
use crate::tcti::Tcti;

/// Rights up to this version of the kernel's interface are asked for (Linux 6.12); older kernels give what they have.
const NEWEST: ABI = ABI::V6;

/// Restricts the process; returns what is in force.
pub fn restrict(needs: &Needs<'_>) -> Result<String, SandboxError> {
    let status = rules(needs)
        .and_then(RulesetCreated::restrict_self)
        .map_err(|error| SandboxError::Files(error.to_string()))?;
    Ok(match status.ruleset {
        RulesetStatus::FullyEnforced => "only the TPM (Landlock)",
        RulesetStatus::PartiallyEnforced => "only the TPM (Landlock, older kernel)",
        RulesetStatus::NotEnforced => "not restricted: this kernel has no Landlock",
    }
    .to_owned())
}

fn rules(needs: &Needs<'_>) -> Result<RulesetCreated, RulesetError> {
    let mut rules = Ruleset::default()
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(AccessNet::from_all(NEWEST))?
        .create()?;
    // Removing the socket at the end; a directory shared with others is not worth it.
    if let Some(directory) = needs.socket.and_then(Path::parent) {
        let here = directory == Path::new("");
        let directory = if here { Path::new(".") } else { directory };
        rules = allow(rules, directory, AccessFs::RemoveFile.into())?;
    }
    // systemd hears of readiness on a socket, which is connected to and not opened: no rule needed.
    match needs.tcti {
        Tcti::Device(device) => {
            let use_device = AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::IoctlDev;
            allow(rules, device, use_device)
        }
        Tcti::Swtpm(at) => rules.add_rule(NetPort::new(at.port, AccessNet::ConnectTcp)),
    }
}

/// Allows a path if it exists.
fn allow(
    rules: RulesetCreated,
    path: &Path,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, RulesetError> {
    let real: PathBuf = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    match PathFd::new(real) {
        Ok(at) => rules.add_rule(PathBeneath::new(at, access)),
        Err(_) => Ok(rules),
    }
}
