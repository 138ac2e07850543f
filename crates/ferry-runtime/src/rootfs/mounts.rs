//! Mounts in two halves: sources are opened as detached mounts while the host is still in sight,
//! and attached when the container's root is the root.
//!
//! So no source path can be redirected by the container (CVE-2021-30465), no target can leave it,
//! and attributes are in force before a mount can be seen.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use ferry_oci::runtime::Mount;
use ferry_sys::mount::{
    Attributes, FileSystem, attach, clone_descriptor, clone_path, set_attributes, set_id_map,
};
use ferry_sys::tree;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::overlay;
use super::plan::{MountPlan, MountSource};
use crate::create::Step;
use crate::error::{CreateError, StepError};

/// `MS_PRIVATE`.
const PRIVATE: u64 = 1 << 18;
const DIRECTORY_MODE: u32 = 0o755;
const FILE_MODE: u32 = 0o644;

/// A mount that waits to be attached.
#[derive(Debug)]
pub(crate) enum Detached {
    /// One mount; `directory` says what its place must be.
    Single { mount: OwnedFd, directory: bool },
    /// A tmpfs with one mount per cgroup v1 hierarchy, and links for controllers mounted together.
    Hierarchies { tmpfs: OwnedFd, mounts: Vec<(String, OwnedFd)>, links: Vec<(String, String)> },
}

/// Opens a mount's source, with its attributes in force. `id_map` is the namespace of the plan's mapping,
/// if it has one.
pub(crate) fn open_source(plan: &MountPlan, id_map: Option<BorrowedFd<'_>>) -> Result<Detached, StepError> {
    match &plan.source {
        MountSource::Bind(source) => open_bind(source, plan, id_map),
        MountSource::Layers(layers) => open_layers(layers, plan),
        MountSource::FileSystem { kind, source } => {
            let mount = open_file_system(kind, source, plan)?;
            Ok(Detached::Single { mount, directory: true })
        }
        MountSource::Cgroup => Err(error(Step::MountSource, plan, "cgroup", Errno::INVAL)),
    }
}

fn open_bind(source: &Path, plan: &MountPlan, id_map: Option<BorrowedFd<'_>>) -> Result<Detached, StepError> {
    let fail = |errno| StepError::new(Step::MountSource, source.display(), errno);
    let mount = match &plan.options.subpath {
        None => clone_path(source, plan.options.recursive_bind).map_err(fail)?,
        Some(subpath) => {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let whole = rustix::fs::open(source, flags, Mode::empty()).map_err(fail)?;
            clone_inside(whole.as_fd(), subpath, plan.options.recursive_bind)
                .map_err(|errno| StepError::new(Step::MountSource, source.join(subpath).display(), errno))?
        }
    };
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&mount).map_err(fail)?.st_mode);
    set_all_attributes(mount.as_fd(), plan).map_err(fail)?;
    if let (Some(namespace), Some(map)) = (id_map, &plan.id_map) {
        set_id_map(mount.as_fd(), namespace, map.recursive).map_err(|errno| no_id_map(source, errno))?;
    }
    Ok(Detached::Single { mount, directory: kind == FileType::Directory })
}

/// The kernel says "invalid argument" where the file system cannot do it, which explains nothing.
fn no_id_map(source: &Path, errno: Errno) -> StepError {
    let errno = if errno == Errno::INVAL { Errno::OPNOTSUPP } else { errno };
    let what = format!("{} with mapped ids, which its file system may not be able to do", source.display());
    StepError::new(Step::MountSource, what, errno)
}

/// A copy of the mount of something inside an open directory; links on the way stay below it.
fn clone_inside(whole: BorrowedFd<'_>, subpath: &str, recursive: bool) -> Result<OwnedFd, Errno> {
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let inside = rustix::fs::openat2(whole, subpath, flags, Mode::empty(), how)?;
    clone_descriptor(inside.as_fd(), recursive)
}

fn open_layers(layers: &[PathBuf], plan: &MountPlan) -> Result<Detached, StepError> {
    let fail = |errno| error(Step::MountSource, plan, "layers", errno);
    let mut mount = match layers {
        [single] => clone_path(single, false).map_err(fail)?,
        several => overlay::read_only(several)?,
    };
    if let Some(subpath) = &plan.options.subpath {
        mount = clone_inside(mount.as_fd(), subpath, false)
            .map_err(|errno| error(Step::MountSource, plan, &format!("{subpath:?} of the image"), errno))?;
    }
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&mount).map_err(fail)?.st_mode);
    let attributes = Attributes { set: Attributes::READ_ONLY, clear: 0, propagation: PRIVATE };
    set_attributes(mount.as_fd(), attributes, true).map_err(fail)?;
    Ok(Detached::Single { mount, directory: kind == FileType::Directory })
}

/// A mount as the specification describes it, attached nowhere: for whoever mounts something on the host
/// by the same rules.
pub fn detached_mount(mount: &Mount) -> Result<OwnedFd, CreateError> {
    let plan = MountPlan::build(mount)?;
    let namespace = plan.id_map.as_ref().map(|map| map.namespace()).transpose()?;
    match open_source(&plan, namespace.as_ref().map(AsFd::as_fd))? {
        Detached::Single { mount, .. } => Ok(mount),
        Detached::Hierarchies { tmpfs, .. } => Ok(tmpfs),
    }
}

/// Sets what the options ask for on a bind mount. What they do not name stays as at the source.
pub(crate) fn set_all_attributes(mount: BorrowedFd<'_>, plan: &MountPlan) -> Result<(), Errno> {
    let options = &plan.options;
    // A copy of a shared mount is shared too; private is what a container means unless told.
    let mut first = Attributes { propagation: 0, ..options.attributes };
    if options.propagation.is_empty() {
        set_attributes(mount, Attributes::propagation(PRIVATE), true)?;
    }
    if options.recursive_attributes.is_empty() && options.propagation.len() == 1 {
        let (kind, recursive) = options.propagation[0];
        if !recursive {
            first.propagation = kind;
            return set_attributes(mount, first, false);
        }
    }
    if !first.is_empty() {
        set_attributes(mount, first, false)?;
    }
    if !options.recursive_attributes.is_empty() {
        set_attributes(mount, options.recursive_attributes, true)?;
    }
    for (kind, recursive) in &options.propagation {
        set_attributes(mount, Attributes::propagation(*kind), *recursive)?;
    }
    Ok(())
}

fn open_file_system(kind: &str, source: &str, plan: &MountPlan) -> Result<OwnedFd, StepError> {
    let fail = |errno| error(Step::MountSource, plan, kind, errno);
    let file_system = FileSystem::open(kind).map_err(fail)?;
    if !source.is_empty() {
        file_system.set("source", source.as_bytes()).map_err(fail)?;
    }
    for (key, value) in &plan.options.data {
        let result = match value {
            Some(value) => file_system.set(key, value.as_bytes()),
            None => file_system.set_flag(key),
        };
        result.map_err(|errno| {
            let option = value.as_ref().map_or(key.clone(), |value| format!("{key}={value}"));
            error(Step::MountSource, plan, &format!("{kind} with option {option:?}"), errno)
        })?;
    }
    file_system.mount(plan.options.attributes.set).map_err(|errno| {
        let messages = file_system.messages();
        let kind = if messages.is_empty() { kind.to_owned() } else { format!("{kind} ({messages})") };
        error(Step::MountSource, plan, &kind, errno)
    })
}

fn error(step: Step, plan: &MountPlan, what: &str, errno: Errno) -> StepError {
    StepError::new(step, format!("{what} to {}", plan.destination.display()), errno)
}

/// Attaches a detached mount at its place below `root`, making the place where it is missing.
pub(crate) fn attach_at(
    root: BorrowedFd<'_>,
    plan: &MountPlan,
    detached: &Detached,
) -> Result<(), StepError> {
    let what = match &plan.source {
        MountSource::Bind(source) => source.display().to_string(),
        MountSource::FileSystem { kind, .. } => kind.clone(),
        MountSource::Layers(_) => "layers".to_owned(),
        MountSource::Cgroup => "cgroup".to_owned(),
    };
    let fail = |errno| error(Step::Mount, plan, &what, errno);
    match detached {
        Detached::Single { mount, directory } => {
            let place = open_place(root, plan, *directory).map_err(fail)?;
            attach(mount.as_fd(), place.as_fd()).map_err(fail)?;
            after_attach(mount.as_fd(), plan).map_err(fail)
        }
        Detached::Hierarchies { tmpfs, mounts, links } => {
            let place = open_place(root, plan, true).map_err(fail)?;
            attach(tmpfs.as_fd(), place.as_fd()).map_err(fail)?;
            fill_hierarchies(tmpfs.as_fd(), mounts, links).map_err(fail)?;
            set_attributes(tmpfs.as_fd(), plan.options.attributes, false).map_err(fail)
        }
    }
}

/// Propagation of a new file system; a bind mount has had its already.
fn after_attach(mount: BorrowedFd<'_>, plan: &MountPlan) -> Result<(), Errno> {
    if matches!(plan.source, MountSource::Bind(_) | MountSource::Layers(_)) {
        return Ok(());
    }
    for (kind, recursive) in &plan.options.propagation {
        // New mounts are private already.
        if *kind != PRIVATE {
            set_attributes(mount, Attributes::propagation(*kind), *recursive)?;
        }
    }
    Ok(())
}

fn open_place(root: BorrowedFd<'_>, plan: &MountPlan, directory: bool) -> Result<OwnedFd, Errno> {
    let path = &plan.destination;
    if plan.is_kernel_interface() {
        let relative = path.strip_prefix("/").map_err(|_| Errno::INVAL)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        match tree::open_no_links(root, relative, flags) {
            Err(Errno::NOENT) => {}
            result => return result,
        }
        tree::make_directories(root, path, Mode::from_raw_mode(DIRECTORY_MODE))?;
        return tree::open_no_links(root, relative, flags);
    }
    if directory {
        tree::make_directories(root, path, Mode::from_raw_mode(DIRECTORY_MODE))
    } else {
        let place = tree::make_file(root, path, Mode::from_raw_mode(FILE_MODE))?;
        match FileType::from_raw_mode(rustix::fs::fstat(&place)?.st_mode) {
            FileType::Directory => Err(Errno::NOTDIR),
            _ => Ok(place),
        }
    }
}

fn fill_hierarchies(
    tmpfs: BorrowedFd<'_>,
    mounts: &[(String, OwnedFd)],
    links: &[(String, String)],
) -> Result<(), Errno> {
    for (name, mount) in mounts {
        rustix::fs::mkdirat(tmpfs, name.as_str(), Mode::from_raw_mode(DIRECTORY_MODE))?;
        let place = tree::open_plain(tmpfs, Path::new(name), OFlags::PATH | OFlags::DIRECTORY)?;
        attach(mount.as_fd(), place.as_fd())?;
    }
    for (name, target) in links {
        rustix::fs::symlinkat(target.as_str(), tmpfs, name.as_str())?;
    }
    Ok(())
}

/// Opens the cgroup mounts of a container: on v2 one, on v1 a tmpfs with one per hierarchy.
pub(crate) fn open_cgroup(
    plan: &MountPlan,
    hierarchies: &[(String, PathBuf)],
    links: &[(String, String)],
) -> Result<Detached, StepError> {
    let open = |path: &PathBuf| -> Result<OwnedFd, StepError> {
        let fail = |errno| StepError::new(Step::MountSource, path.display(), errno);
        let mount = clone_path(path, false).map_err(fail)?;
        let attributes = Attributes {
            set: plan.options.attributes.set,
            clear: plan.options.attributes.clear,
            propagation: PRIVATE,
        };
        set_attributes(mount.as_fd(), attributes, false).map_err(fail)?;
        Ok(mount)
    };
    if let [(name, path)] = hierarchies
        && name.is_empty()
    {
        return Ok(Detached::Single { mount: open(path)?, directory: true });
    }
    let fail = |errno| error(Step::MountSource, plan, "tmpfs", errno);
    let file_system = FileSystem::open("tmpfs").map_err(fail)?;
    file_system.set("mode", b"755").map_err(fail)?;
    // Read-only only when it is filled.
    let attributes = plan.options.attributes.set & !Attributes::READ_ONLY;
    let tmpfs = file_system.mount(attributes).map_err(fail)?;
    let mounts = hierarchies
        .iter()
        .map(|(name, path)| Ok((name.clone(), open(path)?)))
        .collect::<Result<Vec<_>, StepError>>()?;
    Ok(Detached::Hierarchies { tmpfs, mounts, links: links.to_vec() })
}
