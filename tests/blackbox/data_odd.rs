//! Trees that hold whatever a file system can hold, through every way that data takes.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use ferry_tests::Engine;
use rustix::fs::{CWD, FileType, Mode};

use crate::{CLIENTS, Test};

/// The suite.
pub const TESTS: &[Test] = &[
    ("data::odd_trees_come_through_every_way", odd_trees_come_through_every_way),
    ("data::large_trees_come_through", large_trees_come_through),
];

/// A name of 255 bytes, one that is no text, one with a line's end, and others that scripts trip over.
fn odd_names() -> Vec<OsString> {
    let mut names: Vec<OsString> =
        ["-rf", " lead", "new\nline", "quote\"'`$(x)", "*", "back\\slash", "ends.", "ümläut", "%2e%2e"]
            .map(OsString::from)
            .to_vec();
    names.push(OsString::from_vec(b"not\xff\xfetext\x01".to_vec()));
    names.push(OsString::from_vec(vec![b'n'; 255]));
    names.push(OsString::from_vec([&b"\xc3"[..], &[b'm'; 200]].concat()));
    names
}

/// Makes the tree. Everything has a time of its own, and some have owners.
fn make(root: &Path) {
    fs::create_dir(root).unwrap();
    for name in odd_names() {
        fs::write(root.join(&name), name.as_bytes()).unwrap();
        let folder = root.join("folders").join(&name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(&name), "inside").unwrap();
    }
    symlink("nowhere/\n", root.join("dangling")).unwrap();
    symlink(OsStr::from_bytes(b"not\xff\xfetext\x01"), root.join("link")).unwrap();
    fs::hard_link(root.join("-rf"), root.join("folders/second")).unwrap();
    let node = |name: &str, kind, device| {
        rustix::fs::mknodat(CWD, root.join(name), kind, Mode::from_raw_mode(0o640), device).unwrap();
    };
    node("pipe", FileType::Fifo, 0);
    node("socket", FileType::Socket, 0);
    node("null", FileType::CharacterDevice, rustix::fs::makedev(1, 3));
    node("disk", FileType::BlockDevice, rustix::fs::makedev(259, 70000));
    let mut sparse = fs::File::create(root.join("sparse")).unwrap();
    sparse.seek(SeekFrom::Start(40 << 20)).unwrap();
    sparse.write_all(b"an island").unwrap();
    sparse.set_len(80 << 20).unwrap();
    let deep: PathBuf = std::iter::repeat_n("deep", 60).collect();
    fs::create_dir_all(root.join(&deep)).unwrap();
    fs::write(root.join(&deep).join("bottom"), "bottom").unwrap();
    fs::create_dir(root.join("empty")).unwrap();
    for (name, mode) in [("-rf", 0o4755), ("folders", 0o3777), ("empty", 0o000), ("*", 0o000)] {
        std::os::unix::fs::chown(root.join(name), Some(4321), Some(70000)).unwrap();
        fs::set_permissions(root.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    let old = std::time::UNIX_EPOCH + std::time::Duration::from_secs(86_400);
    fs::File::open(root.join(" lead")).unwrap().set_modified(old).unwrap();
    fs::File::open(root.join("empty")).unwrap().set_modified(old).unwrap();
}

/// What one thing is, in one line, without its name.
fn describe(path: &Path) -> String {
    let stat = fs::symlink_metadata(path).unwrap();
    let kind = stat.file_type();
    let content = if kind.is_symlink() {
        fs::read_link(path).unwrap().into_os_string()
    } else if kind.is_file() {
        let mut text = Vec::new();
        fs::File::open(path).unwrap().take(64).read_to_end(&mut text).unwrap();
        OsString::from_vec(text)
    } else {
        OsString::new()
    };
    let size = if kind.is_file() { stat.len() } else { 0 };
    let links = if kind.is_dir() { 1 } else { stat.nlink() };
    let (mode, owner, group) = (stat.mode(), stat.uid(), stat.gid());
    format!("{mode:o} {owner}:{group} {size} {links} {} {} {content:?}", stat.rdev(), stat.mtime())
}

/// Every name below a folder with what it is; sockets only where they are asked for.
fn listing(root: &Path, sockets: bool) -> Vec<String> {
    fn walk(root: &Path, at: &Path, sockets: bool, lines: &mut Vec<String>) {
        let mut entries: Vec<_> = fs::read_dir(at).unwrap().map(|entry| entry.unwrap().path()).collect();
        entries.sort();
        for path in entries {
            let stat = fs::symlink_metadata(&path).unwrap();
            if !sockets && stat.mode() & 0o170_000 == 0o140_000 {
                continue;
            }
            let name = path.strip_prefix(root).unwrap().as_os_str().as_bytes().escape_ascii().to_string();
            lines.push(format!("{name}: {}", describe(&path)));
            if stat.is_dir() {
                walk(root, &path, sockets, lines);
            }
        }
    }
    let mut lines = Vec::new();
    walk(root, root, sockets, &mut lines);
    lines
}

#[track_caller]
fn same(found: &Path, expected: &[String], sockets: bool, way: &str) {
    let found_lines = listing(found, sockets);
    let differing = found_lines.iter().zip(expected).find(|(found, expected)| found != expected);
    assert_eq!(differing, None, "{way}");
    assert_eq!(found_lines.len(), expected.len(), "{way}");
    let sparse = fs::metadata(found.join("sparse")).unwrap();
    assert!(sparse.blocks() * 512 < 4 << 20, "{way}: a hole stays a hole");
}

fn tar(arguments: &[&OsStr]) {
    let done = Command::new("tar").args(arguments).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

fn odd_trees_come_through_every_way() {
    let engine = Engine::with_busybox();
    let at = |name: &str| engine.directory().join(name);
    let path = |name: &str| at(name).display().to_string();
    make(&at("odd"));
    let whole = listing(&at("odd"), true);
    let without_sockets = listing(&at("odd"), false);
    assert_eq!(whole.len(), without_sockets.len() + 1);
    engine.ferry(["create", "--name", "box", "busybox", "true"]).exits(0);
    let upper = engine.data_root().join("containers").join(engine.inspect("box", "{{.Id}}")).join("upper");
    for client in CLIENTS {
        engine.client(client, ["cp", "-a", &path("odd"), &format!("box:/{client}")]).exits(0);
        same(&upper.join(client), &without_sockets, false, &format!("{client} cp in"));
        let out = format!("out-{client}");
        engine.client(client, ["cp", "-a", &format!("box:/{client}"), &path(&out)]).exits(0);
        // The stock client writes holes as zeros, and no file system call tells it not to.
        if client == "ferry" {
            same(&at(&out), &without_sockets, false, "ferry cp out");
        } else {
            // It gives everything to who calls it, too.
            let rootless: Vec<String> =
                without_sockets.iter().map(|line| line.replace(" 4321:70000 ", " 0:0 ")).collect();
            assert_eq!(listing(&at(&out), false), rootless, "docker cp out");
        }
    }
    engine.ferry(["export", "-o", &path("export.tar"), "box"]).exits(0);
    fs::create_dir(at("exported")).unwrap();
    let words =
        ["--numeric-owner", "-S", "-xpf", &path("export.tar"), "-C", &path("exported")].map(OsString::from);
    tar(&words.iter().map(OsString::as_os_str).collect::<Vec<_>>());
    assert_eq!(listing(&at("exported/ferry"), false), without_sockets, "export");

    let note = |at: &Path| {
        let mut value = [0; 16];
        rustix::fs::getxattr(at.join(" lead"), "user.note", &mut value).map(|length| value[..length].to_vec())
    };
    let lead = upper.join("ferry/ lead");
    rustix::fs::setxattr(&lead, "user.note", b"kept", rustix::fs::XattrFlags::empty()).unwrap();
    engine.ferry(["commit", "box", "odd:1"]).exits(0);
    engine.ferry(["create", "--name", "user", "-v", "odd:/ferry", "odd:1", "true"]).exits(0);
    let volume = engine.data_root().join("volumes/odd/_data");
    same(&volume, &without_sockets, false, "commit and copy-up");
    assert_eq!(note(&volume), Ok(b"kept".to_vec()), "extended attributes come along");
    engine.ferry(["rm", "user"]).exits(0);

    // A volume has its sockets, too.
    rustix::fs::mknodat(CWD, volume.join("socket"), FileType::Socket, Mode::from_raw_mode(0o640), 0).unwrap();
    let kept = listing(&volume, true);
    engine.ferry(["volume", "snapshot", "odd", "one"]).exits(0);
    engine.ferry(["volume", "clone", "odd", "twin"]).exits(0);
    same(&engine.data_root().join("volumes/twin/_data"), &kept, true, "clone");
    fs::remove_dir_all(volume.join("folders")).unwrap();
    engine.ferry(["volume", "restore", "--force", "odd", "one"]).exits(0);
    same(&volume, &kept, true, "snapshot and restore");
    assert_eq!(note(&volume), Ok(b"kept".to_vec()));
    engine.ferry(["volume", "backup", "odd", &path("backup.tar")]).exits(0);
    fs::create_dir(at("backup")).unwrap();
    let words =
        ["--numeric-owner", "-S", "-xpf", &path("backup.tar"), "-C", &path("backup")].map(OsString::from);
    tar(&words.iter().map(OsString::as_os_str).collect::<Vec<_>>());
    assert_eq!(listing(&at("backup"), false), listing(&volume, false), "backup");
}

/// How many files a large tree has here; `FERRY_TEST_FILES` makes it larger.
fn files() -> usize {
    std::env::var("FERRY_TEST_FILES").ok().and_then(|text| text.parse().ok()).unwrap_or(10_000)
}

fn large_trees_come_through() {
    let engine = Engine::with_busybox();
    let tree = engine.directory().join("tree");
    let count = files();
    for folder in 0..count / 1000 {
        let folder = tree.join(folder.to_string());
        fs::create_dir_all(&folder).unwrap();
        (0..1000).for_each(|file| fs::write(folder.join(file.to_string()), "").unwrap());
    }
    let counted = |root: &Path| -> usize {
        fs::read_dir(root).unwrap().map(|folder| fs::read_dir(folder.unwrap().path()).unwrap().count()).sum()
    };
    engine.ferry(["create", "--name", "box", "busybox", "true"]).exits(0);
    engine.ferry(["cp", &tree.display().to_string(), "box:/tree"]).exits(0);
    let out = engine.directory().join("out");
    engine.ferry(["cp", "box:/tree", &out.display().to_string()]).exits(0);
    assert_eq!(counted(&out), count, "cp in and out");
    engine.ferry(["commit", "box", "large:1"]).exits(0);
    engine.ferry(["run", "--rm", "-v", "large:/tree", "large:1", "true"]).exits(0);
    let volumes = engine.data_root().join("volumes");
    assert_eq!(counted(&volumes.join("large/_data")), count, "copy-up");
    engine.ferry(["volume", "snapshot", "large", "one"]).exits(0);
    engine.ferry(["volume", "restore", "--force", "large", "one"]).exits(0);
    assert_eq!(counted(&volumes.join("large/_data")), count, "snapshot and restore");
    let backup = engine.directory().join("backup.tar");
    engine.ferry(["volume", "backup", "large", &backup.display().to_string()]).exits(0);
    let listed = Command::new("tar").arg("-tf").arg(&backup).output().unwrap();
    let files =
        listed.stdout.split(|byte| *byte == b'\n').filter(|name| !name.is_empty() && !name.ends_with(b"/"));
    assert_eq!(files.count(), count, "backup");
}
