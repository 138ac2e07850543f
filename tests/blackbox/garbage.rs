//! Every endpoint of the schema, asked with wrong types, odd values and none at all: refused with a 4xx or answered, and
//! never a 5xx of the engine's own making, nor silence.

use ferry_tests::Engine;
use ferry_tests::http::{ask, connect, send};
use serde_json::{Value, json};

use crate::Test;

/// The suite.
pub const TESTS: &[Test] = &[
    ("garbage::bodies_of_wrong_types", bodies_of_wrong_types),
    ("garbage::odd_parameters", odd_parameters),
    ("garbage::fields_of_create", fields_of_create),
];

/// Queries that mean nothing, or too much.
const QUERIES: [&str; 12] = [
    "?all=maybe&limit=x&size=%00",
    "?limit=99999999999999999999&t=-99999999999999999999",
    "?filters=%7B",
    "?filters=%5B%5D",
    "?filters=%7B%22label%22%3A5%7D",
    "?filters=%7B%22nonsense%22%3A%5B%22x%22%5D%7D",
    "?since=yesterday&until=%F0%9F%90%8B&tail=some",
    "?h=-1&w=100000&signal=SIGNOTHING&t=x",
    "?name=%2Fa%2Fb%20c&repo=%3A%3A&tag=%20&fromImage=%3A&path=%00",
    "?condition=never&platform=a%2Fb%2Fc%2Fd&detachKeys=ctrl-%",
    "?dockerfile=..%2F..%2Fx&buildargs=5&labels=%5B&cachefrom=x&shmsize=-1&remote=x",
    "?&&==&%zz=%&a=b=c",
];

/// Bodies that are JSON, and not the one that is wanted.
fn bodies() -> Vec<Value> {
    vec![
        json!(null),
        json!(5),
        json!("text"),
        json!([]),
        json!([[1], {}]),
        json!({"Name": 5, "Image": ["x"], "Container": {}, "Cmd": 7, "HostConfig": "x", "Data": 1}),
        json!({"Name": "", "Image": "", "Container": "", "Labels": {"": null}, "Driver": ""}),
        json!({"name": "\u{0}", "image": "\u{0}", "container": "\u{0}", "data": "\u{ff}"}),
    ]
}

/// Methods and paths of the schema with `value` in the place of every name, without those that end only with the client
/// or take the whole engine's time.
fn endpoints(value: &str) -> Vec<(String, String)> {
    let schema = include_str!("../conformance/engine-api.yaml");
    let (mut path, mut found) = (String::new(), Vec::new());
    for line in schema.lines().skip_while(|line| !line.starts_with("paths:")) {
        if let Some(name) = line.strip_prefix("  /").and_then(|rest| rest.strip_suffix(':')) {
            path = format!("/{name}");
        } else if let Some(method) = line.strip_prefix("    ").and_then(|rest| rest.strip_suffix(':'))
            && ["get", "post", "put", "delete", "head"].contains(&method)
        {
            let filled = path.split('/').map(|part| if part.starts_with('{') { value } else { part });
            found.push((method.to_uppercase(), filled.collect::<Vec<_>>().join("/")));
        }
    }
    assert!(found.len() > 100, "{} endpoints", found.len());
    // The stream of events has no end, and its own test.
    found.retain(|(_, path)| path != "/events" && path != "/session" && !path.ends_with("/prune"));
    // These ask a registry, of which there is none: that it is out of reach is a 500, as Docker's.
    found.retain(|(_, path)| path != "/auth" && !path.starts_with("/distribution/"));
    found
}

/// The status of an answer's head; a stream may go on behind it.
fn status(engine: &Engine, request: &str, body: Option<&Value>) -> u16 {
    use std::io::BufRead as _;
    let mut stream = connect(engine);
    send(&mut stream, request, &["Connection: close"], body);
    let mut line = String::new();
    std::io::BufReader::new(stream).read_line(&mut line).expect("an answer within the test's patience");
    let number = line.split(' ').nth(1).and_then(|word| word.parse().ok());
    number.unwrap_or_else(|| panic!("{request}: {line:?} is no answer"))
}

/// 501 and 503 say that there are no plugins and no swarm; anything else of 500 and above is the engine's fault.
fn holds(status: u16) -> bool {
    status < 500 || matches!(status, 501 | 503)
}

fn bodies_of_wrong_types() {
    let engine = Engine::with_busybox();
    let mut wrong = Vec::new();
    for value in ["none", "%00", "..", "%F0%9F%90%8B"] {
        for (method, path) in endpoints(value) {
            let takes_body = matches!(method.as_str(), "POST" | "PUT");
            let bodies = if takes_body { bodies() } else { vec![Value::Null] };
            for body in bodies {
                let request = format!("{method} {path}");
                let status = status(&engine, &request, takes_body.then_some(&body));
                if !holds(status) {
                    wrong.push(format!("{request} {body}: {status}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(ask(&engine, "GET /_ping", None).text(), "OK");
}

fn odd_parameters() {
    let engine = Engine::with_busybox();
    engine.ferry(["create", "--name", "box", "busybox", "true"]).exits(0);
    let mut wrong = Vec::new();
    for (method, path) in endpoints("box") {
        // What would take the box away is tried with the others' names.
        if method == "DELETE" || path.contains("restart") || path.ends_with("/wait") {
            continue;
        }
        for query in QUERIES {
            let request = format!("{method} {path}{query}");
            let status = status(&engine, &request, (method == "POST").then_some(&json!({})));
            if !holds(status) {
                wrong.push(format!("{request}: {status}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(ask(&engine, "GET /_ping", None).text(), "OK");
}

/// Each field of a container's definition with values of every kind: a 400 that names the trouble, or a container.
fn fields_of_create() {
    let engine = Engine::with_busybox();
    let values = [
        json!(-1),
        json!(1e300),
        json!("\u{0}"),
        json!("a=b:c/d"),
        json!(["", "x", "a:b:c:d:e"]),
        json!([5]),
        json!({"a": {"b": 1}}),
        json!([{"Type": "odd", "PathOnHost": "\u{0}", "Rate": -1, "Name": "x", "Target": ".."}]),
        json!(true),
    ];
    let of_host = [
        "Binds",
        "LogConfig",
        "NetworkMode",
        "PortBindings",
        "RestartPolicy",
        "VolumesFrom",
        "Mounts",
        "CapAdd",
        "CapDrop",
        "CgroupnsMode",
        "Dns",
        "DnsOptions",
        "DnsSearch",
        "ExtraHosts",
        "GroupAdd",
        "IpcMode",
        "Links",
        "OomScoreAdj",
        "PidMode",
        "Privileged",
        "SecurityOpt",
        "StorageOpt",
        "Tmpfs",
        "UTSMode",
        "UsernsMode",
        "ShmSize",
        "Sysctls",
        "Runtime",
        "Isolation",
        "MaskedPaths",
        "CpuShares",
        "Memory",
        "CgroupParent",
        "BlkioWeight",
        "BlkioWeightDevice",
        "BlkioDeviceReadBps",
        "CpuPeriod",
        "CpuQuota",
        "CpuRealtimePeriod",
        "CpusetCpus",
        "CpusetMems",
        "Devices",
        "DeviceCgroupRules",
        "DeviceRequests",
        "MemoryReservation",
        "MemorySwap",
        "MemorySwappiness",
        "NanoCpus",
        "OomKillDisable",
        "Init",
        "PidsLimit",
        "Ulimits",
        "Annotations",
        "ConsoleSize",
        "VolumeDriver",
    ];
    let own = [
        "Hostname",
        "Domainname",
        "User",
        "ExposedPorts",
        "Env",
        "Cmd",
        "Healthcheck",
        "Image",
        "Volumes",
        "WorkingDir",
        "Entrypoint",
        "NetworkDisabled",
        "MacAddress",
        "Labels",
        "StopSignal",
        "StopTimeout",
        "Shell",
        "NetworkingConfig",
        "HostConfig",
    ];
    let mut wrong = Vec::new();
    for value in &values {
        let fields = of_host.map(|field| (field, true)).into_iter().chain(own.map(|field| (field, false)));
        for (field, in_host) in fields {
            let mut request =
                json!({"Image": "busybox", "Cmd": ["true"], "HostConfig": {"NetworkMode": "none"}});
            match in_host {
                true => request["HostConfig"][field] = value.clone(),
                false => request[field] = value.clone(),
            }
            let answer = ask(&engine, "POST /containers/create", Some(&request));
            if !holds(answer.status) {
                wrong.push(format!("{field} = {value}: {} {}", answer.status, answer.text()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(ask(&engine, "GET /_ping", None).text(), "OK");
}
