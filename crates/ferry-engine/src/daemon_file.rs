//! The names that `daemon.json` may have: Docker's own, so that a file written for it is read, and a misspelt one is not
//! passed over in silence. Pure.

/// What this engine obeys.
const OBEYED: [&str; 4] = ["builder", "insecure-registries", "proxies", "registry-mirrors"];
/// What Docker's daemon obeys besides.
const KNOWN: &[&str] = &[
    "allow-direct-routing",
    "allow-nondistributable-artifacts",
    "api-cors-header",
    "authorization-plugins",
    "bip",
    "bip6",
    "bridge",
    "bridge-accept-fwmark",
    "cdi-spec-dirs",
    "cgroup-parent",
    "cluster-advertise",
    "cluster-store",
    "cluster-store-opts",
    "containerd",
    "containerd-namespace",
    "containerd-plugin-namespace",
    "cpu-rt-period",
    "cpu-rt-runtime",
    "data-root",
    "debug",
    "default-address-pools",
    "default-cgroupns-mode",
    "default-gateway",
    "default-gateway-v6",
    "default-ipc-mode",
    "default-network-opts",
    "default-runtime",
    "default-shm-size",
    "default-stop-timeout",
    "default-ulimits",
    "dns",
    "dns-opts",
    "dns-search",
    "exec-opts",
    "exec-root",
    "experimental",
    "features",
    "firewall-backend",
    "fixed-cidr",
    "fixed-cidr-v6",
    "graph",
    "group",
    "host-gateway-ip",
    "host-gateway-ips",
    "hosts",
    "http-proxy",
    "https-proxy",
    "icc",
    "init",
    "init-path",
    "ip",
    "ip-forward",
    "ip-forward-no-drop",
    "ip-masq",
    "ip6tables",
    "iptables",
    "ipv6",
    "labels",
    "live-restore",
    "log-driver",
    "log-format",
    "log-level",
    "log-opts",
    "max-concurrent-downloads",
    "max-concurrent-uploads",
    "max-download-attempts",
    "metrics-addr",
    "min-api-version",
    "mtu",
    "network-control-plane-mtu",
    "no-new-privileges",
    "no-proxy",
    "node-generic-resources",
    "nri-opts",
    "oom-score-adjust",
    "pidfile",
    "raw-logs",
    "rootless",
    "runtimes",
    "seccomp-profile",
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
    }
}
