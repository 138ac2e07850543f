//! `cp`: files between a container and here, by the rules of `cp -a`.

use std::io::{self, Write as _};
use std::path::{Component, Path, PathBuf};

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

/// Unpacks an archive of one file or folder to `to`, as `cp -a` would place it.
fn unpack(archive: impl io::Read, to: &str, contents_only: bool, keep_owner: bool) -> Result<(), String> {
    let target = Path::new(to);
    let exists = target.symlink_metadata().is_ok();
    let is_folder = target.is_dir();
    if !exists && target.parent().is_some_and(|parent| !parent.as_os_str().is_empty() && !parent.is_dir()) {
        return Err(format!(
            "invalid output path: directory {:?} does not exist",
            target.parent().unwrap_or(target)
        ));
    }
    let mut archive = tar::Archive::new(archive);
    let mut folders = Vec::new();
    for entry in archive.entries().map_err(|error| error.to_string())? {
        let mut entry = entry.map_err(|error| format!("cannot read the archive: {error}"))?;
        let inside = entry.path().map_err(|error| error.to_string())?.into_owned();
        let mut parts = inside.components().filter(|part| *part != Component::CurDir);
        let rename = !is_folder || contents_only;
        if rename {
            parts.next();
        }
        let rest: PathBuf = parts.collect();
        if rest.components().any(|part| !matches!(part, Component::Normal(_))) {
            return Err(format!("the archive names {inside:?}, which leads out of the target"));
        }
        let kind = entry.header().entry_type();
        if rename && rest.as_os_str().is_empty() && !kind.is_dir() && (to.ends_with('/') || is_folder) {
            return Err(format!("the destination directory {to:?} must exist to copy a file into it"));
        }
        let place = if rest.as_os_str().is_empty() { target.to_path_buf() } else { target.join(&rest) };
        if kind.is_dir() && exists && !is_folder && rest.as_os_str().is_empty() {
            return Err(format!("cannot copy directory to {to:?}: it is a file"));
        }
        place_entry(&mut entry, target, &rest, &place, keep_owner, &mut folders)?;
    }
    // Times of folders last: what is put into one changes them.
    for (folder, mode, time) in folders.into_iter().rev() {
        set_folder(&folder, mode, time)
            .map_err(|error| format!("cannot set the mode of {folder:?}: {error}"))?;
    }
    Ok(())
}

type Folder = (PathBuf, u32, u64);

fn place_entry<R: io::Read>(
    entry: &mut tar::Entry<'_, R>,
    target: &Path,
    rest: &Path,
    place: &Path,
    keep_owner: bool,
    folders: &mut Vec<Folder>,
) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt as _;
    let failed = |error: io::Error| format!("cannot write {place:?}: {error}");
    refuse_links_on_the_way(target, rest)?;
    let mode = entry.header().mode().unwrap_or(0o644) & 0o7777;
    let time = entry.header().mtime().unwrap_or(0);
    match entry.header().entry_type() {
        tar::EntryType::Directory => {
            match std::fs::create_dir(place) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && place.is_dir() => {}
                other => other.map_err(failed)?,
            }
            folders.push((place.to_path_buf(), mode, time));
        }
        tar::EntryType::Symlink => {
            let link = entry.link_name().map_err(failed)?.unwrap_or_default().into_owned();
            remove_file(place).map_err(failed)?;
            std::os::unix::fs::symlink(link, place).map_err(failed)?;
        }
        tar::EntryType::Link => {
            let link = entry.link_name().map_err(failed)?.unwrap_or_default().into_owned();
            let from: PathBuf = link
                .components()
                .skip(link.components().count().saturating_sub(rest.components().count()))
                .collect();
            if from.components().any(|part| !matches!(part, Component::Normal(_))) {
                return Err(format!("the archive links to {link:?}, which leads out of the target"));
            }
            refuse_links_on_the_way(target, &from)?;
            remove_file(place).map_err(failed)?;
            std::fs::hard_link(target.join(from), place).map_err(failed)?;
        }
        tar::EntryType::Regular | tar::EntryType::Continuous | tar::EntryType::GNUSparse => {
            // An existing link at the place is written through, as cp does for a target that is a link.
            if place.is_symlink() && !rest.as_os_str().is_empty() {
                std::fs::remove_file(place).map_err(failed)?;
            }
            let mut file = std::fs::File::create(place).map_err(failed)?;
            io::copy(entry, &mut file).map_err(failed)?;
            file.set_permissions(std::fs::Permissions::from_mode(mode)).map_err(failed)?;
            let modified = std::time::UNIX_EPOCH + std::time::Duration::from_secs(time);
            file.set_modified(modified).map_err(failed)?;
        }
        kind => {
            if let Err(reason) = make_special(kind, entry.header(), place, mode) {
                // The rest of the tree is worth having without it.
                output::note(&format!("skipped {}: {reason}", place.display()));
                return Ok(());
            }
        }
    }
    if keep_owner {
        let owner = (entry.header().uid().unwrap_or(0) as u32, entry.header().gid().unwrap_or(0) as u32);
        std::os::unix::fs::lchown(place, Some(owner.0), Some(owner.1)).map_err(failed)?;
    }
    Ok(())
}

/// Makes a pipe or a device, which only root may.
fn make_special(kind: tar::EntryType, header: &tar::Header, place: &Path, mode: u32) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt as _;

    use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
    let kind = match kind {
        tar::EntryType::Fifo => FileType::Fifo,
        tar::EntryType::Char => FileType::CharacterDevice,
        tar::EntryType::Block => FileType::BlockDevice,
        other => return Err(format!("a {other:?} cannot be copied")),
    };
    let number = |field: io::Result<Option<u32>>| field.ok().flatten().unwrap_or(0);
    let device = makedev(number(header.device_major()), number(header.device_minor()));
    remove_file(place).map_err(|error| error.to_string())?;
    mknodat(CWD, place, kind, Mode::from_raw_mode(mode), device).map_err(|errno| errno.to_string())?;
    // The process's umask had its say.
    std::fs::set_permissions(place, std::fs::Permissions::from_mode(mode)).map_err(|error| error.to_string())
}

/// A link that the archive itself has put there must not lead later entries elsewhere.
fn refuse_links_on_the_way(target: &Path, rest: &Path) -> Result<(), String> {
    let mut at = target.to_path_buf();
    for part in rest.parent().into_iter().flat_map(Path::components) {
        at.push(part);
        if at.is_symlink() {
            return Err(format!("{at:?} is a symbolic link, which an archive must not lead through"));
        }
    }
    Ok(())
}

fn remove_file(place: &Path) -> io::Result<()> {
    match std::fs::remove_file(place) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn set_folder(folder: &Path, mode: u32, time: u64) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(mode))?;
    let modified = std::time::UNIX_EPOCH + std::time::Duration::from_secs(time);
    std::fs::File::open(folder)?.set_modified(modified)
}

/// A body as it comes, for code that reads.
struct Pieces {
    receiver: mpsc::Receiver<Bytes>,
    current: Bytes,
}

impl Pieces {
    fn new(receiver: mpsc::Receiver<Bytes>) -> Pieces {
        Pieces { receiver, current: Bytes::new() }
    }
}

impl io::Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.current.is_empty() {
            match self.receiver.blocking_recv() {
                Some(piece) => self.current = piece,
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.current.len());
        buffer[..count].copy_from_slice(&self.current.split_to(count));
        Ok(count)
    }
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
        let mut writer = PieceWriter { sender, count: 0 };
        let result = match upload {
            Upload::Stdin => io::copy(&mut io::stdin().lock(), &mut writer).map(|_| ()),
            Upload::Path { source, rename, follow, keep_owner } => {
                pack(&mut writer, Path::new(&source), &rename, follow, keep_owner)
            }
        };
        if let Err(error) = result {
            // The engine sees a body that breaks off, and we say why.
            let _ = writer.sender.blocking_send(Err(io::Error::new(error.kind(), error.to_string())));
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

struct PieceWriter {
    sender: mpsc::Sender<io::Result<Bytes>>,
    count: usize,
}

impl io::Write for PieceWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = Bytes::copy_from_slice(bytes);
        self.sender.blocking_send(Ok(piece)).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        self.count += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Packs a file or folder under the name `rename`; an empty name means its contents only.
fn pack(
    out: &mut impl io::Write,
    source: &Path,
    rename: &str,
    follow: bool,
    keep_owner: bool,
) -> io::Result<()> {
    let buffered = io::BufWriter::with_capacity(256 * 1024, out);
    let mut builder = tar::Builder::new(buffered);
    builder.follow_symlinks(false);
    let name = if rename.is_empty() { Path::new(".") } else { Path::new(rename) };
    let resolved = if follow { source.canonicalize()? } else { source.to_path_buf() };
    add(&mut builder, &resolved, name, keep_owner)?;
    builder.into_inner()?.flush()
}

fn add<W: io::Write>(
    builder: &mut tar::Builder<W>,
    source: &Path,
    name: &Path,
    keep_owner: bool,
) -> io::Result<()> {
    let metadata = std::fs::symlink_metadata(source)?;
    let mut header = tar::Header::new_gnu();
    header.set_metadata(&metadata);
    if !keep_owner {
        header.set_uid(0);
        header.set_gid(0);
    }
    if metadata.is_dir() {
        builder.append_data(&mut header, name, io::empty())?;
        let mut entries: Vec<_> = std::fs::read_dir(source)?.collect::<io::Result<_>>()?;
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            add(builder, &entry.path(), &name.join(entry.file_name()), keep_owner)?;
        }
    } else if metadata.is_symlink() {
        builder.append_link(&mut header, name, std::fs::read_link(source)?)?;
    } else if metadata.is_file() {
        builder.append_data(&mut header, name, std::fs::File::open(source)?)?;
    } else if let Some(kind) = special_kind(&metadata) {
        use std::os::unix::fs::MetadataExt as _;
        let device = metadata.rdev();
        header.set_entry_type(kind);
        header.set_size(0);
        header.set_device_major(rustix::fs::major(device))?;
        header.set_device_minor(rustix::fs::minor(device))?;
        builder.append_data(&mut header, name, io::empty())?;
    } else {
        output::note(&format!("skipped {}: a socket means nothing without its program", source.display()));
    }
    Ok(())
}

/// The tar's word for a pipe or a device.
fn special_kind(metadata: &std::fs::Metadata) -> Option<tar::EntryType> {
    use std::os::unix::fs::FileTypeExt as _;
    let kind = metadata.file_type();
    match (kind.is_fifo(), kind.is_char_device(), kind.is_block_device()) {
        (true, _, _) => Some(tar::EntryType::Fifo),
        (_, true, _) => Some(tar::EntryType::Char),
        (_, _, true) => Some(tar::EntryType::Block),
        _ => None,
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
        let mut archive = Vec::new();
        pack(&mut archive, &source, "src", false, false).unwrap();
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
