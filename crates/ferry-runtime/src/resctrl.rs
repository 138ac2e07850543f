//! Classes of cache and memory bandwidth (`linux.intelRdt`), through the kernel's resctrl file system.
//!
//! A class is a directory with a `schemata` file and a list of `tasks`. The specification's rules: a class that is
//! named and has no schema must be there; one with schemas is made where it is absent and compared where it is not;
//! without a name the container's id is the name. What a container made goes with it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ferry_oci::runtime::LinuxIntelRdt;
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::error::errno_text;

/// A class could not be made, looked at or joined.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResctrlError {
    /// Neither the kernel nor the processor may have it.
    #[error(
        "invalid linux.intelRdt: this machine has no resctrl file system (mount -t resctrl resctrl /sys/fs/resctrl)"
    )]
    NotMounted,
    /// A name that would leave the file system, or is one of its own.
    #[error("invalid linux.intelRdt.closID {0:?}: not the name of a directory")]
    Name(String),
    /// A line that is no schema.
    #[error("invalid linux.intelRdt.{field} {value:?}: {reason}")]
    Schema {
        /// The field.
        field: &'static str,
        /// The line.
        value: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// A class that should be there.
    #[error("linux.intelRdt.closID {0:?}: there is no such class, and no schema to make it with")]
    NoClass(String),
    /// A class that is there with other schemas.
    #[error("linux.intelRdt.closID {class:?}: the class has {found:?} for {resource}, not {wanted:?}")]
    Differs {
        /// The class.
        class: String,
        /// `L3`, `MB`, ...
        resource: String,
        /// What it has.
        found: String,
        /// What was asked for.
        wanted: String,
    },
    /// The processor cannot count what is asked for.
    #[error("linux.intelRdt.{field}: this machine does not monitor {feature}")]
    NoMonitoring {
        /// The field.
        field: &'static str,
        /// As in `info/L3_MON/mon_features`.
        feature: &'static str,
    },
    /// The kernel refused a file operation.
    #[error("cannot {action} {}: {}", path.display(), errno_text(*errno))]
    File {
        /// `create`, `write`, ...
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The kernel's error number.
        errno: i32,
    },
}

/// What a container has of the file system: gone with the container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Class {
    /// Where its processes are listed.
    directory: PathBuf,
    /// Directories that were made for the container, in this order.
    made: Vec<PathBuf>,
}

/// Where the kernel's file system is mounted.
pub(crate) fn root() -> Result<PathBuf, ResctrlError> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    mount_point(&text).ok_or(ResctrlError::NotMounted)
}

fn mount_point(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let is_resctrl = after.split(' ').next() == Some("resctrl");
        is_resctrl.then(|| before.split(' ').nth(4).map(PathBuf::from)).flatten()
    })
}

impl Class {
    /// Makes or finds the class of a container below `root`.
    pub(crate) fn open(root: &Path, wanted: &LinuxIntelRdt, id: &str) -> Result<Class, ResctrlError> {
        let named = wanted.clos_id().as_deref().filter(|name| !name.is_empty());
        let name = named.unwrap_or(id);
        const OWN: [&str; 4] = ["info", "mon_groups", "mon_data", "schemata"];
        if name.contains('/') || name.contains('\0') || [".", ".."].contains(&name) || OWN.contains(&name) {
            return Err(ResctrlError::Name(name.to_owned()));
        }
        let schemas = schemas(wanted)?;
        check_monitoring(root, wanted)?;
        let directory = root.join(name);
        let mut class = Class { directory: directory.clone(), made: Vec::new() };
        if directory.is_dir() && named.is_some() {
            compare(name, &directory, &schemas)?;
        } else if named.is_some() && schemas.is_empty() {
            return Err(ResctrlError::NoClass(name.to_owned()));
        } else {
            class.make(&directory)?;
            class.undoing(write_schemas(&directory, &schemas))?;
        }
        if wanted.enable_monitoring() == &Some(true) {
            let made = class.make(&directory.join("mon_groups").join(id));
            class.undoing(made)?;
        }
        Ok(class)
    }

    /// Takes a process into the class, and what it forks from then on.
    pub(crate) fn enter(&self, pid: i32) -> Result<(), ResctrlError> {
        let monitored = self.made.iter().filter(|made| **made != self.directory);
        for directory in [&self.directory].into_iter().chain(monitored) {
            write(&directory.join("tasks"), &pid.to_string())?;
        }
        Ok(())
    }

    /// Changes the class's schemas, as lines of the specification's two older fields.
    pub fn update(&self, l3_cache: Option<&str>, memory_bandwidth: Option<&str>) -> Result<(), ResctrlError> {
        let fields = [("l3CacheSchema", l3_cache), ("memBwSchema", memory_bandwidth)];
        for (field, text) in fields {
            let lines = text.iter().flat_map(|text| text.lines()).filter(|line| !line.trim().is_empty());
            let lines = lines.map(|line| schema(field, line)).collect::<Result<Vec<_>, _>>()?;
            write_schemas(&self.directory, &lines)?;
        }
        Ok(())
    }

    /// Removes what was made for the container; it may be gone already.
    pub fn remove(&self) -> Result<(), ResctrlError> {
        for directory in self.made.iter().rev() {
            match rustix::fs::unlinkat(CWD, directory, AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(failed("remove", directory, errno)),
            }
        }
        Ok(())
    }

    fn make(&mut self, directory: &Path) -> Result<(), ResctrlError> {
        match rustix::fs::mkdirat(CWD, directory, Mode::from_raw_mode(0o755)) {
            Ok(()) => self.made.push(directory.to_path_buf()),
            // Left by a container of this id that nobody deleted.
            Err(Errno::EXIST) => self.made.push(directory.to_path_buf()),
            Err(errno) => return Err(failed("create", directory, errno)),
        }
        Ok(())
    }

    /// Hands a result on; a failure takes along what was made so far.
    fn undoing(&self, result: Result<(), ResctrlError>) -> Result<(), ResctrlError> {
        result.inspect_err(|_| drop(self.remove()))
    }
}

/// The lines of a class's `schemata`, by the specification's fields.
fn schemas(wanted: &LinuxIntelRdt) -> Result<Vec<(String, String)>, ResctrlError> {
    let mut lines = Vec::new();
    let fields = [("l3CacheSchema", wanted.l3_cache_schema()), ("memBwSchema", wanted.mem_bw_schema())];
    for (field, text) in fields {
        for line in text.iter().flat_map(|text| text.lines()).filter(|line| !line.trim().is_empty()) {
            lines.push(schema(field, line)?);
        }
    }
    // By the specification these come after the others and win.
    for line in wanted.schemata().iter().flatten() {
        let (resource, value) = schema("schemata", line)?;
        lines.retain(|(other, _)| *other != resource);
        lines.push((resource, value));
    }
    Ok(lines)
}

fn schema(field: &'static str, line: &str) -> Result<(String, String), ResctrlError> {
    let fail = |reason| ResctrlError::Schema { field, value: line.to_owned(), reason };
    let (resource, value) = line.split_once(':').ok_or_else(|| fail("not as L3:0=ff;1=ff"))?;
    if value.contains('\n') {
        return Err(fail("one line each"));
    }
    let resource = resource.trim();
    match field {
        "l3CacheSchema" if !resource.starts_with("L3") => Err(fail("not a schema of the L3 cache")),
        "memBwSchema" if resource != "MB" => Err(fail("not a schema of memory bandwidth")),
        _ => Ok((resource.to_owned(), value.trim().to_owned())),
    }
}

fn write_schemas(directory: &Path, schemas: &[(String, String)]) -> Result<(), ResctrlError> {
    let path = directory.join("schemata");
    schemas.iter().try_for_each(|(resource, value)| write(&path, &format!("{resource}:{value}\n")))
}

/// Whether a class that others made is what is asked for.
fn compare(name: &str, directory: &Path, wanted: &[(String, String)]) -> Result<(), ResctrlError> {
    if wanted.is_empty() {
        return Ok(());
    }
    let path = directory.join("schemata");
    let text = std::fs::read_to_string(&path)
        .map_err(|error| failed("read", &path, Errno::from_io_error(&error).unwrap_or(Errno::IO)))?;
    let found: BTreeMap<&str, &str> = text
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(resource, value)| (resource.trim(), value.trim()))
        .collect();
    for (resource, wanted) in wanted {
        let found = found.get(resource.as_str()).copied().unwrap_or_default();
        let has = parts(found);
        if !parts(wanted).iter().all(|(domain, value)| has.get(domain) == Some(value)) {
            return Err(ResctrlError::Differs {
                class: name.to_owned(),
                resource: resource.clone(),
                found: found.to_owned(),
                wanted: wanted.clone(),
            });
        }
    }
    Ok(())
}

/// `0=00ff;1=ff` by its domains; leading zeros mean nothing.
fn parts(value: &str) -> BTreeMap<String, String> {
    let part = |part: &str| {
        let (domain, value) = part.split_once('=')?;
        let value = value.trim().trim_start_matches('0').to_ascii_lowercase();
        Some((domain.trim().to_owned(), value))
    };
    value.split(';').filter_map(part).collect()
}

#[allow(deprecated)]
fn check_monitoring(root: &Path, wanted: &LinuxIntelRdt) -> Result<(), ResctrlError> {
    let features = std::fs::read_to_string(root.join("info/L3_MON/mon_features")).unwrap_or_default();
    let asked = [
        ("enableCMT", wanted.enable_cmt(), "llc_occupancy"),
        ("enableMBM", wanted.enable_mbm(), "mbm_total_bytes"),
    ];
    for (field, asked, feature) in asked {
        if *asked == Some(true) && !features.lines().any(|line| line == feature) {
            return Err(ResctrlError::NoMonitoring { field, feature });
        }
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<(), ResctrlError> {
    let written = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC | OFlags::APPEND, Mode::empty())
        .and_then(|file| rustix::io::retry_on_intr(|| rustix::io::write(&file, text.as_bytes())));
    written.map(drop).map_err(|errno| failed("write", path, errno))
}

fn failed(action: &'static str, path: &Path, errno: Errno) -> ResctrlError {
    ResctrlError::File { action, path: path.to_path_buf(), errno: errno.raw_os_error() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(json: &str) -> LinuxIntelRdt {
        serde_json::from_str(json).expect("a part of a configuration")
    }

    /// A file system as the kernel lays it out, with one class in it. The kernel fills new directories with files;
    /// here they are put there before.
    fn machine() -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a folder");
        for class in ["", "gold"] {
            let directory = root.path().join(class);
            std::fs::create_dir_all(directory.join("mon_groups")).expect("a folder");
            std::fs::write(directory.join("tasks"), "").expect("a file");
            std::fs::write(directory.join("schemata"), "    L3:0=00ff;1=ffff\n    MB:0=100;1=100\n")
                .expect("a file");
        }
        std::fs::create_dir_all(root.path().join("info/L3_MON")).expect("a folder");
        std::fs::write(root.path().join("info/L3_MON/mon_features"), "llc_occupancy\n").expect("a file");
        root
    }

    #[test]
    fn a_named_class_is_found_joined_and_left() {
        let root = machine();
        let class = Class::open(root.path(), &wanted(r#"{"closID": "gold"}"#), "c1").expect("it is there");
        class.enter(4711).expect("it is a list");
        class.update(Some("L3:0=1"), None).expect("a schema");
        let schemata = std::fs::read_to_string(root.path().join("gold/schemata")).expect("readable");
        assert!(schemata.ends_with("L3:0=1\n"), "{schemata}");
        assert!(class.update(None, Some("L3:0=1")).is_err());
        let tasks = std::fs::read_to_string(root.path().join("gold/tasks")).expect("readable");
        assert_eq!(tasks, "4711");
        class.remove().expect("nothing was made");
        assert!(root.path().join("gold").is_dir());
    }

    #[test]
    fn a_named_class_is_compared() {
        let root = machine();
        let same = r#"{"closID": "gold", "l3CacheSchema": "L3:0=ff", "memBwSchema": "MB:0=100;1=100"}"#;
        assert!(Class::open(root.path(), &wanted(same), "c1").is_ok());
        let other = r#"{"closID": "gold", "schemata": ["L3:0=f"]}"#;
        let error = Class::open(root.path(), &wanted(other), "c1").expect_err("it differs").to_string();
        let expected = r#"linux.intelRdt.closID "gold": the class has "0=00ff;1=ffff" for L3, not "0=f""#;
        assert_eq!(error, expected);
    }

    #[test]
    fn absent_classes() {
        let root = machine();
        let open = |json: &str| Class::open(root.path(), &wanted(json), "c1");
        assert_eq!(open(r#"{"closID": "iron"}"#), Err(ResctrlError::NoClass("iron".into())));
        for bad in ["..", "a/b", "info"] {
            let json = format!(r#"{{"closID": "{bad}"}}"#);
            assert_eq!(open(&json), Err(ResctrlError::Name(bad.into())));
        }
        let made = open(r#"{"schemata": []}"#).expect("the id is the name");
        assert!(root.path().join("c1").is_dir());
        made.remove().expect("empty");
        assert!(!root.path().join("c1").exists());
    }

    #[test]
    fn a_class_that_cannot_be_set_goes_again() {
        let root = machine();
        // No kernel puts a schemata file into the new directory here.
        let error = Class::open(root.path(), &wanted(r#"{"closID": "iron", "schemata": ["L3:0=f"]}"#), "c1");
        assert!(matches!(error, Err(ResctrlError::File { action: "write", .. })), "{error:?}");
        assert!(!root.path().join("iron").exists());
    }

    #[test]
    fn monitoring() {
        // The types know the older fields by other names than the specification's.
        let root = machine();
        let asked = r#"{"closID": "gold", "enableMonitoring": true, "enableCmt": true}"#;
        let class = Class::open(root.path(), &wanted(asked), "c1").expect("the machine counts that");
        let group = root.path().join("gold/mon_groups/c1");
        std::fs::write(group.join("tasks"), "").expect("a file");
        class.enter(12).expect("two lists");
        assert_eq!(std::fs::read_to_string(group.join("tasks")).expect("readable"), "12");
        std::fs::remove_file(group.join("tasks")).expect("the kernel's files go by themselves");
        class.remove().expect("empty");
        assert!(!group.exists() && root.path().join("gold").is_dir());
        let refused = Class::open(root.path(), &wanted(r#"{"closID": "gold", "enableMbm": true}"#), "c1");
        assert!(matches!(refused, Err(ResctrlError::NoMonitoring { feature: "mbm_total_bytes", .. })));
    }

    #[test]
    fn schemas_are_read() {
        let lines = schemas(&wanted(r#"{"l3CacheSchema": "L3:0=f", "schemata": ["L3:0=ff", "MB:0=20"]}"#));
        let expected = [("L3", "0=ff"), ("MB", "0=20")].map(|(a, b)| (a.to_owned(), b.to_owned()));
        assert_eq!(lines.expect("valid"), expected);
        for bad in [r#"{"l3CacheSchema": "MB:0=f"}"#, r#"{"memBwSchema": "x"}"#, r#"{"schemata": ["x"]}"#] {
            assert!(schemas(&wanted(bad)).is_err(), "{bad}");
        }
        let line = "30 23 0:26 / /sys/fs/resctrl rw,relatime - resctrl resctrl rw\n";
        assert_eq!(mount_point(line), Some("/sys/fs/resctrl".into()));
    }
}
