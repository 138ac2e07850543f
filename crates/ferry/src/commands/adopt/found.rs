//! What another engine has, in the shapes of the API, wherever it was read.

use std::path::PathBuf;

use serde_json::{Map, Value, json};

use super::layer::Layer;

/// Everything that can be taken over.
#[derive(Default)]
pub struct Found {
    /// Images.
    pub images: Vec<Image>,
    /// Volumes.
    pub volumes: Vec<Volume>,
    /// Networks that somebody made.
    pub networks: Vec<Network>,
    /// Containers.
    pub containers: Vec<Container>,
    /// What was seen and is left out.
    pub notes: Vec<String>,
}

/// An image.
pub struct Image {
    /// Its id.
    pub id: String,
    /// Its names.
    pub names: Vec<String>,
    /// Where its bytes are.
    pub content: Content,
}

/// Where an image's bytes are.
pub enum Content {
    /// The other engine hands them out.
    Engine,
    /// In a data root.
    Files {
        /// The configuration.
        config: Vec<u8>,
        /// The layers, lowest first.
        layers: Vec<Layer>,
    },
}

/// A volume.
pub struct Volume {
    /// As asked for: `Name`, `Driver`, `DriverOpts`, `Labels`.
    pub request: Value,
    /// Its name.
    pub name: String,
    /// Its files.
    pub data: PathBuf,
    /// Running containers that may write meanwhile.
    pub writers: Vec<String>,
}

/// A network.
pub struct Network {
    /// Its name.
    pub name: String,
    /// As asked for.
    pub request: Value,
}

/// A container.
pub struct Container {
    /// Its name.
    pub name: String,
    /// The id of its image.
    pub image: String,
    /// As asked for.
    pub request: Value,
    /// It runs there.
    pub runs: bool,
}

/// The request that makes a container like this one: its configuration, with anonymous volumes by their names.
pub fn container_request(
    config: &Value,
    host_config: &Value,
    mounts: &[(String, String, bool)],
    networks: &Value,
) -> Value {
    let mut request = config.as_object().cloned().unwrap_or_default();
    let mut host = host_config.as_object().cloned().unwrap_or_default();
    // Docker's own, and what it fills in by itself.
    for key in ["ContainerIDFile", "Runtime", "Isolation", "ConsoleSize", "MaskedPaths", "ReadonlyPaths"] {
        host.remove(key);
    }
    let text = host_config.to_string();
    let mut binds: Vec<Value> = host.get("Binds").and_then(Value::as_array).cloned().unwrap_or_default();
    for (name, destination, writable) in mounts {
        if !text.contains(name.as_str()) {
            let mode = if *writable { "" } else { ":ro" };
            binds.push(json!(format!("{name}:{destination}{mode}")));
        }
    }
    host.insert("Binds".into(), Value::from(binds));
    request.insert("HostConfig".into(), Value::Object(host));
    let mut endpoints = Map::new();
    for (name, settings) in networks.as_object().into_iter().flatten() {
        let keep = ["IPAMConfig", "Links", "Aliases", "DriverOpts"];
        let kept = keep.iter().filter_map(|key| Some(((*key).to_owned(), settings.get(*key)?.clone())));
        endpoints.insert(name.clone(), Value::Object(kept.collect()));
    }
    request.insert("NetworkingConfig".into(), json!({ "EndpointsConfig": endpoints }));
    Value::Object(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_keep_their_settings() {
        let config = json!({"Image": "busybox", "Env": ["A=1"]});
        let host = json!({"Binds": ["data:/d"], "Memory": 5, "Runtime": "runc", "NetworkMode": "shop"});
        let mounts =
            [("data".to_owned(), "/d".to_owned(), true), ("f00".to_owned(), "/anon".to_owned(), false)];
        let networks = json!({"shop": {"IPAMConfig": {"IPv4Address": "10.0.0.9"}, "Gateway": "10.0.0.1"}});
        let request = container_request(&config, &host, &mounts, &networks);
        assert_eq!(request["HostConfig"]["Binds"], json!(["data:/d", "f00:/anon:ro"]));
        assert_eq!(request["HostConfig"]["Memory"], 5);
        assert!(request["HostConfig"].get("Runtime").is_none());
        let endpoint = &request["NetworkingConfig"]["EndpointsConfig"]["shop"];
        assert_eq!(*endpoint, json!({"IPAMConfig": {"IPv4Address": "10.0.0.9"}}));
    }
}
