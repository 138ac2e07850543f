//! Texts and documents that registries send, damaged in every way that costs one step: a byte flipped, cut off, doubled,
//! put in, or one part grown beyond measure. Each is either refused or means something that holds.

use ferry_oci::image::{Index, LAYERS_MAX, Manifest};
use ferry_oci::{Digest, Reference};
use ferry_remote::challenge::{Challenge, parse};
use ferry_remote::repository::content_range;

/// Bytes of each class that parsers tell apart.
const ODD: &[u8] = b"\0\n\r\t \"'\\/:@,;=.-_{}[]09aZ\x7f\x80\xc3\xe2\xff";

/// Calls `check` with every text that is one step away from the seed.
fn damaged(seed: &[u8], mut check: impl FnMut(&[u8])) {
    for at in 0..seed.len() {
        let (before, after) = (&seed[..at], &seed[at + 1..]);
        check(before);
        check(&seed[at..]);
        check(&[before, after].concat());
        check(&[before, &[seed[at], seed[at]], after].concat());
        check(&[seed, before].concat());
        for flip in [0x01, 0x20, 0x80, 0xff] {
            check(&[before, &[seed[at] ^ flip], after].concat());
        }
        for odd in ODD {
            check(&[before, &[*odd], after].concat());
            check(&[before, &[*odd, seed[at]], after].concat());
        }
    }
    for odd in ODD {
        let grown = vec![*odd; 70_000];
        for at in [0, seed.len() / 2, seed.len()] {
            check(&[&seed[..at], &grown, &seed[at..]].concat());
        }
    }
}

fn texts(seed: &str, mut check: impl FnMut(&str)) {
    damaged(seed.as_bytes(), |bytes| {
        if let Ok(text) = std::str::from_utf8(bytes) {
            check(text);
        }
    });
}

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[test]
fn references() {
    let seeds = ["busybox", "registry.example:5000/team/app_x.y:v1.2-rc", "[::1]:5000/a/b__c"];
    for seed in seeds.map(str::to_owned).into_iter().chain([format!("localhost/app:x@{DIGEST}")]) {
        texts(&seed, |text| {
            let Ok(reference) = Reference::parse_name(text) else { return };
            // What was understood is understood again, and is safe in an address.
            let shown = reference.to_string();
            assert_eq!(Reference::parse_name(&shown).as_ref(), Ok(&reference), "{text:?}");
            assert!(shown.len() < 1000, "{text:?}");
            let plain = |character: char| character.is_ascii_graphic() && !"?#%\\".contains(character);
            assert!(shown.chars().all(plain), "{text:?}: {shown}");
            assert!(!reference.path().split('/').any(|part| matches!(part, "" | "." | "..")), "{text:?}");
        });
    }
}

#[test]
fn ranges() {
    for seed in ["bytes 0-99/100", "bytes 5-9/*", "bytes 18446744073709551614-18446744073709551615/*"] {
        texts(seed, |text| {
            if let Some((start, Some(size))) = content_range(text) {
                assert!(start < size, "{text:?}");
            }
        });
    }
}

#[test]
fn challenges() {
    let seed =
        r#"Bearer realm="https://a.example/token",service="r",scope="repository:a:pull", Basic realm="x""#;
    texts(seed, |text| {
        for challenge in parse(text) {
            if let Challenge::Bearer { realm, service, scope } = challenge {
                for part in [Some(realm), service, scope].into_iter().flatten() {
                    assert!(part.len() <= text.len(), "{text:?}");
                }
            }
        }
    });
}

#[test]
fn manifests() {
    let descriptor = |kind: &str| format!(r#"{{"mediaType":"{kind}","digest":"{DIGEST}","size":12}}"#);
    let config = descriptor("application/vnd.oci.image.config.v1+json");
    let layer = descriptor("application/vnd.oci.image.layer.v1.tar+gzip");
    let seed = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{layer}]}}"#);
    damaged(seed.as_bytes(), |bytes| {
        let Ok(manifest) = serde_json::from_slice::<Manifest>(bytes) else { return };
        assert!(manifest.layers.len() <= LAYERS_MAX);
        for blob in manifest.layers.iter().chain([&manifest.config]) {
            assert_eq!(Digest::parse(&blob.digest.to_string()).as_ref(), Ok(&blob.digest));
        }
    });
}

#[test]
fn indexes() {
    let platform = r#"{"os":"linux","architecture":"arm","variant":"v7"}"#;
    let entry = format!(
        r#"{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{DIGEST}","size":3,"platform":{platform}}}"#
    );
    let seed = format!(r#"{{"schemaVersion":2,"manifests":[{entry}],"annotations":{{"a":"b"}}}}"#);
    damaged(seed.as_bytes(), |bytes| {
        let Ok(index) = serde_json::from_slice::<Index>(bytes) else { return };
        let again = serde_json::to_vec(&index).expect("what was read can be written");
        assert!(serde_json::from_slice::<Index>(&again).is_ok());
    });
}
