//! `up` in the foreground: signals, and whose end ends it.

use std::io::{BufRead, BufReader};
use std::process::Child;

use rustix::process::{Pid, Signal, kill_process};

use crate::Test;
use crate::compose::Project;

/// The suite.
pub const TESTS: &[Test] = &[
    ("compose::one_interrupt_stops_two_kill", one_interrupt_stops_two_kill),
    ("compose::aborts_with_the_code_of_the_first_end", aborts_with_the_code_of_the_first_end),
    ("compose::output_of_a_short_run_is_shown_once", output_of_a_short_run_is_shown_once),
];

fn interrupt(child: &Child) {
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("a process id")).expect("a process id");
    kill_process(pid, Signal::INT).expect("the signal is sent");
}

/// Reads lines until one holds the text.
fn read_until(reader: &mut impl BufRead, text: &str) -> String {
    let mut read = String::new();
    while !read.contains(text) {
        assert_ne!(reader.read_line(&mut read).expect("its output is text"), 0, "no `{text}` in:\n{read}");
    }
    read
}

fn one_interrupt_stops_two_kill() {
    let project = Project::new(
        "services:\n  a:\n    image: busybox\n    command: sh -c 'trap \"echo bye; exit 0\" TERM; echo ready; while :; do sleep 0.05; done'\n  b: {image: busybox, command: sleep 1000, stop_grace_period: 100s}\n",
    );
    let path = project.path();
    let mut up = project.engine.spawn(["compose", "-f", path.as_str(), "up"]);
    let mut stdout = BufReader::new(up.stdout.take().expect("a pipe"));
    let mut stderr = BufReader::new(up.stderr.take().expect("a pipe"));
    read_until(&mut stderr, "Container app-b-1  Started");
    read_until(&mut stdout, "a-1  | ready");
    interrupt(&up);
    read_until(&mut stderr, "Container app-a-1  Stopped");
    assert_eq!(project.engine.inspect("app-b-1", "{{.State.Status}}"), "running", "it has 100 s to end");
    interrupt(&up);
    assert_eq!(up.wait().expect("it ends").code(), Some(130));
    assert_eq!(project.engine.inspect("app-a-1", "{{.State.ExitCode}}"), "0");
    assert_eq!(project.engine.inspect("app-b-1", "{{.State.ExitCode}}"), "137");
}

fn aborts_with_the_code_of_the_first_end() {
    let project = Project::new(
        "services:\n  job: {image: busybox, command: sh -c 'exit 7'}\n  side: {image: busybox, command: sleep 1000, init: true}\n",
    );
    project.compose(&["up", "--abort-on-container-exit"]).exits(7).complains("Aborting on container exit");
    project.compose(&["up", "--abort-on-container-failure"]).exits(7);
    assert_eq!(project.engine.inspect("app-side-1", "{{.State.Running}}"), "false");
    project.compose(&["up", "--exit-code-from", "nobody"]).exits(1).complains("no such service: nobody");
}

fn output_of_a_short_run_is_shown_once() {
    let project = Project::new("services:\n  job: {image: busybox, command: echo once}\n");
    for run in ["first", "second"] {
        let shown = project.compose(&["up"]);
        shown.exits(0);
        assert_eq!(shown.stdout.matches("job-1  | once").count(), 1, "{run} run:\n{}", shown.stdout);
    }
}
