//! The life of a container's first process, from its clone to `execve`.
//!
//! Owns the order of the steps: the list in [`Init::SEQUENCE`] is the truth about it. Runs in the cloned
//! child; every failure ends it with one report that carries step, value and errno.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use ferry_oci::runtime::Hook;
use ferry_sys::mount::{Attributes, set_attributes};
use ferry_sys::namespace::{self, Namespaces, in_user_namespace};
use ferry_sys::procfs::Procfs;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::Step;
use super::finish::{self, Finish, Gate};
use super::link::{Control, Failure, Link, Report};
use super::plan::Plan;
use crate::cgroup;
use crate::error::StepError;
use crate::hooks::{self, Described, HookStage};
use crate::process::agent::Agent;
use crate::process::privileges;
use crate::process::streams::{self, Terminal};
use crate::request::{FaultHook, Rootfs, Stdio};
use crate::rootfs::mounts::{self, Detached};
use crate::rootfs::plan::MountSource;
use crate::rootfs::{devices, mask, overlay};

/// What init is given by its parent; all of it is the child's own copy.
pub(crate) struct InitArguments<'a> {
    pub id: &'a str,
    pub plan: &'a Plan,
    pub rootfs: &'a Rootfs,
    pub stdio: &'a Stdio,
    /// Namespaces to join, those aside that init is cloned into.
    pub joined: &'a [(Namespaces, OwnedFd)],
    /// Host directories to show in the container's `/sys/fs/cgroup`: name there, and path.
    pub cgroup_mounts: &'a [(String, PathBuf)],
    pub cgroup_links: &'a [(String, String)],
    /// User namespaces of the mounts' id mappings, in the plan's order.
    pub id_maps: &'a [Option<OwnedFd>],
    /// Wait until the parent has made the cgroups of version 1, then join them.
    pub wait_for_cgroup: bool,
    /// What the command waits for.
    pub gate: Gate<'a>,
    /// Hooks run in the caller's namespaces before the root is entered.
    pub runtime_hooks: bool,
    pub create_container: &'a [Hook],
    pub start_container: &'a [Hook],
    pub described: &'a Described,
    pub preserved: &'a [OwnedFd],
    pub keep_keyring: bool,
    pub no_pivot: bool,
    /// Run the command under the built-in init.
    pub reaper: bool,
    pub faults: Option<FaultHook>,
}

/// Init's progress.
struct Init<'a> {
    arguments: &'a InitArguments<'a>,
    link: &'a Link,
    /// Mounts waiting for their place, in the plan's order; cgroup mounts come later.
    detached: Vec<Option<Detached>>,
    /// In a user namespace: the host's devices, in the plan's order.
    host_devices: Vec<OwnedFd>,
    rootfs: Option<OwnedFd>,
    root: Option<OwnedFd>,
    terminal: Option<Terminal>,
    /// Who is given the seccomp filter's listener.
    agent: Option<Agent>,
}

type Action<'a> = fn(&mut Init<'a>) -> Result<(), Failure>;

/// Runs every step and then the command.
pub(crate) fn run(arguments: &InitArguments<'_>, link: &Link) -> ! {
    let mut init = Init {
        arguments,
        link,
        detached: Vec::new(),
        host_devices: Vec::new(),
        rootfs: None,
        root: None,
        terminal: None,
        agent: None,
    };
    match init.prepare() {
        Ok(()) => {
            let finish = Finish {
                plan: &arguments.plan.process,
                personality: arguments.plan.personality,
                reaper: arguments.reaper,
                gate: arguments.gate,
                start_container: arguments.start_container,
                described: Some(arguments.described),
                preserved: arguments.preserved,
                agent: init.agent.as_ref(),
                faults: arguments.faults,
            };
            finish::run(&finish, link)
        }
        Err(failure) => finish::fail(link, failure),
    }
}

impl<'a> Init<'a> {
    /// Every step until the container is ready to run its command. A fault hook sees them in this
    /// order.
    const SEQUENCE: [(Step, Action<'a>); 25] = [
        (Step::Session, Init::start_session),
        (Step::Seccomp, Init::connect_agent),
        (Step::MapIds, Init::wait_for_id_maps),
        (Step::OomScore, Init::set_oom_score),
        (Step::SecurityLabel, Init::set_security_label),
        (Step::JoinNamespace, Init::join_namespaces),
        (Step::Keyring, Init::make_keyring),
        (Step::MountSource, Init::open_bind_sources),
        (Step::IsolateMounts, Init::isolate_mounts),
        (Step::MountRoot, Init::mount_root),
        (Step::MountSource, Init::open_file_systems),
        (Step::Sysctl, Init::write_sysctls),
        (Step::JoinCgroup, Init::join_cgroup),
        (Step::UnshareCgroup, Init::unshare_cgroup),
        (Step::Mount, Init::attach_mounts),
        (Step::Devices, Init::make_devices),
        (Step::Hooks, Init::run_hooks),
        (Step::PivotRoot, Init::pivot_root),
        (Step::Console, Init::open_terminal),
        (Step::Hostname, Init::set_names),
        (Step::Mount, Init::make_working_directory),
        (Step::ReadonlyPath, Init::make_paths_readonly),
        (Step::MaskPath, Init::mask_paths),
        (Step::ReadonlyRoot, Init::finish_root),
        (Step::Console, Init::set_streams),
    ];

    fn prepare(&mut self) -> Result<(), Failure> {
        for (step, action) in Self::SEQUENCE {
            finish::check_fault(self.arguments.faults, step)?;
            action(self)?;
        }
        Ok(())
    }

    /// The container's root, entered or not.
    fn root(&self) -> Result<BorrowedFd<'_>, StepError> {
        self.root
            .as_ref()
            .or(self.rootfs.as_ref())
            .map(AsFd::as_fd)
            .ok_or_else(|| StepError::new(Step::PivotRoot, "root", Errno::BADF))
    }

    fn start_session(&mut self) -> Result<(), Failure> {
        finish::start_session(self.arguments.plan.process.user.uid)?;
        // Exact modes for everything made on the way; the container's own umask comes last.
        rustix::process::umask(Mode::empty());
        Ok(())
    }

    fn connect_agent(&mut self) -> Result<(), Failure> {
        let filter = self.arguments.plan.process.seccomp.as_ref();
        if let Some(plan) = filter.and_then(|filter| filter.agent.as_ref()) {
            self.agent = Some(Agent::connect(plan, self.arguments.described, None)?);
        }
        Ok(())
    }

    fn wait_for_id_maps(&mut self) -> Result<(), Failure> {
        let namespaces = &self.arguments.plan.namespaces;
        let fail = |errno| StepError::new(Step::MapIds, "to root of the user namespace", errno);
        if namespaces.new.contains(Namespaces::USER) {
            self.link.wait_for(Control::Mapped).map_err(fail)?;
        } else if !namespaces.joins(Namespaces::USER) {
            return Ok(());
        } else if !namespaces.has_these_maps().map_err(fail)? {
            let value =
                "as linux.uidMappings and gidMappings say: the user namespace given by path has others";
            return Err(StepError::new(Step::MapIds, value, Errno::INVAL).into());
        }
        Ok(become_namespace_root().map_err(fail)?)
    }

    fn set_oom_score(&mut self) -> Result<(), Failure> {
        finish::set_oom_score(&self.arguments.plan.process, self.link)
    }

    fn set_security_label(&mut self) -> Result<(), Failure> {
        Ok(finish::set_security_label(&self.arguments.plan.process)?)
    }

    fn join_namespaces(&mut self) -> Result<(), Failure> {
        for (kind, descriptor) in self.arguments.joined {
            namespace::setns(descriptor.as_fd(), *kind).map_err(|errno| {
                let paths = &self.arguments.plan.namespaces.joined;
                let path = paths.iter().find(|(joined, _)| joined == kind);
                let path = path.map(|(_, path)| path.display().to_string()).unwrap_or_default();
                StepError::new(Step::JoinNamespace, path, errno)
            })?;
        }
        if self.arguments.plan.namespaces.new.contains(Namespaces::NETWORK) {
            namespace::loopback_up()
                .map_err(|errno| StepError::new(Step::JoinNamespace, "loopback interface", errno))?;
        }
        Ok(())
    }

    fn make_keyring(&mut self) -> Result<(), Failure> {
        if self.arguments.keep_keyring {
            return Ok(());
        }
        Ok(privileges::new_session_keyring(self.arguments.id)?)
    }

    /// Bind sources are opened before the mounts are isolated: a copy of a shared mount stays the
    /// host mount's peer, which is what `shared` and `slave` volumes need.
    fn open_bind_sources(&mut self) -> Result<(), Failure> {
        for (plan, id_map) in self.arguments.plan.tree.mounts.iter().zip(self.arguments.id_maps) {
            let id_map = id_map.as_ref().map(AsFd::as_fd);
            let detached = match plan.source {
                MountSource::Bind(_) => Some(mounts::open_source(plan, id_map)?),
                MountSource::Layers(_) | MountSource::FileSystem { .. } | MountSource::Cgroup => None,
            };
            self.detached.push(detached);
        }
        if self.is_unprivileged() {
            let devices = self.arguments.plan.tree.devices.iter();
            self.host_devices = devices.map(devices::open_host_device).collect::<Result<_, _>>()?;
        }
        Ok(())
    }

    fn isolate_mounts(&mut self) -> Result<(), Failure> {
        ferry_sys::mount::make_all_private()
            .map_err(|errno| StepError::new(Step::IsolateMounts, "/", errno).into())
    }

    fn mount_root(&mut self) -> Result<(), Failure> {
        self.rootfs = Some(overlay::mount(self.arguments.rootfs, self.is_unprivileged())?);
        Ok(())
    }

    /// Whether capabilities count in a user namespace only: the container's own, or an ordinary user's.
    fn is_unprivileged(&self) -> bool {
        self.arguments.plan.namespaces.is_private(Namespaces::USER) || in_user_namespace()
    }

    fn open_file_systems(&mut self) -> Result<(), Failure> {
        for (plan, detached) in self.arguments.plan.tree.mounts.iter().zip(&mut self.detached) {
            if matches!(plan.source, MountSource::Layers(_) | MountSource::FileSystem { .. }) {
                *detached = Some(mounts::open_source(plan, None)?);
            }
        }
        Ok(())
    }

    fn write_sysctls(&mut self) -> Result<(), Failure> {
        let sysctls = &self.arguments.plan.sysctls;
        if sysctls.is_empty() {
            return Ok(());
        }
        let procfs = self.procfs().map_err(|errno| StepError::new(Step::Sysctl, "procfs", errno))?;
        for (path, value) in sysctls {
            procfs.write(&format!("sys/{path}"), value.as_bytes()).map_err(|errno| {
                StepError::new(Step::Sysctl, format!("{} to {value:?}", path.replace('/', ".")), errno)
            })?;
        }
        Ok(())
    }

    /// The container's own procfs, which waits to be attached: nothing can stand in its place. An
    /// instance only for this would cost more to take down than all the writes.
    fn procfs(&self) -> Result<Procfs, Errno> {
        let mounts = self.arguments.plan.tree.mounts.iter().zip(&self.detached);
        for (plan, detached) in mounts {
            let writable = plan.options.attributes.set & Attributes::READ_ONLY == 0;
            let proc = matches!(&plan.source, MountSource::FileSystem { kind, .. } if kind == "proc");
            if let Some(Detached::Single { mount, .. }) = detached
                && proc
                && writable
            {
                return Procfs::from_mount(mount.as_fd());
            }
        }
        Procfs::new()
    }

    fn join_cgroup(&mut self) -> Result<(), Failure> {
        if !self.arguments.wait_for_cgroup {
            return Ok(());
        }
        let entrances = self.link.wait_with(Control::CgroupMade);
        let joined = entrances.and_then(|entrances| cgroup::enter(&entrances));
        joined.map_err(|errno| StepError::new(Step::JoinCgroup, "of version 1", errno).into())
    }

    /// The cgroup namespace's root is the cgroup its first process is in, so it comes after joining.
    fn unshare_cgroup(&mut self) -> Result<(), Failure> {
        if self.arguments.plan.namespaces.new.contains(Namespaces::CGROUP) {
            namespace::unshare(Namespaces::CGROUP)
                .map_err(|errno| StepError::new(Step::UnshareCgroup, "", errno))?;
        }
        for (plan, detached) in self.arguments.plan.tree.mounts.iter().zip(&mut self.detached) {
            if matches!(plan.source, MountSource::Cgroup) {
                let (mounts, links) = (self.arguments.cgroup_mounts, self.arguments.cgroup_links);
                *detached = Some(mounts::open_cgroup(plan, mounts, links)?);
            }
        }
        Ok(())
    }

    /// Those of the caller's namespaces, then those of the container's; all with the host's tree in sight.
    fn run_hooks(&mut self) -> Result<(), Failure> {
        if self.arguments.runtime_hooks {
            let fail = |errno| StepError::new(Step::Hooks, "", errno);
            self.link.report(&Report::Assembled, None).map_err(fail)?;
            self.link.wait_for(Control::Hooked).map_err(fail)?;
        }
        if self.arguments.create_container.is_empty() {
            return Ok(());
        }
        let state = self.arguments.described.json("creating", Some(own_pid()));
        Ok(hooks::run(HookStage::CreateContainer, self.arguments.create_container, &state)?)
    }

    fn pivot_root(&mut self) -> Result<(), Failure> {
        let fail = |errno| StepError::new(Step::PivotRoot, "", errno);
        let rootfs = self.rootfs.as_ref().ok_or_else(|| fail(Errno::BADF))?;
        if self.arguments.no_pivot {
            ferry_sys::mount::move_root(rootfs.as_fd()).map_err(fail)?;
        } else {
            ferry_sys::mount::pivot_root(rootfs.as_fd()).map_err(fail)?;
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        self.root = Some(rustix::fs::open("/", flags, Mode::empty()).map_err(fail)?);
        Ok(())
    }

    fn attach_mounts(&mut self) -> Result<(), Failure> {
        let root = self.root()?;
        for (plan, detached) in self.arguments.plan.tree.mounts.iter().zip(&self.detached) {
            if let Some(detached) = detached {
                mounts::attach_at(root, plan, detached)?;
            }
        }
        self.detached.clear();
        Ok(())
    }

    fn make_devices(&mut self) -> Result<(), Failure> {
        if !self.arguments.plan.tree.own_dev {
            return Ok(());
        }
        let root = self.root()?;
        for (index, device) in self.arguments.plan.tree.devices.iter().enumerate() {
            match self.host_devices.get(index) {
                Some(host) => devices::bind_device(root, device, host.as_fd())?,
                None => devices::make_device(root, device)?,
            }
        }
        Ok(devices::make_links(root)?)
    }

    fn open_terminal(&mut self) -> Result<(), Failure> {
        let Stdio::Terminal { rows, cols } = self.arguments.stdio else { return Ok(()) };
        let terminal = Terminal::open(self.root()?, *rows, *cols)?;
        if self.arguments.plan.tree.own_dev {
            terminal.bind_console(self.root()?)?;
        }
        self.link
            .report(&Report::Console, Some(terminal.master.as_fd()))
            .map_err(|errno| StepError::new(Step::Console, "master side", errno))?;
        self.terminal = Some(terminal);
        Ok(())
    }

    fn set_names(&mut self) -> Result<(), Failure> {
        if let Some(name) = &self.arguments.plan.hostname {
            rustix::system::sethostname(name.as_bytes())
                .map_err(|errno| StepError::new(Step::Hostname, name, errno))?;
        }
        if let Some(name) = &self.arguments.plan.domainname {
            rustix::system::setdomainname(name.as_bytes())
                .map_err(|errno| StepError::new(Step::Hostname, name, errno))?;
        }
        Ok(())
    }

    fn make_working_directory(&mut self) -> Result<(), Failure> {
        let path = &self.arguments.plan.process.working_directory;
        let mode = Mode::from_raw_mode(0o755);
        match ferry_sys::tree::make_directories(self.root()?, path, mode) {
            Ok(_) => Ok(()),
            // Entering it gives the error that users know.
            Err(Errno::NOTDIR | Errno::ROFS | Errno::ACCESS | Errno::LOOP | Errno::NOENT) => Ok(()),
            Err(errno) => Err(StepError::new(Step::WorkingDirectory, path.display(), errno).into()),
        }
    }

    fn make_paths_readonly(&mut self) -> Result<(), Failure> {
        for path in &self.arguments.plan.tree.readonly {
            mask::make_readonly(self.root()?, path)?;
        }
        Ok(())
    }

    fn mask_paths(&mut self) -> Result<(), Failure> {
        let mut masks = mask::Masks::new(self.root()?);
        for path in &self.arguments.plan.tree.masked {
            masks.mask(path)?;
        }
        Ok(())
    }

    /// Last changes to the root's mount, and a descriptor of it for the parent.
    fn finish_root(&mut self) -> Result<(), Failure> {
        let fail = |errno| StepError::new(Step::ReadonlyRoot, "/", errno);
        let rootfs = self.rootfs.take().ok_or_else(|| fail(Errno::BADF))?;
        let attributes = Attributes {
            set: if self.arguments.plan.tree.readonly_root { Attributes::READ_ONLY } else { 0 },
            clear: 0,
            propagation: self.arguments.plan.tree.root_propagation,
        };
        if !attributes.is_empty() {
            set_attributes(rootfs.as_fd(), attributes, false).map_err(fail)?;
        }
        // A copy without what is mounted below: whoever reads the container's files through it meets
        // its own files only, not `/proc` or a volume in their place.
        let alone = ferry_sys::mount::clone_descriptor(rootfs.as_fd(), false).map_err(fail)?;
        self.link.report(&Report::Rootfs, Some(alone.as_fd())).map_err(fail)?;
        Ok(())
    }

    fn set_streams(&mut self) -> Result<(), Failure> {
        match self.terminal.take() {
            Some(terminal) => terminal.take_over()?,
            None => streams::place_descriptors(self.root()?, self.arguments.stdio)?,
        }
        Ok(streams::give_to_user(self.arguments.plan.process.user.uid)?)
    }
}

/// The calling process as its own pid namespace knows it.
pub(crate) fn own_pid() -> i32 {
    rustix::process::getpid().as_raw_nonzero().get()
}

/// Becomes user and group 0 of the user namespace just entered; the ids from outside mean nobody here.
fn become_namespace_root() -> Result<(), Errno> {
    let (uid, gid) = (rustix::process::Uid::ROOT, rustix::process::Gid::ROOT);
    rustix::thread::set_thread_groups(&[])?;
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)
}
