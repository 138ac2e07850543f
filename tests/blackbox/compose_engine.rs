//! What the engine does for projects on its own: order and hooks after a reboot, secrets of its store.

use std::fs;

use ferry_tests::Engine;
use ferry_tests::engine::{kill_process, wait_until};

use crate::Test;
use crate::compose::Project;
use crate::survival::parent_of;

/// The suite.
pub const TESTS: &[Test] = &[
    ("compose_engine::order_and_hooks_hold_after_a_reboot", order_and_hooks_hold_after_a_reboot),
    ("compose_engine::hooks_run_after_a_crash", hooks_run_after_a_crash),
    ("compose_engine::secrets_of_the_store", secrets_of_the_store),
    ("compose_engine::external_secrets_and_configs", external_secrets_and_configs),
];

/// `web` says whether the database was ready when it began, its hook and its start leave a line each.
const CHAIN: &str = "services:\n  web:\n    image: busybox\n    init: true\n    restart: always\n    command: sh -c 'test -e /shared/ready && echo ordered || echo early; exec sleep 1000'\n    depends_on: {db: {condition: service_healthy}, job: {condition: service_completed_successfully}}\n    volumes: ['shared:/shared']\n    post_start: [{command: sh -c 'echo $$WORD >> /hooks', environment: [WORD=hook]}]\n  db:\n    image: busybox\n    init: true\n    restart: unless-stopped\n    command: sh -c 'rm -f /shared/ready; sleep 0.5; touch /shared/ready; exec sleep 1000'\n    healthcheck: {test: test -e /shared/ready, interval: 100ms, retries: 100}\n    depends_on: [cache]\n    volumes: ['shared:/shared']\n  cache: {image: busybox, init: true, restart: always, command: sleep 1000}\n  job: {image: busybox, command: 'true'}\nvolumes: {shared: }\n";

/// What a power cut does: every process gone at once, the run directory (a tmpfs) empty.
fn reboot(engine: &Engine, containers: &[&str]) {
    let pids: Vec<i32> = containers
        .iter()
        .map(|name| engine.inspect(name, "{{.State.Pid}}").parse().expect("a pid"))
        .collect();
    engine.engine_command("stop").exits(0);
    for pid in pids {
        kill_process(parent_of(pid));
        kill_process(pid);
    }
    fs::remove_dir_all(engine.run_root()).expect("the run directory goes");
    engine.engine_command("start").exits(0);
}

fn order_and_hooks_hold_after_a_reboot() {
    let project = Project::new(CHAIN);
    project.compose(&["up", "-d"]).exits(0);
    let engine = &project.engine;
    engine.ferry(["logs", "app-web-1"]).prints("ordered");
    reboot(engine, &["app-web-1", "app-db-1", "app-cache-1"]);
    engine.wait_for_status("app-web-1", "running");
    wait_until("its second beginning is in the log", || {
        engine.ferry(["logs", "app-web-1"]).stdout.lines().count() == 2
    });
    engine.ferry(["logs", "app-web-1"]).prints("ordered\nordered");
    let began = |name: &str| engine.inspect(name, "{{.State.StartedAt}}");
    // RFC 3339 in UTC sorts as text.
    assert!(began("app-cache-1") < began("app-db-1"));
    assert!(began("app-db-1") < began("app-web-1"));
    assert_eq!(
        engine.inspect("app-job-1", "{{.State.Status}}"),
        "exited",
        "what is complete is not run again"
    );
    wait_until("the hook ran again", || {
        engine.ferry(["exec", "app-web-1", "cat", "/hooks"]).stdout == "hook\nhook\n"
    });
}

fn hooks_run_after_a_crash() {
    let project = Project::new(CHAIN);
    project.compose(&["up", "-d"]).exits(0);
    let engine = &project.engine;
    engine.ferry(["exec", "app-web-1", "cat", "/hooks"]).prints("hook");
    kill_process(engine.inspect("app-web-1", "{{.State.Pid}}").parse().expect("a pid"));
    wait_until("the hook ran again", || {
        engine.ferry(["exec", "app-web-1", "cat", "/hooks"]).stdout == "hook\nhook\n"
    });
    // Changing the hook is a change of the service.
    project.write(&CHAIN.replace("WORD=hook", "WORD=other"));
    project.compose(&["--dry-run", "up", "-d"]).exits(0).says("post_start");
}

/// Through both clients.
fn secrets_of_the_store() {
    let engine = Engine::with_busybox();
    let id = engine
        .ferry_with_input(["secret", "create", "-l", "a=b", "token", "-"], b"do not tell")
        .ok()
        .to_owned();
    assert_eq!(id.len(), 25);
    let file = engine.directory().join("settings");
    fs::write(&file, "level=3\n").expect("a file");
    engine.docker(["config", "create", "settings", &file.to_string_lossy()]).exits(0);
    for client in crate::CLIENTS {
        engine.client(client, ["secret", "ls", "--format", "{{.Name}} {{.Labels}}"]).prints("token a=b");
        engine.client(client, ["secret", "ls", "-q", "--filter", "name=tok"]).prints(&id);
        let shown = engine.client(client, ["secret", "inspect", "token"]);
        shown.exits(0).says(&id).says("\"a\": \"b\"");
        assert!(!shown.stdout.contains("Data"), "{shown}");
        engine.client(client, ["config", "inspect", "--pretty", "settings"]).exits(0).says("level=3");
        let taken = engine.client(client, ["secret", "create", "token", &file.to_string_lossy()]);
        taken.exits(1).complains("already exists");
        engine.client(client, ["secret", "inspect", "nothing"]).exits(1);
    }
    engine.ferry(["secret", "create", "token"]).exits(1).complains("standard input");
    engine.ferry(["inspect", "-f", "{{.Spec.Name}}", "settings"]).prints("settings");
    engine.docker(["secret", "rm", "token"]).exits(0).prints("token");
    engine.ferry(["config", "rm", "settings"]).exits(0).prints("settings");
    engine.ferry(["secret", "ls", "-q"]).prints("");
}

fn external_secrets_and_configs() {
    let project = Project::new(
        "services:\n  w:\n    image: busybox\n    init: true\n    read_only: true\n    user: '1000'\n    command: sleep 1000\n    secrets: [token, {source: other, target: /deep/place, uid: '1000', gid: '7', mode: 0400}]\n    configs: [settings]\nsecrets:\n  token: {external: true}\n  other: {external: true, name: token}\nconfigs:\n  settings: {external: true}\n",
    );
    let engine = &project.engine;
    let up = project.compose(&["up", "-d"]);
    up.exits(1).complains("secret token not found").complains("ferry secret create token FILE");
    let value = "value-7cf1b0";
    engine.ferry_with_input(["secret", "create", "token", "-"], value.as_bytes()).exits(0);
    engine.ferry_with_input(["config", "create", "settings", "-"], b"level=3").exits(0);
    project.compose(&["up", "-d"]).exits(0);
    let inside = |command: &str| project.compose(&["exec", "-T", "w", "sh", "-c", command]).ok().to_owned();
    assert_eq!(inside("cat /run/secrets/token /deep/place /settings"), format!("{value}{value}level=3"));
    assert_eq!(inside("stat -c '%a %u %g' /run/secrets/token /deep/place"), "444 0 0\n400 1000 7");
    assert!(inside("grep ' /run/secrets/token ' /proc/mounts").contains(" tmpfs "));
    // Nothing tells it: no inspection, no file of the engine.
    assert!(!engine.ferry(["inspect", "app-w-1"]).stdout.contains(value));
    let found =
        std::process::Command::new("grep").args(["-r", "-l", "-a", value]).arg(engine.data_root()).output();
    assert_eq!(String::from_utf8_lossy(&found.expect("grep runs").stdout), "");
    let refused = engine.ferry(["secret", "rm", "token"]);
    refused.exits(1).complains("in use by the following container: app-w-1");
    let before = project.ids();
    project.compose(&["up", "-d"]).exits(0);
    assert_eq!(project.ids(), before, "a second up changes nothing");
    engine.kill("engine");
    engine.ferry(["restart", "-t", "0", "app-w-1"]).exits(0);
    assert_eq!(inside("cat /run/secrets/token"), value);
    project.compose(&["down", "-t", "0"]).exits(0);
    let mounts = fs::read_to_string("/proc/self/mounts").expect("mounts");
    assert!(!mounts.contains(&engine.run_root().display().to_string()), "the memory is given back\n{mounts}");
    engine.ferry(["secret", "rm", "token"]).exits(0);
}
