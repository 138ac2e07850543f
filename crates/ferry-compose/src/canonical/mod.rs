//! The canonical form: every short syntax as its long one, every unit in one spelling.
//!
//! Owns the conversions of one file's tree, each in place and idempotent. A value of the wrong type is
//! left as it is: the schema reports it with its place.

mod lists;
mod ports;
mod volumes;

pub use lists::{shell_words, split_host};
pub use ports::parse_port;
pub use volumes::parse_volume;

use crate::diagnostic::{Diagnostic, Report};
use crate::tree::{Mapping, Node, Value};
use crate::units;
use lists::{BareKey, canonical_hosts, scalars_to_text, to_list, to_long_items, to_map};

/// Brings a file to its canonical form. With `templates` texts that still hold a `$` are left alone.
pub fn canonicalize(root: &mut Node, templates: bool, report: &mut Report) {
    let mut context = Context { templates, report };
    for (name, service) in children(root, "services") {
        context.service(&format!("services.{name}"), service);
    }
    for section in ["networks", "volumes", "secrets", "configs"] {
        for (name, resource) in children(root, section) {
            context.resource(&format!("{section}.{name}"), resource);
        }
    }
}

fn children<'a>(node: &'a mut Node, key: &str) -> impl Iterator<Item = (&'a String, &'a mut Node)> {
    node.get_mut(key).and_then(Node::as_mapping_mut).into_iter().flat_map(|mapping| mapping.iter_mut())
}

struct Context<'r> {
    templates: bool,
    report: &'r mut Report,
}

impl Context<'_> {
    fn fail(&mut self, node: &Node, place: &str, message: impl std::fmt::Display) {
        let width = node.scalar_text().map_or(1, |text| text.chars().count());
        self.report.push(Diagnostic::error(format!("{place}: {message}")).at(node.origin).width(width));
    }

    /// A template that was not filled in cannot be taken apart.
    fn is_template(&self, text: &str) -> bool {
        self.templates && text.contains('$')
    }

    fn service(&mut self, place: &str, service: &mut Node) {
        if let Some(build) = service.get_mut("build") {
            if build.as_str().is_some() {
                let context = build.clone();
                build.value = Value::Mapping(Mapping::from([("context".to_owned(), context)]));
            }
            self.build(&format!("{place}.build"), build);
        }
        each(service, "environment", |node| to_map(node, BareKey::Null));
        for key in ["labels", "annotations", "sysctls"] {
            each(service, key, |node| to_map(node, BareKey::Empty));
        }
        for key in ["dns", "dns_search", "dns_opt", "tmpfs", "label_file"] {
            each(service, key, to_list);
        }
        for key in ["expose", "group_add"] {
            each(service, key, scalars_to_text);
        }
        for key in ["command", "entrypoint"] {
            self.command(place, service, key);
        }
        for key in ["pre_start", "post_start", "pre_stop"] {
            self.hooks(place, service, key);
        }
        for key in ["secrets", "configs"] {
            each(service, key, |node| to_long_items(node, "source"));
        }
        each(service, "env_file", |node| {
            to_list(node);
            to_long_items(node, "path");
            for item in node.as_sequence_mut().into_iter().flatten() {
                let required = Node { origin: item.origin, key: item.origin, ..Node::derived(true) };
                if let Some(mapping) = item.as_mapping_mut() {
                    mapping.entry("required".to_owned()).or_insert(required);
                }
            }
        });
        each(service, "extra_hosts", canonical_hosts);
        self.names(service);
        self.runtime_lists(place, service);
        self.units(place, service);
        self.healthcheck(place, service);
        self.deploy(place, service);
        each(service, "logging", |node| each(node, "options", scalars_to_text));
        if let Some(watch) = service.get_mut("develop").and_then(|d| d.get_mut("watch")) {
            for rule in watch.as_sequence_mut().into_iter().flatten() {
                each(rule, "ignore", to_list);
                each(rule, "include", to_list);
                if let Some(exec) = rule.get_mut("exec") {
                    self.command(&format!("{place}.develop.watch.exec"), exec, "command");
                    each(exec, "environment", |node| to_map(node, BareKey::Null));
                }
            }
        }
    }

    /// Lists of names that are maps in the long form.
    fn names(&mut self, service: &mut Node) {
        each(service, "depends_on", |node| {
            names_to_map(node, |name| {
                let condition = Node { origin: name.origin, ..Node::derived("service_started") };
                Value::Mapping(Mapping::from([("condition".to_owned(), condition)]))
            });
            for dependency in node.as_mapping_mut().into_iter().flat_map(|m| m.values_mut()) {
                let required = Node { origin: dependency.origin, key: dependency.key, ..Node::derived(true) };
                if let Some(mapping) = dependency.as_mapping_mut() {
                    mapping.entry("required".to_owned()).or_insert(required);
                }
            }
        });
        each(service, "networks", |node| names_to_map(node, |_| Value::Null));
        each(service, "models", |node| names_to_map(node, |_| Value::Mapping(Mapping::new())));
        each(service, "gpus", |node| {
            if node.as_str() == Some("all") {
                let count = Node { origin: node.origin, ..Node::derived("all") };
                let all = Node {
                    origin: node.origin,
                    ..Node::derived(Mapping::from([("count".to_owned(), count)]))
                };
                node.value = Value::Sequence(vec![all]);
            }
        });
    }

    fn runtime_lists(&mut self, place: &str, service: &mut Node) {
        if let Some(ports) = service.get_mut("ports") {
            self.ports(&format!("{place}.ports"), ports);
        }
        if let Some(volumes) = service.get_mut("volumes") {
            self.volumes(&format!("{place}.volumes"), volumes);
        }
        if let Some(devices) = service.get_mut("devices") {
            self.devices(&format!("{place}.devices"), devices);
        }
    }

    fn ports(&mut self, place: &str, node: &mut Node) {
        let Some(items) = node.as_sequence_mut() else { return };
        let mut expanded = Vec::with_capacity(items.len());
        for item in std::mem::take(items) {
            let text = match &item.value {
                Value::Mapping(_) => {
                    expanded.push(ports::complete(item));
                    continue;
                }
                _ => item.scalar_text(),
            };
            match text {
                Some(text) if !self.is_template(&text) => match parse_port(&text) {
                    Ok(entries) => expanded.extend(entries.into_iter().map(|port| port.into_node(&item))),
                    Err(message) => self.fail(&item, place, message),
                },
                _ => expanded.push(item),
            }
        }
        *items = expanded;
    }

    fn volumes(&mut self, place: &str, node: &mut Node) {
        for item in node.as_sequence_mut().into_iter().flatten() {
            let text = match item.as_str() {
                Some(text) if !self.is_template(text) => text.to_owned(),
                Some(_) => continue,
                None => {
                    self.long_volume(place, item);
                    continue;
                }
            };
            match parse_volume(&text) {
                Ok(volume) => {
                    for option in &volume.unknown_options {
                        let message = format!("{place}: unknown option \"{option}\" is ignored");
                        self.report
                            .push(Diagnostic::warning(message).at(item.origin).width(text.chars().count()));
                    }
                    *item = volume.into_node(item);
                }
                Err(message) => self.fail(&item.clone(), place, message),
            }
        }
    }

    fn long_volume(&mut self, place: &str, item: &mut Node) {
        if let Some(target) = item.get_mut("target")
            && let Value::String(text) = &mut target.value
            && text.starts_with('/')
        {
            *text = volumes::clean_path(text);
        }
        each(item, "volume", |volume| each(volume, "labels", |node| to_map(node, BareKey::Empty)));
        if let Some(tmpfs) = item.get_mut("tmpfs") {
            self.bytes(place, tmpfs, "size");
        }
    }

    fn devices(&mut self, place: &str, node: &mut Node) {
        for item in node.as_sequence_mut().into_iter().flatten() {
            match item.as_str() {
                Some(text) if !self.is_template(text) => {
                    let text = text.to_owned();
                    match lists::parse_device(&text) {
                        Ok(device) => item.value = lists::device_node(device, item),
                        Err(message) => self.fail(&item.clone(), place, message),
                    }
                }
                Some(_) => {}
                None => lists::complete_device(item),
            }
        }
    }

    /// A command given as text becomes the words a shell would see; no shell runs.
    fn command(&mut self, place: &str, holder: &mut Node, key: &str) {
        let Some(node) = holder.get_mut(key) else { return };
        let Some(text) = node.as_str() else { return };
        if self.is_template(text) {
            return;
        }
        match shell_words(text) {
            Ok(words) => {
                let items =
                    words.into_iter().map(|word| Node::new(Value::String(word), node.origin)).collect();
                node.value = Value::Sequence(items);
            }
            Err(message) => {
                let node = node.clone();
                self.fail(&node, &format!("{place}.{key}"), message);
            }
        }
    }

    fn hooks(&mut self, place: &str, service: &mut Node, key: &str) {
        let Some(hooks) = service.get_mut(key).and_then(Node::as_sequence_mut) else { return };
        for hook in hooks {
            self.command(&format!("{place}.{key}"), hook, "command");
            each(hook, "environment", |node| to_map(node, BareKey::Null));
        }
    }

    fn build(&mut self, place: &str, build: &mut Node) {
        each(build, "args", |node| to_map(node, BareKey::Null));
        for key in ["labels", "additional_contexts"] {
            each(build, key, |node| to_map(node, BareKey::Empty));
        }
        each(build, "ssh", |node| to_map(node, BareKey::Empty));
        each(build, "secrets", |node| to_long_items(node, "source"));
        each(build, "extra_hosts", canonical_hosts);
        each(build, "no_cache_filter", to_list);
        for key in ["provenance", "sbom"] {
            each(build, key, |node| {
                if let Value::Bool(value) = node.value {
                    node.value = Value::String(value.to_string());
                }
            });
        }
        self.bytes(place, build, "shm_size");
    }

    fn units(&mut self, place: &str, service: &mut Node) {
        for key in ["mem_limit", "mem_reservation", "memswap_limit", "shm_size"] {
            self.bytes(place, service, key);
        }
        self.duration(place, service, "stop_grace_period");
        if let Some(blkio) = service.get_mut("blkio_config") {
            for key in ["device_read_bps", "device_write_bps", "device_read_iops", "device_write_iops"] {
                for limit in blkio.get_mut(key).and_then(Node::as_sequence_mut).into_iter().flatten() {
                    self.bytes(&format!("{place}.blkio_config.{key}"), limit, "rate");
                }
            }
        }
    }

    fn healthcheck(&mut self, place: &str, service: &mut Node) {
        let Some(check) = service.get_mut("healthcheck") else { return };
        let place = format!("{place}.healthcheck");
        if let Some(test) = check.get_mut("test")
            && test.as_str().is_some()
        {
            let command = test.clone();
            test.value = Value::Sequence(vec![command.with("CMD-SHELL"), command]);
        }
        for key in ["interval", "timeout", "start_period", "start_interval"] {
            self.duration(&place, check, key);
        }
    }

    fn deploy(&mut self, place: &str, service: &mut Node) {
        let Some(deploy) = service.get_mut("deploy") else { return };
        let place = format!("{place}.deploy");
        each(deploy, "labels", |node| to_map(node, BareKey::Empty));
        for key in ["update_config", "rollback_config"] {
            if let Some(config) = deploy.get_mut(key) {
                self.duration(&format!("{place}.{key}"), config, "delay");
                self.duration(&format!("{place}.{key}"), config, "monitor");
            }
        }
        if let Some(policy) = deploy.get_mut("restart_policy") {
            self.duration(&format!("{place}.restart_policy"), policy, "delay");
            self.duration(&format!("{place}.restart_policy"), policy, "window");
        }
        if let Some(resources) = deploy.get_mut("resources") {
            for key in ["limits", "reservations"] {
                if let Some(part) = resources.get_mut(key) {
                    self.bytes(&format!("{place}.resources.{key}"), part, "memory");
                    each(part, "cpus", |node| {
                        if let Some(text) = node.scalar_text() {
                            node.value = Value::String(text);
                        }
                    });
                }
            }
        }
    }

    fn resource(&mut self, place: &str, resource: &mut Node) {
        each(resource, "labels", |node| to_map(node, BareKey::Empty));
        each(resource, "driver_opts", scalars_to_text);
        // `external: {name: x}` is the old spelling of `external: true` with a name.
        if let Some(external) = resource.get_mut("external")
            && let Value::Mapping(old) = &mut external.value
        {
            let name = old.shift_remove("name");
            external.value = Value::Bool(true);
            let origin = external.origin;
            self.report.push(
                Diagnostic::warning(format!("{place}: external.name is deprecated"))
                    .at(origin)
                    .help("write \"external: true\" and \"name: ...\" beside it"),
            );
            if let (Some(name), Some(mapping)) = (name, resource.as_mapping_mut()) {
                mapping.entry("name".to_owned()).or_insert(name);
            }
        }
    }

    /// A size under a key, as its number of bytes in text.
    fn bytes(&mut self, place: &str, holder: &mut Node, key: &str) {
        let Some(node) = holder.get_mut(key) else { return };
        let Some(text) = node.scalar_text() else { return };
        if self.is_template(&text) {
            return;
        }
        match units::parse_bytes(&text) {
            Ok(bytes) => node.value = Value::String(bytes.to_string()),
            Err(message) => {
                let node = node.clone();
                self.fail(&node, &format!("{place}.{key}"), message);
            }
        }
    }

    /// A duration under a key, in its canonical spelling.
    fn duration(&mut self, place: &str, holder: &mut Node, key: &str) {
        let Some(node) = holder.get_mut(key) else { return };
        let Some(text) = node.as_str() else { return };
        if self.is_template(text) {
            return;
        }
        match units::parse_duration(text) {
            Ok(duration) => node.value = Value::String(units::format_duration(duration)),
            Err(message) => {
                let node = node.clone();
                self.fail(&node, &format!("{place}.{key}"), message);
            }
        }
    }
}

/// Runs a conversion on the child under a key, where there is one.
fn each(holder: &mut Node, key: &str, convert: impl FnOnce(&mut Node)) {
    if let Some(node) = holder.get_mut(key) {
        convert(node);
    }
}

/// `[a, b]` to `{a: …, b: …}`; anything else than a list of names stays.
fn names_to_map(node: &mut Node, value: impl Fn(&Node) -> Value) {
    let Value::Sequence(items) = &node.value else { return };
    if !items.iter().all(|item| item.as_str().is_some()) {
        return;
    }
    let mapping = items
        .iter()
        .filter_map(|item| Some((item.as_str()?.to_owned(), Node::new(value(item), item.origin))))
        .collect();
    node.value = Value::Mapping(mapping);
}
