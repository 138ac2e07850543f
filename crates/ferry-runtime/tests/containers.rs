//! Containers that really run: needs root and a static busybox, and says so loudly without.
//!
//! One thread, no harness: the runtime clones the calling process.

mod support;

use std::path::Path;

use ferry_runtime::ExecRequest;
use support::{Fixture, finish, kill, pipes, process};

type Case = (&'static str, fn(&Fixture));

const CASES: &[Case] = &[
    ("streams_and_exit_code", streams_and_exit_code),
    ("namespaces_are_own", namespaces_are_own),
    ("exec_enters_everything", exec_enters_everything),
];

fn main() {
    let filter = std::env::args().nth(1).filter(|argument| !argument.starts_with('-'));
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED {} container tests: they need root", CASES.len());
        return;
    }
    let Some(busybox) =
        ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).exists())
    else {
        println!("SKIPPED {} container tests: they need busybox-static", CASES.len());
        return;
    };
    let fixture = Fixture::new(Path::new(busybox));
    let mut failed = Vec::new();
    for (name, case) in CASES {
        if filter.as_ref().is_some_and(|filter| !name.contains(filter.as_str())) {
            continue;
        }
        let before = std::time::Instant::now();
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| case(&fixture)));
        let word = if result.is_ok() { "ok" } else { "FAILED" };
        println!("container {name} ... {word} ({:.1} ms)", before.elapsed().as_secs_f64() * 1e3);
        if result.is_err() {
            failed.push(*name);
        }
    }
    assert!(failed.is_empty(), "failed: {}", failed.join(", "));
}

fn streams_and_exit_code(fixture: &Fixture) {
    let outcome = fixture.run_plain(&["sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str(), outcome.code), ("out\n", "err\n", 7));
    assert_eq!(outcome.warnings, Vec::<String>::new());
}

fn namespaces_are_own(fixture: &Fixture) {
    let outcome = fixture.run_plain(&[
        "sh",
        "-c",
        "echo $$; hostname; ls /proc | grep -c '^[0-9]'; ip addr show lo | grep -c 'inet 127'",
    ]);
    assert_eq!(outcome.stdout, "1\nbox\n3\n1\n", "{}", outcome.stderr);
}

fn exec_enters_everything(fixture: &Fixture) {
    let (request, output) = fixture.request(&["sleep", "100"], |_| {});
    let container = ferry_runtime::run(request).expect("it starts");
    let (stdio, exec_output) = pipes();
    use std::os::fd::AsFd;
    let started = ferry_runtime::exec(ExecRequest {
        pid: container.pid,
        pidfd: container.pidfd.as_fd(),
        process: process(&["sh", "-c", "hostname; ps -o pid,comm; cat /proc/self/cgroup; exit 3"], |_| {}),
        stdio,
        cgroup: container.cgroup.as_ref(),
        seccomp: None,
        faults: None,
    })
    .expect("it starts");
    let outcome = finish(started, exec_output);
    assert_eq!(outcome.code, 3);
    assert!(outcome.stdout.starts_with("box\n"), "{outcome:?}");
    assert!(outcome.stdout.contains("1 sleep"), "{outcome:?}");
    kill(&container, container.cgroup.as_ref());
    drop(finish_killed(container, output));
}

fn finish_killed(process: ferry_runtime::Process, output: support::Output) -> (String, String) {
    if let Some(cgroup) = &process.cgroup {
        cgroup.remove().expect("the cgroup can be removed");
    }
    drop(process);
    output.read()
}
