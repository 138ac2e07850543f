//! Running a further process in a container.
//!
//! Owns entering the namespaces of a running init. From there on the way is that of `run`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use ferry_sys::clone::{Child, clone3_as};
use ferry_sys::namespace::{Namespaces, setns};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::cgroup::{self, Cgroup};
use crate::create::finish::{self, Finish};
use crate::create::link::{self, Failure, Link, Report};
use crate::create::{Cradle, Follower, Step, clone_in, memory_policy, seccomp_plan};
use crate::error::{ExecError, StepError};
use crate::hooks::Described;
use crate::process::agent::Agent;
use crate::process::plan::ProcessPlan;
use crate::process::privileges;
use crate::process::streams::{self, Terminal};
use crate::request::{ExecRequest, FaultHook, Process, Stdio};

/// Starts a process inside a running container; returns once `execve` succeeded.
///
/// The process is the caller's child, though it lives in the container's pid namespace.
pub fn exec(request: ExecRequest<'_>) -> Result<Process, ExecError> {
    let profile = request.linux.and_then(|linux| linux.seccomp().as_ref());
    let plan = ProcessPlan {
        memory_policy: memory_policy(request.linux)?,
        ..ProcessPlan::build(&request.process, seccomp_plan(request.seccomp, profile)?)?
    };
    let host = Kinds::of(request.pid)?;
    let prepare = |errno| StepError::new(Step::Prepare, "exec", errno);
    let unified = request.cgroup.map(Cgroup::open_directory).transpose()?.flatten();
    let entrances = request.cgroup.map(Cgroup::entrances).transpose()?.unwrap_or_default();
    let entrances = std::cell::Cell::new(entrances);
    let (parent_end, child_end) = link::pair().map_err(prepare)?;
    let parent_end = std::cell::Cell::new(Some(parent_end));
    let arguments = Arguments {
        pid: request.pid,
        init: request.pidfd,
        namespaces: host.others,
        plan: &plan,
        described: &request.described,
        stdio: &request.stdio,
        preserved: &request.preserved,
        faults: request.faults,
    };
    let child = clone_in(&Cradle { user: None, pid: host.pid }, |kinship| {
        clone3_as(kinship, Namespaces::NONE, unified.as_ref().map(AsFd::as_fd), || {
            drop(parent_end.take());
            run(&arguments, entrances.take(), &child_end)
        })
    })?;
    drop(child_end);
    let Child { pid, pidfd } = child;
    let parent_end = parent_end.take().ok_or_else(|| prepare(Errno::BADF))?;
    let mut follower = Follower::new(pid, pidfd, parent_end);
    Ok(follower.until_executed()?)
}

/// Which namespaces of a container differ from the caller's: only those can and need be entered.
struct Kinds {
    pid: Option<OwnedFd>,
    others: Namespaces,
}

/// Names below `/proc/<pid>/ns`, with their kinds.
const NAMESPACE_FILES: [(&str, Namespaces); 8] = [
    ("user", Namespaces::USER),
    ("mnt", Namespaces::MOUNT),
    ("uts", Namespaces::UTS),
    ("ipc", Namespaces::IPC),
    ("net", Namespaces::NETWORK),
    ("cgroup", Namespaces::CGROUP),
    ("time", Namespaces::TIME),
    ("pid", Namespaces::PID),
];

impl Kinds {
    fn of(pid: i32) -> Result<Kinds, StepError> {
        let mut kinds = Kinds { pid: None, others: Namespaces::NONE };
        for (name, kind) in NAMESPACE_FILES {
            let path = format!("/proc/{pid}/ns/{name}");
            let fail = |errno| StepError::new(Step::JoinNamespace, &path, errno);
            let theirs = match rustix::fs::stat(&path) {
                Ok(found) => found,
                // A kernel without this kind of namespace.
                Err(Errno::NOENT) if kind == Namespaces::TIME || kind == Namespaces::CGROUP => continue,
                Err(errno) => return Err(fail(errno)),
            };
            let own = rustix::fs::stat(format!("/proc/self/ns/{name}")).map_err(fail)?;
            if (theirs.st_dev, theirs.st_ino) == (own.st_dev, own.st_ino) {
                continue;
            }
            if kind == Namespaces::PID {
                let flags = OFlags::RDONLY | OFlags::CLOEXEC;
                kinds.pid = Some(rustix::fs::open(&path, flags, Mode::empty()).map_err(fail)?);
            } else {
                kinds.others = kinds.others.with(kind);
            }
        }
        Ok(kinds)
    }
}

/// What the cloned child is given; all of it is its own copy.
struct Arguments<'a> {
    pid: i32,
    init: BorrowedFd<'a>,
    namespaces: Namespaces,
    plan: &'a ProcessPlan,
    described: &'a Described,
    stdio: &'a Stdio,
    preserved: &'a [OwnedFd],
    faults: Option<FaultHook>,
}

fn run(arguments: &Arguments<'_>, entrances: Vec<OwnedFd>, link: &Link) -> ! {
    let affinity = &arguments.plan.affinity;
    let entered = affinity
        .set_initial()
        .map_err(Failure::from)
        .and_then(|()| join_cgroup(entrances))
        .and_then(|()| Ok(affinity.set_final()?))
        .and_then(|()| enter(arguments, link));
    match entered {
        Ok(agent) => {
            let finish = Finish {
                plan: arguments.plan,
                personality: None,
                reaper: false,
                gate: finish::Gate::Open,
                start_container: &[],
                described: None,
                preserved: arguments.preserved,
                agent: agent.as_ref(),
                faults: arguments.faults,
            };
            finish::run(&finish, link)
        }
        Err(failure) => finish::fail(link, failure),
    }
}

/// Nothing of the container runs before this, and nothing of the host's cgroups stays open after it.
fn join_cgroup(entrances: Vec<OwnedFd>) -> Result<(), Failure> {
    cgroup::enter(&entrances).map_err(|errno| StepError::new(Step::JoinCgroup, "of version 1", errno).into())
}

/// Enters the container and takes its streams; returns who is given the seccomp filter's listener.
fn enter(arguments: &Arguments<'_>, link: &Link) -> Result<Option<Agent>, Failure> {
    let plan = arguments.plan;
    finish::check_fault(arguments.faults, Step::Session)?;
    finish::start_session(plan.user.uid)?;
    finish::set_oom_score(plan, link)?;
    finish::set_security_label(plan)?;
    finish::check_fault(arguments.faults, Step::JoinNamespace)?;
    let pid = arguments.pid;
    let agent = plan.seccomp.as_ref().and_then(|filter| filter.agent.as_ref());
    let connect = |agent| Agent::connect(agent, arguments.described, Some(pid));
    let agent = agent.map(connect).transpose()?;
    let fail = |errno| StepError::new(Step::JoinNamespace, format!("of process {pid}"), errno);
    // Joining the mount namespace also moves root and working directory to the container's root.
    setns(arguments.init, arguments.namespaces).map_err(fail)?;
    privileges::new_session_keyring(&format!("exec-{pid}"))?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open("/", flags, Mode::empty()).map_err(fail)?;
    finish::check_fault(arguments.faults, Step::Console)?;
    set_streams(arguments, root.as_fd(), link)?;
    streams::give_to_user(plan.user.uid)?;
    Ok(agent)
}

fn set_streams(arguments: &Arguments<'_>, root: BorrowedFd<'_>, link: &Link) -> Result<(), Failure> {
    let Stdio::Terminal { rows, cols } = arguments.stdio else {
        return Ok(streams::place_descriptors(root, arguments.stdio)?);
    };
    let terminal = Terminal::open(root, *rows, *cols)?;
    link.report(&Report::Console, Some(terminal.master.as_fd()))
        .map_err(|errno| StepError::new(Step::Console, "master side", errno))?;
    Ok(terminal.take_over()?)
}
