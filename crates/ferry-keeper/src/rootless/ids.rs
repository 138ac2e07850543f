//! Which ids a user may hand out, and telling the kernel.

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

/// Where the set-id programs are looked for.
const FOLDERS: [&str; 4] = ["/usr/bin", "/bin", "/usr/sbin", "/usr/local/bin"];
/// The programs that write a map on behalf of a user.
const HELPERS: [&str; 2] = ["newuidmap", "newgidmap"];

/// Consecutive ids: the first, and how many.
type Range = (u32, u32);

/// A user's own ids and those subordinate to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ids {
    name: String,
    uid: u32,
    gid: u32,
    subordinate_uids: Vec<Range>,
    subordinate_gids: Vec<Range>,
}

impl Ids {
    /// Those of whoever runs this process.
    pub(super) fn of_user() -> Result<Ids, String> {
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let name = user_name(&read("/etc/passwd"), uid).unwrap_or_default();
        let ranges = |path| ranges(&read(path), &name, uid);
        Ok(Ids {
            uid,
            gid,
            subordinate_uids: ranges("/etc/subuid"),
            subordinate_gids: ranges("/etc/subgid"),
            name,
        })
    }

    /// Whether there are ids for more than one user in the containers.
    pub(super) fn has_ranges(&self) -> bool {
        !self.subordinate_uids.is_empty() && !self.subordinate_gids.is_empty()
    }

    /// What is said where only one id can be mapped.
    pub(super) fn poverty(&self, helper: Option<&str>) -> String {
        let mend = match helper {
            Some(program) => format!("{program} is missing: apt install uidmap"),
            None => format!("/etc/subuid and /etc/subgid give no range: {}", self.remedy()),
        };
        format!(
            "Containers have one user id only, so images whose files belong to others do not work. {mend}"
        )
    }

    /// The command that gives this user subordinate ids.
    pub(super) fn remedy(&self) -> String {
        let name = if self.name.is_empty() { self.uid.to_string() } else { self.name.clone() };
        format!("usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {name}")
    }

    /// Maps root to the user alone, which needs nobody's help. The caller is in the new namespace.
    pub(super) fn map_one(&self) -> io::Result<()> {
        std::fs::write("/proc/self/setgroups", "deny")?;
        std::fs::write("/proc/self/uid_map", format!("0 {} 1", self.uid))?;
        std::fs::write("/proc/self/gid_map", format!("0 {} 1", self.gid))
    }

    /// Has the maps of a process written by the set-id programs.
    pub(super) fn map(&self, pid: i32) -> Result<(), String> {
        let both = [(self.uid, &self.subordinate_uids), (self.gid, &self.subordinate_gids)];
        for (program, (own, subordinate)) in HELPERS.iter().zip(both) {
            let path = find(program).ok_or_else(|| format!("{program} is missing"))?;
            let mut command = Command::new(path);
            command.arg(pid.to_string()).args(map_arguments(own, subordinate)).stdin(Stdio::null());
            let output = command.output().map_err(|error| format!("{program}: {error}"))?;
            if !output.status.success() {
                let text = String::from_utf8_lossy(&output.stderr);
                return Err(format!("{program} refused: {}", text.trim()));
            }
        }
        Ok(())
    }
}

/// Root is the user, and the subordinate ids follow from 1 on.
fn map_arguments(own: u32, subordinate: &[Range]) -> Vec<String> {
    let mut words = vec!["0".to_owned(), own.to_string(), "1".to_owned()];
    let mut next = 1;
    for (first, count) in subordinate {
        words.extend([next.to_string(), first.to_string(), count.to_string()]);
        next += count;
    }
    words
}

/// The first of the programs that is not installed.
pub(super) fn missing_helper() -> Option<&'static str> {
    HELPERS.into_iter().find(|program| find(program).is_none())
}

/// A program in the folders where distributions put them; a user's `PATH` does not count for set-id programs.
pub(super) fn find(program: &str) -> Option<std::path::PathBuf> {
    FOLDERS.iter().map(|folder| Path::new(folder).join(program)).find(|path| path.exists())
}

fn user_name(passwd: &str, uid: u32) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

/// Lines `name:first:count`, where the name may be the number.
fn ranges(text: &str, name: &str, uid: u32) -> Vec<Range> {
    let number = uid.to_string();
    let parse = |line: &str| -> Option<Range> {
        let mut fields = line.trim().split(':');
        let whose = fields.next()?;
        let own = (!name.is_empty() && whose == name) || whose == number;
        let (first, count) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        (own && count > 0).then_some((first, count))
    };
    text.lines().filter_map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read() {
        let passwd = "root:x:0:0::/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\nbad\n";
        assert_eq!(user_name(passwd, 1000).as_deref(), Some("ann"));
        assert_eq!(user_name(passwd, 7), None);
        let text = "bob:100000:65536\nann:165536:65536\n1000:300000:10\nann:x:y\n# ann:1:1\n";
        assert_eq!(ranges(text, "ann", 1000), [(165_536, 65536), (300_000, 10)]);
        assert_eq!(ranges(text, "", 1000), [(300_000, 10)]);
        assert!(ranges(text, "eve", 1001).is_empty());
    }

    #[test]
    fn root_is_the_user_and_the_others_follow() {
        let words = map_arguments(1000, &[(165_536, 65536), (300_000, 10)]).join(" ");
        assert_eq!(words, "0 1000 1 1 165536 65536 65537 300000 10");
    }
}
