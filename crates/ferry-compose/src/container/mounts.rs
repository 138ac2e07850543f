//! Binds, volumes, tmpfs, and the files of secrets and configs.

use super::Wanted;
use crate::model::{Config, FileReference, Mount as ModelMount};
use ferry_api::container::{
    BindOptions, FileOptions, HostConfig, ImageOptions, Mount, TmpfsOptions, VolumeOptions,
};
use std::collections::BTreeMap;

/// A secret or config that is copied into the container before it starts.
#[derive(Clone, Debug, PartialEq)]
pub struct FileContent {
    /// Path in the container.
    pub target: String,
    /// The bytes.
    pub content: Vec<u8>,
    /// Owner.
    pub uid: u64,
    /// Group.
    pub gid: u64,
    /// Permission bits.
    pub mode: u32,
}

/// Permissions of secrets and configs nobody gave any.
const DEFAULT_MODE: u32 = 0o444;

/// Where secrets lie that do not say where.
const SECRETS: &str = "/run/secrets/";

/// Adds all mounts of a service.
pub(super) fn set_mounts(host: &mut HostConfig, wanted: &Wanted) {
    let mut binds = Vec::new();
    for mount in &wanted.service.volumes {
        match bind_text(mount) {
            Some(bind) => binds.push(bind),
            None => host.mounts.push(api_mount(mount, wanted)),
        }
    }
    for text in &wanted.service.tmpfs {
        let (target, options) = text.split_once(':').unwrap_or((text, ""));
        host.tmpfs.insert(target.to_owned(), options.to_owned());
    }
    for (reference, resource, base) in references(wanted) {
        if resource.external {
            host.mounts.push(stored(reference, resource, base));
            continue;
        }
        if let Some(file) = resource.file.as_ref().filter(|_| !is_copied(reference)) {
            host.mounts.push(Mount {
                kind: "bind".to_owned(),
                source: file.clone(),
                target: target_path(reference, base),
                read_only: true,
                ..Mount::default()
            });
        }
    }
    if wanted.service.use_api_socket {
        binds.push("/var/run/docker.sock:/var/run/docker.sock".to_owned());
    }
    host.binds = (!binds.is_empty()).then_some(binds);
}

/// A secret or config of the engine's own store.
fn stored(reference: &FileReference, resource: &Config, base: &str) -> Mount {
    let number = |text: &Option<String>| text.as_deref().and_then(|text| text.parse().ok()).unwrap_or(0);
    Mount {
        kind: if base == SECRETS { "secret" } else { "config" }.to_owned(),
        source: resource.name.clone(),
        target: target_path(reference, base),
        read_only: true,
        file_options: Some(FileOptions {
            uid: number(&reference.uid),
            gid: number(&reference.gid),
            mode: Some(reference.mode.unwrap_or(DEFAULT_MODE)),
        }),
        ..Mount::default()
    }
}

/// A bind that creates its host path is a text of the old form; only that form creates it.
fn bind_text(mount: &ModelMount) -> Option<String> {
    let options = mount.bind.as_ref()?;
    if mount.kind != "bind" || options.create_host_path != Some(true) || options.recursive.is_some() {
        return None;
    }
    let mut modes = vec![if mount.read_only { "ro" } else { "rw" }.to_owned()];
    modes.extend(options.selinux.clone());
    modes.extend(options.propagation.clone());
    Some(format!("{}:{}:{}", mount.source.as_deref()?, mount.target, modes.join(",")))
}

fn api_mount(mount: &ModelMount, wanted: &Wanted) -> Mount {
    let source = mount.source.clone().unwrap_or_default();
    let mut out = Mount {
        kind: mount.kind.clone(),
        source,
        target: mount.target.clone(),
        read_only: mount.read_only,
        consistency: mount.consistency.clone().unwrap_or_default(),
        ..Mount::default()
    };
    match mount.kind.as_str() {
        "bind" => out.bind_options = mount.bind.as_ref().and_then(bind_options),
        "volume" => {
            if let Some(volume) = wanted.volumes.get(&out.source) {
                out.source = volume.name.clone();
            }
            let options = mount.volume.clone().unwrap_or_default();
            if options.nocopy || options.subpath.is_some() || !options.labels.is_empty() {
                out.volume_options = Some(VolumeOptions {
                    no_copy: options.nocopy,
                    labels: options.labels,
                    subpath: options.subpath.unwrap_or_default(),
                    driver_config: None,
                });
            }
        }
        "tmpfs" => {
            out.tmpfs_options = mount.tmpfs.as_ref().map(|options| TmpfsOptions {
                size_bytes: options.size.unwrap_or(0),
                mode: options.mode.unwrap_or(0),
                options: None,
            });
        }
        "image" => {
            out.image_options = mount
                .image
                .as_ref()
                .and_then(|options| options.subpath.clone())
                .map(|subpath| ImageOptions { subpath });
        }
        _ => {}
    }
    out
}

fn bind_options(options: &crate::model::BindOptions) -> Option<BindOptions> {
    let recursive = options.recursive.as_deref();
    let out = BindOptions {
        propagation: options.propagation.clone().unwrap_or_default(),
        non_recursive: recursive == Some("disabled"),
        create_mountpoint: options.create_host_path == Some(true),
        read_only_non_recursive: recursive == Some("writable"),
        read_only_force_recursive: recursive == Some("readonly"),
    };
    (out != BindOptions::default()).then_some(out)
}

/// Every secret and config of the service with its definition and the folder of relative targets.
fn references<'a>(wanted: &Wanted<'a>) -> Vec<(&'a FileReference, &'a Config, &'static str)> {
    let service: &'a crate::model::Service = wanted.service;
    let find = |items: &'a [FileReference], known: &'a BTreeMap<String, Config>, base: &'static str| {
        items.iter().filter_map(move |item| Some((item, known.get(&item.source)?, base)))
    };
    find(&service.secrets, wanted.secrets, SECRETS)
        .chain(find(&service.configs, wanted.configs, "/"))
        .collect()
}

fn target_path(reference: &FileReference, base: &str) -> String {
    match reference.target.as_deref() {
        Some(target) if target.starts_with('/') => target.to_owned(),
        Some(target) => format!("{base}{target}"),
        None => format!("{base}{}", reference.source),
    }
}

/// A bind mount has the owner and mode of the host's file; with ones of its own a file is copied instead.
fn is_copied(reference: &FileReference) -> bool {
    reference.uid.is_some() || reference.gid.is_some() || reference.mode.is_some()
}

/// Secrets and configs whose bytes are copied: from the Compose file, from the environment, or, with an owner or
/// mode of their own, from the host's file that `read` reads. The error names what is not there.
pub fn file_contents(
    wanted: &Wanted,
    read: &dyn Fn(&str) -> std::io::Result<Vec<u8>>,
) -> Result<Vec<FileContent>, String> {
    let mut found = Vec::new();
    for (reference, resource, base) in references(wanted) {
        let content = match (&resource.content, &resource.environment) {
            (Some(content), _) => content.clone().into_bytes(),
            (None, Some(variable)) => match wanted.project.environment.get(variable) {
                Some(value) => value.as_bytes().to_vec(),
                None => {
                    return Err(format!(
                        "\"{}\" of service \"{}\" comes from the environment variable {variable}, which is not set",
                        reference.source, wanted.name
                    ));
                }
            },
            (None, None) => match resource.file.as_ref().filter(|_| is_copied(reference)) {
                Some(file) => read(file).map_err(|error| {
                    format!(
                        "cannot read {file} for service \"{}\": {}",
                        wanted.name,
                        crate::files::describe(&error)
                    )
                })?,
                None => continue,
            },
        };
        let number = |text: &Option<String>| text.as_deref().and_then(|text| text.parse().ok()).unwrap_or(0);
        found.push(FileContent {
            target: target_path(reference, base),
            content,
            uid: number(&reference.uid),
            gid: number(&reference.gid),
            mode: reference.mode.unwrap_or(DEFAULT_MODE),
        });
    }
    Ok(found)
}
