//! Binds that shall pass mounts on to the host need a mount there that does so.

use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use super::mounts::{MountKind, MountPlan};

/// A bind whose mounts would reach nobody, in Docker's words.
#[derive(Debug, thiserror::Error)]
#[error("path {source_path} is mounted on {} but it is not a shared mount", mounted_on.display())]
pub struct NotShared {
    source_path: String,
    mounted_on: PathBuf,
}

/// Refuses `shared` and `rshared` where the host's mount is not shared.
pub fn check(plans: &[MountPlan]) -> Result<(), NotShared> {
    let shares = |plan: &&MountPlan| {
        plan.kind == MountKind::Bind && matches!(plan.propagation.as_str(), "shared" | "rshared")
    };
    let mut asked = plans.iter().filter(shares).peekable();
    if asked.peek().is_none() {
        return Ok(());
    }
    // Without the table nothing is known, and the kernel has the last word anyway.
    let Ok(table) = std::fs::read_to_string("/proc/self/mountinfo") else { return Ok(()) };
    asked.try_for_each(|plan| {
        // What is not there yet is made on the mount of the folder above.
        let path = Path::new(&plan.source);
        let real = path.ancestors().find_map(|path| path.canonicalize().ok()).unwrap_or_default();
        match mount_of(&table, &real) {
            Some((mounted_on, false)) => Err(NotShared { source_path: plan.source.clone(), mounted_on }),
            _ => Ok(()),
        }
    })
}

/// The mount that a path is on, and whether it is shared. Of several at one place the last one is seen.
fn mount_of(table: &str, path: &Path) -> Option<(PathBuf, bool)> {
    let mut found: Option<(PathBuf, bool)> = None;
    for line in table.lines() {
        let mut words = line.split(' ').skip(4);
        let Some(place) = words.next().map(unescaped) else { continue };
        // Optional fields end with a dash.
        let shared = words.skip(1).take_while(|word| *word != "-").any(|word| word.starts_with("shared:"));
        let deeper = found.as_ref().is_none_or(|(known, _)| place.starts_with(known));
        if path.starts_with(&place) && deeper {
            found = Some((place, shared));
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
            let (place, shared) = mount_of(table, Path::new(path)).unwrap();
            (place.display().to_string(), shared)
        };
        assert_eq!(found("/etc"), ("/".into(), true));
        assert_eq!(found("/a b/c"), ("/a b".into(), false));
        assert_eq!(found("/mnt/x"), ("/mnt".into(), true));
        assert_eq!(found("/mntx"), ("/".into(), true));
    }
}
