//! Who makes a request, as IAM sees it: a user, a session of a role, or the root of an account.

/// Who makes a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    kind: Kind,
    account: String,
    /// Value of `aws:PrincipalArn`: of a session, the ARN of its role.
    principal_arn: String,
    /// ARN of the session, where it is one.
    session_arn: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    User,
    Session,
    Root,
}

/// Why a caller is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallerError {
    /// Not an ARN of that kind.
    #[error("expected {expected}, found {found:?}")]
    Arn {
        /// What was expected.
        expected: &'static str,
        /// What was found.
        found: String,
    },
}

impl Caller {
    /// An IAM user, by `arn:aws:iam::ACCOUNT:user/NAME`.
    ///
    /// # Errors
    /// The ARN is none of a user.
    pub fn user(arn: &str) -> Result<Self, CallerError> {
        let (_, account, _) = identity(arn, "user/", "the ARN of an IAM user")?;
        Ok(Self {
            kind: Kind::User,
            account: account.to_owned(),
            principal_arn: arn.to_owned(),
            session_arn: None,
        })
    }

    /// A session of a role, by `arn:aws:iam::ACCOUNT:role/PATH/NAME` and the session's name.
    ///
    /// # Errors
    /// The ARN is none of a role.
    pub fn role(arn: &str, session: &str) -> Result<Self, CallerError> {
        let (partition, account, path) = identity(arn, "role/", "the ARN of an IAM role")?;
        // Sessions are named without the path of their role.
        let name = path.rsplit('/').next().unwrap_or(path);
        Ok(Self {
            kind: Kind::Session,
            account: account.to_owned(),
            principal_arn: arn.to_owned(),
            session_arn: Some(format!(
                "arn:{partition}:sts::{account}:assumed-role/{name}/{session}"
            )),
        })
    }

    /// The root of an account, by its number.
    ///
    /// # Errors
    /// It is no number of twelve digits.
    pub fn account_root(account: &str) -> Result<Self, CallerError> {
        if !is_account(account) {
            return Err(CallerError::Arn {
                expected: "an account number of twelve digits",
                found: account.to_owned(),
            });
        }
        Ok(Self {
            kind: Kind::Root,
            account: account.to_owned(),
            principal_arn: format!("arn:aws:iam::{account}:root"),
            session_arn: None,
        })
    }

    /// The account, twelve digits.
    #[must_use]
    pub fn account(&self) -> &str {
        &self.account
    }

    /// ARN of the user, role or root.
    #[must_use]
    pub fn principal_arn(&self) -> &str {
        &self.principal_arn
    }

    /// ARN as `sts:GetCallerIdentity` and error messages give it: of a session, its own.
    #[must_use]
    pub fn arn(&self) -> &str {
        self.session_arn.as_deref().unwrap_or(&self.principal_arn)
    }

    pub(super) fn is_root(&self) -> bool {
        self.kind == Kind::Root
    }

    /// Value of `aws:PrincipalType`.
    pub(super) fn principal_type(&self) -> &'static str {
        match self.kind {
            Kind::User => "User",
            Kind::Session => "AssumedRole",
            Kind::Root => "Account",
        }
    }

    /// Every name under which a policy may list exactly this caller: principals take no wildcards.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        [
            Some(self.principal_arn.as_str()),
            self.session_arn.as_deref(),
        ]
        .into_iter()
        .flatten()
    }
}

/// Partition, account and what follows the kind, of `arn:PARTITION:iam::ACCOUNT:KIND…`.
fn identity<'a>(
    arn: &'a str,
    kind: &str,
    expected: &'static str,
) -> Result<(&'a str, &'a str, &'a str), CallerError> {
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    if let ["arn", partition, "iam", "", account, name] = parts.as_slice()
        && is_account(account)
        && let Some(name) = name.strip_prefix(kind).filter(|name| !name.is_empty())
    {
        return Ok((partition, account, name));
    }
    Err(CallerError::Arn {
        expected,
        found: arn.to_owned(),
    })
}

/// Whether `text` is an account number.
pub(super) fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The account that a principal names as a whole: its number, or `arn:aws:iam::ACCOUNT:root`.
pub(super) fn whole_account(principal: &str) -> Option<&str> {
    if is_account(principal) {
        return Some(principal);
    }
    let parts: Vec<&str> = principal.splitn(6, ':').collect();
    match parts.as_slice() {
        ["arn", _, "iam", "", account, "root"] if is_account(account) => Some(account),
        _ => None,
    }
}
