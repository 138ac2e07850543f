//! What only some kernels have: macvlan, ipvlan, VLANs, SCTP. `cargo xtask vm` runs these on a kernel that has
//! all of it. Elsewhere each test asserts the one clear error, and says what it leaves out.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use ferry_tests::Engine;
use ferry_tests::engine::wait_until;
use rustix::net::{AddressFamily, SocketType, ipproto};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::Test;

/// The suite.
pub const TESTS: &[Test] = &[
    ("vm::macvlan", macvlan),
    ("vm::ipvlan_switched", ipvlan_switched),
    ("vm::ipvlan_routed", ipvlan_routed),
    ("vm::vlan_parents", vlan_parents),
    ("vm::sctp", sctp),
];

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

/// Creates a network, or asserts that the kernel's lack is said and nothing has changed; `false` then.
fn create(engine: &Engine, feature: &str, line: &str) -> bool {
    let before = engine.docker(words("network ls -q")).ok().to_owned();
    let created = engine.docker(words(line));
    if created.code == 0 {
        return true;
    }
    // Either the driver itself, or the dummy that stands in for a parent.
    let lacks = |what: &str| created.stderr.contains(&format!("the kernel has no {what}"));
    assert!(lacks(&format!("{feature} support")) || lacks("dummy interfaces"), "{created}");
    assert_eq!(engine.docker(words("network ls -q")).ok(), before);
    eprintln!("SKIPPED: {line}: {}", created.stderr.trim());
    false
}

/// An `ip` command on the host, by a container: the machines that these tests run on may lack the program.
fn ip(engine: &Engine, arguments: &str) -> ferry_tests::Outcome {
    let line = format!("run --rm --network host --cap-add NET_ADMIN busybox ip {arguments}");
    engine.ferry(words(&line))
}

fn reach_each_other(engine: &Engine, network: &str) {
    let run = format!("run -d --name peer --network {network} busybox sleep 600");
    engine.docker(words(&run)).exits(0);
    let address = engine.inspect("peer", &format!("{{{{.NetworkSettings.Networks.{network}.IPAddress}}}}"));
    for target in [address.as_str(), "peer"] {
        let ping = format!("run --rm --network {network} busybox ping -c 1 -W 10 {target}");
        engine.docker(words(&ping)).exits(0);
    }
    engine.ferry(words("rm -f peer")).exits(0);
}

fn macvlan() {
    let engine = Engine::with_busybox();
    let options = "network create -d macvlan --subnet 10.221.0.0/24 -o macvlan_mode=bridge";
    if create(&engine, "macvlan", &format!("{options} own")) {
        reach_each_other(&engine, "own");
        let id = engine.docker(words("network inspect -f {{.Id}} own")).ok().to_owned();
        let parent = format!("dm-{}", &id[..12]);
        ip(&engine, "link").says(&parent);
        engine.docker(words("network rm own")).exits(0);
        assert!(!ip(&engine, "link").ok().contains(&parent), "the parent that ferry made is gone");
    }
    // A bridge that a container is on is a parent that every kernel has.
    engine.docker(words("network create -o com.docker.network.bridge.name=fe-mac below")).exits(0);
    engine.docker(words("run -d --name below --network below busybox sleep 600")).exits(0);
    if create(&engine, "macvlan", &format!("{options} -o parent=fe-mac mac")) {
        reach_each_other(&engine, "mac");
        let mac = "02:42:00:00:00:77";
        let run =
            format!("run --rm --network mac --mac-address {mac} --ip 10.221.0.9 busybox ip addr show eth0");
        engine.docker(words(&run)).says(mac).says("10.221.0.9/24");
        engine.docker(words("network rm mac")).exits(0);
        engine
            .docker(words("network create -d macvlan -o parent=nowhere0 bad"))
            .exits(1)
            .complains("the parent interface nowhere0 does not exist");
    }
    engine.ferry(words("rm -f below")).exits(0);
}

fn ipvlan_switched() {
    let engine = Engine::with_busybox();
    if create(&engine, "ipvlan", "network create -d ipvlan --subnet 10.222.0.0/24 -o ipvlan_mode=l2 two") {
        reach_each_other(&engine, "two");
        engine.docker(words("network rm two")).exits(0);
    }
}

fn ipvlan_routed() {
    let engine = Engine::with_busybox();
    if !create(&engine, "ipvlan", "network create -d ipvlan --subnet 10.223.0.0/24 -o ipvlan_mode=l3 three") {
        return;
    }
    reach_each_other(&engine, "three");
    engine.docker(words("network rm three")).exits(0);
    // With a parent of the host's, packets to anywhere go out of the device: there is no next hop in l3.
    ip(&engine, "link add fe-parent type dummy").exits(0);
    ip(&engine, "link set fe-parent up").exits(0);
    let routed = "network create -d ipvlan --subnet 10.223.1.0/24 -o ipvlan_mode=l3 -o parent=fe-parent out";
    engine.docker(words(routed)).exits(0);
    engine.docker(words("run --rm --network out busybox ip route")).says("default dev eth0");
    engine.docker(words("network rm out")).exits(0);
    ip(&engine, "link show fe-parent").exits(0);
    ip(&engine, "link del fe-parent").exits(0);
}

fn vlan_parents() {
    let engine = Engine::with_busybox();
    if ip(&engine, "link add fe-trunk type dummy").code != 0 {
        eprintln!("SKIPPED: vm::vlan_parents: the kernel has no dummy interfaces");
        return;
    }
    ip(&engine, "link set fe-trunk up").exits(0);
    for driver in ["macvlan", "ipvlan"] {
        let line = format!("network create -d {driver} --subnet 10.224.0.0/24 -o parent=fe-trunk.30 tagged");
        let created = engine.docker(words(&line));
        if created.code != 0 {
            assert!(created.stderr.contains("the kernel has no "), "{created}");
            eprintln!("SKIPPED: {line}: {}", created.stderr.trim());
            continue;
        }
        ip(&engine, "link show fe-trunk.30").says("fe-trunk.30@fe-trunk");
        reach_each_other(&engine, "tagged");
        engine.docker(words("network rm tagged")).exits(0);
        assert_ne!(ip(&engine, "link show fe-trunk.30").code, 0, "the link that ferry made is gone");
    }
    ip(&engine, "link del fe-trunk").exits(0);
}

fn sctp() {
    let engine = Engine::with_busybox();
    let run = engine.docker(words("run -d --name talk -p 7777:7777/sctp busybox sleep 600"));
    if run.code != 0 {
        run.exits(125).complains("the kernel has no sctp support");
        engine.docker(words("port talk")).prints("");
        eprintln!("SKIPPED: vm::sctp: the kernel has no sctp support");
        return;
    }
    engine.docker(words("port talk 7777/sctp")).says("0.0.0.0:7777");
    let gateway = engine.inspect("talk", "{{.NetworkSettings.Networks.bridge.Gateway}}");
    let pid = engine.inspect("talk", "{{.State.Pid}}");
    std::thread::scope(|scope| {
        let listening = listener_inside(&pid);
        scope.spawn(move || {
            let accepted = rustix::net::accept(&listening).expect("an association");
            let mut bytes = [0; 4];
            fs::File::from(accepted).read_exact(&mut bytes).expect("four bytes");
            assert_eq!(&bytes, b"ping");
        });
        let mut connected = None;
        wait_until("the published port takes an association", || {
            connected = associate(&format!("{gateway}:7777"));
            connected.is_some()
        });
        let mut stream = fs::File::from(connected.expect("a socket"));
        stream.write_all(b"ping").expect("the bytes are sent");
    });
}

/// A listening SCTP socket in the network namespace of a process.
fn listener_inside(pid: &str) -> OwnedFd {
    let enter = || {
        let namespace = fs::File::open(format!("/proc/{pid}/ns/net")).expect("a namespace");
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).expect("entered");
        let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, Some(ipproto::SCTP))
            .expect("an SCTP socket");
        let any: std::net::SocketAddr = "0.0.0.0:7777".parse().expect("an address");
        rustix::net::bind(&socket, &any).expect("bound");
        rustix::net::listen(&socket, 1).expect("listening");
        socket
    };
    std::thread::scope(|scope| scope.spawn(enter).join().expect("the thread ends"))
}

fn associate(address: &str) -> Option<OwnedFd> {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, Some(ipproto::SCTP)).ok()?;
    let address: std::net::SocketAddr = address.parse().ok()?;
    rustix::net::connect(&socket, &address).ok()?;
    Some(socket)
}
