//! The request, put together.

use std::collections::BTreeMap;
use std::path::PathBuf;

use ferry_api::container::{
    Config, CreateRequest, DeviceRequest, HealthConfig, HostConfig, LogConfig, RestartPolicy,
};

use super::{ContainerFlags, device, environment, labels, list, mount, network, pairs, port, volume};
use crate::flags::Bytes;

/// What surrounds the flags.
pub struct Defaults {
    /// Where relative paths begin.
    pub directory: PathBuf,
    /// Variables added to every container, before the flags' own.
    pub variables: Vec<(&'static str, String)>,
    /// Rows and columns of our terminal.
    pub console_size: [u32; 2],
}

/// Makes the request for `image` with these arguments.
pub fn build(
    flags: &ContainerFlags,
    image: &str,
    arguments: &[String],
    defaults: &Defaults,
) -> Result<CreateRequest, String> {
    let networks = network::networks(flags)?;
    let volumes = volume::volumes(&flags.volume, &defaults.directory)?;
    let ports = port::ports(&flags.publish, &flags.expose)?;
    let mut config = config(flags, image, arguments, defaults)?;
    config.exposed_ports = (!ports.exposed.is_empty()).then_some(ports.exposed);
    config.volumes = (!volumes.anonymous.is_empty()).then_some(volumes.anonymous);
    let mut host = host_config(flags, defaults)?;
    host.binds = list(&volumes.binds);
    host.port_bindings = Some(ports.bindings);
    host.network_mode = networks.mode;
    set_limits(&mut host, flags)?;
    Ok(CreateRequest { config, host_config: Some(host), networking_config: networks.config })
}

fn config(
    flags: &ContainerFlags,
    image: &str,
    arguments: &[String],
    defaults: &Defaults,
) -> Result<Config, String> {
    let own = |name: &str| std::env::var(name).ok();
    let mut variables = environment(&flags.env_file, &flags.env, &own)?;
    let is_set =
        |name: &str| variables.iter().any(|set| set.split_once('=').is_some_and(|(set, _)| set == name));
    let proxies: Vec<String> = defaults
        .variables
        .iter()
        .filter(|(name, _)| !is_set(name))
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    variables.extend(proxies);
    let attach = attached(flags)?;
    Ok(Config {
        hostname: flags.hostname.clone(),
        domainname: flags.domainname.clone(),
        user: flags.user.clone(),
        attach_stdin: attach.stdin,
        attach_stdout: attach.stdout,
        attach_stderr: attach.stderr,
        tty: flags.tty,
        open_stdin: flags.interactive,
        stdin_once: flags.interactive && attach.stdin,
        env: Some(variables),
        cmd: list(arguments),
        healthcheck: health(flags)?,
        image: image.to_owned(),
        working_dir: working_dir(flags)?,
        entrypoint: flags.entrypoint.as_ref().map(|program| vec![program.clone()]),
        labels: Some(labels(&flags.label_file, &flags.label)?),
        stop_signal: flags.stop_signal.clone(),
        stop_timeout: flags.stop_timeout,
        ..Default::default()
    })
}

fn working_dir(flags: &ContainerFlags) -> Result<String, String> {
    if flags.workdir.is_empty() || flags.workdir.starts_with('/') {
        return Ok(flags.workdir.clone());
    }
    Err(format!("the working directory '{}' is invalid, it needs to be an absolute path", flags.workdir))
}

struct Attached {
    stdin: bool,
    stdout: bool,
    stderr: bool,
}

fn attached(flags: &ContainerFlags) -> Result<Attached, String> {
    if flags.attach.is_empty() {
        return Ok(Attached { stdin: flags.interactive, stdout: true, stderr: true });
    }
    let mut attached = Attached { stdin: false, stdout: false, stderr: false };
    for name in &flags.attach {
        match name.to_ascii_lowercase().as_str() {
            "stdin" => attached.stdin = true,
            "stdout" => attached.stdout = true,
            "stderr" => attached.stderr = true,
            _ => {
                return Err(format!(
                    "invalid argument {name:?} for \"-a, --attach\" flag: valid streams are STDIN, STDOUT and STDERR"
                ));
            }
        }
    }
    Ok(attached)
}

fn health(flags: &ContainerFlags) -> Result<Option<HealthConfig>, String> {
    let nanoseconds = |value: Option<crate::flags::Duration>| value.map_or(0, |duration| duration.0);
    let tests = [("CMD-SHELL", &flags.health_cmd), ("HTTP", &flags.health_http), ("TCP", &flags.health_tcp)];
    let mut tests = tests.into_iter().filter_map(|(kind, text)| Some(vec![kind.to_owned(), text.clone()?]));
    let test = tests.next();
    if tests.next().is_some() {
        return Err("only one of --health-cmd, --health-http and --health-tcp makes sense".into());
    }
    let given = HealthConfig {
        test,
        interval: nanoseconds(flags.health_interval),
        timeout: nanoseconds(flags.health_timeout),
        start_period: nanoseconds(flags.health_start_period),
        start_interval: nanoseconds(flags.health_start_interval),
        retries: flags.health_retries.unwrap_or(0),
    };
    let any = given != HealthConfig::default();
    if flags.no_healthcheck {
        return match any {
            true => Err("--no-healthcheck conflicts with --health-* options".into()),
            false => Ok(Some(HealthConfig { test: Some(vec!["NONE".into()]), ..Default::default() })),
        };
    }
    let negative = [given.interval, given.timeout, given.start_period, given.start_interval, given.retries];
    if negative.iter().any(|value| *value < 0) {
        return Err("--health-* options cannot be negative".into());
    }
    Ok(any.then_some(given))
}

fn host_config(flags: &ContainerFlags, defaults: &Defaults) -> Result<HostConfig, String> {
    let mut host = HostConfig {
        container_id_file: flags.cidfile.clone(),
        log_config: LogConfig { kind: flags.log_driver.clone(), config: pairs(&flags.log_opt) },
        restart_policy: restart_policy(&flags.restart)?,
        auto_remove: flags.rm,
        volume_driver: flags.volume_driver.clone(),
        volumes_from: list(&flags.volumes_from),
        annotations: pairs(&flags.annotation),
        cap_add: list(&flags.cap_add),
        cap_drop: list(&flags.cap_drop),
        cgroupns_mode: flags.cgroupns.clone(),
        dns: Some(flags.dns.clone()),
        dns_options: Some(flags.dns_opt.iter().chain(&flags.dns_option).cloned().collect()),
        dns_search: Some(flags.dns_search.clone()),
        extra_hosts: extra_hosts(&flags.add_host)?,
        group_add: list(&flags.group_add),
        ipc_mode: flags.ipc.clone(),
        links: list(&flags.link),
        oom_score_adj: flags.oom_score_adj.unwrap_or(0),
        pid_mode: flags.pid.clone(),
        privileged: flags.privileged,
        publish_all_ports: flags.publish_all,
        readonly_rootfs: flags.read_only,
        storage_opt: pairs(&flags.storage_opt),
        tmpfs: tmpfs(&flags.tmpfs),
        uts_mode: flags.uts.clone(),
        userns_mode: flags.userns.clone(),
        shm_size: flags.shm_size.map_or(0, |size| size.0),
        sysctls: pairs(&flags.sysctl),
        runtime: flags.runtime.clone(),
        isolation: flags.isolation.clone(),
        init: flags.init,
        ..Default::default()
    };
    if flags.tty {
        host.console_size = defaults.console_size;
    }
    for spec in &flags.mount {
        host.mounts.push(mount::mount(spec, &defaults.directory)?);
    }
    if flags.rm && !matches!(host.restart_policy.name.as_str(), "" | "no") {
        return Err("conflicting options: cannot specify both --restart and --rm".into());
    }
    set_security(&mut host, &flags.security_opt)?;
    Ok(host)
}

fn tmpfs(specs: &[String]) -> BTreeMap<String, String> {
    specs
        .iter()
        .map(|spec| {
            let (path, options) = spec.split_once(':').unwrap_or((spec, ""));
            (path.to_owned(), options.to_owned())
        })
        .collect()
}

/// `name:address` or `name=address`.
fn extra_hosts(specs: &[String]) -> Result<Option<Vec<String>>, String> {
    let mut out = Vec::new();
    for spec in specs {
        let split = spec.split_once('=').or_else(|| spec.split_once(':'));
        let (name, address) = split
            .filter(|(name, _)| !name.is_empty())
            .ok_or_else(|| format!("bad format for add-host: {spec:?}"))?;
        let address = address.trim_start_matches('[').trim_end_matches(']');
        if address != "host-gateway" && address.parse::<std::net::IpAddr>().is_err() {
            return Err(format!("invalid IP address in add-host: {address:?}"));
        }
        out.push(format!("{name}:{address}"));
    }
    Ok((!out.is_empty()).then_some(out))
}

/// Reads `--restart`: a name, `on-failure` also with a count.
pub fn restart_policy(text: &str) -> Result<RestartPolicy, String> {
    if text.is_empty() {
        return Ok(RestartPolicy { name: "no".into(), maximum_retry_count: 0 });
    }
    let (name, count) = match text.split_once(':') {
        Some((name, count)) => {
            let number = count.parse().map_err(|_| {
                "invalid restart policy format: maximum retry count must be an integer".to_owned()
            })?;
            (name, number)
        }
        None => (text, 0),
    };
    if name.is_empty() {
        return Err("invalid restart policy format: no policy provided before colon".into());
    }
    Ok(RestartPolicy { name: name.to_owned(), maximum_retry_count: count })
}

/// Puts files named by `seccomp=` into the request, as the engine may be elsewhere, and turns
/// `systempaths=unconfined` into empty lists of hidden paths.
fn set_security(host: &mut HostConfig, options: &[String]) -> Result<(), String> {
    let mut out = Vec::new();
    for option in options {
        if option == "systempaths=unconfined" {
            host.masked_paths = Some(Vec::new());
            host.readonly_paths = Some(Vec::new());
            continue;
        }
        let split = option.split_once('=').or_else(|| option.split_once(':'));
        match split {
            None if option != "no-new-privileges" && option != "disable" => {
                return Err(format!("invalid --security-opt: {option:?}"));
            }
            Some(("seccomp", profile)) if profile != "unconfined" && profile != "builtin" => {
                let text = std::fs::read_to_string(profile)
                    .map_err(|error| format!("opening seccomp profile ({profile}) failed: {error}"))?;
                let json: serde_json::Value = serde_json::from_str(&text).map_err(|error| {
                    format!("compacting json for seccomp profile ({profile}) failed: {error}")
                })?;
                out.push(format!("seccomp={json}"));
            }
            _ => out.push(option.clone()),
        }
    }
    host.security_opt = list(&out);
    Ok(())
}

fn set_limits(host: &mut HostConfig, flags: &ContainerFlags) -> Result<(), String> {
    let bytes = |value: Option<Bytes>| value.map_or(0, |bytes| bytes.0);
    host.cpu_shares = flags.cpu_shares.unwrap_or(0);
    host.memory = bytes(flags.memory);
    host.memory_reservation = bytes(flags.memory_reservation);
    host.memory_swap = bytes(flags.memory_swap);
    host.nano_cpus = flags.cpus.0;
    host.cgroup_parent.clone_from(&flags.cgroup_parent);
    host.cpu_period = flags.cpu_period.unwrap_or(0);
    host.cpu_quota = flags.cpu_quota.unwrap_or(0);
    host.cpu_realtime_period = flags.cpu_rt_period.unwrap_or(0);
    host.cpu_realtime_runtime = flags.cpu_rt_runtime.unwrap_or(0);
    host.cpu_count = flags.cpu_count.unwrap_or(0);
    host.cpu_percent = flags.cpu_percent.unwrap_or(0);
    host.cpuset_cpus.clone_from(&flags.cpuset_cpus);
    host.cpuset_mems.clone_from(&flags.cpuset_mems);
    host.oom_kill_disable = flags.oom_kill_disable;
    host.pids_limit = flags.pids_limit;
    host.device_cgroup_rules = list(&flags.device_cgroup_rule);
    host.memory_swappiness = match flags.memory_swappiness {
        None | Some(-1) => None,
        Some(value) if (0..=100).contains(&value) => Some(value),
        Some(value) => return Err(format!("invalid value: {value}. Valid memory swappiness range is 0-100")),
    };
    host.blkio_weight = match flags.blkio_weight {
        None => 0,
        Some(value) => u16::try_from(value).map_err(|_| format!("invalid blkio-weight: {value}"))?,
    };
    host.blkio_weight_device = some(device::weights(&flags.blkio_weight_device)?);
    host.blkio_device_read_bps = some(device::byte_rates(&flags.device_read_bps)?);
    host.blkio_device_write_bps = some(device::byte_rates(&flags.device_write_bps)?);
    host.blkio_device_read_iops = some(device::operation_rates(&flags.device_read_iops)?);
    host.blkio_device_write_iops = some(device::operation_rates(&flags.device_write_iops)?);
    host.ulimits = some(device::ulimits(&flags.ulimit)?);
    let devices = device::devices(&flags.device)?;
    host.devices = some(devices.mappings);
    let mut requests: Vec<DeviceRequest> =
        flags.gpus.iter().map(|spec| device::gpus(spec)).collect::<Result<_, _>>()?;
    if !devices.cdi.is_empty() {
        requests.push(DeviceRequest {
            driver: "cdi".into(),
            device_ids: Some(devices.cdi),
            ..Default::default()
        });
    }
    host.device_requests = some(requests);
    Ok(())
}

fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags::{Order, parse};

    fn request(line: &str) -> Result<CreateRequest, String> {
        let words = line.split_whitespace().map(str::to_owned).collect();
        let parsed =
            parse::<ContainerFlags>(words, Order::BeforeArguments).map_err(|error| error.to_string())?;
        let defaults = Defaults {
            directory: "/here".into(),
            variables: vec![("HTTP_PROXY", "p".into())],
            console_size: [24, 80],
        };
        let (image, arguments) = parsed.arguments.split_first().expect("an image");
        build(&parsed.flags, image, arguments, &defaults)
    }

    #[test]
    fn flags_become_fields() {
        let line = "-it --rm -m 64m --cpus 1.5 -e A=1 -l x=y -v /a:/b:ro -v /anon -p 8080:80 --init -w /tmp \
                    --entrypoint sh --tmpfs /t:size=1m --restart no --security-opt systempaths=unconfined busybox -c date";
        let request = request(line).unwrap();
        let (config, host) = (request.config, request.host_config.unwrap());
        assert_eq!(config.cmd.unwrap(), ["-c", "date"]);
        assert_eq!(config.entrypoint.unwrap(), ["sh"]);
        assert_eq!(config.env.unwrap(), ["A=1", "HTTP_PROXY=p"]);
        assert!(config.tty && config.open_stdin && config.stdin_once && config.attach_stdin);
        assert!(config.exposed_ports.unwrap().contains_key("80/tcp"));
        assert!(config.volumes.unwrap().contains_key("/anon"));
        assert_eq!((host.memory, host.nano_cpus, host.console_size), (64 << 20, 1_500_000_000, [24, 80]));
        assert_eq!(host.binds.unwrap(), ["/a:/b:ro"]);
        assert_eq!((host.init, host.auto_remove, host.masked_paths), (Some(true), true, Some(Vec::new())));
        assert_eq!(host.tmpfs["/t"], "size=1m");
        assert_eq!(host.network_mode, "default");
    }

    #[test]
    fn mistakes() {
        for (line, text) in [
            ("--rm --restart always x", "both --restart and --rm"),
            ("--restart on-failure:x x", "must be an integer"),
            ("-w relative x", "'relative' is invalid"),
            ("-a nowhere x", "valid streams are"),
            ("--no-healthcheck --health-cmd true x", "conflicts"),
            ("--memory-swappiness 200 x", "range is 0-100"),
            ("--security-opt nonsense x", "invalid --security-opt"),
            ("--security-opt seccomp=/no/such/file x", "/no/such/file"),
            ("--add-host web x", "bad format for add-host"),
            ("--memory lots x", "invalid size: 'lots'"),
        ] {
            let error = request(line).unwrap_err();
            assert!(error.contains(text), "{line}: {error}");
        }
    }
}
