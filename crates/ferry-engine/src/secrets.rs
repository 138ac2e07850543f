//! Secrets and configs of the store in containers: files of a tmpfs that is mounted while the container runs.
//!
//! The bytes leave the vault for memory only. Each container's tmpfs lies in its run directory; its files are
//! bound to their places.

use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use ferry_store::{VaultError, VaultKind};
use rustix::mount::{UnmountFlags, unmount};

use crate::container::record::Record;
use crate::engine::Engine;
use crate::spec::mounts::{MountKind, MountPlan};

/// Folder of the tmpfs in a container's run directory.
const FOLDER: &str = "secrets";

/// Why a container does not get its secrets.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// It is not in the store, or cannot be decrypted.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The tmpfs.
    #[error("place secrets in {}", path.display())]
    Memory {
        /// Where.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

/// The kind behind a mount's word.
pub fn kind_of(plan: &MountPlan) -> VaultKind {
    if plan.driver == VaultKind::Config.as_str() { VaultKind::Config } else { VaultKind::Secret }
}

/// Whether a container has any.
pub fn has_any(record: &Record) -> bool {
    record.mounts.iter().any(|plan| plan.kind == MountKind::Secret)
}

/// Writes a container's secrets into memory and notes in its plans where they lie.
pub fn place(engine: &Engine, record: &mut Record) -> Result<(), PlaceError> {
    if !has_any(record) {
        return Ok(());
    }
    let folder = engine.run_dir(&record.id).join(FOLDER);
    let failed = |source: std::io::Error| PlaceError::Memory { path: folder.clone(), source };
    // What an engine that died in the middle of a start left there.
    detach(&folder);
    mount_memory(&folder).map_err(failed)?;
    let plans = record.mounts.iter_mut().filter(|plan| plan.kind == MountKind::Secret);
    for (index, plan) in plans.enumerate() {
        let vault = engine.store.vault();
        let data = vault.open(&vault.find(kind_of(plan), &plan.name)?)?;
        let path = folder.join(index.to_string());
        write(&path, &data, plan).map_err(failed)?;
        plan.layer_paths = vec![path];
    }
    Ok(())
}

/// Takes the memory away after a run.
pub fn take_off(engine: &Engine, record: &Record) {
    if has_any(record) {
        detach(&engine.run_dir(&record.id).join(FOLDER));
    }
}

fn mount_memory(folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let memory = ferry_sys::mount::FileSystem::open("tmpfs")?;
    memory.set("mode", b"0700")?;
    let attributes = ferry_sys::mount::Attributes::NO_SUID
        | ferry_sys::mount::Attributes::NO_DEVICES
        | ferry_sys::mount::Attributes::NO_EXEC;
    let mount = memory.mount(attributes)?;
    Ok(ferry_sys::mount::attach(mount.as_fd(), std::fs::File::open(folder)?.as_fd())?)
}

fn write(path: &Path, data: &[u8], plan: &MountPlan) -> std::io::Result<()> {
    std::fs::write(path, data)?;
    std::os::unix::fs::chown(path, Some(plan.file_uid), Some(plan.file_gid))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(plan.file_mode))
}

fn detach(folder: &Path) {
    match unmount(folder, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        // Nothing is mounted there.
        Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {}
        Err(error) => tracing::warn!(path = %folder.display(), %error, "secrets stay mounted"),
    }
}
