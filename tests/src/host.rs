//! A host of its own: a network namespace with an engine in it and a neighbour behind a wire.

use std::fs::File;
use std::os::fd::AsFd;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::NamedTempFile;

/// The host's address on the wire.
pub const HOST: &str = "192.0.2.2";
/// The neighbour's.
pub const NEIGHBOUR: &str = "192.0.2.1";

/// Two network namespaces joined by a veth pair; gone when dropped.
#[derive(Debug)]
pub struct Host {
    name: String,
    neighbour: String,
    /// What the host has as `/etc/resolv.conf`, where that is not the machine's.
    resolv_conf: Option<NamedTempFile>,
}

impl Host {
    /// Makes both. The host's default route leads to the neighbour over a device with an MTU of 1400.
    ///
    /// # Panics
    /// Where the kernel refuses.
    #[must_use]
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let id = std::process::id();
        let host = Self {
            name: format!("fh{id}-{number}"),
            neighbour: format!("fn{id}-{number}"),
            resolv_conf: None,
        };
        let (own, other) = (&host.name, &host.neighbour);
        let script = format!(
            "set -e
             ip netns add {own}
             ip netns add {other}
             ip -n {own} link add up0 mtu 1400 type veth peer name up0 mtu 1400 netns {other}
             ip -n {own} addr add {HOST}/24 dev up0
             ip -n {own} addr add fd99::2/64 dev up0 nodad
             ip -n {other} addr add {NEIGHBOUR}/24 dev up0
             ip -n {other} addr add fd99::1/64 dev up0 nodad
             for side in {own} {other}; do ip -n $side link set lo up; ip -n $side link set up0 up; done
             ip -n {own} route add default via {NEIGHBOUR}
             ip -n {own} route add default via fd99::1"
        );
        let output = Command::new("sh").args(["-c", &script]).output().expect("sh runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        host
    }

    /// Makes both, the host with a resolver configuration of its own.
    ///
    /// # Panics
    /// Where the kernel refuses.
    #[must_use]
    pub fn with_resolv_conf(text: &str) -> Self {
        let mut host = Self::new();
        host.resolv_conf = Some(NamedTempFile::new().expect("a temporary file"));
        host.set_resolv_conf(text);
        host
    }

    /// Rewrites the host's own resolver configuration in place.
    ///
    /// # Panics
    /// Where the host was made without one.
    pub fn set_resolv_conf(&self, text: &str) {
        let file = self.resolv_conf.as_ref().expect("the host has a configuration of its own");
        std::fs::write(file.path(), text).expect("a temporary file takes it");
    }

    /// Words before a command that put it on this host.
    #[must_use]
    pub fn prefix(&self) -> Vec<String> {
        let mut words = vec!["nsenter".to_owned(), format!("--net=/run/netns/{}", self.name)];
        if let Some(file) = &self.resolv_conf {
            let mount = format!("mount --bind {} /etc/resolv.conf && exec \"$@\"", file.path().display());
            words.extend(["unshare", "--mount", "sh", "-c", &mount, "sh"].map(str::to_owned));
        }
        words
    }

    /// The neighbour's network namespace.
    ///
    /// # Panics
    /// Where it is gone.
    #[must_use]
    pub fn neighbour_namespace(&self) -> File {
        File::open(format!("/run/netns/{}", self.neighbour)).expect("a namespace")
    }

    /// Runs a shell script on the host; its standard output.
    #[must_use]
    pub fn sh(&self, script: &str) -> String {
        text(&run(&self.name, script))
    }

    /// Runs a shell script on the neighbour; its standard output.
    #[must_use]
    pub fn outside(&self, script: &str) -> String {
        text(&run(&self.neighbour, script))
    }

    /// Runs a closure on a thread whose connections come from the neighbour.
    ///
    /// # Panics
    /// Where the namespace cannot be entered, or the closure panics.
    pub fn as_neighbour<T: Send>(&self, body: impl FnOnce() -> T + Send) -> T {
        let inside = || {
            enter(&self.neighbour_namespace());
            body()
        };
        std::thread::scope(|scope| scope.spawn(inside).join().expect("the closure ends"))
    }

    /// What a web server says to the neighbour; empty when it cannot be reached.
    #[must_use]
    pub fn get_from_outside(&self, address: &str) -> String {
        self.outside(&curl(address)).trim().to_owned()
    }

    /// The same from the host itself.
    #[must_use]
    pub fn get(&self, address: &str) -> String {
        self.sh(&curl(address)).trim().to_owned()
    }
}

/// Asks with a patience that is short, since what is not reached takes all of it, and longer where all is slow.
fn curl(address: &str) -> String {
    let limit = (crate::engine::patience().as_secs() / 15).clamp(2, 8);
    format!("curl -s -m {limit} http://{address}")
}

/// Takes the calling thread into a network namespace, for good.
///
/// # Panics
/// Where the kernel refuses.
pub fn enter(namespace: &File) {
    let kind = Some(rustix::thread::LinkNameSpaceType::Network);
    rustix::thread::move_into_link_name_space(namespace.as_fd(), kind).expect("root may enter it");
}

impl Default for Host {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        for name in [&self.name, &self.neighbour] {
            let _ = Command::new("ip").args(["netns", "del", name]).output();
        }
    }
}

fn run(namespace: &str, script: &str) -> Output {
    let net = format!("--net=/run/netns/{namespace}");
    Command::new("nsenter").args([&net, "sh", "-c", script]).output().expect("nsenter runs")
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}
