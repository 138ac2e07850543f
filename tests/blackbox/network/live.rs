//! Networks joined and left while a container runs: files, names, ports, and what a crash leaves.

use std::fs;
use std::process::Command;

use ferry_tests::Engine;
use ferry_tests::engine::{kill_process, wait_until};

use super::{SERVE, get, host_port};
use crate::{CLIENTS, Test};

/// The suite.
pub const TESTS: &[Test] = &[
    ("network::connecting_changes_files_and_names", connecting_changes_files_and_names),
    ("network::ports_follow_the_default_route", ports_follow_the_default_route),
    ("network::ports_handed_over_stay_so", ports_handed_over_stay_so),
    ("network::interrupted_connects_leave_nothing", interrupted_connects_leave_nothing),
    ("network::no_address_is_given_twice", no_address_is_given_twice),
    ("network::a_full_network_says_so", a_full_network_says_so),
    ("network::held_namespaces_leave_no_link", held_namespaces_leave_no_link),
];

fn connecting_changes_files_and_names() {
    let engine = Engine::with_busybox();
    engine.ferry(["network", "create", "side"]).exits(0);
    engine.ferry(["run", "-d", "--name", "peer", "--network", "side", "busybox", "sleep", "60"]).exits(0);
    for client in CLIENTS {
        engine.client(client, ["run", "-d", "--name", "box", "-h", "box", "busybox", "sleep", "60"]).exits(0);
        engine.client(client, ["exec", "box", "sh", "-c", "echo '10.9.9.9 mine' >>/etc/hosts"]).exits(0);
        let before = engine.client(client, ["exec", "box", "cat", "/etc/hosts", "/etc/resolv.conf"]);
        engine.client(client, ["network", "connect", "--alias", "alias", "side", "box"]).exits(0);
        let address = engine.inspect("box", "{{.NetworkSettings.Networks.side.IPAddress}}");
        engine
            .client(client, ["exec", "box", "cat", "/etc/hosts"])
            .says(&format!("{address}\tbox"))
            .says("10.9.9.9 mine");
        engine.client(client, ["exec", "box", "cat", "/etc/resolv.conf"]).says("nameserver 127.0.0.11");
        // Both sides know each other by name at once.
        engine.client(client, ["exec", "box", "ping", "-c", "1", "-W", "5", "peer"]).exits(0);
        engine.client(client, ["exec", "peer", "nslookup", "alias"]).says(&address);
        engine.client(client, ["network", "disconnect", "side", "box"]).exits(0);
        let after = engine.client(client, ["exec", "box", "cat", "/etc/hosts", "/etc/resolv.conf"]);
        let lines = |text: &str| {
            let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
            lines.sort();
            lines
        };
        assert_eq!(lines(after.ok()), lines(before.ok()));
        engine.client(client, ["exec", "peer", "nslookup", "alias"]).exits(1);
        engine.client(client, ["network", "disconnect", "side", "box"]).exits(1).complains("not connected");
        engine.client(client, ["rm", "-f", "box"]).exits(0);
    }
}

fn ports_follow_the_default_route() {
    let engine = Engine::with_busybox();
    for name in ["alpha", "beta"] {
        engine.ferry(["network", "create", name]).exits(0);
    }
    let run = [
        "run",
        "-d",
        "--name",
        "web",
        "-h",
        "web",
        "--network",
        "beta",
        "-p",
        "80",
        "busybox",
        "sh",
        "-c",
        SERVE,
    ];
    engine.docker(run).exits(0);
    let port = host_port(&engine, "web", "80");
    let gateway = engine.inspect("web", "{{.NetworkSettings.Networks.beta.Gateway}}");
    let address = format!("{gateway}:{port}");
    wait_until("the server answers", || get(&address).as_deref() == Some("web"));
    engine.docker(["network", "connect", "alpha", "web"]).exits(0);
    assert_eq!(host_port(&engine, "web", "80"), port, "the host's port stays");
    wait_until("it answers on its new route", || get(&address).as_deref() == Some("web"));
    engine.docker(["network", "disconnect", "beta", "web"]).exits(0);
    let address = format!("127.0.0.1:{port}");
    wait_until("it answers without the old network", || get(&address).as_deref() == Some("web"));
}

/// What `compose up` does when it replaces a service's container: the new one takes the ports of the old one
/// while both run, and an engine that starts in between leaves it so.
fn ports_handed_over_stay_so() {
    let engine = Engine::with_busybox();
    for (verb, name) in [("run", "giver"), ("create", "taker")] {
        let flags = if verb == "run" { "-d" } else { "--label a=b" };
        let line = format!("{verb} {flags} --name {name} -h {name} -p 127.0.0.1::80 busybox sh -c");
        engine.ferry(line.split_whitespace().chain([SERVE])).exits(0);
    }
    let address = format!("127.0.0.1:{}", host_port(&engine, "giver", "80"));
    wait_until("the first one answers", || get(&address).as_deref() == Some("giver"));
    let socket = engine.directory().join("ferry.sock");
    let post = |path: &str| {
        let mut command = Command::new("curl");
        command.args(["-sf", "-X", "POST", "--unix-socket"]).arg(&socket).arg(format!("http://ferry{path}"));
        assert!(command.status().expect("curl is installed").success(), "{path}");
    };
    post("/containers/taker/start?ports=later");
    wait_until("the second one serves", || {
        engine.ferry(["exec", "taker", "wget", "-qO-", "127.0.0.1:80"]).stdout.contains("taker")
    });
    post("/ferry/containers/taker/take-ports?from=giver");
    assert_eq!(get(&address).as_deref(), Some("taker"));
    engine.kill("engine");
    engine.ferry(["port", "giver"]).prints("");
    engine.ferry(["port", "taker", "80"]).prints(&address);
    assert_eq!(get(&address).as_deref(), Some("taker"), "after an engine's start too");
    let log = fs::read_to_string(engine.run_root().join("engine.log")).expect("a log");
    assert!(!log.contains("publish a container's ports again"), "{log}");
    // Started anew it asks for ports of its own again.
    engine.ferry(["restart", "-t", "0", "giver"]).exits(0);
    engine.ferry(["port", "giver", "80"]).says("127.0.0.1:");
}

fn interrupted_connects_leave_nothing() {
    const ROUNDS: u64 = 8;
    let engine = Engine::with_busybox();
    engine.ferry(["network", "create", "side"]).exits(0);
    engine.ferry(["run", "-d", "--name", "box", "-h", "box", "busybox", "sleep", "600"]).exits(0);
    for round in 0..ROUNDS {
        let mut connecting = engine.spawn(["network", "connect", "side", "box"]);
        std::thread::sleep(std::time::Duration::from_millis(round * 3));
        let role = if round % 2 == 0 { "engine" } else { "keeper" };
        engine.kill(role);
        let _ = connecting.wait();
        // Connected or not: all witnesses say the same.
        let recorded = engine.inspect("box", "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}");
        let inside = engine.ferry(["exec", "box", "ip", "-o", "-4", "addr"]).ok().to_owned();
        let hosts = engine.ferry(["exec", "box", "cat", "/etc/hosts"]).ok().to_owned();
        let addresses: Vec<&str> = recorded.split_whitespace().collect();
        let wired = inside.lines().filter(|line| line.contains("scope global")).count();
        assert_eq!(wired, addresses.len(), "{recorded}\n{inside}");
        for address in &addresses {
            assert!(
                inside.contains(&format!("{address}/")) && hosts.contains(address),
                "{address}\n{inside}\n{hosts}"
            );
        }
        let own = |line: &&str| line.ends_with("\tbox");
        assert_eq!(hosts.lines().filter(own).count(), addresses.len(), "{hosts}\n{recorded}");
        let _ = engine.ferry(["network", "disconnect", "side", "box"]);
    }
    engine.ferry(["rm", "-f", "box"]).exits(0);
    engine.ferry(["network", "rm", "side"]).exits(0);
}

fn no_address_is_given_twice() {
    const CONTAINERS: usize = 6;
    let engine = Engine::with_busybox();
    engine.ferry(["network", "create", "crowd"]).exits(0);
    for round in 0..CONTAINERS {
        let name = format!("box{round}");
        engine
            .ferry(["run", "-d", "--name", &name, "--network", "crowd", "busybox", "sleep", "600"])
            .exits(0);
        let role = if round % 2 == 0 { "engine" } else { "keeper" };
        kill_process(engine.pid(role));
    }
    let listed = "{{range .Containers}}{{.IPv4Address}}\n{{end}}";
    let mut addresses: Vec<String> =
        engine.ferry(["network", "inspect", "-f", listed, "crowd"]).ok().lines().map(str::to_owned).collect();
    addresses.retain(|address| !address.is_empty());
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), CONTAINERS, "{addresses:?}");
}

fn a_full_network_says_so() {
    let engine = Engine::with_busybox();
    engine.docker(["network", "create", "--subnet", "10.218.0.0/30", "tiny"]).exits(0);
    engine.docker(["run", "-d", "--name", "only", "--network", "tiny", "busybox", "sleep", "60"]).exits(0);
    let records = || fs::read_dir(engine.run_root().join("network/sandboxes")).expect("records").count();
    let before = records();
    for client in CLIENTS {
        engine
            .client(client, ["run", "--rm", "--network", "tiny", "busybox", "true"])
            .exits(125)
            .complains("no available IPv4 addresses on this network's address pools");
    }
    assert_eq!(records(), before);
    engine.docker(["rm", "-f", "only"]).exits(0);
    engine.docker(["run", "--rm", "--network", "tiny", "busybox", "true"]).exits(0);
}

/// A socket that still says goodbye, or a program that looks into a container, keeps its namespace alive.
fn held_namespaces_leave_no_link() {
    let engine = Engine::with_busybox();
    engine.docker(["run", "-d", "--name", "box", "busybox", "sleep", "600"]).exits(0);
    let pid = engine.inspect("box", "{{.State.Pid}}");
    let held = fs::File::open(format!("/proc/{pid}/ns/net")).expect("a namespace");
    // Looks for what an engine that has stopped has left, its links too.
    drop(engine);
    drop(held);
}
