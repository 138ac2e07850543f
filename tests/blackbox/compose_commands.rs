//! Each command of Compose once, by what it prints and does.

use crate::Test;
use crate::compose::Project;

/// The suite.
pub const TESTS: &[Test] = &[
    ("compose::commands_that_look", commands_that_look),
    ("compose::commands_that_act", commands_that_act),
    ("compose::commands_that_copy", commands_that_copy),
];

const APP: &str = "services:\n  web:\n    image: busybox\n    init: true\n    command: sh -c 'echo begun; exec sleep 1000'\n    ports: ['127.0.0.1::80']\n    depends_on: [db]\n    volumes: ['data:/data']\n  db: {image: busybox, init: true, command: sleep 1000}\nvolumes: {data: }\n";

fn commands_that_look() {
    let project = Project::new(APP);
    let run = |arguments: &[&str]| project.compose(arguments);
    run(&["up", "-d"]).exits(0);
    run(&["config", "--services"]).exits(0).says("db").says("web");
    run(&["config", "--volumes"]).prints("data");
    run(&["config", "--images"]).says("busybox");
    run(&["config", "--hash", "web"]).exits(0).says("web ");
    run(&["config", "--format", "json"]).exits(0).says("\"app\"");
    run(&["config", "-q"]).prints("");
    run(&["ls", "--format", "json"]).exits(0).says("\"app\"").says("running(2)");
    run(&["ls", "-q"]).prints("app");
    run(&["ps", "--format", "json", "web"]).exits(0).says("\"Service\":\"web\"");
    run(&["ps", "--status", "exited", "-q"]).prints("");
    run(&["images", "-q"]).exits(0);
    run(&["volumes", "-q"]).prints("app_data");
    run(&["top", "web"]).exits(0).says("sleep 1000");
    run(&["port", "web", "80"]).exits(0).says("127.0.0.1:");
    run(&["port", "web", "81"]).exits(1);
    run(&["logs", "--no-log-prefix", "web"]).prints("begun");
    run(&["logs", "-n", "1", "-t", "web"]).exits(0).says("web-1").says("begun");
    run(&["stats", "--no-stream"]).exits(0).says("app-web-1").says("app-db-1");
    run(&["events", "--json", "--since", "1h", "--until", "0s"]).exits(0).says("\"action\":\"start\"");
    run(&["viz"]).exits(0).says("web");
    run(&["version", "--short"]).exits(0);
    run(&["version", "--format", "json"]).exits(0).says("\"version\"");
    run(&["why", "web"]).exits(0);
    run(&["help", "up"]).exits(0).says("--force-recreate");
    run(&["upp"]).exits(1).complains("did you mean 'ferry compose up'?");
}

fn commands_that_act() {
    let project = Project::new(APP);
    let run = |arguments: &[&str]| project.compose(arguments);
    let state = |name: &str| project.engine.inspect(name, "{{.State.Status}}");
    run(&["create"]).exits(0);
    assert_eq!((state("app-web-1"), state("app-db-1")), ("created".to_owned(), "created".to_owned()));
    run(&["start", "--wait"]).exits(0);
    assert_eq!(state("app-web-1"), "running");
    run(&["pause", "db"]).exits(0);
    assert_eq!(state("app-db-1"), "paused");
    run(&["unpause", "db"]).exits(0);
    run(&["restart", "-t", "0", "db"]).exits(0);
    assert_eq!(state("app-db-1"), "running");
    run(&["kill", "-s", "KILL", "web"]).exits(0);
    run(&["wait", "web"]).says("137");
    assert_eq!(project.engine.inspect("app-web-1", "{{.State.ExitCode}}"), "137");
    run(&["rm", "-f", "web"]).exits(0);
    run(&["ps", "-a", "--services"]).prints("db");
    run(&["scale", "db=2"]).exits(0);
    run(&["ps", "-q", "db"]).exits(0);
    assert_eq!(run(&["ps", "-q", "db"]).ok().lines().count(), 2);
    run(&["stop", "-t", "0"]).exits(0);
    assert_eq!(state("app-db-2"), "exited");
    run(&["up", "-d", "--no-deps", "--wait", "web"]).exits(0);
    assert_eq!(state("app-db-1"), "exited", "--no-deps leaves it alone");
    run(&["up", "-d", "--no-start", "--force-recreate", "web", "-t", "0"]).exits(0);
    run(&["down", "-v", "-t", "0", "--remove-orphans"]).exits(0);
    assert_eq!(project.ids(), "");
}

fn commands_that_copy() {
    let project = Project::new(APP);
    let run = |arguments: &[&str]| project.compose(arguments);
    let folder = project.engine.directory().to_owned();
    let text = |name: &str| folder.join(name).to_string_lossy().into_owned();
    run(&["up", "-d"]).exits(0);
    std::fs::write(folder.join("there"), "copied").expect("a file");
    run(&["cp", &text("there"), "web:/there"]).exits(0);
    run(&["exec", "-T", "web", "cat", "/there"]).prints("copied");
    run(&["cp", "web:/there", &text("back")]).exits(0);
    assert_eq!(std::fs::read_to_string(folder.join("back")).expect("a file"), "copied");
    run(&["export", "-o", &text("web.tar"), "web"]).exits(0);
    assert!(folder.join("web.tar").metadata().is_ok_and(|metadata| metadata.len() > 0));
    run(&["commit", "-m", "kept", "web", "kept:1"]).exits(0);
    project.engine.ferry(["run", "--rm", "kept:1", "cat", "/there"]).prints("copied");
    run(&[
        "exec",
        "-T",
        "-e",
        "A=b",
        "-w",
        "/tmp",
        "-u",
        "nobody",
        "web",
        "sh",
        "-c",
        "echo $A $PWD $(id -un)",
    ])
    .prints("b /tmp nobody");
    run(&[
        "run",
        "--rm",
        "-T",
        "--no-deps",
        "-e",
        "A=b",
        "-w",
        "/tmp",
        "--entrypoint",
        "echo",
        "web",
        "given",
    ])
    .prints("given");
}
