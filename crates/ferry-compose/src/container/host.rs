//! Resources, namespaces, security and restart policy.

use super::{Wanted, mounts, network};
use crate::model::{BlkioDevice, DeviceRequest as ModelDevice, Service, Ulimit as ModelUlimit};
use ferry_api::container::{
    DeviceMapping, DeviceRequest, HostConfig, LogConfig, PortBinding, PortMap, RestartPolicy, ThrottleDevice,
    Ulimit, WeightDevice,
};
use serde_json::Value as Json;
use std::collections::BTreeMap;

/// The host side of a container.
pub(super) fn host_config(wanted: &Wanted) -> HostConfig {
    let service = wanted.service;
    let mut host = HostConfig {
        annotations: service.annotations.clone(),
        network_mode: network::network_mode(wanted),
        port_bindings: port_bindings(service),
        restart_policy: restart_policy(service),
        cap_add: list(&service.cap_add),
        cap_drop: list(&service.cap_drop),
        cgroupns_mode: service.cgroup.clone().unwrap_or_default(),
        cgroup_parent: service.cgroup_parent.clone().unwrap_or_default(),
        dns: list(&service.dns),
        dns_options: list(&service.dns_opt),
        dns_search: list(&service.dns_search),
        extra_hosts: list(
            &service.extra_hosts.iter().map(|host| host.replacen('=', ":", 1)).collect::<Vec<_>>(),
        ),
        group_add: list(&service.group_add),
        ipc_mode: service.ipc.clone().unwrap_or_default(),
        pid_mode: service.pid.clone().unwrap_or_default(),
        uts_mode: service.uts.clone().unwrap_or_default(),
        userns_mode: service.userns_mode.clone().unwrap_or_default(),
        log_config: log_config(service),
        privileged: service.privileged,
        readonly_rootfs: service.read_only,
        runtime: service.runtime.clone().unwrap_or_default(),
        isolation: service.isolation.clone().unwrap_or_default(),
        init: service.init,
        sysctls: service.sysctls.clone(),
        storage_opt: service.storage_opt.iter().map(|(key, value)| (key.clone(), text(value))).collect(),
        shm_size: service.shm_size.unwrap_or(0),
        volumes_from: list(&service.volumes_from),
        ..HostConfig::default()
    };
    set_security(&mut host, service);
    set_resources(&mut host, service);
    mounts::set_mounts(&mut host, wanted);
    host
}

fn list(items: &[String]) -> Option<Vec<String>> {
    (!items.is_empty()).then(|| items.to_vec())
}

/// A scalar as text.
pub(super) fn text(value: &Json) -> String {
    match value {
        Json::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn port_bindings(service: &Service) -> Option<PortMap> {
    let mut map = PortMap::new();
    for port in &service.ports {
        let Some(target) = port.target else { continue };
        let key = format!("{target}/{}", port.protocol.as_deref().unwrap_or("tcp"));
        let binding = PortBinding {
            host_ip: port.host_ip.clone().unwrap_or_default(),
            host_port: port.published.clone().unwrap_or_default(),
        };
        map.entry(key).or_default().get_or_insert_with(Vec::new).push(binding);
    }
    (!map.is_empty()).then_some(map)
}

/// `deploy.restart_policy` overrides `restart`.
fn restart_policy(service: &Service) -> RestartPolicy {
    let policy = |name: &str, count: i64| RestartPolicy { name: name.to_owned(), maximum_retry_count: count };
    if let Some(deploy) = service.deploy.as_ref().and_then(|deploy| deploy.restart_policy.as_ref()) {
        let attempts = deploy.max_attempts.unwrap_or(0);
        return match deploy.condition.as_deref() {
            Some("none") => policy("no", 0),
            Some("on-failure") => policy("on-failure", attempts),
            _ => policy("always", 0),
        };
    }
    match service.restart.as_deref().unwrap_or_default().split_once(':') {
        Some((name, count)) => policy(name, count.parse().unwrap_or(0)),
        None => policy(service.restart.as_deref().unwrap_or_default(), 0),
    }
}

fn log_config(service: &Service) -> LogConfig {
    let Some(logging) = &service.logging else { return LogConfig::default() };
    let options = logging.options.iter().map(|(key, value)| (key.clone(), value.clone().unwrap_or_default()));
    LogConfig { kind: logging.driver.clone().unwrap_or_default(), config: options.collect() }
}

fn set_security(host: &mut HostConfig, service: &Service) {
    let mut options = Vec::new();
    for option in &service.security_opt {
        match option.as_str() {
            "systempaths=unconfined" | "systempaths:unconfined" => {
                host.masked_paths = Some(Vec::new());
                host.readonly_paths = Some(Vec::new());
            }
            "no-new-privileges" => options.push("no-new-privileges".to_owned()),
            // The old separator; the engine takes `=`.
            other if !other.contains('=') => options.push(other.replacen(':', "=", 1)),
            other => options.push(other.to_owned()),
        }
    }
    host.security_opt = list(&options);
}

fn set_resources(host: &mut HostConfig, service: &Service) {
    let deploy = service.deploy.as_ref().map(|deploy| &deploy.resources);
    let limits = deploy.map(|resources| &resources.limits);
    let reservations = deploy.map(|resources| &resources.reservations);
    let cpus = service.cpus.or(limits.and_then(|limits| limits.cpus)).unwrap_or(0.0);
    host.nano_cpus = (cpus * 1e9).round() as i64;
    host.memory = service.mem_limit.or(limits.and_then(|limits| limits.memory)).unwrap_or(0);
    host.memory_reservation = service.mem_reservation.or(reservations.and_then(|r| r.memory)).unwrap_or(0);
    host.pids_limit = service.pids_limit.or(limits.and_then(|limits| limits.pids));
    host.memory_swap = service.memswap_limit.unwrap_or(0);
    host.memory_swappiness = service.mem_swappiness;
    host.cpu_shares = service.cpu_shares.unwrap_or(0);
    host.cpu_period = service.cpu_period.unwrap_or(0);
    host.cpu_quota = service.cpu_quota.unwrap_or(0);
    host.cpu_realtime_period = service.cpu_rt_period.unwrap_or(0);
    host.cpu_realtime_runtime = service.cpu_rt_runtime.unwrap_or(0);
    host.cpu_count = service.cpu_count.unwrap_or(0);
    host.cpu_percent = service.cpu_percent.unwrap_or(0.0) as i64;
    host.cpuset_cpus = service.cpuset.clone().unwrap_or_default();
    host.oom_kill_disable = service.oom_kill_disable;
    host.oom_score_adj = service.oom_score_adj.unwrap_or(0);
    host.ulimits = ulimits(&service.ulimits);
    host.device_cgroup_rules = list(&service.device_cgroup_rules);
    set_devices(host, service, reservations.map(|r| r.devices.as_slice()).unwrap_or_default());
    set_block_io(host, service);
}

/// Limits by name, as the API takes them.
pub fn ulimits(model: &BTreeMap<String, ModelUlimit>) -> Option<Vec<Ulimit>> {
    let one = |(name, limit): (&String, &ModelUlimit)| {
        let (soft, hard) = match limit {
            ModelUlimit::Single(both) => (*both, *both),
            ModelUlimit::Pair { soft, hard } => (*soft, *hard),
        };
        Ulimit { name: name.clone(), soft, hard }
    };
    (!model.is_empty()).then(|| model.iter().map(one).collect())
}

fn set_devices(host: &mut HostConfig, service: &Service, reserved: &[ModelDevice]) {
    let mut requests = Vec::new();
    let mut mappings = Vec::new();
    for device in &service.devices {
        if !device.source.starts_with('/') && device.source.contains('=') {
            requests.push(DeviceRequest {
                driver: "cdi".to_owned(),
                device_ids: Some(vec![device.source.clone()]),
                ..DeviceRequest::default()
            });
            continue;
        }
        mappings.push(DeviceMapping {
            path_on_host: device.source.clone(),
            path_in_container: device.target.clone(),
            cgroup_permissions: device.permissions.clone(),
        });
    }
    requests.extend(reserved.iter().map(|device| device_request(device, false)));
    requests.extend(service.gpus.iter().map(|device| device_request(device, true)));
    host.devices = (!mappings.is_empty()).then_some(mappings);
    host.device_requests = (!requests.is_empty()).then_some(requests);
}

fn device_request(device: &ModelDevice, is_gpu: bool) -> DeviceRequest {
    let mut capabilities = device.capabilities.clone();
    if is_gpu && !capabilities.iter().any(|name| name == "gpu") {
        capabilities.push("gpu".to_owned());
    }
    let count = if device.device_ids.is_empty() { device.count.unwrap_or(-1) } else { 0 };
    DeviceRequest {
        driver: device.driver.clone().unwrap_or_default(),
        count,
        device_ids: list(&device.device_ids),
        capabilities: Some(vec![capabilities]),
        options: device.options.clone(),
    }
}

fn set_block_io(host: &mut HostConfig, service: &Service) {
    let Some(config) = &service.blkio_config else { return };
    let throttle = |devices: &[BlkioDevice]| {
        let one = |device: &BlkioDevice| ThrottleDevice {
            path: device.path.clone(),
            rate: device.rate.unwrap_or(0).max(0) as u64,
        };
        (!devices.is_empty()).then(|| devices.iter().map(one).collect::<Vec<_>>())
    };
    let weight = |number: Option<i64>| u16::try_from(number.unwrap_or(0)).unwrap_or(0);
    host.blkio_weight = weight(config.weight);
    let weights = config.weight_device.iter();
    let weights: Vec<WeightDevice> = weights
        .map(|device| WeightDevice { path: device.path.clone(), weight: weight(device.weight) })
        .collect();
    host.blkio_weight_device = (!weights.is_empty()).then_some(weights);
    host.blkio_device_read_bps = throttle(&config.device_read_bps);
    host.blkio_device_write_bps = throttle(&config.device_write_bps);
    host.blkio_device_read_iops = throttle(&config.device_read_iops);
    host.blkio_device_write_iops = throttle(&config.device_write_iops);
}
