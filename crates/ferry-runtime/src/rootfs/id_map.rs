//! Mounts that show their files' owners as somebody else (idmapped mounts, Linux 5.12 and later).
//!
//! The kernel takes the mapping as a user namespace. One is made by a child that does nothing and is
//! ended as soon as its namespace is open; the open descriptor keeps the namespace.

use std::os::fd::OwnedFd;

use ferry_oci::runtime::{LinuxIdMapping, Mount};
use ferry_sys::clone::clone3;
use ferry_sys::namespace::Namespaces;
use rustix::fs::{Mode, OFlags};

use crate::create::{NamespacePlan, Step, reap, write_id_maps};
use crate::error::{SpecError, StepError};

/// Mappings in one map that the kernel takes.
const MAPPINGS_MAX: usize = 340;

/// Whose files are shown as whose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IdMap {
    pub uid: Vec<LinuxIdMapping>,
    pub gid: Vec<LinuxIdMapping>,
    /// For all mounts below too.
    pub recursive: bool,
}

impl IdMap {
    /// What a mount of the specification asks for: its mappings, and `ridmap` for all below.
    pub fn of(mount: &Mount, recursive: bool) -> Result<Option<IdMap>, SpecError> {
        let uid = mount.uid_mappings().clone().unwrap_or_default();
        let gid = mount.gid_mappings().clone().unwrap_or_default();
        if uid.is_empty() && gid.is_empty() {
            return Ok(None);
        }
        if uid.is_empty() || gid.is_empty() {
            return Err(SpecError::new(
                "mounts.uidMappings",
                uid.len(),
                "mappings of users and of groups need each other",
            ));
        }
        if uid.len().max(gid.len()) > MAPPINGS_MAX {
            let reason = format!("more than {MAPPINGS_MAX} mappings");
            return Err(SpecError::new("mounts.uidMappings", uid.len().max(gid.len()), reason));
        }
        Ok(Some(IdMap { uid, gid, recursive }))
    }

    /// Makes the user namespace that says this. Only a process with one thread can.
    pub fn namespace(&self) -> Result<OwnedFd, StepError> {
        let fail = |errno| StepError::new(Step::MapIds, "of a mount", errno);
        let child = clone3(Namespaces::USER, None, || {
            loop {
                rustix::event::pause();
            }
        })
        .map_err(fail)?;
        let plan = NamespacePlan {
            uid_map: self.uid.clone(),
            gid_map: self.gid.clone(),
            ..NamespacePlan::default()
        };
        let path = format!("/proc/{}/ns/user", child.pid);
        let opened = write_id_maps(child.pid, &plan).and_then(|()| {
            rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(fail)
        });
        reap(std::os::fd::AsFd::as_fd(&child.pidfd));
        opened
    }
}
