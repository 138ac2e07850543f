//! Streams, exit codes, terminals, users, exec, init.

use std::os::fd::AsFd;

use ferry_runtime::{ExecRequest, Stdio};
use serde_json::json;

use crate::Case;
use crate::support::{Fixture, Output, finish, pipes, process, read_terminal, release};

pub const CASES: &[Case] = &[
    ("streams_and_exit_code", streams_and_exit_code),
    ("namespaces_are_own", namespaces_are_own),
    ("joined_namespaces", joined_namespaces),
    ("exec_enters_everything", exec_enters_everything),
    ("exec_with_terminal", exec_with_terminal),
    ("terminal", terminal),
    ("user_and_groups", user_and_groups),
    ("created_waits_for_start", created_waits_for_start),
    ("init_reaps_and_forwards", init_reaps_and_forwards),
    ("root_mount_outlives_container", root_mount_outlives_container),
];

fn streams_and_exit_code(fixture: &Fixture) {
    let outcome = fixture.run_plain(&["sh", "-c", "cat; echo out; echo err >&2; exit 7"]);
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str(), outcome.code), ("out\n", "err\n", 7));
    assert_eq!(outcome.warnings, Vec::<String>::new());
    assert_eq!(fixture.run_plain(&["sh", "-c", "kill -9 $$; true"]).code, 0, "init ignores its own SIGKILL");
}

fn namespaces_are_own(fixture: &Fixture) {
    let script =
        "echo $$; hostname; set -- /proc/[0-9]*; echo $#; ip addr show lo | grep -c 'inet 127'; umask; pwd";
    let outcome = fixture.run_plain(&["sh", "-c", script]);
    assert_eq!(outcome.stdout, "1\nbox\n1\n1\n0022\n/\n", "{}", outcome.stderr);
    for kind in ["mnt", "uts", "ipc", "pid", "net"] {
        let own = std::fs::read_link(format!("/proc/self/ns/{kind}")).expect("a link");
        let theirs = fixture.run_plain(&["readlink", &format!("/proc/self/ns/{kind}")]).stdout;
        assert_ne!(own.to_string_lossy(), theirs.trim(), "{kind}");
    }
}

fn joined_namespaces(fixture: &Fixture) {
    let (request, output) = fixture.request(&["sleep", "100"], |_| {});
    let first = ferry_runtime::run(request).expect("it starts");
    let pid = first.pid;
    let outcome = fixture
        .run(&["sh", "-c", "ps -o comm; readlink /proc/self/ns/net; hostname"], |spec| {
            spec["hostname"] = json!(null);
            spec["linux"]["sysctl"] = json!({});
            spec["linux"]["namespaces"] = json!([
                {"type": "mount"},
                {"type": "network", "path": format!("/proc/{pid}/ns/net")},
                {"type": "pid", "path": format!("/proc/{pid}/ns/pid")},
                {"type": "ipc", "path": format!("/proc/{pid}/ns/ipc")},
                {"type": "uts", "path": format!("/proc/{pid}/ns/uts")}
            ]);
        })
        .expect("it starts");
    let network = std::fs::read_link(format!("/proc/{pid}/ns/net")).expect("a link");
    assert!(outcome.stdout.contains("sleep\n"), "{outcome:?}");
    assert!(outcome.stdout.ends_with(&format!("{}\nbox\n", network.display())), "{outcome:?}");
    release(first, output);
}

fn start_sleep(fixture: &Fixture) -> (ferry_runtime::Process, Output) {
    let (request, output) = fixture.request(&["sleep", "100"], |_| {});
    (ferry_runtime::run(request).expect("it starts"), output)
}

fn exec_enters_everything(fixture: &Fixture) {
    let (container, output) = start_sleep(fixture);
    let (stdio, exec_output) = pipes();
    let script = "hostname; ps -o pid,comm; cat /proc/self/cgroup; grep -E 'CapBnd|Seccomp:' /proc/self/status; \
                  ls /proc/self/fd | wc -l; pwd; exit 3";
    let started = ferry_runtime::exec(ExecRequest {
        pid: container.pid,
        pidfd: container.pidfd.as_fd(),
        process: process(&["sh", "-c", script], |process| process["cwd"] = json!("/tmp")),
        stdio,
        cgroup: container.cgroup.as_ref(),
        seccomp: Some(crate::support::default_filter()),
        linux: None,
        described: ferry_runtime::hooks::Described::default(),
        preserved: Vec::new(),
        faults: None,
    })
    .expect("it starts");
    let outcome = finish(started, exec_output);
    assert_eq!(outcome.code, 3);
    assert!(outcome.stdout.starts_with("box\n"), "{outcome:?}");
    let path = container.cgroup.as_ref().map(|cgroup| cgroup.path().to_owned()).expect("a cgroup");
    for expected in ["1 sleep", &path, "CapBnd:\t00000000a80425fb", "Seccomp:\t2", "\n4\n/tmp\n"] {
        assert!(outcome.stdout.contains(expected), "{expected}: {outcome:?}");
    }
    release(container, output);
}

fn exec_with_terminal(fixture: &Fixture) {
    let (container, output) = start_sleep(fixture);
    let started = ferry_runtime::exec(ExecRequest {
        pid: container.pid,
        pidfd: container.pidfd.as_fd(),
        process: process(&["sh", "-c", "tty; stty size"], |process| process["terminal"] = json!(true)),
        stdio: Stdio::Terminal { rows: 30, cols: 90 },
        cgroup: container.cgroup.as_ref(),
        seccomp: None,
        linux: None,
        described: ferry_runtime::hooks::Described::default(),
        preserved: Vec::new(),
        faults: None,
    })
    .expect("it starts");
    assert_eq!(read_terminal(started), "/dev/pts/0\r\n30 90\r\n");
    release(container, output);
}

fn terminal(fixture: &Fixture) {
    let script = "tty; stty size; stat -c %t:%T /dev/console; echo ok >/dev/tty; ls -l /proc/self/fd 2>/dev/null | grep -c pts";
    let (mut request, _output) = fixture.request(&["sh", "-c", script], |spec| {
        spec["process"]["terminal"] = json!(true);
    });
    request.stdio = Stdio::Terminal { rows: 24, cols: 80 };
    let text = read_terminal(ferry_runtime::run(request).expect("it starts"));
    assert_eq!(text, "/dev/pts/0\r\n24 80\r\n88:0\r\nok\r\n1\r\n");
}

fn user_and_groups(fixture: &Fixture) {
    let outcome = fixture
        .run(
            &["sh", "-c", "id -u; id -g; id -G; grep CapEff /proc/self/status; echo via >/dev/stderr"],
            |spec| {
                spec["process"]["user"] =
                    json!({"uid": 1000, "gid": 1001, "additionalGids": [20, 1001], "umask": 63});
            },
        )
        .expect("it starts");
    assert_eq!(outcome.stdout, "1000\n1001\n1001 20\nCapEff:\t0000000000000000\n");
    assert_eq!(outcome.stderr, "via\n");
}

fn created_waits_for_start(fixture: &Fixture) {
    let (request, output) = fixture.request(&["echo", "now"], |_| {});
    let created = ferry_runtime::create(request).expect("it is created");
    let command = std::fs::read(format!("/proc/{}/cmdline", created.pid())).expect("it lives");
    assert!(!command.starts_with(b"echo"));
    let outcome = finish(created.start().expect("it starts"), output);
    assert_eq!(outcome.stdout, "now\n");

    let (request, _output) = fixture.request(&["echo", "never"], |_| {});
    let created = ferry_runtime::create(request).expect("it is created");
    let pid = created.pid();
    drop(created);
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
}

fn init_reaps_and_forwards(fixture: &Fixture) {
    let run = |script: &str| {
        let (mut request, output) = fixture.request(&["sh", "-c", script], |_| {});
        request.init = true;
        finish(ferry_runtime::run(request).expect("it starts"), output)
    };
    let outcome = run("test $$ != 1 && echo child; (sleep 0.05 &) ; sleep 0.1; ps -o comm | grep -c sleep; \
                       ls /proc/1/fd | wc -l; exit 9");
    assert_eq!((outcome.stdout.as_str(), outcome.code), ("child\n0\n3\n", 9), "{outcome:?}");
    assert_eq!(run("kill -TERM $$").code, 128 + 15);

    let (mut request, output) = fixture.request(
        &["sh", "-c", "trap 'echo got; exit 4' USR1; echo ready; while :; do sleep 0.01; done"],
        |_| {},
    );
    request.init = true;
    let container = ferry_runtime::run(request).expect("it starts");
    std::thread::sleep(std::time::Duration::from_millis(50));
    ferry_sys::signal::kill(container.pid, 10).expect("it lives");
    let outcome = finish(container, output);
    assert_eq!((outcome.stdout.as_str(), outcome.code), ("ready\ngot\n", 4));
}

fn root_mount_outlives_container(fixture: &Fixture) {
    let (request, output) = fixture.request(&["sh", "-c", "echo kept >/file"], |_| {});
    let mut process = ferry_runtime::run(request).expect("it starts");
    let mount = process.rootfs_mount.take().expect("a mount");
    finish(process, output);
    let file = rustix::fs::openat(&mount, "file", rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty());
    let mut text = [0u8; 16];
    let length = rustix::io::read(file.expect("the file is there"), &mut text).expect("readable");
    assert_eq!(&text[..length], b"kept\n");
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("readable");
    assert!(!mounts.contains(&*fixture.path().to_string_lossy()), "the host's mount table is untouched");
}
