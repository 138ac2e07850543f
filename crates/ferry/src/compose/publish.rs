//! `publish`: the Compose files as an OCI artifact on a registry, the images of built services beside them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ferry_api::artifact::{Artifact, ArtifactFile};
use ferry_compose::loader::{Loaded, Steps};
use ferry_compose::output as render;
use ferry_compose::target::Target;
use ferry_compose::tree::Node;

use super::build::push_images;
use super::config;
use super::context::Compose;
use super::forward::hand_over;
use super::remote::{ENV_NAME, ENV_TYPE, FILE_NAME, FILE_TYPE, OLD_PROJECT_TYPE, PROJECT_TYPE};
use crate::commands::{confirm, image::manifest};
use crate::failure::{Failure, Outcome};
use crate::output;

crate::flags! {
    /// Flags of `publish`.
    pub struct PublishFlags {
        app: bool = '-' "app" "Publish the images of the services, too, into the same repository";
        oci_version: Option<String> = '-' "oci-version" <string> "OCI image/artifact specification version (1.0 or 1.1, the default)";
        resolve_image_digests: bool = '-' "resolve-image-digests" "Pin image tags to digests";
        with_env: bool = '-' "with-env" "Include environment variables in the published OCI artifact";
        yes: bool = 'y' "yes" "Assume \"yes\" as answer to all prompts";
    }
}

/// Runs `publish`.
pub async fn publish(compose: &Compose, flags: PublishFlags, arguments: Vec<String>) -> Outcome {
    let old_form = match flags.oci_version.as_deref() {
        None | Some("" | "1.1") => false,
        Some("1.0") => true,
        Some(other) => {
            return Err(
                Failure::new(format!("unsupported OCI version: {other}")).hint("there are 1.0 and 1.1")
            );
        }
    };
    // With the env files still named, not yet read into the services.
    let mut request = compose.request(&[])?;
    request.steps.resolve_environment = false;
    let loaded = compose.load_request(&request)?;
    check(&loaded, &flags)?;
    let mut files = compose_files(compose, &loaded)?;
    if flags.resolve_image_digests {
        let locked = config::locked_digests(compose, &loaded).await?;
        files.push(file(FILE_TYPE, FILE_NAME, "image-digests.yaml", locked.as_bytes()));
    }
    if flags.with_env {
        files.extend(env_files(&loaded)?);
    }
    let target =
        Target::new(loaded.project, compose.separator()).map_err(|error| Failure::from_error(&error))?;
    let services = target.selected(&[], true);
    push_images(compose, &target, &services, true, true).await?;
    let images = if flags.app { app_images(compose, &target).await? } else { Vec::new() };

    let name = manifest::whole_name(&arguments[0]);
    let artifact_type = if old_form { OLD_PROJECT_TYPE } else { PROJECT_TYPE }.to_owned();
    let artifact = Artifact { artifact_type, files, old_form, images, ..Artifact::default() };
    let call = ferry_api::Call::put("/ferry/artifact")
        .query("name", &name)
        .header("X-Registry-Auth", manifest::authorization(&compose.session, &name)?)
        .json(&artifact);
    let answer: serde_json::Value = compose.session.engine().await?.call(call).await?.json().await?;
    output::line(&format!("{name}@{}", answer["Digest"].as_str().unwrap_or_default()))?;
    Ok(0)
}

/// The images of all services; those that are missing are fetched.
async fn app_images(compose: &Compose, target: &Target) -> Result<Vec<String>, Failure> {
    let engine = compose.engine(&target.project.name).await?;
    let images: BTreeSet<String> = target.services.keys().map(|name| target.image(name)).collect();
    for image in &images {
        if engine.image(image).await?.is_none() {
            hand_over(&compose.session, "pull", vec!["-q".to_owned(), image.clone()]).await?;
        }
    }
    Ok(images.into_iter().collect())
}

/// What others could not use, or should not see.
fn check(loaded: &Loaded, flags: &PublishFlags) -> Result<(), Failure> {
    let services =
        loaded.project.tree.get("services").and_then(Node::as_mapping).cloned().unwrap_or_default();
    let mut mounts = Vec::new();
    for (name, service) in &services {
        if service.get("env_file").is_some() && !flags.with_env {
            return Err(Failure::new(format!("service \"{name}\" has an env_file, which is not published"))
                .hint("publish it too with --with-env, or take it out of the file"));
        }
        let volumes = service.get("volumes").and_then(Node::as_sequence).unwrap_or_default();
        let binds = volumes.iter().filter(|volume| volume.get_str("type") == Some("bind"));
        mounts.extend(binds.filter_map(|bind| Some(format!("{name}: {}", bind.get_str("source")?))));
    }
    let built = services.values().filter(|service| service.get("build").is_some());
    if services.values().all(|service| service.get("build").is_some() && service.get("image").is_none())
        && built.count() > 0
    {
        return Err(Failure::new("the services are only built, so nobody could pull them")
            .hint("give each an image: REGISTRY/NAME beside its build"));
    }
    if mounts.is_empty() || flags.yes {
        return Ok(());
    }
    output::note("these bind mounts name folders that are only on this machine:");
    mounts.iter().for_each(|mount| output::note(&format!("  {mount}")));
    match confirm("Publish them nevertheless?")? {
        true => Ok(()),
        false => Err(Failure::new("nothing was published").hint("answer yes beforehand with -y")),
    }
}

/// The files as they were written; where they extend or include others, one that has all of that in it.
fn compose_files(compose: &Compose, loaded: &Loaded) -> Result<Vec<ArtifactFile>, Failure> {
    let project = &loaded.project;
    let given = |path: &Path| project.config_files.iter().any(|file| file == path);
    if project.layers.iter().all(|layer| given(&layer.path)) && !loaded.extends_files {
        let read = |path: &PathBuf| {
            let text = std::fs::read(path)
                .map_err(|error| Failure::from(error).context(&format!("cannot read {}", path.display())))?;
            Ok(file(FILE_TYPE, FILE_NAME, &base_name(path), &text))
        };
        return project.config_files.iter().map(read).collect();
    }
    let mut request = compose.request(&[])?;
    request.steps = Steps {
        interpolate: false,
        normalize: false,
        resolve_paths: false,
        resolve_environment: false,
        check: false,
    };
    let merged = compose.load_request(&request)?;
    Ok(vec![file(FILE_TYPE, FILE_NAME, "compose.yaml", render::to_yaml(&merged.project.tree).as_bytes())])
}

/// The env files of services, under the names by which the Compose file knows them.
fn env_files(loaded: &Loaded) -> Result<Vec<ArtifactFile>, Failure> {
    let services =
        loaded.project.tree.get("services").and_then(Node::as_mapping).cloned().unwrap_or_default();
    let mut files = BTreeMap::new();
    for service in services.values() {
        let listed = service.get("env_file").and_then(Node::as_sequence).unwrap_or_default();
        for path in listed.iter().filter_map(|entry| entry.get_str("path")) {
            let path = Path::new(path);
            let Ok(name) = path.strip_prefix(&loaded.project.directory) else {
                return Err(Failure::new(format!("{} is outside the project's folder", path.display()))
                    .hint("move it beside the Compose file"));
            };
            let text = std::fs::read(path)
                .map_err(|error| Failure::from(error).context(&format!("cannot read {}", path.display())))?;
            let name = name.display().to_string();
            files.insert(name.clone(), file(ENV_TYPE, ENV_NAME, &name, &text));
        }
    }
    Ok(files.into_values().collect())
}

fn file(media_type: &str, annotation: &str, name: &str, bytes: &[u8]) -> ArtifactFile {
    ArtifactFile {
        media_type: media_type.to_owned(),
        annotations: BTreeMap::from([
            (annotation.to_owned(), name.to_owned()),
            ("com.docker.compose.version".to_owned(), super::COMPATIBLE_VERSION.to_owned()),
        ]),
        data: STANDARD.encode(bytes),
    }
}

fn base_name(path: &Path) -> String {
    path.file_name().map_or_else(|| "compose.yaml".to_owned(), |name| name.to_string_lossy().into_owned())
}
