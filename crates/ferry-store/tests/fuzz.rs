//! The fuzz targets of this crate, fed with mutations of seeds.

extern crate self as libfuzzer_sys;

#[path = "../../../tests/fuzz/driver.rs"]
mod driver;

#[allow(unused_attributes, reason = "a fuzz target is a crate of its own, too")]
#[path = "../fuzz/fuzz_targets/manifest.rs"]
mod manifest;
#[allow(unused_attributes, reason = "a fuzz target is a crate of its own, too")]
#[path = "../fuzz/fuzz_targets/reference.rs"]
mod reference;
#[allow(unused_attributes, reason = "a fuzz target is a crate of its own, too")]
#[path = "../fuzz/fuzz_targets/tar.rs"]
mod tar_entries;

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[test]
fn references_of_any_bytes() {
    let seeds = [
        "busybox",
        "localhost:5000/a/b-c__d.e:v1.2_x",
        "docker.io/library/debian:12",
        "[fd00::1]:443/x/y",
        "linux/arm64/v8",
        DIGEST,
        "sha512:ee26b0dd4af7e749aa1a8ee3c10ae9923f618980772e473f8819a5d4940e0db27ac185f8a0e1d5f84f88bc887fd67b143732c304cc5fa9ad8e6f57f50028a8ff",
    ];
    let mut seeds: Vec<Vec<u8>> = seeds.iter().map(|seed| seed.as_bytes().to_vec()).collect();
    seeds.push(format!("ghcr.io/a/b:c@{DIGEST}").into_bytes());
    let seeds: Vec<&[u8]> = seeds.iter().map(Vec::as_slice).collect();
    let pieces: [&[u8]; 14] = [
        b":",
        b"/",
        b"@",
        b"sha256:",
        b"..",
        b"//",
        b"docker.io/",
        b"library/",
        b"index.docker.io/",
        b"-",
        b"__",
        b"localhost",
        b"[::1]",
        b"A",
    ];
    driver::feed(reference::target, &seeds, &pieces);
}

#[test]
fn documents_of_any_bytes() {
    let index = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{DIGEST}","size":7,"platform":{{"os":"linux","architecture":"arm64","variant":"v8"}},"annotations":{{"org.opencontainers.image.ref.name":"a/b:c","io.containerd.image.name":"docker.io/a/b:c"}}}}]}}"#
    );
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.v2+json","config":{{"mediaType":"application/vnd.docker.container.image.v1+json","size":2,"digest":"{DIGEST}"}},"layers":[{{"mediaType":"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip","size":5,"digest":"{DIGEST}","urls":["https://example.com/x"]}}]}}"#
    );
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","created":"2024-01-01T00:00:00Z","config":{{"Env":["A=b"],"Cmd":["sh"],"ExposedPorts":{{"80/tcp":{{}}}},"Healthcheck":{{"Test":["NONE"],"Interval":5}}}},"rootfs":{{"type":"layers","diff_ids":["{DIGEST}"]}},"history":[{{"created_by":"x","empty_layer":true}}]}}"#
    );
    let docker =
        r#"[{"Config":"a.json","RepoTags":["a:b"],"Layers":["x/layer.tar","y.tar"],"LayerSources":{}}]"#;
    let seeds = [index.as_bytes(), manifest.as_bytes(), config.as_bytes(), docker.as_bytes()];
    let pieces: [&[u8]; 14] = [
        b"null",
        b"[]",
        b"{}",
        b"-1",
        b"1e400",
        b"18446744073709551616",
        b"\"",
        b",",
        b"\\ud800",
        b"\"digest\":",
        b"../",
        b"true",
        b"\"\"",
        b"\xff",
    ];
    driver::feed(manifest::target, &seeds, &pieces);
}

#[test]
fn archives_of_any_bytes() {
    let seeds = [archive(tar::Header::new_gnu()), archive(tar::Header::new_ustar()), with_extensions()];
    let seeds: Vec<&[u8]> = seeds.iter().map(Vec::as_slice).collect();
    let pieces: [&[u8]; 12] = [
        b"\0",
        b"77777777777",
        b"\x80\0\0\0\0\0\0\0\0\0\0\x01",
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        b"30 mtime=1.5\n",
        b"20 size=99999999999\n",
        b"GNU.sparse.major=1\n",
        b"ustar\0",
        b"ustar  \0",
        b"x",
        b"L",
        b"../",
    ];
    driver::feed(tar_entries::target, &seeds, &pieces);
}

/// A file, a folder and links.
fn archive(plain: tar::Header) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (kind, name, link, data) in [
        (tar::EntryType::Directory, "folder/", "", &b""[..]),
        (tar::EntryType::Regular, "folder/file", "", b"contents of a file"),
        (tar::EntryType::Symlink, "link", "folder/file", b""),
        (tar::EntryType::Link, "hard", "folder/file", b""),
    ] {
        let mut header = plain.clone();
        header.set_entry_type(kind);
        header.set_path(name).unwrap();
        if !link.is_empty() {
            header.set_link_name(link).unwrap();
        }
        header.set_size(data.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        builder.append(&header, data).unwrap();
    }
    builder.into_inner().unwrap()
}

/// Long names and attributes in records of their own.
fn with_extensions() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let records =
        [("path", &b"a/long/name"[..]), ("SCHILY.xattr.user.a", b"b"), ("mtime", b"1.25"), ("size", b"3")];
    builder.append_pax_extensions(records).unwrap();
    let mut header = tar::Header::new_ustar();
    header.set_size(3);
    header.set_path("short").unwrap();
    header.set_cksum();
    builder.append(&header, &b"abc"[..]).unwrap();
    let long = format!("{}/x", "n".repeat(150));
    let mut header = tar::Header::new_gnu();
    header.set_size(1);
    builder.append_data(&mut header, long, &b"z"[..]).unwrap();
    builder.into_inner().unwrap()
}
