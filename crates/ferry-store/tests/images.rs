//! Images through their whole life: load, name, use, save, remove, and again after a restart.

mod support;

use std::fs;
use std::sync::Arc;

use ferry_oci::{Digest, Reference};
use ferry_store::image::{ImageUser, RemoveOptions, Removed};
use ferry_store::{Loaded, Store};
use support::{Tar, docker_archive, gzip, is_root, oci_archive, zstd};

fn open() -> (tempfile::TempDir, Arc<Store>) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("data")).unwrap();
    (directory, store)
}

fn load(store: &Store, archive: &[u8]) -> Vec<Loaded> {
    store.load(archive, None, &|_| ()).unwrap()
}

fn layers() -> Vec<Vec<u8>> {
    let base = Tar::new().directory("etc/").file("etc/motd", b"base").file("bin/sh", b"#!").done();
    let top = Tar::new().file("etc/motd", b"top").file("etc/.wh.gone", b"").done();
    vec![base, top]
}

fn nobody(_: &Digest) -> Vec<ImageUser> {
    Vec::new()
}

#[test]
fn every_kind_of_archive_gives_the_same_image() {
    if !is_root("every_kind_of_archive_gives_the_same_image") {
        return;
    }
    let layers = layers();
    let plain: fn(&[u8]) -> Vec<u8> = |bytes| bytes.to_vec();
    let tar = "application/vnd.oci.image.layer.v1.tar";
    let archives = [
        ("docker", docker_archive(&["a:1"], &layers)),
        ("docker, gzip", gzip(&docker_archive(&["a:1"], &layers))),
        ("docker, zstd", zstd(&docker_archive(&["a:1"], &layers))),
        ("oci, plain", oci_archive("a:1", &layers, tar, plain)),
        ("oci, gzip", oci_archive("a:1", &layers, &format!("{tar}+gzip"), gzip)),
        ("oci, zstd", oci_archive("a:1", &layers, &format!("{tar}+zstd"), zstd)),
    ];
    let mut ids = Vec::new();
    for (kind, archive) in archives {
        let (_directory, store) = open();
        let loaded = load(&store, &archive);
        assert_eq!(loaded[0].names, ["a:1"], "{kind}");
        let image = store.images().resolve("a:1").unwrap();
        assert_eq!(image.size, 4 + 2 + 3, "{kind}");
        ids.push(image.id.clone());
        let lowers = store.snapshots().lowers(&image.diff_ids()).unwrap();
        assert_eq!(fs::read(lowers[0].join("etc/motd")).unwrap(), b"top", "{kind}");
        assert_eq!(fs::read(lowers[1].join("etc/motd")).unwrap(), b"base", "{kind}");
    }
    ids.dedup();
    assert_eq!(ids.len(), 1);
}

#[test]
fn names_and_ids_resolve_as_in_docker() {
    if !is_root("names_and_ids_resolve_as_in_docker") {
        return;
    }
    let (directory, store) = open();
    let id = load(&store, &docker_archive(&["app:1", "localhost:5000/app:2"], &layers()))[0].id.clone();
    store.images().tag(&id, &Reference::parse_normalized("feed").unwrap()).unwrap();
    drop(store);
    let store = Store::open(&directory.path().join("data")).unwrap();
    let short = &id.hex()[..6];
    let full = id.to_string();
    for name in ["app:1", "docker.io/library/app:1", "localhost:5000/app:2", "feed", short, id.hex(), &full] {
        assert_eq!(store.images().resolve(name).unwrap().id, id, "{name}");
    }
    for (name, expected) in [
        ("app", "No such image: app:latest"),
        ("app:3", "No such image: app:3"),
        ("00000000", "No such image: 00000000:latest"),
        ("App", "must be lowercase"),
        ("", "the image name is empty"),
    ] {
        let error = store.images().resolve(name).unwrap_err().to_string();
        assert!(error.contains(expected), "{name}: {error}");
    }
}

#[test]
fn a_retagged_image_keeps_no_name() {
    if !is_root("a_retagged_image_keeps_no_name") {
        return;
    }
    let (_directory, store) = open();
    let first = load(&store, &docker_archive(&["app:latest"], &layers()))[0].id.clone();
    let second = load(&store, &docker_archive(&["app:latest"], &layers()[..1]))[0].id.clone();
    assert_ne!(first, second);
    assert_eq!(store.images().resolve("app").unwrap().id, second);
    assert_eq!(store.images().get(&first).unwrap().repo_tags, Vec::<String>::new());
    let removed = store.images().prune(&|image| image.repo_tags.is_empty(), &nobody).unwrap();
    assert_eq!(removed[0], Removed::Deleted(first));
    // The layer that only the first had is gone, the shared one is not.
    assert_eq!(removed.len(), 2);
    assert_eq!(store.layers().list().len(), 1);
}

#[test]
fn what_is_saved_loads_as_the_same_image() {
    if !is_root("what_is_saved_loads_as_the_same_image") {
        return;
    }
    let media_type = "application/vnd.oci.image.layer.v1.tar+gzip";
    let (_directory, store) = open();
    load(&store, &oci_archive("a/b:1", &layers(), media_type, gzip));
    let mut saved = Vec::new();
    store.save(&["a/b:1".to_owned()], None, &mut saved).unwrap();
    let (_other_directory, other) = open();
    let loaded = load(&other, &saved);
    assert_eq!(loaded[0].names, ["a/b:1"]);
    let (before, after) =
        (store.images().resolve("a/b:1").unwrap(), other.images().resolve("a/b:1").unwrap());
    assert_eq!(before.id, after.id);
    assert_eq!(before.manifest, after.manifest, "the manifest's digest survives");
    assert_eq!(before.layers, after.layers, "so do the blobs");
    let error = store.save(&["nope".to_owned()], None, support::sink()).unwrap_err().to_string();
    assert_eq!(error, "No such image: nope:latest");
}

#[test]
fn removal_follows_dockers_rules() {
    if !is_root("removal_follows_dockers_rules") {
        return;
    }
    let (_directory, store) = open();
    let archive = docker_archive(&["app:1", "app:2", "other:1"], &layers());
    let id = load(&store, &archive)[0].id.clone();
    let images = store.images();
    let soft = RemoveOptions::default();
    let force = RemoveOptions { force: true, ..soft };
    let user = |running| move |_: &Digest| vec![ImageUser { container_id: "c".repeat(64), running }];

    let error = images.remove(id.hex(), soft, &nobody).unwrap_err().to_string();
    let short = id.short();
    assert_eq!(
        error,
        format!(
            "conflict: unable to delete {short} (must be forced) - image is referenced in multiple repositories"
        )
    );
    assert_eq!(images.remove("app:1", soft, &user(true)).unwrap(), [Removed::Untagged("app:1".into())]);
    assert_eq!(images.remove("app:2", soft, &nobody).unwrap(), [Removed::Untagged("app:2".into())]);
    let error = images.remove("other:1", soft, &user(false)).unwrap_err().to_string();
    assert_eq!(
        error,
        format!(
            "conflict: unable to remove repository reference \"other:1\" (must force) - container cccccccccccc is using its referenced image {short}"
        )
    );
    let error = images.remove(short, force, &user(true)).unwrap_err().to_string();
    assert!(
        error.contains("(cannot be forced) - image is being used by running container cccccccccccc"),
        "{error}"
    );
    let error = images.remove(short, soft, &user(false)).unwrap_err().to_string();
    assert!(
        error.contains("(must be forced) - image is being used by stopped container cccccccccccc"),
        "{error}"
    );
    let removed = images.remove("other:1", soft, &nobody).unwrap();
    assert_eq!(removed[..2], [Removed::Untagged("other:1".into()), Removed::Deleted(id.clone())]);
    assert!(images.list().is_empty() && store.layers().list().is_empty());
}

#[test]
fn a_container_keeps_the_layers_of_a_removed_image() {
    if !is_root("a_container_keeps_the_layers_of_a_removed_image") {
        return;
    }
    let (directory, store) = open();
    load(&store, &docker_archive(&["app:1"], &layers()));
    let image = store.images().resolve("app:1").unwrap();
    let container = "ab".repeat(32);
    let snapshot = store.snapshots().prepare(&container, &image.diff_ids()).unwrap();
    assert_eq!(snapshot.lowers.len(), 3, "two of the image, and the base");
    drop(image);
    store.images().remove("app:1", RemoveOptions::default(), &nobody).unwrap();
    drop(store);
    let store = Store::open(&directory.path().join("data")).unwrap();
    assert_eq!(store.snapshots().get(&container).unwrap(), snapshot);
    assert!(snapshot.lowers.iter().all(|lower| lower.is_dir()));
    store.containers().remove(&container).unwrap();
    store.snapshots().remove(&container).unwrap();
    store.containers().remove(&container).unwrap();
    assert!(store.layers().list().is_empty());
}

#[test]
fn only_one_owner() {
    let (directory, store) = open();
    let error = Store::open(&directory.path().join("data")).err().unwrap().to_string();
    assert!(error.contains("is in use by another engine"), "{error}");
    drop(store);
    fs::write(directory.path().join("data/VERSION"), "7\n").unwrap();
    let error = Store::open(&directory.path().join("data")).err().unwrap().to_string();
    assert!(error.contains("disk format version \"7\"; this ferry reads version 1"), "{error}");
    fs::create_dir_all(directory.path().join("photos/2020")).unwrap();
    let error = Store::open(&directory.path().join("photos")).err().unwrap().to_string();
    assert!(error.contains("is not empty (found \"2020\")"), "{error}");
}

#[test]
fn a_writable_layer_becomes_changes_a_tar_and_a_layer() {
    if !is_root("a_writable_layer_becomes_changes_a_tar_and_a_layer") {
        return;
    }
    let (_directory, store) = open();
    load(&store, &docker_archive(&["app:1"], &layers()));
    let image = store.images().resolve("app:1").unwrap();
    let container = "cd".repeat(32);
    let snapshot = store.snapshots().prepare(&container, &image.diff_ids()).unwrap();
    // What overlayfs leaves behind when a file is changed, one is added and one is deleted.
    fs::create_dir(snapshot.upper.join("etc")).unwrap();
    fs::write(snapshot.upper.join("etc/motd"), "changed").unwrap();
    fs::write(snapshot.upper.join("etc/new"), "new").unwrap();
    fs::hard_link(snapshot.upper.join("etc/new"), snapshot.upper.join("etc/new2")).unwrap();
    let whiteout = snapshot.upper.join("bin");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &whiteout,
        rustix::fs::FileType::CharacterDevice,
        rustix::fs::Mode::empty(),
        0,
    )
    .unwrap();
    let changes: Vec<String> = store
        .changes(&container)
        .unwrap()
        .iter()
        .map(|change| format!("{:?} {}", change.kind, change.path))
        .collect();
    assert_eq!(
        changes,
        ["Deleted /bin", "Modified /etc", "Modified /etc/motd", "Added /etc/new", "Added /etc/new2"]
    );
    let committed = store.commit_upper(&snapshot.upper).unwrap();
    let mut tar = Vec::new();
    store.diff_tar(&snapshot.upper, &mut tar).unwrap();
    assert_eq!(committed.diff_id, Digest::sha256_of(&tar), "the tar is the same every time");
    // Taking the directory over gives the same layer, whose tar can still be written.
    let copy = snapshot.upper.with_file_name("copy");
    assert!(
        std::process::Command::new("cp")
            .arg("-a")
            .arg(&snapshot.upper)
            .arg(&copy)
            .status()
            .unwrap()
            .success()
    );
    let (_other_directory, other) = open();
    let moved = other.data_root().join("tmp/upper");
    assert!(std::process::Command::new("cp").arg("-a").arg(&copy).arg(&moved).status().unwrap().success());
    let taken = other.take_upper(&moved).unwrap();
    assert_eq!(
        (taken.diff_id.clone(), taken.size, taken.entries),
        (committed.diff_id.clone(), committed.size, committed.entries)
    );
    assert!(!moved.exists() && taken.blob.is_none());
    let mut again = Vec::new();
    other.layer_tar(&taken.diff_id, &mut again).unwrap();
    assert_eq!(again, tar);
    let blob = other.layer_blob(&taken.diff_id).unwrap();
    assert!(other.blobs().contains(&blob.digest));
    assert_eq!(other.layer(&taken.diff_id).unwrap().blob, Some(blob));
}
