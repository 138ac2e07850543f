//! Binds that shall pass mounts on to the host, or get them from there, need a mount there that does so.

use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use super::mounts::{MountKind, MountPlan};

/// A bind that mounts would never go through, in Docker's words.
#[derive(Debug, thiserror::Error)]
#[error("path {source_path} is mounted on {} but it is not a {} mount", mounted_on.display(), wanted.words())]
pub struct NotShared {
    source_path: String,
    mounted_on: PathBuf,
    wanted: Wanted,
}

/// What the host's mount has to be.
#[derive(Clone, Copy, Debug)]
enum Wanted {
    Shared,
    SharedOrSlave,
}

impl Wanted {
    /// What a bind needs; most need nothing.
    fn of(plan: &MountPlan) -> Option<Self> {
        match (plan.kind, plan.propagation.as_str()) {
            (MountKind::Bind, "shared" | "rshared") => Some(Self::Shared),
            (MountKind::Bind, "slave" | "rslave") => Some(Self::SharedOrSlave),
            _ => None,
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Shared => "shared",
            Self::SharedOrSlave => "shared or slave",
        }
    }

    fn has(self, group: Group) -> bool {
        group.shared || matches!(self, Self::SharedOrSlave) && group.slave
    }
}

/// How mounts go through a mount of the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Group {
    shared: bool,
    slave: bool,
}

/// Refuses `shared` and `rshared` where the host's mount is not shared, `slave` and `rslave` where it is neither
/// shared nor a slave.
pub fn check(plans: &[MountPlan]) -> Result<(), NotShared> {
    let mut asked = plans.iter().filter_map(|plan| Some((plan, Wanted::of(plan)?))).peekable();
    if asked.peek().is_none() {
        return Ok(());
    }
    // Without the table nothing is known, and the kernel has the last word anyway.
    let Ok(table) = std::fs::read_to_string("/proc/self/mountinfo") else { return Ok(()) };
    asked.try_for_each(|(plan, wanted)| {
        // What is not there yet is made on the mount of the folder above.
        let path = Path::new(&plan.source);
        let real = path.ancestors().find_map(|path| path.canonicalize().ok()).unwrap_or_default();
        match mount_of(&table, &real) {
            Some((mounted_on, group)) if !wanted.has(group) => {
                Err(NotShared { source_path: plan.source.clone(), mounted_on, wanted })
            }
            _ => Ok(()),
        }
    })
}

/// The mount that a path is on. Of several at one place the last one is seen.
fn mount_of(table: &str, path: &Path) -> Option<(PathBuf, Group)> {
    let mut found: Option<(PathBuf, Group)> = None;
    for line in table.lines() {
        let mut words = line.split(' ').skip(4);
        let Some(place) = words.next().map(unescaped) else { continue };
        // Optional fields end with a dash.
        let group =
            words.skip(1).take_while(|word| *word != "-").fold(Group::default(), |group, word| Group {
                shared: group.shared || word.starts_with("shared:"),
                slave: group.slave || word.starts_with("master:"),
            });
        let deeper = found.as_ref().is_none_or(|(known, _)| place.starts_with(known));
        if path.starts_with(&place) && deeper {
            found = Some((place, group));
        }
    }
    found
}

/// A path of the table: spaces, tabs, line ends and backslashes are written in octal.
fn unescaped(text: &str) -> PathBuf {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((first, more)) = rest.split_first() {
        let code = (*first == b'\\')
            .then(|| more.get(..3).and_then(|digits| std::str::from_utf8(digits).ok()))
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(byte) => {
                bytes.push(byte);
                rest = &more[3..];
            }
            None => {
                bytes.push(*first);
                rest = more;
            }
        }
    }
    std::ffi::OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deepest_and_last_mount_counts() {
        let table = "1 0 8:1 / / rw shared:1 - ext4 /dev/sda rw\n\
                     2 1 0:5 / /a\\040b rw - tmpfs tmpfs rw\n\
                     3 1 0:6 / /mnt rw master:4 - tmpfs tmpfs rw\n\
                     4 3 0:7 / /mnt rw master:4 shared:9 - tmpfs tmpfs rw\n";
        let found = |path: &str| {
            let (place, group) = mount_of(table, Path::new(path)).unwrap();
            (place.display().to_string(), group.shared, group.slave)
        };
        assert_eq!(found("/etc"), ("/".into(), true, false));
        assert_eq!(found("/a b/c"), ("/a b".into(), false, false));
        assert_eq!(found("/mnt/x"), ("/mnt".into(), true, true));
        assert_eq!(found("/mntx"), ("/".into(), true, false));
    }
}
