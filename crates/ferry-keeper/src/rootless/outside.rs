//! The process that stays outside of the user's namespaces: it has the maps written, runs the program that
//! connects the network, and holds ports of the host for containers.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ferry_shim::poll::PollSet;
use ferry_sys::channel::{self, Channel};
use ferry_sys::descriptor::keep_only;
use rustix::event::PollFlags;
use serde::{Deserialize, Serialize};

use super::anchor;
use super::ids::{self, Ids};
use super::{PORTS_SOCKET, RootlessError};
use crate::pidfile;

/// The address inside at which the host's name servers answer.
const RESOLVER: &str = "169.254.1.53";
/// How long the network program may take to be ready.
const READY: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(5);

/// What the starter asks for.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Order {
    /// The maps of a process.
    Map { pid: i32, ids: Ids },
    /// A network for the namespaces of the anchor, and ports; from then on until the anchor ends.
    Serve { anchor: i32 },
}

/// What became of it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    Done,
    Failed(String),
}

/// Asks the process outside.
pub(super) fn ask(channel: &mut Channel, order: &Order) -> Result<Answer, RootlessError> {
    let lost = |_| RootlessError::Helper;
    channel.send(&ferry_shim::protocol::encode(order), &[]).map_err(lost)?;
    let (frame, _) = channel.recv().map_err(lost)?;
    serde_json::from_slice(&frame).map_err(|_| RootlessError::Helper)
}

/// Its life, in a process that has just been forked. Exit code 1 where it could not even begin.
pub(super) fn run(channel: &Channel, run_root: &Path) -> i32 {
    // Nothing of the starter's stays open, or whoever waits for the end of its output waits for ours.
    let Ok(()) = anchor::detach("ferry outside") else { return 1 };
    let Ok(mut channel) = keep_only(channel.as_fd()).map(Channel::from) else { return 1 };
    while let Ok((frame, _)) = channel.recv() {
        match serde_json::from_slice(&frame) {
            Ok(Order::Map { pid, ids }) => {
                let answer = ids.map(pid).map_or_else(Answer::Failed, |()| Answer::Done);
                if channel.send(&ferry_shim::protocol::encode(&answer), &[]).is_err() {
                    return 1;
                }
            }
            Ok(Order::Serve { anchor }) => return serve(channel, anchor, run_root),
            Err(_) => return 1,
        }
    }
    1
}

fn serve(mut channel: Channel, anchor: i32, run_root: &Path) -> i32 {
    let Some(pidfd) = pidfile::open(anchor) else { return 1 };
    let ports = listen(run_root);
    let network = connect(anchor);
    let trouble = match (&ports, &network) {
        (Err(error), _) => Some(format!("Published ports do not work: {error}")),
        (_, Err(reason)) => Some(reason.clone()),
        _ => None,
    };
    let answer = trouble.map_or(Answer::Done, Answer::Failed);
    // The starter may have ended; the anchor then has, too.
    let _ = channel.send(&ferry_shim::protocol::encode(&answer), &[]);
    drop(channel);
    until_dead(pidfd.as_fd(), ports.as_ref().ok());
    if let Ok(mut program) = network {
        let _ = (program.kill(), program.wait());
    }
    0
}

fn listen(run_root: &Path) -> io::Result<OwnedFd> {
    let path = run_root.join(PORTS_SOCKET);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    channel::listen(&path, 0o600)
}

/// Hands out ports until the anchor ends.
fn until_dead(anchor: BorrowedFd<'_>, ports: Option<&OwnedFd>) {
    loop {
        let mut set = PollSet::new();
        set.add(true, anchor, PollFlags::IN);
        if let Some(ports) = ports {
            set.add(false, ports.as_fd(), PollFlags::IN);
        }
        let ready = set.wait(None).unwrap_or_default();
        if ready.iter().any(|(dead, _)| *dead) {
            return;
        }
        if let (false, Some(ports)) = (ready.is_empty(), ports)
            && let Ok(Some(socket)) = channel::accept(ports.as_fd())
        {
            // Whoever asked wrongly gets no answer, which is an error there.
            let _ = ferry_net::port::outside::answer(&mut Channel::from(socket));
        }
    }
}

/// Starts the program that carries packets between the namespaces and the host.
fn connect(anchor: i32) -> Result<Child, String> {
    let none = "Containers reach nothing outside, and images cannot be pulled";
    if std::fs::File::options().read(true).write(true).open("/dev/net/tun").is_err() {
        return Err(format!("{none}: /dev/net/tun cannot be opened: chmod 0666 /dev/net/tun"));
    }
    let Some(program) = ids::find("pasta") else {
        return Err(format!("{none}: pasta is missing: apt install passt"));
    };
    let child = pasta(&program, anchor).spawn().map_err(|error| format!("{none}: pasta: {error}"))?;
    wait_for_network(child, anchor).map_err(|reason| format!("{none}: {reason}"))
}

/// No port is forwarded by it, and none of the host's own is reached through it.
fn pasta(program: &Path, anchor: i32) -> Command {
    let mut command = Command::new(program);
    command.args(["--foreground", "--config-net", "--no-map-gw", "--quiet", "--dns-forward", RESOLVER]);
    for flag in ["--tcp-ports", "--udp-ports", "--tcp-ns", "--udp-ns"] {
        command.args([flag, "none"]);
    }
    command.arg(anchor.to_string()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// It is ready once the anchor's namespace has a route that leads somewhere.
fn wait_for_network(mut child: Child, anchor: i32) -> Result<Child, String> {
    let routes = PathBuf::from(format!("/proc/{anchor}/net/route"));
    let deadline = Instant::now() + READY;
    loop {
        let lines = std::fs::read_to_string(&routes).map_or(0, |text| text.lines().count());
        if lines > 1 {
            return Ok(child);
        }
        if let Ok(Some(_)) = child.try_wait() {
            return Err(format!("pasta: {}", last_words(child)));
        }
        if Instant::now() >= deadline {
            let _ = (child.kill(), child.wait());
            return Err("pasta makes no route".to_owned());
        }
        std::thread::sleep(PAUSE);
    }
}

fn last_words(child: Child) -> String {
    let output = child.wait_with_output().map(|output| output.stderr).unwrap_or_default();
    let text = String::from_utf8_lossy(&output);
    text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("ended").to_owned()
}

/// A name server on the host's loopback is out of reach inside; there it has another address.
pub(super) fn resolver(run_root: &Path) -> io::Result<()> {
    const FILE: &str = "/etc/resolv.conf";
    let Ok(text) = std::fs::read_to_string(FILE) else { return Ok(()) };
    let Some(replaced) = without_loopback(&text) else { return Ok(()) };
    let path = run_root.join("resolv.conf");
    std::fs::write(&path, replaced)?;
    let target = std::fs::canonicalize(FILE)?;
    rustix::mount::mount_bind(&path, &target)?;
    Ok(())
}

/// The file with another server where one is on the loopback; None where it can stay.
fn without_loopback(text: &str) -> Option<String> {
    let is_local = |line: &str| {
        let mut words = line.split_whitespace();
        words.next() == Some("nameserver")
            && words.next().is_some_and(|server| server.starts_with("127.") || server == "::1")
    };
    if !text.lines().any(is_local) {
        return None;
    }
    let kept = text.lines().filter(|line| !line.trim_start().starts_with("nameserver"));
    let lines: Vec<&str> = kept.collect();
    Some(format!("nameserver {RESOLVER}\n{}\n", lines.join("\n")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_on_the_loopback_are_replaced() {
        assert_eq!(without_loopback("nameserver 192.0.2.1\nsearch a\n"), None);
        let text = "# x\nnameserver 127.0.0.53\nnameserver 192.0.2.1\nsearch a b\n";
        let expected = "nameserver 169.254.1.53\n# x\nsearch a b\n";
        assert_eq!(without_loopback(text).as_deref(), Some(expected));
    }
}
