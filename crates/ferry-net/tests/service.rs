//! The network service against the real kernel: packets between namespaces.
//!
//! Each test runs this binary again inside a network namespace of its own, which
//! plays the host; so tests need root but touch nothing of the real host, and run
//! side by side. Without root they say so and count as skipped.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ferry_net::address::{InterfaceAddress, MacAddress};
use ferry_net::client::Client;
use ferry_net::plan::{
    BridgeWiring, DnsPlan, EndpointPlan, NetworkPlan, PortPlan, PublishPlan, SandboxPlan, Wiring,
};
use ferry_net::port::Protocol;
use ferry_net::protocol::{Attached, Gateways, Reply, Request};
use ferry_net::service::{Service, ServiceOptions};

const INSIDE: &str = "FERRY_NET_TEST_INSIDE";

/// Runs `body` in a namespace of its own, through a second run of this binary.
fn on_a_host_of_its_own(test: &str, body: impl FnOnce(&mut Host)) {
    if std::env::var_os(INSIDE).is_some() {
        return body(&mut Host::new(test));
    }
    if std::fs::read_to_string("/proc/self/loginuid").is_err() || !is_root() {
        eprintln!("SKIPPED {test}: needs root");
        return;
    }
    let status = Command::new("unshare")
        .args(["--net", "--"])
        .arg(std::env::current_exe().expect("own path"))
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .status()
        .expect("unshare is installed");
    assert!(status.success(), "{test} failed inside its namespace");
}

fn is_root() -> bool {
    std::fs::read_to_string("/proc/self/status")
        .is_ok_and(|status| status.lines().any(|line| line.starts_with("Uid:\t0\t0")))
}

fn sh(script: &str) -> String {
    let output = Command::new("sh").args(["-c", script]).output().expect("sh runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        return format!("{text}FAILED: {}", String::from_utf8_lossy(&output.stderr));
    }
    text
}

/// The namespace that plays the host, with a neighbour outside.
struct Host {
    run_root: PathBuf,
    client: Client,
    outside: Child,
    children: Vec<Child>,
    _service: Service,
}

impl Host {
    fn new(test: &str) -> Self {
        let outside = Command::new("unshare")
            .args(["--net", "sleep", "600"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a neighbour");
        std::thread::sleep(Duration::from_millis(100));
        let pid = outside.id();
        let made = sh(&format!(
            "ip link set lo up
             ip link add eth0 mtu 1400 type veth peer name eth0 netns {pid} mtu 1400
             ip addr add 192.0.2.2/24 dev eth0 && ip -6 addr add fd99::2/64 dev eth0 nodad
             ip link set eth0 up && ip route add default via 192.0.2.1
             nsenter -t {pid} -n sh -c 'ip link set lo up; ip addr add 192.0.2.1/24 dev eth0;
               ip -6 addr add fd99::1/64 dev eth0 nodad; ip link set eth0 up;
               ip route add 172.16.0.0/12 via 192.0.2.2'"
        ));
        assert!(!made.contains("FAILED"), "{made}");
        let run_root = std::env::temp_dir().join(format!("ferry-net-{test}-{}", std::process::id()));
        let service = start(&run_root);
        let client = Client::connect(&run_root).expect("the service answers");
        Self { run_root, client, outside, children: Vec::new(), _service: service }
    }

    fn call(&mut self, request: Request) -> Reply {
        self.client.call(&request).unwrap_or_else(|error| panic!("{error}: {request:?}"))
    }

    fn attach(&mut self, plan: SandboxPlan) -> Attached {
        match self.call(Request::Attach(Box::new(plan))) {
            Reply::Attached(attached) => attached,
            other => panic!("{other:?}"),
        }
    }

    /// Answers every connection to `port` with the peer's address.
    fn serve(&mut self, inside: &Attached, port: u16) {
        let namespace = format!("--net={}", inside.namespace);
        let listen = format!("TCP6-LISTEN:{port},ipv6only=0,fork,reuseaddr");
        let child = Command::new("nsenter")
            .args([&namespace, "socat", &listen, "SYSTEM:'echo $SOCAT_PEERADDR'"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("socat runs");
        self.children.push(child);
        let ready = Instant::now();
        while !sh(&format!("nsenter {namespace} ss -Hltn")).contains(&format!(":{port} ")) {
            assert!(ready.elapsed() < Duration::from_secs(5), "socat listens");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        for child in self.children.iter_mut().chain([&mut self.outside]) {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = std::fs::remove_dir_all(&self.run_root);
    }
}

fn start(run_root: &std::path::Path) -> Service {
    let options = ServiceOptions {
        run_root: run_root.to_owned(),
        table: "ferry-test".into(),
        resolv_conf: PathBuf::from("/etc/resolv.conf"),
    };
    Service::start(options).expect("the service starts")
}

fn network(number: u8, ipv6: bool) -> NetworkPlan {
    let mut gateways: Vec<InterfaceAddress> = vec![format!("172.{number}.0.1/16").parse().unwrap()];
    if ipv6 {
        gateways.push(format!("fd00:{number}::1/64").parse().unwrap());
    }
    NetworkPlan {
        id: format!("net{number}"),
        name: format!("net{number}"),
        wiring: Wiring::Bridge(BridgeWiring {
            bridge: format!("br{number}"),
            icc: true,
            masquerade: true,
            ..BridgeWiring::default()
        }),
        subnets: gateways.iter().map(InterfaceAddress::subnet).collect(),
        gateways,
        internal: false,
        mtu: None,
        dns: true,
    }
}

fn container(name: &str, network: &NetworkPlan, host: u8, ports: Vec<PortPlan>) -> SandboxPlan {
    let addresses: Vec<InterfaceAddress> = network
        .gateways
        .iter()
        .map(|gateway| {
            let text = gateway.to_string();
            let (start, prefix) = text.rsplit_once("1/").unwrap();
            format!("{start}{host}/{prefix}").parse().unwrap()
        })
        .collect();
    let of = |ipv6: bool| addresses.iter().map(|one| one.address).find(|one| one.is_ipv6() == ipv6);
    let IpAddr::V4(ipv4) = of(false).unwrap() else { unreachable!() };
    let endpoint = EndpointPlan {
        id: format!("{:0>64}", format!("{name}{}", network.id)).chars().rev().collect(),
        network_id: network.id.clone(),
        interface: "eth0".into(),
        mac: Some(MacAddress::from_ipv4(ipv4)),
        gateways: network.gateways.iter().map(|gateway| gateway.address).collect(),
        link_local: Vec::new(),
        default_device_route: false,
        names: vec![name.into(), "app".into()],
        sysctls: Default::default(),
        addresses: addresses.clone(),
    };
    SandboxPlan {
        id: name.into(),
        name: name.into(),
        endpoints: vec![endpoint],
        publish: PublishPlan { ipv4: of(false), ipv6: of(true), ports, ..PublishPlan::default() },
        dns: DnsPlan { forward: true, ..DnsPlan::default() },
    }
}

fn port(host: Option<&str>, host_port: u16, protocol: Protocol) -> PortPlan {
    PortPlan {
        host: host.map(|host| host.parse().unwrap()),
        host_ports: (host_port, host_port),
        container_port: 80,
        protocol,
    }
}

/// What a server says to a client of `address`; "" when it cannot be reached.
fn ask(prefix: &str, address: &str) -> String {
    let family = if address.starts_with('[') { "TCP6" } else { "TCP4" };
    let command = format!("{prefix} timeout 1 socat -T1 - {family}:{address} </dev/null 2>/dev/null || true");
    let said = sh(&command);
    let said = said.trim().trim_matches(['[', ']']);
    said.parse::<IpAddr>().map_or_else(|_| said.to_owned(), |address| address.to_canonical().to_string())
}

fn within(time: Duration, what: &str, mut check: impl FnMut() -> bool) {
    let start = Instant::now();
    while !check() {
        assert!(start.elapsed() < time, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn published_ports_reach_and_isolation_holds() {
    on_a_host_of_its_own("published_ports_reach_and_isolation_holds", |host| {
        let (front, back) = (network(17, true), network(18, false));
        host.call(Request::NetworkUp(Box::new(front.clone())));
        host.call(Request::NetworkUp(Box::new(back.clone())));
        let web = host.attach(container("web", &front, 2, vec![port(None, 8080, Protocol::Tcp)]));
        let near = host.attach(container("near", &front, 3, vec![]));
        let far = host.attach(container("far", &back, 2, vec![]));
        host.serve(&web, 80);
        let inside = |one: &Attached| format!("nsenter --net={}", one.namespace);
        let outside = format!("nsenter -t {} -n", host.outside.id());

        assert_eq!(ask("", "127.0.0.1:8080"), "172.17.0.1", "loopback, through the proxy");
        assert_eq!(ask("", "[::1]:8080"), "fd00:17::1");
        assert_eq!(ask("", "192.0.2.2:8080"), "192.0.2.2", "the host's own address");
        assert_eq!(ask(&outside, "192.0.2.2:8080"), "192.0.2.1", "from outside, source kept");
        assert_eq!(ask(&outside, "[fd99::2]:8080"), "fd99::1");
        assert_eq!(ask(&inside(&near), "192.0.2.2:8080"), "172.17.0.1", "hairpin on one bridge");
        assert_eq!(ask(&inside(&far), "192.0.2.2:8080"), "172.18.0.2", "hairpin, source kept");
        assert_eq!(ask(&inside(&web), "192.0.2.2:8080"), "172.17.0.1", "to itself");
        assert_eq!(ask(&inside(&near), "172.17.0.2:80"), "172.17.0.3", "a neighbour");
        assert_eq!(ask(&inside(&far), "172.17.0.2:80"), "", "another network is closed");
        assert_eq!(ask(&outside, "172.17.0.2:80"), "", "unpublished from outside");
        let mtu =
            sh(&format!("{} cat /sys/class/net/eth0/mtu", "ip link show br17 | grep -o 'mtu [0-9]*' #"));
        assert_eq!(mtu.trim(), "mtu 1400", "as the default route's device");

        sh("nft flush ruleset");
        within(Duration::from_secs(1), "the firewall is repaired", || {
            sh("nft list map inet ferry-test publish4").contains("8080")
        });
        assert_eq!(ask(&outside, "192.0.2.2:8080"), "192.0.2.1");
        assert_eq!(ask(&outside, "172.17.0.2:80"), "");

        let taken = host.client.call(&Request::Attach(Box::new(container(
            "second",
            &back,
            3,
            vec![port(None, 8080, Protocol::Tcp)],
        ))));
        let text = taken.unwrap_err().to_string();
        assert!(text.starts_with("Bind for 0.0.0.0:8080 failed: port is already allocated"), "{text}");
        assert!(text.contains("held by the container web; port 8081 is free"), "{text}");

        host.call(Request::Detach { sandbox: "web".into() });
        assert_eq!(ask(&outside, "192.0.2.2:8080"), "");
        std::net::TcpListener::bind("0.0.0.0:8080").expect("the host port is free again");
    });
}

#[test]
fn names_are_answered_inside() {
    on_a_host_of_its_own("names_are_answered_inside", |host| {
        let front = network(17, true);
        host.call(Request::NetworkUp(Box::new(front.clone())));
        let one = host.attach(container("one", &front, 2, vec![]));
        host.attach(container("two", &front, 3, vec![]));
        let dig = |arguments: &str| {
            let namespace = &one.namespace;
            sh(&format!("nsenter --net={namespace} dig @127.0.0.11 +time=1 +tries=1 +short {arguments}"))
        };
        assert_eq!(dig("two"), "172.17.0.3\n");
        assert_eq!(dig("TWO.net17"), "172.17.0.3\n");
        assert_eq!(dig("two AAAA"), "fd00:17::3\n");
        assert_eq!(dig("+tcp two"), "172.17.0.3\n");
        assert_eq!(dig("-x 172.17.0.3"), "two.net17.\n");
        assert_eq!(dig("app").lines().count(), 2);
        let firsts: Vec<_> = (0..4).map(|_| dig("app").lines().next().unwrap_or("").to_owned()).collect();
        assert!(firsts.iter().any(|first| *first != firsts[0]), "round robin: {firsts:?}");
        let port53 = sh(&format!("nsenter --net={} ss -Hlun 'sport = 53'", one.namespace));
        assert_eq!(port53, "", "port 53 belongs to the container");
    });
}

#[test]
fn datagrams_flow_both_ways() {
    on_a_host_of_its_own("datagrams_flow_both_ways", |host| {
        let front = network(17, false);
        host.call(Request::NetworkUp(Box::new(front.clone())));
        let wishes = vec![port(None, 5300, Protocol::Udp)];
        let echo = host.attach(container("echo", &front, 2, wishes));
        let namespace = format!("--net={}", echo.namespace);
        let child = Command::new("nsenter")
            .args([&namespace, "socat", "-T", "5", "UDP-LISTEN:80,fork", "EXEC:cat"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("socat runs");
        host.children.push(child);
        std::thread::sleep(Duration::from_millis(200));
        let outside = format!("nsenter -t {} -n", host.outside.id());
        for (prefix, address) in
            [("", "UDP4:127.0.0.1:5300"), ("", "UDP6:[::1]:5300"), (outside.as_str(), "UDP4:192.0.2.2:5300")]
        {
            let said = sh(&format!("echo hello | {prefix} timeout 2 socat -t0.5 - {address}"));
            assert_eq!(said, "hello\n", "{address}");
        }
    });
}

#[test]
fn another_programs_drop_policy_is_passed() {
    on_a_host_of_its_own("another_programs_drop_policy_is_passed", |host| {
        sh("iptables -P FORWARD DROP; iptables -N DOCKER-USER; iptables -A FORWARD -j DOCKER-USER;
            iptables -A DOCKER-USER -j RETURN");
        let front = network(17, false);
        host.call(Request::NetworkUp(Box::new(front.clone())));
        let web = host.attach(container("web", &front, 2, vec![port(None, 8080, Protocol::Tcp)]));
        host.serve(&web, 80);
        let outside = format!("nsenter -t {} -n", host.outside.id());
        assert_eq!(ask(&outside, "192.0.2.2:8080"), "192.0.2.1");
        sh("iptables -F DOCKER-USER; iptables -A DOCKER-USER -j RETURN");
        within(Duration::from_secs(1), "the accept rules come back", || {
            sh("iptables -S DOCKER-USER").contains("ferry-test to br17")
        });
        assert_eq!(ask(&outside, "192.0.2.2:8080"), "192.0.2.1");
        host.call(Request::Detach { sandbox: "web".into() });
        host.call(Request::NetworkDown { id: front.id });
        let rules = sh("iptables -S");
        assert!(!rules.contains("ferry-test"), "{rules}");
    });
}

#[test]
fn networks_are_joined_and_left_live() {
    on_a_host_of_its_own("networks_are_joined_and_left_live", |host| {
        let (front, back) = (network(17, false), network(18, false));
        host.call(Request::NetworkUp(Box::new(front.clone())));
        host.call(Request::NetworkUp(Box::new(back.clone())));
        let one = host.attach(container("one", &front, 2, vec![]));
        let db = host.attach(container("db", &back, 3, vec![]));
        host.serve(&db, 80);
        let inside = format!("nsenter --net={}", one.namespace);
        assert_eq!(ask(&inside, "172.18.0.3:80"), "");
        let mut endpoint = container("one", &back, 2, vec![]).endpoints.remove(0);
        endpoint.interface = "eth1".into();
        endpoint.gateways.clear();
        let gateway = |network: &NetworkPlan| Gateways {
            ipv4: Some((network.id.clone(), network.gateways[0].address)),
            ipv6: None,
        };
        host.call(Request::Connect {
            sandbox: "one".into(),
            endpoint: Box::new(endpoint),
            gateways: gateway(&front),
        });
        assert_eq!(ask(&inside, "172.18.0.3:80"), "172.18.0.2");
        assert_eq!(sh(&format!("{inside} dig @127.0.0.11 +short db")), "172.18.0.3\n");
        host.call(Request::Disconnect {
            sandbox: "one".into(),
            network: front.id.clone(),
            gateways: gateway(&back),
        });
        let routes = sh(&format!("{inside} ip route"));
        assert!(routes.starts_with("default via 172.18.0.1 dev eth1"), "{routes}");
        assert!(sh(&format!("{inside} ip -o link show eth0")).contains("FAILED"));
    });
}

#[test]
fn ports_change_while_running() {
    on_a_host_of_its_own("ports_change_while_running", |host| {
        let front = network(17, false);
        host.call(Request::NetworkUp(Box::new(front.clone())));
        let plan = container("web", &front, 2, vec![port(None, 8080, Protocol::Tcp)]);
        let web = host.attach(plan.clone());
        host.serve(&web, 80);
        let outside = format!("nsenter -t {} -n", host.outside.id());
        let ports = vec![port(None, 9090, Protocol::Tcp), port(Some("127.0.0.1"), 9091, Protocol::Tcp)];
        let publish = PublishPlan { ports, ..plan.publish };
        let Reply::Published(bound) = host.call(Request::Publish { sandbox: "web".into(), publish }) else {
            panic!("published")
        };
        let hosts: Vec<SocketAddr> = bound.iter().map(|port| port.host).collect();
        assert!(hosts.contains(&"0.0.0.0:9090".parse().unwrap()), "{hosts:?}");
        assert_eq!(ask(&outside, "192.0.2.2:8080"), "");
        assert_eq!(ask(&outside, "192.0.2.2:9090"), "192.0.2.1");
        assert_eq!(ask(&outside, "192.0.2.2:9091"), "", "bound to loopback only");
        assert_eq!(ask("", "127.0.0.1:9091"), "172.17.0.1");
    });
}

#[test]
fn a_new_service_takes_over() {
    on_a_host_of_its_own("a_new_service_takes_over", |host| {
        let front = network(17, false);
        host.call(Request::NetworkUp(Box::new(front.clone())));
        // The first service of this test is the one that will be gone: it runs as a
        // process of its own, which is killed.
        let root = host.run_root.join("second");
        let service = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "serve_for_another_test", "--nocapture"])
            .env(INSIDE, "serve")
            .env("FERRY_NET_TEST_ROOT", &root)
            .spawn()
            .unwrap();
        let mut service = service;
        within(Duration::from_secs(5), "the second service answers", || Client::connect(&root).is_ok());
        let mut client = Client::connect(&root).unwrap();
        let back = network(18, false);
        client.call(&Request::NetworkUp(Box::new(back.clone()))).unwrap();
        let plan = container("web", &back, 2, vec![port(None, 8080, Protocol::Tcp)]);
        let Reply::Attached(web) = client.call(&Request::Attach(Box::new(plan))).unwrap() else {
            panic!("attached")
        };
        let gone = SandboxPlan { id: "gone".into(), ..container("gone", &back, 9, vec![]) };
        client.call(&Request::Attach(Box::new(gone))).unwrap();
        host.serve(&web, 80);
        service.kill().unwrap();
        service.wait().unwrap();
        let outside = format!("nsenter -t {} -n", host.outside.id());
        assert_eq!(ask(&outside, "192.0.2.2:8080"), "192.0.2.1", "ports outlive the service");
        let _third = start_named(&root, "ferry-second");
        let mut client = Client::connect(&root).unwrap();
        let Reply::Listed(listed) = client.call(&Request::List).unwrap() else { panic!("listed") };
        assert_eq!(listed.networks, [back]);
        let ids: Vec<_> = listed.sandboxes.iter().map(|(plan, _)| plan.id.as_str()).collect();
        assert_eq!(ids, ["web"], "a sandbox without processes is not taken over");
        let web = &listed.sandboxes[0].1;
        assert_eq!(ask("", "127.0.0.1:8080"), "172.18.0.1", "the proxy is back");
        let inside = format!("nsenter --net={}", web.namespace);
        assert_eq!(sh(&format!("{inside} dig @127.0.0.11 +short web")), "172.18.0.2\n");
        assert!(std::net::TcpListener::bind("0.0.0.0:8080").is_err(), "the port is held");
    });
}

fn start_named(run_root: &std::path::Path, table: &str) -> Service {
    let options = ServiceOptions {
        run_root: run_root.to_owned(),
        table: table.into(),
        resolv_conf: PathBuf::from("/etc/resolv.conf"),
    };
    Service::start(options).expect("the service starts")
}

/// Not a test of its own: the service process that `a_new_service_takes_over` kills.
#[test]
fn serve_for_another_test() {
    if let Some(root) = std::env::var_os("FERRY_NET_TEST_ROOT") {
        let _service = start_named(&PathBuf::from(root), "ferry-second");
        std::thread::sleep(Duration::from_secs(60));
    }
}

#[test]
fn many_rounds_leak_nothing() {
    on_a_host_of_its_own("many_rounds_leak_nothing", |host| {
        let front = network(17, true);
        host.call(Request::NetworkUp(Box::new(front.clone())));
        let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        let wishes = || vec![port(None, 0, Protocol::Tcp), port(None, 0, Protocol::Udp)];
        let mut number = 0u32;
        let mut round = |host: &mut Host| {
            number += 1;
            let mut plan = container("web", &front, 2, wishes());
            plan.endpoints[0].id = format!("{number:011x}");
            host.attach(plan);
            host.call(Request::Detach { sandbox: "web".into() });
        };
        (0..20).for_each(|_| round(host));
        std::thread::sleep(Duration::from_millis(500));
        let before = descriptors();
        let start = Instant::now();
        const ROUNDS: u32 = 200;
        (0..ROUNDS).for_each(|_| round(host));
        eprintln!("one attach and detach: {:?}", start.elapsed() / ROUNDS);
        std::thread::sleep(Duration::from_millis(500));
        assert!(descriptors() <= before + 8, "{before} descriptors became {}", descriptors());
        within(Duration::from_secs(20), "links go with their namespaces", || {
            !sh("ip -o link show type veth master br17").contains("veth")
        });
        let elements = sh("nft list map inet ferry-test publish4");
        assert!(!elements.contains("elements"), "{elements}");
        assert_eq!(std::fs::read_dir(host.run_root.join("network/sandboxes")).unwrap().count(), 0);
    });
}
