//! The order of keys in YAML: Docker Compose's own for what the specification names, by name for what users name.

use crate::tree::{Mapping, Node, Value};

/// The keys of a mapping by where it stands; `*` is any name that a user chose, and items of lists stand where the
/// list does. Mappings that are not here are shown by name.
const KEYS: &[(&str, &str)] = &[
    ("services.*", SERVICE),
    (
        "services.*.build",
        "context dockerfile dockerfile_inline entitlements args provenance sbom ssh labels cache_from \
     cache_to no_cache additional_contexts pull extra_hosts isolation network target secrets \
     shm_size tags ulimits platforms privileged",
    ),
    ("services.*.build.secrets", REFERENCE),
    ("services.*.build.ulimits.*", LIMIT),
    (
        "services.*.blkio_config",
        "weight weight_device device_read_bps device_read_iops device_write_bps device_write_iops",
    ),
    ("services.*.configs", REFERENCE),
    ("services.*.secrets", REFERENCE),
    ("services.*.credential_spec", "config file registry"),
    ("services.*.depends_on.*", "condition restart required"),
    (
        "services.*.deploy",
        "mode replicas labels update_config rollback_config resources restart_policy placement \
     endpoint_mode",
    ),
    ("services.*.deploy.update_config", UPDATE),
    ("services.*.deploy.rollback_config", UPDATE),
    ("services.*.deploy.resources", "limits reservations"),
    ("services.*.deploy.resources.limits", AMOUNTS),
    ("services.*.deploy.resources.reservations", AMOUNTS),
    ("services.*.deploy.resources.reservations.devices", DEVICE),
    ("services.*.deploy.restart_policy", "condition delay max_attempts window"),
    ("services.*.deploy.placement", "constraints preferences max_replicas_per_node"),
    ("services.*.develop", "watch"),
    ("services.*.develop.watch", "path action target exec include ignore initial_sync"),
    ("services.*.develop.watch.exec", HOOK),
    ("services.*.devices", "source target permissions"),
    ("services.*.env_file", "path required format"),
    ("services.*.extends", "file service"),
    ("services.*.gpus", DEVICE),
    ("services.*.healthcheck", "test timeout interval retries start_period start_interval disable"),
    ("services.*.logging", "driver options"),
    ("services.*.models.*", "endpoint_var model_var"),
    (
        "services.*.networks.*",
        "aliases driver_opts gw_priority interface_name ipv4_address ipv6_address link_local_ips \
     mac_address priority",
    ),
    ("services.*.ports", "name mode host_ip target published protocol app_protocol"),
    ("services.*.post_start", HOOK),
    ("services.*.pre_start", HOOK),
    ("services.*.pre_stop", HOOK),
    ("services.*.provider", "type options"),
    ("services.*.ulimits.*", LIMIT),
    ("services.*.volumes", "type source target read_only consistency bind volume tmpfs image"),
    ("services.*.volumes.bind", "selinux propagation create_host_path recursive"),
    ("services.*.volumes.volume", "labels nocopy subpath"),
    ("services.*.volumes.tmpfs", "size mode"),
    (
        "networks.*",
        "name driver driver_opts ipam external internal attachable labels enable_ipv4 enable_ipv6",
    ),
    ("networks.*.ipam", "driver config"),
    ("networks.*.ipam.config", "subnet gateway ip_range aux_addresses"),
    ("volumes.*", "name driver driver_opts external labels"),
    ("secrets.*", CONTENT),
    ("configs.*", CONTENT),
    ("models.*", "name model context_size runtime_flags"),
];

const SERVICE: &str = "profiles annotations attach build develop blkio_config cap_add cap_drop cgroup_parent cgroup \
     cpu_count cpu_percent cpu_period cpu_quota cpu_rt_period cpu_rt_runtime cpus cpuset \
     cpu_shares command configs container_name credential_spec depends_on deploy \
     device_cgroup_rules devices dns dns_opt dns_search dockerfile domainname entrypoint provider \
     environment env_file expose extends external_links extra_hosts group_add gpus hostname \
     healthcheck image init ipc isolation labels label_file links logging log_driver log_opt \
     mem_limit mem_reservation memswap_limit mem_swappiness mac_address models net network_mode \
     networks oom_kill_disable oom_score_adj pid pids_limit platform ports privileged pull_policy \
     read_only restart runtime scale secrets security_opt shm_size stdin_open stop_grace_period \
     stop_signal storage_opt sysctls tmpfs tty ulimits use_api_socket user userns_mode uts \
     volume_driver volumes volumes_from working_dir pre_start post_start pre_stop";
const REFERENCE: &str = "source target uid gid mode";
const CONTENT: &str = "name file environment content external labels driver driver_opts template_driver";
const LIMIT: &str = "single soft hard";
const UPDATE: &str = "parallelism delay failure_action monitor max_failure_ratio order";
const AMOUNTS: &str = "cpus memory pids devices generic_resources";
const DEVICE: &str = "capabilities driver count device_ids options";
const HOOK: &str = "command user privileged working_dir environment";

/// Rewrites a project, whose top level is in order; a command or entrypoint of null goes, for it is none.
pub(super) fn arrange(project: &mut Node) {
    let Some(sections) = project.as_mapping_mut() else { return };
    for (name, section) in sections.iter_mut() {
        if name.starts_with("x-") {
            by_name(section);
            continue;
        }
        for (_, entry) in section.as_mapping_mut().into_iter().flatten() {
            if let (Some(service), "services") = (entry.as_mapping_mut(), name.as_str()) {
                service.retain(|key, node| {
                    !matches!((key.as_str(), &node.value), ("command" | "entrypoint", Value::Null))
                });
            }
            at(entry, &format!("{name}.*"));
        }
    }
}

fn at(node: &mut Node, place: &str) {
    match &mut node.value {
        Value::Sequence(items) => items.iter_mut().for_each(|item| at(item, place)),
        Value::Mapping(mapping) => {
            let known = KEYS.iter().find(|(known, _)| *known == place).map(|(_, keys)| *keys);
            if let Some(keys) = known {
                sort(mapping, keys);
            }
            for (key, child) in mapping.iter_mut() {
                match known {
                    Some(_) if key.starts_with("x-") => by_name(child),
                    Some(_) => at(child, &format!("{place}.{key}")),
                    None => at(child, &format!("{place}.*")),
                }
            }
        }
        _ => {}
    }
}

/// The known keys first, the others behind them by name.
fn sort(mapping: &mut Mapping, keys: &str) {
    let keys: Vec<&str> = keys.split(' ').collect();
    let rank = |key: &str| keys.iter().position(|known| *known == key).unwrap_or(keys.len());
    mapping.sort_by(|left, _, right, _| (rank(left), left).cmp(&(rank(right), right)));
}

fn by_name(node: &mut Node) {
    match &mut node.value {
        Value::Sequence(items) => items.iter_mut().for_each(by_name),
        Value::Mapping(mapping) => {
            sort(mapping, "");
            mapping.values_mut().for_each(by_name);
        }
        _ => {}
    }
}
