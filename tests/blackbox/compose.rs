//! Projects of several containers, through `ferry compose` and through docker-compose 1.29.

use std::fs;
use std::process::Command;

use ferry_tests::{Engine, Outcome};

use crate::Test;

/// The suite.
pub const TESTS: &[Test] = &[
    ("compose::up_is_idempotent_and_down_leaves_nothing", up_is_idempotent_and_down_leaves_nothing),
    ("compose::dependencies_are_waited_for", dependencies_are_waited_for),
    ("compose::a_change_recreates_with_its_reason", a_change_recreates_with_its_reason),
    ("compose::scales_up_and_down", scales_up_and_down),
    ("compose::run_and_exec_give_the_code", run_and_exec_give_the_code),
    ("compose::a_failing_dependency_is_reported", a_failing_dependency_is_reported),
    ("compose::the_code_of_the_container_that_ends", the_code_of_the_container_that_ends),
    ("compose::anonymous_volumes_survive_recreation", anonymous_volumes_survive_recreation),
    ("compose::takes_over_from_docker_compose", takes_over_from_docker_compose),
    ("compose::a_flattened_file_is_explained", a_flattened_file_is_explained),
];

/// A project in a folder of the engine's own.
pub struct Project {
    pub engine: Engine,
}

impl Project {
    pub fn new(text: &str) -> Self {
        Self::with_images(&["busybox"], text)
    }

    pub fn with_images(images: &[&str], text: &str) -> Self {
        let project = Project { engine: Engine::with_images(images) };
        project.write(text);
        project
    }

    pub fn path(&self) -> String {
        self.engine.directory().join("app/compose.yaml").to_string_lossy().into_owned()
    }

    pub fn write(&self, text: &str) {
        fs::create_dir_all(self.engine.directory().join("app")).expect("a folder for the project");
        fs::write(self.path(), text).expect("the Compose file is written");
    }

    pub fn compose(&self, arguments: &[&str]) -> Outcome {
        let path = self.path();
        self.engine.ferry(["compose", "-f", path.as_str()].iter().chain(arguments))
    }

    /// docker-compose 1.29 as Debian ships it.
    pub fn docker_compose(&self, arguments: &[&str]) -> Option<Outcome> {
        let mut command = Command::new("/usr/bin/docker-compose");
        command.args(["-f", &self.path()]).args(arguments);
        command.env("DOCKER_HOST", self.engine.host());
        match command.output() {
            Ok(output) => Some(Outcome::new(format!("{command:?}"), &output)),
            Err(_) => {
                eprintln!("SKIPPED: /usr/bin/docker-compose is not installed");
                None
            }
        }
    }

    pub fn ids(&self) -> String {
        self.compose(&["ps", "-aq"]).ok().to_owned()
    }
}

const TWO: &str = "services:\n  web: {image: busybox, command: sleep 1000, init: true, depends_on: [db], volumes: ['data:/data']}\n  db: {image: busybox, command: sleep 1000, init: true}\nvolumes: {data: }\n";

fn up_is_idempotent_and_down_leaves_nothing() {
    let project = Project::new(TWO);
    let _ = project.compose(&["up", "-d"]).ok();
    let before = project.ids();
    assert_eq!(before.lines().count(), 2);
    project.compose(&["up", "-d"]).exits(0);
    assert_eq!(project.ids(), before, "the second up changes nothing");
    project.compose(&["diff"]).exits(0).says("container app-web-1  unchanged");
    project.compose(&["ps", "--services"]).prints("db\nweb");
    project.compose(&["exec", "-T", "web", "nslookup", "db"]).exits(0);
    project.compose(&["down", "--volumes"]).exits(0);
    assert_eq!(project.engine.ferry(["ps", "-aq"]).ok(), "");
    assert_eq!(project.engine.ferry(["volume", "ls", "-q"]).ok(), "");
    project.engine.ferry(["network", "ls", "--format", "{{.Name}}"]).says("bridge");
    assert!(!project.engine.ferry(["network", "ls"]).ok().contains("app_default"));
}

fn dependencies_are_waited_for() {
    let project = Project::new(
        "services:\n  web: {image: busybox, command: sleep 1000, init: true, depends_on: {db: {condition: service_healthy}, init: {condition: service_completed_successfully}}}\n  db: {image: busybox, command: 'sh -c \"sleep 0.5; touch /ready; exec sleep 1000\"', init: true, healthcheck: {test: test -e /ready, interval: 100ms, retries: 100}}\n  init: {image: busybox, command: sleep 0.3}\n",
    );
    let _ = project.compose(&["up", "-d"]).ok();
    let at = |name: &str, field: &str| project.engine.inspect(name, &format!("{{{{.State.{field}}}}}"));
    assert_eq!(at("app-db-1", "Health.Status"), "healthy");
    assert_eq!(at("app-init-1", "ExitCode"), "0");
    // RFC 3339 in UTC sorts as text.
    assert!(at("app-web-1", "StartedAt") > at("app-init-1", "FinishedAt"));
}

fn a_change_recreates_with_its_reason() {
    let project = Project::new(TWO);
    let _ = project.compose(&["up", "-d"]).ok();
    let before = project.compose(&["ps", "-q", "db"]).ok().to_owned();
    project.write(&TWO.replace("web: {image: busybox", "web: {environment: {MODE: new}, image: busybox"));
    project.compose(&["--dry-run", "up", "-d"]).exits(0).says("(environment.MODE: (none) -> new)");
    project.compose(&["why", "web"]).says("environment.MODE: (none) -> new");
    let _ = project.compose(&["up", "-d"]).ok();
    project.compose(&["exec", "-T", "web", "sh", "-c", "echo $MODE"]).prints("new");
    assert_eq!(project.compose(&["ps", "-q", "db"]).ok(), before, "db did not change");
}

fn scales_up_and_down() {
    let project = Project::new(TWO);
    let _ = project.compose(&["up", "-d", "--scale", "web=3"]).ok();
    assert_eq!(project.compose(&["ps", "-q", "web"]).ok().lines().count(), 3);
    let _ = project.compose(&["up", "-d", "--scale", "web=1"]).ok();
    project.compose(&["ps", "--format", "{{.Name}}", "web"]).prints("app-web-1");
    let id = project.compose(&["ps", "-q", "web"]).ok().to_owned();
    project
        .compose(&["up", "-d", "--scale", &format!("{}=3", &id[..12])])
        .exits(1)
        .complains("its service is \"web\"");
}

fn run_and_exec_give_the_code() {
    let project = Project::new(TWO);
    project.compose(&["run", "--rm", "-T", "web", "sh", "-c", "echo once; exit 3"]).exits(3).says("once");
    project.compose(&["exec", "-T", "db", "sh", "-c", "exit 4"]).exits(4);
    assert_eq!(project.compose(&["ps", "-aq", "web"]).ok(), "", "--rm leaves nothing");
}

fn a_failing_dependency_is_reported() {
    let project = Project::new(
        "services:\n  web: {image: busybox, command: sleep 1000, depends_on: {db: {condition: service_healthy}}}\n  db: {image: busybox, command: 'sh -c \"echo last words; exec sleep 1000\"', init: true, healthcheck: {test: 'echo not ready; false', interval: 50ms, retries: 2}}\n",
    );
    project
        .compose(&["up", "-d"])
        .exits(1)
        .complains("container app-db-1 is unhealthy (needed through web -> db)")
        .complains("not ready")
        .complains("last words");
}

fn the_code_of_the_container_that_ends() {
    let project = Project::new(
        "services:\n  job: {image: busybox, command: 'sh -c \"echo working; exit 5\"'}\n  side: {image: busybox, command: sleep 1000, init: true}\n",
    );
    project.compose(&["up", "--exit-code-from", "job"]).exits(5).says("job-1").says("working");
}

fn anonymous_volumes_survive_recreation() {
    let project = Project::new(
        "services:\n  web: {image: busybox, command: sleep 1000, init: true, volumes: [/keep]}\n",
    );
    let _ = project.compose(&["up", "-d"]).ok();
    project.compose(&["exec", "-T", "web", "sh", "-c", "echo kept > /keep/file"]).exits(0);
    let _ = project.compose(&["up", "-d", "--force-recreate"]).ok();
    project.compose(&["exec", "-T", "web", "cat", "/keep/file"]).prints("kept");
    let _ = project.compose(&["up", "-d", "--force-recreate", "-V"]).ok();
    project.compose(&["exec", "-T", "web", "cat", "/keep/file"]).exits(1);
}

fn takes_over_from_docker_compose() {
    let project = Project::new(&format!("version: '3.1'\n{}", TWO.replace(", init: true", "")));
    let Some(up) = project.docker_compose(&["up", "-d"]) else { return };
    up.exits(0);
    let before = project.ids();
    assert_eq!(before.lines().count(), 2);
    project.compose(&["up", "-d", "-t", "0"]).exits(0);
    assert_eq!(project.ids(), before, "nothing differs, nothing is recreated");
    project.compose(&["down", "-v", "-t", "0"]).exits(0);
    let _ = project.compose(&["--compatibility", "up", "-d"]).ok();
    let Some(listed) = project.docker_compose(&["ps"]) else { return };
    listed.exits(0).says("app_web_1").says("app_db_1");
    let Some(down) = project.docker_compose(&["down", "-v", "-t", "0"]) else { return };
    down.exits(0);
    assert_eq!(project.ids(), "");
}

fn a_flattened_file_is_explained() {
    let project = Project::new(
        "version: '3.1'\nservices:\ndb:\nimage: mariadb\nenvironment:\nMYSQL\\_ROOT\\_PASSWORD: example\nports:\n\\- 8080:8080\n",
    );
    project
        .compose(&["up", "-d"])
        .exits(1)
        .complains("compose.yaml:3:1")
        .complains("      MYSQL_ROOT_PASSWORD: example")
        .complains("      - 8080:8080");
}
