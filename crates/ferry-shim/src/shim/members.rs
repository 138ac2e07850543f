//! The processes of a container: those of its cgroup, or, where an ordinary user has none, those of its pid
//! namespace.

use std::path::PathBuf;

use ferry_runtime::cgroup::CgroupError;
use rustix::process::Signal;

use super::Container;

impl Container {
    /// Their ids as this process sees them.
    pub(super) fn processes(&self) -> Result<Vec<i32>, CgroupError> {
        match &self.cgroup {
            Some(cgroup) => cgroup.processes(),
            None => Ok(self.of_pid_namespace()),
        }
    }

    /// Ends them all.
    pub(super) fn kill_all(&self) -> Result<(), CgroupError> {
        if let Some(cgroup) = &self.cgroup {
            return cgroup.kill_all();
        }
        for pid in self.of_pid_namespace() {
            // One that has just ended needs no signal.
            let _ = ferry_sys::signal::kill(pid, Signal::KILL.as_raw());
        }
        Ok(())
    }

    /// Those in the pid namespace of the first process; only that one where the namespace is not its own.
    fn of_pid_namespace(&self) -> Vec<i32> {
        let namespace = |pid: i32| std::fs::read_link(PathBuf::from(format!("/proc/{pid}/ns/pid"))).ok();
        let own = std::fs::read_link("/proc/self/ns/pid").ok();
        let wanted = namespace(self.pid);
        if wanted.is_none() {
            return Vec::new();
        }
        if wanted == own {
            return vec![self.pid];
        }
        let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let mut found: Vec<i32> = pids.filter(|pid| namespace(*pid) == wanted).collect();
        found.sort_unstable();
        found
    }
}
