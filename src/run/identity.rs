//! The user and groups the node runs as.

use std::fs;

use super::settings::RunSettings;

/// User and groups by number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary groups; none leaves them as the agent's are.
    pub groups: Option<Vec<u32>>,
}

/// A user or group of the configuration cannot be found.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// /etc/passwd or /etc/group cannot be read.
    #[error("cannot read {file}: {source}")]
    Read {
        /// The file.
        file: &'static str,
        /// Why not.
        source: std::io::Error,
    },
    /// There is no such user.
    #[error(
        "run.user: no user {name:?} in /etc/passwd (users of a directory service are given by number)"
    )]
    NoUser {
        /// What was looked for.
        name: String,
    },
    /// There is no such group.
    #[error("run.group: no group {name:?} in /etc/group (or give its number)")]
    NoGroup {
        /// What was looked for.
        name: String,
    },
    /// A user given by number has no entry, so its group is unknown.
    #[error("run.group: user {uid} is not in /etc/passwd, so its group must be given")]
    GroupUnknown {
        /// The user id.
        uid: u32,
    },
}

impl Identity {
    /// The agent's own.
    #[must_use]
    pub fn own() -> Self {
        Self {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            groups: None,
        }
    }

    /// That of the configuration, looked up in /etc/passwd and /etc/group.
    ///
    /// # Errors
    /// When a name is not there.
    pub fn of(settings: &RunSettings) -> Result<Self, IdentityError> {
        if settings.user.is_none() && settings.group.is_none() && settings.groups.is_none() {
            return Ok(Self::own());
        }
        let read =
            |file| fs::read_to_string(file).map_err(|source| IdentityError::Read { file, source });
        Self::look_up(
            settings,
            Self::own(),
            &read("/etc/passwd")?,
            &read("/etc/group")?,
        )
    }

    fn look_up(
        settings: &RunSettings,
        own: Self,
        passwd: &str,
        group: &str,
    ) -> Result<Self, IdentityError> {
        // Only root can; a user who runs the node as itself has its groups already.
        let may_set_groups = own.uid == 0;
        let mut identity = own;
        let mut user_name = None;
        if let Some(wanted) = &settings.user {
            let entry = users(passwd).find(|user| user.name == wanted || user.uid_is(wanted));
            let uid = entry.as_ref().map(|user| user.uid);
            identity.uid =
                uid.or_else(|| wanted.parse().ok())
                    .ok_or_else(|| IdentityError::NoUser {
                        name: wanted.clone(),
                    })?;
            match (&entry, &settings.group) {
                (Some(user), _) => identity.gid = user.gid,
                (None, Some(_)) => {}
                (None, None) => return Err(IdentityError::GroupUnknown { uid: identity.uid }),
            }
            user_name = entry.map(|user| user.name);
        }
        if let Some(wanted) = &settings.group {
            identity.gid = group_id(group, wanted)?;
        }
        identity.groups = match (&settings.groups, settings.user.is_some()) {
            (Some(names), _) => {
                let ids = names.iter().map(|name| group_id(group, name));
                Some(ids.collect::<Result<_, _>>()?)
            }
            (None, true) => Some(match user_name {
                Some(name) => groups_of(group, name, identity.gid),
                None => vec![identity.gid],
            }),
            (None, false) => None,
        };
        if !may_set_groups && settings.groups.is_none() {
            identity.groups = None;
        }
        Ok(identity)
    }
}

/// One line of /etc/passwd (passwd(5)).
struct User<'p> {
    name: &'p str,
    uid: u32,
    gid: u32,
}

impl User<'_> {
    fn uid_is(&self, text: &str) -> bool {
        text.parse() == Ok(self.uid)
    }
}

fn users(passwd: &str) -> impl Iterator<Item = User<'_>> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        Some(User {
            name: fields.next()?,
            uid: fields.nth(1)?.parse().ok()?,
            gid: fields.next()?.parse().ok()?,
        })
    })
}

/// Name, id and members of each line of /etc/group (group(5)).
fn groups(group: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    group.lines().filter_map(|line| {
        let mut fields = line.split(':');
        Some((
            fields.next()?,
            fields.nth(1)?.parse().ok()?,
            fields.next().unwrap_or_default(),
        ))
    })
}

fn group_id(group: &str, wanted: &str) -> Result<u32, IdentityError> {
    groups(group)
        .find(|(name, ..)| *name == wanted)
        .map(|(_, id, _)| id)
        .or_else(|| wanted.parse().ok())
        .ok_or_else(|| IdentityError::NoGroup {
            name: wanted.to_owned(),
        })
}

/// Groups that list `user` as a member, and the primary one, as initgroups(3) has it.
fn groups_of(group: &str, user: &str, primary: u32) -> Vec<u32> {
    let listed = groups(group)
        .filter(|(_, id, members)| *id != primary && members.split(',').any(|m| m == user))
        .map(|(_, id, _)| id);
    std::iter::once(primary).chain(listed).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\ngeth:x:1001:1002::/home/geth:/bin/false\n";
    const GROUP: &str = "root:x:0:\ngeth:x:1002:\nssl:x:110:geth,other\ndisk:x:6:other\n";

    fn look_up(
        user: Option<&str>,
        group: Option<&str>,
        groups: Option<&[&str]>,
    ) -> Result<Identity, IdentityError> {
        let settings = RunSettings {
            user: user.map(str::to_owned),
            group: group.map(str::to_owned),
            groups: groups.map(|names| names.iter().map(|n| (*n).to_owned()).collect()),
        };
        let own = Identity {
            uid: 0,
            gid: 0,
            groups: None,
        };
        Identity::look_up(&settings, own, PASSWD, GROUP)
    }

    #[test]
    fn a_user_brings_its_groups_by_name_or_number() {
        let geth = Identity {
            uid: 1001,
            gid: 1002,
            groups: Some(vec![1002, 110]),
        };
        assert_eq!(look_up(Some("geth"), None, None).unwrap(), geth);
        assert_eq!(look_up(Some("1001"), None, None).unwrap(), geth);
    }

    #[test]
    fn groups_that_are_given_replace_those_looked_up() {
        let identity = look_up(Some("geth"), Some("ssl"), Some(&["disk", "99"])).unwrap();
        assert_eq!((identity.uid, identity.gid), (1001, 110));
        assert_eq!(identity.groups, Some(vec![6, 99]));
        let identity = look_up(None, Some("ssl"), None).unwrap();
        assert_eq!((identity.uid, identity.gid), (0, 110));
        assert_eq!(identity.groups, None);
    }

    #[test]
    fn users_and_groups_that_do_not_exist_are_named() {
        let text = |result: Result<Identity, IdentityError>| result.unwrap_err().to_string();
        assert!(text(look_up(Some("besu"), None, None)).contains("no user \"besu\""));
        assert!(text(look_up(None, Some("besu"), None)).contains("no group \"besu\""));
        assert!(text(look_up(Some("4000"), None, None)).contains("user 4000 is not in"));
        let identity = look_up(Some("4000"), Some("geth"), None).unwrap();
        assert_eq!(identity.groups, Some(vec![1002]));
    }
}
