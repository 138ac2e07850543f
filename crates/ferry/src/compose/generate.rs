//! `generate`: a Compose file of containers that were made by hand, or whose file is lost.

use std::path::Path;

use ferry_api::Call;
use ferry_compose::output as render;
use ferry_compose::tree::{Mapping, Node, Value as Tree};
use serde_json::{Value, json};

use super::context::Compose;
use crate::failure::{Failure, Outcome};
use crate::output;

/// Labels that Compose itself sets.
const OWN_LABELS: [&str; 2] = ["com.docker.compose.", "desktop.docker.io"];
/// The label with a service's name.
const SERVICE: &str = "com.docker.compose.service";

crate::flags! {
    /// Flags of `generate`.
    pub struct GenerateFlags {
        format: String = '-' "format" <string> "Format the output. Values: [yaml | json] (default \"yaml\")";
        name: Option<String> = '-' "name" <string> "Project name to set in the Compose file";
        project_dir: Option<String> = '-' "project-dir" <string> "Directory to use for the project";
    }
}

/// Runs `generate`.
pub async fn generate(compose: &Compose, flags: GenerateFlags, names: Vec<String>) -> Outcome {
    if !matches!(flags.format.as_str(), "" | "yaml" | "json") {
        return Err(Failure::new(format!("--format is \"{}\", but can only be yaml or json", flags.format)));
    }
    let found = find(compose, &names).await?;
    if found.is_empty() {
        return Err(Failure::new(format!(
            "no container(s) found with the following name(s): {}",
            names.join(",")
        ))
        .hint("'ferry ps -a' lists all containers"));
    }
    let of_folder = || {
        let folder = flags.project_dir.as_deref().and_then(|folder| Path::new(folder).canonicalize().ok())?;
        Some(folder.file_name()?.to_string_lossy().to_lowercase())
    };
    let mut project = Project::default();
    for container in &found {
        project.add(compose, container).await?;
    }
    let tree = project.tree(flags.name.clone().or_else(of_folder));
    let shown = render::presentable(&tree, true);
    match flags.format.as_str() {
        "json" => output::line(&render::to_json(&shown))?,
        _ => output::write(render::to_yaml(&shown).as_bytes())?,
    }
    Ok(0)
}

/// The containers whose name holds one of these, or whose id begins so, as `inspect` shows them.
async fn find(compose: &Compose, names: &[String]) -> Result<Vec<Value>, Failure> {
    let engine = compose.session.engine().await?;
    let mut ids: Vec<String> = Vec::new();
    for filter in ["name", "id"] {
        let filters = json!({ filter: names }).to_string();
        let call = Call::get("/containers/json").query("all", "1").query("filters", filters);
        let listed: Vec<Value> = engine.call(call).await?.json().await?;
        let listed = listed.iter().filter_map(|container| container["Id"].as_str());
        ids.extend(listed.map(str::to_owned));
    }
    ids.sort();
    ids.dedup();
    let mut found = Vec::new();
    for id in ids {
        found.push(engine.call(Call::get(format!("/containers/{id}/json"))).await?.json().await?);
    }
    Ok(found)
}

/// What is known so far.
#[derive(Default)]
struct Project {
    services: Mapping,
    networks: Mapping,
    volumes: Mapping,
    secrets: Mapping,
}

impl Project {
    async fn add(&mut self, compose: &Compose, container: &Value) -> Result<(), Failure> {
        let labels = &container["Config"]["Labels"];
        let own_name = container["Name"].as_str().unwrap_or_default().trim_start_matches('/');
        let name = labels[SERVICE].as_str().unwrap_or(own_name).to_owned();
        if let Some(known) = self.services.get_mut(&name).and_then(Node::as_mapping_mut) {
            let count = match known.get("scale").map(|scale| &scale.value) {
                Some(Tree::Integer(count)) => *count,
                _ => 1,
            };
            known.insert("scale".to_owned(), Node::derived(count + 1));
            return Ok(());
        }
        let config = &container["Config"];
        let mut service = Mapping::new();
        let mut put = |key: &str, value: Value| {
            if !matches!(&value, Value::Null)
                && value != json!({})
                && value != json!([])
                && value != json!("")
            {
                service.insert(key.to_owned(), node(&value));
            }
        };
        put("image", config["Image"].clone());
        put("environment", environment(&config["Env"]));
        put("labels", own_labels(labels));
        put("healthcheck", health(&config["Healthcheck"]));
        put("ports", ports(&container["HostConfig"]["PortBindings"]));
        put("restart", restart(&container["HostConfig"]["RestartPolicy"]));
        put("command", changed_command(compose, config).await);
        let (mounts, secrets) = self.mounts(&container["Mounts"]);
        put("volumes", mounts);
        put("secrets", secrets);
        let mode = container["HostConfig"]["NetworkMode"].as_str().unwrap_or_default();
        if matches!(mode, "default" | "bridge" | "host" | "none") {
            let mode = if mode == "default" { "bridge" } else { mode };
            put("network_mode", json!(mode));
        } else {
            put("networks", self.attachments(compose, &container["NetworkSettings"]["Networks"]).await?);
        }
        self.services.insert(name, Node::derived(service));
        Ok(())
    }

    /// The mounts of a service, and those that are secrets.
    fn mounts(&mut self, mounts: &Value) -> (Value, Value) {
        let (mut volumes, mut secrets) = (Vec::new(), Vec::new());
        for mount in mounts.as_array().into_iter().flatten() {
            let (kind, target) = (mount["Type"].as_str().unwrap_or_default(), &mount["Destination"]);
            let mut entry = json!({ "type": kind, "source": mount["Source"], "target": target });
            if mount["RW"] == false {
                entry["read_only"] = json!(true);
            }
            let secret = target.as_str().and_then(|target| target.strip_prefix("/run/secrets/"));
            match (kind, secret) {
                ("bind", Some(secret)) => {
                    self.secrets.insert(secret.to_owned(), node(&json!({ "file": mount["Source"] })));
                    secrets.push(json!({ "source": secret, "target": target }));
                }
                ("bind", None) => volumes.push(entry),
                ("volume", _) => {
                    let name = mount["Name"].as_str().unwrap_or_default();
                    let driver = mount["Driver"].as_str().unwrap_or("local");
                    let volume = match driver {
                        "local" => json!({}),
                        driver => json!({ "name": name, "driver": driver }),
                    };
                    self.volumes.insert(name.to_owned(), node(&volume));
                    entry["source"] = json!(name);
                    volumes.push(entry);
                }
                _ => {}
            }
        }
        (Value::Array(volumes), Value::Array(secrets))
    }

    /// The networks of a service, with the names that it has there.
    async fn attachments(&mut self, compose: &Compose, networks: &Value) -> Result<Value, Failure> {
        let engine = compose.session.engine().await?;
        let mut attached = serde_json::Map::new();
        for (name, endpoint) in networks.as_object().into_iter().flatten() {
            let path = format!("/networks/{}", Call::segment(name));
            let network: Value = engine.call(Call::get(path)).await?.json().await?;
            let internal = network["Internal"] == true;
            let network = if internal { json!({ "internal": true }) } else { json!({}) };
            self.networks.insert(name.clone(), node(&network));
            let aliases = endpoint["Aliases"].as_array().filter(|aliases| !aliases.is_empty());
            let entry = aliases.map_or(Value::Null, |aliases| json!({ "aliases": aliases }));
            attached.insert(name.clone(), entry);
        }
        Ok(Value::Object(attached))
    }

    fn tree(self, name: Option<String>) -> Node {
        let mut root = Mapping::new();
        if let Some(name) = name {
            root.insert("name".to_owned(), Node::derived(name));
        }
        let sections = [
            ("services", self.services),
            ("networks", self.networks),
            ("volumes", self.volumes),
            ("secrets", self.secrets),
        ];
        root.extend(sections.map(|(key, section)| (key.to_owned(), Node::derived(section))));
        Node::derived(root)
    }
}

/// JSON as a tree without places.
fn node(value: &Value) -> Node {
    match value {
        Value::Null => Node::derived(Tree::Null),
        Value::Bool(flag) => Node::derived(*flag),
        Value::Number(number) => match number.as_i64() {
            Some(number) => Node::derived(number),
            None => Node::derived(number.as_f64().unwrap_or_default()),
        },
        Value::String(text) => Node::derived(text.clone()),
        Value::Array(items) => Node::derived(items.iter().map(node).collect::<Vec<_>>()),
        Value::Object(map) => {
            Node::derived(map.iter().map(|(key, value)| (key.clone(), node(value))).collect::<Mapping>())
        }
    }
}

fn environment(variables: &Value) -> Value {
    let texts = variables.as_array().into_iter().flatten().filter_map(Value::as_str);
    let pairs = texts.map(|text| match text.split_once('=') {
        Some((name, value)) => (name.to_owned(), json!(value)),
        None => (text.to_owned(), Value::Null),
    });
    Value::Object(pairs.collect())
}

fn own_labels(labels: &Value) -> Value {
    let labels = labels.as_object().into_iter().flatten();
    let own = labels.filter(|(key, _)| !OWN_LABELS.iter().any(|prefix| key.starts_with(prefix)));
    Value::Object(own.map(|(key, value)| (key.clone(), value.clone())).collect())
}

fn health(check: &Value) -> Value {
    if check.is_null() {
        return Value::Null;
    }
    let mut health = json!({ "test": check["Test"] });
    for (key, field) in [
        ("interval", "Interval"),
        ("timeout", "Timeout"),
        ("start_period", "StartPeriod"),
        ("start_interval", "StartInterval"),
    ] {
        if let Some(nanos) = check[field].as_i64().filter(|nanos| *nanos > 0) {
            health[key] = json!(duration(nanos));
        }
    }
    if let Some(retries) = check["Retries"].as_i64().filter(|retries| *retries > 0) {
        health["retries"] = json!(retries);
    }
    health
}

/// In the largest unit that divides it.
fn duration(nanos: i64) -> String {
    let units = [(1_000_000_000, "s"), (1_000_000, "ms"), (1000, "us")];
    let fitting = units.into_iter().find(|(unit, _)| nanos % unit == 0);
    fitting.map_or_else(|| format!("{nanos}ns"), |(unit, name)| format!("{}{name}", nanos / unit))
}

fn ports(bindings: &Value) -> Value {
    let mut ports = Vec::new();
    for (port, places) in bindings.as_object().into_iter().flatten() {
        let (target, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
        for place in places.as_array().into_iter().flatten() {
            let mut entry =
                json!({ "target": target.parse::<i64>().unwrap_or_default(), "protocol": protocol });
            for (key, field) in [("host_ip", "HostIp"), ("published", "HostPort")] {
                if let Some(text) = place[field].as_str().filter(|text| !text.is_empty()) {
                    entry[key] = json!(text);
                }
            }
            ports.push(entry);
        }
    }
    Value::Array(ports)
}

fn restart(policy: &Value) -> Value {
    match (policy["Name"].as_str().unwrap_or_default(), policy["MaximumRetryCount"].as_i64()) {
        ("" | "no", _) => Value::Null,
        ("on-failure", Some(count @ 1..)) => json!(format!("on-failure:{count}")),
        (name, _) => json!(name),
    }
}

/// The command, where it is not the image's own.
async fn changed_command(compose: &Compose, config: &Value) -> Value {
    let image = config["Image"].as_str().unwrap_or_default();
    let path = format!("/images/{}/json", Call::segment(image));
    let known = async {
        let answer = compose.session.engine().await.ok()?.call(Call::get(path)).await.ok()?;
        answer.json::<Value>().await.ok()
    };
    // An image that is gone has no command to compare with.
    let own = known.await.map(|image| image["Config"]["Cmd"].clone()).unwrap_or_default();
    if own == config["Cmd"] { Value::Null } else { config["Cmd"].clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces() {
        assert_eq!(duration(90_000_000_000), "90s");
        assert_eq!(duration(1_500_000_000), "1500ms");
        assert_eq!(duration(7), "7ns");
        assert_eq!(restart(&json!({ "Name": "on-failure", "MaximumRetryCount": 3 })), json!("on-failure:3"));
        assert_eq!(restart(&json!({ "Name": "no" })), Value::Null);
        let bindings = json!({ "80/tcp": [{ "HostIp": "", "HostPort": "8080" }], "53/udp": null });
        let wanted = json!([{ "target": 80, "protocol": "tcp", "published": "8080" }]);
        assert_eq!(ports(&bindings), wanted);
        assert_eq!(environment(&json!(["A=b=c", "D"])), json!({ "A": "b=c", "D": null }));
        assert_eq!(own_labels(&json!({ "com.docker.compose.project": "x", "a": "b" })), json!({ "a": "b" }));
    }
}
