//! Networks, published ports and names, through ferry and through the stock docker client.

pub mod dns;
pub mod drivers;
pub mod egress;
pub mod flags;
pub mod live;
pub mod outside;
pub mod publish;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use ferry_tests::Engine;
use ferry_tests::engine::wait_until;
use ferry_tests::host::Host;

use crate::{CLIENTS, Test};

/// The suite.
pub const TESTS: &[Test] = &[
    ("network::published_ports_answer", published_ports_answer),
    ("network::a_taken_port_names_its_holder", a_taken_port_names_its_holder),
    ("network::names_resolve_on_user_networks", names_resolve_on_user_networks),
    ("network::fixed_addresses_and_subnets", fixed_addresses_and_subnets),
    ("network::connected_and_disconnected_live", connected_and_disconnected_live),
    ("network::an_internal_network_leads_nowhere", an_internal_network_leads_nowhere),
    ("network::bad_requests_change_nothing", bad_requests_change_nothing),
    ("network::files_in_etc", files_in_etc),
    ("network::traffic_outlives_engine_and_keeper", traffic_outlives_engine_and_keeper),
    ("network::rounds_leave_nothing", rounds_leave_nothing),
];

/// A web server that says its own name.
const SERVE: &str = "mkdir -p /www; hostname >/www/index.html; exec httpd -f -p 80 -h /www";

/// What an HTTP server answers; nothing when it cannot be reached.
fn get(address: &str) -> Option<String> {
    let address: SocketAddr = address.parse().expect("an address");
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.rsplit_once("\r\n\r\n").map(|(_, body)| body.trim().to_owned())
}

fn host_port(engine: &Engine, name: &str, port: &str) -> u16 {
    let lines = engine.ferry(["port", name, port]);
    let line = lines.ok().lines().next().expect("a binding").to_owned();
    line.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).expect("a port")
}

fn published_ports_answer() {
    let engine = Engine::with_busybox();
    for client in CLIENTS {
        let name = format!("web-{client}");
        engine
            .client(
                client,
                ["run", "-d", "--name", &name, "-h", &name, "-p", "80", "busybox", "sh", "-c", SERVE],
            )
            .exits(0);
        let port = host_port(&engine, &name, "80");
        for address in [format!("127.0.0.1:{port}"), format!("[::1]:{port}")] {
            wait_until("the server answers", || get(&address).as_deref() == Some(name.as_str()));
        }
        let format = "{{range .NetworkSettings.Networks}}{{.Gateway}}{{end}}";
        let gateway = engine.inspect(&name, format);
        assert_eq!(get(&format!("{gateway}:{port}")), Some(name.clone()), "through the host's address");
        engine.client(client, ["ps", "--format", "{{.Ports}}"]).says(&format!("0.0.0.0:{port}->80/tcp"));
        engine.client(client, ["rm", "-f", &name]).exits(0);
        assert_eq!(get(&format!("127.0.0.1:{port}")), None, "gone with the container");
    }
}

fn a_taken_port_names_its_holder() {
    let engine = Engine::with_busybox();
    engine.ferry(["run", "-d", "--name", "first", "-p", "127.0.0.1::80", "busybox", "sleep", "60"]).exits(0);
    let port = host_port(&engine, "first", "80");
    let publish = format!("127.0.0.1:{port}:80");
    for client in CLIENTS {
        engine
            .client(client, ["run", "-d", "--name", "second", "-p", &publish, "busybox", "sleep", "60"])
            .exits(125)
            .complains("port is already allocated")
            .complains("container first");
        let _ = engine.client(client, ["rm", "-f", "second"]);
    }
}

fn names_resolve_on_user_networks() {
    let engine = Engine::with_busybox();
    for client in CLIENTS {
        engine.client(client, ["network", "create", "shop"]).exits(0);
        engine
            .client(
                client,
                [
                    "run",
                    "-d",
                    "--name",
                    "db",
                    "--network",
                    "shop",
                    "--network-alias",
                    "store",
                    "busybox",
                    "sleep",
                    "60",
                ],
            )
            .exits(0);
        let address = engine.inspect("db", "{{.NetworkSettings.Networks.shop.IPAddress}}");
        for name in ["db", "store", "db.shop"] {
            engine
                .client(client, ["run", "--rm", "--network", "shop", "busybox", "nslookup", name])
                .says(&address);
        }
        engine
            .client(client, ["run", "--rm", "--network", "shop", "busybox", "cat", "/etc/resolv.conf"])
            .says("127.0.0.11");
        engine.client(client, ["network", "rm", "shop"]).exits(1).complains("has active endpoints");
        engine.client(client, ["rm", "-f", "db"]).exits(0);
        engine.client(client, ["network", "rm", "shop"]).exits(0);
    }
}

fn fixed_addresses_and_subnets() {
    let engine = Engine::with_busybox();
    engine
        .docker([
            "network",
            "create",
            "--subnet",
            "10.211.7.0/24",
            "--gateway",
            "10.211.7.254",
            "--ipv6",
            "fixed",
        ])
        .exits(0);
    engine
        .docker([
            "run",
            "--rm",
            "--network",
            "fixed",
            "--ip",
            "10.211.7.9",
            "--mac-address",
            "02:42:00:00:00:99",
            "busybox",
            "ip",
            "addr",
            "show",
            "eth0",
        ])
        .says("10.211.7.9/24")
        .says("02:42:00:00:00:99")
        .says("inet6 fd");
    engine
        .docker(["run", "--rm", "--network", "fixed", "busybox", "ip", "route"])
        .says("default via 10.211.7.254");
    engine
        .docker(["run", "--rm", "--network", "fixed", "--ip", "10.9.9.9", "busybox", "true"])
        .exits(125)
        .complains("no configured subnet or ip-range contain the IP address 10.9.9.9");
    engine
        .docker(["network", "create", "--subnet", "10.211.7.128/25", "other"])
        .exits(1)
        .complains("Pool overlaps with other one on this address space");
    engine.docker(["network", "rm", "fixed"]).exits(0);
}

fn connected_and_disconnected_live() {
    let engine = Engine::with_busybox();
    for client in CLIENTS {
        engine.client(client, ["network", "create", "side"]).exits(0);
        engine.client(client, ["run", "-d", "--name", "box", "busybox", "sleep", "60"]).exits(0);
        engine.client(client, ["network", "connect", "--alias", "other", "side", "box"]).exits(0);
        engine.client(client, ["exec", "box", "ip", "-o", "-4", "addr"]).says("eth0").says("eth1");
        engine.client(client, ["exec", "box", "nslookup", "other", "127.0.0.11"]).exits(0);
        engine.client(client, ["network", "disconnect", "side", "box"]).exits(0);
        let addresses = engine.client(client, ["exec", "box", "ip", "-o", "-4", "addr"]);
        assert!(!addresses.ok().contains("eth1"));
        engine.client(client, ["rm", "-f", "box"]).exits(0);
        engine.client(client, ["network", "rm", "side"]).exits(0);
    }
}

fn an_internal_network_leads_nowhere() {
    let engine = Engine::with_busybox();
    engine.docker(["network", "create", "--internal", "inside"]).exits(0);
    let routes = engine.docker(["run", "--rm", "--network", "inside", "busybox", "ip", "route"]);
    assert!(!routes.ok().contains("default"));
    engine.docker(["network", "rm", "inside"]).exits(0);
}

fn bad_requests_change_nothing() {
    let engine = Engine::with_busybox();
    let before = engine.docker(["network", "ls", "-q"]).ok().to_owned();
    for (arguments, complaint) in [
        (&["network", "create", "bridge"][..], "predefined"),
        (&["network", "create", "a/b"], "invalid network name"),
        (&["network", "create", "--subnet", "10.0.0.0/33", "x"], "CIDR"),
        (&["network", "create", "--driver", "nonsense", "x"], "plugin not found"),
        (&["network", "create", "-o", "com.docker.network.driver.mtu=1", "x"], "68 to 65535"),
        (
            &["network", "create", "--subnet", "10.1.0.0/24", "--gateway", "10.2.0.1", "x"],
            "no matching subnet for gateway",
        ),
        (&["network", "rm", "bridge"], "pre-defined"),
        (&["run", "--rm", "--network", "nowhere", "busybox", "true"], "network nowhere not found"),
    ] {
        engine.docker(arguments).complains(complaint);
    }
    assert_eq!(engine.docker(["network", "ls", "-q"]).ok(), before);
}

fn files_in_etc() {
    let engine = Engine::with_busybox();
    engine
        .docker([
            "run",
            "--rm",
            "-h",
            "harbour",
            "--domainname",
            "example.org",
            "--add-host",
            "db:10.9.9.9",
            "--add-host",
            "host.docker.internal:host-gateway",
            "busybox",
            "cat",
            "/etc/hosts",
        ])
        .says("harbour.example.org harbour")
        .says("10.9.9.9\tdb")
        .says("host.docker.internal");
}

fn traffic_outlives_engine_and_keeper() {
    let engine = Engine::with_busybox();
    engine.docker(["network", "create", "front"]).exits(0);
    engine
        .docker([
            "run",
            "-d",
            "--name",
            "web",
            "-h",
            "web",
            "--network",
            "front",
            "-p",
            "80",
            "busybox",
            "sh",
            "-c",
            SERVE,
        ])
        .exits(0);
    let address = format!("127.0.0.1:{}", host_port(&engine, "web", "80"));
    wait_until("the server answers", || get(&address).as_deref() == Some("web"));
    engine.kill("engine");
    assert_eq!(get(&address).as_deref(), Some("web"), "while the engine is away");
    let ip = engine.inspect("web", "{{.NetworkSettings.Networks.front.IPAddress}}");
    engine.docker(["run", "-d", "--name", "second", "--network", "front", "busybox", "sleep", "60"]).exits(0);
    assert_ne!(engine.inspect("second", "{{.NetworkSettings.Networks.front.IPAddress}}"), ip);
    engine.kill("keeper");
    wait_until("the new keeper serves", || get(&address).as_deref() == Some("web"));
    engine.docker(["exec", "second", "nslookup", "web", "127.0.0.11"]).says(&ip);
    engine.docker(["rm", "-f", "web", "second"]).exits(0);
    assert_eq!(get(&address), None);
}

/// `FERRY_TEST_ROUNDS=1000` for as many as one likes.
fn rounds_leave_nothing() {
    const ROUNDS: usize = 20;
    let asked = std::env::var("FERRY_TEST_ROUNDS").ok().and_then(|rounds| rounds.parse().ok());
    let host = Host::new();
    let engine = Engine::start_on(&host, &[]);
    engine.docker(["network", "create", "loop"]).exits(0);
    let round = || {
        let run = "run --rm --network loop --network-alias one -p 80 -p 127.0.0.1::81/udp busybox true";
        engine.ferry(run.split_whitespace()).exits(0);
    };
    let sandboxes = engine.run_root().join("network/sandboxes");
    let links = || host.sh("ip -br link | sort");
    let rules = || host.sh("nft --stateless list ruleset");
    round();
    let none = || std::fs::read_dir(&sandboxes).is_ok_and(|found| found.count() == 0);
    wait_until("the first sandbox is gone", none);
    wait_until("its link is gone", || !links().contains("veth"));
    let (links_before, rules_before) = (links(), rules());
    for _ in 0..asked.unwrap_or(ROUNDS) {
        round();
    }
    wait_until("every sandbox is gone", none);
    let plain =
        |links: &str| links.lines().filter_map(|line| line.split(' ').next()).collect::<Vec<_>>().join(" ");
    wait_until("every link is gone", || plain(&links()) == plain(&links_before));
    assert_eq!(rules(), rules_before, "no rule and no element stays");
    engine.docker(["network", "inspect", "-f", "{{len .Containers}}", "loop"]).says("0");
    engine.docker(["network", "rm", "loop"]).exits(0);
}
