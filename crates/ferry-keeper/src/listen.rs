//! The API's unix sockets: bound by the keeper, kept open as long as any keeper or engine lives.
//!
//! Owns stale sockets, mode and group. TCP addresses are the engine's to bind.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use ferry_sys::channel;
use ferry_sys::namespace::in_user_namespace;
use rustix::fs::{CWD, Gid, Mode};

/// Root and the group below: whoever connects is root on this host.
const MODE: u32 = 0o660;
/// Nobody but the owner.
const OWN_MODE: u32 = 0o600;
/// The first of these groups that exists owns the socket; else root's.
const GROUPS: [&str; 2] = ["ferry", "docker"];

/// Why the API socket could not be had.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another engine answers there.
    #[error("another engine already listens on {}", .0.display())]
    InUse(PathBuf),
    /// Something that is no socket is in the way.
    #[error("{} exists and is not a socket", .0.display())]
    NotASocket(PathBuf),
    /// The kernel refused.
    #[error("cannot listen on {}: {source}", path.display())]
    Bind {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Binds every `unix://` host.
pub fn bind_all(hosts: &[String]) -> Result<Vec<OwnedFd>, ListenError> {
    hosts.iter().filter_map(|host| host.strip_prefix("unix://")).map(|path| bind(Path::new(path))).collect()
}

/// Removes the sockets of the hosts.
pub fn unlink_all(hosts: &[String]) {
    for path in hosts.iter().filter_map(|host| host.strip_prefix("unix://")) {
        let _ = std::fs::remove_file(path);
    }
}

/// Binds one socket, replacing a dead one. The caller holds the run root's lock.
pub fn bind(path: &Path) -> Result<OwnedFd, ListenError> {
    let failed = |source: io::Error| ListenError::Bind { path: path.to_owned(), source };
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(failed)?;
    }
    remove_stale(path)?;
    // An ordinary user's socket is that user's alone, root of a user namespace or not.
    let shared = rustix::process::geteuid().is_root() && !in_user_namespace();
    let mode = if shared { MODE } else { OWN_MODE };
    let socket = channel::listen(path, mode).map_err(failed)?;
    let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
    if shared && let Some(gid) = GROUPS.iter().find_map(|name| group_id(&groups, name)) {
        rustix::fs::chown(path, None, Some(Gid::from_raw(gid))).map_err(|errno| failed(errno.into()))?;
    }
    // chown(2) may clear bits.
    rustix::fs::chmodat(CWD, path, Mode::from_raw_mode(mode), rustix::fs::AtFlags::empty())
        .map_err(|errno| failed(errno.into()))?;
    Ok(socket)
}

/// A socket that nobody listens on is left from a crash or a former boot.
fn remove_stale(path: &Path) -> Result<(), ListenError> {
    use std::os::unix::fs::FileTypeExt;
    match std::fs::symlink_metadata(path) {
        Err(_) => return Ok(()),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(ListenError::NotASocket(path.to_owned()));
        }
        Ok(_) => {}
    }
    if channel::connect(path).is_ok() {
        return Err(ListenError::InUse(path.to_owned()));
    }
    std::fs::remove_file(path).map_err(|source| ListenError::Bind { path: path.to_owned(), source })
}

/// The id of a group in the text of `/etc/group`.
fn group_id(groups: &str, name: &str) -> Option<u32> {
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_found_by_their_whole_name() {
        let groups = "root:x:0:\ndocker-x:x:5:\ndocker:x:998:a,b\nbad\nferry:x:notanumber:\n";
        assert_eq!(group_id(groups, "docker"), Some(998));
        assert_eq!(group_id(groups, "ferry"), None);
        assert_eq!(group_id(groups, "bad"), None);
    }

    #[test]
    fn dead_sockets_are_replaced_and_living_ones_respected() {
        let directory = std::env::temp_dir().join(format!("ferry-listen-{}", std::process::id()));
        let path = directory.join("api.sock");
        let first = bind(&path).unwrap();
        assert!(matches!(bind(&path), Err(ListenError::InUse(_))));
        drop(first);
        let second = bind(&path).unwrap();
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, MODE);
        drop(second);
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "precious").unwrap();
        assert!(matches!(bind(&path), Err(ListenError::NotASocket(_))));
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
