//! Volumes, binds and tmpfs: from `-v`, `--mount` and `--tmpfs` to what is mounted where.
//!
//! Pure: nothing here looks at the disk. Making missing directories and volumes is the create verb's
//! business, walking paths safely is the runtime's.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use ferry_api::container::{Mount, MountPoint};
use ferry_oci::Digest;
use ferry_oci::runtime::{self, LinuxIdMapping, LinuxIdMappingBuilder};
use serde::{Deserialize, Serialize};

/// The runtime's option for a place inside the source.
const SUBPATH_OPTION: &str = "x-ferry.subpath";
/// The runtime's option for a directory to be stacked, topmost first.
const LAYER_OPTION: &str = "x-ferry.layer";

/// Permissions of a secret that nobody gave any, as in Docker.
const SECRET_MODE: u32 = 0o444;

/// What kind of thing is mounted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MountKind {
    /// A path of the host.
    #[default]
    Bind,
    /// A volume of the store.
    Volume,
    /// Memory.
    Tmpfs,
    /// The files of an image, read-only.
    Image,
    /// A secret or config of the store, in memory while the container runs.
    Secret,
}

/// Who asked for a container: the user and group behind the other end of the engine's socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caller {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// How read-only reaches mounts below.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReadOnlyDepth {
    /// All the way where the kernel can.
    #[default]
    Recursive,
    /// Only the top.
    TopOnly,
    /// All the way, or no start.
    ForceRecursive,
}

/// One mount of a container, decided at its creation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MountPlan {
    /// What kind.
    pub kind: MountKind,
    /// The volume's name.
    pub name: String,
    /// Path on the host; filled in for volumes once they exist. Of an image its id.
    pub source: String,
    /// Path in the container, cleaned.
    pub destination: String,
    /// The options as given after the second colon.
    pub mode: String,
    /// Writes are refused.
    pub read_only: bool,
    /// Depth of `read_only`.
    pub read_only_depth: ReadOnlyDepth,
    /// Mounts below the source do not come along.
    pub non_recursive: bool,
    /// `rprivate`, `rslave`, ...
    pub propagation: String,
    /// A place inside the volume or image.
    pub subpath: String,
    /// Layers of the image, lowest first.
    pub layers: Vec<Digest>,
    /// Where those are, topmost first, or where a secret's file is; worked out at each start.
    #[serde(skip)]
    pub layer_paths: Vec<PathBuf>,
    /// Files of the container's user belong to the caller on the host (`idmap`).
    pub maps_ids: bool,
    /// Who that is.
    pub caller: Option<Caller>,
    /// Owner, group and permissions of a secret.
    pub file_uid: u32,
    /// Group.
    pub file_gid: u32,
    /// Permission bits.
    pub file_mode: u32,
    /// Options of a tmpfs.
    pub tmpfs_options: Vec<String>,
    /// The volume's driver.
    pub driver: String,
    /// The volume was made for this container and goes with it.
    pub anonymous: bool,
    /// A missing source is made as a directory (`-v`), or is an error (`--mount`).
    pub create_source: bool,
    /// An empty volume is not filled from the image.
    pub no_copy: bool,
    /// Options of a volume made by this mount.
    pub volume_options: BTreeMap<String, String>,
    /// Labels of a volume made by this mount.
    pub volume_labels: BTreeMap<String, String>,
}

/// A mount that cannot be understood; the texts are Docker's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MountError {
    /// `-v` with too few or too many parts.
    #[error("invalid volume specification: '{0}'")]
    Specification(String),
    /// An option nobody knows, or two that exclude each other.
    #[error("invalid mode: {0}")]
    Mode(String),
    /// A destination that is no absolute path.
    #[error(
        "invalid mount config for type \"{kind}\": invalid mount path: '{path}' mount path must be absolute"
    )]
    Relative {
        /// `bind`, `volume`, `tmpfs`.
        kind: &'static str,
        /// As given.
        path: String,
    },
    /// The root itself.
    #[error(
        "invalid volume specification: '{0}': invalid mount config for type \"{1}\": invalid specification: destination can't be '/'"
    )]
    Root(String, &'static str),
    /// Something that is needed is empty.
    #[error("invalid mount config for type \"{kind}\": field {field} must not be empty")]
    Missing {
        /// `bind`, `volume`, `tmpfs`.
        kind: &'static str,
        /// Docker's field name.
        field: &'static str,
    },
    /// Something is set that this kind does not have.
    #[error("invalid mount config for type \"{kind}\": field {field} must not be specified")]
    Extra {
        /// `bind`, `volume`, `tmpfs`.
        kind: &'static str,
        /// Docker's field name.
        field: &'static str,
    },
    /// A volume name with characters that are not allowed.
    #[error(
        "{0:?} includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path"
    )]
    VolumeName(String),
    /// A kind that is not there.
    #[error("invalid mount config: mount type unknown: {0:?}")]
    Kind(String),
    /// Two mounts at one place.
    #[error("Duplicate mount point: {0}")]
    Duplicate(String),
    /// A propagation nobody knows.
    #[error("invalid propagation mode: {0}")]
    Propagation(String),
    /// Options of a tmpfs that are not allowed.
    #[error("invalid tmpfs option {0:?}")]
    TmpfsOption(String),
    /// A subpath that leaves the volume.
    #[error("invalid subpath {0:?}: it must be relative and stay inside the volume")]
    Subpath(String),
}

impl MountKind {
    /// Docker's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bind => "bind",
            Self::Volume => "volume",
            Self::Tmpfs => "tmpfs",
            Self::Image => "image",
            Self::Secret => "secret",
        }
    }
}

impl MountPlan {
    fn new(kind: MountKind, destination: String) -> Self {
        Self { kind, destination, ..Self::default() }
    }

    /// A volume at a place that the image names.
    pub fn anonymous_volume(destination: &str) -> Result<Self, MountError> {
        let mut plan =
            Self::new(MountKind::Volume, clean_destination(destination, MountKind::Volume, destination)?);
        plan.set_volume_name("")?;
        Ok(plan)
    }

    /// Reads `-v`: `dst`, `src:dst` or `src:dst:options`.
    pub fn parse_bind(text: &str) -> Result<Self, MountError> {
        let refuse = || MountError::Specification(text.to_owned());
        let parts: Vec<&str> = text.split(':').collect();
        let (source, destination, mode) = match parts[..] {
            [destination] => ("", destination, ""),
            [source, destination] => (source, destination, ""),
            [source, destination, mode] => (source, destination, mode),
            _ => return Err(refuse()),
        };
        if destination.is_empty() || (parts.len() > 1 && source.is_empty()) {
            return Err(refuse());
        }
        let kind = if source.starts_with('/') { MountKind::Bind } else { MountKind::Volume };
        let mut plan = Self::new(kind, clean_destination(text, kind, destination)?);
        plan.mode = mode.to_owned();
        if kind == MountKind::Bind {
            plan.source = clean(source);
            plan.create_source = true;
            plan.propagation = "rprivate".into();
        } else {
            plan.set_volume_name(source)?;
        }
        plan.apply_mode(mode)?;
        Ok(plan)
    }

    fn set_volume_name(&mut self, name: &str) -> Result<(), MountError> {
        self.driver = "local".into();
        self.anonymous = name.is_empty();
        if !name.is_empty() && !is_volume_name(name) {
            return Err(MountError::VolumeName(name.to_owned()));
        }
        self.name = name.to_owned();
        Ok(())
    }

    fn apply_mode(&mut self, mode: &str) -> Result<(), MountError> {
        let (mut access, mut label, mut propagation, mut copy) = (0, 0, 0, 0);
        for option in mode.split(',').filter(|_| !mode.is_empty()) {
            match option {
                "ro" | "rw" => {
                    access += 1;
                    self.read_only = option == "ro";
                }
                "z" | "Z" => label += 1,
                "nocopy" if self.kind == MountKind::Volume => {
                    copy += 1;
                    self.no_copy = true;
                }
                "consistent" | "cached" | "delegated" => {}
                "idmap" if self.kind == MountKind::Bind => self.maps_ids = true,
                option if is_propagation(option) && self.kind == MountKind::Bind => {
                    propagation += 1;
                    self.propagation = option.to_owned();
                }
                _ => return Err(MountError::Mode(mode.to_owned())),
            }
        }
        if access > 1 || label > 1 || propagation > 1 || copy > 1 {
            return Err(MountError::Mode(mode.to_owned()));
        }
        Ok(())
    }

    /// One of `HostConfig.VolumesFrom`: another container's mount, with its access changed.
    pub fn inherited(&self, read_only: bool) -> Self {
        Self { read_only: self.read_only || read_only, anonymous: false, ..self.clone() }
    }

    /// Reads one of `HostConfig.Mounts`.
    pub fn from_mount(mount: &Mount) -> Result<Self, MountError> {
        let kind = match mount.kind.as_str() {
            "bind" => MountKind::Bind,
            "volume" => MountKind::Volume,
            "tmpfs" => MountKind::Tmpfs,
            "image" => MountKind::Image,
            "secret" | "config" => MountKind::Secret,
            other => return Err(MountError::Kind(other.to_owned())),
        };
        if mount.target.is_empty() {
            return Err(MountError::Missing { kind: kind.as_str(), field: "Target" });
        }
        refuse_foreign_options(kind, mount)?;
        let mut plan = Self::new(kind, clean_destination(&mount.target, kind, &mount.target)?);
        plan.read_only = mount.read_only;
        match kind {
            MountKind::Bind => plan.fill_bind(mount)?,
            MountKind::Volume => plan.fill_volume(mount)?,
            MountKind::Tmpfs => plan.fill_tmpfs(mount)?,
            MountKind::Image => plan.fill_image(mount)?,
            MountKind::Secret => plan.fill_secret(mount)?,
        }
        Ok(plan)
    }

    fn fill_bind(&mut self, mount: &Mount) -> Result<(), MountError> {
        if mount.source.is_empty() {
            return Err(MountError::Missing { kind: "bind", field: "Source" });
        }
        if !mount.source.starts_with('/') {
            return Err(MountError::Relative { kind: "bind", path: mount.source.clone() });
        }
        self.source = clean(&mount.source);
        let options = mount.bind_options.clone().unwrap_or_default();
        if !options.propagation.is_empty() && !is_propagation(&options.propagation) {
            return Err(MountError::Propagation(options.propagation));
        }
        self.propagation =
            if options.propagation.is_empty() { "rprivate".into() } else { options.propagation };
        self.non_recursive = options.non_recursive;
        self.create_source = options.create_mountpoint;
        self.read_only_depth = match (options.read_only_non_recursive, options.read_only_force_recursive) {
            (true, _) => ReadOnlyDepth::TopOnly,
            (false, true) => ReadOnlyDepth::ForceRecursive,
            (false, false) => ReadOnlyDepth::Recursive,
        };
        Ok(())
    }

    fn fill_volume(&mut self, mount: &Mount) -> Result<(), MountError> {
        self.set_volume_name(&mount.source)?;
        let options = mount.volume_options.clone().unwrap_or_default();
        self.no_copy = options.no_copy;
        self.volume_labels = options.labels;
        if let Some(driver) = options.driver_config {
            if !driver.name.is_empty() {
                self.driver = driver.name;
            }
            self.volume_options = driver.options;
        }
        self.set_subpath(options.subpath)
    }

    fn set_subpath(&mut self, subpath: String) -> Result<(), MountError> {
        let inside = |part: Component<'_>| matches!(part, Component::Normal(_));
        if !Path::new(&subpath).components().all(inside) {
            return Err(MountError::Subpath(subpath));
        }
        self.subpath = subpath;
        Ok(())
    }

    fn fill_image(&mut self, mount: &Mount) -> Result<(), MountError> {
        if mount.source.is_empty() {
            return Err(MountError::Missing { kind: "image", field: "Source" });
        }
        self.name.clone_from(&mount.source);
        self.read_only = true;
        self.set_subpath(mount.image_options.clone().unwrap_or_default().subpath)
    }

    fn fill_secret(&mut self, mount: &Mount) -> Result<(), MountError> {
        if mount.source.is_empty() {
            return Err(MountError::Missing { kind: "secret", field: "Source" });
        }
        self.name.clone_from(&mount.source);
        self.driver.clone_from(&mount.kind);
        self.read_only = true;
        let options = mount.file_options.clone().unwrap_or_default();
        (self.file_uid, self.file_gid) = (options.uid, options.gid);
        self.file_mode = options.mode.unwrap_or(SECRET_MODE) & 0o7777;
        Ok(())
    }

    fn fill_tmpfs(&mut self, mount: &Mount) -> Result<(), MountError> {
        if !mount.source.is_empty() {
            return Err(MountError::Extra { kind: "tmpfs", field: "Source" });
        }
        let Some(options) = &mount.tmpfs_options else { return Ok(()) };
        if options.size_bytes > 0 {
            self.tmpfs_options.push(format!("size={}", options.size_bytes));
        }
        if options.mode != 0 {
            self.tmpfs_options.push(format!("mode={:o}", options.mode));
        }
        for words in options.options.iter().flatten() {
            let option = words.join("=");
            check_tmpfs_option(&option)?;
            self.tmpfs_options.push(option);
        }
        Ok(())
    }

    /// As inspect shows it.
    pub fn point(&self) -> MountPoint {
        MountPoint {
            kind: self.kind.as_str().into(),
            name: self.name.clone(),
            source: self.source.clone(),
            destination: self.destination.clone(),
            driver: self.driver.clone(),
            mode: self.mode.clone(),
            rw: !self.read_only,
            propagation: self.propagation.clone(),
        }
    }

    /// As the runtime takes it.
    pub fn to_runtime(&self) -> runtime::Mount {
        let mut mount = runtime::Mount::default();
        mount.set_destination(self.destination.clone().into());
        if self.kind == MountKind::Tmpfs {
            mount.set_typ(Some("tmpfs".into()));
            mount.set_source(Some("tmpfs".into()));
            mount.set_options(Some(tmpfs_options(&self.tmpfs_options, self.read_only)));
            return mount;
        }
        // The runtime walks the path inside: a container may put links where a directory was.
        let subpath = Some(&self.subpath).filter(|subpath| !subpath.is_empty());
        let mut options: Vec<String> =
            subpath.into_iter().map(|subpath| format!("{SUBPATH_OPTION}={subpath}")).collect();
        if self.kind == MountKind::Image {
            options.extend(self.layer_paths.iter().map(|path| format!("{LAYER_OPTION}={}", path.display())));
            mount.set_typ(Some("overlay".into()));
            mount.set_options(Some(options));
            return mount;
        }
        options.extend(self.bind_options());
        mount.set_typ(Some("bind".into()));
        let source = match self.kind {
            MountKind::Secret => self.layer_paths.first().cloned().unwrap_or_default(),
            _ => self.source.clone().into(),
        };
        mount.set_source(Some(source));
        mount.set_options(Some(options));
        mount
    }

    /// The mappings of an `idmap` mount: what the caller owns on the host is the container's user's, all
    /// other ids are themselves. What on the host has the user's own number is nobody's, unless the
    /// two are one.
    pub fn id_mappings(&self, uid: u32, gid: u32) -> Option<(Vec<LinuxIdMapping>, Vec<LinuxIdMapping>)> {
        let caller = self.caller.filter(|_| self.maps_ids)?;
        if (caller.uid, caller.gid) == (uid, gid) {
            return None;
        }
        Some((one_for_another(caller.uid, uid), one_for_another(caller.gid, gid)))
    }

    fn bind_options(&self) -> Vec<String> {
        let mut options = vec![if self.non_recursive { "bind" } else { "rbind" }.to_owned()];
        let propagation = if self.propagation.is_empty() { "rprivate" } else { &self.propagation };
        options.push(propagation.to_owned());
        if self.read_only {
            options.push("ro".into());
            if self.read_only_depth != ReadOnlyDepth::TopOnly && !self.non_recursive {
                options.push("rro".into());
            }
        }
        options
    }
}

/// A map of ids in which `host` is shown as `inside`.
fn one_for_another(host: u32, inside: u32) -> Vec<LinuxIdMapping> {
    let entry = |container_id: u32, host_id: u32, size: u32| {
        // In a mount's map the first number is the one on disk.
        let entry = LinuxIdMappingBuilder::default().container_id(container_id).host_id(host_id).size(size);
        entry.build().expect("every field is set")
    };
    // The last number there is means "no id".
    let (low, high) = (host.min(inside), host.max(inside));
    let ranges = if low == high {
        vec![(0, u32::MAX)]
    } else {
        vec![(0, low), (low + 1, high), (high.saturating_add(1), u32::MAX)]
    };
    let mut map: Vec<LinuxIdMapping> = ranges
        .into_iter()
        .filter(|(start, end)| start < end)
        .map(|(start, end)| entry(start, start, end - start))
        .collect();
    if low != high {
        map.push(entry(host, inside, 1));
    }
    map
}

fn refuse_foreign_options(kind: MountKind, mount: &Mount) -> Result<(), MountError> {
    let extra = |field| Err(MountError::Extra { kind: kind.as_str(), field });
    if mount.bind_options.is_some() && kind != MountKind::Bind {
        return extra("BindOptions");
    }
    if mount.volume_options.is_some() && kind != MountKind::Volume {
        return extra("VolumeOptions");
    }
    if mount.tmpfs_options.is_some() && kind != MountKind::Tmpfs {
        return extra("TmpfsOptions");
    }
    if mount.file_options.is_some() && kind != MountKind::Secret {
        return extra("FileOptions");
    }
    if mount.image_options.is_some() && kind != MountKind::Image {
        return extra("ImageOptions");
    }
    Ok(())
}

fn clean_destination(text: &str, kind: MountKind, destination: &str) -> Result<String, MountError> {
    if !destination.starts_with('/') {
        return Err(MountError::Relative { kind: kind.as_str(), path: destination.to_owned() });
    }
    let cleaned = clean(destination);
    if cleaned == "/" {
        return Err(MountError::Root(text.to_owned(), kind.as_str()));
    }
    Ok(cleaned)
}

/// Go's `filepath.Clean` of an absolute path.
pub fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

fn is_volume_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    bytes.len() > 1
        && bytes[0].is_ascii_alphanumeric()
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
}

fn is_propagation(option: &str) -> bool {
    matches!(option, "private" | "rprivate" | "shared" | "rshared" | "slave" | "rslave")
}

/// Mount flags that Docker lets through to a tmpfs.
const TMPFS_FLAGS: &[&str] = &[
    "ro",
    "rw",
    "exec",
    "noexec",
    "suid",
    "nosuid",
    "dev",
    "nodev",
    "sync",
    "async",
    "dirsync",
    "mand",
    "nomand",
    "atime",
    "noatime",
    "diratime",
    "nodiratime",
    "relatime",
    "norelatime",
    "strictatime",
    "nostrictatime",
    "private",
    "rprivate",
    "shared",
    "rshared",
    "slave",
    "rslave",
    "unbindable",
    "runbindable",
    "defaults",
];

/// Options with a value that a tmpfs takes.
const TMPFS_VALUES: &[&str] = &["mode", "uid", "gid", "nr_inodes", "nr_blocks", "size", "mpol"];

fn check_tmpfs_option(option: &str) -> Result<(), MountError> {
    let known = match option.split_once('=') {
        None => TMPFS_FLAGS.contains(&option),
        Some((word, value)) => TMPFS_VALUES.contains(&word) && !value.is_empty(),
    };
    if known { Ok(()) } else { Err(MountError::TmpfsOption(option.to_owned())) }
}

/// Options of a tmpfs: Docker's safe defaults first, what was asked for after them.
fn tmpfs_options(asked: &[String], read_only: bool) -> Vec<String> {
    let mut options: Vec<String> = ["noexec", "nosuid", "nodev", "rprivate"].map(str::to_owned).into();
    for option in asked {
        let opposite = match option.as_str() {
            "exec" => "noexec",
            "suid" => "nosuid",
            "dev" => "nodev",
            _ => "",
        };
        options.retain(|it| it != opposite && it != option);
        options.push(option.clone());
    }
    if read_only {
        options.push("ro".into());
    }
    options
}

/// One of `HostConfig.Tmpfs`: destination and comma-separated options.
pub fn parse_tmpfs(destination: &str, options: &str) -> Result<MountPlan, MountError> {
    let mut plan =
        MountPlan::new(MountKind::Tmpfs, clean_destination(destination, MountKind::Tmpfs, destination)?);
    for option in options.split(',').filter(|option| !option.is_empty()) {
        check_tmpfs_option(option)?;
        plan.tmpfs_options.push(option.to_owned());
    }
    Ok(plan)
}

/// Parents before children, else as given; refuses two at one place.
pub fn order(mut plans: Vec<MountPlan>) -> Result<Vec<MountPlan>, MountError> {
    for (index, plan) in plans.iter().enumerate() {
        if plans[..index].iter().any(|earlier| earlier.destination == plan.destination) {
            return Err(MountError::Duplicate(plan.destination.clone()));
        }
    }
    plans.sort_by_key(|plan| plan.destination.matches('/').count());
    Ok(plans)
}

#[cfg(test)]
mod tests {
    use ferry_api::container::{BindOptions, TmpfsOptions, VolumeOptions};

    use super::*;

    #[test]
    fn binds_parse() {
        for (text, kind, source, name, destination, read_only, propagation) in [
            ("/a:/b", MountKind::Bind, "/a", "", "/b", false, "rprivate"),
            ("/a/../c/:/b//d/", MountKind::Bind, "/c", "", "/b/d", false, "rprivate"),
            ("/a:/b:ro", MountKind::Bind, "/a", "", "/b", true, "rprivate"),
            ("/a:/b:ro,rslave,z", MountKind::Bind, "/a", "", "/b", true, "rslave"),
            ("data:/b", MountKind::Volume, "", "data", "/b", false, ""),
            ("data:/b:nocopy,ro", MountKind::Volume, "", "data", "/b", true, ""),
            ("/b", MountKind::Volume, "", "", "/b", false, ""),
        ] {
            let plan = MountPlan::parse_bind(text).expect(text);
            assert_eq!(
                (plan.kind, plan.source.as_str(), plan.name.as_str(), plan.destination.as_str()),
                (kind, source, name, destination),
                "{text}"
            );
            assert_eq!((plan.read_only, plan.propagation.as_str()), (read_only, propagation), "{text}");
            assert_eq!(plan.anonymous, text == "/b");
        }
    }

    #[test]
    fn bad_binds_say_why() {
        for (text, message) in [
            ("", "invalid volume specification: ''"),
            (":/b", "invalid volume specification: ':/b'"),
            ("/a:/b:ro:x", "invalid volume specification: '/a:/b:ro:x'"),
            ("/a:/b:rx", "invalid mode: rx"),
            ("/a:/b:ro,rw", "invalid mode: ro,rw"),
            ("data:/b:rshared", "invalid mode: rshared"),
            (
                "/a:b",
                "invalid mount config for type \"bind\": invalid mount path: 'b' mount path must be absolute",
            ),
            (
                "/a:/",
                "invalid volume specification: '/a:/': invalid mount config for type \"bind\": invalid specification: destination can't be '/'",
            ),
            (
                "./data:/b",
                "\"./data\" includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path",
            ),
        ] {
            assert_eq!(MountPlan::parse_bind(text).expect_err(text).to_string(), message, "{text}");
        }
    }

    fn mount(kind: &str, source: &str, target: &str) -> Mount {
        Mount { kind: kind.into(), source: source.into(), target: target.into(), ..Mount::default() }
    }

    #[test]
    fn long_mounts_become_runtime_mounts() {
        let bind = Mount {
            read_only: true,
            bind_options: Some(BindOptions { propagation: "rshared".into(), ..BindOptions::default() }),
            ..mount("bind", "/src", "/dst")
        };
        let options = MountPlan::from_mount(&bind).unwrap().to_runtime().options().clone();
        assert_eq!(options.unwrap(), ["rbind", "rshared", "ro", "rro"]);
        let tmpfs = Mount {
            tmpfs_options: Some(TmpfsOptions { size_bytes: 1024, mode: 0o1777, ..TmpfsOptions::default() }),
            ..mount("tmpfs", "", "/tmp")
        };
        let options = MountPlan::from_mount(&tmpfs).unwrap().to_runtime().options().clone();
        assert_eq!(options.unwrap(), ["noexec", "nosuid", "nodev", "rprivate", "size=1024", "mode=1777"]);
        let volume = Mount {
            volume_options: Some(VolumeOptions { subpath: "a/b".into(), ..VolumeOptions::default() }),
            ..mount("volume", "data", "/d")
        };
        let mut plan = MountPlan::from_mount(&volume).unwrap();
        plan.source = "/volumes/data".into();
        let mount = plan.to_runtime();
        assert_eq!(mount.source().as_deref(), Some(Path::new("/volumes/data")));
        assert_eq!(mount.options().clone().unwrap()[0], "x-ferry.subpath=a/b");
    }

    #[test]
    fn mapped_ids_exchange_one_and_keep_the_rest() {
        let mut plan = MountPlan::parse_bind("/a:/b:idmap,ro").unwrap();
        plan.caller = Some(Caller { uid: 1000, gid: 0 });
        let (uid, gid) = plan.id_mappings(0, 0).unwrap();
        let shown = |map: &[LinuxIdMapping]| -> Vec<(u32, u32, u32)> {
            map.iter().map(|entry| (entry.container_id(), entry.host_id(), entry.size())).collect()
        };
        assert_eq!(shown(&uid), [(1, 1, 999), (1001, 1001, u32::MAX - 1001), (1000, 0, 1)]);
        assert_eq!(shown(&gid), [(0, 0, u32::MAX)]);
        assert_eq!(plan.id_mappings(1000, 0), None, "nothing to exchange");
        assert_eq!(MountPlan::parse_bind("v1:/b:idmap").unwrap_err().to_string(), "invalid mode: idmap");
    }

    #[test]
    fn bad_long_mounts_say_why() {
        let climbing = Mount {
            volume_options: Some(VolumeOptions { subpath: "../x".into(), ..VolumeOptions::default() }),
            ..mount("volume", "data", "/d")
        };
        for (mount, message) in [
            (mount("cluster", "", "/x"), "invalid mount config: mount type unknown: \"cluster\""),
            (
                mount("bind", "", "/x"),
                "invalid mount config for type \"bind\": field Source must not be empty",
            ),
            (
                mount("tmpfs", "/y", "/x"),
                "invalid mount config for type \"tmpfs\": field Source must not be specified",
            ),
            (
                mount("volume", "v1", ""),
                "invalid mount config for type \"volume\": field Target must not be empty",
            ),
            (climbing, "invalid subpath \"../x\": it must be relative and stay inside the volume"),
        ] {
            assert_eq!(MountPlan::from_mount(&mount).expect_err(message).to_string(), message);
        }
    }

    #[test]
    fn tmpfs_options_replace_the_safe_defaults_they_contradict() {
        let plan = parse_tmpfs("/run", "exec,size=64m").unwrap();
        assert_eq!(
            plan.to_runtime().options().clone().unwrap(),
            ["nosuid", "nodev", "rprivate", "exec", "size=64m"]
        );
        assert_eq!(
            parse_tmpfs("/run", "lowerdir=/etc"),
            Err(MountError::TmpfsOption("lowerdir=/etc".into()))
        );
        assert_eq!(parse_tmpfs("/run", "size="), Err(MountError::TmpfsOption("size=".into())));
    }

    #[test]
    fn parents_come_first_and_places_are_unique() {
        let plans = ["/a/b:/x/y/z", "/a:/x", "/c:/x/y"].map(|text| MountPlan::parse_bind(text).unwrap());
        let places: Vec<_> = order(plans.into()).unwrap().into_iter().map(|plan| plan.destination).collect();
        assert_eq!(places, ["/x", "/x/y", "/x/y/z"]);
        let twice = ["/a:/x", "/b:/x/"].map(|text| MountPlan::parse_bind(text).unwrap());
        assert_eq!(order(twice.into()), Err(MountError::Duplicate("/x".into())));
    }
}
