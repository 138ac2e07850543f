//! The names that `daemon.json` may have: Docker's own, so that a file written for it is read, and a misspelt one is not
//! passed over in silence. Pure.

/// What this engine obeys.
const OBEYED: &[&str] = &[
    "bip",
    "builder",
    "cgroup-parent",
    "data-root",
    "debug",
    "default-address-pools",
    "default-cgroupns-mode",
    "default-gateway",
    "default-ipc-mode",
    "default-network-opts",
    "default-shm-size",
    "default-stop-timeout",
    "default-ulimits",
    "dns",
    "dns-opts",
    "dns-search",
    "fixed-cidr",
    "hosts",
    "icc",
    "init",
    "insecure-registries",
    "ip",
    "ip-masq",
    "labels",
    "log-driver",
    "log-level",
    "log-opts",
    "mtu",
    "no-new-privileges",
    "proxies",
    "registry-mirrors",
    "seccomp-profile",
];
/// What Docker's daemon knows besides.
const KNOWN: &[&str] = &[
    "allow-direct-routing",
    "allow-nondistributable-artifacts",
    "api-cors-header",
    "authorization-plugins",
    "bip6",
    "bridge",
    "bridge-accept-fwmark",
    "cdi-spec-dirs",
    "cluster-advertise",
    "cluster-store",
    "cluster-store-opts",
    "containerd",
    "containerd-namespace",
    "containerd-plugin-namespace",
    "cpu-rt-period",
    "cpu-rt-runtime",
    "default-gateway-v6",
    "default-runtime",
    "exec-opts",
    "exec-root",
    "experimental",
    "features",
    "firewall-backend",
    "fixed-cidr-v6",
    "graph",
    "group",
    "host-gateway-ip",
    "host-gateway-ips",
    "http-proxy",
    "https-proxy",
    "init-path",
    "ip-forward",
    "ip-forward-no-drop",
    "ip6tables",
    "iptables",
    "ipv6",
    "live-restore",
    "log-format",
    "max-concurrent-downloads",
    "max-concurrent-uploads",
    "max-download-attempts",
    "metrics-addr",
    "min-api-version",
    "network-control-plane-mtu",
    "no-proxy",
    "node-generic-resources",
    "nri-opts",
    "oom-score-adjust",
    "pidfile",
    "raw-logs",
    "rootless",
    "runtimes",
    "selinux-enabled",
    "shutdown-timeout",
    "storage-driver",
    "storage-opts",
    "swarm-default-advertise-addr",
    "tls",
    "tlscacert",
    "tlscert",
    "tlskey",
    "tlsverify",
    "userland-proxy",
    "userland-proxy-path",
    "userns-remap",
];
/// A name further off than this was not meant.
const DISTANCE_MAX: usize = 3;

/// Does this engine obey the setting?
pub fn has_effect(key: &str) -> bool {
    OBEYED.contains(&key)
}

/// What holds in the place of a setting without effect.
pub fn instead(key: &str) -> &'static str {
    match key {
        "live-restore" | "shutdown-timeout" => "containers outlive this engine always",
        "userland-proxy" | "userland-proxy-path" => "published ports need no proxy process",
        "iptables"
        | "ip6tables"
        | "firewall-backend"
        | "ip-forward"
        | "ip-forward-no-drop"
        | "bridge-accept-fwmark"
        | "allow-direct-routing" => "rules are nftables rules in tables of their own",
        "containerd"
        | "containerd-namespace"
        | "containerd-plugin-namespace"
        | "containerd-plugins-namespace"
        | "runtimes"
        | "add-runtime"
        | "default-runtime"
        | "init-path"
        | "exec-opts"
        | "exec-opt" => "the runtime is within this program",
        "storage-driver" | "storage-opts" | "storage-opt" => "layers are kept by overlayfs",
        "log-format" | "raw-logs" => "FERRY_LOG=debug shows more",
        "metrics-addr" => "the numbers are in `ferry stats` and `ferry system df`",
        "max-concurrent-downloads" | "max-concurrent-uploads" | "max-download-attempts" => {
            "transfers share one budget of connections, and go on where they broke off"
        }
        "features" | "feature" | "experimental" => "what works is always on",
        "group" => "the socket belongs to the group ferry, else docker, else root",
        "pidfile" | "exec-root" | "graph" => "give `--run-root` and `--data-root`",
        "tls" | "tlsverify" | "tlscacert" | "tlscert" | "tlskey" => "give the flags of these names",
        "ipv6" | "fixed-cidr-v6" | "bip6" | "default-gateway-v6" | "bridge" => {
            "networks of your own have IPv6: `network create --ipv6`"
        }
        "cdi-spec-dirs" | "cdi-spec-dir" => "devices are given with `run --device`",
        _ => "this engine has nothing that it would set",
    }
}

/// Why a setting is refused that would leave a boundary open which its writer counts on.
pub fn refusal(key: &str, value: &serde_json::Value) -> Option<&'static str> {
    let is_set = match value {
        serde_json::Value::Bool(on) => *on,
        serde_json::Value::String(text) => !text.is_empty(),
        serde_json::Value::Array(list) => !list.is_empty(),
        _ => false,
    };
    match key {
        "userns-remap" if is_set => Some("users of containers are not mapped to others of the host here"),
        "authorization-plugins" if is_set => Some("there are no plugins that could refuse requests"),
        "selinux-enabled" if is_set => Some("containers get no SELinux labels here"),
        "rootless" if is_set => Some("the engine needs root here"),
        _ => None,
    }
}

/// Is it a setting at all?
pub fn is_known(key: &str) -> bool {
    has_effect(key) || KNOWN.contains(&key)
}

/// The setting that a misspelt one may have meant.
pub fn nearest(key: &str) -> Option<&'static str> {
    let all = OBEYED.iter().chain(KNOWN).copied();
    let close = all.map(|known| (distance(key, known), known)).min()?;
    (close.0 <= DISTANCE_MAX).then_some(close.1)
}

/// How many letters must be put in, taken out or changed.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.bytes().enumerate() {
        let mut corner = std::mem::replace(&mut row[0], i + 1);
        for (j, right) in b.bytes().enumerate() {
            let change = corner + usize::from(left != right);
            corner = row[j + 1];
            row[j + 1] = change.min(corner + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelt_names() {
        for (key, wanted) in [
            ("registry-mirror", Some("registry-mirrors")),
            ("registries-mirrors", Some("registry-mirrors")),
            ("log-drivers", Some("log-driver")),
            ("colour", None),
        ] {
            assert_eq!(nearest(key), wanted, "{key}");
        }
        assert!(is_known("live-restore") && !has_effect("live-restore") && has_effect("builder"));
        assert!(refusal("userns-remap", &"default".into()).is_some());
        assert!(refusal("userns-remap", &"".into()).is_none() && refusal("debug", &true.into()).is_none());
    }
}
