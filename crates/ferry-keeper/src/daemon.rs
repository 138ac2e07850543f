//! Becoming a daemon: what the first caller happened to have is left behind.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use ferry_sys::descriptor::place;
use ferry_sys::namespace::{Namespaces, setns};
use rustix::fs::Mode;

use crate::pidfile::open_log;

/// Leaves session, terminal, working directory and umask of the caller, and with `leave_namespaces` its private
/// namespaces. To be called in a process that has just been forked.
pub fn detach(run_root: &Path, leave_namespaces: bool) -> io::Result<()> {
    rustix::process::setsid()?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    redirect_streams(run_root)?;
    if leave_namespaces {
        leave_private_namespaces();
    }
    rustix::process::chdir("/")?;
    Ok(())
}

fn redirect_streams(run_root: &Path) -> io::Result<()> {
    let log = open_log(run_root)?;
    let null = File::open("/dev/null")?;
    place(null.as_fd(), 0, false)?;
    place(log.as_fd(), 1, false)?;
    place(log.as_fd(), 2, false)?;
    Ok(())
}

/// A caller inside `ip netns exec` or `unshare` must not take every container there. Process and user
/// namespaces cannot be left. Where the host's are out of reach (a container without privilege) we stay
/// where we are: there it is the right place.
fn leave_private_namespaces() {
    let kinds = [
        ("net", Namespaces::NETWORK),
        ("ipc", Namespaces::IPC),
        ("uts", Namespaces::UTS),
        ("cgroup", Namespaces::CGROUP),
        ("mnt", Namespaces::MOUNT),
    ];
    for (name, kind) in kinds {
        let own = std::fs::read_link(format!("/proc/self/ns/{name}"));
        let host = format!("/proc/1/ns/{name}");
        let (Ok(own), Ok(wanted)) = (own, std::fs::read_link(&host)) else { continue };
        if own != wanted
            && let Ok(namespace) = File::open(&host)
        {
            let _ = setns(namespace.as_fd(), kind);
        }
    }
}
