//! The way out: names and packets of containers reach the world, as far as the machine itself does.

use std::fs;
use std::process::Command;

use ferry_tests::Engine;
use ferry_tests::engine::wait_until;

use crate::Test;

/// The suite.
pub const TESTS: &[Test] = &[
    ("network::a_debian_mirror_is_reached", a_debian_mirror_is_reached),
    ("network::names_of_containers_on_the_host", names_of_containers_on_the_host),
    ("network::exposed_ports_are_explained", exposed_ports_are_explained),
];

const MIRROR: &str = "http://deb.debian.org/debian";

/// A setting of the machine's own apt; empty where there is none.
fn apt_setting(name: &str) -> String {
    let shell = format!("eval \"$(apt-config shell VALUE {name})\"; printf %s \"$VALUE\"");
    let output = Command::new("sh").args(["-c", &shell]).output().expect("sh runs");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn a_debian_mirror_is_reached() {
    let proxy = apt_setting("Acquire::http::Proxy");
    let mut asking = Command::new("curl");
    asking.args(["-s", "-f", "-m", "20", "-o", "/dev/null"]);
    if !proxy.is_empty() {
        asking.args(["-x", &proxy]);
    }
    asking.arg(format!("{MIRROR}/dists/bookworm/InRelease"));
    if !asking.status().is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: network::a_debian_mirror_is_reached: this machine does not reach {MIRROR}");
        return;
    }
    let engine = Engine::with_images(&["debian"]);
    let script = format!(
        "rm -f /etc/apt/sources.list.d/*; echo 'deb {MIRROR} bookworm main' >/etc/apt/sources.list
         apt-get -o Acquire::http::Proxy='{proxy}' -o Acquire::http::Timeout=30 -o Acquire::Languages=none update"
    );
    let updated = engine.docker(["run", "--rm", "-u", "0", "debian:bookworm", "sh", "-c", &script]);
    updated.exits(0).says("bookworm InRelease");
    assert!(!updated.stderr.contains("Failed to fetch"), "{updated}");
}

fn names_of_containers_on_the_host() {
    let folder = tempfile::tempdir().expect("a folder");
    let hosts = folder.path().join("hosts");
    fs::write(&hosts, "127.0.0.1\tlocalhost\n").expect("a file");
    let engine = Engine::start_with(&["--names-in", &hosts.to_string_lossy()]);
    let archive = ferry_tests::images::archive("busybox");
    engine.ferry(["load", "-q", "-i", &archive.to_string_lossy()]).exits(0);
    engine.docker(["run", "-d", "--name", "web", "busybox", "sleep", "60"]).exits(0);
    let address = engine.inspect("web", "{{.NetworkSettings.Networks.bridge.IPAddress}}");
    let text = || fs::read_to_string(&hosts).expect("the file");
    assert!(text().contains(&format!("{address}\tweb.ferry.localhost\n")), "{}", text());
    engine.docker(["rename", "web", "shop"]).exits(0);
    assert!(text().contains(&format!("{address}\tshop.ferry.localhost\n")), "{}", text());
    engine.kill("engine");
    assert!(text().contains("shop.ferry.localhost"), "{}", text());
    engine.docker(["rm", "-f", "shop"]).exits(0);
    wait_until("nothing is left", || text() == "127.0.0.1\tlocalhost\n");
}

fn exposed_ports_are_explained() {
    let engine = Engine::with_busybox();
    engine.docker(["run", "-d", "--name", "web", "--expose", "80", "busybox", "sleep", "60"]).exits(0);
    engine
        .ferry(["port", "web", "80"])
        .exits(1)
        .complains("No public port '80/tcp' published for web")
        .complains("ferry update -p 80 web");
    engine.ferry(["port", "web"]).exits(0).complains("80/tcp of web is exposed");
    engine.ferry(["port", "web", "81"]).exits(1).complains("ferry update -p 81 web");
}
