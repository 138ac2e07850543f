//! `create` and `run`: a bundle becomes a container.

use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use ferry_oci::runtime::{Process as SpecProcess, Spec};
use ferry_runtime::hooks::{self, Described, HookStage};
use ferry_runtime::systemd::Scope;
use ferry_runtime::{CreateRequest, Rootfs, Stdio};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::Global;
use crate::arguments::{Flag, Parsed, parse};
use crate::bundle::Bundle;
use crate::error::CliError;
use crate::foreground::{self, Watched};
use crate::holdings::Holdings;
use crate::process_stat::ProcessStat;
use crate::state::{Directory, State, write_whole};
use crate::{console, delete};

/// More descriptors to hand on than a process may have open are a mistake.
const PRESERVED_MAX: u32 = 65_536;

const CREATE_FLAGS: &[Flag] = &[
    Flag::value("bundle", "b"),
    Flag::value("console-socket", ""),
    Flag::value("pid-file", ""),
    Flag::value("preserve-fds", ""),
    Flag::switch("no-pivot", ""),
    Flag::switch("no-new-keyring", ""),
];

/// What `run` has besides.
const RUN_FLAGS: &[Flag] =
    &[Flag::switch("detach", "d"), Flag::switch("keep", ""), Flag::switch("no-subreaper", "")];

/// `create`: everything up to the command, which waits for `start`.
pub(crate) fn create(global: &Global, words: &[String]) -> Result<i32, CliError> {
    let parsed = parse(CREATE_FLAGS, words)?;
    let id = parsed.id("create")?.to_owned();
    let prepared = Prepared::new(global, &parsed, &id, true)?;
    let gate = listen(&prepared.claim.directory.gate())?;
    let Prepared { claim, request, mut state, .. } = prepared;
    let created = ferry_runtime::create_detached(request, gate.as_fd())?;
    state.class = created.class;
    let unfinished = Unfinished { pid: created.pid, holdings: state.holdings()? };
    for warning in &created.warnings {
        global.log.warn(warning);
    }
    hand_out_console(&parsed, created.console.as_ref())?;
    record(&parsed, &claim.directory, &mut state, created.pid)?;
    unfinished.done();
    claim.keep();
    Ok(0)
}

/// `run`: the command too, followed to its end unless `--detach`.
pub(crate) fn run(global: &Global, words: &[String]) -> Result<i32, CliError> {
    let parsed = parse(&[CREATE_FLAGS, RUN_FLAGS].concat(), words)?;
    let id = parsed.id("run")?.to_owned();
    let detach = parsed.has("detach");
    let Prepared { claim, request, mut state, hooks } = Prepared::new(global, &parsed, &id, detach)?;
    let signals = if detach { None } else { Some(foreground::signals()?) };
    let mut process = ferry_runtime::run(request)?;
    state.class = process.class.take();
    let unfinished = Unfinished { pid: process.pid, holdings: state.holdings()? };
    for warning in &process.warnings {
        global.log.warn(warning);
    }
    if parsed.value("console-socket").is_some() {
        hand_out_console(&parsed, process.console.take().as_ref())?;
    }
    record(&parsed, &claim.directory, &mut state, process.pid)?;
    let described = state.described();
    poststart(global, &hooks, &described, process.pid);
    let Some(signals) = signals else {
        unfinished.done();
        claim.keep();
        return Ok(0);
    };
    let watched = Watched { pid: process.pid, pidfd: process.pidfd.as_fd(), console: process.console.take() };
    // One that cannot be followed does not go on unseen.
    let code = foreground::follow(watched, &signals)?;
    unfinished.done();
    if parsed.has("keep") {
        claim.keep();
        return Ok(code);
    }
    state.holdings()?.give_back()?;
    drop(claim);
    delete::poststop(global, &hooks, &described);
    Ok(code)
}

/// Runs hooks that follow a start; by the specification their failure is told and changes nothing.
pub(crate) fn poststart(global: &Global, hooks: &ferry_oci::runtime::Hooks, described: &Described, pid: i32) {
    let list = HookStage::Poststart.of(hooks);
    if list.is_empty() {
        return;
    }
    if let Err(error) = hooks::run(HookStage::Poststart, list, &described.json("running", Some(pid))) {
        global.log.warn(&error.to_string());
    }
}

/// A container that can be made now.
struct Prepared {
    claim: Claim,
    request: CreateRequest,
    state: State,
    hooks: ferry_oci::runtime::Hooks,
}

impl Prepared {
    fn new(global: &Global, parsed: &Parsed, id: &str, detached: bool) -> Result<Prepared, CliError> {
        crate::identifier::check(id)?;
        let mut bundle = Bundle::open(parsed.value("bundle"))?;
        let rootfs = bundle.rootfs()?;
        bundle.warnings.iter().for_each(|warning| global.log.warn(warning));
        let (cgroup_path, scope) = own_cgroup(&mut bundle.spec, id, global.systemd)?;
        let preserved = preserved(parsed, &mut bundle.spec)?;
        let stdio = streams(&bundle.spec, parsed, global, detached)?;
        let claim = Claim { directory: Directory::make(&global.root, id)?, keep: false };
        let state = State {
            version: State::VERSION,
            id: id.to_owned(),
            oci_version: bundle.spec.version().clone(),
            init_process_pid: 0,
            init_process_start: 0,
            created: jiff::Timestamp::now().to_string(),
            annotations: bundle
                .spec
                .annotations()
                .iter()
                .flatten()
                .map(|(k, v)| (k.clone(), v.clone()))
                .collect(),
            bundle: bundle.path,
            rootfs: rootfs.clone(),
            cgroup_path,
            scope: scope.clone(),
            class: None,
            config: bundle.config,
        };
        let hooks = bundle.spec.hooks().clone().unwrap_or_default();
        let mut request = CreateRequest::new(id, bundle.spec, Rootfs::Directory(rootfs), stdio);
        request.described = state.described();
        request.scope = scope;
        request.preserved = preserved;
        request.keep_keyring = parsed.has("no-new-keyring");
        request.no_pivot = parsed.has("no-pivot");
        Ok(Prepared { claim, request, state, hooks })
    }
}

/// A taken name, given back unless the container stays.
struct Claim {
    directory: Directory,
    keep: bool,
}

impl Claim {
    fn keep(mut self) {
        self.keep = true;
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !self.keep {
            // The error on its way says more than one from here would.
            drop(self.directory.remove());
        }
    }
}

/// A process that nobody knows of yet: it goes when what follows fails.
struct Unfinished {
    pid: i32,
    holdings: Holdings,
}

impl Unfinished {
    fn done(self) {
        std::mem::forget(self);
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let _ = ferry_sys::signal::kill(self.pid, rustix::process::Signal::KILL.as_raw());
        foreground::reap(self.pid);
        drop(self.holdings.give_back());
    }
}

/// The cgroup a container gets; one is made up where the bundle names none.
fn own_cgroup(spec: &mut Spec, id: &str, systemd: bool) -> Result<(Option<String>, Option<Scope>), CliError> {
    let linux = spec.linux_mut().get_or_insert_default();
    let given = linux.cgroups_path().as_ref().map(|path| path.to_string_lossy().into_owned());
    let given = given.filter(|path| !path.is_empty());
    let scope = systemd.then(|| Scope::parse(given.as_deref().unwrap_or_default(), id)).transpose();
    let scope = scope.map_err(|error| CliError::other(error.to_string()))?;
    let path = match &scope {
        Some(scope) => scope.cgroup_path(),
        None => given.unwrap_or_else(|| format!("/ferry-runtime/{id}")),
    };
    linux.set_cgroups_path(Some(PathBuf::from(&path)));
    Ok((Some(path), scope))
}

fn streams(spec: &Spec, parsed: &Parsed, global: &Global, detached: bool) -> Result<Stdio, CliError> {
    let terminal = spec.process().as_ref().and_then(SpecProcess::terminal).unwrap_or(false);
    let size = spec.process().as_ref().and_then(SpecProcess::console_size);
    let size = size.map(|size| (size.height(), size.width()));
    stdio(terminal, size, parsed.value("console-socket").is_some(), detached, global.called)
}

/// The standard streams of a process: our own, or a terminal.
pub(crate) fn stdio(
    terminal: bool,
    size: Option<(u64, u64)>,
    socket: bool,
    detached: bool,
    called: &str,
) -> Result<Stdio, CliError> {
    if terminal && detached && !socket {
        let text = format!("cannot allocate tty if {called} will detach without setting console socket");
        return Err(CliError::usage(text));
    }
    if socket && !(terminal && detached) {
        return Err(CliError::usage(format!(
            "cannot use console socket if {called} will not detach or allocate tty"
        )));
    }
    if terminal {
        let (rows, cols) = size.unwrap_or_else(foreground::window_size);
        let narrow = |number: u64| u16::try_from(number).unwrap_or(u16::MAX);
        return Ok(Stdio::Terminal { rows: narrow(rows), cols: narrow(cols) });
    }
    let copy = |stream: BorrowedFd<'_>, name: &str| -> Result<OwnedFd, CliError> {
        stream.try_clone_to_owned().map_err(CliError::file("open", name))
    };
    Ok(Stdio::Fds {
        stdin: rustix::stdio::stdin().try_clone_to_owned().ok(),
        stdout: copy(rustix::stdio::stdout(), "stdout")?,
        stderr: copy(rustix::stdio::stderr(), "stderr")?,
    })
}

/// Takes over the descriptors that the command is to find: those of socket activation, then `--preserve-fds`.
pub(crate) fn preserved_count(parsed: &Parsed) -> Result<(u32, u32), CliError> {
    let more: u32 = parsed.number("preserve-fds")?.unwrap_or(0);
    let listening = std::env::var("LISTEN_FDS").ok().and_then(|text| text.parse().ok()).unwrap_or(0u32);
    if more.saturating_add(listening) > PRESERVED_MAX {
        return Err(CliError::usage(format!("--preserve-fds {more}: more than {PRESERVED_MAX} descriptors")));
    }
    Ok((listening, more))
}

fn preserved(parsed: &Parsed, spec: &mut Spec) -> Result<Vec<OwnedFd>, CliError> {
    let (listening, more) = preserved_count(parsed)?;
    if listening > 0
        && let Some(process) = spec.process_mut()
    {
        let environment = process.env_mut().get_or_insert_default();
        // The command is the first process of its pid namespace.
        environment.extend([format!("LISTEN_FDS={listening}"), "LISTEN_PID=1".to_owned()]);
    }
    take_descriptors(listening + more)
}

pub(crate) fn take_descriptors(count: u32) -> Result<Vec<OwnedFd>, CliError> {
    // All are looked at before one is taken: a taken one's copy must not fill a gap among them.
    let numbers = 3..3 + count as i32;
    for number in numbers.clone() {
        if !is_inherited(number) {
            return Err(CliError::usage(format!("--preserve-fds: descriptor {number} is not open")));
        }
    }
    numbers
        .map(|number| {
            ferry_sys::descriptor::inherited(number)
                .map_err(|errno| CliError::other(format!("--preserve-fds: descriptor {number}: {errno}")))
        })
        .collect()
}

/// Whether the caller has left a descriptor open for us; our own are closed on exec, which the caller's cannot be.
fn is_inherited(number: i32) -> bool {
    const CLOSE_ON_EXEC: u64 = 0o2_000_000;
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{number}")).unwrap_or_default();
    let flags = text.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|octal| u64::from_str_radix(octal.trim(), 8).ok());
    flags.is_some_and(|flags| flags & CLOSE_ON_EXEC == 0)
}

/// A socket of packets at a path of any length.
fn listen(path: &Path) -> Result<OwnedFd, CliError> {
    let failed = |errno: rustix::io::Errno| CliError::file("listen on", path)(errno.into());
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .map_err(failed)?;
    let (_directory, address) = address(path).map_err(failed)?;
    rustix::net::bind(&socket, &address).map_err(failed)?;
    rustix::net::listen(&socket, 1).map_err(failed)?;
    Ok(socket)
}

/// A socket's address, short whatever its path is; the descriptor must live as long as it is used.
pub(crate) fn address(path: &Path) -> Result<(OwnedFd, SocketAddrUnix), rustix::io::Errno> {
    use rustix::fs::{Mode, OFlags};
    let parent = path.parent().unwrap_or(Path::new("/"));
    let directory =
        rustix::fs::open(parent, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let address = SocketAddrUnix::new(format!("/proc/self/fd/{}/{name}", directory.as_raw_fd()))?;
    Ok((directory, address))
}

pub(crate) fn hand_out_console(parsed: &Parsed, master: Option<&OwnedFd>) -> Result<(), CliError> {
    match (parsed.value("console-socket"), master) {
        (Some(path), Some(master)) => console::send(path, master.as_fd()),
        _ => Ok(()),
    }
}

/// Writes down who the init is, for later calls and for the caller.
fn record(parsed: &Parsed, directory: &Directory, state: &mut State, pid: i32) -> Result<(), CliError> {
    state.init_process_pid = pid;
    state.init_process_start = ProcessStat::of(pid).map_or(0, |found| found.start_time);
    directory.write(state)?;
    write_pid_file(parsed, pid)
}

pub(crate) fn write_pid_file(parsed: &Parsed, pid: i32) -> Result<(), CliError> {
    match parsed.value("pid-file") {
        Some(path) => write_whole(Path::new(path), pid.to_string().as_bytes(), 0o666),
        None => Ok(()),
    }
}
