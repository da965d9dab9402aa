//! The account to run as: looked up in /etc/passwd and /etc/group, or given as numbers.

use std::fs::read_to_string;

/// User and groups of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// As configured.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

impl Account {
    /// The account `user` (a name or a number), with `group` in place of its own group.
    ///
    /// # Errors
    /// What is not found, for people. Directories other than the local files are not asked; give numbers then.
    pub fn find(user: &str, group: Option<&str>) -> Result<Self, String> {
        let passwd = read_to_string("/etc/passwd").unwrap_or_default();
        let groups = read_to_string("/etc/group").unwrap_or_default();
        Self::in_files(user, group, &passwd, &groups)
    }

    fn in_files(
        user: &str,
        group: Option<&str>,
        passwd: &str,
        group_file: &str,
    ) -> Result<Self, String> {
        // name:password:uid:gid:…
        let entry = passwd.lines().map(fields).find(|entry| {
            let [name, _, uid, _] = entry;
            *name == user || *uid == user
        });
        let (name, uid, own_gid) = match entry {
            Some([name, _, uid, gid]) => (name, number(uid), number(gid)),
            None => (user, number(user), None),
        };
        let uid = uid.ok_or_else(|| format!("there is no user {user:?} in /etc/passwd"))?;
        let gid = match group {
            None => own_gid.ok_or_else(|| format!("user {user:?} has no group; set group too"))?,
            // name:password:gid:members
            Some(group) => group_file
                .lines()
                .map(fields)
                .find(|[name, ..]| *name == group)
                .map_or_else(|| number(group), |[_, _, gid, _]| number(gid))
                .ok_or_else(|| format!("there is no group {group:?} in /etc/group"))?,
        };
        let member = |members: &str| members.split(',').any(|member| member == name);
        let mut groups: Vec<u32> = group_file
            .lines()
            .map(fields)
            .filter(|[_, _, _, members]| member(members))
            .filter_map(|[_, _, gid, _]| number(gid))
            .collect();
        groups.push(gid);
        groups.sort_unstable();
        groups.dedup();
        Ok(Self {
            name: name.to_owned(),
            uid,
            gid,
            groups,
        })
    }
}

/// The first four fields of a line, empty where there are fewer.
fn fields(line: &str) -> [&str; 4] {
    let mut fields = line.split(':');
    std::array::from_fn(|_| fields.next().unwrap_or_default())
}

fn number(text: &str) -> Option<u32> {
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nnodeseal:x:990:991::/:/usr/sbin/nologin\n";
    const GROUP: &str = "root:x:0:\nnodeseal:x:991:\ntss:x:110:other,nodeseal\n";

    #[test]
    fn an_account_has_its_supplementary_groups() {
        let found = Account::in_files("nodeseal", None, PASSWD, GROUP).unwrap();
        assert_eq!((found.uid, found.gid), (990, 991));
        assert_eq!(found.groups, [110, 991]);
    }

    #[test]
    fn numbers_need_no_entry_but_a_group() {
        let found = Account::in_files("4000", Some("4001"), PASSWD, GROUP).unwrap();
        assert_eq!(
            (found.uid, found.gid, found.groups),
            (4000, 4001, vec![4001])
        );
        assert_eq!(
            Account::in_files("4000", None, PASSWD, GROUP).unwrap_err(),
            "user \"4000\" has no group; set group too"
        );
    }

    #[test]
    fn an_unknown_name_is_refused_by_name() {
        assert_eq!(
            Account::in_files("geth", None, PASSWD, GROUP).unwrap_err(),
            "there is no user \"geth\" in /etc/passwd"
        );
        assert_eq!(
            Account::in_files("nodeseal", Some("tpm"), PASSWD, GROUP).unwrap_err(),
            "there is no group \"tpm\" in /etc/group"
        );
    }
}
