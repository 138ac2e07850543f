//! Repositories as contexts and for `ADD`: fetched by the machine's own `git`, which knows every protocol,
//! proxy and credential that its user has set up.

use std::path::Path;
use std::process::Stdio;

use ferry_build::git::GitAddress;
use tokio::process::Command;

/// Settings that no fetched tree and no configuration of the machine may change.
const SETTINGS: [&str; 6] =
    ["-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "advice.detachedHead=false"];

/// Last characters of what git says that are kept for an error.
const SAID: usize = 600;

/// Puts the tree of a repository into an empty directory; gives the commit's time in seconds since 1970.
pub async fn clone_repository(address: &GitAddress, target: &Path) -> Result<i64, String> {
    let wanted = if address.reference.is_empty() { "HEAD" } else { &address.reference };
    if wanted.starts_with('-') || address.repository.starts_with('-') {
        return Err(format!("{wanted:?} of {:?} is no branch, tag or commit", address.repository));
    }
    git(target, &["init", "-q"]).await?;
    git(target, &["remote", "add", "origin", &address.repository]).await?;
    // A server may refuse to send a lone commit; then everything is asked for.
    let lone = git(target, &["fetch", "-q", "--depth", "1", "--no-tags", "origin", wanted]).await;
    let found = match lone {
        Ok(_) => "FETCH_HEAD".to_owned(),
        Err(_) => {
            git(target, &["fetch", "-q", "--tags", "origin", "+refs/heads/*:refs/remotes/origin/*"]).await?;
            wanted.to_owned()
        }
    };
    git(target, &["checkout", "-q", "--detach", &found]).await?;
    if target.join(".gitmodules").is_file() {
        git(target, &["submodule", "update", "-q", "--init", "--recursive", "--depth", "1"]).await?;
    }
    let time = git(target, &["log", "-1", "--format=%ct"]).await?;
    if !address.keep_git_directory {
        let folder = target.join(".git");
        tokio::fs::remove_dir_all(&folder)
            .await
            .map_err(|error| format!("cannot remove {}: {error}", folder.display()))?;
    }
    time.trim().parse().map_err(|_| format!("git gives no commit time: {time:?}"))
}

async fn git(folder: &Path, arguments: &[&str]) -> Result<String, String> {
    let mut command = Command::new("git");
    command.args(SETTINGS).args(arguments).current_dir(folder);
    // Nobody is there to be asked for a password.
    command.env("GIT_TERMINAL_PROMPT", "0").env("GIT_SSH_COMMAND", "ssh -oBatchMode=yes");
    command.env_remove("GIT_DIR").env_remove("GIT_WORK_TREE").env_remove("GIT_INDEX_FILE");
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = command.output().await.map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            "building from a repository needs git, which is not installed on the engine's machine".to_owned()
        }
        _ => format!("cannot run git: {error}"),
    })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.trim();
    let start = said.ceil_char_boundary(said.len().saturating_sub(SAID));
    Err(format!("git {}: {}", arguments.first().copied().unwrap_or_default(), &said[start..]))
}
