//! The Nth system call fails, for every N and every kind of call that a start makes: a clean error, and nothing left.
//!
//! Which kinds there are and how often each is made is read from a start that nothing is done to, so that a call that
//! the runtime begins to make tomorrow is made to fail tomorrow. Within the library each process's calls are gone through
//! one by one as well (`every_failing_call_of_a_start` in `ferry-runtime`); here it is the whole command, with its
//! state directory.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ferry_tests::Outcome;
use ferry_tests::bundle::{Bundle, installed};
use serde_json::json;

use crate::Test;

/// The suite.
pub const TESTS: &[Test] = &[
    ("oci_faults::every_call_of_a_run", every_call_of_a_run),
    ("oci_faults::every_call_of_a_create", every_call_of_a_create),
];

/// Calls that are never made to fail, and why not.
const SPARED: &[(&str, &[&str])] = &[
    (
        "without memory a Rust program is aborted by design",
        &["mmap", "munmap", "mremap", "mprotect", "madvise", "brk"],
    ),
    (
        "the C library and Rust's own beginning, before any line of ours, end the process",
        &["arch_prctl", "set_tid_address", "sigaltstack", "rt_sigaction", "getrandom", "execveat"],
    ),
    (
        "they cannot fail",
        &["exit", "exit_group", "getpid", "gettid", "umask", "uname", "sched_yield", "futex"],
    ),
    (
        "what the injection keeps from being closed or ended would be its own leak",
        &["close", "kill", "pidfd_send_signal", "wait4", "waitid", "rt_sigreturn", "rt_sigprocmask"],
    ),
];

/// Errors that these calls really give; all others fail with EIO.
const ERRORS: &[(&str, &str)] = &[
    ("accept4", "EMFILE"),
    ("bind", "ENOMEM"),
    ("capset", "EPERM"),
    ("chdir", "EACCES"),
    ("clone3", "EAGAIN"),
    ("execve", "ENOMEM"),
    ("fsmount", "ENOMEM"),
    ("fsopen", "EPERM"),
    ("keyctl", "EDQUOT"),
    ("mkdir", "ENOSPC"),
    ("mkdirat", "ENOSPC"),
    ("openat", "EMFILE"),
    ("openat2", "EMFILE"),
    ("poll", "ENOMEM"),
    ("prctl", "EINVAL"),
    ("rename", "ENOSPC"),
    ("setresuid", "EAGAIN"),
    ("socket", "EMFILE"),
    ("umount2", "EBUSY"),
];

/// Calls that take things away: what one of these leaves when it fails goes with the next attempt.
const REMOVING: &[&str] = &["rmdir", "unlink", "unlinkat", "umount2", "getdents64"];

/// Longest that one start may take before it counts as hanging.
const LIMIT: &str = "120";

/// A start of a bundle under strace.
struct Faults {
    bundle: Bundle,
    strace: PathBuf,
    /// `run` or `create`.
    verb: &'static str,
    /// The container's cgroup.
    cgroup: String,
}

fn every_call_of_a_create() {
    let Some(faults) = Faults::of("create") else { return };
    let calls = faults.calls();
    assert!(calls.len() > 30, "{calls:?}");
    faults.fail_all(&calls, &BTreeMap::new());
}

/// What a run makes besides: it begins as a create does, starts, waits, and takes all away.
fn every_call_of_a_run() {
    let (Some(create), Some(run)) = (Faults::of("create"), Faults::of("run")) else { return };
    run.fail_all(&run.calls(), &create.calls());
}

impl Faults {
    fn of(verb: &'static str) -> Option<Faults> {
        let strace = installed("strace")?;
        let bundle = Bundle::new();
        let cgroup = bundle.path("").file_name().expect("a name").to_string_lossy().into_owned();
        bundle.configure(&["true"], |config| config["linux"]["cgroupsPath"] = json!(format!("/{cgroup}")));
        Some(Faults { bundle, strace, verb, cgroup })
    }

    /// Has each call fail, those aside that come before: so many of each kind.
    fn fail_all(&self, calls: &BTreeMap<String, usize>, before: &BTreeMap<String, usize>) {
        let (mut starts, mut failures) = (0, 0);
        for (call, count) in calls {
            for nth in before.get(call).unwrap_or(&0) + 1..=*count {
                starts += 1;
                failures += u32::from(self.fail(call, nth));
            }
        }
        println!("{} kinds of calls, {starts} starts, of which {failures} failed", calls.len());
        assert!(failures * 3 > starts, "{failures} of {starts} failed only: were they asked to?");
    }

    /// The runtime's command under strace, and the container it is to make.
    fn strace(&self, trace: &Path, options: &[String]) -> (Command, String) {
        let id = self.bundle.id();
        let mut command = Command::new("timeout");
        command.args(["-s", "KILL", LIMIT]).arg(&self.strace).args(["-f", "-qq", "-o"]);
        command.arg(trace).args(options).arg(self.bundle.path("runc"));
        command.arg("--root").arg(self.bundle.path("state")).args([self.verb, &id]);
        command.current_dir(self.bundle.path("")).stdin(Stdio::null());
        (command, id)
    }

    /// Runs to the end, and takes a container that was made and waits away again: its first process is traced too.
    fn finish(&self, mut command: Command, id: &str, shown: String) -> Outcome {
        let out = self.bundle.path("faults-out");
        let file = fs::File::create(&out).expect("a file");
        command.stdout(Stdio::null()).stderr(file);
        let mut child = command.spawn().expect("timeout runs");
        let state = self.bundle.path("state").join(id);
        let status = loop {
            if let Some(status) = child.try_wait().expect("it is ours") {
                break status;
            }
            if state.exists() && !command_runs(&child, id) {
                let _ = self.bundle.call(&["delete", "--force", id]);
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        let stderr = fs::read(&out).unwrap_or_default();
        Outcome::new(shown, &std::process::Output { status, stdout: Vec::new(), stderr })
    }

    /// Each kind of call of a start, and how often one process at most makes it.
    fn calls(&self) -> BTreeMap<String, usize> {
        let trace = self.bundle.path("trace");
        let (command, id) = self.strace(&trace, &[]);
        self.finish(command, &id, "a start".into()).exits(0);
        self.take_away(&id);
        let mut counts: BTreeMap<(String, String), usize> = BTreeMap::new();
        for line in fs::read_to_string(&trace).expect("a trace").lines() {
            let Some((pid, call)) = line.split_once(' ') else { continue };
            let Some((name, _)) = call.trim_start().split_once('(') else { continue };
            if name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
                *counts.entry((pid.to_owned(), name.to_owned())).or_default() += 1;
            }
        }
        let mut calls = BTreeMap::new();
        for ((_, name), count) in counts {
            if !SPARED.iter().any(|(_, spared)| spared.contains(&name.as_str())) {
                let most = calls.entry(name).or_insert(0);
                *most = count.max(*most);
            }
        }
        calls
    }

    /// Has the Nth call of a kind fail in each process that makes so many; whether the command failed for it.
    fn fail(&self, call: &str, nth: usize) -> bool {
        let errno = ERRORS.iter().find(|(name, _)| *name == call).map_or("EIO", |(_, errno)| errno);
        let trace = self.bundle.path("trace");
        let options = [
            "--seccomp-bpf".into(),
            format!("--trace={call}"),
            format!("--inject={call}:error={errno}:when={nth}"),
        ];
        let (command, id) = self.strace(&trace, &options);
        let outcome = self.finish(command, &id, format!("{} with {call} #{nth}: {errno}", self.verb));
        assert_ne!(outcome.code, 137, "it hangs: {outcome}");
        let failed = outcome.code != 0;
        if failed {
            assert!(outcome.code != 101 && !outcome.stderr.contains("panicked"), "{outcome}");
            assert!(!outcome.stderr.trim().is_empty(), "it says nothing: {outcome}");
            // A process of the container's and the command may each have had their Nth call fail, and the second of
            // them was the removal after the first.
            let faults = fs::read_to_string(&trace).unwrap_or_default().matches("(INJECTED)").count();
            let left = self.bundle.left();
            assert!(left.is_empty() || faults > 1 || REMOVING.contains(&call), "{outcome}: {left:?}");
        }
        self.take_away(&id);
        self.nothing_is_left(call, &outcome);
        failed
    }

    /// Deletes a container if there is one.
    fn take_away(&self, id: &str) {
        let _ = self.bundle.call(&["delete", "--force", id]).ok();
    }

    /// Nothing of a container that never was: no state, no cgroup, no mount.
    fn nothing_is_left(&self, call: &str, outcome: &Outcome) {
        assert!(self.bundle.left().is_empty(), "{outcome}: {:?}", self.bundle.left());
        let mounts = fs::read_to_string("/proc/self/mounts").expect("readable");
        assert!(!mounts.contains(&self.bundle.path("rootfs").display().to_string()), "{outcome}");
        let hierarchies = fs::read_dir("/sys/fs/cgroup").expect("cgroups are mounted").flatten();
        for root in hierarchies.map(|entry| entry.path()).chain([PathBuf::from("/sys/fs/cgroup")]) {
            let path = root.join(&self.cgroup);
            if path.exists() {
                let processes = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
                assert!(processes.trim().is_empty(), "{outcome}: {processes:?} in {}", path.display());
                // A removal that fails says of what.
                let told = REMOVING.contains(&call) || outcome.stderr.contains(&self.cgroup);
                assert!(told, "{outcome}: {} is left", path.display());
                fs::remove_dir(&path).expect("an empty cgroup");
            }
        }
    }
}

/// Whether the traced command itself, a child of strace's, has not ended.
fn command_runs(timeout: &Child, id: &str) -> bool {
    let children =
        |pid: &str| fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let line = |pid: &str| fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let of_strace = children(&timeout.id().to_string());
    let traced: Vec<String> = of_strace
        .split_whitespace()
        .flat_map(|strace| children(strace).split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    traced.iter().any(|pid| String::from_utf8_lossy(&line(pid)).split('\0').any(|word| word == id))
}
