//! Engines of ordinary users: a user namespace of their own, in which the keeper and all that it starts are root.
//!
//! ```text
//! host                                    the user's namespaces (user, mount, network)
//!  outside  newuidmap, pasta, ports  ───▶  anchor   keeps them alive
//!                                          keeper ── engine, launcher ── shims
//! ```
//! Owns both helpers. They live as long as containers may: a keeper that starts again finds the anchor and joins
//! it. Never looks at images or containers.

mod anchor;
mod ids;
mod needs;
mod outside;

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use ferry_sys::channel::Channel;
use ferry_sys::clone::clone3;
use ferry_sys::namespace::{Namespaces, loopback_up, setns, unshare};
use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::thread::{Gid, Uid};

use self::ids::Ids;
use self::outside::{Answer, Order};

pub use self::needs::{Need, missing};

/// What does not work for this user's containers, one in a line; the engine tells it in `info`.
pub const WARNINGS: &str = "rootless.warnings";
/// Where ports of the host are asked for.
pub const PORTS_SOCKET: &str = "ports.sock";

/// Why an ordinary user's engine did not start.
#[derive(Debug, thiserror::Error)]
pub enum RootlessError {
    /// The kernel gives no user namespace.
    #[error("cannot make a user namespace: {0}")]
    Namespace(#[source] io::Error),
    /// The ids could not be had.
    #[error("cannot map user ids: {0}")]
    Ids(String),
    /// A helper ended in the middle.
    #[error("the process outside of the user namespace ended")]
    Helper,
    /// A file or system call.
    #[error("cannot {action}: {source}")]
    System {
        /// What was tried.
        action: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

fn failed<E: Into<io::Error>>(action: &'static str) -> impl Fn(E) -> RootlessError {
    move |error| RootlessError::System { action, source: error.into() }
}

/// Puts the calling process, which has one thread and no privileges, into the user's namespaces, as root there.
pub(crate) fn enter(run_root: &Path) -> Result<(), RootlessError> {
    std::fs::create_dir_all(run_root).map_err(failed("create the run root"))?;
    // Two starters at once must meet in the same namespaces.
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
    let lock = rustix::fs::open(run_root.join("rootless.lock"), flags, Mode::from_raw_mode(0o600))
        .map_err(failed("open rootless.lock"))?;
    flock(&lock, FlockOperation::LockExclusive).map_err(failed("lock rootless.lock"))?;
    let entered = match anchor::find(run_root) {
        Some(pidfd) => {
            let all = Namespaces::USER.with(Namespaces::MOUNT).with(Namespaces::NETWORK);
            setns(pidfd.as_fd(), all).map_err(failed("join the user's namespaces"))?;
            become_root()
        }
        None => make(run_root),
    };
    entered?;
    ferry_shim::enter_engine_leaf().map_err(failed("enter a cgroup of its own"))
}

/// The socket where ports of the host are had from, where this engine is not the machine's.
pub(crate) fn ports_socket(run_root: &Path) -> Option<PathBuf> {
    Some(run_root.join(PORTS_SOCKET)).filter(|path| path.exists())
}

/// Lets the namespaces go, once nothing needs them any more.
pub(crate) fn leave(run_root: &Path) {
    anchor::end(run_root);
    for name in [WARNINGS, PORTS_SOCKET] {
        // They may be absent: the machine's engine has none.
        let _ = std::fs::remove_file(run_root.join(name));
    }
}

fn make(run_root: &Path) -> Result<(), RootlessError> {
    let ids = Ids::of_user().map_err(RootlessError::Ids)?;
    let own = rustix::process::getpid().as_raw_nonzero().get();
    let (mut ours, theirs) = Channel::pair().map_err(failed("make a socket"))?;
    clone3(Namespaces::NONE, None, || outside::run(&theirs, run_root)).map_err(failed("start a helper"))?;
    drop(theirs);
    let wanted = Namespaces::USER.with(Namespaces::MOUNT).with(Namespaces::NETWORK);
    unshare(wanted).map_err(|errno| RootlessError::Namespace(errno.into()))?;
    let mut warnings = Vec::new();
    match (ids.has_ranges(), ids::missing_helper()) {
        (true, None) => match outside::ask(&mut ours, &Order::Map { pid: own, ids: ids.clone() })? {
            Answer::Done => {}
            Answer::Failed(reason) => return Err(RootlessError::Ids(reason)),
        },
        (_, helper) => {
            ids.map_one().map_err(failed("map the user's own id"))?;
            warnings.push(ids.poverty(helper));
        }
    }
    become_root()?;
    ferry_sys::mount::make_all_private().map_err(failed("separate the mounts"))?;
    loopback_up().map_err(failed("switch the loopback interface on"))?;
    let anchor = anchor::start(run_root).map_err(failed("start the anchor"))?;
    if let Answer::Failed(reason) = outside::ask(&mut ours, &Order::Serve { anchor })? {
        warnings.push(reason);
    }
    if let Err(error) = outside::resolver(run_root) {
        warnings.push(format!("names outside are not found: {error}"));
    }
    std::fs::write(run_root.join(WARNINGS), warnings.join("\n")).map_err(failed("write the warnings"))
}

fn become_root() -> Result<(), RootlessError> {
    // Refused where only one id is mapped; the groups are then nobody's, which is harmless.
    let _ = rustix::thread::set_thread_groups(&[]);
    let (uid, gid) = (Uid::from_raw(0), Gid::from_raw(0));
    rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(failed("become root"))?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(failed("become root"))
}
