//! Each command of Compose once, by what it prints and does.

use ferry_tests::registry::{Access, Registry};

use crate::Test;
use crate::compose::Project;

/// The suite.
pub const TESTS: &[Test] = &[
    ("compose::commands_that_look", commands_that_look),
    ("compose::commands_that_act", commands_that_act),
    ("compose::commands_that_copy", commands_that_copy),
    ("compose::commands_that_travel", commands_that_travel),
    ("compose::bad_files_get_one_diagnostic", bad_files_get_one_diagnostic),
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

/// `push`, `pull`, and version 1's `bundle`, which names images by the digests that a push gives them.
fn commands_that_travel() {
    let registry = Registry::start(&Access::Open);
    let image = format!("{}/travel/app:one", registry.address);
    let project = Project::new(&format!(
        "services:\n  web: {{build: ., image: '{image}', command: sleep 1000, ports: ['80']}}\n"
    ));
    let app = project.engine.directory().join("app");
    std::fs::write(app.join("Dockerfile"), "FROM busybox\nRUN echo made > /made\n").expect("a file");
    project.compose(&["build", "-q"]).exits(0);
    project.compose(&["push"]).exits(0);
    let bundle = app.join("app.dab");
    project.compose(&["bundle", "-o", &bundle.to_string_lossy()]).exits(0);
    let written = std::fs::read_to_string(bundle).expect("a bundle");
    let (name, _) = image.rsplit_once(':').expect("a tag");
    assert!(written.contains(&format!("\"Image\": \"{name}@sha256:")), "{written}");
    project.engine.ferry(["rmi", &image]).exits(0);
    project.compose(&["pull", "--ignore-buildable"]).exits(0);
    assert!(!project.engine.ferry(["images"]).ok().contains("travel/app"), "what can be built is left out");
    project.compose(&["pull"]).exits(0);
    project.compose(&["run", "--rm", "-T", "web", "cat", "/made"]).prints("made");
    project.compose(&["help", "up"]).exits(0).says("--force-recreate");
}

/// What would take for ever or fill the memory ends at once, with its place.
fn bad_files_get_one_diagnostic() {
    let project = Project::new("services: {}\n");
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..10 {
        let below = format!("*a{}", level - 1);
        bomb.push_str(&format!("a{level}: &a{level} [{}]\n", vec![below; 10].join(", ")));
    }
    bomb.push_str("services: {w: {image: busybox, command: *a9}}\n");
    let large = format!("services: {{w: {{image: busybox}}}}\n#{}\n", "x".repeat(11 << 20));
    for (text, reason) in [
        (bomb.as_str(), "alias"),
        (large.as_str(), "larger than"),
        ("services:\n  a: {image: x, depends_on: [a]}\n", "cycle"),
        ("services:\n  a: {image: x, mem_limit: 3 elephants}\n", "elephants"),
        ("services:\n  a: {image: x, comand: y}\n", "did you mean"),
    ] {
        project.write(text);
        let start = std::time::Instant::now();
        let refused = project.compose(&["config"]);
        refused.exits(1).complains(reason);
        assert_eq!(refused.stderr.matches("error:").count(), 1, "{refused}");
        assert!(start.elapsed() < ferry_tests::engine::patience() / 3, "{reason} took long");
    }
}
