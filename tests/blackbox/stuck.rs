//! Monitors that somebody has stopped: what the engine asks of them is not answered, and users do not wait for ever.

use std::fs;
use std::thread;

use ferry_tests::Engine;
use ferry_tests::engine::{process_lives, wait_until};
use ferry_tests::http::ask;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::{CLIENTS, Test};

/// The suite.
pub const TESTS: &[Test] = &[
    ("stuck::forced_removal_goes_on_without_the_monitor", forced_removal_goes_on_without_the_monitor),
    ("stuck::stop_and_kill_go_on_without_the_monitor", stop_and_kill_go_on_without_the_monitor),
    ("stuck::questions_end_with_an_error", questions_end_with_an_error),
    ("stuck::commands_end_with_an_error", commands_end_with_an_error),
];

/// Starts a container and stops its monitor; the process ids of both.
fn with_stopped_monitor(engine: &Engine, name: &str) -> (i32, i32) {
    engine.ferry(["run", "-d", "--name", name, "--pids-limit", "50", "busybox", "sleep", "100000"]).exits(0);
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

/// Lets it go on.
fn go_on(monitor: i32) {
    kill_process(Pid::from_raw(monitor).expect("not 0"), Signal::CONT).expect("ours");
}

/// What only the monitor can answer, by the API.
fn questions_end_with_an_error() {
    let engine = Engine::with_busybox();
    let (_, monitor) = with_stopped_monitor(&engine, "held");
    let exec = json!({ "Cmd": ["sleep", "424242"], "AttachStdout": true });
    let exec = ask(&engine, "POST /v1.51/containers/held/exec", Some(&exec)).json();
    let exec = exec["Id"].as_str().expect("an id");
    let start = format!("POST /v1.51/exec/{exec}/start");
    let questions = [
        "GET /v1.51/containers/held/top",
        "GET /v1.51/containers/held/stats?stream=0&one-shot=1",
        "GET /v1.51/containers/held/archive?path=/etc/passwd",
        "POST /v1.51/containers/held/resize?h=5&w=5",
        "POST /v1.51/containers/held/kill?signal=WINCH",
        "POST /v1.51/containers/held/pause",
        start.as_str(),
    ];
    let told = format!("(process {monitor}) is stopped and does not answer: `kill -CONT {monitor}`");
    thread::scope(|scope| {
        for question in questions {
            let (engine, told) = (&engine, &told);
            scope.spawn(move || {
                let body = question.ends_with("/start").then(|| json!({}));
                let answer = ask(engine, question, body.as_ref());
                assert_eq!(answer.status, 500, "{question}");
                assert!(answer.text().contains(told), "{question}: {}", answer.text());
            });
        }
    });
    go_on(monitor);
    // What was asked meanwhile has no late effects: the queue is worked off before this is answered.
    engine.ferry(["exec", "held", "echo", "on"]).prints("on");
    assert_eq!(engine.inspect("held", "{{.State.Status}}"), "running");
    wait_until("the late exec has ended", || !engine.ferry(["top", "held"]).stdout.contains("424242"));
    engine.ferry(["rm", "-f", "held"]).exits(0);
}

/// The same by commands, and limits that are not changed too late.
fn commands_end_with_an_error() {
    let engine = Engine::with_busybox();
    let (_, monitor) = with_stopped_monitor(&engine, "held");
    let commands: [&[&str]; 5] = [
        &["exec", "held", "true"],
        &["top", "held"],
        &["cp", "held:/etc/passwd", "-"],
        &["update", "--pids-limit", "77", "held"],
        &["stats", "--no-stream", "held"],
    ];
    thread::scope(|scope| {
        for client in CLIENTS {
            for command in commands {
                let engine = &engine;
                scope.spawn(move || {
                    let outcome = engine.client(client, command);
                    // Docker's own client shows dashes in place of errors of `stats`, and of an exec only the status.
                    match (client, command[0]) {
                        (_, "stats") => return,
                        ("docker", "exec") => outcome.complains("received 500"),
                        _ => outcome.complains("is stopped and does not answer"),
                    };
                    assert_ne!(outcome.code, 0, "{command:?}: {outcome}");
                });
            }
        }
    });
    go_on(monitor);
    let limit = "cat /sys/fs/cgroup/pids.max /sys/fs/cgroup/pids/pids.max 2> /dev/null";
    engine.ferry(["exec", "held", "sh", "-c", limit]).prints("50");
    assert_eq!(engine.inspect("held", "{{json .HostConfig.PidsLimit}}"), "50");
    engine.ferry(["rm", "-f", "held"]).exits(0);
}
