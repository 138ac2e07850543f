//! Acting on files with somebody else's rights: the file system ids and groups of one thread.

use std::marker::PhantomData;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

use crate::clone::last_errno;

/// An id that is nobody's: setting it changes nothing and tells the present one.
const ASK: u32 = u32::MAX;

/// Whose rights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rights {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Further groups.
    pub groups: Vec<u32>,
}

/// Rights that the calling thread has until this is dropped.
#[derive(Debug)]
pub struct Assumed {
    /// What the thread had before; None where it had these rights already.
    before: Option<(u32, u32, Vec<u32>)>,
    /// They are the thread's, so that this must stay on it.
    _thread: PhantomData<*const ()>,
}

fn set_user(uid: u32) -> u32 {
    // SAFETY: takes a number, changes this thread's file system id, touches no memory.
    unsafe { libc::syscall(libc::SYS_setfsuid, uid) as u32 }
}

fn set_group(gid: u32) -> u32 {
    // SAFETY: as above.
    unsafe { libc::syscall(libc::SYS_setfsgid, gid) as u32 }
}

fn groups() -> Result<Vec<u32>, Errno> {
    Ok(rustix::process::getgroups()?.into_iter().map(|gid| gid.as_raw()).collect())
}

/// The system call itself: unlike libc's function it changes the calling thread alone.
fn set_groups(groups: &[u32]) -> Result<(), Errno> {
    // SAFETY: the kernel reads as many ids as the slice holds.
    match unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) } {
        -1 => Err(last_errno()),
        _ => Ok(()),
    }
}

impl Rights {
    /// Those of whoever is at the other end of a unix socket.
    pub fn of_peer(socket: BorrowedFd<'_>) -> Result<Rights, Errno> {
        let peer = rustix::net::sockopt::socket_peercred(socket)?;
        let groups = peer_groups(socket)?;
        Ok(Rights { uid: peer.uid.as_raw(), gid: peer.gid.as_raw(), groups })
    }

    /// Gives the calling thread these rights on files, in the place of root's.
    pub fn assume(&self) -> Result<Assumed, Errno> {
        if set_user(ASK) == self.uid {
            return Ok(Assumed { before: None, _thread: PhantomData });
        }
        let before = (set_user(ASK), set_group(ASK), groups()?);
        set_groups(&self.groups)?;
        let assumed = Assumed { before: Some(before), _thread: PhantomData };
        set_group(self.gid);
        // The user last: with it the rights to set the others may go.
        set_user(self.uid);
        match (set_user(ASK), set_group(ASK)) == (self.uid, self.gid) {
            true => Ok(assumed),
            false => Err(Errno::PERM),
        }
    }
}

impl Drop for Assumed {
    fn drop(&mut self) {
        let Some((uid, gid, groups)) = self.before.take() else { return };
        set_user(uid);
        set_group(gid);
        let restored = set_groups(&groups).is_ok() && (set_user(ASK), set_group(ASK)) == (uid, gid);
        if !restored {
            // A thread with another's rights must not go back to work.
            std::process::abort();
        }
    }
}

fn peer_groups(socket: BorrowedFd<'_>) -> Result<Vec<u32>, Errno> {
    let mut list = vec![0_u32; 64];
    loop {
        let mut bytes =
            libc::socklen_t::try_from(list.len() * size_of::<u32>()).map_err(|_| Errno::OVERFLOW)?;
        // SAFETY: the kernel writes at most `bytes` bytes to the list, which has that many.
        let result = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                list.as_mut_ptr().cast(),
                &raw mut bytes,
            )
        };
        let count = bytes as usize / size_of::<u32>();
        match (result, last_errno()) {
            (0, _) => {
                list.truncate(count);
                return Ok(list);
            }
            // It says how many there are.
            (_, Errno::RANGE) if count > list.len() => list.resize(count, 0),
            (_, errno) => return Err(errno),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn another_users_rights() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED: needs root");
            return;
        }
        let path = std::env::temp_dir().join(format!("ferry-rights-{}", std::process::id()));
        std::fs::write(&path, "secret").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let nobody = Rights { uid: 65534, gid: 65534, groups: vec![] };
        let group = Rights { groups: vec![0], ..nobody.clone() };
        {
            let _assumed = nobody.assume().unwrap();
            assert!(std::fs::read(&path).is_err());
            drop(nobody.assume().unwrap());
            assert!(std::fs::read(&path).is_err(), "the inner one gives nothing back");
        }
        assert!(std::fs::read(&path).is_ok());
        {
            let _assumed = group.assume().unwrap();
            assert!(std::fs::read(&path).is_ok(), "a group of it may");
        }
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn the_peer_is_known() {
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let rights = Rights::of_peer(one.as_fd()).unwrap();
        assert_eq!(rights.uid, rustix::process::geteuid().as_raw());
    }
}
