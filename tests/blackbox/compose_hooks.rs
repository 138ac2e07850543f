//! Hooks and providers where a single command is run, replicas that prepare themselves, and plans that are only told.

use crate::Test;
use crate::compose::Project;

/// The suite.
pub const TESTS: &[Test] = &[
    ("compose_hooks::run_prepares_as_up_does", run_prepares_as_up_does),
    ("compose_hooks::each_replica_prepares_itself", each_replica_prepares_itself),
    ("compose_hooks::dry_run_behind_the_command", dry_run_behind_the_command),
];

fn run_prepares_as_up_does() {
    use std::os::unix::fs::PermissionsExt as _;
    let text = "services:\n  web:\n    image: busybox\n    init: true\n    command: sleep 1000\n    depends_on: [my-db]\n    \
                volumes: ['data:/data']\n    pre_start: [{command: sh -c 'echo prepared >> /data/lines'}]\n  \
                my-db: {provider: {type: ./cloud}}\nvolumes: {data: }\n";
    let project = Project::new(text);
    let program = project.engine.directory().join("app/cloud");
    let script = "#!/bin/sh\necho \"$3 $4\" >> calls\necho '{\"type\": \"setenv\", \"message\": \"URL=db://there\"}'\n";
    std::fs::write(&program, script).expect("a program");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("made executable");
    let run = |script: &str| project.compose(&["run", "--rm", "-T", "web", "sh", "-c", script]);
    run("echo $MY_DB_URL; cat /data/lines").prints("db://there\nprepared");
    // Containers of `run` are none of the service's; once those are there, all is prepared.
    project.compose(&["up", "-d"]).exits(0);
    run("cat /data/lines").prints("prepared\nprepared");
    run("cat /data/lines").prints("prepared\nprepared");
    project.compose(&["run", "--rm", "-T", "--no-deps", "web", "cat", "/data/lines"]).exits(0);
    let calls = std::fs::read_to_string(project.engine.directory().join("app/calls")).expect("calls");
    assert_eq!(calls.lines().count(), 4, "without its dependencies nobody is asked: {calls}");
    project.compose(&["down", "-t", "0"]).exits(0);
    let broken = text.replace("echo prepared", "exit 4; echo");
    project.write(&broken);
    run("true").exits(1).complains("pre_start hook of service \"web\" exited with 4");
    // The hook's container stays for a look at it, until `down`; that of the command does not.
    let left = project.engine.ferry(["ps", "-a", "--filter", "name=web", "--format", "{{.Names}}"]);
    left.prints("app-web-pre_start-1");
    project.compose(&["down", "-t", "0"]).exits(0);
    project.engine.ferry(["ps", "-aq"]).prints("");
}

fn each_replica_prepares_itself() {
    let text = "services:\n  web:\n    image: busybox\n    init: true\n    command: sleep 1000\n    scale: 2\n    \
                volumes: ['data:/data']\n    pre_start:\n    - command: sh -c 'echo once >> /data/lines'\n    \
                - {command: sh -c 'echo each >> /data/lines', per_replica: true}\nvolumes: {data: }\n";
    let project = Project::new(text);
    let lines = || {
        let all = project.compose(&["exec", "-T", "web", "sort", "/data/lines"]).ok().to_owned();
        (all.matches("once").count(), all.matches("each").count())
    };
    project.compose(&["up", "-d"]).exits(0);
    assert_eq!(lines(), (1, 2));
    project.compose(&["up", "-d", "--scale", "web=3"]).exits(0);
    assert_eq!(lines(), (1, 3), "the new replica alone");
    project.compose(&["stop", "-t", "0"]).exits(0);
    project.compose(&["up", "-d", "--scale", "web=3"]).exits(0);
    assert_eq!(lines(), (1, 3), "nobody starts for the first time");
    project.compose(&["up", "-d", "--force-recreate", "-t", "0"]).exits(0);
    assert_eq!(lines(), (2, 5));
}

fn dry_run_behind_the_command() {
    let project = Project::new("services:\n  web: {image: busybox, init: true, command: sleep 1000}\n");
    project.compose(&["up", "-d", "--dry-run"]).exits(0).says("container app-web-1  start");
    assert_eq!(project.ids(), "");
    project.compose(&["up", "-d"]).exits(0);
    let before = project.ids();
    project.compose(&["down", "--dry-run", "-t", "0"]).exits(0);
    assert_eq!(project.ids(), before);
    // What stands behind the service is the container's.
    project.compose(&["exec", "-T", "web", "echo", "--dry-run"]).prints("--dry-run");
    project.compose(&["exec", "--dry-run", "web", "true"]).exits(1).complains("cannot be combined");
    project.compose(&["up", "--help"]).exits(0).says("--dry-run");
}
