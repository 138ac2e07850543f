//! Devices, limits per device, GPUs, ulimits.

use ferry_api::container::{DeviceMapping, DeviceRequest, ThrottleDevice, Ulimit, WeightDevice};

use crate::flags::Bytes;

/// What `--device` gives.
#[derive(Debug, Default)]
pub struct Devices {
    /// Device nodes.
    pub mappings: Vec<DeviceMapping>,
    /// Devices of the Container Device Interface, by their qualified names.
    pub cdi: Vec<String>,
}

/// Reads `--device`: `path[:path in the container][:rwm]` or `vendor/class=name`.
pub fn devices(specs: &[String]) -> Result<Devices, String> {
    let mut devices = Devices::default();
    for spec in specs {
        if !spec.starts_with('/') && spec.contains('/') && spec.contains('=') {
            devices.cdi.push(spec.clone());
        } else {
            devices.mappings.push(mapping(spec)?);
        }
    }
    Ok(devices)
}

fn mapping(spec: &str) -> Result<DeviceMapping, String> {
    let is_mode = |text: &str| !text.is_empty() && text.chars().all(|c| "rwm".contains(c));
    let parts: Vec<&str> = spec.split(':').collect();
    let (source, target, mode) = match parts[..] {
        [source] => (source, source, "rwm"),
        [source, mode] if is_mode(mode) => (source, source, mode),
        [source, target] => (source, target, "rwm"),
        [source, target, mode] if is_mode(mode) => (source, target, mode),
        [_, _, mode] => return Err(format!("invalid device mode: {mode}")),
        _ => return Err(format!("invalid device specification: {spec}")),
    };
    if !source.starts_with('/') || !target.starts_with('/') {
        return Err(format!("{spec:?} is not an absolute path of a device"));
    }
    Ok(DeviceMapping {
        path_on_host: source.to_owned(),
        path_in_container: target.to_owned(),
        cgroup_permissions: mode.to_owned(),
    })
}

/// Reads `path:rate`, the rate in bytes with a unit.
pub fn byte_rates(specs: &[String]) -> Result<Vec<ThrottleDevice>, String> {
    rates(specs, |rate| Bytes::parse(rate).ok().and_then(|bytes| u64::try_from(bytes.0).ok()))
}

/// Reads `path:rate`, the rate in operations.
pub fn operation_rates(specs: &[String]) -> Result<Vec<ThrottleDevice>, String> {
    rates(specs, |rate| rate.parse().ok())
}

fn rates(specs: &[String], parse: impl Fn(&str) -> Option<u64>) -> Result<Vec<ThrottleDevice>, String> {
    let mut out = Vec::new();
    for spec in specs {
        let (path, rate) = split_device(spec)?;
        let rate = parse(rate).ok_or_else(|| {
            format!("invalid rate for device: {spec}. The correct format is <device-path>:<number>[<unit>]")
        })?;
        out.push(ThrottleDevice { path: path.to_owned(), rate });
    }
    Ok(out)
}

/// Reads `path:weight`.
pub fn weights(specs: &[String]) -> Result<Vec<WeightDevice>, String> {
    let mut out = Vec::new();
    for spec in specs {
        let (path, weight) = split_device(spec)?;
        let weight = weight.parse().ok().filter(|weight| *weight == 0 || (10..=1000).contains(weight));
        let weight = weight.ok_or_else(|| format!("invalid weight for device: {spec}"))?;
        out.push(WeightDevice { path: path.to_owned(), weight });
    }
    Ok(out)
}

fn split_device(spec: &str) -> Result<(&str, &str), String> {
    match spec.split_once(':') {
        Some((path, value)) if path.starts_with("/dev/") => Ok((path, value)),
        Some(_) => Err(format!("bad format for device path: {spec}")),
        None => Err(format!("bad format: {spec}")),
    }
}

/// Reads `--ulimit`: `name=soft[:hard]`.
pub fn ulimits(specs: &[String]) -> Result<Vec<Ulimit>, String> {
    const NAMES: [&str; 15] = [
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
    ];
    let mut out: Vec<Ulimit> = Vec::new();
    for spec in specs {
        let (name, value) = spec.split_once('=').ok_or_else(|| format!("invalid ulimit argument: {spec}"))?;
        if !NAMES.contains(&name) {
            return Err(format!("invalid ulimit type: {name}"));
        }
        let (soft, hard) = value.split_once(':').unwrap_or((value, value));
        let number = |text: &str| {
            text.parse::<i64>()
                .map_err(|_| format!("invalid ulimit argument: {spec}: {text:?} is not a number"))
        };
        let (soft, hard) = (number(soft)?, number(hard)?);
        if hard != -1 && (soft > hard || soft == -1) {
            return Err(format!(
                "ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"
            ));
        }
        out.retain(|known| known.name != name);
        out.push(Ulimit { name: name.to_owned(), soft, hard });
    }
    Ok(out)
}

/// Reads `--gpus`: `all`, a count, or `device=0,driver=nvidia,capabilities=...` with quotes where needed.
pub fn gpus(spec: &str) -> Result<DeviceRequest, String> {
    let mut request =
        DeviceRequest { capabilities: Some(vec![vec!["gpu".to_owned()]]), ..Default::default() };
    let mut counted = false;
    for field in split_quoted(spec) {
        let (key, value) = field.split_once('=').unwrap_or(("count", &field));
        match key {
            "count" if value == "all" => request.count = -1,
            "count" => {
                request.count = value.parse().map_err(|_| {
                    format!("invalid count ({value}): value must be either \"all\" or an integer")
                })?;
            }
            "device" => request.device_ids = Some(value.split(',').map(str::to_owned).collect()),
            "driver" => value.clone_into(&mut request.driver),
            "capabilities" => {
                let mut list: Vec<String> = value.split(',').map(str::to_owned).collect();
                list.push("gpu".to_owned());
                request.capabilities = Some(vec![list]);
            }
            "options" => {
                request.options = super::pairs(&value.split(',').map(str::to_owned).collect::<Vec<_>>())
            }
            other => return Err(format!("unexpected key '{other}' in '{field}'")),
        }
        counted |= key == "count" || key == "device";
    }
    if !counted {
        request.count = 1;
    }
    Ok(request)
}

/// Splits at commas outside of quotes.
pub(super) fn split_quoted(text: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    for c in text.chars() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            c => fields.last_mut().expect("starts with one field").push(c),
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_nodes() {
        let check = |spec: &str, wanted: Result<(&str, &str, &str), &str>| {
            let found = devices(&[spec.to_owned()]);
            match wanted {
                Ok((host, inside, mode)) => {
                    let device = &found.unwrap().mappings[0];
                    assert_eq!(device.path_on_host, host);
                    assert_eq!(device.path_in_container, inside);
                    assert_eq!(device.cgroup_permissions, mode);
                }
                Err(text) => assert!(found.unwrap_err().contains(text), "{spec}"),
            }
        };
        check("/dev/null", Ok(("/dev/null", "/dev/null", "rwm")));
        check("/dev/null:r", Ok(("/dev/null", "/dev/null", "r")));
        check("/dev/null:/dev/x:rw", Ok(("/dev/null", "/dev/x", "rw")));
        check("/dev/null:/dev/x:q", Err("invalid device mode: q"));
        check("null", Err("not an absolute path"));
        assert_eq!(devices(&["vendor.com/gpu=0".into()]).unwrap().cdi, ["vendor.com/gpu=0"]);
    }

    #[test]
    fn limits() {
        let limit = |spec: &str| ulimits(&[spec.to_owned()]).map(|list| (list[0].soft, list[0].hard));
        assert_eq!(limit("nofile=100:200"), Ok((100, 200)));
        assert_eq!(limit("core=-1"), Ok((-1, -1)));
        for bad in ["nofile", "nofile=x", "speed=1", "nofile=3:2"] {
            assert!(limit(bad).is_err(), "{bad}");
        }
        assert_eq!(byte_rates(&["/dev/sda:1mb".into()]).unwrap()[0].rate, 1 << 20);
        assert!(operation_rates(&["/dev/sda:fast".into()]).is_err());
        assert_eq!(weights(&["/dev/sda:10".into()]).unwrap()[0].weight, 10);
    }

    #[test]
    fn gpu_requests() {
        assert_eq!(gpus("all").unwrap().count, -1);
        assert_eq!(gpus("2").unwrap().count, 2);
        assert_eq!(gpus("\"device=0,1\"").unwrap().device_ids.unwrap(), ["0", "1"]);
        assert!(gpus("speed=1").is_err());
    }
}
