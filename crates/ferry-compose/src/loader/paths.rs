//! Relative paths made absolute, each from the folder of the file that names it.

use super::discover::is_remote;
use crate::files::absolute;
use crate::tree::{Node, Value};
use std::path::Path;

/// Makes the host paths of a canonical tree absolute.
pub(super) fn resolve(root: &mut Node, directory: &Path, home: Option<&str>) {
    let base = Base { directory, home };
    for service in values(root, "services") {
        base.service(service);
    }
    for section in ["secrets", "configs"] {
        for resource in values(root, section) {
            base.path(resource, "file");
        }
    }
    for volume in values(root, "volumes") {
        base.volume_device(volume);
    }
}

fn values<'a>(node: &'a mut Node, key: &str) -> impl Iterator<Item = &'a mut Node> {
    node.get_mut(key).and_then(Node::as_mapping_mut).into_iter().flat_map(|mapping| mapping.values_mut())
}

fn items<'a>(node: &'a mut Node, key: &str) -> impl Iterator<Item = &'a mut Node> {
    node.get_mut(key).and_then(Node::as_sequence_mut).into_iter().flatten()
}

struct Base<'a> {
    directory: &'a Path,
    home: Option<&'a str>,
}

impl Base<'_> {
    fn resolve(&self, node: &mut Node) {
        if let Value::String(text) = &mut node.value
            && !text.is_empty()
        {
            *text = absolute(self.directory, text, self.home).to_string_lossy().into_owned();
        }
    }

    fn path(&self, holder: &mut Node, key: &str) {
        if let Some(node) = holder.get_mut(key) {
            self.resolve(node);
        }
    }

    fn service(&self, service: &mut Node) {
        if let Some(build) = service.get_mut("build") {
            self.build(build);
        }
        for volume in items(service, "volumes") {
            if volume.get_str("type") == Some("bind") {
                self.path(volume, "source");
            }
        }
        for file in items(service, "env_file") {
            self.path(file, "path");
        }
        for file in items(service, "label_file") {
            self.resolve(file);
        }
        if let Some(develop) = service.get_mut("develop") {
            for rule in items(develop, "watch") {
                self.path(rule, "path");
            }
        }
        if let Some(credential) = service.get_mut("credential_spec") {
            self.path(credential, "file");
        }
        for option in items(service, "security_opt") {
            self.security_option(option);
        }
    }

    fn build(&self, build: &mut Node) {
        if let Some(context) = build.get_mut("context")
            && !context.as_str().is_some_and(is_build_url)
        {
            self.resolve(context);
        }
        for context in values(build, "additional_contexts") {
            if !context.as_str().is_some_and(|text| is_build_url(text) || text.starts_with("service:")) {
                self.resolve(context);
            }
        }
        for key in values(build, "ssh") {
            self.resolve(key);
        }
    }

    /// `seccomp=profile.json` names a file on the client's side.
    fn security_option(&self, option: &mut Node) {
        let Some(text) = option.as_str() else { return };
        let Some(path) = text.strip_prefix("seccomp=").or_else(|| text.strip_prefix("seccomp:")) else {
            return;
        };
        if !matches!(path, "unconfined" | "builtin") && !path.starts_with('{') {
            let path = absolute(self.directory, path, self.home);
            option.value = Value::String(format!("seccomp={}", path.display()));
        }
    }

    /// A local volume that is really a bind: `type: none, o: bind, device: ./data`.
    fn volume_device(&self, volume: &mut Node) {
        let Some(options) = volume.get_mut("driver_opts") else { return };
        let binds =
            options.get_str("o").is_some_and(|o| o.split(',').any(|part| matches!(part, "bind" | "rbind")));
        if binds && options.get_str("type").is_none_or(|kind| matches!(kind, "none" | "")) {
            self.path(options, "device");
        }
    }
}

fn is_build_url(text: &str) -> bool {
    is_remote(text) || text.contains("://")
}
