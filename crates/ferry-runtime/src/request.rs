//! What a caller asks of the runtime and what it gets back.
//!
//! Owns the request and result types. Never touches the kernel.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;

use ferry_oci::runtime;
use serde::{Deserialize, Serialize};

use crate::cgroup::Cgroup;
use crate::create::Step;
use crate::hooks::Described;
use crate::resctrl::Class;
use crate::systemd::Scope;

/// A container to be created and started.
#[derive(Debug)]
pub struct CreateRequest {
    /// The container's id; used in names (session keyring) and messages only.
    pub id: String,
    /// The OCI runtime configuration.
    pub spec: runtime::Spec,
    /// Where the root file system comes from.
    pub rootfs: Rootfs,
    /// A compiled seccomp filter (`seccomp::compile`); without it `spec.linux.seccomp` is compiled.
    pub seccomp: Option<Vec<u8>>,
    /// Standard streams of the container's process.
    pub stdio: Stdio,
    /// Run the command under the built-in init, which reaps orphans and forwards signals.
    pub init: bool,
    /// What hooks are told about the container.
    pub described: Described,
    /// Descriptors that the command finds from 3 on.
    pub preserved: Vec<OwnedFd>,
    /// Leave the command in the caller's session keyring.
    pub keep_keyring: bool,
    /// Move the root into its place instead of pivoting to it: for hosts whose own root is a ramdisk.
    pub no_pivot: bool,
    /// Let systemd make the cgroup, which `linux.cgroupsPath` names as [`Scope::cgroup_path`] does.
    pub scope: Option<Scope>,
    /// Makes chosen steps fail; for anomaly tests. `None` in production.
    pub faults: Option<FaultHook>,
}

impl CreateRequest {
    /// A request with no optional part set.
    pub fn new(id: impl Into<String>, spec: runtime::Spec, rootfs: Rootfs, stdio: Stdio) -> CreateRequest {
        CreateRequest {
            id: id.into(),
            spec,
            rootfs,
            seccomp: None,
            stdio,
            init: false,
            described: Described::default(),
            preserved: Vec::new(),
            keep_keyring: false,
            no_pivot: false,
            scope: None,
            faults: None,
        }
    }
}

/// Decides before each step of a start whether it shall fail, and with which errno.
pub type FaultHook = fn(Step) -> Option<i32>;

/// Where a container's root file system comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rootfs {
    /// One overlay mount, made inside the container's own mount namespace.
    Overlay {
        /// Read-only layers, topmost first.
        lowers: Vec<PathBuf>,
        /// The writable layer.
        upper: PathBuf,
        /// Overlay's work directory, on the same file system as `upper`.
        work: PathBuf,
        /// Turn fsync off inside; only for file systems nobody wants after a crash.
        #[serde(default)]
        volatile: bool,
    },
    /// A directory used as it is.
    Directory(PathBuf),
}

/// Standard streams of a process in a container.
#[derive(Debug)]
pub enum Stdio {
    /// These descriptors; a missing stdin becomes the container's `/dev/null`.
    Fds {
        /// Standard input.
        stdin: Option<OwnedFd>,
        /// Standard output.
        stdout: OwnedFd,
        /// Standard error.
        stderr: OwnedFd,
    },
    /// A new terminal from the container's own devpts.
    Terminal {
        /// Height in characters; 0 means unknown.
        rows: u16,
        /// Width in characters; 0 means unknown.
        cols: u16,
    },
}

/// A started process.
#[derive(Debug)]
pub struct Process {
    /// Process id in the caller's pid namespace; the process is the caller's child.
    pub pid: i32,
    /// The process, immune to pid reuse.
    pub pidfd: OwnedFd,
    /// Master side of the terminal, when one was asked for.
    pub console: Option<OwnedFd>,
    /// The container's root mount. Holding it keeps the file system mounted after the container's mount namespace has gone.
    /// `None` for `exec`.
    pub rootfs_mount: Option<OwnedFd>,
    /// The container's cgroup. `None` for `exec` and for specs without `linux.cgroupsPath`.
    pub cgroup: Option<Cgroup>,
    /// The container's class of cache and memory bandwidth, to be removed after its end.
    pub class: Option<Class>,
    /// What the spec asked for and the kernel did not grant, where the container runs all the same.
    pub warnings: Vec<String>,
}

/// A further process for a running container.
#[derive(Debug)]
pub struct ExecRequest<'a> {
    /// The container's init, in the caller's pid namespace.
    pub pid: i32,
    /// The same init as a pidfd.
    pub pidfd: BorrowedFd<'a>,
    /// What to run.
    pub process: runtime::Process,
    /// Standard streams of the process.
    pub stdio: Stdio,
    /// The cgroup to join.
    pub cgroup: Option<&'a Cgroup>,
    /// A compiled seccomp filter; without it that of `linux` is compiled.
    pub seccomp: Option<Vec<u8>>,
    /// What the container's own configuration says of all its processes: seccomp profile and memory policy.
    pub linux: Option<&'a runtime::Linux>,
    /// What a seccomp agent is told about the container.
    pub described: Described,
    /// Descriptors that the command finds from 3 on.
    pub preserved: Vec<OwnedFd>,
    /// As in [`CreateRequest`].
    pub faults: Option<FaultHook>,
}
