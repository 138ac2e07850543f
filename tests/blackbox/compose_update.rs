//! Updates of running services: without a gap, and back where the new one fails.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use ferry_tests::engine::patience;

use crate::Test;
use crate::compose::Project;

/// The suite.
pub const TESTS: &[Test] = &[
    ("compose::an_update_goes_on_answering", an_update_goes_on_answering),
    ("compose::a_failed_update_leaves_the_old_one", a_failed_update_leaves_the_old_one),
    ("compose::a_failed_update_rolls_back_replicas", a_failed_update_rolls_back_replicas),
    ("compose::a_tolerated_failure_does_not_end_an_update", a_tolerated_failure_does_not_end_an_update),
    ("compose::scales_within_a_port_range", scales_within_a_port_range),
    ("compose::stale_shared_namespaces_are_mended", stale_shared_namespaces_are_mended),
    ("compose::watch_carries_changes_over", watch_carries_changes_over),
];

/// A server that says its version, healthy when it answers.
fn server(version: &str, ports: &str, rest: &str) -> String {
    format!(
        "services:\n  web:\n    image: busybox\n    init: true\n    command: sh -c 'mkdir /www; echo {version} > /www/index.html; exec httpd -f -p 80 -h /www'\n    ports: ['{ports}']\n    healthcheck: {{test: wget -q -O /dev/null http://127.0.0.1/, interval: 100ms, retries: 20}}\n{rest}"
    )
}

const START_FIRST: &str =
    "    deploy: {update_config: {order: start-first, parallelism: 1, failure_action: rollback}}\n";

/// What the server at a host port says.
fn ask(port: u16) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let body = text.split_once("\r\n\r\n").map(|(_, body)| body.trim().to_owned());
    body.filter(|body| !body.is_empty()).ok_or_else(|| std::io::Error::other(format!("no answer: {text:?}")))
}

fn port(project: &Project) -> u16 {
    let shown = project.compose(&["port", "web", "80"]).ok().to_owned();
    shown.rsplit_once(':').and_then(|(_, port)| port.trim().parse().ok()).expect("a published port")
}

fn an_update_goes_on_answering() {
    let project = Project::new(&server("one", "80", START_FIRST));
    project.compose(&["up", "-d", "--wait"]).exits(0);
    let port = port(&project);
    assert_eq!(ask(port).expect("an answer"), "one");
    let (end, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let asking = {
        let (end, asked) = (Arc::clone(&end), Arc::clone(&asked));
        std::thread::spawn(move || {
            let mut failures = Vec::new();
            while !end.load(Ordering::Relaxed) {
                match ask(port) {
                    Ok(_) => drop(asked.fetch_add(1, Ordering::Relaxed)),
                    Err(error) => failures.push(error.to_string()),
                }
            }
            failures
        })
    };
    project.write(&server("two", "80", START_FIRST));
    project.compose(&["up", "-d"]).exits(0);
    end.store(true, Ordering::Relaxed);
    let failures = asking.join().expect("the asking thread");
    assert_eq!(failures, Vec::<String>::new(), "of {} requests", asked.load(Ordering::Relaxed));
    assert!(asked.load(Ordering::Relaxed) > 0);
    assert_eq!(ask(port).expect("an answer"), "two");
    project.compose(&["ps", "-a", "--format", "{{.Name}}"]).prints("app-web-1");
    project.compose(&["port", "web", "80"]).says(&port.to_string());
}

fn a_failed_update_leaves_the_old_one() {
    for order in ["start-first", "stop-first"] {
        let rest = format!("    deploy: {{update_config: {{order: {order}}}}}\n");
        let project = Project::new(&server("one", "80", &rest));
        project.compose(&["up", "-d", "--wait"]).exits(0);
        let before = project.ids();
        let broken = server("two", "80", &rest).replace("exec httpd", "exit 3; httpd");
        project.write(&broken);
        project.compose(&["up", "-d"]).exits(1).complains("exited (3)");
        assert_eq!(project.ids(), before, "{order}: the old container is there, and no other");
        assert_eq!(ask(port(&project)).expect("an answer"), "one");
    }
}

fn a_failed_update_rolls_back_replicas() {
    let rest = format!("{START_FIRST}    scale: 2\n    volumes: ['./fail:/fail:ro']\n");
    let good = server("one", "80", &rest);
    let project = Project::new(&good);
    let gate = project.engine.directory().join("app/fail");
    std::fs::create_dir_all(&gate).expect("a folder");
    project.compose(&["up", "-d", "--wait"]).exits(0);
    // The first new replica passes, the second one meets the file that the first one was started without.
    let once = "if mkdir /gate/once; then true; else exit 3; fi; exec httpd";
    let next = good
        .replace("exec httpd", once)
        .replace("'./fail:/fail:ro'", "'./fail:/gate'")
        .replace("echo one", "echo two");
    project.write(&next);
    project.compose(&["up", "-d"]).exits(1).complains("exited (3)").complains("rolled back");
    project.compose(&["ps", "--format", "{{.Name}}"]).prints("app-web-1\napp-web-2");
    for index in ["1", "2"] {
        project.compose(&["exec", "-T", "--index", index, "web", "cat", "/www/index.html"]).prints("one");
    }
}

/// One of two may fail: its old container stays, the other one is replaced; a second failure would go back.
fn a_tolerated_failure_does_not_end_an_update() {
    let config = "    deploy: {update_config: {order: stop-first, parallelism: 1, failure_action: rollback, max_failure_ratio: 0.5}, rollback_config: {order: stop-first, parallelism: 0}}\n";
    let rest = format!("{config}    scale: 2\n    volumes: ['./gate:/gate']\n");
    let good = server("one", "80", &rest);
    let project = Project::new(&good);
    let gate = project.engine.directory().join("app/gate");
    std::fs::create_dir_all(&gate).expect("a folder");
    project.compose(&["up", "-d", "--wait"]).exits(0);
    let first_fails = "if mkdir /gate/once; then exit 3; fi; exec httpd";
    project.write(&good.replace("exec httpd", first_fails).replace("echo one", "echo two"));
    project.compose(&["up", "-d"]).exits(0).complains("the old container stays");
    let says = |index: &str| {
        project.compose(&["exec", "-T", "--index", index, "web", "cat", "/www/index.html"]).ok().to_owned()
    };
    assert_eq!((says("1").as_str(), says("2").as_str()), ("one", "two"));
    let second_fails = "if mkdir /gate/twice; then true; else exit 3; fi; exec httpd";
    let ratio = good.replace("max_failure_ratio: 0.5", "max_failure_ratio: 0.4");
    project.write(&ratio.replace("exec httpd", second_fails).replace("echo one", "echo three"));
    project.compose(&["up", "-d"]).exits(1).complains("rolled back");
    assert_eq!((says("1").as_str(), says("2").as_str()), ("one", "two"));
}

fn scales_within_a_port_range() {
    let project = Project::new(&server("one", "18471-18473:80", ""));
    project.compose(&["up", "-d", "--scale", "web=3", "--wait"]).exits(0);
    for port in 18471..=18473 {
        assert_eq!(ask(port).expect("an answer"), "one");
    }
    project.compose(&["up", "-d", "--scale", "web=3", "--force-recreate", "--wait"]).exits(0);
    for port in 18471..=18473 {
        assert_eq!(ask(port).expect("an answer"), "one");
    }
    project
        .compose(&["up", "-d", "--scale", "web=4"])
        .exits(1)
        .complains("all 3 ports of the range are taken");
    project.compose(&["down", "-t", "0"]).exits(0);
    assert!(!project.engine.ferry(["network", "ls"]).ok().contains("app_default"));
}

fn stale_shared_namespaces_are_mended() {
    let project = Project::new(
        "services:\n  a: {image: busybox, command: sleep 1000, init: true, ipc: shareable}\n  b: {image: busybox, command: sleep 1000, init: true, ipc: 'service:a', pid: 'service:a'}\n",
    );
    project.compose(&["up", "-d"]).exits(0);
    project.compose(&["diff"]).exits(0).says("container app-b-1  unchanged");
    project.compose(&["rm", "-sf", "a"]).exits(0);
    project.compose(&["up", "-d", "a"]).exits(0);
    project.compose(&["--dry-run", "up", "-d"]).says("it shares is gone");
    project.compose(&["up", "-d"]).exits(0);
    project.compose(&["exec", "-T", "b", "true"]).exits(0);
}

fn watch_carries_changes_over() {
    let project = Project::new(
        "services:\n  web:\n    image: busybox\n    command: sleep 1000\n    init: true\n    develop:\n      watch:\n        - {path: ./src, action: sync, target: /srv, ignore: ['*.log']}\n        - {path: ./conf, action: sync+restart, target: /conf}\n        - {path: ./run, action: sync+exec, target: /run-me, exec: {command: touch /executed}}\n",
    );
    let app = project.engine.directory().join("app");
    for folder in ["src", "conf", "run"] {
        std::fs::create_dir_all(app.join(folder)).expect("a folder");
    }
    let path = project.path();
    let mut watching = project.engine.spawn(["compose", "-f", path.as_str(), "watch"]);
    let inside = |command: &str| project.compose(&["exec", "-T", "web", "sh", "-c", command]);
    let until = |what: &str, command: &str| {
        let start = std::time::Instant::now();
        while inside(command).code != 0 {
            assert!(start.elapsed() < patience(), "{what} does not hold");
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    // Watching begins some time after the container runs: writing goes on until a change arrives.
    let start = std::time::Instant::now();
    while inside("test -e /srv/first").code != 0 {
        assert!(start.elapsed() < patience(), "no change arrives");
        std::fs::write(app.join("src/first"), "1").expect("a file");
        std::thread::sleep(Duration::from_millis(100));
    }
    std::fs::create_dir_all(app.join("src/deep/er")).expect("folders");
    std::fs::write(app.join("src/deep/er/file"), "deep").expect("a file");
    std::fs::write(app.join("src/noise.log"), "noise").expect("a file");
    until("a new folder arrives", "test \"$(cat /srv/deep/er/file)\" = deep");
    std::fs::remove_file(app.join("src/first")).expect("removed");
    until("what is gone goes", "test ! -e /srv/first");
    inside("test ! -e /srv/noise.log").exits(0);
    std::fs::write(app.join("run/file"), "x").expect("a file");
    until("the command runs", "test -e /executed && test -e /run-me/file");
    let before = project.engine.inspect("app-web-1", "{{.State.StartedAt}}");
    std::fs::write(app.join("conf/file"), "x").expect("a file");
    until("the file arrives", "test -e /conf/file");
    let start = std::time::Instant::now();
    while project.engine.inspect("app-web-1", "{{.State.StartedAt}}") == before {
        assert!(start.elapsed() < patience(), "the container is not restarted");
        std::thread::sleep(Duration::from_millis(50));
    }
    watching.kill().expect("watch runs");
    let _ = watching.wait();
}
