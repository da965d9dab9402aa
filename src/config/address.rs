//! Address of the trusted side.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// Where the trusted side listens.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "String")]
pub enum Address {
    /// A unix socket: "unix:/run/nodeseal-tpm/tpm.sock".
    Unix(PathBuf),
    /// A unix socket in front of a virtual machine's vsock, as Firecracker has it: "hybrid:/path/vm.vsock:PORT".
    Hybrid {
        /// The socket.
        path: PathBuf,
        /// The vsock port behind it.
        port: u32,
    },
}

impl Address {
    /// Makes a relative path one that starts at `base`.
    pub(super) fn resolve(&mut self, base: &Path) {
        match self {
            Self::Unix(path) | Self::Hybrid { path, .. } => *path = base.join(&path),
        }
    }
}

impl TryFrom<String> for Address {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let parsed = match text.split_once(':') {
            Some(("unix", path)) => Some((path, Self::Unix(path.into()))),
            Some(("hybrid", rest)) => rest.rsplit_once(':').and_then(|(path, port)| {
                let port = port.parse().ok()?;
                Some((
                    path,
                    Self::Hybrid {
                        path: path.into(),
                        port,
                    },
                ))
            }),
            _ => None,
        };
        match parsed {
            Some((path, address)) if !path.is_empty() => Ok(address),
            _ => Err(format!(
                "expected \"unix:PATH\" or \"hybrid:PATH:PORT\", found {text:?}"
            )),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Hybrid { path, port } => write!(f, "hybrid:{}:{port}", path.display()),
        }
    }
}
