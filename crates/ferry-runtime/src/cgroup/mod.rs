//! Control groups: v1, hybrid and v2 behind one type.
//!
//! Owns every file below `/sys/fs/cgroup`. Drives the kernel's files directly (the "cgroupfs"
//! driver); a delegated systemd scope works by giving a path inside it.

mod error;
mod stats;

pub use error::CgroupError;
pub use stats::{BlockIoEntry, BlockIoStats, CpuStats, MemoryStats, PidsStats, Stats};

use ferry_oci::runtime::LinuxResources;

/// How this machine mounts its cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Version 1 hierarchies only.
    V1,
    /// Version 1 controllers and an empty version 2 hierarchy.
    Hybrid,
    /// Version 2 only.
    V2,
}

/// Finds out how this machine mounts its cgroups; the answer is kept for the life of the process.
pub fn detect() -> Result<Layout, CgroupError> {
    Err(CgroupError::NotMounted)
}

/// One container's cgroup, in all hierarchies.
#[derive(Debug)]
pub struct Cgroup {
    path: String,
}

impl Cgroup {
    /// Makes the cgroup; it may exist already.
    pub fn create(path: &str) -> Result<Cgroup, CgroupError> {
        Cgroup::open(path)
    }

    /// Names an existing cgroup.
    pub fn open(path: &str) -> Result<Cgroup, CgroupError> {
        Ok(Cgroup { path: path.to_owned() })
    }

    /// The path below the root of each hierarchy, as in `linux.cgroupsPath`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Moves a process into the cgroup.
    pub fn join(&self, pid: i32) -> Result<(), CgroupError> {
        let _ = pid;
        Err(CgroupError::NotMounted)
    }

    /// Sets the limits of a new cgroup.
    pub fn apply(&self, resources: &LinuxResources) -> Result<(), CgroupError> {
        let _ = resources;
        Err(CgroupError::NotMounted)
    }

    /// Changes limits while processes run.
    pub fn update(&self, resources: &LinuxResources) -> Result<(), CgroupError> {
        self.apply(resources)
    }

    /// Stops every process of the cgroup; returns once they stand still.
    pub fn freeze(&self) -> Result<(), CgroupError> {
        Err(CgroupError::NotMounted)
    }

    /// Lets the processes run on.
    pub fn thaw(&self) -> Result<(), CgroupError> {
        Err(CgroupError::NotMounted)
    }

    /// Sends SIGKILL to every process of the cgroup; frozen ones die too.
    pub fn kill_all(&self) -> Result<(), CgroupError> {
        Err(CgroupError::NotMounted)
    }

    /// The processes in the cgroup and below it, in the caller's pid namespace.
    pub fn processes(&self) -> Result<Vec<i32>, CgroupError> {
        Err(CgroupError::NotMounted)
    }

    /// Resource use now.
    pub fn stats(&self) -> Result<Stats, CgroupError> {
        Err(CgroupError::NotMounted)
    }

    /// How many processes the kernel killed here for lack of memory.
    pub fn oom_kill_count(&self) -> Result<u64, CgroupError> {
        Err(CgroupError::NotMounted)
    }

    /// Removes the cgroup and those below it; it may be gone already. Waits a little for dying processes.
    pub fn remove(&self) -> Result<(), CgroupError> {
        Err(CgroupError::NotMounted)
    }
}
