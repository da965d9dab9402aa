//! What a statement speaks of.

use crate::policy::aws::known::CONTEXT;
use crate::policy::aws::pattern::fits_any_case;
use crate::policy::aws::statement::Statement;

/// Whether a statement is about an action.
pub(super) fn covers(statement: &Statement, action: &str) -> bool {
    let patterns = &statement.action.patterns;
    patterns.iter().any(|p| fits_any_case(p, action)) != statement.action.negated
}

/// Whether a statement is about every action of KMS, by `*` or `kms:*`.
pub(super) fn covers_all(statement: &Statement) -> bool {
    let all = |p: &String| p.chars().all(|c| c == '*') || p.eq_ignore_ascii_case("kms:*");
    !statement.action.negated && statement.action.patterns.iter().any(all)
}

/// Whether a statement asks for something of the encryption context.
pub(super) fn binds_context(statement: &Statement) -> bool {
    statement.conditions.iter().any(|condition| {
        let key = condition.key.to_ascii_lowercase();
        let asked = key.starts_with(CONTEXT) || key == "kms:encryptioncontextkeys";
        asked && !condition.operator.if_exists && !condition.operator.kind.is_negated()
    })
}
