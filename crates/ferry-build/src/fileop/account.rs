//! Users and groups of a tree, read from its own `/etc/passwd` and `/etc/group`.

use std::io::Read;
use std::os::fd::BorrowedFd;
use std::path::Path;

use ferry_sys::tree::open_in_root;
use rustix::fs::OFlags;

use super::FileError;
use super::write::Owner;
use crate::llb::ops::{ChownOpt, User, UserOpt};

/// Longest account file that is read; real ones are a few kilobytes.
const MAX_BYTES: u64 = 4 << 20;

/// The accounts of a tree, read when first asked for.
pub struct Accounts<'a> {
    root: BorrowedFd<'a>,
}

impl<'a> Accounts<'a> {
    /// The accounts of the tree at `root`.
    pub fn new(root: BorrowedFd<'a>) -> Self {
        Self { root }
    }

    /// The numbers of a `--chown`. Without a group the user's own number is the group's too.
    pub fn resolve(&self, owner: &ChownOpt) -> Result<Owner, FileError> {
        let uid = match owner.user.as_ref() {
            None => 0,
            Some(user) => self.number(user, "user", "/etc/passwd")?,
        };
        let gid = match owner.group.as_ref() {
            None => uid,
            Some(group) => self.number(group, "group", "/etc/group")?,
        };
        Ok(Owner { uid, gid })
    }

    fn number(&self, account: &UserOpt, kind: &'static str, file: &'static str) -> Result<u32, FileError> {
        let name = match account.user.as_ref() {
            None => return Ok(0),
            Some(User::ById(number)) => return Ok(*number),
            Some(User::ByName(name)) => &name.name,
        };
        let text = self.read(file)?;
        find(&text, name).ok_or_else(|| FileError::NoAccount { kind, name: name.clone(), file })
    }

    fn read(&self, file: &'static str) -> Result<String, FileError> {
        let path = Path::new(file);
        match open_in_root(self.root, path, OFlags::RDONLY) {
            Err(rustix::io::Errno::NOENT) => Ok(String::new()),
            Err(errno) => Err(FileError::errno("open", path, errno)),
            Ok(descriptor) => {
                let mut bytes = Vec::new();
                std::fs::File::from(descriptor)
                    .take(MAX_BYTES)
                    .read_to_end(&mut bytes)
                    .map_err(FileError::io("read", path))?;
                Ok(String::from_utf8_lossy(&bytes).into_owned())
            }
        }
    }
}

/// The third field of the line that begins with a name: both files are built so.
fn find(text: &str, name: &str) -> Option<u32> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.trim().parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::find;

    #[test]
    fn names_are_found_in_the_first_field() {
        let text = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/:\nbad:x:no:1\n";
        assert_eq!(find(text, "app"), Some(1000));
        assert_eq!(find(text, "bad"), None);
        assert_eq!(find(text, "x"), None);
    }
}
