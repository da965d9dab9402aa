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
    /// vsock, of a Nitro Enclave or any virtual machine: "vsock:CID:PORT".
    Vsock {
        /// Context id of the enclave (`nitro-cli describe-enclaves`: EnclaveCID).
        cid: u32,
        /// Its port.
        port: u32,
    },
}

impl Address {
    /// Makes a relative path one that starts at `base`.
    pub(super) fn resolve(&mut self, base: &Path) {
        match self {
            Self::Unix(path) | Self::Hybrid { path, .. } => *path = base.join(&path),
            Self::Vsock { .. } => {}
        }
    }
}

impl TryFrom<String> for Address {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let parsed = match text.split_once(':') {
            Some(("unix", path)) if !path.is_empty() => Some(Self::Unix(path.into())),
            Some((kind @ ("hybrid" | "vsock"), rest)) => {
                rest.rsplit_once(':').and_then(|(place, port)| {
                    let port = port.parse().ok()?;
                    match kind {
                        "hybrid" if !place.is_empty() => Some(Self::Hybrid {
                            path: place.into(),
                            port,
                        }),
                        "vsock" => Some(Self::Vsock {
                            cid: place.parse().ok()?,
                            port,
                        }),
                        _ => None,
                    }
                })
            }
            _ => None,
        };
        parsed.ok_or_else(|| {
            format!(
                "expected \"unix:PATH\", \"vsock:CID:PORT\" or \"hybrid:PATH:PORT\", found {text:?}"
            )
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Hybrid { path, port } => write!(f, "hybrid:{}:{port}", path.display()),
            Self::Vsock { cid, port } => write!(f, "vsock:{cid}:{port}"),
        }
    }
}
