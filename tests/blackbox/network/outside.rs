//! What a neighbour of the host reaches, also beside other programs' firewalls. Each test has a host and a
//! neighbour of its own in network namespaces.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ferry_tests::Engine;
use ferry_tests::engine::wait_until;
use ferry_tests::host::{HOST, Host, NEIGHBOUR};

use super::host_port;
use crate::Test;

/// The suite.
pub const TESTS: &[Test] = &[
    ("network::from_outside", from_outside),
    ("network::published_by_input_policy", published_by_input_policy),
    ("network::published_at_a_default_address", published_at_a_default_address),
    ("network::other_firewalls_do_not_stop_ports", other_firewalls_do_not_stop_ports),
    ("network::the_ruleset_is_as_written", the_ruleset_is_as_written),
    ("network::older_filters_do_not_stop_ports", older_filters_do_not_stop_ports),
    ("network::beside_dockerd", beside_dockerd),
    ("network::taken_back_ports_lose_their_connections", taken_back_ports_lose_their_connections),
    ("network::bulk_traffic_flows", bulk_traffic_flows),
];

/// A web server that says who asked.
const WHO: &str = "mkdir -p /www/cgi-bin; printf '#!/bin/sh\\necho; echo $REMOTE_ADDR | sed \"s/[][]//g;s/::ffff://\"\\n' >/www/cgi-bin/who; \
                   chmod +x /www/cgi-bin/who; exec httpd -f -p 80 -h /www";

fn serve(engine: &Engine, name: &str, flags: &[&str]) {
    let command = ["busybox", "sh", "-c", WHO];
    engine.ferry(["run", "-d", "--name", name].iter().chain(flags).chain(&command)).exits(0);
    wait_until("the server listens", || {
        engine.ferry(["exec", name, "wget", "-qO-", "127.0.0.1/cgi-bin/who"]).code == 0
    });
}

fn from_outside() {
    let host = Host::new();
    let engine = Engine::start_on(&host, &[]);
    engine.ferry(["network", "create", "--ipv6", "front"]).exits(0);
    engine.ferry(["network", "create", "back"]).exits(0);
    serve(&engine, "web", &["--network", "front", "-p", "80", "-p", "127.0.0.1::80"]);
    let lines = engine.ferry(["port", "web", "80"]).ok().to_owned();
    let port = |address: &str| {
        let line = lines.lines().find_map(|line| line.strip_prefix(address)).expect("a binding");
        line.trim_start_matches(':').to_owned()
    };
    let (open, local) = (port("0.0.0.0"), port("127.0.0.1"));
    assert_eq!(host.get_from_outside(&format!("{HOST}:{open}/cgi-bin/who")), NEIGHBOUR, "source kept");
    assert_eq!(host.get_from_outside(&format!("[fd99::2]:{open}/cgi-bin/who")), "fd99::1", "in IPv6 too");
    let ask = |network: &str| {
        let url = format!("{HOST}:{open}/cgi-bin/who");
        engine.ferry(["run", "--rm", "--network", network, "busybox", "timeout", "5", "wget", "-qO-", &url])
    };
    let gateway = engine.inspect("web", "{{.NetworkSettings.Networks.front.Gateway}}");
    ask("front").says(&gateway);
    ask("back").exits(0);
    // Nothing leads past the published port, not even for a neighbour that knows the way.
    let address = engine.inspect("web", "{{.NetworkSettings.Networks.front.IPAddress}}");
    let _ = host.outside(&format!("ip route add {address} via {HOST}"));
    assert_eq!(host.get_from_outside(&format!("{address}:80/cgi-bin/who")), "", "not published there");
    assert_eq!(host.get_from_outside(&format!("{HOST}:{local}/cgi-bin/who")), "", "published on loopback");
    let _ = host.outside(&format!(
        "ip route del local 127.0.0.0/8 dev lo table local; ip route add 127.0.0.1 via {HOST};
         for one in all up0; do echo 1 >/proc/sys/net/ipv4/conf/$one/route_localnet; done"
    ));
    let _ = host.sh("for one in all up0; do echo 1 >/proc/sys/net/ipv4/conf/$one/route_localnet; done");
    for port in [&open, &local] {
        assert_eq!(
            host.get_from_outside(&format!("127.0.0.1:{port}/cgi-bin/who")),
            "",
            "nothing reaches 127/8"
        );
    }
    assert_ne!(host.get(&format!("127.0.0.1:{local}/cgi-bin/who")), "", "the host itself does");
    let other = engine.ferry(["network", "inspect", "-f", "{{len .Containers}}", "back"]);
    other.prints("0");
}

fn published_by_input_policy() {
    let host = Host::new();
    let engine = Engine::start_on(&host, &["--publish-by-input-policy"]);
    serve(&engine, "web", &["-p", "8080:80"]);
    let url = format!("{HOST}:8080/cgi-bin/who");
    assert_ne!(host.get_from_outside(&url), "", "an open policy lets it in");
    // As ufw does it: everything in is dropped but what was allowed.
    let _ = host.sh("nft add table inet guard; nft 'add chain inet guard input { type filter hook input priority 0; policy drop; }'
                     nft add rule inet guard input iif lo accept; nft add rule inet guard input ct state established,related accept");
    assert_eq!(host.get_from_outside(&url), "", "the policy is obeyed");
    let _ = host.sh("nft add rule inet guard input tcp dport 8080 accept");
    assert_ne!(host.get_from_outside(&url), "", "allowed by the host's own rule");
}

fn published_at_a_default_address() {
    let host = Host::new();
    let engine = Engine::start_on(&host, &["--ip", "127.0.0.1"]);
    serve(&engine, "web", &["-p", "8080:80", "-p", "0.0.0.0:8081:80"]);
    engine.docker(["port", "web", "80"]).says("127.0.0.1:8080").says("0.0.0.0:8081");
    assert_eq!(host.get_from_outside(&format!("{HOST}:8080/cgi-bin/who")), "");
    assert_eq!(host.get_from_outside(&format!("{HOST}:8081/cgi-bin/who")), NEIGHBOUR);
    assert_ne!(host.get("127.0.0.1:8080/cgi-bin/who"), "");
}

fn other_firewalls_do_not_stop_ports() {
    let host = Host::new();
    let engine = Engine::start_on(&host, &[]);
    serve(&engine, "web", &["-p", "8080:80"]);
    let url = format!("{HOST}:8080/cgi-bin/who");
    assert_eq!(host.get_from_outside(&url), NEIGHBOUR);
    for (what, rules, undo) in [
        ("the policy of iptables-nft", "iptables-nft -P FORWARD DROP", "nft delete table ip filter"),
        (
            "ufw",
            "iptables-nft -P FORWARD DROP; iptables-nft -N ufw-user-forward; iptables-nft -N ufw-before-forward
             iptables-nft -A FORWARD -j ufw-before-forward; iptables-nft -A FORWARD -j ufw-user-forward
             iptables-nft -A ufw-before-forward -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
            "nft delete table ip filter",
        ),
        (
            "firewalld",
            "nft -f - <<END\ntable inet firewalld {\n chain filter_FORWARD {\n  type filter hook forward priority filter + 10; policy accept;\n  ct state { established, related } accept\n  reject with icmpx admin-prohibited\n }\n}\nEND",
            "nft delete table inet firewalld",
        ),
    ] {
        let _ = host.sh(rules);
        wait_until(&format!("the port answers beside {what}"), || host.get_from_outside(&url) == NEIGHBOUR);
        let egress = format!("timeout 5 wget -O- http://{NEIGHBOUR}:9/ 2>&1 || true");
        engine.ferry(["exec", "web", "sh", "-c", &egress]).says("refused");
        let _ = host.sh(undo);
        wait_until("it answers afterwards", || host.get_from_outside(&url) == NEIGHBOUR);
    }
    // Another program's flush takes ferry's table along; it is back within a second.
    let _ = host.sh("nft flush ruleset");
    let start = std::time::Instant::now();
    wait_until("the rules are back", || host.sh("nft list ruleset").contains("publish4"));
    assert!(start.elapsed().as_secs() < 4, "{:?}", start.elapsed());
    wait_until("the port answers after a flush", || host.get_from_outside(&url) == NEIGHBOUR);
}

/// The whole ruleset of a host with one network and one container, rule by rule: whoever changes it sees it here.
fn the_ruleset_is_as_written() {
    let host = Host::new();
    let engine = Engine::start_on(&host, &[]);
    let create = "network create -o com.docker.network.bridge.name=fe-snap --ipv6 --subnet 10.236.1.0/24 \
                  --subnet fd36::/64 snap";
    engine.docker(create.split_whitespace()).exits(0);
    // What loopback alone publishes needs no rule: the proxy serves it.
    let run = "run -d --name web --network snap --ip 10.236.1.9 --ip6 fd36::9 -p 8080:80 -p 127.0.0.1:8081:81 \
               -p 192.0.2.2:8082:82/udp busybox sleep 1000";
    engine.docker(run.split_whitespace()).exits(0);
    let shown = |ruleset: &str| {
        let table =
            ruleset.split_whitespace().find(|word| word.starts_with("ferry-")).unwrap_or("none").to_owned();
        ruleset.replace(&table, "ferry-TABLE")
    };
    let ruleset = host.sh("nft --stateless list ruleset");
    assert_eq!(shown(&ruleset), include_str!("../../snapshots/ruleset.nft"), "{ruleset}");
    engine.docker(["rm", "-f", "web"]).exits(0);
    assert!(!host.sh("nft list ruleset").contains("10.236.1.9"), "an element goes with its port");
    engine.docker(["network", "rm", "snap"]).exits(0);
    assert!(!host.sh("nft list ruleset").contains("fe-snap"), "and with its network");
    drop(engine);
    assert_eq!(host.sh("nft list ruleset"), "", "nothing stays");
}

/// The tables of iptables-legacy, where a packet is lost whatever nftables says: a chain of ferry's own lets
/// the bridges' packets pass, there alone where they would be lost, and goes in the end.
fn older_filters_do_not_stop_ports() {
    if !PathBuf::from("/usr/sbin/iptables-legacy").exists() {
        eprintln!("SKIPPED: network::older_filters_do_not_stop_ports: no iptables-legacy is installed");
        return;
    }
    let host = Host::new();
    let engine = Engine::start_on(&host, &[]);
    engine.ferry(["network", "create", "--ipv6", "front"]).exits(0);
    serve(&engine, "web", &["--network", "front", "-p", "8080:80"]);
    let urls = [format!("{HOST}:8080/cgi-bin/who"), "[fd99::2]:8080/cgi-bin/who".to_owned()];
    let rules = || host.sh("iptables-legacy -S; ip6tables-legacy -S");
    let answers = |when: &str| {
        for (url, seen) in urls.iter().zip([NEIGHBOUR, "fd99::1"]) {
            wait_until(&format!("{url} answers {when}"), || host.get_from_outside(url) == seen);
        }
    };
    let both = |command: &str| {
        let _ = host.sh(&format!("iptables-legacy -w 10 {command}; ip6tables-legacy -w 10 {command}"));
    };
    both("-P FORWARD ACCEPT");
    answers("beside open tables");
    assert!(!rules().contains("ferry-"), "nothing is put where nothing stops: {}", rules());
    both("-N mine");
    both("-A FORWARD -p tcp --dport 7 -m comment --comment kept -j mine");
    both("-A mine -j RETURN");
    both("-P FORWARD DROP");
    answers("beside a policy of drop");
    assert!(rules().contains("-A FORWARD -j ferry-"), "{}", rules());
    assert_eq!(rules().matches("--comment kept -j mine").count(), 2, "{}", rules());
    let egress = format!("timeout 5 wget -O- http://{NEIGHBOUR}:9/ 2>&1 || true");
    engine.ferry(["exec", "web", "sh", "-c", &egress]).says("refused");
    let said = engine.ferry(["create", "-p", "80", "busybox"]);
    assert!(said.exits(0).stderr.is_empty(), "{said}");
    both("-F FORWARD");
    answers("after a flush");
    both("-P FORWARD ACCEPT");
    wait_until("the chain goes with the policy", || !rules().contains("ferry-"));
    both("-A FORWARD -j REJECT");
    wait_until("the chain is there", || rules().matches("-A FORWARD -j ferry-").count() == 2);
    answers("beside a last rule that rejects");
    drop(engine);
    assert!(!rules().contains("ferry-"), "nothing stays: {}", rules());
    assert_eq!(rules().matches("-A FORWARD -j REJECT").count(), 2, "{}", rules());
}

/// A real dockerd with roots of its own on a test's host.
struct Dockerd {
    process: Child,
    root: PathBuf,
}

impl Dockerd {
    fn start(host: &Host, root: PathBuf) -> Self {
        fs::create_dir_all(&root).expect("a folder");
        let prefix = host.prefix();
        let mut command = Command::new(&prefix[0]);
        command.args(&prefix[1..]).arg("/usr/sbin/dockerd");
        for (flag, name) in [("--data-root", "data"), ("--exec-root", "exec"), ("--pidfile", "pid")] {
            command.arg(flag).arg(root.join(name));
        }
        command.arg("--host").arg(format!("unix://{}", root.join("docker.sock").display()));
        command.args(["--storage-driver", "vfs", "--bip", "172.31.200.1/24"]);
        let log = fs::File::create(root.join("log")).expect("a log");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        Self { process: command.spawn().expect("dockerd starts"), root }
    }

    fn answers(&self) -> bool {
        self.root.join("docker.sock").exists()
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        if let Some(pid) = rustix::process::Pid::from_raw(self.process.id() as i32) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = self.process.wait();
    }
}

fn beside_dockerd() {
    if !PathBuf::from("/usr/sbin/dockerd").exists() {
        eprintln!("SKIPPED: network::beside_dockerd: no dockerd is installed");
        return;
    }
    let host = Host::new();
    let root = tempfile::Builder::new().prefix("ferry-dockerd-").tempdir().expect("a folder");
    // Dockerd drops what is forwarded only where it switched forwarding on, so it comes first.
    let _ = host.sh("echo 0 >/proc/sys/net/ipv4/ip_forward");
    let dockerd = Dockerd::start(&host, root.path().to_path_buf());
    wait_until("dockerd answers", || dockerd.answers());
    wait_until("dockerd drops what is forwarded", || {
        host.sh("iptables -S FORWARD").contains("-P FORWARD DROP")
    });
    let engine = Engine::start_on(&host, &[]);
    serve(&engine, "web", &["-p", "8080:80"]);
    let url = format!("{HOST}:8080/cgi-bin/who");
    wait_until("the port answers beside dockerd", || host.get_from_outside(&url) == NEIGHBOUR);
    let egress = format!("timeout 5 wget -O- http://{NEIGHBOUR}:9/ 2>&1 || true");
    engine.ferry(["exec", "web", "sh", "-c", &egress]).says("refused");
    drop(dockerd);
    wait_until("it answers after dockerd", || host.get_from_outside(&url) == NEIGHBOUR);
}

fn taken_back_ports_lose_their_connections() {
    let host = Host::new();
    let engine = Engine::start_on(&host, &[]);
    let flags = ["run", "-d", "--name", "echo", "-p", "80", "busybox", "sh", "-c"];
    let command = "exec nc -ll -p 80 -e cat";
    engine.ferry(flags.iter().chain(&[command])).exits(0);
    let port = host_port(&engine, "echo", "80");
    wait_until("it answers", || host.outside(&format!("echo hi | socat -t1 - TCP4:{HOST}:{port}")) == "hi\n");
    host.as_neighbour(|| {
        let mut stream = TcpStream::connect((HOST, port)).expect("the port answers");
        stream.set_read_timeout(Some(Duration::from_secs(1))).expect("a time limit");
        let mut answer = [0; 4];
        stream.write_all(b"one\n").and_then(|()| stream.read_exact(&mut answer)).expect("an echo");
        engine.ferry(["update", "--publish-rm", "80", "echo"]).exits(0);
        let talk = stream.write_all(b"two\n").and_then(|()| stream.read_exact(&mut answer));
        assert!(talk.is_err(), "the connection ends with its port");
    });
}

/// Every way in, both ways, by streams and by datagrams, as a measuring program finds it.
fn bulk_traffic_flows() {
    let host = Host::new();
    let engine = Engine::start_on(&host, &[]);
    let publish = ["-p", "5201:5201", "-p", "5201:5201/udp"];
    engine
        .ferry(["run", "-d", "--name", "box"].iter().chain(&publish).chain(&["busybox", "sleep", "600"]))
        .exits(0);
    let network = format!("--net=/proc/{}/ns/net", engine.inspect("box", "{{.State.Pid}}"));
    let server = Command::new("nsenter").args([&network, "iperf3", "-s"]).stdout(Stdio::null()).spawn();
    let mut server = server.expect("nsenter runs");
    let measured = |flags: &str, by: &dyn Fn(&str) -> String, server: &str| {
        let mut report = serde_json::Value::Null;
        wait_until(&format!("iperf3 {flags} reaches {server}"), || {
            report = serde_json::from_str(&by(&format!("iperf3 -c {server} {flags} -J"))).unwrap_or_default();
            report["error"].is_null() && report["end"].is_object()
        });
        // iperf3 ends when enough is sent, whatever is still under way.
        let (sum, count) = if flags.contains("-u") { ("sum", "packets") } else { ("sum_received", "bytes") };
        assert!(report["end"][sum][count].as_u64() > Some(0), "{flags} {server}: {report}");
    };
    for flags in ["-n 32M", "-n 32M -R", "-n 32M -P 4", "-u -b 50M -n 1M"] {
        measured(flags, &|line| host.outside(line), HOST);
        measured(flags, &|line| host.sh(line), "127.0.0.1");
    }
    measured("-n 32M", &|line| host.outside(line), "fd99::2");
    server.kill().and_then(|()| server.wait()).expect("it ends");
}
