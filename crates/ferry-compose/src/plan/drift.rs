//! Field by field: what a container has and what its service wants.
//!
//! Owns the comparison of a create request with an inspected container. What a service leaves to the image or to
//! the engine is not compared. Used where a hash cannot decide, and to say what changed.

use crate::found::Change;
use crate::labels;
use ferry_api::container::{Config, CreateRequest, HostConfig, Inspect};
use ferry_api::image::ImageConfig;
use std::collections::{BTreeMap, BTreeSet};

/// Every difference. `image` is the configuration of the image the container was made from.
pub fn drift(wanted: &CreateRequest, found: &Inspect, image: Option<&ImageConfig>) -> Vec<Change> {
    let mut compare = Compare { changes: Vec::new() };
    compare.config(&wanted.config, &found.config, image);
    if let Some(host) = &wanted.host_config {
        compare.host(host, &found.host_config);
        compare.mounts(host, found);
    }
    compare.networks(wanted, found);
    compare.changes
}

struct Compare {
    changes: Vec<Change>,
}

impl Compare {
    fn text(&mut self, field: &str, wanted: impl ToString, found: impl ToString) {
        let (wanted, found) = (wanted.to_string(), found.to_string());
        if wanted != found {
            self.changes.push(Change { field: field.to_owned(), found, wanted });
        }
    }

    /// A text the service left to the image or engine is not compared.
    fn set_text(&mut self, field: &str, wanted: &str, found: &str) {
        if !wanted.is_empty() {
            self.text(field, wanted, found);
        }
    }

    fn number(&mut self, field: &str, wanted: i64, found: i64) {
        if wanted != 0 {
            self.text(field, wanted, found);
        }
    }

    fn list(&mut self, field: &str, wanted: &Option<Vec<String>>, found: &Option<Vec<String>>) {
        let set = |items: &Option<Vec<String>>| items.iter().flatten().cloned().collect::<BTreeSet<_>>();
        if set(wanted) != set(found) {
            let join =
                |items: &Option<Vec<String>>| items.iter().flatten().cloned().collect::<Vec<_>>().join(", ");
            self.text(field, join(wanted), join(found));
        }
    }

    fn config(&mut self, wanted: &Config, found: &Config, image: Option<&ImageConfig>) {
        self.text("image", &wanted.image, &found.image);
        self.set_text("hostname", &wanted.hostname, &found.hostname);
        self.set_text("domainname", &wanted.domainname, &found.domainname);
        self.set_text("user", &wanted.user, &found.user);
        self.set_text("working_dir", &wanted.working_dir, &found.working_dir);
        self.set_text("stop_signal", &wanted.stop_signal, &found.stop_signal);
        self.text("tty", wanted.tty, found.tty);
        self.text("stdin_open", wanted.open_stdin, found.open_stdin);
        let image_command = image.and_then(|image| image.cmd.clone());
        let image_entrypoint = image.and_then(|image| image.entrypoint.clone());
        let command = match (&wanted.cmd, &wanted.entrypoint) {
            (Some(command), _) => Some(command.clone()),
            // An entrypoint of its own leaves the image's command behind.
            (None, Some(_)) => None,
            (None, None) => image_command,
        };
        if image.is_some() || wanted.cmd.is_some() {
            self.words("command", &command, &found.cmd);
        }
        if image.is_some() || wanted.entrypoint.is_some() {
            self.words("entrypoint", &wanted.entrypoint.clone().or(image_entrypoint), &found.entrypoint);
        }
        self.environment(wanted, found, image);
        self.labels(wanted, found, image);
        self.hooks(wanted, found);
        if let Some(health) = &wanted.healthcheck
            && let Some(test) = &health.test
        {
            let running = found.healthcheck.clone().unwrap_or_default();
            self.words("healthcheck.test", &Some(test.clone()), &running.test);
            self.number("healthcheck.interval", health.interval, running.interval);
            self.number("healthcheck.timeout", health.timeout, running.timeout);
            self.number("healthcheck.retries", health.retries, running.retries);
            self.number("healthcheck.start_period", health.start_period, running.start_period);
        }
    }

    fn words(&mut self, field: &str, wanted: &Option<Vec<String>>, found: &Option<Vec<String>>) {
        let plain = |words: &Option<Vec<String>>| {
            words.iter().flatten().filter(|word| !word.is_empty()).cloned().collect::<Vec<_>>().join(" ")
        };
        self.text(field, plain(wanted), plain(found));
    }

    fn environment(&mut self, wanted: &Config, found: &Config, image: Option<&ImageConfig>) {
        let map = |list: Option<&Vec<String>>| -> BTreeMap<String, String> {
            let pairs = list.into_iter().flatten().filter_map(|entry| entry.split_once('='));
            pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
        };
        let mut expected = map(image.and_then(|image| image.env.as_ref()));
        for entry in wanted.env.iter().flatten() {
            match entry.split_once('=') {
                Some((key, value)) => drop(expected.insert(key.to_owned(), value.to_owned())),
                None => drop(expected.remove(entry)),
            }
        }
        let mut running = map(found.env.as_ref());
        // The engine adds these by itself.
        for key in ["PATH", "HOSTNAME", "HOME", "TERM"] {
            if !expected.contains_key(key) {
                running.remove(key);
            }
        }
        self.maps("environment", &expected, &running, image.is_some());
    }

    fn labels(&mut self, wanted: &Config, found: &Config, image: Option<&ImageConfig>) {
        let own = |labels: Option<&BTreeMap<String, String>>| -> BTreeMap<String, String> {
            let kept = labels.into_iter().flatten().filter(|(key, _)| {
                !key.starts_with("com.docker.compose.") && !key.starts_with("dev.ferry.compose.")
            });
            kept.map(|(key, value)| (key.clone(), value.clone())).collect()
        };
        let mut expected = own(image.and_then(|image| image.labels.as_ref()));
        expected.extend(own(wanted.labels.as_ref()));
        self.maps("labels", &expected, &own(found.labels.as_ref()), image.is_some());
    }

    /// Hooks that the engine is to run stand in a label, on containers that Ferry made.
    fn hooks(&mut self, wanted: &Config, found: &Config) {
        let read = |config: &Config, key: &str| config.labels.as_ref().and_then(|all| all.get(key)).cloned();
        if read(found, labels::HASH_VERSION).is_some() {
            let [wanted, found] =
                [wanted, found].map(|config| read(config, labels::POST_START).unwrap_or_default());
            self.text("post_start", wanted, found);
        }
    }

    fn maps(
        &mut self,
        field: &str,
        wanted: &BTreeMap<String, String>,
        found: &BTreeMap<String, String>,
        exact: bool,
    ) {
        for (key, value) in wanted {
            if found.get(key) != Some(value) {
                self.text(&format!("{field}.{key}"), value, found.get(key).cloned().unwrap_or_default());
            }
        }
        for (key, value) in found.iter().filter(|(key, _)| exact && !wanted.contains_key(*key)) {
            self.text(&format!("{field}.{key}"), "", value);
        }
    }

    fn host(&mut self, wanted: &HostConfig, found: &HostConfig) {
        let restart = |name: &str| if name.is_empty() { "no".to_owned() } else { name.to_owned() };
        self.text("restart", restart(&wanted.restart_policy.name), restart(&found.restart_policy.name));
        self.text("privileged", wanted.privileged, found.privileged);
        self.text("read_only", wanted.readonly_rootfs, found.readonly_rootfs);
        self.list("cap_add", &bare_capabilities(&wanted.cap_add), &bare_capabilities(&found.cap_add));
        self.list("cap_drop", &bare_capabilities(&wanted.cap_drop), &bare_capabilities(&found.cap_drop));
        self.list("dns", &wanted.dns, &found.dns);
        self.list("dns_search", &wanted.dns_search, &found.dns_search);
        self.list("dns_opt", &wanted.dns_options, &found.dns_options);
        self.list("extra_hosts", &wanted.extra_hosts, &found.extra_hosts);
        self.list("group_add", &wanted.group_add, &found.group_add);
        self.list("security_opt", &wanted.security_opt, &found.security_opt);
        self.number("mem_limit", wanted.memory, found.memory);
        self.number("mem_reservation", wanted.memory_reservation, found.memory_reservation);
        self.number("cpus", wanted.nano_cpus, found.nano_cpus);
        self.number("cpu_shares", wanted.cpu_shares, found.cpu_shares);
        self.number("cpu_quota", wanted.cpu_quota, found.cpu_quota);
        self.number("shm_size", wanted.shm_size, found.shm_size);
        self.number("pids_limit", wanted.pids_limit.unwrap_or(0), found.pids_limit.unwrap_or(0));
        self.set_text("cpuset", &wanted.cpuset_cpus, &found.cpuset_cpus);
        self.set_text("logging.driver", &wanted.log_config.kind, &found.log_config.kind);
        self.maps("sysctls", &wanted.sysctls, &found.sysctls, true);
        self.ports(wanted, found);
        // Shared namespaces name a service here and a container id there.
        for (field, mode, running) in [
            ("pid", &wanted.pid_mode, &found.pid_mode),
            ("ipc", &wanted.ipc_mode, &found.ipc_mode),
            ("uts", &wanted.uts_mode, &found.uts_mode),
        ] {
            if !mode.starts_with("service:") {
                self.set_text(field, mode, running);
            }
        }
    }

    fn ports(&mut self, wanted: &HostConfig, found: &HostConfig) {
        let flat = |host: &HostConfig| -> BTreeSet<String> {
            let entries = host.port_bindings.iter().flatten();
            entries
                .flat_map(|(port, bindings)| {
                    bindings.iter().flatten().map(move |b| match b.host_ip.as_str() {
                        "" => format!("{}:{port}", b.host_port),
                        ip => format!("{ip}:{}:{port}", b.host_port),
                    })
                })
                .collect()
        };
        let (wanted, found) = (flat(wanted), flat(found));
        if wanted != found {
            let join = |set: &BTreeSet<String>| set.iter().cloned().collect::<Vec<_>>().join(", ");
            self.text("ports", join(&wanted), join(&found));
        }
    }

    /// Every mount that is wanted is there; what is there beside them comes from the image.
    fn mounts(&mut self, wanted: &HostConfig, found: &Inspect) {
        let running: BTreeMap<&str, &ferry_api::container::MountPoint> =
            found.mounts.iter().map(|mount| (mount.destination.as_str(), mount)).collect();
        let mut expect = |target: &str, source: &str, writable: bool| match running.get(target) {
            None => self.changes.push(Change {
                field: format!("volumes.{target}"),
                found: String::new(),
                wanted: source.to_owned(),
            }),
            Some(mount) => {
                let actual = if matches!(mount.kind.as_str(), "volume" | "secret") {
                    &mount.name
                } else {
                    &mount.source
                };
                let mode = |writable: bool| if writable { "" } else { " (read-only)" };
                if !source.is_empty() && actual != source || mount.rw != writable {
                    self.changes.push(Change {
                        field: format!("volumes.{target}"),
                        found: format!("{actual}{}", mode(mount.rw)),
                        wanted: format!("{source}{}", mode(writable)),
                    });
                }
            }
        };
        for bind in wanted.binds.iter().flatten() {
            let mut parts = bind.splitn(3, ':');
            let (source, target) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            let read_only = parts.next().is_some_and(|modes| modes.split(',').any(|mode| mode == "ro"));
            expect(target, source, !read_only);
        }
        for mount in wanted
            .mounts
            .iter()
            .filter(|mount| matches!(mount.kind.as_str(), "bind" | "volume" | "secret" | "config"))
        {
            expect(&mount.target, &mount.source, !mount.read_only);
        }
    }

    fn networks(&mut self, wanted: &CreateRequest, found: &Inspect) {
        let endpoints = wanted.networking_config.as_ref().and_then(|config| config.endpoints_config.as_ref());
        let wanted: BTreeSet<&String> = endpoints.into_iter().flat_map(|map| map.keys()).collect();
        let running: BTreeSet<&String> = found.network_settings.networks.keys().collect();
        let shares = found.host_config.network_mode.starts_with("container:");
        if wanted != running && !(wanted.is_empty() && shares) && !wanted.is_empty() {
            let join =
                |set: &BTreeSet<&String>| set.iter().map(|s| s.as_str()).collect::<Vec<_>>().join(", ");
            self.text("networks", join(&wanted), join(&running));
        }
    }
}

/// `CAP_NET_ADMIN` and `net_admin` are the same.
fn bare_capabilities(names: &Option<Vec<String>>) -> Option<Vec<String>> {
    let bare = |name: &String| {
        let upper = name.to_ascii_uppercase();
        upper.strip_prefix("CAP_").map(str::to_owned).unwrap_or(upper)
    };
    names.as_ref().map(|names| names.iter().map(bare).collect())
}
