//! Time namespaces with shifted clocks: offsets can be set only while nobody is inside, so the namespace is made by the
//! parent for its next child, and not by the clone itself.

use std::os::fd::AsFd as _;

use ferry_sys::clone::Child;
use ferry_sys::namespace::{Namespaces, setns, unshare};
use ferry_sys::procfs::Procfs;
use rustix::fs::{Mode, OFlags};

use super::{Step, reap};
use crate::error::StepError;

/// Clones into a new time namespace with these offsets, and takes the caller's further children back to its own.
/// Without offsets it only clones.
pub(super) fn in_shifted_clocks(
    offsets: &str,
    clone: impl FnOnce() -> Result<Child, StepError>,
) -> Result<Child, StepError> {
    if offsets.is_empty() {
        return clone();
    }
    let fail = |errno| StepError::new(Step::TimeOffsets, format!("{offsets:?}"), errno);
    let own = rustix::fs::open("/proc/self/ns/time", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(fail)?;
    unshare(Namespaces::TIME).map_err(fail)?;
    let written = Procfs::host().and_then(|procfs| procfs.write("self/timens_offsets", offsets.as_bytes()));
    let result = written.map_err(fail).and_then(|()| clone());
    if let Err(errno) = setns(own.as_fd(), Namespaces::TIME) {
        // The next child would have the container's clocks: better none at all.
        if let Ok(child) = &result {
            reap(child.pidfd.as_fd());
        }
        return Err(fail(errno));
    }
    result
}
