//! Volumes: named directories that outlive containers.
//!
//! Owns `volumes/` and the table `volumes`. Who uses a volume is the engine's knowledge; mounting
//! one with driver options is the runtime's business.

mod error;
mod names;
mod snapshot;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};

use serde::{Deserialize, Serialize};

use crate::copy;
use crate::database::{Batch, Database, Table};
use crate::error::{IoError, OpenError};
use crate::files;
use crate::layout::Layout;

use names::Names;

pub use error::VolumeError;
pub use snapshot::VolumeSnapshot;

/// Label of volumes that got no name from a person.
pub const ANONYMOUS_LABEL: &str = "com.docker.volume.anonymous";
/// Longest name: a directory's name.
const NAME_MAX: usize = 255;

/// A volume.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// Always `local`.
    pub driver: String,
    /// Driver options (`type`, `o`, `device`).
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    /// Labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// When it was made, RFC 3339.
    pub created: String,
    /// Its data directory on the host.
    #[serde(skip)]
    pub mountpoint: PathBuf,
}

impl Volume {
    /// Whether no person named it.
    pub fn is_anonymous(&self) -> bool {
        self.labels.contains_key(ANONYMOUS_LABEL)
    }

    /// What is mounted at its data directory while it is used (the driver option `device`).
    pub fn device(&self) -> Option<&str> {
        self.options.get("device").map(String::as_str).filter(|device| !device.is_empty())
    }

    /// Whether something is mounted at its data directory now.
    pub fn is_mounted(&self) -> bool {
        is_mount_root(&self.mountpoint)
    }
}

/// What [`Volumes::create`] takes.
#[derive(Debug, Clone, Default)]
pub struct VolumeSpec {
    /// The name; a random one (and the label of anonymous volumes) when absent.
    pub name: Option<String>,
    /// The driver; `local` when absent.
    pub driver: Option<String>,
    /// Driver options.
    pub options: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// The volumes.
pub struct Volumes {
    layout: Arc<Layout>,
    database: Arc<Database>,
    table: Table<Volume>,
    index: RwLock<BTreeMap<String, Arc<Volume>>>,
    /// Held over a whole change, durable write included; readers never wait for it.
    changing: Names,
}

const POISONED: &str = "no thread panics while it holds the volume index";

impl Volumes {
    pub(crate) fn open(layout: &Arc<Layout>, database: &Arc<Database>) -> Result<Volumes, OpenError> {
        let table: Table<Volume> = Table::new(database, "volumes");
        let mut index = BTreeMap::new();
        let records = table.list_each()?;
        settle_removals(layout, &records.iter().map(|(name, _)| name).collect())?;
        for (name, record) in records {
            match record {
                Ok(mut volume) => {
                    volume.mountpoint = mountpoint(layout, &name);
                    if !volume.mountpoint.is_dir() {
                        tracing::error!(volume = name, "data directory is missing; it is made again, empty");
                        make_directories(layout, &name)?;
                    }
                    index.insert(name, Arc::new(volume));
                }
                Err(error) => {
                    tracing::error!(
                        volume = name,
                        error = &error as &dyn std::error::Error,
                        "record is unusable"
                    );
                }
            }
        }
        let (layout, database) = (Arc::clone(layout), Arc::clone(database));
        let index = RwLock::new(index);
        Ok(Volumes { layout, database, table, index, changing: Names::default() })
    }

    /// Makes a volume durably, or gives the one of this name.
    pub fn create(&self, spec: VolumeSpec) -> Result<Arc<Volume>, VolumeError> {
        let VolumeSpec { name, driver, options, mut labels } = spec;
        let name = match name.filter(|name| !name.is_empty()) {
            Some(name) => name,
            None => {
                labels.insert(ANONYMOUS_LABEL.to_owned(), String::new());
                files::random_id()
            }
        };
        check_name(&name)?;
        let driver = driver.filter(|driver| !driver.is_empty()).unwrap_or_else(|| "local".to_owned());
        if driver != "local" {
            return Err(VolumeError::Driver(driver));
        }
        check_options(&name, &options)?;
        let _changing = self.changing.one(&name);
        if let Ok(known) = self.get(&name) {
            return Ok(known);
        }
        self.discard_orphan(&name)?;
        make_directories(&self.layout, &name)?;
        files::sync_path(&self.layout.volumes())?;
        let mountpoint = mountpoint(&self.layout, &name);
        self.enter(Volume { name, driver, options, labels, created: files::now(), mountpoint })
    }

    /// Makes a volume known whose directory is there, durably.
    fn enter(&self, volume: Volume) -> Result<Arc<Volume>, VolumeError> {
        self.table.put(&volume.name, &volume)?;
        let volume = Arc::new(volume);
        self.index.write().expect(POISONED).insert(volume.name.clone(), Arc::clone(&volume));
        Ok(volume)
    }

    /// A directory without a record is what a process left that was killed while it made or removed a
    /// volume of this name: nobody was told that it exists.
    fn discard_orphan(&self, name: &str) -> Result<(), VolumeError> {
        if is_mount_root(&mountpoint(&self.layout, name)) {
            return Err(VolumeError::Mounted(name.to_owned()));
        }
        self.layout.discard(&self.layout.volumes().join(name))?;
        Ok(())
    }

    /// Fills an empty volume: `fill` writes into a directory beside the data, which takes the data's
    /// place when it is whole. Killed or failed half-way, the volume is as empty as before. What is
    /// in the volume meanwhile is not overwritten: then the new data goes. Where something is mounted at
    /// the data directory, the data is written there itself, and taken away again after a failure.
    pub fn fill<E: From<IoError>>(
        &self,
        name: &str,
        fill: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<(), E> {
        let mounted = mountpoint(&self.layout, name);
        if is_mount_root(&mounted) {
            return fill(&mounted).inspect_err(|_| {
                if let Err(error) = copy::clear(&mounted) {
                    tracing::warn!(volume = name, error = &error as &dyn std::error::Error, "take back");
                }
            });
        }
        let scratch = self.layout.scratch_dir().join(files::unique_name());
        files::create_dir(&scratch, 0o755)?;
        let filled = fill(&scratch).and_then(|()| {
            let mountpoint = mountpoint(&self.layout, name);
            match std::fs::rename(&scratch, &mountpoint) {
                Err(error) if error.kind() != std::io::ErrorKind::DirectoryNotEmpty => {
                    Err(IoError::new("fill", &mountpoint)(error).into())
                }
                _ => Ok(()),
            }
        });
        // Gone already when it took its place.
        self.layout.discard(&scratch)?;
        filled
    }

    /// The volume of this name.
    pub fn get(&self, name: &str) -> Result<Arc<Volume>, VolumeError> {
        let index = self.index.read().expect(POISONED);
        index.get(name).cloned().ok_or_else(|| VolumeError::NotFound(name.to_owned()))
    }

    /// All volumes by name.
    pub fn list(&self) -> Vec<Arc<Volume>> {
        self.index.read().expect(POISONED).values().cloned().collect()
    }

    /// Removes a volume and its data, durably; whether it is in use is the caller's knowledge.
    pub fn remove(&self, name: &str) -> Result<(), VolumeError> {
        self.remove_all(std::slice::from_ref(&name.to_owned()))
    }

    /// Removes volumes and their data with one durable write: all of them or, where one of them cannot
    /// go, none.
    pub fn remove_all(&self, names: &[String]) -> Result<(), VolumeError> {
        let _changing = self.changing.all(names);
        let mut batch = Batch::new();
        for name in names {
            // Emptying the trash must not reach what is mounted.
            if self.get(name)?.is_mounted() {
                return Err(VolumeError::Mounted(name.clone()));
            }
            self.table.remove_in(&mut batch, name);
        }
        // Killed in between, the next start sees by the record which way it went.
        let put_aside = names.iter().try_for_each(|name| put_aside(&self.layout, name));
        if let Err(error) =
            put_aside.map_err(VolumeError::from).and_then(|()| Ok(self.database.commit(batch)?))
        {
            for name in names {
                put_back(&self.layout, name)?;
            }
            return Err(error);
        }
        for name in names {
            self.index.write().expect(POISONED).remove(name);
            self.layout.discard(&leaving(&self.layout, name))?;
        }
        Ok(())
    }
}

/// Beginning of the name of a folder whose volume is being removed; no volume's name begins so.
const LEAVING: &str = ".leaving-";

fn leaving(layout: &Layout, name: &str) -> PathBuf {
    layout.volumes().join(format!("{LEAVING}{name}"))
}

fn put_aside(layout: &Layout, name: &str) -> Result<(), IoError> {
    move_if_there(&layout.volumes().join(name), &leaving(layout, name))
}

fn put_back(layout: &Layout, name: &str) -> Result<(), IoError> {
    move_if_there(&leaving(layout, name), &layout.volumes().join(name))
}

fn move_if_there(from: &Path, to: &Path) -> Result<(), IoError> {
    match std::fs::rename(from, to) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(IoError::new("rename", from)(error))
        }
        _ => Ok(()),
    }
}

/// Ends removals that were broken off: with a record the volume stays, without one its folder goes.
fn settle_removals(layout: &Layout, recorded: &BTreeSet<&String>) -> Result<(), IoError> {
    for entry in files::list_dir(&layout.volumes())? {
        let Some(name) = entry.strip_prefix(LEAVING) else { continue };
        if recorded.contains(&name.to_owned()) {
            put_back(layout, name)?;
        } else {
            layout.discard(&leaving(layout, name))?;
        }
    }
    Ok(())
}

fn mountpoint(layout: &Layout, name: &str) -> PathBuf {
    layout.volumes().join(name).join("_data")
}

/// Whether a directory is where another file system (or another place of the same) is mounted.
fn is_mount_root(path: &Path) -> bool {
    use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};
    statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::empty())
        .is_ok_and(|stat| stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

fn make_directories(layout: &Layout, name: &str) -> Result<(), IoError> {
    files::ensure_dir(&layout.volumes().join(name), 0o711)?;
    files::ensure_dir(&mountpoint(layout, name), 0o755)
}

fn check_name(name: &str) -> Result<(), VolumeError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    if !name.bytes().all(allowed) || !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return Err(VolumeError::Name(name.to_owned()));
    }
    if name.len() < 2 || name.len() > NAME_MAX {
        return Err(VolumeError::NameLength { name: name.to_owned(), length: name.len() });
    }
    Ok(())
}

/// The options of Docker's local driver: none, or those of mount(8).
fn check_options(name: &str, options: &BTreeMap<String, String>) -> Result<(), VolumeError> {
    let known = ["type", "o", "device", "size"];
    if let Some(option) = options.keys().find(|option| !known.contains(&option.as_str())) {
        return Err(VolumeError::Option { name: name.to_owned(), option: option.clone() });
    }
    if options.contains_key("size") {
        return Err(VolumeError::NoQuota(name.to_owned()));
    }
    let given = |option: &str| options.get(option).is_some_and(|value| !value.is_empty());
    for (option, needs) in [("type", "device"), ("device", "type"), ("o", "device")] {
        if given(option) && !given(needs) {
            return Err(VolumeError::MissingOption { name: name.to_owned(), option: needs });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volumes() -> (tempfile::TempDir, Volumes) {
        let directory = tempfile::tempdir().unwrap();
        let layout = Arc::new(Layout::prepare(&directory.path().join("data")).unwrap());
        let database = Arc::new(Database::open(&layout.database()).unwrap());
        (directory, Volumes::open(&layout, &database).unwrap())
    }

    fn spec(name: &str) -> VolumeSpec {
        VolumeSpec { name: Some(name.to_owned()), ..VolumeSpec::default() }
    }

    #[test]
    fn a_volume_lives() {
        let (_directory, volumes) = volumes();
        let made = volumes.create(spec("data")).unwrap();
        assert_eq!(volumes.create(spec("data")).unwrap(), made, "creating again gives the same");
        assert!(made.mountpoint.is_dir());
        let anonymous = volumes.create(VolumeSpec::default()).unwrap();
        assert!(anonymous.is_anonymous() && anonymous.name.len() == 64);
        assert_eq!(volumes.list().len(), 2);
        volumes.remove("data").unwrap();
        assert!(!made.mountpoint.exists());
        assert_eq!(volumes.remove("data").unwrap_err().to_string(), "get data: no such volume");
    }

    #[test]
    fn filling_is_whole_or_not_at_all() {
        let (_directory, volumes) = volumes();
        let volume = volumes.create(spec("data")).unwrap();
        let failed: Result<(), IoError> = volumes.fill("data", |directory| {
            std::fs::write(directory.join("half"), "").unwrap();
            Err(IoError::new("copy", directory)(std::io::ErrorKind::StorageFull))
        });
        assert!(failed.is_err_and(|error| error.is_no_space()));
        assert_eq!(std::fs::read_dir(&volume.mountpoint).unwrap().count(), 0);
        for content in ["first", "second"] {
            let filled: Result<(), IoError> = volumes.fill("data", |directory| {
                std::fs::write(directory.join("file"), content).map_err(IoError::new("write", directory))
            });
            filled.unwrap();
        }
        assert_eq!(std::fs::read_to_string(volume.mountpoint.join("file")).unwrap(), "first");
    }

    #[test]
    fn bad_specifications_are_refused_by_name() {
        let (_directory, volumes) = volumes();
        let option = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        for (spec, expected) in [
            (spec("../etc"), "create ../etc: \"../etc\" includes invalid characters"),
            (spec("a b"), "includes invalid characters"),
            (spec("x"), "volume name is 1 characters long"),
            (VolumeSpec { driver: Some("nfs".into()), ..spec("data") }, "plugin \"nfs\" not found"),
            (
                VolumeSpec { options: [option("colour", "red")].into(), ..spec("data") },
                "invalid option: \"colour\"",
            ),
            (
                VolumeSpec { options: [option("type", "nfs")].into(), ..spec("data") },
                "missing required option: \"device\"",
            ),
        ] {
            let error = volumes.create(spec).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        assert!(volumes.list().is_empty());
    }
}
