//! Compose files as people write them, with databases and web programs, through each way to call Compose.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::symlink;
use std::process::Command;
use std::time::Instant;

use ferry_tests::Outcome;
use ferry_tests::engine::patience;

use crate::Test;
use crate::compose::Project;

/// The suite.
pub const TESTS: &[Test] = &[
    ("compose::a_database_and_its_console", a_database_and_its_console),
    ("compose::a_web_program_migrates_and_serves", a_web_program_migrates_and_serves),
    ("compose::the_whole_day_of_docker_compose_1", the_whole_day_of_docker_compose_1),
];

/// `docker-compose` as ferry answers to it by that name, in the project's folder.
pub fn standalone(project: &Project, arguments: &[&str]) -> Outcome {
    let link = project.engine.directory().join("docker-compose");
    let command = project.engine.command(arguments);
    if !link.exists() {
        symlink(command.get_program(), &link).expect("a link to ferry");
    }
    let mut named = Command::new(&link);
    named.args(arguments).current_dir(project.engine.directory().join("app")).env_clear();
    named.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = named.output().expect("docker-compose runs");
    Outcome::new(format!("{named:?}"), &output)
}

/// Tries until it holds.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < patience(), "{what} does not hold");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

fn page(port: &str) -> Option<String> {
    let mut stream = TcpStream::connect(format!("127.0.0.1:{port}")).ok()?;
    stream.write_all(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

fn a_database_and_its_console() {
    let project = Project::with_images(
        &["mariadb", "adminer"],
        "version: '3.1'\n\nservices:\n  db:\n    image: mariadb\n    restart: always\n    environment:\n      MYSQL_ROOT_PASSWORD: example\n  adminer:\n    image: adminer\n    restart: always\n    ports:\n      - 127.0.0.1::8080\n",
    );
    standalone(&project, &["up", "-d"]).exits(0);
    let shown = standalone(&project, &["port", "adminer", "8080"]).ok().to_owned();
    let port = shown.rsplit_once(':').expect("an address").1.trim().to_owned();
    until("adminer's page", || page(&port).is_some_and(|text| text.contains("Adminer")));
    let query = "try { echo (new mysqli('db', 'root', 'example'))->query('select 41 + 1')->fetch_row()[0]; } catch (Throwable $e) { exit(1); }";
    until("the root password", || {
        let asked = standalone(&project, &["exec", "-T", "adminer", "php", "-r", query]);
        asked.code == 0 && asked.stdout.contains("42")
    });
    standalone(&project, &["ps"]).says("app-adminer-1").says("app-db-1");
    standalone(&project, &["images"]).says("mariadb");
    standalone(&project, &["logs", "--tail=5", "db"]).says("db-1");
    standalone(&project, &["top"]).says("mariadbd");
    standalone(&project, &["stop", "-t", "1"]).exits(0);
    standalone(&project, &["ps", "-a"]).says("Exited");
    standalone(&project, &["down", "--rmi", "all", "--volumes"]).exits(0);
    assert_eq!(project.engine.ferry(["ps", "-aq"]).ok(), "");
    assert_eq!(project.engine.ferry(["volume", "ls", "-q"]).ok(), "");
    assert!(!project.engine.ferry(["images"]).ok().contains("mariadb"));
}

const MANAGE: &str = "#!/usr/bin/env python3\nimport http.server, pathlib, sys\nstate = pathlib.Path('/state/migrated')\nif sys.argv[1] == 'migrate':\n    state.write_text('yes')\n    print('Applying all migrations... OK')\nelif not state.exists():\n    sys.exit('run migrate first')\nelse:\n    http.server.HTTPServer(('', 8000), http.server.SimpleHTTPRequestHandler).serve_forever()\n";

fn a_web_program_migrates_and_serves() {
    let project = Project::with_images(
        &["python"],
        "version: '3'\nservices:\n  zuri:\n    build: .\n    ports: ['127.0.0.1::8000']\n    volumes: ['state:/state']\nvolumes:\n  state:\n",
    );
    let folder = project.engine.directory().join("app");
    let dockerfile = "FROM python:3.8\nENV PYTHONUNBUFFERED 1\nWORKDIR /usr/src/app\nCOPY . /usr/src/app\nEXPOSE 8000\nCMD [\"python\", \"manage.py\", \"runserver\"]\n";
    std::fs::write(folder.join("Dockerfile"), dockerfile).expect("a Dockerfile");
    std::fs::write(folder.join("manage.py"), MANAGE).expect("a program");
    standalone(&project, &["build"]).exits(0);
    standalone(&project, &["run", "--rm", "-T", "zuri", "python", "manage.py", "migrate"])
        .exits(0)
        .says("Applying all migrations... OK");
    standalone(&project, &["up", "-d"]).exits(0);
    let shown = standalone(&project, &["port", "zuri", "8000"]).ok().to_owned();
    let port = shown.rsplit_once(':').expect("an address").1.trim().to_owned();
    until("the page", || page(&port).is_some_and(|text| text.contains("manage.py")));
    standalone(&project, &["exec", "-T", "zuri", "python", "-c", "print(6 * 7)"]).prints("42");
    standalone(&project, &["down", "--rmi", "all", "--volumes", "-t", "0"]).exits(0);
    assert_eq!(project.engine.ferry(["volume", "ls", "-q"]).ok(), "");
}

/// docker-compose 1.29 of Debian against ferry's socket, command by command.
fn the_whole_day_of_docker_compose_1() {
    let project = Project::new(
        "version: '3.8'\nservices:\n  web:\n    image: busybox\n    command: sh -c 'mkdir -p /www; echo hi > /www/index.html; exec httpd -f -p 80 -h /www'\n    init: true\n    ports: ['80']\n    depends_on: [cache]\n    volumes: ['data:/data', '/anonymous']\n  cache: {image: busybox, command: sleep 1000, init: true}\nvolumes: {data: {}}\n",
    );
    let Some(up) = project.docker_compose(&["up", "-d", "--scale", "web=2"]) else { return };
    up.exits(0);
    let run = |arguments: &[&str]| project.docker_compose(arguments).expect("it ran a moment ago");
    run(&["ps"]).exits(0).says("app_web_1").says("app_web_2");
    run(&["port", "--index", "2", "web", "80"]).exits(0);
    run(&["exec", "-T", "web", "cat", "/www/index.html"]).prints("hi");
    run(&["run", "--rm", "-T", "cache", "sh", "-c", "exit 3"]).exits(3);
    run(&["up", "-d", "--scale", "web=1"]).exits(0);
    for command in [
        &["restart", "-t", "0"][..],
        &["pause", "cache"],
        &["unpause", "cache"],
        &["stop", "-t", "0"],
        &["start"],
        &["kill", "cache"],
        &["rm", "-f", "cache"],
        &["up", "-d"],
        &["up", "-d", "--force-recreate", "-t", "0"],
    ] {
        run(command).exits(0);
    }
    run(&["images"]).exits(0).says("busybox");
    run(&["top"]).exits(0).says("httpd");
    run(&["logs", "--tail", "2"]).exits(0);
    let events = run(&["config", "--services"]);
    events.prints("cache\nweb");
    run(&["down", "-v", "-t", "0"]).exits(0);
    assert_eq!(project.ids(), "");
}
