//! How this machine mounts its cgroup hierarchies, read from `/proc/self/mountinfo`.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use ferry_sys::namespace::in_user_namespace;
use rustix::fs::Access;

use super::error::CgroupError;
use super::files;

/// The cgroup of an ordinary user's engine itself: where children have limits, no process may be beside them.
pub(super) const ENGINE_LEAF: &str = "ferry-engine";

/// How this machine mounts its cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Version 1 hierarchies only.
    V1,
    /// Version 1 controllers beside a version 2 hierarchy.
    Hybrid,
    /// Version 2 only.
    V2,
}

/// One mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hierarchy {
    pub mount_point: PathBuf,
    pub unified: bool,
    /// `cpu`, `memory`, ...; for a named one `name=systemd`.
    pub controllers: Vec<String>,
}

/// All mounted hierarchies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hierarchies {
    pub layout: Layout,
    pub list: Vec<Hierarchy>,
}

impl Hierarchies {
    /// The hierarchies of this machine; read once per process, for they do not change under a
    /// running system.
    pub fn of_machine() -> Result<&'static Hierarchies, CgroupError> {
        static FOUND: OnceLock<Hierarchies> = OnceLock::new();
        if let Some(found) = FOUND.get() {
            return Ok(found);
        }
        let mountinfo = files::read(Path::new("/proc/self/mountinfo"))?;
        let mut found = Hierarchies::parse(&mountinfo).ok_or(CgroupError::NotMounted)?;
        if in_user_namespace() {
            found.keep_delegated(&files::read(Path::new("/proc/self/cgroup"))?);
        }
        for hierarchy in found.list.iter_mut().filter(|hierarchy| hierarchy.unified) {
            let controllers = files::read(&hierarchy.mount_point.join("cgroup.controllers"))?;
            hierarchy.controllers = controllers.split_ascii_whitespace().map(str::to_owned).collect();
        }
        Ok(FOUND.get_or_init(|| found))
    }

    /// Parses mountinfo; `None` when no hierarchy is mounted. The first mount of each counts.
    fn parse(mountinfo: &str) -> Option<Hierarchies> {
        let mut list: Vec<Hierarchy> = Vec::new();
        for hierarchy in mountinfo.lines().filter_map(parse_line) {
            let known = list.iter().any(|other| {
                other.unified == hierarchy.unified && other.controllers == hierarchy.controllers
            });
            if !known {
                list.push(hierarchy);
            }
        }
        let unified = list.iter().any(|hierarchy| hierarchy.unified);
        let version_1 = list.iter().any(|hierarchy| !hierarchy.unified);
        let layout = match (version_1, unified) {
            (true, true) => Layout::Hybrid,
            (true, false) => Layout::V1,
            (false, true) => Layout::V2,
            (false, false) => return None,
        };
        Some(Hierarchies { layout, list })
    }

    /// An ordinary user may make cgroups only where part of a hierarchy was handed down: there that part is the
    /// whole. Nothing may be left.
    fn keep_delegated(&mut self, memberships: &str) {
        for hierarchy in &mut self.list {
            if let Some(base) = own_path(memberships, hierarchy) {
                hierarchy.mount_point.push(base.trim_start_matches('/'));
            }
        }
        self.list.retain(|hierarchy| is_writable(&hierarchy.mount_point));
        if self.list.iter().all(|hierarchy| hierarchy.unified) {
            self.layout = Layout::V2;
        }
    }

    /// The version 2 hierarchy.
    pub fn unified(&self) -> Option<&Hierarchy> {
        self.list.iter().find(|hierarchy| hierarchy.unified)
    }

    /// The hierarchy a controller is on.
    pub fn with_controller(&self, controller: &str) -> Option<&Hierarchy> {
        self.list.iter().find(|hierarchy| hierarchy.controllers.iter().any(|found| found == controller))
    }
}

/// The calling process's cgroup in a hierarchy, from `/proc/self/cgroup`; the engine's own leaf does not count.
fn own_path<'a>(memberships: &'a str, hierarchy: &Hierarchy) -> Option<&'a str> {
    let path = memberships.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        let same = if hierarchy.unified {
            controllers.is_empty()
        } else {
            hierarchy.controllers.join(",") == controllers
        };
        same.then_some(path)
    })?;
    Some(path.strip_suffix(ENGINE_LEAF).and_then(|path| path.strip_suffix('/')).unwrap_or(path))
}

/// Whether children can be made there and processes moved.
fn is_writable(directory: &Path) -> bool {
    let may = |path: &Path| rustix::fs::access(path, Access::WRITE_OK).is_ok();
    may(directory) && may(&directory.join("cgroup.procs"))
}

/// A mountinfo line of a cgroup mount: `... mountpoint options [tags] - type source superoptions`.
fn parse_line(line: &str) -> Option<Hierarchy> {
    let (before, after) = line.split_once(" - ")?;
    let mount_point = before.split(' ').nth(4)?;
    let mut after = after.split(' ');
    let (kind, _source, options) = (after.next()?, after.next()?, after.next()?);
    let unified = match kind {
        "cgroup" => false,
        "cgroup2" => true,
        _ => return None,
    };
    let controllers = if unified { Vec::new() } else { controllers(options) };
    Some(Hierarchy { mount_point: PathBuf::from(mount_point), unified, controllers })
}

/// The controllers among a v1 hierarchy's superblock options.
fn controllers(options: &str) -> Vec<String> {
    const OTHERS: [&str; 9] = [
        "rw",
        "ro",
        "xattr",
        "noprefix",
        "clone_children",
        "cpuset_v2_mode",
        "none",
        "favordynmods",
        "nofavordynmods",
    ];
    options
        .split(',')
        .filter(|option| !OTHERS.contains(option) && !option.starts_with("release_agent="))
        .map(str::to_owned)
        .collect()
}

impl Hierarchy {
    /// The directory's own name, which is the hierarchy's name in a container's `/sys/fs/cgroup`.
    pub fn name(&self) -> String {
        self.mount_point.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
30 23 0:26 / /sys/fs/cgroup rw,nosuid - tmpfs tmpfs rw,mode=755
31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
32 30 0:28 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,release_agent=/x,name=systemd
33 30 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate
34 30 0:27 / /mnt/again rw,relatime - cgroup cgroup rw,cpu,cpuacct
";

    #[test]
    fn hybrid_is_read() {
        let found = Hierarchies::parse(HYBRID).expect("three hierarchies");
        assert_eq!(found.layout, Layout::Hybrid);
        let names: Vec<String> = found.list.iter().map(Hierarchy::name).collect();
        assert_eq!(names, ["cpu,cpuacct", "systemd", "unified"]);
        assert_eq!(found.list[1].controllers, ["name=systemd"]);
        assert_eq!(found.with_controller("cpuacct"), found.list.first());
        assert_eq!(found.unified().map(Hierarchy::name).as_deref(), Some("unified"));
    }

    #[test]
    fn own_cgroups_are_found_without_the_engines_leaf() {
        let found = Hierarchies::parse(HYBRID).expect("three hierarchies");
        let text = "4:cpu,cpuacct:/a\n1:name=systemd:/b\n0::/user.slice/x.scope/ferry-engine\n";
        let paths: Vec<_> = found.list.iter().map(|hierarchy| own_path(text, hierarchy)).collect();
        assert_eq!(paths, [Some("/a"), Some("/b"), Some("/user.slice/x.scope")]);
        assert_eq!(own_path("0::/ferry-engine\n", &found.list[2]), Some(""));
    }

    #[test]
    fn version_2_and_nothing() {
        let line = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";
        assert_eq!(Hierarchies::parse(line).map(|found| found.layout), Some(Layout::V2));
        assert_eq!(Hierarchies::parse("1 2 0:3 / / rw - ext4 /dev/vda rw\n"), None);
    }
}
