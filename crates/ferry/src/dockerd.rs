//! Flags of Docker's daemon that mean nothing to this engine, or have another name here: unit files and scripts that
//! start `dockerd` keep working, and are told what has no effect.

use ferry_engine::daemon_file;
use serde_json::{Value, json};

/// Flags that are settings of `daemon.json` under another name or in another form.
const SETTINGS: &[(&str, &str, Form)] = &[
    ("bip", "bip", Form::Text),
    ("cgroup-parent", "cgroup-parent", Form::Text),
    ("debug", "debug", Form::Switch),
    ("default-address-pool", "default-address-pools", Form::Pool),
    ("default-cgroupns-mode", "default-cgroupns-mode", Form::Text),
    ("default-gateway", "default-gateway", Form::Text),
    ("default-ipc-mode", "default-ipc-mode", Form::Text),
    ("default-shm-size", "default-shm-size", Form::Text),
    ("default-ulimit", "default-ulimits", Form::Limit),
    ("dns", "dns", Form::List),
    ("dns-opt", "dns-opts", Form::List),
    ("dns-search", "dns-search", Form::List),
    ("fixed-cidr", "fixed-cidr", Form::Text),
    ("icc", "icc", Form::Switch),
    ("init", "init", Form::Switch),
    ("ip-masq", "ip-masq", Form::Switch),
    ("label", "labels", Form::List),
    ("log-driver", "log-driver", Form::Text),
    ("log-level", "log-level", Form::Text),
    ("log-opt", "log-opts", Form::Pairs),
    ("mtu", "mtu", Form::Number),
    ("no-new-privileges", "no-new-privileges", Form::Switch),
    ("rootless", "rootless", Form::Switch),
    ("seccomp-profile", "seccomp-profile", Form::Text),
    ("selinux-enabled", "selinux-enabled", Form::Switch),
    ("authorization-plugin", "authorization-plugins", Form::List),
    ("userns-remap", "userns-remap", Form::Text),
];

/// How a flag's value stands in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Text,
    Number,
    Switch,
    List,
    Pairs,
    Limit,
    Pool,
}

impl Form {
    fn value(self, text: &str) -> Value {
        let number = |text: &str| text.parse::<i64>().map_or_else(|_| json!(text), |number| json!(number));
        match self {
            Self::Text => json!(text),
            Self::Number => number(text),
            Self::Switch => text.parse::<bool>().map_or_else(|_| json!(text), |on| json!(on)),
            Self::List => json!([text]),
            Self::Pairs => {
                let (name, value) = text.split_once('=').unwrap_or((text, ""));
                json!({ name: value })
            }
            Self::Limit => {
                let (name, limits) = text.split_once('=').unwrap_or((text, ""));
                let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
                json!({ name: { "Name": name, "Soft": number(soft), "Hard": number(hard) } })
            }
            Self::Pool => {
                let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
                let entry = |(name, value): (&str, &str)| match name {
                    "size" => ("size".to_owned(), number(value)),
                    name => (name.to_owned(), json!(value)),
                };
                json!([Value::Object(pairs.map(entry).collect())])
            }
        }
    }
}

/// Flags with a value.
const WITH_VALUE: &[&str] = &[
    "add-runtime",
    "bip6",
    "bridge",
    "bridge-accept-fwmark",
    "cdi-spec-dir",
    "containerd",
    "containerd-namespace",
    "containerd-plugins-namespace",
    "cpu-rt-period",
    "cpu-rt-runtime",
    "default-gateway-v6",
    "default-network-opt",
    "default-runtime",
    "exec-opt",
    "feature",
    "firewall-backend",
    "fixed-cidr-v6",
    "group",
    "host-gateway-ip",
    "http-proxy",
    "https-proxy",
    "init-path",
    "log-format",
    "max-concurrent-downloads",
    "max-concurrent-uploads",
    "max-download-attempts",
    "metrics-addr",
    "network-control-plane-mtu",
    "no-proxy",
    "node-generic-resource",
    "oom-score-adjust",
    "pidfile",
    "shutdown-timeout",
    "storage-driver",
    "storage-opt",
    "swarm-default-advertise-addr",
    "userland-proxy-path",
];
/// Flags without one.
const SWITCHES: &[&str] = &[
    "allow-direct-routing",
    "experimental",
    "ip-forward",
    "ip-forward-no-drop",
    "ip6tables",
    "iptables",
    "ipv6",
    "live-restore",
    "raw-logs",
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
        } else if let Some((_, key, form)) = SETTINGS.iter().find(|(flag, _, _)| *flag == name) {
            let value = value.or_else(|| match form {
                Form::Switch => Some("true".to_owned()),
                _ => words.next(),
            });
            kept.push(format!("--setting={key}={}", form.value(&value.unwrap_or_default())));
        } else if WITH_VALUE.contains(&name.as_str()) {
            let value = value.or_else(|| words.next()).unwrap_or_default();
            notes.push(format!("--{name} {value} has no effect: {}", daemon_file::instead(&name)));
        } else if SWITCHES.contains(&name.as_str()) {
            notes.push(format!("--{name} has no effect: {}", daemon_file::instead(&name)));
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
        check(
            "-D --log-level warn --data-root /d -H unix:///s",
            "--setting=debug=true --setting=log-level=\"warn\" --data-root /d -H unix:///s",
            0,
        );
        check(
            "--log-driver local --log-opt max-size=1m --mtu=1400 --icc=false --label a=b",
            "--setting=log-driver=\"local\" --setting=log-opts={\"max-size\":\"1m\"} --setting=mtu=1400 --setting=icc=false --setting=labels=[\"a=b\"]",
            0,
        );
        let limit = Form::Limit.value("nofile=10:20");
        assert_eq!(limit, json!({ "nofile": { "Name": "nofile", "Soft": 10, "Hard": 20 } }));
        let pool = Form::Pool.value("base=10.7.0.0/16,size=24");
        assert_eq!(pool, json!([{ "base": "10.7.0.0/16", "size": 24 }]));
        check(
            "--exec-root=/x -g /y --iptables=false --ip 127.0.0.1",
            "--run-root=/x --data-root /y --ip 127.0.0.1",
            1,
        );
        check("-p /run/d.pid --nope 1", "--nope 1", 1);
    }
}
