//! Options of the bridge driver, seen from where they matter: a neighbour of the host, the host itself and
//! other containers.

use std::os::fd::AsRawFd as _;
use std::process::{Child, Command, Stdio};

use ferry_tests::Engine;
use ferry_tests::engine::wait_until;
use ferry_tests::host::{HOST, Host, NEIGHBOUR};

use crate::Test;

/// The suite.
pub const TESTS: &[Test] = &[
    ("network::gateway_modes", gateway_modes),
    ("network::gateway_modes_in_ipv6", gateway_modes_in_ipv6),
    ("network::trusted_interfaces", trusted_interfaces),
    ("network::masquerade_is_optional", masquerade_is_optional),
    ("network::bridges_without_address", bridges_without_address),
    ("network::bindings_and_neighbours", bindings_and_neighbours),
    ("network::packet_sizes", packet_sizes),
];

const BRIDGE: &str = "com.docker.network.bridge";
/// Two servers: one port that tests publish, one that they do not.
const SERVE: &str =
    "mkdir -p /www; echo here >/www/index.html; httpd -p 81 -h /www; exec httpd -f -p 80 -h /www";

/// A network with options (`NAME=VALUE` of the bridge driver) and the rest of the flags.
fn network(engine: &Engine, name: &str, options: &[&str], flags: &str) {
    let options: Vec<String> = options.iter().map(|option| format!("{BRIDGE}.{option}")).collect();
    let mut arguments = vec!["network", "create"];
    for option in &options {
        arguments.extend(["-o", option]);
    }
    arguments.extend(flags.split_whitespace());
    arguments.push(name);
    engine.docker(arguments).exits(0);
}

fn serve(engine: &Engine, name: &str, network: &str, flags: &str) {
    let line = format!("run -d --name {name} --network {network} {flags} busybox sh -c");
    engine.ferry(line.split_whitespace().chain([SERVE])).exits(0);
    wait_until("the server listens", || {
        engine.ferry(["exec", name, "wget", "-qO-", "127.0.0.1:80"]).stdout.contains("here")
            && engine.ferry(["exec", name, "wget", "-qO-", "127.0.0.1:81"]).stdout.contains("here")
    });
}

/// What the neighbour gets, of: the container's published port, its other port, the host's published port.
fn reached(host: &Host, container: &str, host_port: &str) -> [bool; 3] {
    let get = |address: &str| host.get_from_outside(address) == "here";
    [get(&format!("{container}:80")), get(&format!("{container}:81")), get(host_port)]
}

fn gateway_modes() {
    let host = Host::new();
    let engine = Engine::start_on(&host, &[]);
    let _ = host.outside(&format!("ip route add 10.231.0.0/16 via {HOST}"));
    for (number, mode, wanted) in [
        ("1", "nat", [false, false, true]),
        ("2", "nat-unprotected", [true, true, true]),
        // Published ports are open on the container's own address; the host has none of them.
        ("3", "routed", [true, false, false]),
    ] {
        let flags = format!("--subnet 10.231.{number}.0/24");
        network(&engine, mode, &[&format!("gateway_mode_ipv4={mode}")], &flags);
        serve(&engine, mode, mode, &format!("--ip 10.231.{number}.9 -p 808{number}:80"));
        let container = format!("10.231.{number}.9");
        let found = reached(&host, &container, &format!("{HOST}:808{number}"));
        assert_eq!(found, wanted, "{mode}: published port, other port, port of the host");
    }
    // Alone with its neighbours on the bridge: not even the host has an address there.
    network(
        &engine,
        "alone",
        &["gateway_mode_ipv4=isolated", "name=fe-alone"],
        "--internal --subnet 10.231.4.0/24",
    );
    serve(&engine, "alone", "alone", "--ip 10.231.4.9");
    assert!(!host.sh("ip -4 addr show dev fe-alone").contains("inet "), "the host has no address");
    assert_eq!(host.get("10.231.4.9:80"), "", "the host does not get in");
    engine.ferry("run --rm --network alone busybox wget -qO- 10.231.4.9".split_whitespace()).prints("here");
    let routes = engine.ferry(["exec", "alone", "ip", "route"]);
    assert!(!routes.ok().contains("default"), "{routes}");
}

fn gateway_modes_in_ipv6() {
    let host = Host::new();
    let engine = Engine::start_on(&host, &[]);
    let _ = host.outside("ip -6 route add fd31::/16 via fd99::2");
    for (number, mode, wanted) in
        [("1", "nat", [false, false, true]), ("2", "nat-unprotected", [true, true, true])]
    {
        let flags = format!("--ipv6 --subnet fd31:{number}::/64");
        network(&engine, mode, &[&format!("gateway_mode_ipv6={mode}")], &flags);
        serve(&engine, mode, mode, &format!("--ip6 fd31:{number}::9 -p 808{number}:80"));
        let container = format!("[fd31:{number}::9]");
        let found = reached(&host, &container, &format!("[fd99::2]:808{number}"));
        assert_eq!(found, wanted, "{mode}: published port, other port, port of the host");
    }
}

fn trusted_interfaces() {
    let host = Host::new();
    let engine = Engine::start_on(&host, &[]);
    let _ = host.outside(&format!("ip route add 10.232.0.0/16 via {HOST}"));
    network(&engine, "open", &["trusted_host_interfaces=up0:other0"], "--subnet 10.232.1.0/24");
    network(&engine, "shut", &["trusted_host_interfaces=other0"], "--subnet 10.232.2.0/24");
    for (name, number, wanted) in [("open", "1", [true, true, true]), ("shut", "2", [false, false, true])] {
        serve(&engine, name, name, &format!("--ip 10.232.{number}.9 -p 808{number}:80"));
        let found = reached(&host, &format!("10.232.{number}.9"), &format!("{HOST}:808{number}"));
        assert_eq!(found, wanted, "{name}");
    }
}

/// Tells everybody who connects to the neighbour's port 9 where they seem to come from.
struct Mirror(Child);

impl Mirror {
    fn start(host: &Host) -> Self {
        let namespace = host.neighbour_namespace();
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/fd/{}", std::process::id(), namespace.as_raw_fd()));
        command.args(["socat", "TCP4-LISTEN:9,fork,reuseaddr", "SYSTEM:echo $SOCAT_PEERADDR"]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("socat is installed");
        let mirror = Self(child);
        wait_until("the mirror listens", || {
            host.sh(&format!("socat -T 1 /dev/null,ignoreeof TCP:{NEIGHBOUR}:9 && echo up")).contains("up")
        });
        mirror
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn masquerade_is_optional() {
    let host = Host::new();
    let engine = Engine::start_on(&host, &[]);
    let _ = host.outside(&format!("ip route add 10.233.0.0/16 via {HOST}"));
    let _mirror = Mirror::start(&host);
    network(&engine, "hidden", &[], "--subnet 10.233.1.0/24");
    network(&engine, "plain", &["enable_ip_masquerade=false"], "--subnet 10.233.2.0/24");
    network(&engine, "routed", &["gateway_mode_ipv4=routed"], "--subnet 10.233.3.0/24");
    for (name, number, seen) in
        [("hidden", "1", HOST), ("plain", "2", "10.233.2.9"), ("routed", "3", "10.233.3.9")]
    {
        let line = format!("run --rm --network {name} --ip 10.233.{number}.9 busybox sh -c");
        let ask = format!("timeout 5 nc {NEIGHBOUR} 9 </dev/null");
        engine.ferry(line.split_whitespace().chain([ask.as_str()])).says(seen);
    }
}

fn bridges_without_address() {
    let host = Host::new();
    let engine = Engine::start_on(&host, &[]);
    network(&engine, "bare", &["inhibit_ipv4=true", "name=fe-bare"], "--subnet 10.234.1.0/24");
    network(&engine, "usual", &["name=fe-usual"], "--subnet 10.234.2.0/24");
    assert!(!host.sh("ip -4 addr show dev fe-bare").contains("inet "), "the host has no address");
    assert!(host.sh("ip -4 addr show dev fe-usual").contains("inet 10.234.2.1/24"));
    serve(&engine, "web", "bare", "");
    let address = engine.inspect("web", "{{.NetworkSettings.Networks.bare.IPAddress}}");
    let ask = format!("run --rm --network bare busybox wget -qO- {address}");
    engine.ferry(ask.split_whitespace()).prints("here");
}

fn bindings_and_neighbours() {
    let host = Host::new();
    let engine = Engine::start_on(&host, &[]);
    network(&engine, "near", &["host_binding_ipv4=127.0.0.1"], "--subnet 10.235.1.0/24");
    network(&engine, "shy", &["enable_icc=false"], "--subnet 10.235.2.0/24");
    serve(&engine, "near", "near", "-p 8080:80");
    assert_eq!(host.get("127.0.0.1:8080"), "here");
    assert_eq!(host.get_from_outside(&format!("{HOST}:8080")), "", "bound to loopback");
    serve(&engine, "shy", "shy", "--ip 10.235.2.9 -p 8081:80");
    let ask = "run --rm --network shy busybox timeout 3 wget -qO- 10.235.2.9:80";
    assert_eq!(engine.ferry(ask.split_whitespace()).stdout.trim(), "", "its neighbours do not get in");
    assert_eq!(host.get_from_outside(&format!("{HOST}:8081")), "here");
}

fn packet_sizes() {
    let host = Host::new();
    let engine = Engine::start_on(&host, &[]);
    engine
        .docker("network create -o com.docker.network.bridge.name=fe-like usual".split_whitespace())
        .exits(0);
    let small = "network create -o com.docker.network.driver.mtu=1300 -o com.docker.network.bridge.name=fe-small small";
    engine.docker(small.split_whitespace()).exits(0);
    // The host's default route leads over a device that takes 1400.
    for (name, bridge, mtu) in [("usual", "fe-like", "1400"), ("small", "fe-small", "1300")] {
        let line = format!("run -d --name {name} --network {name} busybox sleep 1000");
        engine.ferry(line.split_whitespace()).exits(0);
        engine.ferry(["exec", name, "cat", "/sys/class/net/eth0/mtu"]).prints(mtu);
        assert!(host.sh(&format!("ip link show dev {bridge}")).contains(&format!("mtu {mtu}")), "{name}");
    }
}
