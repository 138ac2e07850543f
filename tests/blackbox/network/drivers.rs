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
    ("network::gateway_modes_side_by_side", gateway_modes_side_by_side),
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
    let places = [format!("{container}:80"), format!("{container}:81"), host_port.to_owned()];
    // At once, because each that is not reached takes its time.
    std::thread::scope(|scope| {
        let ask = |place| scope.spawn(move || host.get_from_outside(place) == "here");
        let asked = places.each_ref().map(|place| ask(place.as_str()));
        asked.map(|one| one.join().expect("curl ends"))
    })
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

/// One family translated and the other routed, on one network.
fn gateway_modes_side_by_side() {
    let host = Host::new();
    let engine = Engine::start_on(&host, &[]);
    let _ = host
        .outside(&format!("ip route add 10.238.0.0/16 via {HOST}; ip -6 route add fd38::/16 via fd99::2"));
    // Of each: the container's published port, its other port, the host's published port; IPv4, then IPv6.
    for (number, ipv4, ipv6, wanted) in [
        ("1", "nat", "routed", [[false, false, true], [true, false, false]]),
        ("2", "routed", "nat", [[true, false, false], [false, false, true]]),
    ] {
        let flags = format!("--ipv6 --subnet 10.238.{number}.0/24 --subnet fd38:{number}::/64");
        let modes = [&*format!("gateway_mode_ipv4={ipv4}"), &format!("gateway_mode_ipv6={ipv6}")];
        let name = format!("{ipv4}-{ipv6}");
        network(&engine, &name, &modes, &flags);
        let place = format!("--ip 10.238.{number}.9 --ip6 fd38:{number}::9 -p 808{number}:80");
        serve(&engine, &name, &name, &place);
        let reach = || {
            let on_host = format!("{HOST}:808{number}");
            let on_host6 = format!("[fd99::2]:808{number}");
            let ipv4 = || reached(&host, &format!("10.238.{number}.9"), &on_host);
            let ipv6 = || reached(&host, &format!("[fd38:{number}::9]"), &on_host6);
            std::thread::scope(|scope| {
                let asked = scope.spawn(ipv6);
                [ipv4(), asked.join().expect("curl ends")]
            })
        };
        assert_eq!(reach(), wanted, "{name}");
        // Ports given back and published anew while it runs.
        engine.ferry(["update", "--publish-rm", "80", &name]).exits(0);
        assert_eq!(reach(), [[false; 3]; 2], "{name}, taken back");
        engine.ferry(["update", "-p", &format!("808{number}:80"), &name]).exits(0);
        assert_eq!(reach(), wanted, "{name}, published again");
        engine.kill("keeper");
        wait_until("all is as before under a new keeper", || reach() == wanted);
    }
}

fn trusted_interfaces() {
    let host = Host::new();
    let engine = Engine::start_on(&host, &[]);
    let _ = host
        .outside(&format!("ip route add 10.232.0.0/16 via {HOST}; ip -6 route add fd32::/16 via fd99::2"));
    for (name, number, trusted, wanted) in
        [("open", "1", "up0:other0", [true, true, true]), ("shut", "2", "other0", [false, false, true])]
    {
        let flags = format!("--ipv6 --subnet 10.232.{number}.0/24 --subnet fd32:{number}::/64");
        network(&engine, name, &[&format!("trusted_host_interfaces={trusted}")], &flags);
        let place = format!("--ip 10.232.{number}.9 --ip6 fd32:{number}::9 -p 808{number}:80");
        serve(&engine, name, name, &place);
        let found = reached(&host, &format!("10.232.{number}.9"), &format!("{HOST}:808{number}"));
        assert_eq!(found, wanted, "{name}");
        let found = reached(&host, &format!("[fd32:{number}::9]"), &format!("[fd99::2]:808{number}"));
        assert_eq!(found, wanted, "{name} in IPv6");
    }
}

/// Tells everybody who connects to the neighbour's port 9 where they seem to come from.
struct Mirror(Child);

impl Mirror {
    fn start(host: &Host) -> Self {
        let namespace = host.neighbour_namespace();
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/fd/{}", std::process::id(), namespace.as_raw_fd()));
        // With patience for the answer after a client has said all that it will.
        command.args([
            "socat",
            "-t",
            "30",
            "TCP6-LISTEN:9,fork,reuseaddr,ipv6only=0",
            "SYSTEM:echo $SOCAT_PEERADDR",
        ]);
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

/// What the neighbour takes a container with these addresses for.
fn seen_as(engine: &Engine, network: &str, flags: &str, neighbour: &str) -> String {
    let line = format!("run --rm --network {network} {flags} busybox sh -c");
    // Not as the container's first process, which no signal would end.
    let ask = format!("timeout 5 nc {neighbour} 9 </dev/null; true");
    let said = engine.ferry(line.split_whitespace().chain([ask.as_str()])).stdout.clone();
    let plain = said.trim().trim_matches(['[', ']']).to_owned();
    let address: std::net::IpAddr = plain.parse().unwrap_or_else(|_| panic!("{network}: {said}"));
    address.to_canonical().to_string()
}

fn masquerade_is_optional() {
    let host = Host::new();
    let engine = Engine::start_on(&host, &[]);
    let _ = host
        .outside(&format!("ip route add 10.233.0.0/16 via {HOST}; ip -6 route add fd33::/16 via fd99::2"));
    let _ =
        host.sh("ip addr add 192.0.2.77/24 dev up0; ip addr add fd99::77/64 dev up0 nodad preferred_lft 0");
    let _mirror = Mirror::start(&host);
    for (name, number, options, seen, seen6) in [
        ("hidden", "1", &[][..], HOST, "fd99::2"),
        ("plain", "2", &["bridge.enable_ip_masquerade=false"], "10.233.2.9", "fd33:2::9"),
        ("routed", "3", &["bridge.gateway_mode_ipv4=routed"], "10.233.3.9", "fd99::2"),
        ("routed6", "4", &["bridge.gateway_mode_ipv6=routed"], HOST, "fd33:4::9"),
        ("chosen", "5", &["host_ipv4=192.0.2.77", "host_ipv6=fd99::77"], "192.0.2.77", "fd99::77"),
    ] {
        let flags = format!("--ipv6 --subnet 10.233.{number}.0/24 --subnet fd33:{number}::/64");
        let options: Vec<String> = options.iter().map(|one| format!("-o com.docker.network.{one}")).collect();
        let create = format!("network create {} {flags} {name}", options.join(" "));
        engine.docker(create.split_whitespace()).exits(0);
        let place = format!("--ip 10.233.{number}.9 --ip6 fd33:{number}::9");
        assert_eq!(seen_as(&engine, name, &place, NEIGHBOUR), seen, "{name}");
        assert_eq!(seen_as(&engine, name, &place, "fd99::1"), seen6, "{name} in IPv6");
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
    // Through the port that the host publishes they do, whether the bridge calls the firewall or not.
    let ask = format!("run --rm --network shy busybox timeout 5 wget -qO- {HOST}:8081");
    for calls in ["0", "1"] {
        let switch = format!("echo {calls} >/proc/sys/net/bridge/bridge-nf-call-iptables");
        let _ = host.sh(&format!("test ! -e /proc/sys/net/bridge || {switch}"));
        engine.ferry(ask.split_whitespace()).prints("here");
    }
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
