//! `cp`: files between a container and here, by the rules of `cp -a`.

mod pack;
mod unpack;

use std::io::{self, Write as _};
use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use ferry_api::container::{PathStat, file_mode};
use ferry_api::{Call, Client};
use futures_util::stream;
use tokio::sync::mpsc;

use super::{missing, path};
use crate::failure::{Failure, Outcome};
use crate::output;
use crate::session::Session;
use pack::{PieceWriter, pack};
use unpack::{Pieces, unpack};

crate::flags! {
    /// Flags of `cp`.
    pub struct CpFlags {
        archive: bool = 'a' "archive" "Archive mode (copy all uid/gid information)";
        follow_link: bool = 'L' "follow-link" "Always follow symbol link in SRC_PATH";
        quiet: bool = 'q' "quiet" "Suppress progress output during copy. Progress output is automatically suppressed if no terminal is attached";
    }
}

/// One end of a copy.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Container { name: String, path: String },
    Local(String),
    Pipe,
}

/// Reads one argument: a colon makes it a container's, unless the path is plainly a local one.
fn end(argument: &str) -> End {
    if argument == "-" {
        return End::Pipe;
    }
    if argument.starts_with(['/', '.']) {
        return End::Local(argument.to_owned());
    }
    match argument.split_once(':') {
        Some((name, path)) if !name.is_empty() => {
            End::Container { name: name.to_owned(), path: path.to_owned() }
        }
        _ => End::Local(argument.to_owned()),
    }
}

/// Runs `cp`.
pub async fn cp(session: &Session, flags: CpFlags, arguments: Vec<String>) -> Outcome {
    match (end(&arguments[0]), end(&arguments[1])) {
        (End::Container { .. }, End::Container { .. }) => {
            Err(Failure::new("copying between containers is not supported")
                .hint("copy to a local folder first, and from there into the other container"))
        }
        (End::Container { name, path }, to) => {
            let client = session.engine().await?;
            copy_out(client, &flags, &name, &path, &to).await?;
            Ok(0)
        }
        (from, End::Container { name, path }) => {
            let client = session.engine().await?;
            copy_in(client, &flags, &from, &name, &path).await?;
            Ok(0)
        }
        _ => Err(Failure::new("must specify at least one container source").hint(format!(
            "a container's path is written as CONTAINER:PATH, as in '{} cp web:/etc/hosts .'",
            session.called
        ))),
    }
}

/// What is at a container's path; None where nothing is.
async fn stat(client: &Client, name: &str, at: &str) -> Result<Option<PathStat>, Failure> {
    let answer = match client.call(Call::head(path(name, "/archive")).query("path", at)).await {
        Ok(answer) => answer,
        Err(error) if error.is_not_found() => {
            // An answer to HEAD has no text: it is the container or the path that is missing.
            super::inspect(client, name).await?;
            return Ok(None);
        }
        Err(error) => return Err(missing(error, name)),
    };
    let header = answer.header("x-docker-container-path-stat").unwrap_or_default();
    let unreadable =
        || Failure::new(format!("the engine's answer about {name}:{at} has no usable path status"));
    let json = BASE64_STANDARD.decode(header).map_err(|_| unreadable())?;
    Ok(Some(serde_json::from_slice(&json).map_err(|_| unreadable())?))
}

fn is_directory(stat: &PathStat) -> bool {
    stat.mode & file_mode::DIRECTORY != 0
}

async fn copy_out(client: &Client, flags: &CpFlags, name: &str, from: &str, to: &End) -> Result<(), Failure> {
    let mut source = from.to_owned();
    if flags.follow_link
        && let Some(found) = stat(client, name, from).await?
        && found.mode & file_mode::SYMLINK != 0
    {
        source = resolve(from, &found.link_target);
    }
    let call = Call::get(path(name, "/archive")).query("path", &source);
    let mut answer = client.call(call).await.map_err(|error| missing(error, name))?;
    let to = match to {
        End::Pipe => {
            super::commit::refuse_terminal("")?;
            return super::commit::save(answer, "-").await;
        }
        End::Local(to) => to.clone(),
        End::Container { .. } => unreachable!("both ends in containers were refused"),
    };
    let (sender, receiver) = mpsc::channel::<Bytes>(4);
    let contents_only = source.ends_with("/.") || source == ".";
    let keep_owner = flags.archive;
    let target = to.clone();
    let unpacking = tokio::task::spawn_blocking(move || {
        unpack(Pieces::new(receiver), &target, contents_only, keep_owner)
    });
    let mut count = 0;
    while let Some(chunk) = answer.chunk().await? {
        count += chunk.len();
        if sender.send(chunk).await.is_err() {
            break;
        }
    }
    drop(sender);
    unpacking.await.map_err(|error| Failure::new(error.to_string()))?.map_err(Failure::new)?;
    report(flags, count, &to);
    Ok(())
}

fn report(flags: &CpFlags, bytes: usize, to: &str) {
    if !flags.quiet && io::IsTerminal::is_terminal(&io::stderr()) {
        output::note(&format!("Successfully copied {} to {to}", output::units::size(bytes as i64)));
    }
}

/// Where a link leads, seen from its own folder.
fn resolve(link: &str, target: &str) -> String {
    if target.starts_with('/') {
        return target.to_owned();
    }
    let parent = Path::new(link).parent().unwrap_or(Path::new("/"));
    parent.join(target).to_string_lossy().into_owned()
}

async fn copy_in(client: &Client, flags: &CpFlags, from: &End, name: &str, to: &str) -> Result<(), Failure> {
    let source = match from {
        End::Local(source) => source.clone(),
        _ => return put(client, flags, name, to, Upload::Stdin).await,
    };
    let local = Path::new(&source);
    let metadata = match flags.follow_link {
        true => std::fs::metadata(local),
        false => std::fs::symlink_metadata(local),
    };
    let metadata =
        metadata.map_err(|error| Failure::from(error).context(&format!("cannot read {source:?}")))?;
    let mut target = to.to_owned();
    let mut found = stat(client, name, to).await?;
    if let Some(link) = found.as_ref().filter(|found| found.mode & file_mode::SYMLINK != 0) {
        target = resolve(to, &link.link_target);
        found = stat(client, name, &target).await?;
    }
    let contents_only = source.ends_with("/.") || source == ".";
    let local_name =
        local.canonicalize().ok().and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
    let base =
        local.file_name().map(|base| base.to_string_lossy().into_owned()).or(local_name).unwrap_or_default();
    let (folder, rename) = match &found {
        Some(found) if is_directory(found) && contents_only => (target.clone(), String::new()),
        Some(found) if is_directory(found) => (target.clone(), base),
        Some(_) if metadata.is_dir() => {
            return Err(Failure::new(format!("cannot copy directory to {name}:{to}: it is a file")));
        }
        None if target.ends_with('/') && !metadata.is_dir() => {
            return Err(Failure::new(format!("no such directory: {name}:{to}")));
        }
        _ => split_target(&target),
    };
    let upload = Upload::Path { source, rename, follow: flags.follow_link, keep_owner: flags.archive };
    put(client, flags, name, &folder, upload).await
}

fn split_target(target: &str) -> (String, String) {
    let trimmed = target.trim_end_matches('/');
    let (folder, base) = trimmed.rsplit_once('/').unwrap_or(("", trimmed));
    (if folder.is_empty() { "/".to_owned() } else { folder.to_owned() }, base.to_owned())
}

enum Upload {
    Stdin,
    Path { source: String, rename: String, follow: bool, keep_owner: bool },
}

async fn put(
    client: &Client,
    flags: &CpFlags,
    name: &str,
    folder: &str,
    upload: Upload,
) -> Result<(), Failure> {
    let (sender, receiver) = mpsc::channel::<io::Result<Bytes>>(4);
    let packing = tokio::task::spawn_blocking(move || {
        let mut writer = PieceWriter::new(sender);
        let result = match upload {
            Upload::Stdin => writer.take_from(&io::stdin(), u64::MAX).and_then(|_| writer.flush()),
            Upload::Path { source, rename, follow, keep_owner } => {
                pack(&mut writer, Path::new(&source), &rename, follow, keep_owner)
            }
        };
        if let Err(error) = result {
            // The engine sees a body that breaks off, and we say why.
            writer.fail(&error);
            return Err(error);
        }
        Ok(writer.count)
    });
    let body =
        stream::unfold(receiver, async |mut receiver| receiver.recv().await.map(|piece| (piece, receiver)));
    let call = Call::put(path(name, "/archive"))
        .query("path", folder)
        .query("noOverwriteDirNonDir", "true")
        .query_if("copyUIDGID", flags.archive)
        .stream("application/x-tar", body);
    let answer = client.call(call).await;
    let packed = packing.await.map_err(|error| Failure::new(error.to_string()))?;
    match (answer, packed) {
        (Ok(answer), Ok(count)) => {
            answer.discard().await?;
            report(flags, count, &format!("{name}:{folder}"));
            Ok(())
        }
        (Err(error), _) if error.status().is_some() => Err(missing(error, name)),
        (_, Err(error)) => Err(Failure::from(error).context("cannot read what is to be copied")),
        (Err(error), _) => Err(missing(error, name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends() {
        let container = |name: &str, path: &str| End::Container { name: name.into(), path: path.into() };
        assert_eq!(end("web:/etc"), container("web", "/etc"));
        assert_eq!(end("web:"), container("web", ""));
        assert_eq!(end("./a:b"), End::Local("./a:b".into()));
        assert_eq!(end("/a:b"), End::Local("/a:b".into()));
        assert_eq!(end("-"), End::Pipe);
        assert_eq!(end("file"), End::Local("file".into()));
        assert_eq!(split_target("/a/b/"), ("/a".into(), "b".into()));
        assert_eq!(split_target("b"), ("/".into(), "b".into()));
        assert_eq!(resolve("/a/link", "../b"), "/a/../b");
    }

    #[test]
    fn there_and_back() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("src");
        std::fs::create_dir_all(source.join("sub")).unwrap();
        std::fs::write(source.join("sub/file"), "text").unwrap();
        std::os::unix::fs::symlink("file", source.join("sub/link")).unwrap();
        let (sender, mut receiver) = mpsc::channel(100);
        pack(&mut PieceWriter::new(sender), &source, "src", false, false).unwrap();
        let mut archive = Vec::new();
        while let Some(piece) = receiver.blocking_recv() {
            archive.extend_from_slice(&piece.unwrap());
        }
        let place = |to: &str| folder.path().join(to).to_string_lossy().into_owned();
        // A target that is not there gets the folder's contents; one that is gets the folder.
        unpack(&archive[..], &place("new"), false, false).unwrap();
        assert_eq!(std::fs::read_to_string(place("new/sub/link")).unwrap(), "text");
        unpack(&archive[..], &place("new"), false, false).unwrap();
        assert_eq!(std::fs::read_to_string(place("new/src/sub/file")).unwrap(), "text");
        assert!(unpack(&archive[..], &place("no/such/place"), false, false).is_err());
        assert!(unpack(&archive[..], &place("new/sub/file"), false, false).is_err());
    }

    #[test]
    fn archives_that_lead_out_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("to");
        std::fs::create_dir(&to).unwrap();
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        builder.append_link(&mut header, "dir/link", "/tmp").unwrap();
        let mut header = tar::Header::new_gnu();
        header.set_size(1);
        header.set_mode(0o644);
        builder.append_data(&mut header, "dir/link/file", &b"x"[..]).unwrap();
        let archive = builder.into_inner().unwrap();
        std::fs::create_dir(to.join("dir")).unwrap();
        let error = unpack(&archive[..], &to.to_string_lossy(), false, false).unwrap_err();
        assert!(error.contains("symbolic link"), "{error}");
    }
}
