//! What the configuration says about running the node: as whom, and how each key reaches it.

use std::path::PathBuf;

use serde::Deserialize;

/// `[run]` of the configuration.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RunSettings {
    /// User the node runs as, by name or number; none keeps the agent's own.
    pub user: Option<String>,
    /// Primary group, by name or number; none takes the user's.
    pub group: Option<String>,
    /// Supplementary groups, by name or number; none takes those /etc/group lists for the user.
    pub groups: Option<Vec<String>>,
    /// Where keys delivered as files appear, for the node and the agent only. None takes `/run/nodeseal/files`, or
    /// `nodeseal/files` in `$XDG_RUNTIME_DIR` when the agent is not root.
    pub directory: Option<PathBuf>,
}

/// How a key reaches the node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Delivery {
    /// A sealed memfd the node inherits: `/proc/self/fd/N`.
    #[default]
    Memfd,
    /// A file on a filesystem in memory that only the node and the agent see.
    File,
    /// The node's standard input; one key at most.
    Stdin,
}

/// How the key's bytes are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Encoding {
    /// As they are.
    #[default]
    Raw,
    /// Lower-case hexadecimal digits, no prefix and no line end: what geth's `--nodekey` reads.
    Hex,
}

/// How one key is to reach the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPlan {
    /// Name of the key; `{name}` in the node's arguments becomes its path.
    pub name: String,
    /// The means.
    pub delivery: Delivery,
    /// The form of the bytes.
    pub encoding: Encoding,
    /// File descriptor of a memfd in the node; none takes the next that is free.
    pub fd: Option<u16>,
}
