//! Docker's own Compose (written in Go, version 2) against Ferry's socket, and projects that change hands between
//! it and Ferry's.

use std::process::Command;

use ferry_tests::Outcome;
use ferry_tests::images::docker_compose;

use crate::Test;
use crate::compose::Project;

/// The suite.
pub const TESTS: &[Test] = &[
    ("compose_go::a_day_with_it", a_day_with_it),
    ("compose_go::a_project_changes_hands", a_project_changes_hands),
    ("compose_go::it_builds_with_the_classic_builder", it_builds_with_the_classic_builder),
    ("compose_go::both_read_a_file_alike", both_read_a_file_alike),
];

/// Runs it as `docker-compose`; none where it was not built.
fn go(project: &Project, arguments: &[&str]) -> Option<Outcome> {
    let Some(program) = docker_compose() else {
        eprintln!("SKIPPED: Docker Compose is not in the cache: there was no Go compiler to build it with");
        return None;
    };
    let mut command = Command::new(program);
    command.args(["-f", &project.path(), "--progress", "plain"]).args(arguments);
    command.env("DOCKER_HOST", project.engine.host()).env("HOME", project.engine.directory());
    command.env("DOCKER_BUILDKIT", "0").env("COMPOSE_BAKE", "false");
    command.current_dir(project.engine.directory()).stdin(std::process::Stdio::null());
    let output = command.output().expect("it runs");
    Some(Outcome::new(format!("{command:?}"), &output))
}

const APP: &str = "services:\n  web:\n    image: busybox\n    command: sh -c 'mkdir -p /www; echo hi > /www/index.html; echo serving; exec httpd -f -p 80 -h /www'\n    init: true\n    ports: ['127.0.0.1::80']\n    environment: {MODE: 'a<b', EMPTY: }\n    depends_on: {cache: {condition: service_healthy}}\n    volumes: ['data:/data', '/anonymous']\n    labels: {a.b: c}\n    stop_grace_period: 1s\n  cache:\n    image: busybox\n    command: sleep 1000\n    init: true\n    healthcheck: {test: 'true', interval: 100ms}\n    deploy: {resources: {limits: {memory: 64M, cpus: '0.5'}}}\n    ulimits: {nofile: {soft: 1024, hard: 2048}}\n    networks: {default: {aliases: [store]}}\nvolumes: {data: }\n";

fn a_day_with_it() {
    let project = Project::new(APP);
    let Some(up) = go(&project, &["up", "-d", "--scale", "web=2"]) else { return };
    up.exits(0);
    let run = |arguments: &[&str]| go(&project, arguments).expect("it ran a moment ago");
    run(&["ps"]).exits(0).says("app-web-1").says("app-web-2").says("(healthy)");
    run(&["port", "--index", "2", "web", "80"]).exits(0).says("127.0.0.1:");
    run(&["exec", "-T", "web", "cat", "/www/index.html"]).prints("hi");
    run(&["exec", "-T", "web", "nslookup", "store"]).exits(0);
    run(&["exec", "-T", "cache", "sh", "-c", "exit 3"]).exits(3);
    run(&["logs", "--tail", "2", "web"]).exits(0).says("serving");
    run(&["run", "--rm", "-T", "--no-deps", "cache", "sh", "-c", "exit 3"]).exits(3);
    let before = project.ids();
    run(&["up", "-d", "--scale", "web=2"]).exits(0);
    assert_eq!(project.ids(), before, "a second up changes nothing");
    run(&["scale", "web=1"]).exits(0);
    run(&["ps", "-q", "web"]).exits(0);
    assert_eq!(run(&["ps", "-q", "web"]).ok().lines().count(), 1);
    for command in [
        &["restart", "-t", "0"][..],
        &["pause", "cache"],
        &["unpause", "cache"],
        &["top"],
        &["images"],
        &["cp", "web:/www/index.html", "copied"],
        &["kill", "cache"],
        &["start"],
        &["up", "-d", "--force-recreate", "-t", "0"],
        &["stop", "-t", "0"],
        &["rm", "-f"],
    ] {
        run(command).exits(0);
    }
    assert_eq!(std::fs::read_to_string(project.engine.directory().join("copied")).expect("a copy"), "hi\n");
    run(&["down", "-v", "-t", "0"]).exits(0);
    assert_eq!(project.ids(), "");
    assert!(!project.engine.ferry(["network", "ls"]).ok().contains("app_default"));
    // Anonymous volumes of containers that `scale` and `rm` took away stay, as they do with Docker.
    assert!(!project.engine.ferry(["volume", "ls", "-q"]).ok().contains("app_data"));
}

/// What one made is unchanged to the other, in both directions, and ends under either.
fn a_project_changes_hands() {
    let project = Project::new(APP);
    let Some(up) = go(&project, &["up", "-d"]) else { return };
    up.exits(0);
    let before = project.ids();
    project.compose(&["up", "-d"]).exits(0);
    assert_eq!(project.ids(), before, "Docker's containers are not made anew");
    project.compose(&["diff"]).exits(0).says("container app-web-1  unchanged");
    let ours = project.compose(&["config", "--hash", "*"]).ok().to_owned();
    let theirs = go(&project, &["config", "--hash", "*"]).expect("it ran a moment ago").ok().to_owned();
    assert_eq!(ours, theirs, "the same hashes");
    let label = "{{index .Config.Labels \"com.docker.compose.config-hash\"}}";
    assert!(theirs.contains(&project.engine.inspect("app-web-1", label)), "and the label holds one");
    project.compose(&["down", "-v", "-t", "0"]).exits(0);
    assert_eq!(project.ids(), "");
    project.compose(&["up", "-d"]).exits(0);
    let before = project.ids();
    go(&project, &["up", "-d"]).expect("it ran a moment ago").exits(0);
    assert_eq!(project.ids(), before, "Ferry's containers are not made anew");
    go(&project, &["down", "-v", "-t", "0"]).expect("it ran a moment ago").exits(0);
    assert_eq!(project.ids(), "");
    assert_eq!(project.engine.ferry(["volume", "ls", "-q"]).ok(), "");
}

fn it_builds_with_the_classic_builder() {
    let project = Project::new(
        "services:\n  job:\n    build: {context: ., args: {WORD: built}}\n    command: cat /word\n",
    );
    let folder = project.engine.directory().join("app");
    std::fs::write(folder.join("Dockerfile"), "FROM busybox\nARG WORD\nRUN echo $WORD > /word\n")
        .expect("a file");
    let Some(build) = go(&project, &["build"]) else { return };
    build.exits(0);
    go(&project, &["run", "--rm", "-T", "job"]).expect("it ran a moment ago").exits(0).says("built");
    go(&project, &["down", "--rmi", "local"]).expect("it ran a moment ago").exits(0);
}

/// Every short syntax in one file: both make the same model of it, or its hashes would differ.
fn both_read_a_file_alike() {
    let project = Project::new(include_str!("compose_go_every_syntax.yaml"));
    for arguments in [
        ["config", "--hash", "*"].as_slice(),
        &["config", "--services"],
        &["config", "--networks"],
        &["config", "--volumes"],
    ] {
        let Some(theirs) = go(&project, arguments) else { return };
        let sorted = |outcome: &Outcome| {
            let mut lines: Vec<String> = outcome.ok().lines().map(str::to_owned).collect();
            lines.sort();
            lines
        };
        assert_eq!(sorted(&project.compose(arguments)), sorted(&theirs), "{arguments:?}");
    }
}
