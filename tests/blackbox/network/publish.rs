//! Ports that are published and taken back while a container runs, and how lists show them.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use ferry_tests::Engine;
use ferry_tests::engine::wait_until;

use super::{SERVE, get, host_port};
use crate::{CLIENTS, Test};

/// The suite.
pub const TESTS: &[Test] = &[
    ("network::ports_change_while_running", ports_change_while_running),
    ("network::a_refused_change_of_ports_changes_nothing", a_refused_change_of_ports_changes_nothing),
    ("network::ports_change_over_the_api", ports_change_over_the_api),
    ("network::lists_show_ports_as_docker_does", lists_show_ports_as_docker_does),
    ("network::all_exposed_ports_are_published", all_exposed_ports_are_published),
];

fn ports_change_while_running() {
    let engine = Engine::with_busybox();
    engine.ferry(["run", "-d", "--name", "web", "-h", "web", "busybox", "sh", "-c", SERVE]).exits(0);
    let started = engine.inspect("web", "{{.State.StartedAt}} {{.State.Pid}}");
    engine.ferry(["update", "-p", "80", "-p", "127.0.0.1::80", "web"]).exits(0);
    let lines = engine.ferry(["port", "web", "80"]).ok().to_owned();
    assert_eq!(lines.lines().count(), 3, "both families and loopback: {lines}");
    let everywhere = host_port(&engine, "web", "80");
    let address = format!("127.0.0.1:{everywhere}");
    wait_until("the server answers", || get(&address).as_deref() == Some("web"));
    engine.docker(["port", "web", "80"]).says(&format!("0.0.0.0:{everywhere}"));
    assert_eq!(engine.inspect("web", "{{.State.StartedAt}} {{.State.Pid}}"), started, "it was not restarted");
    // The next engine knows them too, and a restart keeps what was asked for.
    engine.kill("engine");
    engine.ferry(["port", "web", "80"]).says(&format!("0.0.0.0:{everywhere}"));
    engine.ferry(["update", "--publish-rm", &format!("{everywhere}:80"), "web"]).exits(0);
    assert_eq!(get(&address), None, "one binding is taken back");
    let left = engine.ferry(["port", "web", "80"]).ok().to_owned();
    assert!(left.starts_with("127.0.0.1:") && left.lines().count() == 1, "{left}");
    wait_until("the other answers", || get(left.trim()).as_deref() == Some("web"));
    engine.ferry(["restart", "-t", "0", "web"]).exits(0);
    let again = engine.ferry(["port", "web", "80"]).ok().to_owned();
    wait_until("it answers after a restart", || get(again.trim()).as_deref() == Some("web"));
    engine.ferry(["update", "--publish-rm", "80", "web"]).exits(0);
    engine.ferry(["port", "web", "80"]).exits(1).complains("No public port '80/tcp' published for web");
    assert_eq!(get(again.trim()), None);
}

fn a_refused_change_of_ports_changes_nothing() {
    let engine = Engine::with_busybox();
    engine.ferry(["run", "-d", "--name", "other", "-p", "127.0.0.1::80", "busybox", "sleep", "60"]).exits(0);
    let taken = host_port(&engine, "other", "80");
    engine
        .ferry(["run", "-d", "--name", "web", "-h", "web", "-p", "80", "busybox", "sh", "-c", SERVE])
        .exits(0);
    let before = engine.ferry(["port", "web"]).ok().to_owned();
    let clash = format!("127.0.0.1:{taken}:80");
    engine
        .ferry(["update", "--publish-rm", "80", "-p", &clash, "web"])
        .exits(1)
        .complains("port is already allocated")
        .complains("container other");
    engine.ferry(["update", "--publish-rm", "81", "web"]).exits(1).complains("does not publish 81/tcp");
    engine.ferry(["update", "-p", "99999:80", "web"]).complains("99999");
    assert_eq!(engine.ferry(["port", "web"]).ok(), before);
    let address = format!("127.0.0.1:{}", host_port(&engine, "web", "80"));
    wait_until("the server answers as before", || get(&address).as_deref() == Some("web"));
    engine.ferry(["run", "-d", "--name", "alone", "--network", "none", "busybox", "sleep", "60"]).exits(0);
    engine.ferry(["update", "-p", "80", "alone"]).exits(1).complains("its network is none");
}

/// One request over the engine's socket; status and body.
fn post(engine: &Engine, path: &str, body: &str) -> String {
    let socket = engine.host();
    let mut stream = UnixStream::connect(socket.trim_start_matches("unix://")).expect("the engine listens");
    let length = body.len();
    write!(
        stream,
        "POST {path} HTTP/1.0\r\nHost: d\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .expect("the request is taken");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

fn ports_change_over_the_api() {
    let engine = Engine::with_busybox();
    engine.docker(["run", "-d", "--name", "web", "-h", "web", "busybox", "sh", "-c", SERVE]).exits(0);
    let answer =
        post(&engine, "/containers/web/update", r#"{"Publish":{"80/tcp":[{"HostIp":"127.0.0.1"}]}}"#);
    assert!(answer.contains(" 200 "), "{answer}");
    let address = format!("127.0.0.1:{}", host_port(&engine, "web", "80"));
    wait_until("the server answers", || get(&address).as_deref() == Some("web"));
    // Docker's own update leaves ports alone.
    engine.docker(["update", "--restart", "no", "web"]).exits(0);
    assert_eq!(get(&address).as_deref(), Some("web"));
    let answer = post(&engine, "/containers/web/update", r#"{"Unpublish":{"80/tcp":[{}]}}"#);
    assert!(answer.contains(" 200 "), "{answer}");
    assert_eq!(get(&address), None);
    // A container that does not run publishes at its next start.
    engine.docker(["stop", "-t", "0", "web"]).exits(0);
    engine.ferry(["update", "-p", "127.0.0.1::80", "web"]).exits(0);
    engine.docker(["start", "web"]).exits(0);
    let address = format!("127.0.0.1:{}", host_port(&engine, "web", "80"));
    wait_until("the server answers", || get(&address).as_deref() == Some("web"));
}

fn lists_show_ports_as_docker_does() {
    let engine = Engine::with_busybox();
    // Whole ranges are asked for where nothing else of this machine listens.
    let first = free_range(3);
    let range = format!("127.0.0.1:{first}-{}:{first}-{}", first + 2, first + 2);
    let shifted = format!("127.0.0.1::{}/udp", first + 3);
    for (name, flags) in [
        ("plain", &["-p", "80"][..]),
        ("range", &["-p", &range]),
        ("udp", &["-p", &shifted, "--expose", "53/udp", "--expose", "70-72"]),
        ("six", &["-p", "[::1]::80", "-p", "127.0.0.1::81"]),
    ] {
        let run = ["run", "-d", "--name", name];
        engine.docker(run.iter().chain(flags).chain(&["busybox", "sleep", "60"])).exits(0);
    }
    let format = ["ps", "--format", "{{.Names}} {{.Ports}}"];
    let (ours, dockers) = (engine.ferry(format), engine.docker(format));
    assert_eq!(ours.ok(), dockers.ok());
    ours.says(&format!("range 127.0.0.1:{first}-{}->{first}-{}/tcp", first + 2, first + 2));
    ours.says("[::1]:").says("70-72/tcp").says("53/udp");
    for client in CLIENTS {
        let port = host_port(&engine, "six", "80");
        engine.client(client, ["port", "six"]).says(&format!("80/tcp -> [::1]:{port}"));
    }
}

/// The first of some neighbouring ports that nobody listens on, below the range random ones come from.
fn free_range(count: u16) -> u16 {
    let start = 20000 + (std::process::id() % 1000) as u16 * 10;
    let free = |port: u16| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok();
    (start..32000).find(|first| (*first..*first + count).all(free)).expect("free ports")
}

fn all_exposed_ports_are_published() {
    let engine = Engine::with_busybox();
    for client in CLIENTS {
        engine
            .client(
                client,
                [
                    "run",
                    "-d",
                    "--name",
                    "up",
                    "-P",
                    "--expose",
                    "80",
                    "--expose",
                    "90-91/udp",
                    "busybox",
                    "sleep",
                    "60",
                ],
            )
            .exits(0);
        let ports = engine.client(client, ["port", "up"]);
        for port in ["80/tcp -> 0.0.0.0:", "90/udp -> 0.0.0.0:", "91/udp -> [::]:"] {
            ports.says(port);
        }
        engine.client(client, ["rm", "-f", "up"]).exits(0);
    }
}
