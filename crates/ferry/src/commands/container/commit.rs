//! `commit`, `export`, `diff`: what a container has made of its image.

use std::fs::File;
use std::io::Write as _;

use ferry_api::Call;
use ferry_api::client::Response;
use ferry_api::container::{Change, IdResponse};

use super::{missing, path};
use crate::failure::{Failure, Outcome};
use crate::flags::NoFlags;
use crate::output;
use crate::session::Session;

crate::flags! {
    /// Flags of `commit`.
    pub struct CommitFlags {
        author: String = 'a' "author" <string> "Author (e.g., \"John Hannibal Smith <hannibal@a-team.com>\")";
        change: Vec<String> = 'c' "change" <list> "Apply Dockerfile instruction to the created image";
        message: String = 'm' "message" <string> "Commit message";
        no_pause: bool = '-' "no-pause" "Disable pausing container during commit";
        pause: Option<bool> = 'p' "pause" "Pause container during commit (default true)";
    }
}

crate::flags! {
    /// Flags of `export`.
    pub struct ExportFlags {
        output: String = 'o' "output" <string> "Write to a file, instead of STDOUT";
    }
}

/// Runs `commit`.
pub async fn commit(session: &Session, flags: CommitFlags, arguments: Vec<String>) -> Outcome {
    let (repository, tag) = arguments.get(1).map_or(("", ""), |name| crate::commands::image::split_tag(name));
    let mut call = Call::post("/commit")
        .query("container", &arguments[0])
        .query_text("repo", repository)
        .query_text("tag", tag)
        .query_text("comment", &flags.message)
        .query_text("author", &flags.author)
        .query("pause", if flags.no_pause || flags.pause == Some(false) { "0" } else { "1" });
    for change in &flags.change {
        call = call.query("changes", change);
    }
    // Docker's client sends an empty object: the container's own configuration is what counts.
    let call = call.json(&serde_json::Map::new());
    let answer = session.engine().await?.call(call).await.map_err(|error| missing(error, &arguments[0]))?;
    output::line(&answer.json::<IdResponse>().await?.id)?;
    Ok(0)
}

/// Runs `export`.
pub async fn export(session: &Session, flags: ExportFlags, arguments: Vec<String>) -> Outcome {
    refuse_terminal(&flags.output)?;
    let name = &arguments[0];
    let answer = session.engine().await?.call(Call::get(path(name, "/export"))).await;
    save(answer.map_err(|error| missing(error, name))?, &flags.output).await?;
    Ok(0)
}

/// A tar on a terminal helps nobody.
pub fn refuse_terminal(output: &str) -> Result<(), Failure> {
    if output.is_empty() && output::stdout_is_terminal() {
        return Err(Failure::new("cowardly refusing to save to a terminal. Use the -o flag or redirect"));
    }
    Ok(())
}

/// Writes an answer's body to a file, whole or not at all, or to stdout.
pub async fn save(mut answer: Response, path: &str) -> Result<(), Failure> {
    if path.is_empty() || path == "-" {
        while let Some(chunk) = answer.chunk().await? {
            output::write(&chunk)?;
        }
        return Ok(());
    }
    let context = format!("failed to write {path}");
    let failed = |error| Failure::from(error).context(&context);
    // A device or a pipe is written to; a file in its place would be another thing.
    if std::fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        let mut file = std::fs::OpenOptions::new().write(true).open(path).map_err(failed)?;
        while let Some(chunk) = answer.chunk().await? {
            file.write_all(&chunk).map_err(failed)?;
        }
        return Ok(());
    }
    let temporary = format!("{path}.{}.partial", std::process::id());
    let result = async {
        let mut file = File::create(&temporary).map_err(failed)?;
        while let Some(chunk) = answer.chunk().await? {
            file.write_all(&chunk).map_err(failed)?;
        }
        std::fs::rename(&temporary, path).map_err(failed)
    };
    let result: Result<(), Failure> = result.await;
    if result.is_err() {
        // What was written is of no use, and the reason is what counts.
        let _ = std::fs::remove_file(&temporary);
    }
    result
}

/// Runs `diff`.
pub async fn diff(session: &Session, _flags: NoFlags, arguments: Vec<String>) -> Outcome {
    let name = &arguments[0];
    let answer = session.engine().await?.call(Call::get(path(name, "/changes"))).await;
    let changes: Option<Vec<Change>> = answer.map_err(|error| missing(error, name))?.json().await?;
    for change in changes.unwrap_or_default() {
        let kind = ["C", "A", "D"].get(usize::from(change.kind)).copied().unwrap_or("?");
        output::line(&format!("{kind} {}", change.path))?;
    }
    Ok(0)
}
