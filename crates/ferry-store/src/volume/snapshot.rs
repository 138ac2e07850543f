//! Snapshots of a volume's data, and clones of a volume.
//!
//! Each is made whole in the scratch directory and then takes its place by one rename, so a process that is
//! killed leaves the old state or the new one. Freezing who writes meanwhile is the caller's business.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{CWD, RenameFlags};
use serde::{Deserialize, Serialize};

use super::{Volume, VolumeError, Volumes, check_name, mountpoint};
use crate::copy::copy_tree;
use crate::error::IoError;
use crate::files;
use crate::usage::measure;

/// Largest `meta.json`.
const META_MAX: u64 = 64 << 10;

/// A state of a volume's data that was kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeSnapshot {
    /// Its name, unique in its volume.
    pub name: String,
    /// When it was made, RFC 3339.
    pub created: String,
    /// Bytes on disk, where nothing is shared.
    pub size: u64,
}

impl Volumes {
    /// Keeps the present state of a volume's data under a name.
    pub fn snapshot(&self, name: &str, snapshot: &str) -> Result<VolumeSnapshot, VolumeError> {
        check_name(snapshot)?;
        let volume = self.kept_here(name)?;
        let place = self.snapshot_place(name, snapshot);
        let exists =
            || VolumeError::SnapshotExists { volume: name.to_owned(), snapshot: snapshot.to_owned() };
        if place.exists() {
            return Err(exists());
        }
        let kept = self.build(|scratch| {
            let data = scratch.join("_data");
            files::create_dir(&data, 0o755)?;
            copy_tree(&volume.mountpoint, &data)?;
            let size = measure(&data)?.allocated;
            let kept = VolumeSnapshot { name: snapshot.to_owned(), created: files::now(), size };
            let meta = serde_json::to_vec(&kept).expect("text and a number");
            files::write_atomic(&scratch.join("meta.json"), &meta, 0o600, false)?;
            Ok((kept, true))
        });
        let (scratch, kept) = kept?;
        let changing = self.changing.one(name);
        let moved = self.get(name).and_then(|_| {
            files::ensure_dir(&self.snapshots_dir(name), 0o700)?;
            self.take_place(&scratch, &place, exists)
        });
        drop(changing);
        self.layout.discard(&scratch)?;
        moved.map(|()| kept)
    }

    /// The snapshots of a volume, oldest first.
    pub fn snapshots(&self, name: &str) -> Result<Vec<VolumeSnapshot>, VolumeError> {
        self.get(name)?;
        let mut found = Vec::new();
        for snapshot in files::list_dir(&self.snapshots_dir(name))? {
            let path = self.snapshot_place(name, &snapshot).join("meta.json");
            let bytes = files::read_limited(&path, META_MAX)?;
            match serde_json::from_slice::<VolumeSnapshot>(&bytes) {
                Ok(meta) => found.push(meta),
                Err(error) => tracing::error!(volume = name, snapshot, %error, "snapshot is unusable"),
            }
        }
        found.sort_by(|a, b| a.created.cmp(&b.created));
        Ok(found)
    }

    /// Forgets a snapshot.
    pub fn remove_snapshot(&self, name: &str, snapshot: &str) -> Result<(), VolumeError> {
        let place = self.find_snapshot(name, snapshot)?;
        self.layout.discard(&place)?;
        Ok(())
    }

    /// Puts a kept state in the place of a volume's data. Data that is there is replaced only with `force`.
    /// No process may have the volume mounted: it would go on with the old data.
    pub fn restore(&self, name: &str, snapshot: &str, force: bool) -> Result<(), VolumeError> {
        let volume = self.kept_here(name)?;
        let place = self.find_snapshot(name, snapshot)?;
        let occupied = || files::list_dir(&volume.mountpoint).map(|names| !names.is_empty());
        if !force && occupied()? {
            return Err(VolumeError::NotEmpty(name.to_owned()));
        }
        let (scratch, ()) = self.build(|scratch| {
            copy_tree(&place.join("_data"), scratch)?;
            Ok(((), true))
        })?;
        let changed = (|| {
            let _changing = self.changing.one(name);
            self.get(name)?;
            if !force && occupied()? {
                return Err(VolumeError::NotEmpty(name.to_owned()));
            }
            let exchanged =
                rustix::fs::renameat_with(CWD, &scratch, CWD, &volume.mountpoint, RenameFlags::EXCHANGE);
            exchanged.map_err(IoError::new("exchange", &volume.mountpoint))?;
            files::sync_parent(&volume.mountpoint)?;
            Ok(())
        })();
        // By now this is the old data, or what was made in vain.
        self.layout.discard(&scratch)?;
        changed
    }

    /// Makes a new volume with the same labels and the present data of another.
    pub fn clone_volume(&self, name: &str, new: &str) -> Result<Arc<Volume>, VolumeError> {
        check_name(new)?;
        let source = self.kept_here(name)?;
        let exists = || VolumeError::Exists(new.to_owned());
        if self.get(new).is_ok() {
            return Err(exists());
        }
        let (scratch, ()) = self.build(|scratch| {
            rustix::fs::chmod(scratch, rustix::fs::Mode::from_raw_mode(0o711))
                .map_err(IoError::new("chmod", scratch))?;
            let data = scratch.join("_data");
            files::create_dir(&data, 0o755)?;
            copy_tree(&source.mountpoint, &data)?;
            Ok(((), true))
        })?;
        let made = (|| {
            let _changing = self.changing.one(new);
            if self.get(new).is_ok() {
                return Err(exists());
            }
            self.discard_orphan(new)?;
            self.take_place(&scratch, &self.layout.volumes().join(new), exists)?;
            let mountpoint = mountpoint(&self.layout, new);
            let mut labels = source.labels.clone();
            labels.remove(super::ANONYMOUS_LABEL);
            let (name, driver) = (new.to_owned(), source.driver.clone());
            let options = source.options.clone();
            self.enter(Volume { name, driver, options, labels, created: files::now(), mountpoint })
        })();
        self.layout.discard(&scratch)?;
        made
    }

    /// A copy of a volume's data to read from while the volume goes on changing; gone when dropped.
    pub fn copy_for_reading(&self, volume: &Volume) -> Result<ReadingCopy, VolumeError> {
        let (path, ()) = self.build(|scratch| {
            copy_tree(&volume.mountpoint, scratch)?;
            Ok(((), false))
        })?;
        Ok(ReadingCopy { layout: Arc::clone(&self.layout), path })
    }

    /// What a volume takes on disk: its data and its snapshots. What is mounted there is not counted.
    pub fn measure(&self, name: &str) -> Result<u64, IoError> {
        let data = mountpoint(&self.layout, name);
        let own = if super::is_mount_root(&data) { 0 } else { measure(&data)?.allocated };
        Ok(own + measure(&self.snapshots_dir(name))?.allocated)
    }

    fn kept_here(&self, name: &str) -> Result<Arc<Volume>, VolumeError> {
        let volume = self.get(name)?;
        match volume.device() {
            Some(device) => Err(VolumeError::Elsewhere { name: name.to_owned(), device: device.to_owned() }),
            None => Ok(volume),
        }
    }

    fn snapshots_dir(&self, name: &str) -> PathBuf {
        self.layout.volumes().join(name).join("snapshots")
    }

    fn snapshot_place(&self, name: &str, snapshot: &str) -> PathBuf {
        self.snapshots_dir(name).join(snapshot)
    }

    fn find_snapshot(&self, name: &str, snapshot: &str) -> Result<PathBuf, VolumeError> {
        self.get(name)?;
        let place = self.snapshot_place(name, snapshot);
        // A name that is none could be a path.
        if check_name(snapshot).is_ok() && place.is_dir() {
            return Ok(place);
        }
        Err(VolumeError::NoSnapshot { volume: name.to_owned(), snapshot: snapshot.to_owned() })
    }

    /// Fills a scratch directory, durably where told; after a failure it is gone.
    fn build<T>(
        &self,
        fill: impl FnOnce(&Path) -> Result<(T, bool), VolumeError>,
    ) -> Result<(PathBuf, T), VolumeError> {
        let scratch = self.layout.scratch_dir().join(files::unique_name());
        files::create_dir(&scratch, 0o700)?;
        let built = fill(&scratch).and_then(|(value, durable)| {
            if durable {
                files::sync_file_system(&scratch)?;
            }
            Ok(value)
        });
        match built {
            Ok(value) => Ok((scratch, value)),
            Err(error) => {
                self.layout.discard(&scratch)?;
                Err(error)
            }
        }
    }

    fn take_place(
        &self,
        scratch: &Path,
        place: &Path,
        exists: impl FnOnce() -> VolumeError,
    ) -> Result<(), VolumeError> {
        match rustix::fs::renameat_with(CWD, scratch, CWD, place, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(files::sync_parent(place)?),
            Err(rustix::io::Errno::EXIST | rustix::io::Errno::NOTEMPTY) => Err(exists()),
            Err(errno) => Err(IoError::new("rename a finished copy to", place)(errno).into()),
        }
    }
}

/// A copy of a volume's data that goes when it is dropped.
pub struct ReadingCopy {
    layout: Arc<crate::layout::Layout>,
    path: PathBuf,
}

impl ReadingCopy {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for ReadingCopy {
    fn drop(&mut self) {
        if let Err(error) = self.layout.discard(&self.path) {
            tracing::warn!(error = &error as &dyn std::error::Error, "a copy is left for the next start");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::VolumeSpec;
    use super::*;
    use crate::database::Database;
    use crate::layout::Layout;

    fn volumes() -> (tempfile::TempDir, Volumes) {
        let directory = tempfile::tempdir().unwrap();
        let layout = Arc::new(Layout::prepare(&directory.path().join("data")).unwrap());
        let database = Arc::new(Database::open(&layout.database()).unwrap());
        let volumes = Volumes::open(&layout, &database).unwrap();
        volumes.create(VolumeSpec { name: Some("db".into()), ..VolumeSpec::default() }).unwrap();
        (directory, volumes)
    }

    #[test]
    fn a_kept_state_comes_back() {
        let (_directory, volumes) = volumes();
        let file = volumes.get("db").unwrap().mountpoint.join("file");
        fs::write(&file, "one").unwrap();
        volumes.snapshot("db", "first").unwrap();
        assert!(matches!(volumes.snapshot("db", "first"), Err(VolumeError::SnapshotExists { .. })));
        fs::write(&file, "two").unwrap();
        assert!(matches!(volumes.restore("db", "first", false), Err(VolumeError::NotEmpty(_))));
        assert_eq!(fs::read_to_string(&file).unwrap(), "two");
        volumes.restore("db", "first", true).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "one");
        // The kept state is a copy of its own still.
        fs::write(&file, "three").unwrap();
        volumes.restore("db", "first", true).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "one");
        let names: Vec<_> = volumes.snapshots("db").unwrap().into_iter().map(|kept| kept.name).collect();
        assert_eq!(names, ["first"]);
        for bad in ["../first", "nope", ""] {
            assert!(matches!(volumes.restore("db", bad, true), Err(VolumeError::NoSnapshot { .. })), "{bad}");
        }
        volumes.remove_snapshot("db", "first").unwrap();
        assert!(volumes.snapshots("db").unwrap().is_empty());
    }

    #[test]
    fn a_clone_is_a_volume_of_its_own() {
        let (_directory, volumes) = volumes();
        fs::write(volumes.get("db").unwrap().mountpoint.join("file"), "text").unwrap();
        let copy = volumes.clone_volume("db", "copy").unwrap();
        fs::write(volumes.get("db").unwrap().mountpoint.join("file"), "changed").unwrap();
        assert_eq!(fs::read_to_string(copy.mountpoint.join("file")).unwrap(), "text");
        assert!(matches!(volumes.clone_volume("db", "copy"), Err(VolumeError::Exists(_))));
        assert!(matches!(volumes.clone_volume("nope", "other"), Err(VolumeError::NotFound(_))));
        volumes.remove("copy").unwrap();
        assert_eq!(volumes.list().len(), 1);
    }
}
