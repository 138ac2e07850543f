//! Control groups: v1, hybrid and v2 behind one type.
//!
//! Owns every file below `/sys/fs/cgroup`. Drives the kernel's files directly (the "cgroupfs"
//! driver); a delegated systemd scope works by giving a path inside it. Each controller is served
//! where it is mounted, so any mix of v1 and v2 works.

mod error;
mod files;
mod layout;

mod device_program;
mod devices;
mod v1;
mod v2;

mod effect;
mod lifecycle;
mod measure;
mod stats;

pub use effect::without_effect;
pub use error::CgroupError;
pub use layout::Layout;
pub(crate) use v2::weight_of_shares;

pub use stats::{BlockIoEntry, BlockIoStats, CpuStats, MemoryStats, PidsStats, Stats};

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use ferry_oci::runtime::{LinuxCpu, LinuxNetwork, LinuxResources};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use layout::Hierarchies;

/// Finds out how this machine mounts its cgroups; the answer is kept for the life of the process,
/// forks included.
pub fn detect() -> Result<Layout, CgroupError> {
    Ok(Hierarchies::of_machine()?.layout)
}

/// Whether cgroups can be made here at all. An ordinary user's engine can where a part of a hierarchy was handed
/// down to it.
pub fn is_available() -> bool {
    Hierarchies::of_machine().is_ok_and(|found| !found.list.is_empty())
}

/// The directory of the version 2 hierarchy below which all cgroups are made.
pub fn unified_root() -> Option<PathBuf> {
    let found = Hierarchies::of_machine().ok()?;
    found.unified().map(|hierarchy| hierarchy.mount_point.clone())
}

/// Moves the calling process, an ordinary user's engine, into a leaf of the part of the version 2 hierarchy that was
/// handed down, if one was: no process may stand beside cgroups with limits.
pub fn enter_engine_leaf() -> std::io::Result<()> {
    let Some(root) = unified_root() else { return Ok(()) };
    let leaf = root.join(layout::ENGINE_LEAF);
    match std::fs::create_dir(&leaf) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    std::fs::write(leaf.join("cgroup.procs"), "0")
}

/// One container's cgroup, in all hierarchies.
#[derive(Debug, Clone)]
pub struct Cgroup {
    /// Absolute, without `.` and `..`.
    path: String,
    hierarchies: &'static Hierarchies,
}

/// A controller's directory of one cgroup.
enum Place {
    V1(PathBuf),
    V2(PathBuf),
}

impl Cgroup {
    /// Makes the cgroup in every hierarchy; it may exist already.
    pub fn create(path: &str) -> Result<Cgroup, CgroupError> {
        let cgroup = Cgroup::open(path)?;
        lifecycle::create(&cgroup).inspect_err(|_| {
            // What was made goes again; the error on its way says more than one from here would.
            drop(cgroup.remove());
        })?;
        Ok(cgroup)
    }

    /// Makes it in the version 2 hierarchy alone: what a process can be cloned into.
    pub(crate) fn create_unified(path: &str) -> Result<Cgroup, CgroupError> {
        let cgroup = Cgroup::open(path)?;
        lifecycle::create_unified(&cgroup)?;
        Ok(cgroup)
    }

    /// Names an existing cgroup.
    pub fn open(path: &str) -> Result<Cgroup, CgroupError> {
        Ok(Cgroup { path: lifecycle::clean(path)?, hierarchies: Hierarchies::of_machine()? })
    }

    /// The path below the root of each hierarchy, as in `linux.cgroupsPath`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Files by which a thread joins the version 1 hierarchies: see [`enter`]. The version 2 hierarchy
    /// is entered by being cloned into it.
    pub(crate) fn entrances(&self) -> Result<Vec<OwnedFd>, CgroupError> {
        let version_1 = self.hierarchies.list.iter().filter(|hierarchy| !hierarchy.unified);
        version_1
            .map(|hierarchy| {
                let path = self.below(&hierarchy.mount_point).join("tasks");
                rustix::fs::open(&path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
                    .map_err(|errno| files::failed("open", &path, errno))
            })
            .collect()
    }

    /// Sets the limits of a new cgroup. Devices that no rule names are denied.
    pub fn apply(&self, resources: &LinuxResources) -> Result<(), CgroupError> {
        let rules = resources.devices().as_deref().unwrap_or_default();
        let table = devices::Table::build(rules)?;
        match self.place("devices") {
            Some(Place::V1(directory)) => devices::apply_v1(&directory, &table)?,
            Some(Place::V2(_)) | None => match self.unified_directory() {
                // The kernel takes such programs from the machine's root only; a user's containers get devices
                // by their files, and can make none.
                Some(_) if ferry_sys::namespace::in_user_namespace() => {}
                Some(directory) if self.hierarchies.layout == Layout::V2 => {
                    devices::apply_v2(&directory, &table)?
                }
                _ => return Err(no_controller("linux.resources.devices", "devices")),
            },
        }
        self.set_limits(resources)
    }

    /// Changes limits while processes run. Device rules change only when some are given.
    pub fn update(&self, resources: &LinuxResources) -> Result<(), CgroupError> {
        match resources.devices() {
            Some(rules) if !rules.is_empty() => self.apply(resources),
            _ => self.set_limits(resources),
        }
    }

    fn set_limits(&self, resources: &LinuxResources) -> Result<(), CgroupError> {
        if self.hierarchies.layout == Layout::Hybrid && needs_unified(resources) {
            // Beside version 1 few things are left to it, and it hands nothing down unless asked to.
            lifecycle::enable_controllers(self)?;
        }
        if let Some(memory) = resources.memory() {
            match self.place("memory") {
                Some(Place::V1(directory)) => v1::memory(&directory, memory)?,
                Some(Place::V2(directory)) => v2::memory(&directory, memory)?,
                None if memory.limit().is_some()
                    || memory.swap().is_some()
                    || memory.reservation().is_some() =>
                {
                    return Err(no_controller("linux.resources.memory", "memory"));
                }
                None => {}
            }
        }
        if let Some(cpu) = resources.cpu() {
            self.set_cpu(cpu)?;
        }
        if let Some(pids) = resources.pids() {
            match self.place("pids") {
                Some(Place::V1(directory)) => v1::pids(&directory, pids)?,
                Some(Place::V2(directory)) => v2::pids(&directory, pids)?,
                None if pids.limit() > 0 => return Err(no_controller("linux.resources.pids", "pids")),
                None => {}
            }
        }
        self.set_devices_of_rate(resources)?;
        if let Some(network) = resources.network() {
            self.set_network(network)?;
        }
        match (resources.unified(), self.unified_directory()) {
            (Some(values), Some(directory)) => v2::unified(&directory, values),
            (Some(values), None) if !values.is_empty() => {
                Err(no_controller("linux.resources.unified", "version 2"))
            }
            _ => Ok(()),
        }
    }

    fn set_cpu(&self, cpu: &LinuxCpu) -> Result<(), CgroupError> {
        let bandwidth = cpu.shares().is_some_and(|shares| shares != 0)
            || cpu.quota().is_some_and(|quota| quota != 0)
            || cpu.period().is_some_and(|period| period != 0);
        match self.place("cpu") {
            Some(Place::V1(directory)) => v1::cpu(&directory, cpu)?,
            Some(Place::V2(directory)) => v2::cpu(&directory, cpu)?,
            None if bandwidth => return Err(no_controller("linux.resources.cpu", "cpu")),
            None => {}
        }
        let named = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        if !named(cpu.cpus()) && !named(cpu.mems()) {
            return Ok(());
        }
        match self.place("cpuset") {
            Some(Place::V1(directory)) => v1::cpuset(&directory, cpu),
            Some(Place::V2(directory)) => v2::cpuset(&directory, cpu),
            None => Err(no_controller("linux.resources.cpu.cpus", "cpuset")),
        }
    }

    /// Block devices, huge pages and RDMA adapters.
    fn set_devices_of_rate(&self, resources: &LinuxResources) -> Result<(), CgroupError> {
        if let Some(block_io) = resources.block_io() {
            // The controller's name changed with the version.
            match self.place("blkio").or_else(|| self.place("io")) {
                Some(Place::V1(directory)) => v1::block_io(&directory, block_io)?,
                Some(Place::V2(directory)) => v2::block_io(&directory, block_io)?,
                None if *block_io != Default::default() => {
                    return Err(no_controller("linux.resources.blockIO", "block I/O"));
                }
                None => {}
            }
        }
        let limits = resources.hugepage_limits().as_deref().unwrap_or_default();
        match self.place("hugetlb") {
            Some(Place::V1(directory)) => v1::huge_pages(&directory, limits)?,
            Some(Place::V2(directory)) => v2::huge_pages(&directory, limits)?,
            None if !limits.is_empty() => {
                return Err(no_controller("linux.resources.hugepageLimits", "hugetlb"));
            }
            None => {}
        }
        for (adapter, limit) in resources.rdma().iter().flatten() {
            let (Place::V1(directory) | Place::V2(directory)) =
                self.place("rdma").ok_or_else(|| no_controller("linux.resources.rdma", "rdma"))?;
            let number = |number: Option<u32>| number.map_or("max".to_owned(), |number| number.to_string());
            let line = format!(
                "{adapter} hca_handle={} hca_object={}",
                number(limit.hca_handles()),
                number(limit.hca_objects())
            );
            files::write(&directory.join("rdma.max"), &line)?;
        }
        Ok(())
    }

    fn set_network(&self, network: &LinuxNetwork) -> Result<(), CgroupError> {
        if network.class_id().is_some() {
            match self.place("net_cls") {
                Some(Place::V1(directory)) => v1::network_class(&directory, network)?,
                _ => return Err(no_controller("linux.resources.network.classID", "net_cls")),
            }
        }
        if network.priorities().as_ref().is_some_and(|priorities| !priorities.is_empty()) {
            match self.place("net_prio") {
                Some(Place::V1(directory)) => v1::network_priority(&directory, network)?,
                _ => return Err(no_controller("linux.resources.network.priorities", "net_prio")),
            }
        }
        Ok(())
    }

    /// Stops every process of the cgroup; returns once they stand still.
    pub fn freeze(&self) -> Result<(), CgroupError> {
        lifecycle::set_frozen(self, true)
    }

    /// Lets the processes run on.
    pub fn thaw(&self) -> Result<(), CgroupError> {
        lifecycle::set_frozen(self, false)
    }

    /// Whether the processes were stopped by [`Cgroup::freeze`].
    pub fn is_frozen(&self) -> Result<bool, CgroupError> {
        lifecycle::is_frozen(self)
    }

    /// Sends SIGKILL to every process of the cgroup and below it; frozen ones die too.
    pub fn kill_all(&self) -> Result<(), CgroupError> {
        lifecycle::kill_all(self)
    }

    /// The processes in the cgroup and below it, in the caller's pid namespace.
    pub fn processes(&self) -> Result<Vec<i32>, CgroupError> {
        lifecycle::processes(self)
    }

    /// Resource use now.
    pub fn stats(&self) -> Result<Stats, CgroupError> {
        let (cpu, accounting) = (self.place("cpu"), self.place("cpuacct"));
        let cpu = match (&cpu, &accounting) {
            (Some(Place::V2(directory)), _) => measure::cpu_v2(directory)?,
            (Some(Place::V1(cpu)), Some(Place::V1(accounting))) => {
                measure::cpu_v1(Some(accounting), Some(cpu))?
            }
            (None, Some(Place::V1(accounting))) => measure::cpu_v1(Some(accounting), None)?,
            (Some(Place::V1(cpu)), _) => measure::cpu_v1(None, Some(cpu))?,
            // Without the controller v2 still counts time.
            _ => self
                .unified_directory()
                .map_or(Ok(CpuStats::default()), |directory| measure::cpu_v2(&directory))?,
        };
        let memory = self.place("memory");
        Ok(Stats {
            version: if matches!(memory, Some(Place::V1(_))) { 1 } else { 2 },
            cpu,
            memory: match &memory {
                Some(Place::V1(directory)) => measure::memory_v1(directory)?,
                Some(Place::V2(directory)) => measure::memory_v2(directory)?,
                None => MemoryStats::default(),
            },
            pids: match self.place("pids") {
                Some(Place::V1(directory) | Place::V2(directory)) => measure::pids(&directory)?,
                None => PidsStats::default(),
            },
            block_io: match self.place("blkio").or_else(|| self.place("io")) {
                Some(Place::V1(directory)) => measure::block_io_v1(&directory)?,
                Some(Place::V2(directory)) => measure::block_io_v2(&directory)?,
                None => BlockIoStats::default(),
            },
        })
    }

    /// How many processes the kernel killed here for lack of memory.
    pub fn oom_kill_count(&self) -> Result<u64, CgroupError> {
        match self.place("memory") {
            Some(Place::V1(directory)) => {
                Ok(files::keyed(&files::read(&directory.join("memory.oom_control"))?, "oom_kill"))
            }
            Some(Place::V2(directory)) => {
                Ok(files::keyed(&files::read(&directory.join("memory.events"))?, "oom_kill"))
            }
            None => Ok(0),
        }
    }

    /// Removes the cgroup and those below it; it may be gone already. Waits a little for dying
    /// processes.
    pub fn remove(&self) -> Result<(), CgroupError> {
        lifecycle::remove(self)
    }

    /// The version 2 directory, for cloning a process into it.
    pub(crate) fn open_directory(&self) -> Result<Option<OwnedFd>, CgroupError> {
        let Some(directory) = self.unified_directory() else { return Ok(None) };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(&directory, flags, Mode::empty())
            .map(Some)
            .map_err(|errno| files::failed("open", &directory, errno))
    }

    fn directories(&self) -> impl Iterator<Item = PathBuf> + '_ {
        self.hierarchies.list.iter().map(|hierarchy| self.below(&hierarchy.mount_point))
    }

    fn unified_directory(&self) -> Option<PathBuf> {
        self.hierarchies.unified().map(|hierarchy| self.below(&hierarchy.mount_point))
    }

    fn place(&self, controller: &str) -> Option<Place> {
        let hierarchy = self.hierarchies.with_controller(controller)?;
        let directory = self.below(&hierarchy.mount_point);
        Some(if hierarchy.unified { Place::V2(directory) } else { Place::V1(directory) })
    }

    fn below(&self, mount_point: &std::path::Path) -> PathBuf {
        mount_point.join(self.path.trim_start_matches('/'))
    }
}

/// Whether a limit may be one of the version 2 hierarchy that stands beside version 1.
fn needs_unified(resources: &LinuxResources) -> bool {
    resources.hugepage_limits().as_ref().is_some_and(|limits| !limits.is_empty())
        || resources.rdma().as_ref().is_some_and(|limits| !limits.is_empty())
        || resources.unified().as_ref().is_some_and(|values| !values.is_empty())
}

fn no_controller(setting: &'static str, controller: &'static str) -> CgroupError {
    CgroupError::NoController { setting, controller }
}

/// A process limit as both versions take it; 0 and below mean none.
fn pids_value(limit: i64) -> String {
    if limit > 0 { limit.to_string() } else { "max".to_owned() }
}

/// Takes the calling thread, which must be its process's only one, into the cgroups of `entrances`.
///
/// A thread that moves itself alone (`0` in `tasks`) is spared the lock against forks and exits that
/// everybody else's move takes, and with it an RCU grace period: some 10 ms
/// (kernel/cgroup/cgroup.c, `cgroup_procs_write_start`).
pub(crate) fn enter(entrances: &[OwnedFd]) -> Result<(), Errno> {
    for entrance in entrances {
        rustix::io::retry_on_intr(|| rustix::io::write(entrance, b"0"))?;
    }
    Ok(())
}

/// The host directories that make up a container's `/sys/fs/cgroup`: for v2 one without a name, for
/// v1 one per hierarchy; and the links for controllers mounted together.
pub(crate) type View = (Vec<(String, PathBuf)>, Vec<(String, String)>);

/// What a container's `/sys/fs/cgroup` shows; `path` is the cgroup to be its root, without one it is
/// the whole tree.
pub(crate) fn view(path: Option<&str>) -> Result<View, CgroupError> {
    let hierarchies = Hierarchies::of_machine()?;
    let path = lifecycle::clean(path.unwrap_or("/"))?;
    let cgroup = Cgroup { path, hierarchies };
    if hierarchies.layout == Layout::V2 {
        // An ordinary user to whom nothing was handed down has none to show.
        let unified = cgroup.unified_directory().map(|directory| (String::new(), directory));
        return Ok((unified.into_iter().collect(), Vec::new()));
    }
    let mut links = Vec::new();
    for hierarchy in hierarchies.list.iter().filter(|hierarchy| hierarchy.controllers.len() > 1) {
        let name = hierarchy.name();
        let others = hierarchy.controllers.iter().filter(|controller| **controller != name);
        links.extend(others.map(|controller| (controller.clone(), name.clone())));
    }
    let mounts =
        hierarchies.list.iter().map(|hierarchy| (hierarchy.name(), cgroup.below(&hierarchy.mount_point)));
    Ok((mounts.collect(), links))
}
