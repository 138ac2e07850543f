//! Checks of one service, and of services against each other.

use crate::diagnostic::{Diagnostic, Report, nearest};
use crate::source::Origin;
use crate::tree::{Mapping, Node, Value};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// What a service is checked against.
pub(super) struct Context<'a> {
    pub root: &'a Node,
    pub services: &'a Mapping,
    pub disabled: &'a Mapping,
    pub name: &'a str,
}

/// Checks one service.
pub(super) fn check(context: &Context, service: &Node, report: &mut Report) {
    let mut check = Check { context, service, report };
    check.source();
    check.references();
    check.dependencies();
    check.namespaces();
    check.scale();
    check.agreement();
    check.health();
    check.addresses();
    check.devices();
    check.mounts();
    check.restart();
    check.platforms();
    check.watch();
}

struct Check<'a, 'r> {
    context: &'a Context<'a>,
    service: &'a Node,
    report: &'r mut Report,
}

impl<'a> Check<'a, '_> {
    fn error(&mut self, at: Option<&Node>, message: impl std::fmt::Display) -> &mut Self {
        let (origin, width) = place(at.unwrap_or(self.service));
        let message = format!("service \"{}\" {message}", self.context.name);
        self.report.push(Diagnostic::error(message).at(origin).width(width));
        self
    }

    fn warning(&mut self, at: &Node, message: impl std::fmt::Display) {
        let (origin, width) = place(at);
        let message = format!("service \"{}\" {message}", self.context.name);
        self.report.push(Diagnostic::warning(message).at(origin).width(width));
    }

    fn source(&mut self) {
        let has = |key: &str| self.service.get(key).is_some();
        if !has("image") && !has("build") && !has("provider") {
            let (origin, _) = place(self.service);
            let message = format!(
                "service \"{}\" has neither an image nor a build context specified",
                self.context.name
            );
            let width = self.context.name.chars().count();
            self.report.push(
                Diagnostic::error(message)
                    .at(if self.service.key.is_default() { origin } else { self.service.key })
                    .width(width)
                    .help("add \"image: NAME\" or \"build: .\""),
            );
        }
        let build = self.service.get("build");
        if let Some(build) = build
            && build.get("dockerfile_inline").is_some()
            && let Some(dockerfile) = build.get("dockerfile")
        {
            self.error(Some(dockerfile), "has both dockerfile and dockerfile_inline in its build");
        }
    }

    /// Networks, volumes, secrets and configs must be declared.
    fn references(&mut self) {
        for key in self.keys("networks") {
            self.declared("networks", "network", &key.0, key.1);
        }
        for volume in self.items("volumes") {
            if volume.get_str("type") == Some("volume")
                && let Some(source) = volume.get("source")
                && let Some(name) = source.as_str()
            {
                let name = name.to_owned();
                self.declared("volumes", "volume", &name, source.origin);
            }
        }
        for (section, word) in [("secrets", "secret"), ("configs", "config")] {
            for item in self.items(section) {
                if let Some(name) = item.get_str("source").map(str::to_owned) {
                    self.declared(section, word, &name, item.origin);
                }
            }
        }
        let build_secrets =
            self.service.get("build").and_then(|b| b.get("secrets")).and_then(Node::as_sequence);
        for item in build_secrets.unwrap_or_default() {
            if let Some(name) = item.get_str("source").map(str::to_owned) {
                self.declared("secrets", "secret", &name, item.origin);
            }
        }
    }

    fn declared(&mut self, section: &str, word: &str, name: &str, origin: Origin) {
        let declared = self.context.root.get(section).and_then(Node::as_mapping);
        if declared.is_some_and(|mapping| mapping.contains_key(name)) {
            return;
        }
        let message = format!("service \"{}\" refers to undefined {word} {name}", self.context.name);
        let known = declared.into_iter().flat_map(|mapping| mapping.keys().map(String::as_str));
        let help = match nearest(name, known) {
            Some(candidate) => format!("did you mean \"{candidate}\"?"),
            None => format!("declare it at the end of the file:\n{section}:\n  {name}:"),
        };
        self.report.push(Diagnostic::error(message).at(origin).width(name.chars().count()).help(help));
    }

    fn dependencies(&mut self) {
        let Some(dependencies) = self.service.get("depends_on").and_then(Node::as_mapping) else { return };
        for (name, node) in dependencies {
            if self.context.services.contains_key(name) {
                self.check_condition(name, node);
                continue;
            }
            if matches!(node.get("required").map(|n| &n.value), Some(Value::Bool(false))) {
                continue;
            }
            self.undefined_service("depends on", name, node.key);
        }
    }

    /// Waiting for the health of a service whose file turns the health check off would wait for ever.
    fn check_condition(&mut self, name: &str, node: &Node) {
        if node.get_str("condition") != Some("service_healthy") {
            return;
        }
        let check = self.context.services.get(name).and_then(|service| service.get("healthcheck"));
        let Some(check) = check else { return };
        let disabled = matches!(check.get("disable").map(|n| &n.value), Some(Value::Bool(true)));
        let none =
            check.get("test").and_then(Node::as_sequence).and_then(|t| t.first()).and_then(Node::as_str)
                == Some("NONE");
        if disabled || none {
            self.error(
                Some(node),
                format!("waits for \"{name}\" to be healthy, whose health check is disabled"),
            );
        }
    }

    fn undefined_service(&mut self, verb: &str, name: &str, origin: Origin) {
        let message = format!("service \"{}\" {verb} undefined service \"{name}\"", self.context.name);
        let diagnostic = match self.context.disabled.get(name) {
            Some(service) => {
                let profiles: Vec<&str> = service
                    .get("profiles")
                    .and_then(Node::as_sequence)
                    .unwrap_or_default()
                    .iter()
                    .filter_map(Node::as_str)
                    .collect();
                let message = format!(
                    "service \"{}\" {verb} \"{name}\", which belongs to an inactive profile",
                    self.context.name
                );
                Diagnostic::error(message)
                    .help(format!("activate it: --profile {}", profiles.first().unwrap_or(&"")))
            }
            None => match nearest(name, self.context.services.keys().map(String::as_str)) {
                Some(candidate) => Diagnostic::error(message).help(format!("did you mean \"{candidate}\"?")),
                None => Diagnostic::error(message),
            },
        };
        self.report.push(diagnostic.at(origin).width(name.chars().count()));
    }

    fn namespaces(&mut self) {
        for key in ["network_mode", "ipc", "pid", "uts", "cgroup"] {
            if let Some(node) = self.service.get(key)
                && let Some(name) = node.as_str().and_then(|text| text.strip_prefix("service:"))
                && !self.context.services.contains_key(name)
            {
                let name = name.to_owned();
                self.undefined_service(&format!("shares {key} with"), &name, node.origin);
            }
        }
        for item in self.items("volumes_from") {
            let text = item.as_str().unwrap_or_default();
            let name = text.split(':').next().unwrap_or_default().to_owned();
            if name != "container" && !self.context.services.contains_key(&name) {
                self.undefined_service("takes volumes from", &name, item.origin);
            }
        }
        let Some(mode) = self.service.get("network_mode") else { return };
        if let Some(networks) = self.service.get("networks") {
            self.error(Some(networks), "declares mutually exclusive network_mode and networks");
        }
        if mode.as_str() == Some("host")
            && let Some(ports) = self.service.get("ports")
        {
            self.warning(ports, "publishes ports, which network_mode: host ignores");
        }
    }

    fn scale(&mut self) {
        let scale = self.service.get("scale").and_then(integer);
        let replicas_node = self.service.get("deploy").and_then(|deploy| deploy.get("replicas"));
        let replicas = replicas_node.and_then(integer);
        if let (Some(scale), Some(replicas)) = (scale, replicas)
            && scale != replicas
        {
            self.error(replicas_node, format!("has scale {scale}, but deploy.replicas {replicas}"));
        }
        let count = scale.or(replicas).unwrap_or(1);
        if count < 0 {
            self.error(self.service.get("scale").or(replicas_node), "has a negative scale");
        }
        if count > 1
            && let Some(name) = self.service.get("container_name")
        {
            self.error(Some(name), format!("has a container_name, which {count} containers cannot share"));
        }
    }

    /// Old keys and their deploy counterparts must say the same.
    fn agreement(&mut self) {
        let limits = self.service.get("deploy").and_then(|d| d.get("resources"));
        for (key, part, counterpart) in [
            ("cpus", "limits", "cpus"),
            ("mem_limit", "limits", "memory"),
            ("pids_limit", "limits", "pids"),
            ("mem_reservation", "reservations", "memory"),
        ] {
            let old = self.service.get(key).and_then(number);
            let new = limits.and_then(|l| l.get(part)).and_then(|p| p.get(counterpart));
            if let (Some(old), Some(new_value)) = (old, new.and_then(number))
                && old != new_value
            {
                self.error(
                    new,
                    format!("sets {key} and deploy.resources.{part}.{counterpart} to different values"),
                );
            }
        }
    }

    fn health(&mut self) {
        let Some(check) = self.service.get("healthcheck") else { return };
        if let Some(test) = check.get("test").and_then(Node::as_sequence)
            && let Some(first) = test.first()
            && !matches!(first.as_str(), Some("NONE" | "CMD" | "CMD-SHELL"))
        {
            let message = "has a healthcheck.test that begins with none of NONE, CMD, CMD-SHELL";
            self.error(Some(first), message);
        }
        if let Some(interval) = check.get("start_interval")
            && check.get("start_period").is_none()
        {
            self.error(Some(interval), "has a healthcheck.start_interval without start_period");
        }
    }

    fn addresses(&mut self) {
        for item in self.items("dns") {
            if item.as_str().is_some_and(|text| text.parse::<IpAddr>().is_err()) {
                self.error(Some(item), "has a dns entry that is not an IP address");
            }
        }
        let networks = self.service.get("networks").and_then(Node::as_mapping);
        for endpoint in networks.into_iter().flat_map(|mapping| mapping.values()) {
            for key in ["ipv4_address", "ipv6_address"] {
                if let Some(address) = endpoint.get(key)
                    && address.as_str().is_some_and(|text| text.parse::<IpAddr>().is_err())
                {
                    self.error(Some(address), format!("has an {key} that is not an IP address"));
                }
            }
        }
        for port in self.items("ports") {
            if let Some(ip) = port.get("host_ip")
                && ip.as_str().is_some_and(|text| !text.is_empty() && text.parse::<IpAddr>().is_err())
            {
                self.error(Some(ip), "has a port whose host_ip is not an IP address");
            }
            if port.as_mapping().is_some() && port.get("target").is_none() {
                self.error(Some(port), "has a port without a target");
            }
        }
        for item in self.items("extra_hosts") {
            if item.as_str().is_some_and(|text| !text.contains(['=', ':'])) {
                self.error(Some(item), "has an extra_hosts entry that is not HOST=ADDRESS");
            }
        }
    }

    fn devices(&mut self) {
        let reserved =
            self.service.get("deploy").and_then(|d| d.get("resources")).and_then(|r| r.get("reservations"));
        let reserved =
            reserved.and_then(|r| r.get("devices")).and_then(Node::as_sequence).unwrap_or_default();
        for device in self.items("gpus").iter().chain(reserved) {
            if device.get("count").is_some() && device.get("device_ids").is_some() {
                self.error(Some(device), "asks for devices by both count and device_ids");
            }
        }
    }

    /// Two mounts cannot have the same target.
    fn mounts(&mut self) {
        let mut targets: BTreeMap<String, Origin> = BTreeMap::new();
        let volumes = self.items("volumes").iter().filter_map(|v| Some((v.get_str("target")?.to_owned(), v)));
        let tmpfs =
            self.items("tmpfs").iter().filter_map(|t| Some((t.as_str()?.split(':').next()?.to_owned(), t)));
        for (target, node) in volumes.chain(tmpfs) {
            if targets.insert(target.clone(), node.origin).is_some() {
                self.error(Some(node), format!("mounts {target} twice"));
            }
        }
    }

    fn restart(&mut self) {
        let Some(node) = self.service.get("restart") else { return };
        let Some(text) = node.as_str() else { return };
        let valid = match text.split_once(':') {
            Some(("on-failure", count)) => count.parse::<u32>().is_ok(),
            Some(_) => false,
            None => matches!(text, "" | "no" | "always" | "on-failure" | "unless-stopped"),
        };
        if !valid && !text.contains('$') {
            let message = format!(
                "has restart \"{text}\", but can only have no, always, unless-stopped or on-failure[:N]"
            );
            self.error(Some(node), message);
        }
    }

    fn platforms(&mut self) {
        let Some(platform) = self.service.get("platform").and_then(Node::as_str) else { return };
        let platforms = self.service.get("build").and_then(|b| b.get("platforms"));
        if let Some(list) = platforms.and_then(Node::as_sequence)
            && !list.is_empty()
            && !list.iter().any(|item| item.as_str() == Some(platform))
        {
            let message = format!("has platform {platform}, which its build.platforms do not contain");
            self.error(platforms, message);
        }
    }

    fn watch(&mut self) {
        let rules = self.service.get("develop").and_then(|d| d.get("watch")).and_then(Node::as_sequence);
        for rule in rules.unwrap_or_default() {
            let action = rule.get_str("action").unwrap_or_default();
            if action.starts_with("sync") && rule.get("target").is_none() {
                self.error(Some(rule), format!("has a watch rule \"{action}\" without a target"));
            }
            if action == "sync+exec" && rule.get("exec").is_none() {
                self.error(Some(rule), "has a watch rule \"sync+exec\" without exec");
            }
        }
    }

    fn items(&self, key: &str) -> &'a [Node] {
        self.service.get(key).and_then(Node::as_sequence).unwrap_or_default()
    }

    fn keys(&self, key: &str) -> Vec<(String, Origin)> {
        let mapping = self.service.get(key).and_then(Node::as_mapping);
        mapping.into_iter().flatten().map(|(name, node)| (name.clone(), node.key)).collect()
    }
}

/// Container names and fixed host ports belong to one service.
pub(super) fn check_across(services: &Mapping, report: &mut Report) {
    let mut names: BTreeMap<&str, &str> = BTreeMap::new();
    let mut ports: BTreeMap<String, &str> = BTreeMap::new();
    for (name, service) in services {
        if let Some(node) = service.get("container_name")
            && let Some(container) = node.as_str()
            && let Some(other) = names.insert(container, name)
        {
            let message =
                format!("services \"{other}\" and \"{name}\" have the same container_name \"{container}\"");
            report.push(Diagnostic::error(message).at(node.origin).width(container.chars().count()));
        }
        for port in service.get("ports").and_then(Node::as_sequence).unwrap_or_default() {
            let text = |key: &str| port.get(key).and_then(Node::scalar_text).unwrap_or_default();
            let published = text("published");
            if published.parse::<u16>().is_ok_and(|port| port != 0)
                && let Some(other) =
                    ports.insert(format!("{}:{published}/{}", text("host_ip"), text("protocol")), name)
                && other != name
            {
                let message =
                    format!("services \"{other}\" and \"{name}\" both publish host port {published}");
                report.push(Diagnostic::warning(message).at(port.origin).width(published.chars().count()));
            }
        }
    }
}

fn place(node: &Node) -> (Origin, usize) {
    let width = node.scalar_text().map_or(1, |text| text.chars().count());
    (node.origin, width)
}

fn integer(node: &Node) -> Option<i64> {
    match &node.value {
        Value::Integer(number) => Some(*number),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

fn number(node: &Node) -> Option<f64> {
    node.scalar_text()?.parse().ok().filter(|number| *number != 0.0)
}
