//! What a Docker data root holds whose engine does not run: files of the overlay2 driver.
//!
//! ```text
//! image/overlay2/repositories.json                  names
//! image/overlay2/imagedb/content/sha256/<id>        configurations
//! image/overlay2/layerdb/sha256/<chain id>/         cache-id, tar-split.json.gz
//! overlay2/<cache id>/diff                          a layer's files
//! volumes/<name>/_data, volumes/metadata.db         data and labels of volumes
//! network/files/local-kv.db                         networks
//! containers/<id>/config.v2.json, hostconfig.json   containers
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::bolt::Bolt;
use super::found::{Container, Content, Found, Image, Network, Volume, container_request};
use super::layer::Layer;
use super::socket::text;
use crate::failure::Failure;

/// Reads everything.
///
/// # Errors
/// Where this is no data root of the overlay2 driver.
pub fn read(root: &Path) -> Result<Found, Failure> {
    let images = root.join("image/overlay2");
    if !images.is_dir() {
        let containerd = root.join("containerd/daemon/io.containerd.metadata.v1.bolt").exists();
        let failure = Failure::new(format!("{} holds no images of the overlay2 driver", root.display()));
        return Err(match containerd {
            true => failure.hint("start Docker and name its socket: 'adopt unix:///var/run/docker.sock'"),
            false => failure.hint("name Docker's data root ('docker info' tells it) or its socket"),
        });
    }
    let mut found = Found::default();
    read_images(root, &images, &mut found)?;
    read_volumes(root, &mut found)?;
    read_networks(root, &mut found)?;
    read_containers(root, &mut found)?;
    Ok(found)
}

fn json_file(path: &Path) -> Result<Value, Failure> {
    let failed = |error: io::Error| Failure::from(error).context(&format!("cannot read {}", path.display()));
    let bytes = fs::read(path).map_err(failed)?;
    serde_json::from_slice(&bytes).map_err(|error| failed(error.into()))
}

/// Names of the entries of a folder, in order; none where there is no such folder.
fn entries(folder: &Path) -> Vec<String> {
    let read = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = read.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

fn read_images(root: &Path, images: &Path, found: &mut Found) -> Result<(), Failure> {
    let repositories = match images.join("repositories.json") {
        path if path.exists() => json_file(&path)?,
        _ => json!({}),
    };
    let mut names: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, id) in repositories["Repositories"].as_object().into_iter().flatten().flat_map(|(_, tags)| {
        tags.as_object().into_iter().flatten().map(|(name, id)| (name, id.as_str().unwrap_or("")))
    }) {
        if !name.contains('@') {
            names.entry(id.to_owned()).or_default().push(name.clone());
        }
    }
    for hex in entries(&images.join("imagedb/content/sha256")) {
        let id = format!("sha256:{hex}");
        let config = images.join("imagedb/content/sha256").join(&hex);
        match layers_of(root, images, &config) {
            Ok((config, layers)) => found.images.push(Image {
                names: names.remove(&id).unwrap_or_default(),
                id,
                content: Content::Files { config, layers },
            }),
            Err(error) => found.notes.push(format!("image {}: {error}", &hex[..12.min(hex.len())])),
        }
    }
    Ok(())
}

fn layers_of(root: &Path, images: &Path, config: &Path) -> io::Result<(Vec<u8>, Vec<Layer>)> {
    let config = fs::read(config)?;
    let parsed: Value = serde_json::from_slice(&config)?;
    let mut chain = String::new();
    let mut layers = Vec::new();
    for diff in parsed["rootfs"]["diff_ids"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        chain = match chain.is_empty() {
            true => diff.to_owned(),
            false => format!("sha256:{}", hex(&Sha256::digest(format!("{chain} {diff}")))),
        };
        let folder = images.join("layerdb/sha256").join(chain.trim_start_matches("sha256:"));
        let cache = fs::read_to_string(folder.join("cache-id"))?;
        let files = root.join("overlay2").join(cache.trim()).join("diff");
        layers.push(Layer { split: folder.join("tar-split.json.gz"), files });
    }
    Ok((config, layers))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The JSON values of a bolt file's bucket; what stands before them is the database's own.
fn values(path: &Path, bucket: &str) -> io::Result<Vec<(String, Value)>> {
    let bolt = Bolt::new(fs::read(path)?)?;
    let pairs = bolt.bucket(bucket)?.into_iter().filter_map(|(key, value)| {
        let start = value.iter().position(|byte| *byte == b'{')?;
        Some((String::from_utf8_lossy(&key).into_owned(), serde_json::from_slice(&value[start..]).ok()?))
    });
    Ok(pairs.collect())
}

fn read_volumes(root: &Path, found: &mut Found) -> Result<(), Failure> {
    let folder = root.join("volumes");
    let known: BTreeMap<String, Value> = match values(&folder.join("metadata.db"), "volumes") {
        Ok(known) => known.into_iter().collect(),
        Err(error) => {
            found.notes.push(format!("labels of volumes: {error}"));
            BTreeMap::new()
        }
    };
    for name in entries(&folder) {
        let data = folder.join(&name).join("_data");
        if !data.is_dir() {
            continue;
        }
        let meta = known.get(&name).cloned().unwrap_or_default();
        let request = json!({
            "Name": name, "Driver": "local", "DriverOpts": meta["Options"], "Labels": meta["Labels"],
        });
        found.volumes.push(Volume { name, request, data, writers: Vec::new() });
    }
    Ok(())
}

fn read_networks(root: &Path, found: &mut Found) -> Result<(), Failure> {
    let path = root.join("network/files/local-kv.db");
    if !path.exists() {
        return Ok(());
    }
    let records = match values(&path, "libnetwork") {
        Ok(records) => records,
        Err(error) => {
            found.notes.push(format!("networks: {error}"));
            return Ok(());
        }
    };
    for (key, record) in records {
        let name = text(&record, "name");
        let driver = text(&record, "networkType");
        let is_network = key.starts_with("docker/network/v1.0/network/");
        if is_network && name != "bridge" && matches!(driver.as_str(), "bridge" | "macvlan" | "ipvlan") {
            found.networks.push(Network { request: network(&record), name });
        }
    }
    Ok(())
}

fn network(record: &Value) -> Value {
    let pools = ["ipamV4Config", "ipamV6Config"].into_iter().flat_map(|key| {
        let pools: Vec<Value> =
            serde_json::from_str(record[key].as_str().unwrap_or("[]")).unwrap_or_default();
        pools
    });
    let config: Vec<Value> = pools
        .filter(|pool| !text(pool, "PreferredPool").is_empty())
        .map(|pool| {
            json!({
                "Subnet": pool["PreferredPool"], "IPRange": text(&pool, "SubPool"),
                "Gateway": text(&pool, "Gateway"), "AuxiliaryAddresses": pool["AuxAddresses"],
            })
        })
        .collect();
    let options: Map<String, Value> = record["generic"]["com.docker.network.generic"]
        .as_object()
        .cloned()
        .unwrap_or_default()
        .into_iter()
        .filter(|(_, value)| value.is_string())
        .collect();
    json!({
        "Name": record["name"], "Driver": record["networkType"], "EnableIPv6": record["enableIPv6"] == json!(true),
        "Internal": record["internal"] == json!(true), "Attachable": record["attachable"] == json!(true),
        "Options": options, "Labels": record["labels"], "IPAM": { "Driver": "default", "Config": config },
    })
}

fn read_containers(root: &Path, found: &mut Found) -> Result<(), Failure> {
    for id in entries(&root.join("containers")) {
        let folder = root.join("containers").join(&id);
        let (config, host) =
            match (json_file(&folder.join("config.v2.json")), json_file(&folder.join("hostconfig.json"))) {
                (Ok(config), Ok(host)) => (config, host),
                (Err(failure), _) | (_, Err(failure)) => {
                    found.notes.push(format!("container {}: {}", &id[..12.min(id.len())], failure.message));
                    continue;
                }
            };
        let mounts: Vec<_> = config["MountPoints"]
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(_, mount)| mount["Type"] == "volume")
            .map(|(place, mount)| (text(mount, "Name"), place.clone(), mount["RW"] != json!(false)))
            .collect();
        let networks = &config["NetworkSettings"]["Networks"];
        found.containers.push(Container {
            name: text(&config, "Name").trim_start_matches('/').to_owned(),
            image: text(&config, "Image"),
            request: container_request(&config["Config"], &host, &mounts, networks),
            runs: config["State"]["Running"] == json!(true),
        });
    }
    Ok(())
}
