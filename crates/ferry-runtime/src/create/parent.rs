//! What the parent does around a clone: opening namespaces, following the child's reports, killing
//! and reaping a child whose start failed.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use ferry_oci::runtime::{Hook, LinuxIdMapping, LinuxSeccomp};
use ferry_sys::clone::{Child, Kinship, clone3};
use ferry_sys::namespace::{Namespaces, in_user_namespace, setns};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid,
};

use super::Step;
use super::link::{Control, Failure, Link, Report};
use super::plan::NamespacePlan;
use crate::error::{CommandError, EndedError, StepError};
use crate::hooks::{self, Described, HookError, HookStage};
use crate::network::{self, NetDevicePlan};
use crate::process::plan::{AgentPlan, SeccompPlan};
use crate::request::Process;
use crate::seccomp::{self, SeccompError};

/// More warnings than a start can have reasons for; a broken child must not fill memory.
const WARNINGS_MAX: usize = 64;

/// Follows a cloned child until its command runs; kills and reaps it when dropped before.
#[derive(Debug)]
pub(crate) struct Follower {
    link: Link,
    process: Option<Process>,
    executing: bool,
    /// What is done in the caller's namespaces before the child enters its root.
    hooks: RuntimeHooks,
}

/// What is done in the caller's namespaces: devices that move into the container, hooks and what these are told.
#[derive(Debug, Default)]
pub(crate) struct RuntimeHooks {
    pub net_devices: Vec<NetDevicePlan>,
    pub prestart: Vec<Hook>,
    pub create_runtime: Vec<Hook>,
    pub described: Described,
}

impl RuntimeHooks {
    pub fn is_empty(&self) -> bool {
        self.net_devices.is_empty() && self.prestart.is_empty() && self.create_runtime.is_empty()
    }

    fn run(&self, pid: i32) -> Result<(), FollowError> {
        network::move_devices(&self.net_devices, pid)?;
        let state = self.described.json("creating", Some(pid));
        hooks::run(HookStage::Prestart, &self.prestart, &state)?;
        Ok(hooks::run(HookStage::CreateRuntime, &self.create_runtime, &state)?)
    }
}

/// How a followed start failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FollowError {
    #[error(transparent)]
    Step(#[from] StepError),
    #[error(transparent)]
    Command(#[from] CommandError),
    #[error(transparent)]
    Ended(#[from] EndedError),
    #[error(transparent)]
    Hook(#[from] HookError),
}

impl From<FollowError> for crate::error::CreateError {
    fn from(error: FollowError) -> Self {
        match error {
            FollowError::Step(error) => error.into(),
            FollowError::Command(error) => error.into(),
            FollowError::Ended(error) => error.into(),
            FollowError::Hook(error) => error.into(),
        }
    }
}

impl From<FollowError> for crate::error::ExecError {
    fn from(error: FollowError) -> Self {
        match error {
            FollowError::Step(error) => error.into(),
            FollowError::Command(error) => error.into(),
            FollowError::Ended(error) => error.into(),
            FollowError::Hook(error) => error.into(),
        }
    }
}

impl Follower {
    pub fn new(pid: i32, pidfd: OwnedFd, link: Link) -> Follower {
        let process = Process {
            pid,
            pidfd,
            console: None,
            rootfs_mount: None,
            cgroup: None,
            class: None,
            warnings: Vec::new(),
        };
        Follower { link, process: Some(process), executing: false, hooks: RuntimeHooks::default() }
    }

    /// Sets what runs before the child enters its root.
    pub fn set_hooks(&mut self, hooks: RuntimeHooks) {
        self.hooks = hooks;
    }

    /// Whether something runs before the child enters its root.
    pub fn has_hooks(&self) -> bool {
        !self.hooks.is_empty()
    }

    /// Lets go of a child that waits for its start: it lives on.
    pub fn release(&mut self) -> Result<Process, FollowError> {
        self.process.take().ok_or_else(|| StepError::new(Step::Report, "init", Errno::BADF).into())
    }

    /// Joins the conversation of a child that another process has created.
    pub fn joining(link: Link) -> Follower {
        Follower { link, process: None, executing: false, hooks: RuntimeHooks::default() }
    }

    /// As [`Follower::until_executed`] for a child of another process.
    pub fn until_executed_elsewhere(&mut self) -> Result<Vec<String>, FollowError> {
        let mut warnings = Vec::new();
        while let Some(report) = self.next()? {
            if let Report::Warning(text) = report {
                warnings.push(text);
            }
        }
        if self.executing { Ok(warnings) } else { Err(self.ended()) }
    }

    pub fn pid(&self) -> i32 {
        self.process.as_ref().map_or(0, |process| process.pid)
    }

    pub fn allow(&self, control: Control) -> Result<(), FollowError> {
        self.allow_with(control, &[])
    }

    /// Lets the child go on, with descriptors that it needs.
    pub fn allow_with(&self, control: Control, descriptors: &[OwnedFd]) -> Result<(), FollowError> {
        match self.link.allow_with(control, descriptors) {
            Ok(()) => Ok(()),
            // The child has failed; its report waits in the socket.
            Err(Errno::PIPE | Errno::CONNRESET) => Ok(()),
            Err(errno) => Err(StepError::new(Step::Report, "init", errno).into()),
        }
    }

    /// Follows until the child waits for its start.
    pub fn until_created(&mut self) -> Result<(), FollowError> {
        while let Some(report) = self.next()? {
            if matches!(report, Report::Created) {
                return Ok(());
            }
        }
        Err(self.ended())
    }

    /// Follows until `execve` has closed the child's end.
    pub fn until_executed(&mut self) -> Result<Process, FollowError> {
        while self.next()?.is_some() {}
        if !self.executing {
            return Err(self.ended());
        }
        self.process.take().ok_or_else(|| StepError::new(Step::Report, "init", Errno::BADF).into())
    }

    fn next(&mut self) -> Result<Option<Report>, FollowError> {
        let fail = |errno| StepError::new(Step::Report, "init", errno);
        let Some((report, descriptor)) = self.link.next_report().map_err(fail)? else { return Ok(None) };
        match &report {
            Report::Executing => self.executing = true,
            Report::Assembled => {
                self.hooks.run(self.pid())?;
                self.allow(Control::Hooked)?;
            }
            Report::Failed(Failure::Hook(error)) => return Err(error.clone().into()),
            Report::Failed(Failure::Step(error)) => return Err(error.clone().into()),
            Report::Failed(Failure::Command(error)) => return Err(error.clone().into()),
            Report::Warning(_) | Report::Console | Report::Rootfs | Report::Created => {}
        }
        if let Some(process) = &mut self.process {
            match &report {
                Report::Warning(text) if process.warnings.len() < WARNINGS_MAX => {
                    process.warnings.push(text.clone())
                }
                Report::Console => process.console = descriptor,
                Report::Rootfs => process.rootfs_mount = descriptor,
                _ => {}
            }
        }
        Ok(Some(report))
    }

    /// The child has ended without a word: killed from outside, or out of memory.
    fn ended(&self) -> FollowError {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        let status = self
            .process
            .as_ref()
            .and_then(|process| waitid(WaitId::PidFd(process.pidfd.as_fd()), options).ok().flatten());
        let signal = status.as_ref().and_then(|status| status.terminating_signal());
        match signal {
            Some(signal) if signal == Signal::KILL.as_raw() => EndedError::Killed.into(),
            Some(signal) => EndedError::Signalled { signal }.into(),
            None => {
                let code = status.and_then(|status| status.exit_status()).unwrap_or(0);
                EndedError::Exited { code }.into()
            }
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        if let Some(process) = &self.process {
            reap(process.pidfd.as_fd());
        }
    }
}

/// Kills a child and waits for its end.
pub(crate) fn reap(pidfd: std::os::fd::BorrowedFd<'_>) {
    // It may have ended already.
    let _ = pidfd_send_signal(pidfd, Signal::KILL);
    while let Err(Errno::INTR) = waitid(WaitId::PidFd(pidfd), WaitIdOptions::EXITED) {}
}

/// Opens the namespaces to join.
pub(crate) fn open_namespaces(plan: &NamespacePlan) -> Result<Vec<(Namespaces, OwnedFd)>, StepError> {
    plan.joined
        .iter()
        .map(|(kind, path)| {
            rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
                .map(|descriptor| (*kind, descriptor))
                .map_err(|errno| StepError::new(Step::JoinNamespace, path.display(), errno))
        })
        .collect()
}

/// Namespaces that a process is in from its clone on: whoever clones it must enter them first.
#[derive(Debug, Default)]
pub(crate) struct Cradle {
    pub user: Option<OwnedFd>,
    pub pid: Option<OwnedFd>,
}

impl Cradle {
    /// Takes them out of the namespaces to join.
    pub fn take(joined: &mut Vec<(Namespaces, OwnedFd)>) -> Cradle {
        let mut take = |wanted| {
            let index = joined.iter().position(|(kind, _)| *kind == wanted)?;
            Some(joined.remove(index).1)
        };
        Cradle { user: take(Namespaces::USER), pid: take(Namespaces::PID) }
    }
}

/// Clones with the cradle's namespaces as the child's, and takes the caller back to its own.
pub(crate) fn clone_in(
    cradle: &Cradle,
    clone: impl FnOnce(Kinship) -> Result<Child, Errno>,
) -> Result<Child, StepError> {
    let cloned = |errno| StepError::new(Step::Clone, "init", errno);
    if let Some(user) = &cradle.user {
        // There is no way back from a user namespace.
        let fail = |errno| StepError::new(Step::JoinNamespace, "user", errno);
        return clone_from_between(Some(user), cradle.pid.as_ref(), clone).map_err(fail);
    }
    let Some(target) = &cradle.pid else { return clone(Kinship::Child).map_err(cloned) };
    let fail = |errno| StepError::new(Step::JoinNamespace, "pid", errno);
    if in_user_namespace() {
        return clone_from_between(None, Some(target), clone).map_err(fail);
    }
    let own = Path::new("/proc/self/ns/pid");
    let own = rustix::fs::open(own, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(fail)?;
    setns(target.as_fd(), Namespaces::PID).map_err(fail)?;
    let result = clone(Kinship::Child);
    if let Err(errno) = setns(own.as_fd(), Namespaces::PID) {
        // The next child would land in the container: better none at all.
        if let Ok(child) = &result {
            reap(child.pidfd.as_fd());
        }
        return Err(fail(errno));
    }
    result.map_err(cloned)
}

/// An ordinary user's process may enter the pid namespace of a container, but not the machine's again, and nobody
/// comes back from a user namespace: a process in between enters them, clones a sibling of itself and ends.
fn clone_from_between(
    user: Option<&OwnedFd>,
    pid: Option<&OwnedFd>,
    clone: impl FnOnce(Kinship) -> Result<Child, Errno>,
) -> Result<Child, Errno> {
    let (told, tell) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    let between = clone3(Namespaces::NONE, None, || {
        let enter = |target: Option<&OwnedFd>, kind| target.map_or(Ok(()), |fd| setns(fd.as_fd(), kind));
        let entered = enter(user, Namespaces::USER).and_then(|()| enter(pid, Namespaces::PID));
        let made = entered.and_then(|()| clone(Kinship::Sibling));
        let answer = made.map_or_else(|errno| -errno.raw_os_error(), |child| child.pid);
        i32::from(rustix::io::write(&tell, &answer.to_ne_bytes()).is_err())
    })?;
    drop(tell);
    let mut answer = [0; 4];
    let read = rustix::io::retry_on_intr(|| rustix::io::read(&told, &mut answer));
    while let Err(Errno::INTR) = waitid(WaitId::PidFd(between.pidfd.as_fd()), WaitIdOptions::EXITED) {}
    match (read?, i32::from_ne_bytes(answer)) {
        (4, pid) if pid > 0 => {
            // Nobody else can have reaped it: it is this process's child.
            let process = Pid::from_raw(pid).ok_or(Errno::SRCH)?;
            Ok(Child { pid, pidfd: pidfd_open(process, PidfdFlags::empty())? })
        }
        (4, errno) => Err(Errno::from_raw_os_error(-errno)),
        _ => Err(Errno::CHILD),
    }
}

/// Writes the id maps of a child's user namespace.
pub(crate) fn write_id_maps(pid: i32, plan: &NamespacePlan) -> Result<(), StepError> {
    let write = |file: &str, map: &[LinuxIdMapping]| {
        let text: String = map
            .iter()
            .map(|entry| format!("{} {} {}\n", entry.container_id(), entry.host_id(), entry.size()))
            .collect();
        ferry_sys::procfs::Procfs::host()
            .and_then(|procfs| procfs.write(&format!("{pid}/{file}"), text.as_bytes()))
            .map_err(|errno| StepError::new(Step::MapIds, format!("{file} {text:?}"), errno))
    };
    write("uid_map", &plan.uid_map)?;
    write("gid_map", &plan.gid_map)
}

/// The filter to load: a compiled one as given, else the profile compiled now.
pub(crate) fn seccomp_plan(
    compiled: Option<Vec<u8>>,
    profile: Option<&LinuxSeccomp>,
) -> Result<Option<SeccompPlan>, SeccompError> {
    let flags = profile.map(seccomp::flags).transpose()?.unwrap_or(0);
    match (compiled, profile) {
        (Some(program), _) => Ok(Some(SeccompPlan { program, flags, agent: None })),
        (None, Some(profile)) => {
            let wanted = seccomp::notify::is_wanted(profile);
            let agent = profile.listener_path().clone().filter(|_| wanted).map(|socket| AgentPlan {
                socket,
                metadata: profile.listener_metadata().clone().unwrap_or_default(),
            });
            Ok(Some(SeccompPlan { program: seccomp::compile(profile)?, flags, agent }))
        }
        (None, None) => Ok(None),
    }
}
