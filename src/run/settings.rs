//! What the configuration says about the node process itself.

use serde::Deserialize;

/// `[run]` of the configuration.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunSettings {
    /// User the node runs as, by name or number; none keeps the agent's own.
    pub user: Option<String>,
    /// Primary group, by name or number; none takes the user's.
    pub group: Option<String>,
    /// Supplementary groups, by name or number; none takes those /etc/group lists for the user.
    pub groups: Option<Vec<String>>,
}
