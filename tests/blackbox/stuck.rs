//! Monitors that somebody has stopped: what the engine asks of them is not answered, and users do not wait for ever.

use std::fs;

use ferry_tests::Engine;
use ferry_tests::engine::{process_lives, wait_until};
use rustix::process::{Pid, Signal, kill_process};

use crate::{CLIENTS, Test};

/// The suite.
pub const TESTS: &[Test] = &[
    ("stuck::forced_removal_goes_on_without_the_monitor", forced_removal_goes_on_without_the_monitor),
    ("stuck::stop_and_kill_go_on_without_the_monitor", stop_and_kill_go_on_without_the_monitor),
];

/// Starts a container and stops its monitor; the process ids of both.
fn with_stopped_monitor(engine: &Engine, name: &str) -> (i32, i32) {
    engine.ferry(["run", "-d", "--name", name, "busybox", "sleep", "100000"]).exits(0);
    let first: i32 = engine.inspect(name, "{{.State.Pid}}").parse().expect("a process id");
    let status = fs::read_to_string(format!("/proc/{first}/status")).expect("it runs");
    let monitor = status.lines().find_map(|line| line.strip_prefix("PPid:")).expect("a parent");
    let monitor: i32 = monitor.trim().parse().expect("a process id");
    let title = fs::read_to_string(format!("/proc/{monitor}/cmdline")).expect("readable");
    assert!(title.starts_with("ferry-shim"), "{title}");
    kill_process(Pid::from_raw(monitor).expect("not 0"), Signal::STOP).expect("ours");
    wait_until("the monitor stands still", || {
        fs::read_to_string(format!("/proc/{monitor}/stat")).is_ok_and(|stat| stat.contains(") T "))
    });
    (first, monitor)
}

fn forced_removal_goes_on_without_the_monitor() {
    let engine = Engine::with_busybox();
    for client in CLIENTS {
        let (first, monitor) = with_stopped_monitor(&engine, "held");
        // Others are not held up meanwhile.
        engine.ferry(["run", "--rm", "busybox", "true"]).exits(0);
        engine.client(client, ["rm", "-f", "held"]).exits(0);
        wait_until("both have ended", || !process_lives(first) && !process_lives(monitor));
        engine.ferry(["ps", "-a", "-q"]).prints("");
    }
    // The name is free again.
    engine.ferry(["run", "--rm", "--name", "held", "busybox", "echo", "again"]).prints("again");
}

fn stop_and_kill_go_on_without_the_monitor() {
    let engine = Engine::with_busybox();
    for command in [&["stop", "-t", "1", "held"][..], &["kill", "held"]] {
        let (first, monitor) = with_stopped_monitor(&engine, "held");
        engine.ferry(command).exits(0);
        wait_until("both have ended", || !process_lives(first) && !process_lives(monitor));
        assert_eq!(engine.inspect("held", "{{.State.Running}} {{.State.ExitCode}}"), "false 137");
        engine.ferry(["rm", "held"]).exits(0);
    }
}
