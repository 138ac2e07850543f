//! The working directory: entered as early as possible, checked to lie inside the root.

use std::path::Path;

use rustix::io::Errno;

use crate::error::{CommandError, shorten};

/// Tries to enter `path` while still privileged; false when the user must try for itself.
pub(crate) fn enter_early(path: &Path) -> Result<bool, CommandError> {
    match rustix::process::chdir(path) {
        Ok(()) => Ok(true),
        Err(Errno::ACCESS | Errno::PERM) => Ok(false),
        Err(errno) => Err(refused(path, errno)),
    }
}

/// Enters `path` as the container's user.
pub(crate) fn enter(path: &Path) -> Result<(), CommandError> {
    rustix::process::chdir(path).map_err(|errno| refused(path, errno))
}

fn refused(path: &Path, errno: Errno) -> CommandError {
    CommandError::WorkingDirectory { path: shorten(path.display().to_string()), errno: errno.raw_os_error() }
}

/// Makes sure the working directory lies inside the root: a path through a leaked descriptor would
/// not (CVE-2024-21626).
pub(crate) fn verify() -> Result<(), CommandError> {
    match rustix::process::getcwd(Vec::new()) {
        Ok(path) if path.to_bytes().starts_with(b"/") => Ok(()),
        // The kernel writes "(unreachable)" before a path outside the root.
        Ok(_) | Err(Errno::NOENT) => Err(CommandError::WorkingDirectoryOutside),
        Err(errno) => Err(refused(Path::new("."), errno)),
    }
}
