//! Who may do what: role assignments at the vault or at one key (Azure RBAC).

use serde::{Deserialize, Serialize};

/// An assignment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Assignment {
    /// Object id of the service principal or managed identity.
    pub principal: String,
    /// Name or id of the role.
    pub role: String,
    /// `/` for the vault, `/keys/NAME` for a key.
    #[serde(default = "whole")]
    pub scope: String,
}

fn whole() -> String {
    "/".to_owned()
}

/// Name, id and data actions (`Microsoft.KeyVault/vaults/keys/…`) of the built-in roles.
const ROLES: [(&str, &str, &[&str]); 4] = [
    (
        "Key Vault Crypto Service Encryption User",
        "e147488a-f6f5-4113-8e2d-b22465e65bf6",
        &["read", "wrap/action", "unwrap/action"],
    ),
    (
        "Key Vault Crypto Service Release User",
        "08bbd89e-9f13-488c-ac41-acfcb10c90ab",
        &["release/action"],
    ),
    (
        "Key Vault Crypto User",
        "12338af0-0e69-4776-bea7-57ae8d297424",
        &[
            "read",
            "update/action",
            "encrypt/action",
            "decrypt/action",
            "wrap/action",
            "unwrap/action",
        ],
    ),
    (
        "Key Vault Crypto Officer",
        "14b46e9e-c2b7-41b4-b07b-48a6ebf60603",
        &["*"],
    ),
];

impl std::str::FromStr for Assignment {
    type Err = String;

    /// `OBJECT-ID=ROLE` or `OBJECT-ID=ROLE@/keys/NAME`.
    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || format!("{text:?}: expected OBJECT-ID=ROLE or OBJECT-ID=ROLE@/keys/NAME");
        let (principal, role) = text.split_once('=').ok_or_else(expected)?;
        let (role, scope) = role.split_once('@').unwrap_or((role, "/"));
        let assignment = Self {
            principal: principal.to_owned(),
            role: role.to_owned(),
            scope: scope.to_owned(),
        };
        assignment.check().map(|()| assignment)
    }
}

impl Assignment {
    /// Whether there are such a role and such a scope.
    ///
    /// # Errors
    /// What there is not.
    pub fn check(&self) -> Result<(), String> {
        if self.actions().is_none() {
            let names: Vec<&str> = ROLES.iter().map(|(name, ..)| *name).collect();
            let role = &self.role;
            return Err(format!("{role:?}: expected one of {}", names.join(", ")));
        }
        if self.scope != "/" && !self.scope.starts_with("/keys/") {
            return Err(format!("{:?}: expected / or /keys/NAME", self.scope));
        }
        Ok(())
    }

    fn actions(&self) -> Option<&'static [&'static str]> {
        let found = ROLES
            .iter()
            .find(|(name, id, _)| *name == self.role || *id == self.role);
        found.map(|(.., actions)| *actions)
    }

    /// Whether it lets `principal` do `action` on the key `name`.
    pub(super) fn allows(&self, principal: &str, action: &str, name: &str) -> bool {
        let scope = self.scope == "/" || self.scope == format!("/keys/{name}");
        let actions = self.actions().unwrap_or_default();
        self.principal == principal
            && scope
            && actions
                .iter()
                .any(|other| *other == "*" || *other == action)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_role_allows_its_actions_within_its_scope_only() {
        let release: Assignment = "o-1=08bbd89e-9f13-488c-ac41-acfcb10c90ab@/keys/kek"
            .parse()
            .unwrap();
        assert!(release.allows("o-1", "release/action", "kek"));
        assert!(!release.allows("o-2", "release/action", "kek"));
        assert!(!release.allows("o-1", "release/action", "other"));
        assert!(!release.allows("o-1", "unwrap/action", "kek"));
        let officer: Assignment = "o-1=Key Vault Crypto Officer".parse().unwrap();
        assert!(officer.allows("o-1", "delete", "any"));
    }

    #[test]
    fn roles_and_scopes_that_are_not_there_are_refused() {
        let error = |text: &str| text.parse::<Assignment>().unwrap_err();
        assert!(
            error("o-1=Owner").starts_with(
                "\"Owner\": expected one of Key Vault Crypto Service Encryption User, "
            )
        );
        assert_eq!(
            error("o-1=Key Vault Crypto User@/secrets/x"),
            "\"/secrets/x\": expected / or /keys/NAME"
        );
        assert_eq!(
            error("o-1"),
            "\"o-1\": expected OBJECT-ID=ROLE or OBJECT-ID=ROLE@/keys/NAME"
        );
    }
}
