//! What the file tree of a container shall be: the specification's mounts, devices and masks,
//! checked before anything is touched. Pure.

use std::path::{Component, Path, PathBuf};

use ferry_oci::runtime::{Linux, LinuxDevice, LinuxDeviceType, Mount, Spec};
use rustix::fs::FileType;

use super::id_map::IdMap;
use super::options::MountOptions;
use crate::error::SpecError;

/// More mounts than any sane container has; bounds work and descriptors.
const MOUNTS_MAX: usize = 4096;

/// Files below `/proc` that may be covered by a bind mount (lxcfs and the like do it).
const PROC_COVERABLE: [&str; 10] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/slabinfo",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/sys/crypto/fips_enabled",
];

/// Devices every container has: path, major, minor.
const DEFAULT_DEVICES: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

/// The file tree of a container.
#[derive(Debug)]
pub(crate) struct TreePlan {
    pub mounts: Vec<MountPlan>,
    pub devices: Vec<DevicePlan>,
    pub masked: Vec<PathBuf>,
    pub readonly: Vec<PathBuf>,
    pub readonly_root: bool,
    pub root_propagation: u64,
    /// False where the host's `/dev` is bound: nothing may be made in that.
    pub own_dev: bool,
}

/// One mount.
#[derive(Debug)]
pub(crate) struct MountPlan {
    pub destination: PathBuf,
    pub source: MountSource,
    pub options: MountOptions,
    pub id_map: Option<IdMap>,
}

/// Where a mount comes from.
#[derive(Debug)]
pub(crate) enum MountSource {
    Bind(PathBuf),
    /// Directories stacked read-only, topmost first; never none.
    Layers(Vec<PathBuf>),
    FileSystem {
        kind: String,
        source: String,
    },
    Cgroup,
}

/// One device node.
#[derive(Debug)]
pub(crate) struct DevicePlan {
    pub path: PathBuf,
    pub kind: FileType,
    pub major: u32,
    pub minor: u32,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}

impl TreePlan {
    pub fn build(spec: &Spec) -> Result<TreePlan, SpecError> {
        let empty = Linux::default();
        let linux = spec.linux().as_ref().unwrap_or(&empty);
        let listed = spec.mounts().as_deref().unwrap_or_default();
        if listed.len() > MOUNTS_MAX {
            return Err(SpecError::new("mounts", listed.len(), format!("more than {MOUNTS_MAX} mounts")));
        }
        let mounts = listed.iter().map(MountPlan::build).collect::<Result<Vec<_>, _>>()?;
        let own_dev = !mounts.iter().any(|mount| {
            mount.destination == Path::new("/dev") && matches!(mount.source, MountSource::Bind(_))
        });
        Ok(TreePlan {
            own_dev,
            devices: if own_dev { devices(linux)? } else { Vec::new() },
            masked: paths("linux.maskedPaths", linux.masked_paths().as_deref())?,
            readonly: paths("linux.readonlyPaths", linux.readonly_paths().as_deref())?,
            readonly_root: spec.root().as_ref().and_then(|root| root.readonly()).unwrap_or(false),
            root_propagation: root_propagation(linux.rootfs_propagation().as_deref())?,
            mounts,
        })
    }
}

impl MountPlan {
    pub fn build(mount: &Mount) -> Result<MountPlan, SpecError> {
        let destination = clean("mounts.destination", mount.destination())?;
        if destination == Path::new("/") {
            return Err(SpecError::new("mounts.destination", "/", "the root cannot be mounted over"));
        }
        let mut options = MountOptions::parse(mount.options().as_deref().unwrap_or_default());
        let kind = mount.typ().as_deref().unwrap_or("");
        let source = mount.source().clone().unwrap_or_default();
        let source = if options.bind || kind == "bind" {
            options.bind = true;
            if source.as_os_str().is_empty() {
                return Err(SpecError::new(
                    "mounts.source",
                    "",
                    format!("bind mount {} has no source", destination.display()),
                ));
            }
            MountSource::Bind(source)
        } else if !options.layers.is_empty() {
            MountSource::Layers(options.layers.iter().map(PathBuf::from).collect())
        } else if kind == "cgroup" || kind == "cgroup2" {
            MountSource::Cgroup
        } else if kind.is_empty() {
            return Err(SpecError::new(
                "mounts.type",
                "",
                format!("mount {} has neither a type nor \"bind\"", destination.display()),
            ));
        } else {
            MountSource::FileSystem { kind: kind.to_owned(), source: source.to_string_lossy().into_owned() }
        };
        refuse_inside_proc(&destination, &source)?;
        let id_map = IdMap::of(mount, options.recursive_id_map)?;
        Ok(MountPlan { destination, source, options, id_map })
    }

    /// Whether this is a file system whose place must not be reached through a link
    /// (CVE-2019-19921): procfs and sysfs hold the container's limits.
    pub fn is_kernel_interface(&self) -> bool {
        matches!(&self.source, MountSource::FileSystem { kind, .. } if kind == "proc" || kind == "sysfs")
    }
}

fn refuse_inside_proc(destination: &Path, source: &MountSource) -> Result<(), SpecError> {
    let at_proc = destination == Path::new("/proc");
    let proc_itself = matches!(source, MountSource::FileSystem { kind, .. } if kind == "proc");
    let bind = matches!(source, MountSource::Bind(_));
    if (at_proc && (proc_itself || bind)) || !destination.starts_with("/proc") {
        return Ok(());
    }
    if PROC_COVERABLE.iter().any(|path| destination == Path::new(path)) {
        return Ok(());
    }
    Err(SpecError::new(
        "mounts.destination",
        destination.display(),
        "cannot be mounted because it is inside /proc",
    ))
}

/// An absolute path without `.` and `..`, resolved by words alone.
pub(crate) fn clean(field: &str, path: &Path) -> Result<PathBuf, SpecError> {
    if !path.is_absolute() {
        return Err(SpecError::new(field, path.display(), "not an absolute path"));
    }
    let mut clean = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    Ok(clean)
}

fn paths(field: &str, paths: Option<&[String]>) -> Result<Vec<PathBuf>, SpecError> {
    paths.unwrap_or_default().iter().map(|path| clean(field, Path::new(path))).collect()
}

fn devices(linux: &Linux) -> Result<Vec<DevicePlan>, SpecError> {
    let mut plans: Vec<DevicePlan> = DEFAULT_DEVICES
        .iter()
        .map(|(path, major, minor)| DevicePlan {
            path: PathBuf::from(path),
            kind: FileType::CharacterDevice,
            major: *major,
            minor: *minor,
            mode: 0o666,
            uid: 0,
            gid: 0,
        })
        .collect();
    for device in linux.devices().as_deref().unwrap_or_default() {
        let plan = device_plan(device)?;
        plans.retain(|default| default.path != plan.path);
        plans.push(plan);
    }
    Ok(plans)
}

fn device_plan(device: &LinuxDevice) -> Result<DevicePlan, SpecError> {
    let kind = match device.typ() {
        LinuxDeviceType::B => FileType::BlockDevice,
        LinuxDeviceType::C | LinuxDeviceType::U => FileType::CharacterDevice,
        LinuxDeviceType::P => FileType::Fifo,
        LinuxDeviceType::A => {
            return Err(SpecError::new("linux.devices.type", "a", "a device node is b, c, u or p"));
        }
    };
    let number = |name: &str, value: i64| {
        u32::try_from(value)
            .map_err(|_| SpecError::new(format!("linux.devices.{name}"), value, "not a device number"))
    };
    Ok(DevicePlan {
        path: clean("linux.devices.path", device.path())?,
        kind,
        major: number("major", device.major())?,
        minor: number("minor", device.minor())?,
        mode: device.file_mode().unwrap_or(0o666) & 0o7777,
        uid: device.uid().unwrap_or(0),
        gid: device.gid().unwrap_or(0),
    })
}

fn root_propagation(name: Option<&str>) -> Result<u64, SpecError> {
    let Some(name) = name.filter(|name| !name.is_empty()) else { return Ok(0) };
    match MountOptions::parse(&[name.to_owned()]).propagation.as_slice() {
        [(kind, _)] => Ok(*kind),
        _ => Err(SpecError::new("linux.rootfsPropagation", name, "not a propagation type")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned() {
        for (given, expected) in [("/a/../b", "/b"), ("/../..", "/"), ("//a/./b/", "/a/b")] {
            assert_eq!(clean("x", Path::new(given)).unwrap(), Path::new(expected), "{given}");
        }
        assert_eq!(
            clean("process.cwd", Path::new("a")).unwrap_err().to_string(),
            "invalid process.cwd \"a\": not an absolute path"
        );
    }

    #[test]
    fn nothing_is_mounted_inside_proc() {
        let bind = |destination: &str| {
            let mut mount = Mount::default();
            mount.set_destination(PathBuf::from(destination));
            mount.set_source(Some(PathBuf::from("/tmp")));
            mount.set_options(Some(vec!["rbind".to_owned()]));
            MountPlan::build(&mount).map(|_| ())
        };
        assert_eq!(bind("/proc/cpuinfo"), Ok(()));
        assert_eq!(bind("/procedure"), Ok(()));
        assert_eq!(
            bind("/sys/../proc/sys").unwrap_err().to_string(),
            "invalid mounts.destination \"/proc/sys\": cannot be mounted because it is inside /proc"
        );
        assert!(bind("/").is_err());
    }
}
