//! Names inside containers, asked with `dig` from a container's own network namespace, and what happens to
//! names that only the host's servers know.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use ferry_tests::Engine;
use ferry_tests::engine::wait_until;
use ferry_tests::host::{Host, NEIGHBOUR, enter};

use crate::{CLIENTS, Test};

/// The suite.
pub const TESTS: &[Test] = &[
    ("network::names_by_dig", names_by_dig),
    ("network::dns_over_every_transport", dns_over_every_transport),
    ("network::outside_names_follow_the_host", outside_names_follow_the_host),
    ("network::search_and_ndots", search_and_ndots),
    ("network::names_outlive_the_engine", names_outlive_the_engine),
    ("network::port_53_is_the_containers", port_53_is_the_containers),
];

/// The name that has more addresses than a datagram holds.
const LARGE: &str = "large.example";
const LARGE_COUNT: u8 = 60;
const TYPE_A: u16 = 1;

/// Asks the server at 127.0.0.11 as a program in the container would.
fn dig(engine: &Engine, name: &str, question: &str) -> String {
    let pid = engine.inspect(name, "{{.State.Pid}}");
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/proc/{pid}/ns/net")).args([
        "dig",
        "+time=5",
        "+tries=2",
        "+nocookie",
        "@127.0.0.11",
    ]);
    let output = command.args(question.split_whitespace()).output().expect("dig is installed");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn start(engine: &Engine, name: &str, flags: &str) {
    let line = format!("run -d --name {name} {flags} busybox sleep 1000");
    engine.ferry(line.split_whitespace()).exits(0);
}

fn address(engine: &Engine, name: &str, network: &str) -> String {
    engine.inspect(name, &format!("{{{{.NetworkSettings.Networks.{network}.IPAddress}}}}"))
}

/// A server for names outside: knows `printer.corp.example` and [`LARGE`], tells the rest that they do not exist.
struct Upstream {
    asked: Arc<AtomicU32>,
}

impl Upstream {
    /// Serves on the neighbour until the test's process ends; `answer` is the printer's address.
    fn start(host: &Host, own: &str, answer: [u8; 4]) -> Self {
        let asked = Arc::new(AtomicU32::new(0));
        let address: SocketAddr = format!("{own}:53").parse().expect("an address");
        for tcp in [false, true] {
            let (namespace, asked) = (host.neighbour_namespace(), Arc::clone(&asked));
            let (ready, serves) = std::sync::mpsc::channel();
            std::thread::spawn(move || {
                enter(&namespace);
                match tcp {
                    true => serve_tcp(&TcpListener::bind(address).expect("port 53 is free"), answer, &ready),
                    false => {
                        serve_udp(&UdpSocket::bind(address).expect("port 53 is free"), answer, &asked, &ready)
                    }
                }
            });
            serves.recv().expect("the server is ready");
        }
        Self { asked }
    }

    fn count(&self) -> u32 {
        self.asked.load(Ordering::SeqCst)
    }
}

fn serve_udp(socket: &UdpSocket, answer: [u8; 4], asked: &AtomicU32, ready: &std::sync::mpsc::Sender<()>) {
    ready.send(()).expect("the test waits");
    let mut buffer = [0; 1500];
    while let Ok((length, from)) = socket.recv_from(&mut buffer) {
        asked.fetch_add(1, Ordering::SeqCst);
        let _ = socket.send_to(&reply(&buffer[..length], answer, true), from);
    }
}

fn serve_tcp(listener: &TcpListener, answer: [u8; 4], ready: &std::sync::mpsc::Sender<()>) {
    ready.send(()).expect("the test waits");
    for mut stream in listener.incoming().flatten() {
        let mut length = [0; 2];
        if stream.read_exact(&mut length).is_err() {
            continue;
        }
        let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
        if stream.read_exact(&mut query).is_ok() {
            let reply = reply(&query, answer, false);
            let size = u16::try_from(reply.len()).expect("a DNS message").to_be_bytes();
            let _ = stream.write_all(&[&size, reply.as_slice()].concat());
        }
    }
}

/// An answer to a query with one question.
fn reply(query: &[u8], answer: [u8; 4], datagram: bool) -> Vec<u8> {
    const RESPONSE: u8 = 0x84;
    const TRUNCATED: u8 = 0x02;
    const NO_SUCH_NAME: u8 = 3;
    let (mut name, mut at) = (Vec::new(), 12);
    while query[at] != 0 {
        let length = usize::from(query[at]);
        name.push(String::from_utf8_lossy(&query[at + 1..=at + length]).to_lowercase());
        at += length + 1;
    }
    let question_end = at + 5;
    let kind = u16::from_be_bytes([query[at + 1], query[at + 2]]);
    let (mut flags, mut code, mut addresses) = (RESPONSE, 0, Vec::new());
    match name.join(".").as_str() {
        LARGE if datagram => flags |= TRUNCATED,
        LARGE => addresses = (1..=LARGE_COUNT).map(|last| [198, 51, 100, last]).collect(),
        "printer.corp.example" if kind == TYPE_A => addresses.push(answer),
        "printer.corp.example" => {}
        _ => code = NO_SUCH_NAME,
    }
    let count = u8::try_from(addresses.len()).expect("few");
    let mut message = [&query[..2], &[flags, code, 0, 1, 0, count, 0, 0, 0, 0]].concat();
    message.extend(&query[12..question_end]);
    for address in addresses {
        message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        message.extend(address);
    }
    message
}

fn names_by_dig() {
    let engine = Engine::with_busybox();
    engine.ferry(["network", "create", "--ipv6", "shop"]).exits(0);
    engine.ferry(["network", "create", "--internal", "office"]).exits(0);
    for client in CLIENTS {
        let run =
            "run -d --name web --network shop --network-alias Front --network-alias www busybox sleep 1000";
        let id = engine.client(client, run.split_whitespace()).ok().to_owned();
        let web = address(&engine, "web", "shop");
        start(&engine, "ask", "--network shop");
        start(&engine, "stranger", "--network office");
        for name in ["web", "WEB", "front", "www", "web.shop", &id[..12]] {
            assert_eq!(dig(&engine, "ask", &format!("+short {name}")), web, "{name}");
        }
        assert_eq!(dig(&engine, "ask", &format!("+short -x {web}")), "web.shop.");
        let web6 = engine.inspect("web", "{{.NetworkSettings.Networks.shop.GlobalIPv6Address}}");
        assert_eq!(dig(&engine, "ask", "+short AAAA web"), web6);
        assert_eq!(dig(&engine, "ask", &format!("+short -x {web6}")), "web.shop.");
        // A known name without a record of the kind asked for is no unknown name.
        let mx = dig(&engine, "ask", "MX web");
        assert!(mx.contains("status: NOERROR") && mx.contains("ANSWER: 0"), "{mx}");
        assert!(!dig(&engine, "stranger", "+short web").contains(&web), "another network's name");
        engine.client(client, ["rename", "web", "shopfront"]).exits(0);
        assert_eq!(dig(&engine, "ask", "+short shopfront"), web);
        engine.client(client, ["rm", "-f", "shopfront", "ask", "stranger"]).exits(0);
    }
    for name in ["one", "two", "three"] {
        start(&engine, name, "--network shop --network-alias app");
    }
    let firsts: std::collections::BTreeSet<String> = (0..9)
        .map(|_| {
            let all = dig(&engine, "one", "+short app");
            assert_eq!(all.lines().count(), 3, "{all}");
            all.lines().next().unwrap_or_default().to_owned()
        })
        .collect();
    assert_eq!(firsts.len(), 3, "each is first in turn: {firsts:?}");
}

fn dns_over_every_transport() {
    let host = Host::with_resolv_conf(&format!("nameserver {NEIGHBOUR}\n"));
    let _upstream = Upstream::start(&host, NEIGHBOUR, [203, 0, 113, 1]);
    let engine = Engine::start_on(&host, &[]);
    engine.ferry(["network", "create", "shop"]).exits(0);
    start(&engine, "web", "--network shop");
    let web = address(&engine, "web", "shop");
    for how in ["+notcp", "+tcp", "+noedns", "+edns=0 +bufsize=4096", "+cookie", "+dnssec"] {
        assert_eq!(dig(&engine, "web", &format!("+short {how} web")), web, "{how}");
    }
    let edns = dig(&engine, "web", "+edns=0 web");
    assert!(edns.contains("EDNS: version: 0"), "{edns}");
    // Too large for a datagram: said so, and whole over TCP.
    let cut = dig(&engine, "web", &format!("+notcp +ignore {LARGE}"));
    assert!(cut.contains("flags: qr") && cut.contains(" tc"), "{cut}");
    let whole = dig(&engine, "web", &format!("+short {LARGE}"));
    assert_eq!(whole.lines().count(), usize::from(LARGE_COUNT), "{whole}");
    let nobody = dig(&engine, "web", "nobody.example");
    assert!(nobody.contains("status: NXDOMAIN"), "{nobody}");
}

fn outside_names_follow_the_host() {
    const SECOND: &str = "192.0.2.3";
    const PRINTER: &str = "+short printer.corp.example";
    let host = Host::with_resolv_conf(&format!("nameserver {NEIGHBOUR}\n"));
    let _ = host.outside(&format!("ip addr add {SECOND}/24 dev up0"));
    let first = Upstream::start(&host, NEIGHBOUR, [203, 0, 113, 1]);
    let second = Upstream::start(&host, SECOND, [203, 0, 113, 2]);
    let engine = Engine::start_on(&host, &[]);
    engine.ferry(["network", "create", "shop"]).exits(0);
    engine.ferry(["network", "create", "--internal", "vault"]).exits(0);
    start(&engine, "web", "--network shop");
    start(&engine, "own", &format!("--network shop --dns {SECOND}"));
    start(&engine, "locked", "--network vault");
    assert_eq!(dig(&engine, "web", PRINTER), "203.0.113.1");
    let asked = first.count();
    for _ in 0..5 {
        assert_eq!(dig(&engine, "web", PRINTER), "203.0.113.1");
    }
    // A cookie, other with every question, is between the client and the server it asks.
    for _ in 0..3 {
        assert_eq!(dig(&engine, "web", &format!("{PRINTER} +cookie")), "203.0.113.1");
    }
    assert_eq!(first.count(), asked, "the answer is remembered for as long as it says");
    assert_eq!(dig(&engine, "own", PRINTER), "203.0.113.2", "--dns is asked instead");
    assert!(dig(&engine, "locked", "printer.corp.example").contains("status: NXDOMAIN"), "nothing leads out");
    host.set_resolv_conf(&format!("# changed\nnameserver {SECOND}\n"));
    wait_until("the new server is asked", || dig(&engine, "web", PRINTER) == "203.0.113.2");
    // The first of two servers is gone: the second answers.
    host.set_resolv_conf(&format!("nameserver 192.0.2.77\nnameserver {SECOND}\n"));
    wait_until("the next server is asked", || {
        let before = second.count();
        dig(&engine, "web", "+short missing.example");
        second.count() > before
    });
    host.set_resolv_conf("# no servers any more, as without a network\n");
    wait_until("without servers the answer is a failure at once", || {
        dig(&engine, "web", "another.example").contains("status: SERVFAIL")
    });
    let web = address(&engine, "web", "shop");
    assert_eq!(dig(&engine, "web", "+short web"), web, "containers are found without any server");
}

fn search_and_ndots() {
    let host = Host::with_resolv_conf(&format!("nameserver {NEIGHBOUR}\nsearch corp.example\n"));
    let _upstream = Upstream::start(&host, NEIGHBOUR, [203, 0, 113, 1]);
    let engine = Engine::start_on(&host, &[]);
    engine.ferry(["network", "create", "shop"]).exits(0);
    start(&engine, "web", "--network shop");
    let web = address(&engine, "web", "shop");
    let ping = |flags: &str, name: &str| {
        let line = format!("run --rm --network shop {flags} busybox ping -c 1 -W 1 {name}");
        engine.ferry(line.split_whitespace())
    };
    // The host's search list, a list of one's own, none at all.
    ping("", "printer").says("(203.0.113.1)");
    ping("--dns-search example", "printer.corp").says("(203.0.113.1)");
    ping("--dns-search .", "printer").exits(1);
    // With ndots a bare container's name is found all the same.
    ping("--dns-option ndots:2", "web").says(&format!("({web})"));
    ping("--dns-option ndots:2", "printer").says("(203.0.113.1)");
}

fn names_outlive_the_engine() {
    let engine = Engine::with_busybox();
    engine.ferry(["network", "create", "shop"]).exits(0);
    start(&engine, "web", "--network shop");
    let web = address(&engine, "web", "shop");
    let pid = engine.inspect("web", "{{.State.Pid}}");
    let before = engine.pid("engine");
    ferry_tests::engine::kill_process(before);
    for _ in 0..5 {
        let output = Command::new("nsenter")
            .arg(format!("--net=/proc/{pid}/ns/net"))
            .args(["dig", "+short", "+time=1", "+tries=1", "@127.0.0.11", "web"])
            .output()
            .expect("dig is installed");
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), web, "while the engine is away");
    }
    engine.ferry(["ps"]).exits(0);
    engine.kill("keeper");
    wait_until("the new keeper answers", || dig(&engine, "web", "+short web") == web);
}

/// A program of this machine in a container's network.
fn inside(engine: &Engine, name: &str, script: &str) -> Command {
    let pid = engine.inspect(name, "{{.State.Pid}}");
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/proc/{pid}/ns/net")).args(["sh", "-c", script]);
    command
}

fn port_53_is_the_containers() {
    let engine = Engine::with_busybox();
    engine.ferry(["network", "create", "shop"]).exits(0);
    start(&engine, "server", "--network shop");
    start(&engine, "ask", "--network shop");
    let (server_at, ask) = (address(&engine, "server", "shop"), address(&engine, "ask", "shop"));
    // On every address: the one at 127.0.0.11 must not stand in its way.
    for (kind, listen) in
        [("TCP4", "TCP4-LISTEN:53,fork,reuseaddr"), ("UDP4", "UDP4-LISTEN:53,fork,reuseaddr")]
    {
        let mut server =
            inside(&engine, "server", &format!("exec socat -T 1 {listen} EXEC:cat")).spawn().expect("socat");
        let talk = format!("echo hello {kind} | timeout 3 socat -t 1 - {kind}:{server_at}:53");
        wait_until("the container's own server answers", || {
            let output = inside(&engine, "ask", &talk).output().expect("socat is installed");
            String::from_utf8_lossy(&output.stdout).contains(&format!("hello {kind}"))
        });
        // And names are answered there as everywhere.
        assert_eq!(dig(&engine, "server", "+short ask"), ask, "{kind}");
        assert_eq!(dig(&engine, "server", "+short +tcp server"), server_at, "{kind}");
        server.kill().and_then(|()| server.wait()).expect("it ends");
    }
}
