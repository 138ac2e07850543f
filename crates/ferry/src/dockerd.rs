//! Flags of Docker's daemon that mean nothing to this engine, or have another name here: unit files and scripts that
//! start `dockerd` keep working, and are told what has no effect.

/// Flags with a value.
const WITH_VALUE: &[&str] = &[
    "add-runtime",
    "authorization-plugin",
    "bip",
    "bip6",
    "bridge",
    "bridge-accept-fwmark",
    "cdi-spec-dir",
    "cgroup-parent",
    "containerd",
    "containerd-namespace",
    "containerd-plugins-namespace",
    "cpu-rt-period",
    "cpu-rt-runtime",
    "default-address-pool",
    "default-cgroupns-mode",
    "default-gateway",
    "default-gateway-v6",
    "default-ipc-mode",
    "default-network-opt",
    "default-runtime",
    "default-shm-size",
    "default-ulimit",
    "dns",
    "dns-opt",
    "dns-search",
    "exec-opt",
    "feature",
    "firewall-backend",
    "fixed-cidr",
    "fixed-cidr-v6",
    "group",
    "host-gateway-ip",
    "http-proxy",
    "https-proxy",
    "init-path",
    "label",
    "log-driver",
    "log-format",
    "log-level",
    "log-opt",
    "max-concurrent-downloads",
    "max-concurrent-uploads",
    "max-download-attempts",
    "metrics-addr",
    "mtu",
    "network-control-plane-mtu",
    "no-proxy",
    "node-generic-resource",
    "oom-score-adjust",
    "pidfile",
    "seccomp-profile",
    "shutdown-timeout",
    "storage-driver",
    "storage-opt",
    "swarm-default-advertise-addr",
    "userland-proxy-path",
    "userns-remap",
];
/// Flags without one.
const SWITCHES: &[&str] = &[
    "allow-direct-routing",
    "debug",
    "experimental",
    "icc",
    "init",
    "ip-forward",
    "ip-forward-no-drop",
    "ip-masq",
    "ip6tables",
    "iptables",
    "ipv6",
    "live-restore",
    "no-new-privileges",
    "raw-logs",
    "rootless",
    "selinux-enabled",
    "userland-proxy",
];
/// Flags that have another name here.
const RENAMED: [(&str, &str); 2] = [("exec-root", "run-root"), ("graph", "data-root")];
/// Docker's letters.
const LETTERS: [(char, &str); 7] = [
    ('b', "bridge"),
    ('D', "debug"),
    ('G', "group"),
    ('g', "graph"),
    ('l', "log-level"),
    ('p', "pidfile"),
    ('s', "storage-driver"),
];

/// The words that this engine knows, and what is to be said of the others.
pub fn translate(words: Vec<String>) -> (Vec<String>, Vec<String>) {
    let (mut kept, mut notes) = (Vec::new(), Vec::new());
    let mut words = words.into_iter().peekable();
    while let Some(word) = words.next() {
        let is_host = matches!(word.as_str(), "-H" | "--host");
        if word.ends_with("=fd://") || is_host && words.next_if(|next| next == "fd://").is_some() {
            notes.push("fd:// has no effect: this engine makes its socket itself".to_owned());
            continue;
        }
        let Some((name, value)) = split(&word) else {
            kept.push(word);
            continue;
        };
        if let Some((_, ours)) = RENAMED.iter().find(|(theirs, _)| *theirs == name) {
            kept.push(match value {
                Some(value) => format!("--{ours}={value}"),
                None => format!("--{ours}"),
            });
        } else if WITH_VALUE.contains(&name.as_str()) {
            let value = value.or_else(|| words.next()).unwrap_or_default();
            notes.push(format!("--{name} {value} has no effect: {}", instead(&name)));
        } else if SWITCHES.contains(&name.as_str()) {
            notes.push(format!("--{name} has no effect: {}", instead(&name)));
        } else {
            kept.push(word);
        }
    }
    (kept, notes)
}

/// Name and value of a flag; None for what is none, or is spelt with a letter that we have ourselves.
fn split(word: &str) -> Option<(String, Option<String>)> {
    if let Some(long) = word.strip_prefix("--") {
        return Some(match long.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (long.to_owned(), None),
        });
    }
    let mut letters = word.strip_prefix('-')?.chars();
    let letter = letters.next()?;
    let (_, name) = LETTERS.iter().find(|(known, _)| *known == letter)?;
    let rest = letters.as_str().trim_start_matches('=');
    Some(((*name).to_owned(), (!rest.is_empty()).then(|| rest.to_owned())))
}

/// What holds here in its place.
fn instead(name: &str) -> &'static str {
    match name {
        "live-restore" => "containers outlive this engine always",
        "userland-proxy" | "userland-proxy-path" => "published ports need no proxy process",
        "iptables" | "ip6tables" | "firewall-backend" => "rules are nftables rules in tables of their own",
        "containerd"
        | "containerd-namespace"
        | "containerd-plugins-namespace"
        | "add-runtime"
        | "default-runtime" => "the runtime is within this program",
        "storage-driver" | "storage-opt" => "layers are kept by overlayfs",
        "debug" | "log-level" | "log-format" | "raw-logs" => "FERRY_LOG=debug shows more",
        "metrics-addr" => "there are no metrics yet",
        "dns" | "dns-opt" | "dns-search" => "give 'run --dns --dns-option --dns-search'",
        "log-driver" | "log-opt" => "give 'run --log-driver --log-opt'",
        "default-ulimit"
        | "default-shm-size"
        | "default-ipc-mode"
        | "default-cgroupns-mode"
        | "init"
        | "no-new-privileges"
        | "cgroup-parent"
        | "seccomp-profile" => "give the flag of this name to 'run'",
        _ => "this engine has nothing that it would set",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_dockerd() {
        let check = |line: &str, wanted: &str, count: usize| {
            let (kept, notes) = translate(line.split(' ').map(str::to_owned).collect());
            assert_eq!(kept.join(" "), wanted, "{line}");
            assert_eq!(notes.len(), count, "{line}: {notes:?}");
        };
        check("-H fd:// --containerd=/run/c.sock", "", 2);
        check("-D --log-level debug --data-root /d -H unix:///s", "--data-root /d -H unix:///s", 2);
        check(
            "--exec-root=/x -g /y --iptables=false --ip 127.0.0.1",
            "--run-root=/x --data-root /y --ip 127.0.0.1",
            1,
        );
        check("-p /run/d.pid --nope 1", "--nope 1", 1);
    }
}
