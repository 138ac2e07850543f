//! Creating and starting a container: the parent's side.
//!
//! Owns the choreography between the caller's process and the container's init, and that a failed
//! start leaves nothing behind. What init does is in `init.rs`.

mod step;

pub(crate) mod link;
mod machine;
mod parent;
mod plan;
mod time;

pub(crate) mod finish;
mod init;

pub use plan::IPC_SYSCTLS;
pub use step::Step;

pub(crate) use parent::{Cradle, Follower, RuntimeHooks, clone_in, reap, seccomp_plan, write_id_maps};
pub(crate) use plan::{NamespacePlan, memory_policy};

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;

use ferry_oci::runtime::Hooks;
use ferry_sys::clone::{Child, clone3_as};
use ferry_sys::namespace::Namespaces;

use crate::cgroup::{self, Cgroup, Layout};
use crate::error::{CreateError, StepError};
use crate::hooks::HookStage;
use crate::request::{CreateRequest, Process};
use crate::resctrl::{self, Class};
use crate::systemd::Scope;

use finish::Gate;
use init::InitArguments;
use link::Control;
use plan::Plan;

/// Creates a container and starts its command; returns once `execve` succeeded.
///
/// On failure nothing is left: no process, no cgroup, no mount.
pub fn run(request: CreateRequest) -> Result<Process, CreateError> {
    let starting = Starting::begin(request, Gate::Open)?;
    starting.finish()
}

/// As [`run`] in two steps: init sets itself up while the caller does something else, and waits for the word.
pub fn prepare(request: CreateRequest) -> Result<Prepared, CreateError> {
    Ok(Prepared { starting: Starting::begin(request, Gate::Parent)? })
}

/// A container that is being set up, or is set up already and waits. Dropping it undoes everything.
#[derive(Debug)]
pub struct Prepared {
    starting: Starting,
}

impl Prepared {
    /// Lets the container's command run as soon as all is set up; returns once `execve` succeeded.
    pub fn start(mut self) -> Result<Process, CreateError> {
        // Hooks are a conversation: the word to start must not come in the middle of it.
        if self.starting.follower.has_hooks() {
            self.starting.follower.until_created()?;
        }
        self.starting.follower.allow(Control::Start)?;
        self.starting.finish()
    }
}

/// Creates a container whose init waits, fully set up, just before its command.
pub fn create(request: CreateRequest) -> Result<Created, CreateError> {
    let mut starting = Starting::begin(request, Gate::Parent)?;
    starting.follower.until_created()?;
    Ok(Created { starting })
}

/// Creates a container whose init waits for whoever connects to `gate` (a listening socket of packets) and starts it
/// with [`start`]. It outlives the caller.
pub fn create_detached(request: CreateRequest, gate: BorrowedFd<'_>) -> Result<Detached, CreateError> {
    let mut starting = Starting::begin(request, Gate::Listener(gate))?;
    starting.follower.until_created()?;
    let process = starting.follower.release()?;
    // Both stay: they are whoever's is who starts and deletes the container.
    starting.cgroup.keep();
    let class = starting.class.0.take();
    Ok(Detached { pid: process.pid, console: process.console, class, warnings: process.warnings })
}

/// A container that waits for its start, and of which nobody is the owner.
#[derive(Debug)]
pub struct Detached {
    /// Its init in the caller's pid namespace.
    pub pid: i32,
    /// Master side of its terminal, when one was asked for.
    pub console: Option<OwnedFd>,
    /// Its class of cache and memory bandwidth.
    pub class: Option<Class>,
    /// What was not granted.
    pub warnings: Vec<String>,
}

/// Starts a container made by [`create_detached`], over a connection to its gate; returns what was not granted once
/// `execve` succeeded.
pub fn start(gate: OwnedFd) -> Result<Vec<String>, CreateError> {
    let mut follower = Follower::joining(link::Link::from_socket(gate));
    follower.allow(Control::Start)?;
    Ok(follower.until_executed_elsewhere()?)
}

/// A container that is set up and waits for its start. Dropping it undoes everything.
#[derive(Debug)]
pub struct Created {
    starting: Starting,
}

impl Created {
    /// The waiting init's process id in the caller's pid namespace.
    pub fn pid(&self) -> i32 {
        self.starting.follower.pid()
    }

    /// Lets the container's command run; returns once `execve` succeeded.
    pub fn start(self) -> Result<Process, CreateError> {
        self.starting.follower.allow(Control::Start)?;
        self.starting.finish()
    }
}

/// A start under way: owns all that must go when it fails.
#[derive(Debug)]
struct Starting {
    follower: Follower,
    cgroup: CgroupGuard,
    class: ClassGuard,
}

impl Starting {
    fn begin(mut request: CreateRequest, gate: Gate<'_>) -> Result<Starting, CreateError> {
        let plan = Plan::build(&mut request)?;
        machine::check(&request.spec)?;
        let spec = &request.spec;
        let resources = spec.linux().as_ref().and_then(|linux| linux.resources().clone()).unwrap_or_default();
        let layout = match &plan.cgroup_path {
            Some(_) => Some(cgroup::detect()?),
            None => None,
        };
        // On v2 init is cloned straight into its cgroup; those of v1 are made while init already
        // mounts its file systems.
        let mut cgroup = CgroupGuard::default();
        let mut class = ClassGuard(None);
        if let Some(wanted) = spec.linux().as_ref().and_then(|linux| linux.intel_rdt().as_ref()) {
            class.0 = Some(Class::open(&resctrl::root()?, wanted, &request.id)?);
        }
        match (&plan.cgroup_path, layout) {
            // systemd makes it around a process that is there already.
            _ if request.scope.is_some() => {}
            (Some(path), Some(Layout::V2)) => {
                cgroup.make(path, &resources)?;
            }
            (Some(path), Some(Layout::Hybrid)) => cgroup.cgroup = Some(Cgroup::create_unified(path)?),
            (_, Some(Layout::V1) | None) | (None, _) => {}
        }
        let child = clone_init(&request, &plan, cgroup.cgroup.as_ref(), layout, gate)?;
        let starting = Starting { follower: child, cgroup, class };
        starting.join(plan, layout, request.scope, &resources)
    }

    /// The parent's part while init sets itself up.
    fn join(
        mut self,
        plan: Plan,
        layout: Option<Layout>,
        scope: Option<Scope>,
        resources: &ferry_oci::runtime::LinuxResources,
    ) -> Result<Starting, CreateError> {
        if let Some(class) = &self.class.0 {
            class.enter(self.follower.pid())?;
        }
        if plan.namespaces.new.contains(Namespaces::USER) {
            parent::write_id_maps(self.follower.pid(), &plan.namespaces)?;
            self.follower.allow(Control::Mapped)?;
        }
        let waits = scope.is_some() || matches!(layout, Some(Layout::V1 | Layout::Hybrid));
        if let (Some(path), true) = (&plan.cgroup_path, waits) {
            if let Some(scope) = scope {
                self.cgroup.start(scope, self.follower.pid(), resources)?;
            }
            let entrances = self.cgroup.make(path, resources)?.entrances()?;
            self.follower.allow_with(Control::CgroupMade, &entrances)?;
        }
        Ok(self)
    }

    fn finish(mut self) -> Result<Process, CreateError> {
        let mut process = self.follower.until_executed()?;
        process.cgroup = self.cgroup.keep();
        process.class = self.class.0.take();
        Ok(process)
    }
}

/// Removes the class unless it was handed on.
#[derive(Debug)]
struct ClassGuard(Option<Class>);

impl Drop for ClassGuard {
    fn drop(&mut self) {
        if let Some(class) = &self.0 {
            // An error of the failed start is on its way already.
            drop(class.remove());
        }
    }
}

/// Removes the cgroup unless it was handed on.
#[derive(Debug, Default)]
struct CgroupGuard {
    scope: Option<Scope>,
    cgroup: Option<Cgroup>,
}

impl CgroupGuard {
    /// Hands it on.
    fn keep(&mut self) -> Option<Cgroup> {
        self.scope = None;
        self.cgroup.take()
    }

    /// Has systemd make a scope around a process.
    fn start(
        &mut self,
        scope: Scope,
        pid: i32,
        resources: &ferry_oci::runtime::LinuxResources,
    ) -> Result<(), CreateError> {
        self.scope.insert(scope).start(pid, resources)?;
        Ok(())
    }

    fn make(
        &mut self,
        path: &str,
        resources: &ferry_oci::runtime::LinuxResources,
    ) -> Result<&Cgroup, CreateError> {
        let cgroup = self.cgroup.insert(Cgroup::create(path)?);
        cgroup.apply(resources)?;
        Ok(cgroup)
    }
}

impl Drop for CgroupGuard {
    fn drop(&mut self) {
        // Init was killed and reaped before; an error of the failed start is on its way already.
        if let Some(scope) = &self.scope {
            drop(scope.stop());
        }
        if let Some(cgroup) = &self.cgroup {
            drop(cgroup.remove());
        }
    }
}

fn clone_init(
    request: &CreateRequest,
    plan: &Plan,
    cgroup: Option<&Cgroup>,
    layout: Option<Layout>,
    gate: Gate<'_>,
) -> Result<Follower, CreateError> {
    let prepare = |errno| StepError::new(Step::Prepare, "start", errno);
    let mut joined = parent::open_namespaces(&plan.namespaces)?;
    let cradle = Cradle::take(&mut joined);
    let cgroup_directory = cgroup.map(Cgroup::open_directory).transpose()?.flatten();
    let (cgroup_mounts, cgroup_links) = cgroup_view(plan, layout)?;
    let id_map =
        |mount: &crate::rootfs::plan::MountPlan| mount.id_map.as_ref().map(|map| map.namespace()).transpose();
    let id_maps = plan.tree.mounts.iter().map(id_map).collect::<Result<Vec<_>, _>>()?;
    let (parent_end, child_end) = link::pair().map_err(prepare)?;
    let parent_end = std::cell::Cell::new(Some(parent_end));
    let no_hooks = Hooks::default();
    let hooks = request.spec.hooks().as_ref().unwrap_or(&no_hooks);
    let of = |stage: HookStage| stage.of(hooks);
    let runtime_hooks = RuntimeHooks {
        net_devices: plan.net_devices.clone(),
        prestart: of(HookStage::Prestart).to_vec(),
        create_runtime: of(HookStage::CreateRuntime).to_vec(),
        described: request.described.clone(),
    };
    let arguments = InitArguments {
        id: &request.id,
        plan,
        rootfs: &request.rootfs,
        stdio: &request.stdio,
        joined: &joined,
        cgroup_mounts: &cgroup_mounts,
        cgroup_links: &cgroup_links,
        id_maps: &id_maps,
        wait_for_cgroup: request.scope.is_some() || matches!(layout, Some(Layout::V1 | Layout::Hybrid)),
        gate,
        runtime_hooks: !runtime_hooks.is_empty(),
        create_container: of(HookStage::CreateContainer),
        start_container: of(HookStage::StartContainer),
        described: &request.described,
        preserved: &request.preserved,
        keep_keyring: request.keep_keyring,
        no_pivot: request.no_pivot,
        reaper: request.init,
        faults: request.faults,
    };
    // The cgroup namespace is unshared later, when the process is in its cgroup.
    let new = plan.namespaces.new.without(Namespaces::CGROUP);
    let shifted = !plan.time_offsets.is_empty();
    let new = if shifted { new.without(Namespaces::TIME) } else { new };
    let child = time::in_shifted_clocks(&plan.time_offsets, || {
        clone_in(&cradle, |kinship| {
            clone3_as(kinship, new, cgroup_directory.as_ref().map(std::os::fd::AsFd::as_fd), || {
                // With the parent's end open here, the parent's death would go unnoticed.
                drop(parent_end.take());
                init::run(&arguments, &child_end)
            })
        })
    })?;
    drop(child_end);
    let Child { pid, pidfd } = child;
    let parent_end = parent_end.take().ok_or_else(|| prepare(rustix::io::Errno::BADF))?;
    let mut follower = Follower::new(pid, pidfd, parent_end);
    follower.set_hooks(runtime_hooks);
    Ok(follower)
}

type CgroupView = (Vec<(String, PathBuf)>, Vec<(String, String)>);

/// What the container's `/sys/fs/cgroup` shall show.
fn cgroup_view(plan: &Plan, layout: Option<Layout>) -> Result<CgroupView, CreateError> {
    if !plan.tree.mounts.iter().any(|mount| matches!(mount.source, crate::rootfs::plan::MountSource::Cgroup))
    {
        return Ok((Vec::new(), Vec::new()));
    }
    let own = plan.namespaces.is_private(Namespaces::CGROUP);
    let path = match (&plan.cgroup_path, layout) {
        // On v2 Docker shows a container in the host's cgroup namespace the whole tree.
        (Some(path), Some(Layout::V1 | Layout::Hybrid)) => Some(path.as_str()),
        (Some(path), Some(Layout::V2)) if own => Some(path.as_str()),
        _ => None,
    };
    Ok(cgroup::view(path)?)
}
