//! What stays beside a running project: `watch` that rebuilds and restarts, `attach`, and `viz` with its state.

use std::fs;
use std::io::{BufRead, BufReader};

use ferry_tests::engine::wait_until;

use crate::Test;
use crate::compose::Project;

/// The suite.
pub const TESTS: &[Test] = &[
    ("compose_live::watch_rebuilds_and_restarts", watch_rebuilds_and_restarts),
    ("compose_live::attach_gives_and_takes", attach_gives_and_takes),
    ("compose_live::viz_shows_the_state", viz_shows_the_state),
];

fn watch_rebuilds_and_restarts() {
    let project = Project::new(
        "services:\n  web:\n    build: .\n    command: sleep 1000\n    init: true\n    stop_grace_period: 0s\n    develop:\n      \
         watch:\n        - {path: ./made, action: rebuild}\n        - {path: ./conf, action: restart}\n",
    );
    let app = project.engine.directory().join("app");
    fs::write(app.join("Dockerfile"), "FROM busybox\nCOPY made /made\n").expect("a Dockerfile");
    for folder in ["made", "conf"] {
        fs::create_dir_all(app.join(folder)).expect("a folder");
        fs::write(app.join(folder).join("file"), "0").expect("a file");
    }
    let path = project.path();
    let mut watching = project.engine.spawn(["compose", "-f", path.as_str(), "watch"]);
    let inside = |command: &str| project.compose(&["exec", "-T", "web", "sh", "-c", command]);
    wait_until("the project is up", || inside("true").code == 0);
    // Watching begins some time after the container runs: writing goes on until a change arrives.
    let mut count = 0;
    wait_until("the image is built anew", || {
        count += 1;
        fs::write(app.join("made/file"), count.to_string()).expect("a file");
        inside("test \"$(cat /made/file)\" -gt 0").code == 0
    });
    fs::write(app.join("made/file"), "last").expect("a file");
    wait_until("the last change arrives", || inside("grep last /made/file").code == 0);
    let started =
        || project.engine.ferry(["inspect", "app-web-1", "-f", "{{.Id}} {{.State.StartedAt}}"]).stdout;
    let before = started();
    fs::write(app.join("conf/file"), "1").expect("a file");
    wait_until("the container is restarted", || {
        let now = started();
        now != before && !now.trim().is_empty()
    });
    assert_eq!(before.split(' ').next(), started().split(' ').next(), "it is the same container");
    watching.kill().expect("watch runs");
    let _ = watching.wait();
}

fn attach_gives_and_takes() {
    let project = Project::new(
        "services:\n  talk:\n    image: busybox\n    init: true\n    stdin_open: true\n    \
         command: sh -c 'read x; echo got $$x'\n  \
         ticks:\n    image: busybox\n    init: true\n    scale: 2\n    command: sh -c 'while true; do echo tick of $$(hostname); sleep 0.1; done'\n",
    );
    project.compose(&["up", "-d"]).exits(0);
    let path = project.path();
    let taken =
        project.engine.ferry_with_input(["compose", "-f", path.as_str(), "attach", "talk"], b"hello\n");
    taken.prints("got hello");
    let id = project.engine.inspect("app-ticks-2", "{{.Config.Hostname}}");
    let words =
        ["compose", "-f", &path, "attach", "--no-stdin", "--sig-proxy=false", "--index", "2", "ticks"];
    let mut child = project.engine.spawn(words);
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    assert_eq!(lines.next().expect("a line").expect("text"), format!("tick of {id}"));
    child.kill().expect("attach runs");
    let _ = child.wait();
    assert_eq!(project.engine.inspect("app-ticks-2", "{{.State.Status}}"), "running");
    project.compose(&["attach", "nobody"]).exits(1).complains("no such service: nobody");
}

fn viz_shows_the_state() {
    let project = Project::new(
        "services:\n  web: {image: busybox, init: true, command: sleep 1000, depends_on: [db], scale: 2}\n  \
         db: {image: busybox, command: 'false'}\n",
    );
    let text = || project.compose(&["viz", "--format", "text"]).ok().to_owned();
    assert!(text().contains("web  no container"), "{}", text());
    project.compose(&["up", "-d"]).exits(0);
    project.engine.wait_for_status("app-db-1", "exited");
    assert!(text().contains("web  2/2 running"), "{}", text());
    assert!(text().contains("db  0/1 running"), "{}", text());
    let svg = project.compose(&["viz", "--format", "svg"]).ok().to_owned();
    assert!(svg.starts_with("<svg") && svg.contains(">web<"), "{svg}");
    assert!(svg.contains(">2/2 running<") && svg.contains(">0/1 running<"), "{svg}");
    project.compose(&["viz"]).exits(0).says("\"web\" -> \"db\";");
}
