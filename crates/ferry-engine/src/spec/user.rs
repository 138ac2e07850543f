//! Users and groups of a container, looked up in its own `/etc/passwd` and `/etc/group`. Pure.
//!
//! `user[:group]`, each a name or a number; a number need not be in the files. The host's users never matter.

/// Who a process runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// User.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Further groups, ascending.
    pub groups: Vec<u32>,
    /// Home directory, `/` when the files name none.
    pub home: String,
}

/// A user or group that cannot be used; the texts are Docker's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UserError {
    /// The name is not in the file.
    #[error("unable to find user {0}: no matching entries in passwd file")]
    User(String),
    /// The name is not in the file.
    #[error("unable to find group {0}: no matching entries in group file")]
    Group(String),
    /// A number the kernel does not take.
    #[error("uids and gids must be in range 0-2147483647")]
    Range,
}

/// Highest id accepted: the kernel takes more, but -1 means "leave it" in many calls.
const MAX_ID: u32 = i32::MAX as u32;

/// Resolves `spec` (empty means root) and the groups added by `--group-add`.
pub fn resolve(spec: &str, group_add: &[String], passwd: &str, group: &str) -> Result<Identity, UserError> {
    let (user, primary) = match spec.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (spec, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    let entry = find_user(user, passwd);
    let uid = match (&entry, number(user)?) {
        (Some(entry), _) => entry.uid,
        (None, Some(uid)) => uid,
        (None, None) => return Err(UserError::User(user.to_owned())),
    };
    let gid = match primary {
        Some(name) => group_id(name, group)?,
        None => entry.as_ref().map_or(0, |entry| entry.gid),
    };
    let mut groups = Vec::new();
    if let (Some(entry), None) = (&entry, primary) {
        groups.extend(memberships(&entry.name, group));
    }
    for name in group_add {
        groups.push(group_id(name, group)?);
    }
    groups.sort_unstable();
    groups.dedup();
    let home = entry.map(|entry| entry.home).filter(|home| !home.is_empty()).unwrap_or_else(|| "/".into());
    Ok(Identity { uid, gid, groups, home })
}

struct PasswdEntry {
    name: String,
    uid: u32,
    gid: u32,
    home: String,
}

fn passwd_entries(text: &str) -> impl Iterator<Item = PasswdEntry> {
    text.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let name = fields.next().filter(|name| !name.is_empty() && !name.starts_with('#'))?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        let home = fields.nth(1).unwrap_or("").to_owned();
        Some(PasswdEntry { name: name.to_owned(), uid, gid, home })
    })
}

fn find_user(user: &str, passwd: &str) -> Option<PasswdEntry> {
    let uid: Option<u32> = user.parse().ok();
    passwd_entries(passwd).find(|entry| entry.name == user || Some(entry.uid) == uid)
}

struct GroupEntry<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

fn group_entries(text: &str) -> impl Iterator<Item = GroupEntry<'_>> {
    text.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let name = fields.next().filter(|name| !name.is_empty() && !name.starts_with('#'))?;
        let gid = fields.nth(1)?.parse().ok()?;
        Some(GroupEntry { name, gid, members: fields.next().unwrap_or("") })
    })
}

fn memberships(user: &str, group: &str) -> Vec<u32> {
    let member = |entry: &GroupEntry<'_>| entry.members.split(',').any(|name| name == user);
    group_entries(group).filter(member).map(|entry| entry.gid).collect()
}

fn group_id(name: &str, group: &str) -> Result<u32, UserError> {
    let gid: Option<u32> = name.parse().ok();
    match group_entries(group).find(|entry| entry.name == name || Some(entry.gid) == gid) {
        Some(entry) => Ok(entry.gid),
        None => number(name)?.ok_or_else(|| UserError::Group(name.to_owned())),
    }
}

/// A decimal number in range; a name is `None`.
fn number(text: &str) -> Result<Option<u32>, UserError> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return if text.starts_with('-') && text[1..].parse::<u64>().is_ok() {
            Err(UserError::Range)
        } else {
            Ok(None)
        };
    }
    match text.parse() {
        Ok(id) if id <= MAX_ID => Ok(Some(id)),
        _ => Err(UserError::Range),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n# c\nbroken\nweb:x:33:34:www:/srv:/bin/sh\n\
                          77:x:5:5::/five:\nnohome:x:9:9\n";
    const GROUP: &str = "root:x:0:\nwheel:x:10:root,web\nweb:x:34:\naudio:x:29:web\n";

    #[test]
    fn users_resolve() {
        for (spec, add, uid, gid, groups, home) in [
            ("", &[][..], 0, 0, &[10][..], "/root"),
            ("root", &[], 0, 0, &[10], "/root"),
            ("0", &[], 0, 0, &[10], "/root"),
            ("web", &[], 33, 34, &[10, 29], "/srv"),
            ("33", &["audio", "4000"], 33, 34, &[10, 29, 4000], "/srv"),
            ("web:wheel", &[], 33, 10, &[], "/srv"),
            ("1000", &[], 1000, 0, &[], "/"),
            ("1000:1001", &[], 1000, 1001, &[], "/"),
            ("77", &[], 5, 5, &[], "/five"),
            ("nohome", &[], 9, 9, &[], "/"),
        ] {
            let add: Vec<String> = add.iter().map(|it| (*it).to_owned()).collect();
            let identity = resolve(spec, &add, PASSWD, GROUP).expect(spec);
            let expected = Identity { uid, gid, groups: groups.to_vec(), home: home.into() };
            assert_eq!(identity, expected, "{spec}");
        }
    }

    #[test]
    fn unknown_names_say_so() {
        for (spec, add, message) in [
            ("nobody", &[][..], "unable to find user nobody: no matching entries in passwd file"),
            ("web:staff", &[], "unable to find group staff: no matching entries in group file"),
            ("web", &["staff"], "unable to find group staff: no matching entries in group file"),
            ("4294967295", &[], "uids and gids must be in range 0-2147483647"),
            ("-5", &[], "uids and gids must be in range 0-2147483647"),
        ] {
            let add: Vec<String> = add.iter().map(|it| (*it).to_owned()).collect();
            assert_eq!(resolve(spec, &add, PASSWD, GROUP).expect_err(spec).to_string(), message);
        }
    }

    #[test]
    fn an_image_without_the_files_knows_numbers_only() {
        let identity = resolve("", &[], "", "").unwrap();
        assert_eq!((identity.uid, identity.gid, identity.home.as_str()), (0, 0, "/"));
        assert!(resolve("root", &[], "", "").is_err());
    }
}
