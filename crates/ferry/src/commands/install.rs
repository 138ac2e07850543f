//! `install`: puts the program where shells find it, and its other names beside it.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, lchown, symlink};
use std::path::{Path, PathBuf};

use crate::cli::Command;
use crate::command;
use crate::failure::{Failure, Outcome};
use crate::output;
use crate::session::Session;

crate::flags! {
    /// Flags of `install`.
    pub struct InstallFlags {
        force: bool = 'f' "force" "Replace programs of these names that are not ours";
        links: bool = '-' "links" "Make the links docker, docker-compose and dockerd";
        to: Option<String> = '-' "to" <dir> "Copy the program into this folder first (default \"/usr/local/bin\" without --links)";
    }
}

/// The table.
pub static COMMANDS: &[Command] = &[command!(
    ["install"],
    "[OPTIONS]",
    "Install this program, and with --links under Docker's names too",
    None,
    InstallFlags,
    install
)];

/// Names that other programs and habits know.
const LINKS: [&str; 3] = ["docker", "docker-compose", "dockerd"];

/// Runs `install`.
pub async fn install(_session: &Session, flags: InstallFlags, _arguments: Vec<String>) -> Outcome {
    let running =
        std::env::current_exe().map_err(|error| Failure::from(error).context("cannot find this program"))?;
    let folder = match (&flags.to, flags.links) {
        (Some(folder), _) => Some(PathBuf::from(folder)),
        (None, false) => Some(PathBuf::from("/usr/local/bin")),
        (None, true) => None,
    };
    let program = match folder {
        Some(folder) => copy(&running, &folder)?,
        None => running,
    };
    if flags.links {
        make_links(&program, flags.force)?;
    }
    Ok(0)
}

fn failed(what: &str, path: &Path, error: io::Error) -> Failure {
    let denied = matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem);
    let failure = Failure::from_error(&error).context(&format!("cannot {what} {}", path.display()));
    if denied { failure.hint("run it with sudo, or name a folder of yours with --to") } else { failure }
}

/// Copies the program; one that runs is replaced, not written into.
fn copy(running: &Path, folder: &Path) -> Result<PathBuf, Failure> {
    let target = folder.join("ferry");
    if target.canonicalize().is_ok_and(|found| found == running) {
        output::line(&format!("{} is this program already", target.display()))?;
        return Ok(target);
    }
    let temporary = folder.join(format!(".ferry.{}", std::process::id()));
    let result = fs::copy(running, &temporary)
        .and_then(|_| fs::set_permissions(&temporary, fs::Permissions::from_mode(0o755)))
        .and_then(|()| fs::rename(&temporary, &target));
    if let Err(error) = result {
        // What was written is of no use, and the reason is what counts.
        let _ = fs::remove_file(&temporary);
        return Err(failed("write", &target, error));
    }
    output::line(&format!("Installed {}", target.display()))?;
    Ok(target)
}

fn make_links(program: &Path, force: bool) -> Result<(), Failure> {
    let folder = program.parent().unwrap_or(Path::new("/"));
    let own = program.file_name().unwrap_or_default();
    let owner = fs::metadata(folder).map_err(|error| failed("look at", folder, error))?;
    let mut kept = Vec::new();
    for name in LINKS {
        let link = folder.join(name);
        match fs::symlink_metadata(&link) {
            Ok(_) if is_ours(&link, program) => {
                output::line(&format!("{} is there already", link.display()))?;
                continue;
            }
            Ok(_) if !force => {
                kept.push(link.display().to_string());
                continue;
            }
            Ok(_) => fs::remove_file(&link).map_err(|error| failed("replace", &link, error))?,
            Err(_) => {}
        }
        symlink(own, &link).map_err(|error| failed("make", &link, error))?;
        // Under sudo the folder may be the caller's, and then the links shall be too.
        if lchown(&link, Some(owner.uid()), Some(owner.gid())).is_err() {
            output::note(&format!("{} stays owned by this user", link.display()));
        }
        output::line(&format!("{} -> {}", link.display(), own.to_string_lossy()))?;
    }
    match kept.is_empty() {
        true => Ok(()),
        false => {
            Err(Failure::new(format!("{} belongs to another program and was left alone", kept.join(", ")))
                .hint("--force replaces it; or choose another folder with --to"))
        }
    }
}

fn is_ours(link: &Path, program: &Path) -> bool {
    match (link.canonicalize(), program.canonicalize()) {
        (Ok(a), Ok(b)) => a == b,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_made_once_and_strangers_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("ferry");
        fs::write(&program, "x").unwrap();
        make_links(&program, false).unwrap();
        make_links(&program, false).unwrap();
        assert_eq!(fs::read_link(folder.path().join("docker")).unwrap(), Path::new("ferry"));
        fs::remove_file(folder.path().join("dockerd")).unwrap();
        fs::write(folder.path().join("dockerd"), "stranger").unwrap();
        assert!(make_links(&program, false).unwrap_err().message.contains("dockerd"));
        make_links(&program, true).unwrap();
        assert!(is_ours(&folder.path().join("dockerd"), &program));
    }
}
