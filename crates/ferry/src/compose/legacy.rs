//! Version 1's `bundle`: the project as a Docker bundle (`<project>.dab`).

use super::context::Compose;
use crate::failure::{Failure, Outcome};
use crate::output;
use serde_json::{Map, Value, json};

crate::flags! {
    /// Flags of `bundle`.
    pub struct BundleFlags {
        output: Option<String> = 'o' "output" <string> "Path to write the bundle file to (default \"<project name>.dab\")";
        push_images: bool = '-' "push-images" "Automatically push images for any services which have a build option specified";
    }
}

/// Runs `bundle`.
pub async fn bundle(compose: &Compose, flags: BundleFlags, _: Vec<String>) -> Outcome {
    let target = compose.target(&[])?;
    let engine = compose.engine(&target.project.name).await?;
    if flags.push_images {
        super::build::push(compose, super::build::PushFlags::default(), Vec::new()).await?;
    }
    let mut services = Map::new();
    for (name, service) in &target.services {
        let image = target.image(name);
        let found = engine.image(&image).await?;
        let digest = found.as_ref().and_then(|image| image.repo_digests.first()).ok_or_else(|| {
            Failure::new(format!("image {image} of service \"{name}\" has no digest"))
                .hint(format!("pull or push it first: compose pull {name}"))
        })?;
        let mut entry = Map::new();
        entry.insert("Image".to_owned(), json!(digest));
        if let Some(command) = &service.command {
            entry.insert("Args".to_owned(), json!(command));
        }
        if let Some(entrypoint) = &service.entrypoint {
            entry.insert("Command".to_owned(), json!(entrypoint));
        }
        let environment: Vec<String> = service
            .environment
            .iter()
            .filter_map(|(key, value)| value.as_ref().map(|value| format!("{key}={value}")))
            .collect();
        if !environment.is_empty() {
            entry.insert("Env".to_owned(), json!(environment));
        }
        if !service.labels.is_empty() {
            entry.insert("Labels".to_owned(), json!(service.labels));
        }
        let networks: Vec<&String> = service.networks.keys().collect();
        if !networks.is_empty() {
            entry.insert("Networks".to_owned(), json!(networks));
        }
        let ports: Vec<Value> = service
            .ports
            .iter()
            .filter_map(|port| {
                Some(json!({"Port": port.target?, "Protocol": port.protocol.as_deref().unwrap_or("tcp")}))
            })
            .collect();
        if !ports.is_empty() {
            entry.insert("Ports".to_owned(), json!(ports));
        }
        if let Some(user) = &service.user {
            entry.insert("User".to_owned(), json!(user));
        }
        if let Some(directory) = &service.working_dir {
            entry.insert("WorkingDir".to_owned(), json!(directory));
        }
        services.insert(name.clone(), Value::Object(entry));
    }
    let text = serde_json::to_string_pretty(&json!({"Services": services, "Version": "0.1"}))
        .expect("maps of texts serialise");
    let path = flags.output.unwrap_or_else(|| format!("{}.dab", target.project.name));
    std::fs::write(&path, format!("{text}\n"))
        .map_err(|error| Failure::from(error).context(&format!("cannot write {path}")))?;
    output::note(&format!("Wrote bundle to {path}"));
    Ok(0)
}
