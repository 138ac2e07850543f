//! What a running Docker tells of itself through its API.

use ferry_api::{Call, Client};
use serde_json::{Value, json};

use super::found::{Container, Content, Found, Image, Network, Volume, container_request};
use crate::failure::Failure;

/// Asks for everything.
///
/// # Errors
/// Where the engine does not answer.
pub async fn read(client: &Client) -> Result<Found, Failure> {
    client.negotiate().await?;
    let mut found = Found::default();
    images(client, &mut found).await?;
    networks(client, &mut found).await?;
    let containers = list(client, "/containers/json?all=1").await?;
    for summary in &containers {
        let id = text(summary, "Id");
        let shown: Value = client.call(Call::get(format!("/containers/{id}/json"))).await?.json().await?;
        found.containers.push(container(&shown));
    }
    volumes(client, &mut found, &containers).await?;
    Ok(found)
}

async fn list(client: &Client, path: &str) -> Result<Vec<Value>, Failure> {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let call =
        query.split_once('=').map_or(Call::get(path), |(name, value)| Call::get(path).query(name, value));
    Ok(client.call(call).await?.json().await?)
}

/// A field that is a text; empty where it is none.
pub fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or("").to_owned()
}

fn texts(value: &Value) -> Vec<String> {
    let items = value.as_array().into_iter().flatten();
    items.filter_map(Value::as_str).map(str::to_owned).collect()
}

async fn images(client: &Client, found: &mut Found) -> Result<(), Failure> {
    for image in list(client, "/images/json").await? {
        let names: Vec<String> =
            texts(&image["RepoTags"]).into_iter().filter(|name| !name.contains("<none>")).collect();
        found.images.push(Image { id: text(&image, "Id"), names, content: Content::Engine });
    }
    Ok(())
}

async fn networks(client: &Client, found: &mut Found) -> Result<(), Failure> {
    for network in list(client, "/networks").await? {
        let name = text(&network, "Name");
        let (driver, scope) = (text(&network, "Driver"), text(&network, "Scope"));
        if matches!(name.as_str(), "bridge" | "host" | "none") {
            continue;
        }
        if scope == "swarm" || !matches!(driver.as_str(), "bridge" | "macvlan" | "ipvlan") {
            found.notes.push(format!("network {name}: its driver {driver} ({scope}) is not had here"));
            continue;
        }
        let mut request = json!({ "Name": name });
        for key in ["Driver", "EnableIPv6", "Internal", "Attachable", "Options", "Labels", "IPAM"] {
            request[key] = network[key].clone();
        }
        found.networks.push(Network { name, request });
    }
    Ok(())
}

fn container(shown: &Value) -> Container {
    let mounts: Vec<_> = shown["Mounts"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|mount| mount["Type"] == "volume")
        .map(|mount| (text(mount, "Name"), text(mount, "Destination"), mount["RW"] != json!(false)))
        .collect();
    let networks = &shown["NetworkSettings"]["Networks"];
    Container {
        name: text(shown, "Name").trim_start_matches('/').to_owned(),
        image: text(shown, "Image"),
        request: container_request(&shown["Config"], &shown["HostConfig"], &mounts, networks),
        runs: shown["State"]["Running"] == json!(true),
    }
}

async fn volumes(client: &Client, found: &mut Found, containers: &[Value]) -> Result<(), Failure> {
    let answer: Value = client.call(Call::get("/volumes")).await?.json().await?;
    for volume in answer["Volumes"].as_array().into_iter().flatten() {
        let (name, driver) = (text(volume, "Name"), text(volume, "Driver"));
        if driver != "local" {
            found.notes.push(format!("volume {name}: its driver {driver} is not had here"));
            continue;
        }
        let uses = |container: &&Value| {
            let mounts = container["Mounts"].as_array();
            container["State"] == "running"
                && mounts.into_iter().flatten().any(|mount| mount["Name"] == json!(name))
        };
        let writers = containers.iter().filter(uses).flat_map(|container| texts(&container["Names"]));
        found.volumes.push(Volume {
            request: json!({
                "Name": name, "Driver": driver, "DriverOpts": volume["Options"], "Labels": volume["Labels"],
            }),
            data: text(volume, "Mountpoint").into(),
            writers: writers.map(|name| name.trim_start_matches('/').to_owned()).collect(),
            name,
        });
    }
    Ok(())
}
