//! Device nodes and the rules of the device cgroup.
//!
//! The rules are Docker's: everything may be made (`mknod`), only the harmless may be opened.

use std::path::{Path, PathBuf};

use ferry_api::container::{DeviceMapping, HostConfig};
use ferry_oci::runtime::{LinuxDevice, LinuxDeviceCgroup, LinuxDeviceCgroupBuilder, LinuxDeviceType};
use rustix::fs::{FileType, Stat};

/// Character devices every container may use: null, zero, full, random, urandom, tty, console, ptmx, pts.
const ALLOWED: [(i64, Option<i64>); 9] = [
    (1, Some(3)),
    (1, Some(5)),
    (1, Some(7)),
    (1, Some(8)),
    (1, Some(9)),
    (5, Some(0)),
    (5, Some(1)),
    (5, Some(2)),
    (136, None),
];
/// Directories of `/dev` that are mounts of the container's own, and names that are links.
const NOT_COPIED: [&str; 9] =
    ["pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev", "console", "ptmx"];
/// Most devices taken from one directory.
const MAX_DEVICES: usize = 4096;

/// A device that cannot be given to a container.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// It is not there.
    #[error("error gathering device information while adding custom device {path:?}: {source}")]
    Stat {
        /// Path on the host.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// It is something else.
    #[error("error gathering device information while adding custom device {0:?}: not a device node")]
    NotADevice(String),
    /// A rule that does not parse.
    #[error("invalid device cgroup rule format: '{0}'")]
    Rule(String),
    /// Permissions other than r, w and m.
    #[error("invalid device mode: {0:?}: only the letters r, w and m are allowed")]
    Permissions(String),
    /// Devices of CDI.
    #[error(
        "CDI device injection failed: unresolvable CDI devices {0}: Ferry reads no CDI specifications; name the nodes \
         themselves (--device /dev/…)"
    )]
    Cdi(String),
    /// A driver (of GPUs) that this host does not have.
    #[error("could not select device driver {driver:?} with capabilities: {capabilities}")]
    Driver {
        /// As asked for.
        driver: String,
        /// As asked for.
        capabilities: String,
    },
}

/// Nodes to make and rules to set.
#[derive(Debug, Default)]
pub struct DevicePlan {
    /// Nodes besides the default ones.
    pub nodes: Vec<LinuxDevice>,
    /// Rules, in order.
    pub rules: Vec<LinuxDeviceCgroup>,
}

impl DevicePlan {
    /// Decides by the host's devices.
    pub fn build(config: &HostConfig) -> Result<Self, DeviceError> {
        refuse_requests(config)?;
        let mut plan = Self::default();
        if config.privileged {
            collect(Path::new("/dev"), Path::new("/dev"), &mut plan.nodes, 0);
            plan.rules.push(rule(true, LinuxDeviceType::A, None, None, "rwm"));
        } else {
            plan.rules = default_rules();
        }
        for mapping in config.devices.iter().flatten() {
            plan.add(mapping, config.privileged)?;
        }
        for text in config.device_cgroup_rules.iter().flatten() {
            plan.rules.push(parse_rule(text)?);
        }
        Ok(plan)
    }

    fn add(&mut self, mapping: &DeviceMapping, privileged: bool) -> Result<(), DeviceError> {
        let permissions = match mapping.cgroup_permissions.as_str() {
            "" => "rwm",
            given => given,
        };
        if !permissions.bytes().all(|letter| b"rwm".contains(&letter)) {
            return Err(DeviceError::Permissions(permissions.to_owned()));
        }
        let target = match mapping.path_in_container.as_str() {
            "" => &mapping.path_on_host,
            given => given,
        };
        let failed = |source| DeviceError::Stat { path: mapping.path_on_host.clone(), source };
        // Docker follows links on the host: /dev/disk/by-id/... is what people have.
        let path = std::fs::canonicalize(&mapping.path_on_host).map_err(failed)?;
        let mut nodes = Vec::new();
        if path.is_dir() {
            collect(&path, Path::new(target), &mut nodes, 0);
        } else {
            let stat = rustix::fs::stat(&path).map_err(|errno| failed(errno.into()))?;
            let node = node(PathBuf::from(target), &stat);
            nodes.push(node.ok_or_else(|| DeviceError::NotADevice(mapping.path_on_host.clone()))?);
        }
        for node in nodes {
            if !privileged {
                self.rules.push(rule(true, node.typ(), Some(node.major()), Some(node.minor()), permissions));
            }
            self.nodes.retain(|earlier| earlier.path() != node.path());
            self.nodes.push(node);
        }
        Ok(())
    }
}

fn refuse_requests(config: &HostConfig) -> Result<(), DeviceError> {
    let Some(request) = config.device_requests.iter().flatten().next() else { return Ok(()) };
    if request.driver == "cdi" {
        return Err(DeviceError::Cdi(request.device_ids.clone().unwrap_or_default().join(", ")));
    }
    let capabilities = request.capabilities.clone().unwrap_or_default();
    let capabilities: Vec<String> = capabilities.iter().map(|set| format!("[{}]", set.join(" "))).collect();
    let capabilities = format!("[{}]", capabilities.join(" "));
    Err(DeviceError::Driver { driver: request.driver.clone(), capabilities })
}

fn default_rules() -> Vec<LinuxDeviceCgroup> {
    let mut rules = vec![
        rule(false, LinuxDeviceType::A, None, None, "rwm"),
        rule(true, LinuxDeviceType::C, None, None, "m"),
        rule(true, LinuxDeviceType::B, None, None, "m"),
    ];
    let allowed =
        ALLOWED.iter().map(|(major, minor)| rule(true, LinuxDeviceType::C, Some(*major), *minor, "rwm"));
    rules.extend(allowed);
    rules
}

fn rule(
    allow: bool,
    kind: LinuxDeviceType,
    major: Option<i64>,
    minor: Option<i64>,
    access: &str,
) -> LinuxDeviceCgroup {
    let mut builder = LinuxDeviceCgroupBuilder::default().allow(allow).typ(kind).access(access);
    if let Some(major) = major {
        builder = builder.major(major);
    }
    if let Some(minor) = minor {
        builder = builder.minor(minor);
    }
    builder.build().expect("every field of the builder has a default")
}

/// Reads `c 1:3 rwm`, `b 8:* r`, `a *:* rwm`.
fn parse_rule(text: &str) -> Result<LinuxDeviceCgroup, DeviceError> {
    let refuse = || DeviceError::Rule(text.to_owned());
    let words: Vec<&str> = text.split_whitespace().collect();
    let [kind, numbers, access] = words[..] else { return Err(refuse()) };
    let kind = match kind {
        "a" => LinuxDeviceType::A,
        "b" => LinuxDeviceType::B,
        "c" => LinuxDeviceType::C,
        _ => return Err(refuse()),
    };
    let number = |text: &str| match text {
        "*" => Ok(None),
        digits => digits.parse::<u32>().map(|number| Some(i64::from(number))).map_err(|_| refuse()),
    };
    let (major, minor) = numbers.split_once(':').ok_or_else(refuse)?;
    if access.is_empty() || access.len() > 3 || !access.bytes().all(|letter| b"rwm".contains(&letter)) {
        return Err(refuse());
    }
    Ok(rule(true, kind, number(major)?, number(minor)?, access))
}

/// Every device node below a directory; what disappears meanwhile is left out.
fn collect(from: &Path, to: &Path, nodes: &mut Vec<LinuxDevice>, depth: usize) {
    const MAX_DEPTH: usize = 8;
    let Ok(entries) = std::fs::read_dir(from) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if nodes.len() >= MAX_DEVICES || NOT_COPIED.iter().any(|skipped| *skipped == name) {
            continue;
        }
        let Ok(stat) = rustix::fs::lstat(entry.path()) else { continue };
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            if depth < MAX_DEPTH {
                collect(&entry.path(), &to.join(name), nodes, depth + 1);
            }
        } else if let Some(node) = node(to.join(name), &stat) {
            nodes.push(node);
        }
    }
}

fn node(path: PathBuf, stat: &Stat) -> Option<LinuxDevice> {
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::CharacterDevice => LinuxDeviceType::C,
        FileType::BlockDevice => LinuxDeviceType::B,
        _ => return None,
    };
    let mut device = LinuxDevice::default();
    device
        .set_path(path)
        .set_typ(kind)
        .set_major(i64::from(rustix::fs::major(stat.st_rdev)))
        .set_minor(i64::from(rustix::fs::minor(stat.st_rdev)))
        .set_file_mode(Some(stat.st_mode & 0o777))
        .set_uid(Some(stat.st_uid))
        .set_gid(Some(stat.st_gid));
    Some(device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_parse() {
        let rule = parse_rule("c 10:* rw").unwrap();
        assert_eq!(
            (rule.allow(), rule.typ(), rule.major(), rule.minor()),
            (true, Some(LinuxDeviceType::C), Some(10), None)
        );
        for bad in ["", "c 1:3", "x 1:3 rwm", "c 1 rwm", "c 1:y rwm", "c 1:3 rwx", "c -1:3 r"] {
            assert_eq!(
                parse_rule(bad).expect_err(bad).to_string(),
                format!("invalid device cgroup rule format: '{bad}'")
            );
        }
    }

    #[test]
    fn devices_are_taken_from_the_host() {
        let mapping = |host: &str, mode: &str| DeviceMapping {
            path_on_host: host.into(),
            path_in_container: "/dev/x".into(),
            cgroup_permissions: mode.into(),
        };
        let config = |mapping| HostConfig { devices: Some(vec![mapping]), ..HostConfig::default() };
        let plan = DevicePlan::build(&config(mapping("/dev/null", "r"))).unwrap();
        assert_eq!(plan.nodes.len(), 1);
        assert_eq!((plan.nodes[0].major(), plan.nodes[0].minor()), (1, 3));
        assert_eq!(plan.rules.last().unwrap().access().as_deref(), Some("r"));
        let missing = DevicePlan::build(&config(mapping("/dev/nothing-here", "r"))).unwrap_err();
        assert!(
            missing.to_string().contains("\"/dev/nothing-here\": No such file or directory"),
            "{missing}"
        );
        assert!(matches!(
            DevicePlan::build(&config(mapping("/proc/version", ""))).unwrap_err(),
            DeviceError::NotADevice(_)
        ));
        assert!(DevicePlan::build(&config(mapping("/dev/null", "rx"))).is_err());
    }
}
