//! Volumes, binds and tmpfs: from `-v`, `--mount` and `--tmpfs` to what is mounted where.
//!
//! Pure: nothing here looks at the disk. Making missing directories and volumes is the create verb's
//! business, walking paths safely is the runtime's.

mod error;
mod lower;
mod tmpfs;

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use ferry_api::container::{Mount, MountPoint};
use ferry_oci::Digest;
use serde::{Deserialize, Serialize};

pub use error::MountError;
use tmpfs::check_tmpfs_option;
pub use tmpfs::parse_tmpfs;

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
mod tests;
