//! Making, freezing, killing and removing a cgroup in all hierarchies.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD};
use rustix::io::Errno;

use super::error::CgroupError;
use super::files::{failed, make_directory, read, read_optional, try_read, try_write, write};
use super::layout::{Hierarchy, Layout};
use super::{Cgroup, Place};

/// How long dying processes may keep a cgroup busy: the kernel writes back and frees their memory.
const REMOVE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long processes may take to stand still; ones in uninterruptible I/O are slow.
const FREEZE_TIMEOUT: Duration = Duration::from_secs(10);
/// First pause between two tries; it doubles up to the last.
const FIRST_PAUSE: Duration = Duration::from_micros(50);
const LAST_PAUSE: Duration = Duration::from_millis(20);
/// Deeper trees than this are not made by programs that mean well.
const DEPTH_MAX: usize = 64;

/// Checks a path from a specification and makes it absolute.
pub(super) fn clean(path: &str) -> Result<String, CgroupError> {
    let invalid = |reason| CgroupError::Path { path: path.to_owned(), reason };
    if path.contains('\0') {
        return Err(invalid("contains a zero byte"));
    }
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.contains(&"..") {
        return Err(invalid("\"..\" could leave the hierarchy"));
    }
    if path.contains(':') {
        return Err(invalid("the systemd form slice:prefix:name needs the systemd driver"));
    }
    Ok(format!("/{}", parts.join("/")))
}

pub(super) fn create(cgroup: &Cgroup) -> Result<(), CgroupError> {
    for hierarchy in &cgroup.hierarchies.list {
        let directory = cgroup.below(&hierarchy.mount_point);
        make(hierarchy, &directory)?;
        if hierarchy.controllers.iter().any(|controller| controller == "cpuset") && !hierarchy.unified {
            fill_cpuset(&hierarchy.mount_point, &directory, 0)?;
        }
    }
    if cgroup.hierarchies.layout == Layout::V2 {
        enable_controllers(cgroup)?;
    }
    Ok(())
}

pub(super) fn create_unified(cgroup: &Cgroup) -> Result<(), CgroupError> {
    match cgroup.hierarchies.unified() {
        Some(unified) => make(unified, &cgroup.below(&unified.mount_point)),
        None => Ok(()),
    }
}

/// Makes a directory; usually only the last part is missing.
fn make(hierarchy: &Hierarchy, directory: &Path) -> Result<(), CgroupError> {
    match make_directory(directory) {
        Ok(_) => return Ok(()),
        Err(Errno::NOENT) => {}
        Err(errno) => return Err(failed("create", directory, errno)),
    }
    let parent = directory.parent().filter(|parent| parent.starts_with(&hierarchy.mount_point));
    let parent = parent.ok_or_else(|| failed("create", directory, Errno::NOENT))?;
    make(hierarchy, parent)?;
    make_directory(directory).map_err(|errno| failed("create", directory, errno))?;
    Ok(())
}

/// A v1 cpuset begins without processors, and nothing can join it then: it gets its parent's. The
/// parent is told to do so by itself for the next child.
fn fill_cpuset(mount_point: &Path, directory: &Path, depth: usize) -> Result<(), CgroupError> {
    if directory == mount_point || depth > DEPTH_MAX {
        return Ok(());
    }
    let filled = |directory: &Path| read(&directory.join("cpuset.cpus")).map(|cpus| !cpus.trim().is_empty());
    if filled(directory)? {
        return Ok(());
    }
    let Some(parent) = directory.parent() else { return Ok(()) };
    fill_cpuset(mount_point, parent, depth + 1)?;
    for file in ["cpuset.cpus", "cpuset.mems"] {
        write(&directory.join(file), read(&parent.join(file))?.trim())?;
    }
    if parent != mount_point {
        write(&parent.join("cgroup.clone_children"), "1")?;
    }
    Ok(())
}

/// v2: every ancestor must hand its controllers down.
pub(super) fn enable_controllers(cgroup: &Cgroup) -> Result<(), CgroupError> {
    let Some(unified) = cgroup.hierarchies.unified() else { return Ok(()) };
    let mut directory = unified.mount_point.clone();
    for part in cgroup.path.trim_start_matches('/').split('/') {
        enable_in(&directory)?;
        directory.push(part);
    }
    Ok(())
}

fn enable_in(directory: &Path) -> Result<(), CgroupError> {
    let available = read(&directory.join("cgroup.controllers"))?;
    let path = directory.join("cgroup.subtree_control");
    let enabled = read(&path)?;
    let missing: Vec<String> = available
        .split_ascii_whitespace()
        .filter(|controller| !enabled.split_ascii_whitespace().any(|other| other == *controller))
        .map(|controller| format!("+{controller}"))
        .collect();
    if missing.is_empty() || try_write(&path, &missing.join(" ")).is_ok() {
        return Ok(());
    }
    // One that cannot be handed down (real-time processes block "cpu") must not take the rest along;
    // a limit that needs it fails with its own error.
    for controller in &missing {
        match try_write(&path, controller) {
            Ok(()) | Err(Errno::INVAL | Errno::NOENT | Errno::OPNOTSUPP) => {}
            // Somebody else's processes stand in the part that was handed down.
            Err(Errno::BUSY) if ferry_sys::namespace::in_user_namespace() => {}
            Err(errno) => return Err(failed("enable controllers in", directory, errno)),
        }
    }
    Ok(())
}

/// Freezes or thaws, and waits until it is so.
pub(super) fn set_frozen(cgroup: &Cgroup, frozen: bool) -> Result<(), CgroupError> {
    let state = if frozen { "thawed" } else { "frozen" };
    let timeout = CgroupError::Timeout {
        path: cgroup.path.clone(),
        state,
        milliseconds: FREEZE_TIMEOUT.as_millis() as u64,
    };
    if let Some(Place::V1(directory)) = cgroup.place("freezer") {
        let (path, word) = (directory.join("freezer.state"), if frozen { "FROZEN" } else { "THAWED" });
        let reached = wait(FREEZE_TIMEOUT, || {
            // Writing again catches processes forked while the first write went through.
            write(&path, word)?;
            Ok(read(&path)?.trim() == word)
        })?;
        if !reached && frozen {
            // Half-frozen is worse than running.
            write(&path, "THAWED")?;
        }
        return if reached { Ok(()) } else { Err(timeout) };
    }
    let directory = cgroup
        .unified_directory()
        .ok_or(CgroupError::NoController { setting: "freeze", controller: "freezer" })?;
    let value = if frozen { "1" } else { "0" };
    write(&directory.join("cgroup.freeze"), value)?;
    let wanted = format!("frozen {value}");
    let reached = wait(FREEZE_TIMEOUT, || {
        Ok(read(&directory.join("cgroup.events"))?.lines().any(|line| line == wanted))
    })?;
    if !reached && frozen {
        write(&directory.join("cgroup.freeze"), "0")?;
    }
    if reached { Ok(()) } else { Err(timeout) }
}

/// Whether somebody froze the cgroup itself; one above it does not count.
pub(super) fn is_frozen(cgroup: &Cgroup) -> Result<bool, CgroupError> {
    if let Some(Place::V1(directory)) = cgroup.place("freezer") {
        let state = read_optional(&directory.join("freezer.state"))?;
        return Ok(state.is_some_and(|state| matches!(state.trim(), "FROZEN" | "FREEZING")));
    }
    let Some(directory) = cgroup.unified_directory() else { return Ok(false) };
    Ok(read_optional(&directory.join("cgroup.freeze"))?.is_some_and(|value| value.trim() == "1"))
}

/// Tries until true, with growing pauses; false when the time is over.
fn wait(limit: Duration, mut ready: impl FnMut() -> Result<bool, CgroupError>) -> Result<bool, CgroupError> {
    let end = Instant::now() + limit;
    let mut pause = FIRST_PAUSE;
    loop {
        if ready()? {
            return Ok(true);
        }
        if Instant::now() >= end {
            return Ok(false);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(LAST_PAUSE);
    }
}

pub(super) fn kill_all(cgroup: &Cgroup) -> Result<(), CgroupError> {
    let killed = cgroup.unified_directory().map(|directory| try_write(&directory.join("cgroup.kill"), "1"));
    match killed {
        Some(Ok(())) => thaw_v1(cgroup),
        // Gone, so nobody is left in it.
        Some(Err(Errno::NODEV)) => Ok(()),
        // No cgroup.kill before Linux 5.14.
        _ => kill_one_by_one(cgroup),
    }
}

/// Signals everyone until no new one turns up: processes may fork meanwhile.
fn kill_one_by_one(cgroup: &Cgroup) -> Result<(), CgroupError> {
    let mut known = std::collections::BTreeSet::new();
    loop {
        let fresh: Vec<i32> = processes(cgroup)?.into_iter().filter(|pid| known.insert(*pid)).collect();
        if fresh.is_empty() {
            return Ok(());
        }
        for pid in fresh {
            match ferry_sys::signal::kill(pid, rustix::process::Signal::KILL.as_raw()) {
                Ok(()) | Err(Errno::SRCH) => {}
                Err(errno) => return Err(failed("kill a process of", Path::new(&cgroup.path), errno)),
            }
        }
        thaw_v1(cgroup)?;
    }
}

/// A process frozen by v1's freezer dies only when it is thawed.
fn thaw_v1(cgroup: &Cgroup) -> Result<(), CgroupError> {
    let Some(Place::V1(directory)) = cgroup.place("freezer") else { return Ok(()) };
    match try_write(&directory.join("freezer.state"), "THAWED") {
        Ok(()) | Err(Errno::NOENT | Errno::NODEV) => Ok(()),
        Err(errno) => Err(failed("thaw", &directory, errno)),
    }
}

pub(super) fn processes(cgroup: &Cgroup) -> Result<Vec<i32>, CgroupError> {
    let place = cgroup.place("pids").or_else(|| cgroup.place("memory"));
    let directory = match place {
        Some(Place::V1(directory) | Place::V2(directory)) => directory,
        None => cgroup.directories().next().ok_or(CgroupError::NotMounted)?,
    };
    let mut pids = Vec::new();
    for directory in tree(&directory)? {
        match try_read(&directory.join("cgroup.procs")) {
            Ok(text) => pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok())),
            Err(Errno::NOENT | Errno::NODEV) => {}
            Err(errno) => return Err(failed("read", &directory.join("cgroup.procs"), errno)),
        }
    }
    pids.sort_unstable();
    pids.dedup();
    Ok(pids)
}

/// A directory and those below it, children before parents.
fn tree(directory: &Path) -> Result<Vec<PathBuf>, CgroupError> {
    let mut found = Vec::new();
    collect(directory, 0, &mut found)?;
    Ok(found)
}

fn collect(directory: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<(), CgroupError> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => {
            let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
            return Err(failed("list", directory, errno));
        }
    };
    for entry in entries.flatten() {
        if depth < DEPTH_MAX && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(&entry.path(), depth + 1, found)?;
        }
    }
    found.push(directory.to_path_buf());
    Ok(())
}

/// Removes what can be removed in every hierarchy before it waits for the rest.
pub(super) fn remove(cgroup: &Cgroup) -> Result<(), CgroupError> {
    if cgroup.path == "/" {
        return Err(CgroupError::Path { path: cgroup.path.clone(), reason: "the root cannot be removed" });
    }
    let mut left: Vec<PathBuf> = cgroup.directories().collect();
    let gone = wait(REMOVE_TIMEOUT, || {
        let mut busy = Vec::new();
        for directory in left.drain(..) {
            if !try_remove(&directory)? {
                busy.push(directory);
            }
        }
        left = busy;
        Ok(left.is_empty())
    })?;
    if gone {
        return Ok(());
    }
    Err(CgroupError::Timeout {
        path: cgroup.path.clone(),
        state: "busy",
        milliseconds: REMOVE_TIMEOUT.as_millis() as u64,
    })
}

/// Removes a directory and those below it; false while it is busy.
fn try_remove(directory: &Path) -> Result<bool, CgroupError> {
    match rustix::fs::unlinkat(CWD, directory, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => return Ok(true),
        Err(Errno::BUSY | Errno::NOTEMPTY) => {}
        Err(errno) => return Err(failed("remove", directory, errno)),
    }
    // Perhaps it has children, made from inside.
    for directory in tree(directory)? {
        match rustix::fs::unlinkat(CWD, &directory, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(Errno::BUSY | Errno::NOTEMPTY) => return Ok(false),
            Err(errno) => return Err(failed("remove", &directory, errno)),
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_in_the_hierarchy() {
        for (given, expected) in [("/ferry/a", "/ferry/a"), ("ferry//a/.", "/ferry/a"), ("/", "/")] {
            assert_eq!(clean(given).as_deref(), Ok(expected), "{given}");
        }
        for bad in ["/ferry/../..", "system.slice:docker:x"] {
            assert!(clean(bad).is_err(), "{bad}");
        }
    }
}
