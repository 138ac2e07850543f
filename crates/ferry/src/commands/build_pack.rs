//! A folder as an archive, for engines that are elsewhere and for the classic API: what `.dockerignore` leaves out
//! is not sent, and who owns the files here means nothing there.

use std::fs;
use std::io::{self, Read as _, Write};
use std::path::Path;

use bytes::Bytes;
use ferry_build::ignore::Verdict;
use tokio::sync::mpsc;

use super::build_source::Context;

/// Adds a file that only root may write.
pub fn append_bytes(builder: &mut tar::Builder<impl Write>, name: &str, bytes: &[u8]) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o600);
    builder.append_data(&mut header, name, bytes)
}

struct Pieces {
    sender: mpsc::Sender<io::Result<Bytes>>,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = Bytes::copy_from_slice(bytes);
        self.sender.blocking_send(Ok(piece)).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Packs a context; a failure also breaks off the body, so that the engine does not build from half of it.
pub fn pack(context: &Context, sender: mpsc::Sender<io::Result<Bytes>>) -> io::Result<()> {
    let pieces = io::BufWriter::with_capacity(256 * 1024, Pieces { sender: sender.clone() });
    let result = write_archive(context, pieces);
    match result {
        // The engine has refused already and says why.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => {
            let _ = sender.blocking_send(Err(io::Error::new(error.kind(), error.to_string())));
            Err(error)
        }
        Ok(()) => Ok(()),
    }
}

fn write_archive(context: &Context, out: impl Write) -> io::Result<()> {
    let mut builder = tar::Builder::new(out);
    builder.follow_symlinks(false);
    if let Some(extra) = &context.extra {
        append_bytes(&mut builder, &context.dockerfile, &extra.text)?;
        if let Some(ignore) = &extra.ignore {
            append_bytes(&mut builder, &format!("{}.dockerignore", context.dockerfile), ignore.as_bytes())?;
        }
    }
    add_folder(&mut builder, context, Path::new(""), &context.ignore.root())?;
    builder.into_inner()?.flush()
}

fn add_folder<W: Write>(
    builder: &mut tar::Builder<W>,
    context: &Context,
    inside: &Path,
    verdict: &Verdict,
) -> io::Result<()> {
    let mut entries: Vec<_> = fs::read_dir(context.folder.join(inside))?.collect::<io::Result<_>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = inside.join(entry.file_name());
        let bytes = path.as_os_str().as_encoded_bytes();
        let verdict = context.ignore.judge(verdict, bytes);
        // Docker sends these two whatever the patterns say: the engine needs them.
        let needed = context.extra.is_none() && path == Path::new(&context.dockerfile)
            || path == Path::new(".dockerignore");
        let kind = entry.file_type()?;
        if verdict.ignored && !needed && !(kind.is_dir() && leads_to(&path, &context.dockerfile)) {
            if !kind.is_dir() || context.ignore.can_skip(bytes, &verdict) {
                continue;
            }
            add_folder(builder, context, &path, &verdict)?;
            continue;
        }
        add_entry(builder, &context.folder.join(&path), &path, kind)?;
        if kind.is_dir() {
            add_folder(builder, context, &path, &verdict)?;
        }
    }
    Ok(())
}

fn leads_to(folder: &Path, dockerfile: &str) -> bool {
    Path::new(dockerfile).starts_with(folder)
}

fn add_entry<W: Write>(
    builder: &mut tar::Builder<W>,
    source: &Path,
    name: &Path,
    kind: fs::FileType,
) -> io::Result<()> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", source.display()));
    let metadata = fs::symlink_metadata(source).map_err(named)?;
    let mut header = tar::Header::new_gnu();
    header.set_metadata(&metadata);
    // Who owns the files here means nothing in the image.
    header.set_uid(0);
    header.set_gid(0);
    if kind.is_dir() {
        builder.append_data(&mut header, name, io::empty())
    } else if kind.is_symlink() {
        builder.append_link(&mut header, name, fs::read_link(source).map_err(named)?)
    } else if kind.is_file() {
        let file = fs::File::open(source).map_err(named)?;
        builder.append_data(&mut header, name, file.take(metadata.len())).map_err(named)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::build_source::read_ignore;
    use super::*;

    #[test]
    fn contexts_leave_out_what_is_ignored() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir_all(root.join("node_modules/deep")).unwrap();
        fs::create_dir_all(root.join("docker")).unwrap();
        for (name, text) in [
            ("docker/Dockerfile", "FROM scratch"),
            (".dockerignore", "node_modules\n!node_modules/deep/kept\n*.log\ndocker\n"),
            ("app.py", "print()"),
            ("a.log", "x"),
            ("node_modules/left", "x"),
            ("node_modules/deep/kept", "x"),
        ] {
            fs::write(root.join(name), text).unwrap();
        }
        let ignore = read_ignore(root, "docker/Dockerfile").unwrap();
        let context =
            Context { folder: root.into(), dockerfile: "docker/Dockerfile".into(), extra: None, ignore };
        let mut archive = Vec::new();
        write_archive(&context, &mut archive).unwrap();
        let mut names: Vec<String> = tar::Archive::new(&archive[..])
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().to_string_lossy().into_owned())
            .collect();
        names.sort();
        assert_eq!(
            names,
            [".dockerignore", "app.py", "docker", "docker/Dockerfile", "node_modules/deep/kept"]
        );
    }
}
