//! Volumes with driver options: mounted at their data directory by the first who needs them, unmounted
//! after the last.
//!
//! The mount itself is the record of it: an engine that takes over finds it there.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ferry_store::Volume;
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};

use super::mount::{MountError, mount};

/// Who uses how many.
#[derive(Debug, Default)]
pub struct LiveVolumes {
    /// One lock per volume: a server that does not answer holds up nobody but its own users.
    counts: Mutex<HashMap<String, Arc<Mutex<usize>>>>,
    /// Volumes of containers that are being made, which nobody else knows yet.
    wanted: Arc<Mutex<HashMap<String, usize>>>,
}

/// A volume that a container will have as soon as it is made: until then it is not removed.
#[derive(Debug)]
pub struct Wanted {
    wanted: Arc<Mutex<HashMap<String, usize>>>,
    name: String,
}

impl Drop for Wanted {
    fn drop(&mut self) {
        let mut wanted = lock(&self.wanted);
        if let Some(count) = wanted.get_mut(&self.name) {
            *count -= 1;
            if *count == 0 {
                wanted.remove(&self.name);
            }
        }
    }
}

/// One user of a mounted volume; the last one's end unmounts it.
#[derive(Debug)]
pub struct Hold {
    count: Arc<Mutex<usize>>,
    mountpoint: PathBuf,
}

impl LiveVolumes {
    fn count(&self, name: &str) -> Arc<Mutex<usize>> {
        let mut counts = lock(&self.counts);
        Arc::clone(counts.entry(name.to_owned()).or_default())
    }

    /// Keeps a volume from being removed until the container that wants it can be found.
    pub fn want(&self, name: &str) -> Wanted {
        *lock(&self.wanted).entry(name.to_owned()).or_default() += 1;
        Wanted { wanted: Arc::clone(&self.wanted), name: name.to_owned() }
    }

    /// Does something to volumes while no container that is being made can begin to want one; `act` is
    /// told whether a volume is wanted.
    pub fn while_none_are_claimed<T>(&self, act: impl FnOnce(&dyn Fn(&str) -> bool) -> T) -> T {
        let wanted = lock(&self.wanted);
        act(&|name| wanted.contains_key(name))
    }

    /// Sees to it that a volume is mounted as long as the answer is kept; nothing for a volume whose data
    /// lies in its own directory.
    pub fn hold(&self, volume: &Volume) -> Result<Option<Hold>, MountError> {
        if volume.device().is_none() {
            return Ok(None);
        }
        let count = self.count(&volume.name);
        let mut users = lock(&count);
        if *users == 0 && !volume.is_mounted() {
            mount(volume)?;
        }
        *users += 1;
        drop(users);
        Ok(Some(Hold { count, mountpoint: volume.mountpoint.clone() }))
    }

    /// Unmounts a volume that is mounted although nobody holds it.
    pub fn release_unused(&self, volume: &Volume) {
        if volume.device().is_none() {
            return;
        }
        let count = self.count(&volume.name);
        let users = lock(&count);
        if *users == 0 && volume.is_mounted() {
            take_off(&volume.mountpoint);
        }
    }

    /// Forgets a volume that is removed.
    pub fn forget(&self, name: &str) {
        lock(&self.counts).remove(name);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut users = lock(&self.count);
        *users -= 1;
        if *users == 0 {
            take_off(&self.mountpoint);
        }
    }
}

fn take_off(mountpoint: &std::path::Path) {
    let result = match unmount(mountpoint, UnmountFlags::NOFOLLOW) {
        // Somebody on the host stands in it: out of sight now, gone when they leave.
        Err(Errno::BUSY) => unmount(mountpoint, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH),
        other => other,
    };
    match result {
        // Somebody else has unmounted it.
        Ok(()) | Err(Errno::INVAL) => {}
        Err(error) => tracing::warn!(mountpoint = %mountpoint.display(), %error, "unmount a volume"),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
