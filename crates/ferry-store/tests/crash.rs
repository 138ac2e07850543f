//! `kill -9` while images are loaded and removed: whatever the moment, the next owner finds a
//! consistent store.

mod support;

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use ferry_store::{RemoveOptions, Store};
use support::{Tar, docker_archive, is_root};

/// Set for the child: the directory to work in.
const CHILD: &str = "FERRY_STORE_CRASH_CHILD";
/// How often a child is killed.
const ROUNDS: u64 = 24;

fn archive(number: u8) -> Vec<u8> {
    let layer = |content: u8| {
        let mut tar = Tar::new();
        for index in 0..40 {
            tar = tar.file(&format!("dir{content}/file{index}"), &[content; 2000]);
        }
        tar.done()
    };
    docker_archive(&[&format!("image{number}:1")], &[layer(0), layer(number)])
}

/// Loads, retags and removes until it is killed.
fn work(directory: &Path) -> ! {
    let store = Store::open(&directory.join("data")).unwrap();
    loop {
        for number in 1..4 {
            store.load(archive(number).as_slice(), None, &|_| ()).unwrap();
            store
                .volumes()
                .create(ferry_store::VolumeSpec {
                    name: Some(format!("volume{number}")),
                    ..Default::default()
                })
                .unwrap();
        }
        for number in 1..4 {
            store
                .images()
                .remove(&format!("image{number}:1"), RemoveOptions::default(), &|_| Vec::new())
                .unwrap();
            store.volumes().remove(&format!("volume{number}")).unwrap();
        }
    }
}

/// Everything the records speak of is there, and nothing else.
fn check(directory: &Path) {
    let data = directory.join("data");
    let store = Store::open(&data).unwrap();
    let mut layers = HashSet::new();
    let mut blobs = HashSet::new();
    for record in store.layers().list() {
        let tree = store.layers().tree(&record.diff_id);
        let content = if record.size == 0 { 0 } else { fs::read_dir(&tree).unwrap().count() };
        assert!(content > 0, "layer {} is empty", record.diff_id);
        layers.insert(record.diff_id.hex().to_owned());
        blobs.extend(record.blob.iter().map(|blob| blob.digest.clone()));
    }
    for image in store.images().list() {
        for layer in &image.layers {
            assert!(layers.contains(layer.diff_id.hex()), "{:?} lacks a layer", image.repo_tags);
        }
        store.save(&[image.id.to_string()], None, support::sink()).unwrap();
        blobs.insert(image.id.clone());
    }
    for blob in &blobs {
        assert!(store.blobs().contains(blob), "{blob} is missing");
    }
    let on_disk: HashSet<String> = fs::read_dir(data.join("layers/sha256"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(on_disk, layers);
    assert_eq!(fs::read_dir(data.join("ingest")).unwrap().count(), 0);
    for volume in store.volumes().list() {
        assert!(volume.mountpoint.is_dir());
    }
}

#[test]
fn kill_at_any_moment_leaves_a_consistent_store() {
    if let Some(directory) = std::env::var_os(CHILD) {
        work(Path::new(&directory));
    }
    if !is_root("kill_at_any_moment_leaves_a_consistent_store") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["kill_at_any_moment_leaves_a_consistent_store", "--exact", "--nocapture"])
            .env(CHILD, directory.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Spread over start, first load, and steady work; the exact moment is chance.
        std::thread::sleep(Duration::from_millis(3 + round * 23 % 400));
        child.kill().unwrap();
        child.wait().unwrap();
        check(directory.path());
    }
}

#[test]
fn damaged_records_are_left_out_and_the_rest_works() {
    if !is_root("damaged_records_are_left_out_and_the_rest_works") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let store = Store::open(&data).unwrap();
    store.load(archive(1).as_slice(), None, &|_| ()).unwrap();
    store.load(archive(2).as_slice(), None, &|_| ()).unwrap();
    let lost = store.images().resolve("image2:1").unwrap().layers[1].diff_id.clone();
    drop(store);
    fs::remove_dir_all(data.join("layers/sha256").join(lost.hex())).unwrap();
    let store = Store::open(&data).unwrap();
    let whole = store.images().resolve("image1:1").unwrap();
    store.snapshots().prepare(&"1".repeat(64), &whole.diff_ids()).unwrap();
    let broken = store.images().resolve("image2:1").unwrap();
    let error = store.snapshots().prepare(&"2".repeat(64), &broken.diff_ids()).unwrap_err().to_string();
    assert_eq!(error, format!("layer {lost} is not in the store"));
    // Loading it again heals it.
    store.load(archive(2).as_slice(), None, &|_| ()).unwrap();
    store.snapshots().prepare(&"2".repeat(64), &broken.diff_ids()).unwrap();
}
