//! The end that `run` and `exec` share: from a process with its streams to `execve`.
//!
//! Owns the order in which privileges go. Runs in the cloned child.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use ferry_oci::runtime::Hook;

use ferry_sys::namespace::Namespaces;
use ferry_sys::procfs::Procfs;
use ferry_sys::{capability as sets, clone, descriptor, signal};
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::net::SocketFlags;

use super::Step;
use super::link::{Control, Failure, Link, Report};
use crate::capability;
use crate::error::{CreateError, StepError};
use crate::hooks::{self, Described, HookStage};
use crate::process::agent::{self, Agent};
use crate::process::plan::ProcessPlan;
use crate::process::{command, directory, privileges, reaper};
use crate::request::FaultHook;

/// The first descriptor after the standard streams: preserved ones stand from here on, after them the conversation
/// with the parent and, where somebody else is to start the command, the gate. All above is closed.
const FIRST_NUMBER: i32 = 3;

/// What a command waits for, all set up.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Gate<'a> {
    /// Nothing.
    Open,
    /// The parent's word.
    Parent,
    /// Somebody who connects to this socket and says so.
    Listener(BorrowedFd<'a>),
}

/// What the end of a start needs.
pub(crate) struct Finish<'a> {
    pub plan: &'a ProcessPlan,
    pub personality: Option<u64>,
    /// Run the command under the built-in init.
    pub reaper: bool,
    pub gate: Gate<'a>,
    pub start_container: &'a [Hook],
    /// For hooks; `None` where there are none.
    pub described: Option<&'a Described>,
    pub preserved: &'a [OwnedFd],
    /// Who is given the seccomp filter's listener.
    pub agent: Option<&'a Agent>,
    pub faults: Option<FaultHook>,
}

/// Fails when a fault hook wants this step to.
pub(crate) fn check_fault(faults: Option<FaultHook>, step: Step) -> Result<(), StepError> {
    match faults.and_then(|hook| hook(step)) {
        Some(errno) => Err(StepError::new(step, "(injected fault)", Errno::from_raw_os_error(errno))),
        None => Ok(()),
    }
}

/// Tells the parent about a failure and ends the process.
///
/// Nothing is unwound: descriptors that objects here own may be closed already.
pub(crate) fn fail(link: &Link, failure: Failure) -> ! {
    let code = match &failure {
        Failure::Step(error) => CreateError::from(error.clone()).exit_code(),
        Failure::Command(error) => error.exit_code(),
        Failure::Hook(error) => CreateError::from(error.clone()).exit_code(),
    };
    // A parent that has gone cannot be told; the exit code remains.
    let _ = link.report(&Report::Failed(failure), None);
    clone::exit_now(code)
}

/// Hides the process from others of its user and makes it a session leader.
pub(crate) fn start_session(value: impl ToString) -> Result<(), StepError> {
    let value = value.to_string();
    let fail = |errno| StepError::new(Step::Session, format!("of user {value}"), errno);
    ferry_sys::execute::set_undumpable().map_err(fail)?;
    signal::reset().map_err(fail)?;
    rustix::process::setsid().map_err(fail)?;
    Ok(())
}

/// Sets how eagerly the kernel kills the process when memory is short. Must run while the host's
/// `/proc` is in sight.
pub(crate) fn set_oom_score(plan: &ProcessPlan, link: &Link) -> Result<(), Failure> {
    let Some(score) = plan.oom_score_adj else { return Ok(()) };
    let fail = |errno| StepError::new(Step::OomScore, format!("to {score}"), errno);
    let written =
        Procfs::host().and_then(|procfs| procfs.write("self/oom_score_adj", score.to_string().as_bytes()));
    match written {
        Ok(()) => Ok(()),
        Err(Errno::ACCESS) => warn(
            link,
            format!("oom_score_adj {score} needs CAP_SYS_RESOURCE, which is missing: it is left as it is"),
        ),
        Err(errno) => Err(fail(errno).into()),
    }
}

/// Names the AppArmor profile or SELinux label of the command. Must run while the host's `/proc` is
/// in sight; takes effect at `execve`.
pub(crate) fn set_security_label(plan: &ProcessPlan) -> Result<(), StepError> {
    let write = |path: &str, value: String| {
        Procfs::host()
            .and_then(|procfs| procfs.write(path, value.as_bytes()))
            .map_err(|errno| StepError::new(Step::SecurityLabel, value, errno))
    };
    if let Some(profile) = &plan.apparmor_profile {
        let value = format!("exec {profile}");
        match write("self/attr/apparmor/exec", value.clone()) {
            // Kernels before 5.1 have the common file only.
            Err(error) if error.errno == Errno::NOENT.raw_os_error() => write("self/attr/exec", value)?,
            result => result?,
        }
    }
    if let Some(label) = &plan.selinux_label {
        write("self/attr/exec", label.clone())?;
    }
    Ok(())
}

pub(crate) fn warn(link: &Link, text: String) -> Result<(), Failure> {
    link.report(&Report::Warning(text), None)
        .map_err(|errno| StepError::new(Step::Report, "warning", errno).into())
}

/// Sets limits, user and privileges, and runs the command.
pub(crate) fn run(finish: &Finish<'_>, link: &Link) -> ! {
    let program = match become_user_in_place(finish, link) {
        Ok(program) => program,
        Err(failure) => fail(link, failure),
    };
    let Kept { link, listener, agent } = match close_descriptors(finish, link) {
        Ok(kept) => kept,
        Err(error) => fail(link, error.into()),
    };
    let link = match wait_for_start(finish, link, listener) {
        Ok(link) => link,
        Err((link, error)) => fail(&link, error.into()),
    };
    if let Err(failure) = run_start_hooks(finish) {
        fail(&link, failure);
    }
    let execute = || -> i32 {
        // From here on a filter may forbid to tell the parent anything.
        let failure = match tell_and_lock_down(finish, &link, agent.as_ref()) {
            Ok(()) => command::execute(&program, finish.plan).into(),
            Err(error) => error.into(),
        };
        fail(&link, failure)
    };
    if !finish.reaper {
        clone::exit_now(execute());
    }
    match spawn_command(&link, execute) {
        Ok(command) => watch(finish, &link, command),
        Err(error) => fail(&link, error.into()),
    }
}

/// Everything that needs the host's privileges, and finding the command.
fn become_user_in_place(finish: &Finish<'_>, link: &Link) -> Result<PathBuf, Failure> {
    let plan = finish.plan;
    check_fault(finish.faults, Step::ResourceLimits)?;
    set_limits(plan, link)?;
    warn_missing_capabilities(plan, link)?;
    check_fault(finish.faults, Step::Scheduler)?;
    plan.scheduling.apply()?;
    if let Some(policy) = &plan.memory_policy {
        check_fault(finish.faults, Step::MemoryPolicy)?;
        policy.apply()?;
    }
    if let Some(personality) = finish.personality {
        ferry_sys::execute::set_personality(personality)
            .map_err(|errno| StepError::new(Step::Execute, format!("personality {personality:#x}"), errno))?;
    }
    check_fault(finish.faults, Step::WorkingDirectory)?;
    let entered = directory::enter_early(&plan.working_directory)?;
    check_fault(finish.faults, Step::User)?;
    privileges::become_user(plan)?;
    if !entered {
        directory::enter(&plan.working_directory)?;
    }
    directory::verify()?;
    let program = command::find(plan)?;
    rustix::process::umask(Mode::from_raw_mode(plan.user.umask));
    Ok(program)
}

fn tell_and_lock_down(finish: &Finish<'_>, link: &Link, agent: Option<&OwnedFd>) -> Result<(), StepError> {
    check_fault(finish.faults, Step::Seccomp)?;
    link.report(&Report::Executing, None)
        .map_err(|errno| StepError::new(Step::Report, "execution", errno))?;
    privileges::lock_down(finish.plan, |listener| {
        let (Some(socket), Some(agent)) = (agent, finish.agent) else { return Ok(()) };
        agent::send(socket.as_fd(), &agent.message, listener)
            .map_err(|errno| StepError::new(Step::Seccomp, "listener, to its agent", errno))
    })
}

fn set_limits(plan: &ProcessPlan, link: &Link) -> Result<(), Failure> {
    let mut warnings = Vec::new();
    privileges::set_limits(&plan.limits, &mut |text| warnings.push(text))?;
    warnings.into_iter().try_for_each(|text| warn(link, text))
}

/// Tells which of the wanted capabilities the kernel does not know or the caller itself lacks.
fn warn_missing_capabilities(plan: &ProcessPlan, link: &Link) -> Result<(), Failure> {
    let own =
        sets::permitted().map_err(|errno| StepError::new(Step::Capabilities, "permitted set", errno))?;
    let wanted = plan.capabilities.bounding | plan.capabilities.permitted;
    let missing = wanted & !own;
    if missing == 0 {
        return Ok(());
    }
    warn(link, format!("{} cannot be given on this machine: left out", capability::names(missing).join(", ")))
}

/// Moves what is needed to low numbers and closes every other descriptor above the streams, so that neither the
/// command nor anything it makes the kernel open can reach one of the host's.
fn close_descriptors(finish: &Finish<'_>, link: &Link) -> Result<Kept, StepError> {
    check_fault(finish.faults, Step::CloseDescriptors)?;
    let fail = |errno| StepError::new(Step::CloseDescriptors, format!("from {FIRST_NUMBER}"), errno);
    let link_number = FIRST_NUMBER + finish.preserved.len() as i32;
    // Copies above all places first: one of them may stand where another is to go.
    let copy = |source: BorrowedFd<'_>| descriptor::duplicate_above(source, link_number + 3).map_err(fail);
    let preserved = finish.preserved.iter().map(|fd| copy(fd.as_fd())).collect::<Result<Vec<_>, _>>()?;
    let listener = match finish.gate {
        Gate::Listener(listener) => Some(copy(listener)?),
        Gate::Open | Gate::Parent => None,
    };
    let agent = finish.agent.map(|agent| copy(agent.socket.as_fd())).transpose()?;
    let moved = if listener.is_none() && agent.is_none() && preserved.is_empty() {
        descriptor::move_to(link.socket(), link_number).map_err(fail)?
    } else {
        descriptor::move_to(copy(link.socket())?.as_fd(), link_number).map_err(fail)?
    };
    for (source, number) in preserved.iter().zip(FIRST_NUMBER..) {
        descriptor::place(source.as_fd(), number, false).map_err(fail)?;
    }
    let mut next = link_number;
    let mut move_next = |source: Option<OwnedFd>| -> Result<Option<OwnedFd>, StepError> {
        let Some(source) = source else { return Ok(None) };
        next += 1;
        descriptor::move_to(source.as_fd(), next).map(Some).map_err(fail)
    };
    let (listener, agent) = (move_next(listener)?, move_next(agent)?);
    // Their copies go with all the rest.
    drop(preserved);
    descriptor::close_from(next as u32 + 1).map_err(fail)?;
    Ok(Kept { link: Link::from_socket(moved), listener, agent })
}

/// The descriptors that stay open until the command runs.
struct Kept {
    link: Link,
    listener: Option<OwnedFd>,
    agent: Option<OwnedFd>,
}

/// Waits until the command may run. Whoever starts it is who is told from then on.
fn wait_for_start(
    finish: &Finish<'_>,
    link: Link,
    listener: Option<OwnedFd>,
) -> Result<Link, (Link, StepError)> {
    let fail = |errno| StepError::new(Step::Gate, "", errno);
    if matches!(finish.gate, Gate::Open) {
        return Ok(link);
    }
    if let Err(error) = check_fault(finish.faults, Step::Gate) {
        return Err((link, error));
    }
    if let Err(errno) = link.report(&Report::Created, None) {
        return Err((link, fail(errno)));
    }
    let Some(listener) = listener else {
        return match link.wait_for(Control::Start) {
            Ok(()) => Ok(link),
            Err(errno) => Err((link, fail(errno))),
        };
    };
    loop {
        match rustix::net::accept_with(&listener, SocketFlags::CLOEXEC).map(Link::from_socket) {
            Ok(starter) if starter.wait_for(Control::Start).is_ok() => return Ok(starter),
            // Somebody who says nothing has not started the container.
            Ok(_) => {}
            Err(Errno::INTR | Errno::CONNABORTED) => {}
            Err(errno) => return Err((link, fail(errno))),
        }
    }
}

fn run_start_hooks(finish: &Finish<'_>) -> Result<(), Failure> {
    let Some(described) = finish.described.filter(|_| !finish.start_container.is_empty()) else {
        return Ok(());
    };
    let state = described.json("created", Some(super::init::own_pid()));
    Ok(hooks::run(HookStage::StartContainer, finish.start_container, &state)?)
}

/// Starts the command as a child of the built-in init, with every signal blocked in init.
fn spawn_command(link: &Link, execute: impl FnOnce() -> i32) -> Result<i32, StepError> {
    let error = |errno| StepError::new(Step::Clone, "command under init", errno);
    signal::block_all().map_err(error)?;
    let child = clone::clone3(Namespaces::NONE, None, || match own_foreground() {
        Ok(()) => execute(),
        Err(errno) => fail(link, StepError::new(Step::Console, "foreground of the terminal", errno).into()),
    });
    Ok(child.map_err(error)?.pid)
}

/// Stays as the command's init.
fn watch(finish: &Finish<'_>, link: &Link, command: i32) -> ! {
    // For those who look at the process list; a container without procfs does without.
    let _ = ferry_sys::monitor::set_title("ferry-init");
    if let Err(error) = privileges::lock_down(finish.plan, |_| Ok(())) {
        fail(link, error.into());
    }
    // The child has its own copy; with this one open the parent would wait for init's end.
    match descriptor::close_from(FIRST_NUMBER as u32) {
        Ok(()) => clone::exit_now(reaper::watch(command)),
        Err(errno) => fail(link, StepError::new(Step::CloseDescriptors, "of init", errno).into()),
    }
}

/// Gives the command a process group of its own and, where there is a terminal, its foreground.
fn own_foreground() -> Result<(), Errno> {
    rustix::process::setpgid(None, None)?;
    let stdin = rustix::stdio::stdin();
    if rustix::termios::isatty(stdin) {
        // Every signal is blocked still, so the kernel does not stop the process for this.
        rustix::termios::tcsetpgrp(stdin, rustix::process::getpid())?;
    }
    signal::reset()
}
