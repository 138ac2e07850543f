//! Copies between temporary directories; they need no root beyond owning their own files.

use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::AtomicBool;

use super::*;
use crate::ignore::Ignore;
use crate::llb::ops::FileActionCopy;

fn open(path: &Path) -> OwnedFd {
    File::open(path).expect("a directory").into()
}

fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().expect("a parent")).expect("parents");
    fs::write(path, text).expect("a file");
}

fn action(src: &str) -> FileActionCopy {
    FileActionCopy {
        src: src.to_owned(),
        allow_wildcard: true,
        mode: -1,
        timestamp: -1,
        ..FileActionCopy::default()
    }
}

fn context(root: &Path, ignore: &str) -> Tree {
    Tree::context(open(root), Ignore::parse(ignore).expect("valid"))
}

/// Owners stay as they are, so that the tests need not be root.
fn settings(canceled: &AtomicBool) -> CopySettings<'_> {
    let owner =
        Some(Owner { uid: rustix::process::getuid().as_raw(), gid: rustix::process::getgid().as_raw() });
    CopySettings { owner, mode: None, replace: false, unpack: false, epoch: None, canceled, reuse: None }
}

fn copy(tree: &Tree, action: &FileActionCopy, target: &Path, destination: &str) -> Result<(), FileError> {
    let canceled = AtomicBool::new(false);
    let selection = select(tree, action)?;
    let mut touched = TouchedDirectories::default();
    let root = open(target);
    copy_selection(tree, &selection, root.as_fd(), destination, &settings(&canceled), &mut touched)?;
    touched.restore(root.as_fd())
}

fn names(root: &Path) -> Vec<String> {
    let tree = Tree::stage(open(root));
    let entries = tree.walk(Path::new(""), 1000).expect("a walk");
    entries.into_iter().map(|entry| entry.path.display().to_string()).collect()
}

struct Pair {
    source: tempfile::TempDir,
    target: tempfile::TempDir,
}

fn pair() -> Pair {
    Pair {
        source: tempfile::tempdir().expect("a directory"),
        target: tempfile::tempdir().expect("a directory"),
    }
}

#[test]
fn directories_give_their_contents_and_files_themselves() {
    let Pair { source, target } = pair();
    write(source.path(), "src/a.txt", "a");
    write(source.path(), "src/deep/b.txt", "b");
    write(source.path(), "c.txt", "c");
    let tree = context(source.path(), "");
    copy(&tree, &action("/src"), target.path(), "/app").expect("a copy");
    copy(&tree, &action("/c.txt"), target.path(), "/app/").expect("a copy");
    copy(&tree, &action("/c.txt"), target.path(), "/x/renamed").expect("a copy");
    assert_eq!(
        names(target.path()),
        ["app", "app/a.txt", "app/c.txt", "app/deep", "app/deep/b.txt", "x", "x/renamed"]
    );
}

#[test]
fn patterns_select_and_the_ignore_file_hides() {
    let Pair { source, target } = pair();
    for path in ["a.py", "b.py", "c.md", "node_modules/x.py", "d/e.py"] {
        write(source.path(), path, path);
    }
    let tree = context(source.path(), "node_modules\nb.py");
    copy(&tree, &action("/*.py"), target.path(), "/out/").expect("a copy");
    copy(&tree, &action("/"), target.path(), "/all").expect("a copy");
    assert_eq!(
        names(target.path()),
        ["all", "all/a.py", "all/c.md", "all/d", "all/d/e.py", "out", "out/a.py"]
    );
    let message = copy(&tree, &action("/b.py"), target.path(), "/x").expect_err("hidden").to_string();
    assert!(message.contains("excluded by .dockerignore"), "{message}");
    assert!(select(&tree, &action("/none*")).expect("no error").roots.is_empty());
    assert!(copy(&tree, &action("/gone"), target.path(), "/x").is_err());
}

#[test]
fn parents_are_kept_where_asked() {
    let Pair { source, target } = pair();
    write(source.path(), "a/b/x.json", "1");
    write(source.path(), "a/c/y.txt", "2");
    let tree = context(source.path(), "");
    let mut parents = action("/");
    parents.include_patterns = vec!["a/*/*.json".to_owned()];
    copy(&tree, &parents, target.path(), "/app/").expect("a copy");
    assert_eq!(names(target.path()), ["app", "app/a", "app/a/b", "app/a/b/x.json"]);
}

#[test]
fn exclusions_of_the_instruction() {
    let Pair { source, target } = pair();
    for path in ["a.txt", "b.md", "d/c.txt", "d/e.md"] {
        write(source.path(), path, path);
    }
    let tree = context(source.path(), "");
    let mut excluding = action("/");
    excluding.exclude_patterns = vec!["**/*.txt".to_owned()];
    copy(&tree, &excluding, target.path(), "/").expect("a copy");
    assert_eq!(names(target.path()), ["b.md", "d", "d/e.md"]);
}

#[test]
fn links_never_lead_out() {
    let Pair { source, target } = pair();
    let outside = tempfile::tempdir().expect("a directory");
    write(outside.path(), "secret", "s");
    symlink(outside.path(), source.path().join("out")).expect("a link");
    symlink("/etc/passwd", source.path().join("file")).expect("a link");
    symlink(outside.path(), target.path().join("escape")).expect("a link");
    write(source.path(), "a", "a");
    let tree = context(source.path(), "");
    assert!(copy(&tree, &action("/out/secret"), target.path(), "/x").is_err());
    assert!(copy(&tree, &action("/file"), target.path(), "/x").is_err());
    // A link at the destination is followed inside of the destination.
    let _ = copy(&tree, &action("/a"), target.path(), "/escape/a");
    assert!(!outside.path().join("a").exists());
}

#[test]
fn keys_follow_contents_and_permissions_but_not_times() {
    let Pair { source, .. } = pair();
    write(source.path(), "d/a", "1");
    let key = || {
        let tree = context(source.path(), "");
        let selection = select(&tree, &action("/d")).expect("a selection");
        selection_key(&tree, &selection, &FileHashes::default()).expect("a key")
    };
    let first = key();
    let file = File::options().write(true).open(source.path().join("d/a")).expect("the file");
    file.set_modified(std::time::SystemTime::UNIX_EPOCH).expect("a time");
    assert_eq!(key(), first);
    fs::set_permissions(source.path().join("d/a"), fs::Permissions::from_mode(0o755)).expect("permissions");
    let second = key();
    assert_ne!(second, first);
    write(source.path(), "d/a", "2");
    assert_ne!(key(), second);
}

#[test]
fn times_and_permissions_travel_and_directories_keep_theirs() {
    let Pair { source, target } = pair();
    write(source.path(), "a", "1");
    fs::set_permissions(source.path().join("a"), fs::Permissions::from_mode(0o4711)).expect("permissions");
    File::options()
        .write(true)
        .open(source.path().join("a"))
        .expect("the file")
        .set_modified(std::time::SystemTime::UNIX_EPOCH)
        .expect("a time");
    let before = fs::metadata(target.path()).expect("a directory").mtime_nsec();
    copy(&context(source.path(), ""), &action("/a"), target.path(), "/a").expect("a copy");
    let copied = fs::metadata(target.path().join("a")).expect("the copy");
    assert_eq!((copied.mtime(), copied.mode() & 0o7777), (0, 0o4711));
    assert_eq!(fs::metadata(target.path()).expect("a directory").mtime_nsec(), before);
}

#[test]
fn archives_are_told_and_unpacked_without_leaving() {
    let Pair { source, target } = pair();
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(1);
    header.set_mode(0o644);
    header.set_uid(u64::from(rustix::process::getuid().as_raw()));
    header.set_gid(u64::from(rustix::process::getgid().as_raw()));
    header.set_cksum();
    builder.append_data(&mut header, "dir/file", &b"x"[..]).expect("an entry");
    let bytes = builder.into_inner().expect("a tar");
    fs::write(source.path().join("a.tar"), &bytes).expect("a file");
    let mut file = File::open(source.path().join("a.tar")).expect("the file");
    assert_eq!(detect_compression(&mut file).expect("readable"), Some(Compression::None));
    let canceled = AtomicBool::new(false);
    let root = open(target.path());
    let unpack = |bytes: &[u8]| {
        let mut touched = TouchedDirectories::default();
        let limits = UnpackLimits::default();
        unpack_tar(bytes, root.as_fd(), Path::new("/t"), &limits, &mut touched, &canceled)
    };
    unpack(&bytes).expect("unpacked");
    assert_eq!(names(target.path()), ["t", "t/dir", "t/dir/file"]);
    // Docker's client leaves out what fills the last block, but what is cut off is noticed.
    let mut builder = tar::Builder::new(Vec::new());
    header.set_size(700);
    header.set_cksum();
    builder.append_data(&mut header, "dir/long", &[b'x'; 700][..]).expect("an entry");
    let long = builder.into_inner().expect("a tar");
    unpack(&long[..512 + 700]).expect("unpacked");
    assert_eq!(fs::metadata(target.path().join("t/dir/long")).expect("a file").len(), 700);
    for cut in [512 + 699, 512 + 600, 512 + 512, 512 + 3] {
        assert!(matches!(unpack(&long[..cut]), Err(FileError::Archive(_))), "{cut}");
    }
    let mut evil = bytes.clone();
    evil[..8].copy_from_slice(b"../file\0");
    let sum: u32 = evil[..512]
        .iter()
        .enumerate()
        .map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) })
        .sum();
    evil[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    assert!(matches!(unpack(&evil), Err(FileError::Escapes(_))));
}

#[test]
fn a_wide_folder_comes_in_order_and_within_its_limit() {
    let folder = tempfile::tempdir().expect("a folder");
    for part in 0..100 {
        write(folder.path(), &format!("part-{part}/deeper/file"), "x");
    }
    write(folder.path(), "ignored/file", "x");
    let tree = context(folder.path(), "ignored\n*/deeper\n!part-7/deeper\n");
    let found = tree.walk(Path::new(""), 1000).expect("a walk");
    let mut wanted: Vec<String> = (0..100).map(|part| format!("part-{part}")).collect();
    wanted.extend(["part-7/deeper".to_owned(), "part-7/deeper/file".to_owned()]);
    wanted.sort_by_key(|path| path.split('/').map(str::to_owned).collect::<Vec<_>>());
    assert_eq!(found.iter().map(|entry| entry.path.display().to_string()).collect::<Vec<_>>(), wanted);
    assert!(matches!(tree.walk(Path::new(""), 101), Err(FileError::TooMany { limit: 101, .. })));
    assert_eq!(tree.walk(Path::new(""), 102).expect("as many as may be").len(), 102);
}
