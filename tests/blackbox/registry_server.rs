//! A registry of ferry's own, by the text of the specification: requests by hand, answers as tables.

use std::io::Write as _;
use std::net::TcpStream;

use ferry_tests::engine::wait_until;
use ferry_tests::own_registry::{OCI_MANIFEST, OwnRegistry, image_manifest, sha256, sha512};

use crate::Test;

/// The suite.
pub const TESTS: &[Test] = &[
    ("registry_server::blobs_and_ranges", blobs_and_ranges),
    ("registry_server::uploads_in_every_way", uploads_in_every_way),
    ("registry_server::chunks_out_of_order", chunks_out_of_order),
    ("registry_server::mounts", mounts),
    ("registry_server::manifests", manifests),
    ("registry_server::bad_manifests", bad_manifests),
    ("registry_server::lists_by_pages", lists_by_pages),
    ("registry_server::referrers", referrers),
    ("registry_server::deletes_and_garbage", deletes_and_garbage),
    ("registry_server::bad_requests", bad_requests),
    ("registry_server::survives_kills", survives_kills),
    ("registry_server::limits", limits),
    ("registry_server::trash_gives_back", trash_gives_back),
];

fn blobs_and_ranges() {
    let registry = OwnRegistry::start(&[]);
    let ping = registry.get("/v2/");
    ping.is(200);
    assert_eq!(ping.header("docker-distribution-api-version"), "registry/2.0");
    let digest = registry.push_blob("a/b", b"0123456789");
    let path = format!("/v2/a/b/blobs/{digest}");
    let head = registry.send("HEAD", &path, &[], b"");
    head.is(200);
    assert_eq!(
        (head.header("content-length"), head.header("docker-content-digest")),
        ("10", digest.as_str())
    );
    for (range, status, body, content_range) in [
        ("", 200, "0123456789", ""),
        ("bytes=0-0", 206, "0", "bytes 0-0/10"),
        ("bytes=3-", 206, "3456789", "bytes 3-9/10"),
        ("bytes=-2", 206, "89", "bytes 8-9/10"),
        ("bytes=8-100", 206, "89", "bytes 8-9/10"),
        ("bytes=0-1,4-5", 200, "0123456789", ""),
    ] {
        let answer = registry.send("GET", &path, &[("Range", range)], b"");
        answer.is(status);
        assert_eq!(
            (answer.text().as_str(), answer.header("content-range")),
            (body, content_range),
            "{range}"
        );
    }
    let outside = registry.send("GET", &path, &[("Range", "bytes=10-")], b"");
    outside.is(416);
    assert_eq!(outside.header("content-range"), "bytes */10");
    registry.get(&format!("/v2/a/b/blobs/{}", sha256(b"none"))).refuses(404, "BLOB_UNKNOWN");
    registry.get(&format!("/v2/other/blobs/{digest}")).refuses(404, "BLOB_UNKNOWN");
    // Larger than any buffer on the way.
    let large: Vec<u8> = (0..5_000_011u32).map(|n| (n % 251) as u8).collect();
    let digest = registry.push_blob("a/b", &large);
    let whole = registry.get(&format!("/v2/a/b/blobs/{digest}"));
    assert!(whole.body == large, "{} of {} bytes", whole.body.len(), large.len());
    let part =
        registry.send("GET", &format!("/v2/a/b/blobs/{digest}"), &[("Range", "bytes=1000000-4999999")], b"");
    assert!(part.body == large[1_000_000..5_000_000]);
}

/// Begins an upload; gives its place.
fn begin(registry: &OwnRegistry, name: &str) -> String {
    let begun = registry.send("POST", &format!("/v2/{name}/blobs/uploads/"), &[], b"");
    begun.is(202);
    assert!(!begun.header("docker-upload-uuid").is_empty());
    begun.header("location").to_owned()
}

fn uploads_in_every_way() {
    let registry = OwnRegistry::start(&[]);
    let place = begin(&registry, "post-put");
    let digest = sha256(b"first");
    let done = registry.send("PUT", &format!("{place}?digest={digest}"), &[], b"first");
    done.is(201);
    assert_eq!(done.header("location"), format!("/v2/post-put/blobs/{digest}"));
    assert_eq!(registry.get(done.header("location")).text(), "first");
    registry.get(&place).refuses(404, "BLOB_UPLOAD_UNKNOWN");

    let place = begin(&registry, "streamed");
    let chunked = b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    let patched = registry.send("PATCH", &place, &[("Transfer-Encoding", "chunked")], chunked);
    patched.is(202);
    assert_eq!(patched.header("range"), "0-4");
    let status = registry.get(patched.header("location"));
    status.is(204);
    assert_eq!(status.header("range"), "0-4");
    let digest = sha512(b"abcde");
    registry.send("PUT", &format!("{place}?digest={digest}"), &[], b"").is(201);
    assert_eq!(registry.get(&format!("/v2/streamed/blobs/{digest}")).text(), "abcde");

    let place = begin(&registry, "cancelled");
    registry.send("DELETE", &place, &[], b"").is(204);
    registry.send("PATCH", &place, &[], b"x").refuses(404, "BLOB_UPLOAD_UNKNOWN");

    let place = begin(&registry, "lying");
    let lie = format!("{place}?digest={}", sha256(b"something else"));
    registry.send("PUT", &lie, &[], b"x").refuses(400, "DIGEST_INVALID");
    registry.get(&format!("/v2/lying/blobs/{}", sha256(b"x"))).refuses(404, "BLOB_UNKNOWN");
    let place = begin(&registry, "lying");
    registry.send("PUT", &place, &[], b"x").refuses(400, "DIGEST_INVALID");
    registry.send("PUT", &format!("{place}?digest=sha256:12"), &[], b"x").refuses(400, "DIGEST_INVALID");
    registry.send("PATCH", &place.replace("lying", "theirs"), &[], b"x").refuses(404, "BLOB_UPLOAD_UNKNOWN");
    let algorithm = registry.send("POST", "/v2/a/blobs/uploads/?digest-algorithm=sha512", &[], b"");
    algorithm.is(202);
    registry
        .send("POST", "/v2/a/blobs/uploads/?digest-algorithm=md5", &[], b"")
        .refuses(400, "DIGEST_INVALID");
    let empty = registry.push_blob("empty", b"");
    registry.get(&format!("/v2/empty/blobs/{empty}")).is(200);
}

fn chunks_out_of_order() {
    let registry = OwnRegistry::start(&[]);
    let place = begin(&registry, "chunks");
    for (range, body, status, now) in [
        ("0-2", "abc", 202, "0-2"),
        ("0-2", "abc", 416, "0-2"),
        ("5-7", "abc", 416, "0-2"),
        ("3-9", "abc", 400, ""),
        ("x", "abc", 400, ""),
        ("3-5", "def", 202, "0-5"),
    ] {
        let answer = registry.send("PATCH", &place, &[("Content-Range", range)], body.as_bytes());
        answer.is(status);
        assert_eq!(answer.header("range"), now, "{range}");
    }
    let target = format!("{place}?digest={}", sha256(b"abcdefgh"));
    registry.send("PUT", &target, &[("Content-Range", "0-1")], b"gh").is(416);
    registry.send("PUT", &target, &[("Content-Range", "6-7")], b"gh").is(201);
}

fn mounts() {
    let registry = OwnRegistry::start(&[]);
    let digest = registry.push_blob("source", b"shared");
    for (query, status) in [
        (format!("mount={digest}&from=source"), 201),
        (format!("mount={digest}&from=nobody"), 202),
        (format!("mount={digest}"), 201),
        (format!("mount={}", sha256(b"none")), 202),
        (format!("mount={}&from=source", sha256(b"none")), 202),
    ] {
        let answer =
            registry.send("POST", &format!("/v2/target{}/blobs/uploads/?{query}", query.len()), &[], b"");
        answer.is(status);
        match status {
            201 => assert_eq!(registry.get(answer.header("location")).text(), "shared"),
            _ => assert!(answer.header("location").contains("/blobs/uploads/"), "{answer:?}"),
        }
    }
}

fn manifests() {
    let registry = OwnRegistry::start(&[]);
    let layer = registry.push_blob("app", b"layer");
    let digest = registry.push_image("app", "one", &[&layer], "");
    for reference in ["one", digest.as_str()] {
        let target = format!("/v2/app/manifests/{reference}");
        let found = registry.get(&target);
        found.is(200);
        assert_eq!(sha256(&found.body), digest);
        assert_eq!(found.header("content-type"), OCI_MANIFEST);
        let head = registry.send("HEAD", &target, &[], b"");
        assert_eq!(head.header("content-length"), found.body.len().to_string());
        assert_eq!(head.header("docker-content-digest"), digest);
    }
    registry.get("/v2/app/manifests/two").refuses(404, "MANIFEST_UNKNOWN");
    registry.get(&format!("/v2/app/manifests/{}", sha256(b"x"))).refuses(404, "MANIFEST_UNKNOWN");
    let text = registry.get("/v2/app/manifests/one").body;
    for (target, status) in [
        (format!("/v2/app/manifests/{digest}?tag=a&tag=b"), 201),
        (format!("/v2/app/manifests/{}", sha512(&text)), 201),
        (format!("/v2/app/manifests/{}", sha256(b"x")), 400),
    ] {
        registry.send("PUT", &target, &[("Content-Type", OCI_MANIFEST)], &text).is(status);
    }
    assert_eq!(registry.get("/v2/app/tags/list").json()["tags"], serde_json::json!(["a", "b", "one"]));
    assert_eq!(registry.get(&format!("/v2/app/manifests/{}", sha512(&text))).body, text);
    let index = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{{"mediaType":"{OCI_MANIFEST}","digest":"{digest}","size":{}}},{{"mediaType":"{OCI_MANIFEST}","digest":"{}","size":5}}]}}"#,
        text.len(),
        sha256(b"elsewhere")
    );
    let kind = "application/vnd.oci.image.index.v1+json";
    let put = registry.send("PUT", "/v2/app/manifests/all", &[("Content-Type", kind)], index.as_bytes());
    put.is(201);
    assert!(put.header("warning").starts_with("299 - \"1 of the manifests"), "{put:?}");
}

fn bad_manifests() {
    let registry = OwnRegistry::start(&[]);
    let config = registry.push_blob("bad", b"{}");
    let good = image_manifest(&config, &[], "");
    let missing = image_manifest(&config, &[&sha256(b"nowhere")], "");
    let big = format!("{}{}", good, " ".repeat(5 << 20));
    let put = |reference: &str, kind: &str, body: &str| {
        registry.send(
            "PUT",
            &format!("/v2/bad/manifests/{reference}"),
            &[("Content-Type", kind)],
            body.as_bytes(),
        )
    };
    for (reference, kind, body, status, code) in [
        ("x", OCI_MANIFEST, "", 400, "MANIFEST_INVALID"),
        ("x", OCI_MANIFEST, "{}", 400, "MANIFEST_INVALID"),
        ("x", OCI_MANIFEST, "[2,null,null,null,null,null,null,null]", 400, "MANIFEST_INVALID"),
        ("x", OCI_MANIFEST, r#"{"schemaVersion":1}"#, 400, "MANIFEST_INVALID"),
        ("x", "application/vnd.oci.image.index.v1+json", good.as_str(), 400, "MANIFEST_INVALID"),
        ("x", "text/plain", good.as_str(), 400, "MANIFEST_INVALID"),
        ("x", OCI_MANIFEST, missing.as_str(), 404, "MANIFEST_BLOB_UNKNOWN"),
        ("x", OCI_MANIFEST, big.as_str(), 413, "SIZE_INVALID"),
        ("-x", OCI_MANIFEST, good.as_str(), 400, "TAG_INVALID"),
        ("sha256:12", OCI_MANIFEST, good.as_str(), 400, "DIGEST_INVALID"),
    ] {
        put(reference, kind, body).refuses(status, code);
    }
    put("x", OCI_MANIFEST, &good).is(201);
    let lenient = OwnRegistry::start(&["--sparse"]);
    let kind = [("Content-Type", OCI_MANIFEST)];
    lenient.send("PUT", "/v2/bad/manifests/x", &kind, missing.as_bytes()).is(201);
    assert_eq!(lenient.get("/v2/bad/manifests/x").text(), missing);
}

fn lists_by_pages() {
    let registry = OwnRegistry::start(&[]);
    registry.get("/v2/none/tags/list").refuses(404, "NAME_UNKNOWN");
    for tag in ["c", "a", "b", "A"] {
        registry.push_image("listed/app", tag, &[], "");
    }
    registry.push_image("other", "x", &[], "");
    let tags = |query: &str| registry.get(&format!("/v2/listed/app/tags/list{query}"));
    assert_eq!(tags("").json(), serde_json::json!({"name": "listed/app", "tags": ["A", "a", "b", "c"]}));
    let page = tags("?n=2");
    assert_eq!(page.json()["tags"], serde_json::json!(["A", "a"]));
    assert_eq!(page.header("link"), "</v2/listed/app/tags/list?n=2&last=a>; rel=\"next\"");
    let last = tags("?n=2&last=a");
    assert_eq!((last.json()["tags"].clone(), last.header("link")), (serde_json::json!(["b", "c"]), ""));
    assert_eq!(tags("?n=0").json()["tags"], serde_json::json!([]));
    tags("?n=x").refuses(400, "PAGINATION_NUMBER_INVALID");
    let catalog = registry.get("/v2/_catalog?n=1");
    assert_eq!(catalog.json(), serde_json::json!({"repositories": ["listed/app"]}));
    assert_eq!(catalog.header("link"), "</v2/_catalog?n=1&last=listed%2Fapp>; rel=\"next\"");
    assert_eq!(registry.get("/v2/_catalog?n=1&last=listed%2Fapp").json()["repositories"][0], "other");
}

fn referrers() {
    let registry = OwnRegistry::start(&[]);
    let subject = registry.push_image("app", "one", &[], "");
    let about = |kind: &str, note: &str| {
        format!(
            r#","artifactType":"{kind}","annotations":{{"note":"{note}"}},"subject":{{"mediaType":"{OCI_MANIFEST}","digest":"{subject}","size":1}}"#
        )
    };
    let config = sha256(b"{}");
    for (kind, note) in [("sbom", "first"), ("signature", "second")] {
        let manifest = image_manifest(&config, &[], &about(kind, note));
        let target = format!("/v2/app/manifests/{}", sha256(manifest.as_bytes()));
        let put = registry.send("PUT", &target, &[("Content-Type", OCI_MANIFEST)], manifest.as_bytes());
        put.is(201);
        assert_eq!(put.header("oci-subject"), subject);
    }
    let target = format!("/v2/app/referrers/{subject}");
    let all = registry.get(&target);
    assert_eq!(all.header("content-type"), "application/vnd.oci.image.index.v1+json");
    assert_eq!(all.json()["manifests"].as_array().map(Vec::len), Some(2));
    let some = registry.get(&format!("{target}?artifactType=sbom"));
    assert_eq!(some.header("oci-filters-applied"), "artifactType");
    let found = &some.json()["manifests"];
    assert_eq!(
        (&found[0]["artifactType"], &found[0]["annotations"]["note"]),
        (&"sbom".into(), &"first".into())
    );
    assert_eq!(found.as_array().map(Vec::len), Some(1));
    let none = registry.get(&format!("/v2/nobody/referrers/{subject}"));
    none.is(200);
    assert_eq!(none.json()["manifests"], serde_json::json!([]));
    registry.get("/v2/app/referrers/latest").refuses(400, "DIGEST_INVALID");
    let sbom = found[0]["digest"].as_str().expect("a digest").to_owned();
    registry.send("DELETE", &format!("/v2/app/manifests/{sbom}"), &[], b"").is(202);
    assert_eq!(registry.get(&target).json()["manifests"].as_array().map(Vec::len), Some(1));
}

/// Bytes of all blob files.
fn bytes_on_disk(registry: &OwnRegistry) -> u64 {
    let mut folders = vec![registry.root().join("data/blobs")];
    let mut bytes = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => folders.push(entry.path()),
                Ok(metadata) => bytes += metadata.len(),
                // The sweep was quicker.
                Err(_) => {}
            }
        }
    }
    bytes
}

fn deletes_and_garbage() {
    let registry = OwnRegistry::start(&["--gc-grace", "5s", "--gc-interval", "200ms"]);
    let content = vec![7u8; 300_000];
    let layer = registry.push_blob("app", &content);
    let digest = registry.push_image("app", "one", &[&layer], "");
    registry.push_image("app", "two", &[&layer], r#","annotations":{"a":"b"}"#);
    registry.push_blob("app", &vec![8u8; 200_000]);
    // What nothing refers to goes; what something refers to stays.
    wait_until("the lone blob goes", || bytes_on_disk(&registry) < 400_000);
    registry.get(&format!("/v2/app/blobs/{layer}")).is(200);
    registry.send("DELETE", "/v2/app/manifests/none", &[], b"").refuses(404, "MANIFEST_UNKNOWN");
    registry.send("DELETE", "/v2/app/manifests/two", &[], b"").is(202);
    assert_eq!(registry.get("/v2/app/tags/list").json()["tags"], serde_json::json!(["one"]));
    registry.send("DELETE", &format!("/v2/app/manifests/{digest}"), &[], b"").is(202);
    registry.get("/v2/app/manifests/one").refuses(404, "MANIFEST_UNKNOWN");
    registry.get(&format!("/v2/app/blobs/{layer}")).is(200);
    let other = sha256(image_manifest(&sha256(b"{}"), &[&layer], r#","annotations":{"a":"b"}"#).as_bytes());
    registry.send("DELETE", &format!("/v2/app/manifests/{other}"), &[], b"").is(202);
    wait_until("the space is free", || bytes_on_disk(&registry) == 0);
    registry.get(&format!("/v2/app/blobs/{layer}")).refuses(404, "BLOB_UNKNOWN");
    wait_until("the repository is gone", || registry.get("/v2/app/tags/list").status == 404);
    let blob = registry.push_blob("app", b"alone");
    registry.send("DELETE", &format!("/v2/app/blobs/{blob}"), &[], b"").is(202);
    registry.send("DELETE", &format!("/v2/app/blobs/{blob}"), &[], b"").refuses(404, "BLOB_UNKNOWN");
    let fixed = OwnRegistry::start(&["--no-delete"]);
    fixed.push_image("app", "one", &[], "");
    fixed.send("DELETE", "/v2/app/manifests/one", &[], b"").refuses(405, "UNSUPPORTED");
}

fn bad_requests() {
    let registry = OwnRegistry::start(&[]);
    for (method, target, status, code) in [
        ("GET", "/v2/UPPER/tags/list", 400, "NAME_INVALID"),
        ("GET", "/v2/a/../../../etc/tags/list", 400, "NAME_INVALID"),
        ("GET", "/v2/%2e%2e/%2e%2e/manifests/x", 400, "NAME_INVALID"),
        ("GET", "/v2/a%00b/manifests/x", 400, "NAME_INVALID"),
        ("GET", "/v2/a/blobs/sha256:../../../../etc/passwd", 404, "NAME_UNKNOWN"),
        ("GET", "/v2/a/blobs/sha256%3a..%2f..%2fetc", 404, "NAME_UNKNOWN"),
        ("GET", "/v2/a/blobs/md5:00", 400, "DIGEST_INVALID"),
        ("GET", "/v2/a/manifests/.x", 400, "TAG_INVALID"),
        ("GET", "/v2/a/blobs/uploads/../x", 404, "NAME_UNKNOWN"),
        ("GET", "/v2/a/blobs/uploads/unknown", 404, "BLOB_UPLOAD_UNKNOWN"),
        ("POST", "/v2/a/manifests/x", 405, "UNSUPPORTED"),
        ("PUT", "/v2/_catalog", 405, "UNSUPPORTED"),
        ("GET", "/v2/nothing", 404, "NAME_UNKNOWN"),
    ] {
        registry.send(method, target, &[], b"").refuses(status, code);
    }
    registry.get("/elsewhere").is(404);
    let huge = format!("GET /v2/ HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "y".repeat(1 << 20));
    assert_eq!(registry.send_raw("GET", huge.as_bytes()).status, 431);
    registry.get("/v2/").is(200);
}

fn survives_kills() {
    let mut registry = OwnRegistry::start(&[]);
    let layer = registry.push_blob("app", b"layer");
    let digest = registry.push_image("app", "one", &[&layer], "");
    let place = begin(&registry, "app");
    registry.send("PATCH", &place, &[], b"half of it, ").is(202);
    // A second one breaks off in the middle.
    let broken = begin(&registry, "app");
    let mut stream = TcpStream::connect(&registry.address).expect("connected");
    let head = format!("PATCH {broken} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nsome bytes");
    stream.write_all(head.as_bytes()).expect("sent");
    registry.kill_and_restart();
    assert_eq!(sha256(&registry.get("/v2/app/manifests/one").body), digest);
    assert_eq!(registry.get(&format!("/v2/app/blobs/{layer}")).text(), "layer");
    let status = registry.get(&place);
    status.is(204);
    assert_eq!(status.header("range"), "0-11");
    let whole = sha256(b"half of it, and the rest");
    registry
        .send("PUT", &format!("{place}?digest={whole}"), &[("Content-Range", "12-23")], b"and the rest")
        .is(201);
    registry.get(&broken).is(204);
    registry.send("DELETE", &broken, &[], b"").is(204);
    // A file that a kill left between its placing and its record.
    let orphan = registry.root().join("data/blobs/sha256/ab");
    std::fs::create_dir_all(&orphan).expect("a folder");
    let orphan = orphan.join(format!("ab{}", "0".repeat(62)));
    std::fs::write(&orphan, "x").expect("a file");
    registry.kill_and_restart();
    wait_until("the orphan is removed", || !orphan.exists());
    assert_eq!(std::fs::read_dir(registry.root().join("data/uploads")).expect("a folder").count(), 0);
}

fn limits() {
    let registry = OwnRegistry::start(&["--max-uploads", "3", "--max-blob-size", "1000", "--quota", "1500"]);
    let places: Vec<String> = (0..3).map(|_| begin(&registry, "a")).collect();
    let refused = registry.send("POST", "/v2/a/blobs/uploads/", &[], b"");
    refused.refuses(429, "TOOMANYREQUESTS");
    assert!(!refused.header("retry-after").is_empty());
    for place in places {
        registry.send("DELETE", &place, &[], b"").is(204);
    }
    let push = |name: &str, bytes: &[u8]| {
        registry.send("POST", &format!("/v2/{name}/blobs/uploads/?digest={}", sha256(bytes)), &[], bytes)
    };
    push("a", &[1; 1001]).refuses(413, "SIZE_INVALID");
    push("a", &[1; 1000]).is(201);
    push("a", &[2; 1000]).refuses(403, "DENIED");
    push("b", &[2; 1000]).is(201);
    let metrics = registry.get("/metrics").text();
    assert!(metrics.contains("\nferry_registry_blobs 2\n"), "{metrics}");
    let log = std::fs::read_to_string(registry.root().join("log")).expect("the log");
    assert!(log.contains(r#""status":413"#), "{log}");
}

fn trash_gives_back() {
    let mut registry = OwnRegistry::start(&["--trash", "1h", "--gc-grace", "5s", "--gc-interval", "100ms"]);
    let digest = registry.push_image("app", "one", &[], "");
    registry.send("DELETE", &format!("/v2/app/manifests/{digest}"), &[], b"").is(202);
    registry.get("/v2/app/manifests/one").refuses(404, "MANIFEST_UNKNOWN");
    registry.kill_and_restart();
    let trash = registry.get("/ferry/v1/trash").json();
    assert_eq!((&trash[0]["digest"], &trash[0]["tags"][0]), (&digest.as_str().into(), &"one".into()));
    let back = format!("/ferry/v1/trash?repository=app&digest={digest}");
    registry.send("POST", &back, &[], b"").is(201);
    registry.send("POST", &back, &[], b"").refuses(404, "MANIFEST_UNKNOWN");
    assert_eq!(sha256(&registry.get("/v2/app/manifests/one").body), digest);
    registry.get(&format!("/v2/app/blobs/{}", sha256(b"{}"))).is(200);
}
