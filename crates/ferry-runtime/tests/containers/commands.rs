//! Commands that cannot be run: texts and exit codes as Docker's users know them.

use serde_json::json;

use crate::Case;
use crate::support::Fixture;

pub const CASES: &[Case] = &[
    ("commands_that_cannot_run", commands_that_cannot_run),
    ("relative_commands", relative_commands),
    ("working_directories", working_directories),
    ("exec_errors_are_the_same", exec_errors_are_the_same),
];

fn check(fixture: &Fixture, command: &[&str], message: &str, code: i32) {
    let error = fixture.run(command, |_| {}).expect_err("it cannot run");
    assert_eq!((error.to_string().as_str(), error.exit_code()), (message, code), "{command:?}");
}

fn commands_that_cannot_run(fixture: &Fixture) {
    fixture.write("bin/noexec", b"#!/bin/sh\n", 0o644);
    fixture.write("bin/plain", b"echo hello\n", 0o755);
    fixture.write("bin/crlf", b"#!/bin/sh\r\necho hello\r\n", 0o755);
    fixture.write("bin/bash-script", b"#!/bin/bash -e\necho hello\n", 0o755);
    fixture.write("bin/nothing", b"", 0o755);
    check(fixture, &["foo"], "exec: \"foo\": executable file not found in $PATH", 127);
    check(fixture, &["noexec"], "exec: \"noexec\": executable file not found in $PATH", 127);
    check(fixture, &["/foo"], "exec: \"/foo\": stat /foo: no such file or directory", 127);
    check(fixture, &["/etc"], "exec: \"/etc\": is a directory", 126);
    check(fixture, &["/bin/noexec"], "exec: \"/bin/noexec\": permission denied", 126);
    check(fixture, &["plain"], "exec /bin/plain: exec format error: the script has no \"#!\" line", 126);
    check(fixture, &["nothing"], "exec /bin/nothing: exec format error: the file is empty", 126);
    check(
        fixture,
        &["crlf"],
        "exec /bin/crlf: no such file or directory: its interpreter \"/bin/sh\" does not exist in the image \
         (the script has Windows line ends)",
        127,
    );
    check(
        fixture,
        &["bash-script"],
        "exec /bin/bash-script: no such file or directory: its interpreter \"/bin/bash\" does not exist in the image",
        127,
    );
    let long = "x".repeat(100_000);
    let error = fixture.run(&[&long], |_| {}).expect_err("it cannot run").to_string();
    assert!(error.len() < 4096 && error.ends_with("x...\": executable file not found in $PATH"), "{error}");
    check(fixture, &[""], "exec: \"\": executable file not found in $PATH", 127);
}

fn relative_commands(fixture: &Fixture) {
    fixture.write("root/here", b"#!/bin/sh\necho here\n", 0o755);
    let outcome =
        fixture.run(&["./here"], |spec| spec["process"]["cwd"] = json!("/root")).expect("it starts");
    assert_eq!(outcome.stdout, "here\n");
}

fn working_directories(fixture: &Fixture) {
    let outcome =
        fixture.run(&["pwd"], |spec| spec["process"]["cwd"] = json!("/made/on/the/way")).expect("it starts");
    assert_eq!(outcome.stdout, "/made/on/the/way\n");
    fixture.write("etc/file", b"", 0o644);
    let error =
        fixture.run(&["pwd"], |spec| spec["process"]["cwd"] = json!("/etc/file")).expect_err("no directory");
    assert_eq!(error.to_string(), "chdir to cwd (\"/etc/file\") set in config.json failed: not a directory");
    assert_eq!(error.exit_code(), 126);
    let error = fixture.run(&["pwd"], |spec| spec["process"]["cwd"] = json!("etc")).expect_err("relative");
    assert_eq!(error.to_string(), "invalid process.cwd \"etc\": not an absolute path");
}

fn exec_errors_are_the_same(fixture: &Fixture) {
    use std::os::fd::AsFd;
    let (request, output) = fixture.request(&["sleep", "100"], |_| {});
    let container = ferry_runtime::run(request).expect("it starts");
    for (command, message, code) in [
        ("foo", "exec: \"foo\": executable file not found in $PATH", 127),
        ("/etc", "exec: \"/etc\": is a directory", 126),
    ] {
        let (stdio, _output) = crate::support::pipes();
        let error = ferry_runtime::exec(ferry_runtime::ExecRequest {
            pid: container.pid,
            pidfd: container.pidfd.as_fd(),
            process: crate::support::process(&[command], |_| {}),
            stdio,
            cgroup: container.cgroup.as_ref(),
            seccomp: None,
            linux: None,
            described: ferry_runtime::hooks::Described::default(),
            preserved: Vec::new(),
            faults: None,
        })
        .expect_err("it cannot run");
        assert_eq!((error.to_string().as_str(), error.exit_code()), (message, code));
    }
    crate::support::release(container, output);
}
