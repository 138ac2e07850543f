//! Docker Compose's configuration hashes: what its `config --hash` prints and its labels hold.
//!
//! Docker hashes the JSON that Go makes of its model: attributes in the order of its structs, keys of maps
//! sorted, empty values left out. The tables below are that order (compose-go 2.9). With them a container that
//! Ferry made is unchanged to Docker Compose, and the reverse. Ferry's own decision rests on [`crate::hash`].

use crate::tree::{Node, Value};
use sha2::{Digest, Sha256};

/// How Go writes a value.
enum Shape {
    /// A scalar, left out where it is empty, zero or false.
    Scalar,
    /// A pointer to a scalar: written whenever it is there.
    Pointer,
    /// Text, also of a number.
    Text,
    /// A number, also of text.
    Number,
    /// A number of devices: all of them are -1.
    Count,
    /// Permission bits: octal, as text.
    Mode,
    /// `command` and `entrypoint`: written even where there is none.
    Words,
    /// A list of scalars.
    Scalars,
    /// A list.
    List(Fields),
    /// A map with keys of the user's, to scalars or nothing.
    Map,
    /// A map with keys of the user's.
    MapOf(Fields),
    /// A struct behind a pointer: left out where it is absent.
    Struct(Fields),
    /// A struct that is written even where it is absent.
    Always(Fields),
}

type Fields = &'static [(&'static str, Shape)];

use Shape::{Always, Count, List, Map, MapOf, Mode, Number, Pointer, Scalar, Scalars, Struct, Text, Words};

const SERVICE: Fields = &[
    ("annotations", Map),
    ("attach", Pointer),
    ("develop", Struct(&[("watch", List(TRIGGER))])),
    ("blkio_config", Struct(BLKIO)),
    ("cap_add", Scalars),
    ("cap_drop", Scalars),
    ("cgroup_parent", Scalar),
    ("cgroup", Scalar),
    ("cpu_count", Number),
    ("cpu_percent", Number),
    ("cpu_period", Number),
    ("cpu_quota", Number),
    ("cpu_rt_period", Number),
    ("cpu_rt_runtime", Number),
    ("cpus", Number),
    ("cpuset", Scalar),
    ("cpu_shares", Number),
    ("command", Words),
    ("configs", List(FILE)),
    ("container_name", Scalar),
    ("credential_spec", Struct(&[("config", Scalar), ("file", Scalar), ("registry", Scalar)])),
    ("deploy", Struct(DEPLOY)),
    ("device_cgroup_rules", Scalars),
    ("devices", List(&[("source", Scalar), ("target", Scalar), ("permissions", Scalar)])),
    ("dns", Scalars),
    ("dns_opt", Scalars),
    ("dns_search", Scalars),
    ("domainname", Scalar),
    ("entrypoint", Words),
    ("provider", Struct(&[("type", Scalar), ("options", Map)])),
    ("environment", Map),
    ("expose", Scalars),
    ("external_links", Scalars),
    ("extra_hosts", Scalars),
    ("group_add", Scalars),
    ("gpus", List(DEVICE_REQUEST)),
    ("hostname", Scalar),
    ("healthcheck", Struct(HEALTHCHECK)),
    ("image", Scalar),
    ("init", Pointer),
    ("ipc", Scalar),
    ("isolation", Scalar),
    ("labels", Map),
    ("links", Scalars),
    ("logging", Struct(&[("driver", Scalar), ("options", Map)])),
    ("mem_limit", Text),
    ("mem_reservation", Text),
    ("memswap_limit", Text),
    ("mem_swappiness", Text),
    ("mac_address", Scalar),
    ("models", MapOf(&[("endpoint_var", Scalar), ("model_var", Scalar)])),
    ("network_mode", Scalar),
    ("networks", MapOf(ENDPOINT)),
    ("oom_kill_disable", Scalar),
    ("oom_score_adj", Number),
    ("pid", Scalar),
    ("pids_limit", Number),
    ("platform", Scalar),
    ("ports", List(PORT)),
    ("privileged", Scalar),
    ("read_only", Scalar),
    ("restart", Scalar),
    ("runtime", Scalar),
    ("secrets", List(FILE)),
    ("security_opt", Scalars),
    ("shm_size", Text),
    ("stdin_open", Scalar),
    ("stop_grace_period", Scalar),
    ("stop_signal", Scalar),
    ("storage_opt", Map),
    ("sysctls", Map),
    ("tmpfs", Scalars),
    ("tty", Scalar),
    ("ulimits", MapOf(&[("single", Number), ("soft", Number), ("hard", Number)])),
    ("use_api_socket", Scalar),
    ("user", Scalar),
    ("userns_mode", Scalar),
    ("uts", Scalar),
    ("volumes", List(MOUNT)),
    ("volumes_from", Scalars),
    ("working_dir", Scalar),
    ("post_start", List(HOOK)),
    ("pre_stop", List(HOOK)),
];

const TRIGGER: Fields = &[
    ("path", Pointer),
    ("action", Pointer),
    ("target", Scalar),
    ("exec", Always(HOOK)),
    ("include", Scalars),
    ("ignore", Scalars),
    ("initial_sync", Scalar),
];

const HOOK: Fields = &[
    ("command", Words),
    ("user", Scalar),
    ("privileged", Scalar),
    ("working_dir", Scalar),
    ("environment", Map),
];

const BLKIO: Fields = &[
    ("weight", Number),
    ("weight_device", List(&[("Path", Pointer), ("Weight", Pointer)])),
    ("device_read_bps", List(THROTTLE)),
    ("device_read_iops", List(THROTTLE)),
    ("device_write_bps", List(THROTTLE)),
    ("device_write_iops", List(THROTTLE)),
];

/// Go writes fields that have no other name by their own, which is capital.
const THROTTLE: Fields = &[("Path", Pointer), ("Rate", Text)];

const FILE: Fields =
    &[("source", Scalar), ("target", Scalar), ("uid", Scalar), ("gid", Scalar), ("mode", Mode)];

const DEPLOY: Fields = &[
    ("mode", Scalar),
    ("labels", Map),
    ("update_config", Struct(UPDATE)),
    ("rollback_config", Struct(UPDATE)),
    ("resources", Always(&[("limits", Struct(RESOURCE)), ("reservations", Struct(RESOURCE))])),
    (
        "restart_policy",
        Struct(&[("condition", Scalar), ("delay", Pointer), ("max_attempts", Pointer), ("window", Pointer)]),
    ),
    (
        "placement",
        Always(&[
            ("constraints", Scalars),
            ("preferences", List(&[("spread", Scalar)])),
            ("max_replicas_per_node", Number),
        ]),
    ),
    ("endpoint_mode", Scalar),
];

const UPDATE: Fields = &[
    ("parallelism", Pointer),
    ("delay", Scalar),
    ("failure_action", Scalar),
    ("monitor", Scalar),
    ("max_failure_ratio", Number),
    ("order", Scalar),
];

const RESOURCE: Fields = &[
    ("cpus", Number),
    ("memory", Text),
    ("pids", Number),
    ("devices", List(DEVICE_REQUEST)),
    (
        "generic_resources",
        List(&[("discrete_resource_spec", Struct(&[("kind", Pointer), ("value", Pointer)]))]),
    ),
];

const DEVICE_REQUEST: Fields = &[
    ("capabilities", Scalars),
    ("driver", Scalar),
    ("count", Count),
    ("device_ids", Scalars),
    ("options", Map),
];

const HEALTHCHECK: Fields = &[
    ("test", Scalars),
    ("timeout", Pointer),
    ("interval", Pointer),
    ("retries", Pointer),
    ("start_period", Pointer),
    ("start_interval", Pointer),
    ("disable", Scalar),
];

const ENDPOINT: Fields = &[
    ("aliases", Scalars),
    ("driver_opts", Map),
    ("gw_priority", Number),
    ("interface_name", Scalar),
    ("ipv4_address", Scalar),
    ("ipv6_address", Scalar),
    ("link_local_ips", Scalars),
    ("mac_address", Scalar),
    ("priority", Number),
];

const PORT: Fields = &[
    ("name", Scalar),
    ("mode", Scalar),
    ("host_ip", Scalar),
    ("target", Number),
    ("published", Scalar),
    ("protocol", Scalar),
    ("app_protocol", Scalar),
];

const MOUNT: Fields = &[
    ("type", Scalar),
    ("source", Scalar),
    ("target", Scalar),
    ("read_only", Scalar),
    ("consistency", Scalar),
    (
        "bind",
        Struct(&[
            ("selinux", Scalar),
            ("propagation", Scalar),
            ("create_host_path", Scalar),
            ("recursive", Scalar),
        ]),
    ),
    ("volume", Struct(&[("labels", Map), ("nocopy", Scalar), ("subpath", Scalar)])),
    ("tmpfs", Struct(&[("size", Text), ("mode", Number)])),
    ("image", Struct(&[("subpath", Scalar)])),
];

const NETWORK: Fields = &[
    ("name", Scalar),
    ("driver", Scalar),
    ("driver_opts", Map),
    (
        "ipam",
        Always(&[
            ("driver", Scalar),
            (
                "config",
                List(&[
                    ("subnet", Scalar),
                    ("gateway", Scalar),
                    ("ip_range", Scalar),
                    ("aux_addresses", Map),
                ]),
            ),
        ]),
    ),
    ("external", Scalar),
    ("internal", Scalar),
    ("attachable", Scalar),
    ("labels", Map),
    ("enable_ipv4", Pointer),
    ("enable_ipv6", Pointer),
];

const VOLUME: Fields =
    &[("name", Scalar), ("driver", Scalar), ("driver_opts", Map), ("external", Scalar), ("labels", Map)];

/// The hash of a service, its environment read.
pub fn service(node: &Node) -> String {
    let mut node = node.clone();
    for secret in node.get_mut("secrets").and_then(Node::as_sequence_mut).into_iter().flatten() {
        let target = format!("/run/secrets/{}", secret.get_str("source").unwrap_or_default());
        if let Some(mapping) = secret.as_mapping_mut() {
            mapping.entry("target".to_owned()).or_insert_with(|| Node::derived(target.as_str()));
        }
    }
    digest(&structure(&node, SERVICE))
}

/// The hash of a network.
pub fn network(node: &Node) -> String {
    digest(&structure(node, NETWORK))
}

/// The hash of a volume.
pub fn volume(node: &Node) -> String {
    let mut named = node.clone();
    if !named.as_mapping().is_some_and(|mapping| mapping.contains_key("driver")) {
        let mut mapping = named.as_mapping().cloned().unwrap_or_default();
        mapping.insert("driver".to_owned(), Node::derived(Value::String("local".to_owned())));
        named = Node::derived(mapping);
    }
    digest(&structure(&named, VOLUME))
}

fn digest(text: &str) -> String {
    hex::encode(Sha256::digest(text.as_bytes()))
}

fn structure(node: &Node, fields: &[(&str, Shape)]) -> String {
    let parts = fields.iter().filter_map(|(key, shape)| {
        let value = write(node.get(&key.to_ascii_lowercase()), shape)?;
        Some(format!("{}:{value}", string(key)))
    });
    format!("{{{}}}", parts.collect::<Vec<_>>().join(","))
}

/// A field as Go writes it; nothing where Go leaves it out.
fn write(node: Option<&Node>, shape: &Shape) -> Option<String> {
    let node = node.filter(|node| !node.is_null());
    match shape {
        Always(fields) => {
            return Some(node.map_or_else(|| structure(&empty(), fields), |n| structure(n, fields)));
        }
        Words => {
            return Some(node.map_or_else(|| "null".to_owned(), |node| list(node, &|item| scalar(item))));
        }
        _ => {}
    }
    let node = node?;
    match shape {
        Scalar => Some(scalar(node)).filter(|text| !matches!(text.as_str(), "\"\"" | "0" | "false")),
        Pointer => Some(scalar(node)),
        Text => Some(string(&node.scalar_text()?)).filter(|text| !matches!(text.as_str(), "\"\"" | "\"0\"")),
        Count => match node.scalar_text()?.as_str() {
            "all" => Some("-1".to_owned()),
            "" | "0" => None,
            number => Some(number.to_owned()),
        },
        Mode => match &node.value {
            Value::Integer(bits) => Some(string(&format!("0{bits:o}"))),
            _ => Some(string(&node.scalar_text()?)),
        },
        Number => node.scalar_text().filter(|text| !matches!(text.as_str(), "" | "0")),
        Scalars => items(node).then(|| list(node, &|item| string(&item.scalar_text().unwrap_or_default()))),
        List(fields) => items(node).then(|| list(node, &|item| structure(item, fields))),
        Map => entries(node, &|value| match value.scalar_text() {
            Some(text) => string(&text),
            None => "null".to_owned(),
        }),
        MapOf(fields) => entries(node, &|value| match value.as_mapping() {
            Some(_) => structure(value, fields),
            None => scalar(value),
        }),
        Struct(fields) => Some(structure(node, fields)),
        Always(_) | Words => None,
    }
}

fn empty() -> Node {
    Node::derived(Value::Null)
}

fn items(node: &Node) -> bool {
    node.as_sequence().is_some_and(|items| !items.is_empty())
}

fn list(node: &Node, item: &dyn Fn(&Node) -> String) -> String {
    let parts: Vec<String> = node.as_sequence().unwrap_or_default().iter().map(item).collect();
    format!("[{}]", parts.join(","))
}

fn entries(node: &Node, value: &dyn Fn(&Node) -> String) -> Option<String> {
    let mapping = node.as_mapping().filter(|mapping| !mapping.is_empty())?;
    let mut parts: Vec<(&String, String)> = mapping.iter().map(|(key, node)| (key, value(node))).collect();
    parts.sort_by_key(|(key, _)| *key);
    let parts: Vec<String> = parts.iter().map(|(key, value)| format!("{}:{value}", string(key))).collect();
    Some(format!("{{{}}}", parts.join(",")))
}

fn scalar(node: &Node) -> String {
    match &node.value {
        Value::String(text) => string(text),
        _ => node.scalar_text().unwrap_or_else(|| "null".to_owned()),
    }
}

/// Go escapes what would end a script in HTML.
fn string(text: &str) -> String {
    let json = serde_json::Value::String(text.to_owned()).to_string();
    json.replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
        .replace('\u{2028}', "\\u2028")
        .replace('\u{2029}', "\\u2029")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::Report;
    use crate::source::Sources;

    fn node(text: &str) -> Node {
        let mut sources = Sources::default();
        let file = sources.add("f", text);
        crate::yaml::parse(file, text, &mut Report::default()).remove(0)
    }

    #[test]
    fn the_text_is_gos() {
        let check =
            |text: &str, fields: Fields, wanted: &str| assert_eq!(structure(&node(text), fields), wanted);
        check("{image: a}", SERVICE, r#"{"command":null,"entrypoint":null,"image":"a"}"#);
        check(
            "{tty: false, init: false, environment: {B: '1', A: null}, command: [a, '<b>'], networks: {default: null}}",
            SERVICE,
            r#"{"command":["a","\u003cb\u003e"],"entrypoint":null,"environment":{"A":null,"B":"1"},"init":false,"networks":{"default":null}}"#,
        );
        check(
            "{deploy: {replicas: 2, update_config: {parallelism: 0}}}",
            SERVICE,
            r#"{"command":null,"deploy":{"update_config":{"parallelism":0},"resources":{},"placement":{}},"entrypoint":null}"#,
        );
        check("{name: app_default}", NETWORK, r#"{"name":"app_default","ipam":{}}"#);
    }
}
