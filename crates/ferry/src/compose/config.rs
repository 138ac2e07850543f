//! `config`: the project as it was understood.

use super::context::Compose;
use crate::failure::{Failure, Outcome};
use crate::output;
use ferry_compose::loader::{Loaded, Steps};
use ferry_compose::target::Target;
use ferry_compose::tree::{Mapping, Node};
use ferry_compose::{docker_hash, explain, output as render};
use std::collections::BTreeSet;

crate::flags! {
    /// Flags of `config`.
    pub struct ConfigFlags {
        environment: bool = '-' "environment" "Print environment used for interpolation";
        explain: Option<String> = '-' "explain" <string> "Print where the value at a key (services.web.image), or a variable, came from";
        format: String = '-' "format" <string> "Format the output. Values: [yaml | json]";
        hash: Option<String> = '-' "hash" <string> "Print the service config hash, one per line";
        images: bool = '-' "images" "Print the image names, one per line";
        lock_image_digests: bool = '-' "lock-image-digests" "Produces an override file with image digests";
        models: bool = '-' "models" "Print the model names, one per line";
        networks: bool = '-' "networks" "Print the network names, one per line";
        no_consistency: bool = '-' "no-consistency" "Don't check model consistency - warning: may produce invalid Compose output";
        no_env_resolution: bool = '-' "no-env-resolution" "Don't resolve service env files";
        no_interpolate: bool = '-' "no-interpolate" "Don't interpolate environment variables";
        no_normalize: bool = '-' "no-normalize" "Don't normalize compose model";
        no_path_resolution: bool = '-' "no-path-resolution" "Don't resolve file paths";
        output: Option<String> = 'o' "output" <string> "Save to file (default to stdout)";
        profiles: bool = '-' "profiles" "Print the profile names, one per line";
        quiet: bool = 'q' "quiet" "Only validate the configuration, don't print anything";
        resolve_image_digests: bool = '-' "resolve-image-digests" "Pin image tags to digests";
        services: bool = '-' "services" "Print the service names, one per line";
        variables: bool = '-' "variables" "Print model variables and default values";
        volumes: bool = '-' "volumes" "Print the volume names, one per line";
    }
}

/// Runs `config`.
pub async fn config(compose: &Compose, flags: ConfigFlags, services: Vec<String>) -> Outcome {
    let mut request = compose.request(&services)?;
    request.steps = Steps {
        interpolate: !flags.no_interpolate,
        normalize: !flags.no_normalize,
        resolve_paths: !flags.no_path_resolution,
        resolve_environment: !flags.no_env_resolution && !flags.no_interpolate,
        check: !flags.no_consistency,
    };
    if flags.profiles {
        request.profiles = vec!["*".to_owned()];
    }
    let loaded = compose.load_request(&request)?;
    if flags.quiet {
        return Ok(0);
    }
    let text = if let Some(key) = &flags.explain {
        explain::explain(&loaded.project, &loaded.sources, key).ok_or_else(|| {
            Failure::new(format!("\"{key}\" is neither a key of the project nor a variable"))
        })?
    } else if let Some(services) = &flags.hash {
        hashes(&loaded, services)?
    } else if flags.resolve_image_digests || flags.lock_image_digests {
        digests(compose, loaded, &flags).await?
    } else {
        print(compose, &loaded, &flags, &services)?
    };
    match &flags.output {
        Some(path) => std::fs::write(path, text)
            .map_err(|error| Failure::from(error).context(&format!("cannot write {path}")))?,
        None => output::write(text.as_bytes())?,
    }
    Ok(0)
}

fn lines<'a>(items: impl IntoIterator<Item = &'a str>) -> String {
    items.into_iter().map(|item| format!("{item}\n")).collect()
}

fn print(
    compose: &Compose,
    loaded: &Loaded,
    flags: &ConfigFlags,
    services: &[String],
) -> Result<String, Failure> {
    let project = &loaded.project;
    let sorted = |section: &str| project.section(section).map(|(name, _)| name).collect::<BTreeSet<_>>();
    if flags.services {
        return Ok(lines(selected(loaded, services)));
    }
    for (wanted, section) in
        [(flags.volumes, "volumes"), (flags.networks, "networks"), (flags.models, "models")]
    {
        if wanted {
            return Ok(lines(sorted(section)));
        }
    }
    if flags.images {
        let target =
            Target::new(project.clone(), compose.separator()).map_err(|error| Failure::from_error(&error))?;
        let images: Vec<String> = selected(loaded, services).iter().map(|name| target.image(name)).collect();
        return Ok(lines(images.iter().map(String::as_str)));
    }
    if flags.profiles {
        let all = project.section("services").flat_map(|(_, node)| profiles_of(node));
        return Ok(lines(all.collect::<BTreeSet<_>>()));
    }
    if flags.environment {
        return Ok(project
            .environment
            .iter()
            .map(|(name, entry)| format!("{name}={}\n", entry.value))
            .collect());
    }
    if flags.variables {
        return Ok(variables(loaded));
    }
    let mut tree = project.tree.clone();
    if !services.is_empty()
        && let Some(known) = tree.get_mut("services").and_then(Node::as_mapping_mut)
    {
        let wanted = ferry_compose::project::with_dependencies(known, services);
        known.retain(|name, _| wanted.contains(name));
    }
    Ok(show(&tree, flags))
}

fn show(tree: &Node, flags: &ConfigFlags) -> String {
    let presentable = render::presentable(tree, !flags.no_interpolate);
    match flags.format.as_str() {
        "json" => format!("{}\n", render::to_json(&presentable)),
        _ => render::to_yaml(&presentable),
    }
}

fn profiles_of(node: &Node) -> impl Iterator<Item = &str> {
    node.get("profiles").and_then(Node::as_sequence).into_iter().flatten().filter_map(Node::as_str)
}

fn selected<'a>(loaded: &'a Loaded, services: &[String]) -> BTreeSet<&'a str> {
    let names = loaded.project.section("services").map(|(name, _)| name);
    names.filter(|name| services.is_empty() || services.iter().any(|wanted| wanted == name)).collect()
}

fn hashes(loaded: &Loaded, services: &str) -> Result<String, Failure> {
    let wanted: Vec<&str> = services.split(',').filter(|name| !name.is_empty()).collect();
    for name in wanted.iter().filter(|name| **name != "*") {
        if !loaded.project.section("services").any(|(known, _)| known == *name) {
            return Err(Failure::new(format!("no such service: {name}")));
        }
    }
    let mut all: Vec<(&str, String)> = loaded
        .project
        .section("services")
        .filter(|(name, _)| wanted.contains(&"*") || wanted.contains(name))
        .map(|(name, node)| (name, docker_hash::service(node)))
        .collect();
    all.sort();
    Ok(all.iter().map(|(name, hash)| format!("{name} {hash}\n")).collect())
}

fn variables(loaded: &Loaded) -> String {
    let mut text = String::from("NAME\tREQUIRED\tDEFAULT VALUE\tALTERNATE VALUE\n");
    for variable in &loaded.project.variables {
        let default = variable.default.as_deref().unwrap_or_default();
        let alternative = variable.alternative.as_deref().unwrap_or_default();
        text.push_str(&format!("{}\t{}\t{default}\t{alternative}\n", variable.name, variable.required));
    }
    output::table::align(&text)
}

/// Only the services' images, with their digests, as a Compose file to lay over others.
pub async fn locked_digests(compose: &Compose, loaded: &Loaded) -> Result<String, Failure> {
    let flags = ConfigFlags { lock_image_digests: true, ..ConfigFlags::default() };
    digests(compose, loaded.clone(), &flags).await
}

/// Images with the digests of what is there locally.
async fn digests(compose: &Compose, loaded: Loaded, flags: &ConfigFlags) -> Result<String, Failure> {
    let engine = compose.engine(&loaded.project.name).await?;
    let mut tree = loaded.project.tree.clone();
    let mut locked = Mapping::new();
    let services = tree.get_mut("services").and_then(Node::as_mapping_mut);
    for (name, service) in services.into_iter().flatten() {
        let Some(image) = service.get_str("image").map(str::to_owned) else { continue };
        let found = engine.image(&image).await?;
        let digest = found.and_then(|image| image.repo_digests.first().cloned());
        let Some(digest) = digest else {
            return Err(Failure::new(format!(
                "image {image} of service \"{name}\" has no digest: it was never pulled or pushed"
            )));
        };
        if let Some(node) = service.get_mut("image") {
            *node = node.with(digest.clone());
        }
        let only = Mapping::from([("image".to_owned(), Node::derived(digest))]);
        locked.insert(name.clone(), Node::derived(only));
    }
    if flags.lock_image_digests {
        let root = Mapping::from([("services".to_owned(), Node::derived(locked))]);
        return Ok(render::to_yaml(&Node::derived(root)));
    }
    Ok(show(&tree, flags))
}
