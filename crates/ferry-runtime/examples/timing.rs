//! Where the time of a start goes: runs a container of the directory given as argument many times
//! and prints the median of each step.
//!
//! `cargo run --release -p ferry-runtime --example timing -- ROOT_DIRECTORY [COUNT]`

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Instant;

use ferry_runtime::{CreateRequest, Rootfs, Stdio, Step};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{WaitId, WaitIdOptions, waitid};

static PIPE: OnceLock<OwnedFd> = OnceLock::new();
static BEGIN: OnceLock<Instant> = OnceLock::new();

fn now() -> u64 {
    BEGIN.get_or_init(Instant::now).elapsed().as_nanos() as u64
}

/// The runtime's fault hook sees every step; this one only writes the time down.
fn stamp(step: Step) -> Option<i32> {
    let mut line = [0u8; 64];
    let text = format!("{:>20} {step:?}", now());
    line[..text.len()].copy_from_slice(text.as_bytes());
    if let Some(pipe) = PIPE.get() {
        let _ = rustix::io::write(pipe, &line);
    }
    None
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let root = PathBuf::from(arguments.next().expect("a root directory"));
    let count: usize = arguments.next().map_or(200, |count| count.parse().expect("a number"));
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).expect("a pipe");
    PIPE.set(writer).expect("set once");
    let work = tempfile::tempdir().expect("a directory");
    let mut steps: BTreeMap<(usize, String), Vec<u64>> = BTreeMap::new();
    let mut totals: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for index in 0..count {
        let begin = now();
        let process = ferry_runtime::run(request(&root, work.path(), index)).expect("it starts");
        let started = now();
        totals.entry("run returns after").or_default().push(started - begin);
        waitid(WaitId::PidFd(process.pidfd.as_fd()), WaitIdOptions::EXITED).expect("a child");
        let ended = now();
        totals.entry("ended after").or_default().push(ended - begin);
        if let Some(cgroup) = &process.cgroup {
            cgroup.remove().expect("removable");
        }
        let removed = now();
        totals.entry("cgroup removal").or_default().push(removed - ended);
        drop(process);
        totals.entry("mount removal").or_default().push(now() - removed);
        collect(reader.as_fd(), begin, started, &mut steps);
    }
    for (name, values) in &mut totals {
        println!("{:>8} us  {name}", median(values) / 1000);
    }
    println!();
    for ((_, name), values) in &mut steps {
        println!("{:>8} us  {name}", median(values) / 1000);
    }
    time_exec(&root, work.path(), count);
}

fn collect(
    reader: BorrowedFd<'_>,
    begin: u64,
    started: u64,
    steps: &mut BTreeMap<(usize, String), Vec<u64>>,
) {
    rustix::io::ioctl_fionbio(reader, true).expect("a pipe");
    let mut last = (begin, "until the child runs".to_owned());
    let mut index = 0;
    let mut line = [0u8; 64];
    while let Ok(64) = rustix::io::read(reader, &mut line) {
        let text = String::from_utf8_lossy(&line);
        let mut words = text.trim_matches(['\0', ' ']).split(' ');
        let (Some(time), Some(step)) = (words.next().and_then(|time| time.parse().ok()), words.next()) else {
            break;
        };
        steps.entry((index, last.1)).or_default().push(time - last.0);
        last = (time, step.to_owned());
        index += 1;
    }
    steps.entry((index, last.1)).or_default().push(started.saturating_sub(last.0));
}

/// Times further processes in one running container.
fn time_exec(root: &std::path::Path, work: &std::path::Path, count: usize) {
    let mut holder = request(root, work, usize::MAX);
    let process = holder.spec.process_mut().as_mut().expect("a process");
    process.set_args(Some(["busybox", "sleep", "1000"].map(str::to_owned).to_vec()));
    process.set_env(Some(vec!["PATH=/bin".to_owned()]));
    holder.faults = None;
    let container = ferry_runtime::run(holder).expect("it starts");
    let (mut started, mut ended) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let directory = tempfile::tempdir().expect("a directory");
        let template = request(root, directory.path(), 0);
        let begin = now();
        let process = ferry_runtime::exec(ferry_runtime::ExecRequest {
            pid: container.pid,
            pidfd: container.pidfd.as_fd(),
            process: template.spec.process().clone().expect("a process"),
            stdio: template.stdio,
            cgroup: container.cgroup.as_ref(),
            seccomp: template.seccomp,
            linux: None,
            described: ferry_runtime::hooks::Described::default(),
            preserved: Vec::new(),
            faults: None,
        })
        .expect("it starts");
        started.push(now() - begin);
        waitid(WaitId::PidFd(process.pidfd.as_fd()), WaitIdOptions::EXITED).expect("a child");
        ended.push(now() - begin);
    }
    println!("\n{:>8} us  exec returns after", median(&mut started) / 1000);
    println!("{:>8} us  exec ended after", median(&mut ended) / 1000);
    if let Some(cgroup) = &container.cgroup {
        cgroup.kill_all().expect("killable");
        waitid(WaitId::PidFd(container.pidfd.as_fd()), WaitIdOptions::EXITED).expect("a child");
        cgroup.remove().expect("removable");
    }
}

fn median(values: &mut [u64]) -> u64 {
    values.sort_unstable();
    values[values.len() / 2]
}

fn request(root: &std::path::Path, work: &std::path::Path, index: usize) -> CreateRequest {
    let (upper, scratch) = (work.join(format!("u{index}")), work.join(format!("w{index}")));
    std::fs::create_dir(&upper).expect("a directory");
    std::fs::create_dir(&scratch).expect("a directory");
    let null = || {
        OwnedFd::from(
            std::fs::OpenOptions::new().read(true).write(true).open("/dev/null").expect("it exists"),
        )
    };
    let rootfs = Rootfs::Overlay { lowers: vec![root.to_path_buf()], upper, work: scratch, volatile: true };
    let stdio = Stdio::Fds { stdin: Some(null()), stdout: null(), stderr: null() };
    let spec = serde_json::from_str(include_str!("timing.json")).expect("a specification");
    let mut request = CreateRequest::new(format!("timing-{index}"), spec, rootfs, stdio);
    let capabilities = ferry_runtime::capability::docker_default();
    static FILTER: OnceLock<Vec<u8>> = OnceLock::new();
    let filter = FILTER.get_or_init(|| {
        let profile = ferry_runtime::seccomp::default_profile(&capabilities);
        ferry_runtime::seccomp::compile(&profile).expect("it compiles")
    });
    request.seccomp = Some(filter.clone());
    if std::env::var_os("FERRY_TIMING_PLAIN").is_none() {
        request.faults = Some(stamp);
    }
    request
}
