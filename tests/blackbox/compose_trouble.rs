//! What goes wrong on `up`, told once with what to do; and version 1's own options.

use std::net::TcpListener;

use crate::Test;
use crate::compose::Project;
use crate::compose_apps::standalone;

/// The suite.
pub const TESTS: &[Test] = &[
    ("compose::trouble_is_told_once", trouble_is_told_once),
    ("compose::a_taken_port_names_who_has_it", a_taken_port_names_who_has_it),
    ("compose::options_of_version_1", options_of_version_1),
];

fn trouble_is_told_once() {
    let project = Project::new("services: {}\n");
    for (text, reasons) in [
        // The registry that is named is not there, so that nothing outside is asked.
        ("services: {w: {image: '127.0.0.1:1/none:1'}}\n", &["127.0.0.1:1/none:1"][..]),
        (
            "services: {w: {image: busybox, pull_policy: never, command: 'true'}, x: {image: nowhere, pull_policy: never}}\n",
            &["nowhere"],
        ),
        ("services: {w: {image: busybox, secrets: [s]}}\n", &["undefined secret s"]),
        ("services: {w: {image: busybox, secrets: [s]}}\nsecrets: {s: {file: ./none.txt}}\n", &["none.txt"]),
        (
            "services: {w: {image: busybox, secrets: [s]}}\nsecrets: {s: {environment: NOT_SET_HERE}}\n",
            &["NOT_SET_HERE"],
        ),
        ("services: {w: {image: busybox, secrets: [s]}}\nsecrets: {s: {external: true}}\n", &["s"]),
        ("services: {w: {image: busybox, configs: [c]}}\nconfigs: {c: {file: ./none.txt}}\n", &["none.txt"]),
        (
            "services: {w: {image: busybox, networks: [n]}}\nnetworks: {n: {external: true}}\n",
            &["network", "n"],
        ),
        (
            "services: {w: {image: busybox, volumes: ['v:/v']}}\nvolumes: {v: {external: true}}\n",
            &["volume", "v"],
        ),
        ("services: {w: {build: ./missing}}\n", &["missing"]),
        ("services: {w: {image: busybox, command: ['nosuchprogram']}}\n", &["nosuchprogram"]),
    ] {
        project.write(text);
        let up = project.compose(&["up", "-d"]);
        assert_eq!(up.code, 1, "{text}{up}");
        for reason in reasons {
            up.complains(reason);
        }
        assert_eq!(up.stderr.matches("error:").count(), 1, "{text}{up}");
        project.compose(&["down", "-t", "0"]);
    }
}

fn a_taken_port_names_who_has_it() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port();
    let service =
        |ports: &str| format!("{{image: busybox, init: true, command: sleep 1000, ports: ['{ports}']}}");
    let project = Project::new(&format!("services: {{w: {}}}\n", service(&format!("127.0.0.1:{port}:80"))));
    let up = project.compose(&["up", "-d"]);
    up.exits(1).complains(&port.to_string());
    assert_eq!(up.stderr.matches("error:").count(), 1, "{up}");
    drop(taken);
    project.compose(&["up", "-d"]).exits(0);
    // Another project's container has it now.
    let other = ["compose", "-p", "other", "-f", &project.path(), "up", "-d"];
    let up = project.engine.ferry(other);
    up.exits(1).complains("app-w-1").complains(&port.to_string());
    assert_eq!(up.stderr.matches("error:").count(), 1, "{up}");
    project.engine.ferry(["compose", "-p", "other", "-f", &project.path(), "down", "-t", "0"]).exits(0);
}

fn options_of_version_1() {
    let project =
        Project::new("version: '3'\nservices:\n  web: {image: busybox, init: true, command: sleep 1000}\n");
    let run = |arguments: &[&str]| standalone(&project, arguments);
    let host = project.engine.host().to_owned();
    for arguments in
        [&["-h"][..], &["--help"], &["help"], &["help", "up"], &["up", "--help"], &["scale", "-h"]]
    {
        run(arguments).exits(0).says("docker-compose");
    }
    for arguments in [&["-v"][..], &["--version"], &["version"], &["version", "--short"]] {
        run(arguments).exits(0).says("2.");
    }
    run(&["--verbose", "--no-ansi", "-H", &host, "up", "-d"]).exits(0);
    run(&["--no-ansi", "--skip-hostname-check", "scale", "web=2"]).exits(0);
    run(&["--host", &host, "ps", "-q"]).exits(0);
    let names = run(&["ps", "--format", "{{.Name}}"]);
    names.exits(0).says("app-web-1").says("app-web-2");
    let file = project.path();
    let folder = project.engine.directory().join("app").display().to_string();
    run(&["-f", &file, "--project-directory", &folder, "-p", "app", "ps", "--services"]).prints("web");
    run(&["down", "-t", "0"]).exits(0);
    run(&["--compatibility", "up", "-d"]).exits(0);
    run(&["ps", "--format", "{{.Name}}"]).prints("app_web_1");
    // Without the option the containers of version 1 are taken over as they are.
    run(&["up", "-d"]).exits(0);
    run(&["ps", "--format", "{{.Name}}"]).prints("app_web_1");
    run(&["bundle", "--help"]).exits(0).says("--push-images");
    run(&["down", "-t", "0"]).exits(0);
}
