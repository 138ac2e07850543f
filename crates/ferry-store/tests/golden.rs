//! Trees that we unpack against trees that skopeo and umoci make of the same image.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use ferry_oci::Digest;
use ferry_store::Store;
use rustix::fs::XattrFlags;
use support::{Tar, docker_archive, header, is_root};

/// Runs a tool; its output is part of a failure.
fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap_or_else(|e| panic!("{program}: {e}"));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {text}");
}

fn tools_are_there(test: &str) -> bool {
    for tool in ["skopeo", "umoci", "tar", "mount"] {
        if Command::new(tool).arg("--version").output().is_err() {
            eprintln!("SKIPPED {test}: {tool} is not installed");
            return false;
        }
    }
    is_root(test)
}

/// Everything a tar can say about every file below `root`.
fn listing(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut inodes: BTreeMap<u64, PathBuf> = BTreeMap::new();
    let mut pending = vec![root.to_owned()];
    while let Some(path) = pending.pop() {
        let metadata = fs::symlink_metadata(&path).unwrap();
        let kind = metadata.file_type();
        if kind.is_dir() {
            let mut children: Vec<_> =
                fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()).collect();
            children.sort();
            pending.extend(children.into_iter().rev());
        }
        let below = path.strip_prefix(root).unwrap().to_owned();
        let content = if kind.is_symlink() {
            format!("-> {}", fs::read_link(&path).unwrap().display())
        } else if kind.is_file() {
            let first = inodes.entry(metadata.ino()).or_insert_with(|| below.clone()).clone();
            format!(
                "{} {} as {}",
                metadata.len(),
                Digest::sha256_of(&fs::read(&path).unwrap()),
                first.display()
            )
        } else if kind.is_char_device() || kind.is_block_device() {
            format!("device {}", metadata.rdev())
        } else {
            String::new()
        };
        // Directories that no tar entry describes have whatever time they were made at.
        let time = format!("{}.{:09}", metadata.mtime(), metadata.mtime_nsec());
        let line = format!(
            "{:o} {}:{} {time} {content} {}",
            metadata.mode(),
            metadata.uid(),
            metadata.gid(),
            xattrs(&path).join(",")
        );
        found.insert(below, line);
    }
    found
}

fn xattrs(path: &Path) -> Vec<String> {
    let mut names = vec![0; 64 << 10];
    let length = rustix::fs::llistxattr(path, &mut names[..]).unwrap();
    let mut found = Vec::new();
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0; 64 << 10];
        let length = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
        let name = String::from_utf8_lossy(name).into_owned();
        // What overlayfs and umoci note for themselves is no part of the tree.
        if !name.starts_with("trusted.overlay.") && !name.starts_with("user.umoci.") {
            found.push(format!("{name}={:?}", &value[..length]));
        }
    }
    found.sort();
    found
}

/// A tree with one of everything.
fn make_tree(root: &Path) {
    let file = |path: &str, data: &[u8], mode: u32| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, data).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    };
    file("bin/su", b"setuid", 0o4755);
    file("etc/shadow", b"secret", 0o640);
    std::os::unix::fs::chown(root.join("etc/shadow"), Some(0), Some(42)).unwrap();
    let owned = file("home/user/.profile", b"x", 0o600);
    std::os::unix::fs::chown(&owned, Some(100_000), Some(3_000_000)).unwrap();
    fs::set_permissions(root.join("home"), fs::Permissions::from_mode(0o2775)).unwrap();
    let ping = file("bin/ping", b"capable", 0o755);
    let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    rustix::fs::setxattr(&ping, "security.capability", &capability, XattrFlags::empty()).unwrap();
    rustix::fs::setxattr(&ping, "user.note", b"with\0nul=and\nmore", XattrFlags::empty()).unwrap();
    fs::hard_link(&ping, root.join("bin/ping6")).unwrap();
    symlink("/usr/lib", root.join("lib")).unwrap();
    symlink("../../../../etc/shadow", root.join("home/user/escape")).unwrap();
    run("mkfifo", &[root.join("pipe").to_str().unwrap()]);
    run("mknod", &[root.join("null").to_str().unwrap(), "c", "1", "3"]);
    run("mknod", &[root.join("disk").to_str().unwrap(), "b", "8", "1"]);
    let long = "long".repeat(60);
    file(&format!("{long}/{long}"), b"long names", 0o644);
    symlink(format!("/{}", "t/".repeat(100)), root.join("long-target")).unwrap();
    file("umläut ünd \u{1f980}", b"", 0o644);
    let sparse = file("sparse", b"", 0o644);
    let handle = fs::File::options().write(true).open(&sparse).unwrap();
    use std::os::unix::fs::FileExt;
    for piece in 0..40u64 {
        handle.write_all_at(b"data", piece * 1_000_003).unwrap();
    }
    handle.set_len(64 << 20).unwrap();
    // Times before 1970 and with fractions.
    run("touch", &["-d", "1960-01-01 00:00:00 UTC", root.join("etc/shadow").to_str().unwrap()]);
    run("touch", &["-d", "2001-02-03 04:05:06.789012345 UTC", root.join("bin/su").to_str().unwrap()]);
    file("var/gone", b"", 0o644);
    file("var/cache/a/b", b"", 0o644);
    file("var/turns/into/a/file", b"", 0o644);
}

/// What skopeo and umoci make of an image.
fn reference_tree(archive: &Path, scratch: &Path) -> PathBuf {
    let layout = scratch.join("oci");
    run(
        "skopeo",
        &[
            "copy",
            "-q",
            &format!("docker-archive:{}", archive.display()),
            &format!("oci:{}:t", layout.display()),
        ],
    );
    let bundle = scratch.join("bundle");
    run("umoci", &["unpack", "--image", &format!("{}:t", layout.display()), bundle.to_str().unwrap()]);
    bundle.join("rootfs")
}

/// An overlay mounted for a moment.
struct Mounted(PathBuf);

impl Mounted {
    fn new(lowers: &[PathBuf], scratch: &Path) -> Mounted {
        let target = scratch.join("merged");
        fs::create_dir_all(&target).unwrap();
        let empty = scratch.join("empty");
        fs::create_dir_all(&empty).unwrap();
        let lowers: Vec<_> = lowers.iter().map(|lower| lower.to_str().unwrap()).collect();
        let options = format!("lowerdir={}:{}", lowers.join(":"), empty.display());
        run("mount", &["-t", "overlay", "overlay", "-o", &options, target.to_str().unwrap()]);
        Mounted(target)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

/// The image's own layers, topmost first.
fn trees(store: &Store, image: &ferry_store::Image) -> Vec<PathBuf> {
    let mut lowers = store.snapshots().lowers(&image.diff_ids()).unwrap();
    lowers.pop();
    lowers
}

fn check(name: &str, layers: &[Vec<u8>]) {
    let scratch = tempfile::tempdir().unwrap();
    let archive = scratch.path().join("image.tar");
    fs::write(&archive, docker_archive(&["golden:1"], layers)).unwrap();
    let store = Store::open(&scratch.path().join("data")).unwrap();
    store.load(fs::File::open(&archive).unwrap(), None, &|_| ()).unwrap();
    let image = store.images().resolve("golden:1").unwrap();
    let mounted = Mounted::new(&trees(&store, &image), scratch.path());
    let mut ours = listing(&mounted.0);
    let mut theirs = listing(&reference_tree(&archive, scratch.path()));
    // No entry describes the root; its attributes are made up by each.
    ours.remove(Path::new(""));
    theirs.remove(Path::new(""));
    let missing: Vec<_> = theirs.keys().filter(|path| !ours.contains_key(*path)).collect();
    let extra: Vec<_> = ours.keys().filter(|path| !theirs.contains_key(*path)).collect();
    assert!(missing.is_empty() && extra.is_empty(), "{name}: missing {missing:?}, extra {extra:?}");
    for (path, line) in &theirs {
        let shown = String::from_utf8_lossy(path.as_os_str().as_bytes()).into_owned();
        assert_eq!(&ours[path], line, "{name}: {shown}");
    }
}

fn gnu_tar(tree: &Path, format: &[&str]) -> Vec<u8> {
    let mut names: Vec<String> = fs::read_dir(tree)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    let output = Command::new("tar")
        .args(format)
        .arg("-cf")
        .arg("-")
        .arg("-C")
        .arg(tree)
        .args(&names)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn every_tar_format_gives_the_tree_that_umoci_makes() {
    if !tools_are_there("every_tar_format_gives_the_tree_that_umoci_makes") {
        return;
    }
    let tree = tempfile::tempdir().unwrap();
    make_tree(tree.path());
    let xattrs = ["--format=posix", "--xattrs", "--xattrs-include=*"];
    let formats: &[(&str, &[&str])] = &[
        ("gnu", &["--format=gnu"]),
        ("pax, sparse 0.0", &[xattrs[0], xattrs[1], xattrs[2], "-S", "--sparse-version=0.0"]),
        ("pax, sparse 0.1", &[xattrs[0], xattrs[1], xattrs[2], "-S", "--sparse-version=0.1"]),
        ("pax, sparse 1.0", &[xattrs[0], xattrs[1], xattrs[2], "-S", "--sparse-version=1.0"]),
    ];
    for (name, format) in formats {
        check(name, &[gnu_tar(tree.path(), format)]);
    }
}

/// umoci does not know GNU's own sparse files, so here the tree that was packed is the reference.
#[test]
fn gnu_sparse_files_stay_sparse() {
    if !tools_are_there("gnu_sparse_files_stay_sparse") {
        return;
    }
    let tree = tempfile::tempdir().unwrap();
    make_tree(tree.path());
    let scratch = tempfile::tempdir().unwrap();
    let store = Store::open(&scratch.path().join("data")).unwrap();
    let layer = gnu_tar(tree.path(), &["--format=gnu", "-S"]);
    store.load(docker_archive(&["s:1"], &[layer]).as_slice(), None, &|_| ()).unwrap();
    let image = store.images().resolve("s:1").unwrap();
    let unpacked = store.snapshots().lowers(&image.diff_ids()).unwrap().remove(0);
    let (packed, unpacked) = (tree.path().join("sparse"), unpacked.join("sparse"));
    assert_eq!(fs::read(&packed).unwrap(), fs::read(&unpacked).unwrap());
    assert!(fs::metadata(&unpacked).unwrap().blocks() * 512 < 1 << 20, "holes stay holes");
}

#[test]
fn upper_layers_change_lower_ones_as_umoci_does() {
    if !tools_are_there("upper_layers_change_lower_ones_as_umoci_does") {
        return;
    }
    let tree = tempfile::tempdir().unwrap();
    make_tree(tree.path());
    let base = gnu_tar(tree.path(), &["--format=posix", "--xattrs", "--xattrs-include=*"]);
    let opaque = Tar::new().directory("var/").file("var/.wh.gone", b"").directory("var/cache/");
    let opaque = opaque.file("var/cache/.wh..wh..opq", b"").file("var/cache/fresh", b"fresh");
    let replaced = Tar::new().directory("var/").file("var/turns", b"a file now").symlink("bin/ping6", "ping");
    let replaced = replaced
        .file("./etc/motd", b"dot")
        .file("/etc/issue", b"absolute")
        .hard_link("etc/motd2", "etc/motd");
    let twice = Tar::new().file("etc/twice", b"one").file("etc/twice", b"two");
    check("whiteouts", &[base, opaque.done(), replaced.done(), twice.done()]);
}

#[test]
fn a_real_distribution_comes_out_the_same() {
    let image = Path::new(&std::env::var("HOME").unwrap_or_default()).join(".cache/ferry/images/debian.tar");
    if !tools_are_there("a_real_distribution_comes_out_the_same") {
        return;
    }
    if !image.exists() {
        eprintln!(
            "SKIPPED a_real_distribution_comes_out_the_same: no {} (cargo xtask images)",
            image.display()
        );
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let store = Store::open(&scratch.path().join("data")).unwrap();
    let loaded = store.load(fs::File::open(&image).unwrap(), None, &|_| ()).unwrap();
    let loaded = store.images().get(&loaded[0].id).unwrap();
    let mounted = Mounted::new(&trees(&store, &loaded), scratch.path());
    let (mut ours, mut theirs) = (listing(&mounted.0), listing(&reference_tree(&image, scratch.path())));
    ours.remove(Path::new(""));
    theirs.remove(Path::new(""));
    assert_eq!(ours.len(), theirs.len());
    for (path, line) in &theirs {
        assert_eq!(&ours[path], line, "{}", path.display());
    }
}

/// Implicit directories take their attributes from the layers below.
#[test]
fn implicit_directories_look_like_those_below() {
    if !is_root("implicit_directories_look_like_those_below") {
        return;
    }
    let private = ferry_store::tar::EntryHeader { mode: 0o700, uid: 7, gid: 8, ..header("private/") };
    let base = Tar::new().entry(ferry_store::tar::EntryKind::Directory, private, b"").done();
    let top = Tar::new().file("private/deep/file", b"x").done();
    let scratch = tempfile::tempdir().unwrap();
    let store = Store::open(&scratch.path().join("data")).unwrap();
    store.load(docker_archive(&["i:1"], &[base, top]).as_slice(), None, &|_| ()).unwrap();
    let image = store.images().resolve("i:1").unwrap();
    let lowers = store.snapshots().lowers(&image.diff_ids()).unwrap();
    let metadata = fs::metadata(lowers[0].join("private")).unwrap();
    assert_eq!((metadata.mode() & 0o7777, metadata.uid(), metadata.gid()), (0o700, 7, 8));
    assert_eq!(metadata.mtime(), 1_600_000_000);
    assert_eq!(fs::metadata(lowers[0].join("private/deep")).unwrap().mode() & 0o7777, 0o755);
}
