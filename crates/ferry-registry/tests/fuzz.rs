//! The fuzz targets of this crate, fed with mutations of seeds.

extern crate self as libfuzzer_sys;

#[path = "../../../tests/fuzz/driver.rs"]
mod driver;

#[allow(unused_attributes, reason = "a fuzz target is a crate of its own, too")]
#[path = "../fuzz/fuzz_targets/answer.rs"]
mod answer;
#[allow(unused_attributes, reason = "a fuzz target is a crate of its own, too")]
#[path = "../fuzz/fuzz_targets/journal.rs"]
mod journal;
#[allow(unused_attributes, reason = "a fuzz target is a crate of its own, too")]
#[path = "../fuzz/fuzz_targets/manifest.rs"]
mod manifest;
#[allow(unused_attributes, reason = "a fuzz target is a crate of its own, too")]
#[path = "../fuzz/fuzz_targets/range.rs"]
mod range;
#[allow(unused_attributes, reason = "a fuzz target is a crate of its own, too")]
#[path = "../fuzz/fuzz_targets/route.rs"]
mod route;
#[allow(unused_attributes, reason = "a fuzz target is a crate of its own, too")]
#[path = "../fuzz/fuzz_targets/token.rs"]
mod token;

#[test]
fn ranges_of_any_bytes() {
    let seeds: [&[u8]; 6] =
        [b"100|bytes=0-9", b"100|bytes=-5", b"100|bytes=99-", b"0|bytes=0-", b"10|0-9", b"7|bytes 0-3/7"];
    let pieces: [&[u8]; 7] = [b"-", b",", b"bytes=", b"18446744073709551615", b"0", b" ", b"+"];
    driver::feed(range::target, &seeds, &pieces);
}

#[test]
fn paths_of_any_bytes() {
    let seeds: [&[u8]; 6] = [
        b"/v2/",
        b"/v2/_catalog?n=5&last=a%2fb",
        b"/v2/a/b/tags/list?n=1",
        b"/v2/a/b/manifests/latest?ns=docker.io",
        b"/v2/a/blobs/uploads/?mount=sha256:00&from=x/y",
        b"/v2/a/referrers/sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855?artifactType=a%2Bb",
    ];
    let pieces: [&[u8]; 10] =
        [b"/", b"..", b"%2e%2e", b"%00", b"%", b"?", b"&", b"blobs/", b"manifests/", b"tags/list"];
    driver::feed(route::target, &seeds, &pieces);
}

#[test]
fn manifests_of_any_bytes() {
    let digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","artifactType":"a/b","config":{{"mediaType":"application/vnd.oci.empty.v1+json","digest":"{digest}","size":2}},"layers":[{{"mediaType":"x","digest":"{digest}","size":0}}],"subject":{{"mediaType":"y","digest":"{digest}","size":1}}}}"#
    );
    let index = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{{"mediaType":"z","digest":"{digest}","size":7}}]}}"#
    );
    let pieces: [&[u8]; 8] =
        [b"null", b"{}", b"[]", b"-1", b"\"", b",", b"\"mediaType\":", b"18446744073709551616"];
    driver::feed(manifest::target, &[manifest.as_bytes(), index.as_bytes()], &pieces);
}

#[test]
fn tokens_of_any_bytes() {
    let seeds: [&[u8]; 3] = [
        b"eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl",
        b"repository:a/b:pull,push",
        b"registry:catalog:*",
    ];
    let pieces: [&[u8]; 6] = [b".", b"=", b":", b",", b"repository:", b"*"];
    driver::feed(token::target, &seeds, &pieces);
}

#[test]
fn buckets_of_any_bytes() {
    // One change as a segment has it: table, key, whether there is a value, value.
    let part = |text: &[u8]| [&(text.len() as u32).to_le_bytes()[..], text].concat();
    let change = [part(b"tags"), part(b"app\0one"), part(&[1]), part(b"{}")].concat();
    let gone = [part(b"tags"), part(b"app\0two"), part(&[0])].concat();
    let segment = [part(b"id"), part(&[change.clone(), gone].concat())].concat();
    let head: &[u8] = br#"{"format":1,"store":"s","number":7,"snapshot":{"key":"snapshots/3","last":3,"bytes":9},"segments":[{"key":"journal/5","last":5,"bytes":70}],"tail":[{"id":"a","changes":"BAAAAHRhZ3MBAAAAawEAAAAA"},{"id":"b","changes":""}]}"#;
    let pieces: [&[u8]; 8] = [
        b"18446744073709551615",
        b"-1",
        b"null",
        b"[]",
        b"{}",
        &[255, 255, 255, 255],
        &[0, 0, 0, 0],
        b"\"a\",",
    ];
    driver::feed(journal::target, &[head, &segment, &change], &pieces);
}

#[test]
fn answers_of_any_service() {
    let list: &[u8] = b"<ListBucketResult><Contents><Key>journal/1</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents><NextContinuationToken>x</NextContinuationToken></ListBucketResult>";
    let error: &[u8] = b"<Error><Code>NoSuchKey</Code><Message>none</Message></Error>";
    let uploads: &[u8] = b"<R><Upload><Key>k</Key><UploadId>u</UploadId></Upload></R>";
    let pieces: [&[u8]; 8] =
        [b"<", b">", b"</Key>", b"<Key>", b"<Contents>", b"</Contents>", b"&quot;", "\u{fc}".as_bytes()];
    driver::feed(answer::target, &[list, error, uploads], &pieces);
}
