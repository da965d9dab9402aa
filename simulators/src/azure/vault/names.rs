//! What a request asks for: operations by method and path, with their names in audit records and roles.

use hyper::Method;

/// An operation on a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Create,
    Import,
    Get,
    List,
    ListVersions,
    Update,
    Rotate,
    Delete,
    GetDeleted,
    ListDeleted,
    Recover,
    Purge,
    Encrypt,
    Decrypt,
    Wrap,
    Unwrap,
    Release,
}

impl Operation {
    /// `operationName` of its audit record, by which faults name it too.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Create => "KeyCreate",
            Self::Import => "KeyImport",
            Self::Get => "KeyGet",
            Self::List => "KeyList",
            Self::ListVersions => "KeyListVersions",
            Self::Update => "KeyUpdate",
            Self::Rotate => "KeyRotate",
            Self::Delete => "KeyDelete",
            Self::GetDeleted => "KeyGetDeleted",
            Self::ListDeleted => "KeyListDeleted",
            Self::Recover => "KeyRecover",
            Self::Purge => "KeyPurge",
            Self::Encrypt => "KeyEncrypt",
            Self::Decrypt => "KeyDecrypt",
            Self::Wrap => "KeyWrap",
            Self::Unwrap => "KeyUnwrap",
            Self::Release => "KeyRelease",
        }
    }

    /// The data action it takes, below `Microsoft.KeyVault/vaults/keys/`.
    pub(super) fn action(self) -> &'static str {
        match self {
            Self::Get | Self::List | Self::ListVersions => "read",
            Self::Create => "create/action",
            Self::Import => "import/action",
            Self::Update => "update/action",
            Self::Rotate => "rotate/action",
            Self::Delete => "delete",
            Self::GetDeleted | Self::ListDeleted => "deleted/read",
            Self::Recover => "recover/action",
            Self::Purge => "purge/action",
            Self::Encrypt => "encrypt/action",
            Self::Decrypt => "decrypt/action",
            Self::Wrap => "wrap/action",
            Self::Unwrap => "unwrap/action",
            Self::Release => "release/action",
        }
    }

    /// The key operation it needs, none where it is not about using a key.
    pub(super) fn key_op(self) -> Option<&'static str> {
        match self {
            Self::Encrypt => Some("encrypt"),
            Self::Decrypt => Some("decrypt"),
            Self::Wrap => Some("wrapKey"),
            Self::Unwrap => Some("unwrapKey"),
            _ => None,
        }
    }

    /// Whether it is refused on a key that is not enabled. By live tests (azure-sdk-for-python#45342) what uses the
    /// public half alone is not. That release is, the documents say and nobody has shown.
    pub(super) fn needs_enabled(self) -> bool {
        matches!(self, Self::Decrypt | Self::Unwrap | Self::Release)
    }
}

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) operation: Operation,
    /// Empty for lists.
    pub(super) name: String,
    pub(super) version: Option<String>,
}

/// What is asked for, none where there is no such operation.
pub(super) fn target(method: &Method, path: &str) -> Option<Target> {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let is = |other: &Method| method == other;
    let (operation, name, version) = match parts.as_slice() {
        ["keys"] if is(&Method::GET) => (Operation::List, "", None),
        ["deletedkeys"] if is(&Method::GET) => (Operation::ListDeleted, "", None),
        ["deletedkeys", name] if is(&Method::GET) => (Operation::GetDeleted, *name, None),
        ["deletedkeys", name] if is(&Method::DELETE) => (Operation::Purge, *name, None),
        ["deletedkeys", name, "recover"] if is(&Method::POST) => (Operation::Recover, *name, None),
        ["keys", name] if is(&Method::PUT) => (Operation::Import, *name, None),
        ["keys", name] if is(&Method::GET) => (Operation::Get, *name, None),
        ["keys", name] if is(&Method::PATCH) => (Operation::Update, *name, None),
        ["keys", name] if is(&Method::DELETE) => (Operation::Delete, *name, None),
        ["keys", name, "versions"] if is(&Method::GET) => (Operation::ListVersions, *name, None),
        ["keys", name, "create"] if is(&Method::POST) => (Operation::Create, *name, None),
        ["keys", name, "rotate"] if is(&Method::POST) => (Operation::Rotate, *name, None),
        ["keys", name, version] if is(&Method::GET) => (Operation::Get, *name, Some(*version)),
        ["keys", name, version] if is(&Method::PATCH) => (Operation::Update, *name, Some(*version)),
        // The version may be empty, or left out together with its slash.
        ["keys", name, verb] if is(&Method::POST) => (using(verb)?, *name, None),
        ["keys", name, version, verb] if is(&Method::POST) => (
            using(verb)?,
            *name,
            Some(*version).filter(|v| !v.is_empty()),
        ),
        _ => return None,
    };
    // Names: 1 to 127 letters, digits and hyphens (docs key-vault/general/about-keys-secrets-certificates).
    let letters = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    let lists = matches!(operation, Operation::List | Operation::ListDeleted);
    let good = (1..=127).contains(&name.len()) && name.bytes().all(letters);
    (lists || good).then(|| Target {
        operation,
        name: name.to_owned(),
        version: version.filter(|v| !v.is_empty()).map(str::to_owned),
    })
}

fn using(verb: &str) -> Option<Operation> {
    Some(match verb.to_ascii_lowercase().as_str() {
        "encrypt" => Operation::Encrypt,
        "decrypt" => Operation::Decrypt,
        "wrapkey" => Operation::Wrap,
        "unwrapkey" => Operation::Unwrap,
        "release" => Operation::Release,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_known_by_method_and_path() {
        let found = |method: &Method, path: &str| {
            let target = target(method, path)?;
            Some((target.operation, target.name, target.version))
        };
        let expected = |operation, name: &str, version: Option<&str>| {
            Some((operation, name.to_owned(), version.map(str::to_owned)))
        };
        let post = &Method::POST;
        assert_eq!(
            found(post, "/keys/k/create"),
            expected(Operation::Create, "k", None)
        );
        assert_eq!(
            found(post, "/keys/k/v/release"),
            expected(Operation::Release, "k", Some("v"))
        );
        assert_eq!(
            found(post, "/keys/k//wrapkey"),
            expected(Operation::Wrap, "k", None)
        );
        assert_eq!(
            found(post, "/keys/k/unwrapKey"),
            expected(Operation::Unwrap, "k", None)
        );
        assert_eq!(
            found(&Method::GET, "/keys/k/"),
            expected(Operation::Get, "k", None)
        );
        assert_eq!(
            found(&Method::GET, "/keys"),
            expected(Operation::List, "", None)
        );
        for (method, path) in [
            (post, "/keys/k/v/sign"),
            (post, "/keys/a_b/create"),
            (post, "/secrets/x"),
        ] {
            assert_eq!(found(method, path), None, "{path}");
        }
    }
}
