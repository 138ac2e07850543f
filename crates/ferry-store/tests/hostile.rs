//! Archives that lie, break off, climb out or blow up: one clear refusal, and nothing left behind.

mod support;

use std::fs;
use std::sync::Arc;

use ferry_store::tar::{EntryHeader, EntryKind, TarReader};
use ferry_store::{LayerOptions, Store};
use support::{Tar, config, docker_archive, gzip, header, is_root, oci_archive, zstd};

fn open() -> (tempfile::TempDir, Arc<Store>) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("data")).unwrap();
    (directory, store)
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}

/// Imports a layer that must be refused, and checks that nothing of it stays.
fn refused(layer: &[u8], expected: &str) {
    let (directory, store) = open();
    let error = store.import_layer(layer, &LayerOptions::default()).expect_err(expected);
    let text = chain(&error);
    assert!(text.contains(expected), "{text}");
    assert!(store.layers().list().is_empty());
    assert_nothing_left(directory.path());
}

fn assert_nothing_left(directory: &std::path::Path) {
    for part in ["data/ingest", "data/blobs/sha256", "data/layers/sha256"] {
        let names: Vec<_> =
            fs::read_dir(directory.join(part)).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(names.is_empty(), "{names:?}");
    }
}

#[test]
fn paths_that_lead_out_are_refused_or_stay_inside() {
    if !is_root("paths_that_lead_out_are_refused_or_stay_inside") {
        return;
    }
    refused(
        &Tar::new().file("../outside", b"x").done(),
        "refusing entry \"../outside\": its path leads out of the archive's root",
    );
    refused(&Tar::new().file("a/../../x", b"x").done(), "leads out of the archive's root");
    refused(&Tar::new().hard_link("a", "../../../etc/passwd").done(), "leads out of the archive's root");
    refused(&Tar::new().hard_link("a", "b").done(), "cannot create hard link entry \"a\"");
    refused(&Tar::new().file(&format!("{}/x", "n".repeat(256)), b"").done(), "longer than 255 bytes");
    refused(&Tar::new().file("dir/.wh.", b"").done(), "deletes no name");
    refused(&Tar::new().file("dir/.wh...", b"").done(), "deletes no name");

    let outside = tempfile::tempdir().unwrap();
    let target = outside.path().to_str().unwrap().to_owned();
    let climb = format!("{}{}", "../".repeat(40), &target[1..]);
    for link in [target.as_str(), climb.as_str()] {
        let (_directory, store) = open();
        let layer =
            Tar::new().symlink("link", link).file("link/planted", b"x").symlink("self", "self").done();
        let record = store.import_layer(layer.as_slice(), &LayerOptions::default()).unwrap();
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0, "nothing may leave through {link}");
        let inside = store.layers().tree(&record.diff_id).join(&target[1..]).join("planted");
        assert_eq!(fs::read(inside).unwrap(), b"x", "the link leads inside the layer");
    }
    refused(
        &Tar::new().symlink("loop", "loop").file("loop/x", b"").done(),
        "cannot open the parent directory of entry \"loop/x\"",
    );
    refused(
        &Tar::new().file("file", b"").file("file/x", b"").done(),
        "cannot open the parent directory of entry \"file/x\"",
    );
}

#[test]
fn attributes_that_speak_to_overlayfs_are_dropped() {
    if !is_root("attributes_that_speak_to_overlayfs_are_dropped") {
        return;
    }
    let xattrs = vec![(b"trusted.overlay.redirect".to_vec(), b"/etc".to_vec())];
    let layer = Tar::new()
        .entry(EntryKind::Directory, EntryHeader { mode: 0o755, xattrs, ..header("d/") }, b"")
        .done();
    let (_directory, store) = open();
    let record = store.import_layer(layer.as_slice(), &LayerOptions::default()).unwrap();
    let path = store.layers().tree(&record.diff_id).join("d");
    let mut value = [0; 16];
    let found = rustix::fs::lgetxattr(&path, "trusted.overlay.redirect", &mut value[..]);
    assert_eq!(found, Err(rustix::io::Errno::NODATA));
}

/// A header made by hand, for what the writer would not write.
fn raw(path: &str, flag: u8, size: &[u8], data: &[u8]) -> Vec<u8> {
    let mut block = [0u8; 512];
    block[..path.len()].copy_from_slice(path.as_bytes());
    block[100..107].copy_from_slice(b"0000644");
    block[124..124 + size.len()].copy_from_slice(size);
    block[156] = flag;
    block[257..265].copy_from_slice(b"ustar\x0000");
    block[148..156].copy_from_slice(b"        ");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    [&block[..], data].concat()
}

#[test]
fn headers_that_lie_are_refused() {
    if !is_root("headers_that_lie_are_refused") {
        return;
    }
    refused(
        b"this is not a tar, but longer than a block ...".repeat(20).as_slice(),
        "no tar header at byte 0",
    );
    refused(b"short", "archive is truncated at byte 5, inside a header");
    refused(&raw("f", b'0', b"zzzz", b""), "size is not a number (\"zzzz\")");
    refused(&raw("huge", b'0', b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", b""), "\"huge\": size");
    refused(&raw("f", b'0', b"00000001000", b"abc"), "archive is truncated");
    refused(
        &raw("", b'x', b"77777777777", b""),
        "\"(extended header)\": size 8589934591 is out of range (at most 1048576)",
    );
    refused(&raw("", b'L', b"00000002000", b"abc"), "truncated");
}

#[test]
fn every_truncation_is_noticed() {
    if !is_root("every_truncation_is_noticed") {
        return;
    }
    let layer = Tar::new().directory("d/").file("d/f", &[7; 3000]).symlink("l", &"t".repeat(300)).done();
    for compress in [gzip, zstd] {
        let whole = compress(&layer);
        for length in (1..whole.len()).step_by(7) {
            let (_directory, store) = open();
            store
                .import_layer(&whole[..length], &LayerOptions::default())
                .expect_err(&format!("cut at {length}"));
        }
    }
    // A plain tar may end after any entry; inside one it may not.
    for length in (1..layer.len() - 1024).filter(|length| length % 512 != 0).step_by(97) {
        let (_directory, store) = open();
        store
            .import_layer(&layer[..length], &LayerOptions::default())
            .expect_err(&format!("cut at {length}"));
    }
}

#[test]
fn several_members_are_one_layer() {
    if !is_root("several_members_are_one_layer") {
        return;
    }
    let layer = Tar::new().file("f", &[1; 5000]).done();
    let (first, second) = layer.split_at(2000);
    for bytes in [[gzip(first), gzip(second)].concat(), [zstd(first), zstd(second)].concat()] {
        let (_directory, store) = open();
        let record = store.import_layer(bytes.as_slice(), &LayerOptions::default()).unwrap();
        assert_eq!(record.diff_id, ferry_oci::Digest::sha256_of(&layer));
    }
    refused(b"\xfd7zXZ\0", "compressed with xz, which is not supported");
    refused(&[gzip(&layer), b"garbage".to_vec()].concat(), "");
}

#[test]
fn digests_are_checked() {
    if !is_root("digests_are_checked") {
        return;
    }
    let layer = Tar::new().file("f", b"x").done();
    let other = ferry_oci::Digest::sha256_of(b"other");
    let (directory, store) = open();
    let wrong = LayerOptions { diff_id: Some(other.clone()), ..LayerOptions::default() };
    let error = store.import_layer(layer.as_slice(), &wrong).unwrap_err().to_string();
    assert_eq!(
        error,
        format!("layer has diff id {}, expected {other}", ferry_oci::Digest::sha256_of(&layer))
    );
    let wrong = LayerOptions { blob_digest: Some(other), ..LayerOptions::default() };
    let error = store.import_layer(gzip(&layer).as_slice(), &wrong).unwrap_err().to_string();
    assert!(error.starts_with("layer has digest sha256:"), "{error}");
    assert_nothing_left(directory.path());
}

#[test]
fn archives_that_lie_leave_nothing() {
    if !is_root("archives_that_lie_leave_nothing") {
        return;
    }
    let layers = vec![Tar::new().file("a", b"a").done(), Tar::new().file("b", b"b").done()];
    let config = config(&layers);
    let manifest = |config: &str, layers: &str| {
        format!(r#"[{{"Config":"{config}","RepoTags":["a:1"],"Layers":[{layers}]}}]"#)
    };
    let with = |manifest: String, second: &[u8]| {
        let tar = Tar::new().file("c.json", &config).file("0.tar", &layers[0]).file("1.tar", second);
        tar.file("manifest.json", manifest.as_bytes()).done()
    };
    let both = r#""0.tar","1.tar""#;
    let mut oci =
        oci_archive("a:1", &layers, "application/vnd.oci.image.layer.v1.tar", |bytes| bytes.to_vec());
    let position = oci.windows(4).rposition(|window| window == b"\"ar\"").unwrap_or(oci.len() / 2);
    oci.truncate(position.max(2048));
    let table: Vec<(Vec<u8>, &str)> = vec![
        (Tar::new().file("x", b"").done(), "neither a docker-archive nor an OCI layout"),
        (with("{".into(), &layers[1]), "manifest.json is malformed"),
        (
            with(manifest("missing.json", both), &layers[1]),
            "manifest.json names \"missing.json\", which is not in the archive",
        ),
        (with(manifest("c.json", r#""0.tar","2.tar""#), &layers[1]), "names \"2.tar\""),
        (
            with(manifest("c.json", r#""0.tar""#), &layers[1]),
            "has 2 layers in its config but 1 in the archive",
        ),
        (with(manifest("0.tar", both), &layers[1]), "invalid image config"),
        (with(manifest("c.json", both), &layers[0]), "cannot load layer 1.tar: layer has diff id"),
        (with(manifest("c.json", both).replace("a:1", "A:1"), &layers[1]), "must be lowercase"),
        (Tar::new().file("../manifest.json", b"[]").done(), "bad entry name \"../manifest.json\""),
    ];
    for (archive, expected) in table {
        let (directory, store) = open();
        let error = chain(&store.load(archive.as_slice(), None, &|_| ()).expect_err(expected));
        assert!(error.contains(expected), "{error}");
        assert!(store.images().list().is_empty(), "{expected}");
        assert_nothing_left(directory.path());
    }
}

#[test]
fn a_wish_for_a_platform_is_heeded() {
    if !is_root("a_wish_for_a_platform_is_heeded") {
        return;
    }
    let (_directory, store) = open();
    let archive = docker_archive(&["a:1"], &[Tar::new().done()]);
    let arm = ferry_oci::Platform::parse("linux/arm64").unwrap();
    let error = store.load(archive.as_slice(), Some(&arm), &|_| ()).unwrap_err().to_string();
    assert_eq!(error, "no image for platform linux/arm64 in the archive");
    let amd = ferry_oci::Platform::parse("linux/amd64").unwrap();
    store.load(archive.as_slice(), Some(&amd), &|_| ()).unwrap();
}

#[test]
fn the_reader_survives_noise() {
    // Deterministic noise: every byte of a valid archive flipped, one at a time.
    let layer = Tar::new().directory("d/").file("d/f", b"data").symlink("l", &"t".repeat(200)).done();
    for position in 0..layer.len().min(4096) {
        for flip in [0x01, 0x80, 0xff] {
            let mut noisy = layer.clone();
            noisy[position] ^= flip;
            let mut reader = TarReader::new(noisy.as_slice());
            for _ in 0..64 {
                match reader.next_entry() {
                    Ok(Some(_)) => {}
                    Ok(None) | Err(_) => break,
                }
            }
        }
    }
}
