//! A registry of ferry's own keeps what is no image: charts, signatures, bills of materials, anything.

use ferry_tests::own_registry::{OCI_MANIFEST, OwnRegistry, sha256};

use crate::Test;

/// The suite.
pub const TESTS: &[Test] = &[
    ("registry_artifacts::of_any_media_type", of_any_media_type),
    ("registry_artifacts::signatures", signatures),
];

const EMPTY: &str = "application/vnd.oci.empty.v1+json";

fn descriptor(kind: &str, bytes: &[u8]) -> serde_json::Value {
    serde_json::json!({ "mediaType": kind, "digest": sha256(bytes), "size": bytes.len() })
}

/// Pushes a manifest with these blobs; gives its bytes.
fn push(registry: &OwnRegistry, reference: &str, manifest: &serde_json::Value) -> Vec<u8> {
    let bytes = serde_json::to_vec_pretty(manifest).expect("JSON");
    let reference = if reference.is_empty() { sha256(&bytes) } else { reference.to_owned() };
    let target = format!("/v2/things/manifests/{reference}");
    registry.send("PUT", &target, &[("Content-Type", OCI_MANIFEST)], &bytes).is(201);
    bytes
}

fn of_any_media_type() {
    let registry = OwnRegistry::start(&[]);
    for (tag, artifact, config_kind, config, layers) in [
        (
            "chart-1.2.3",
            None,
            "application/vnd.cncf.helm.config.v1+json",
            &br#"{"name":"chart","version":"1.2.3"}"#[..],
            vec![
                ("application/vnd.cncf.helm.chart.content.v1.tar+gzip", &b"a chart"[..]),
                ("application/vnd.cncf.helm.chart.provenance.v1.prov", b"its provenance"),
            ],
        ),
        ("module", None, "application/vnd.wasm.config.v0+json", b"{}", vec![("application/wasm", b"\0asm")]),
        ("bill", Some("application/spdx+json"), EMPTY, b"{}", vec![("application/spdx+json", b"{}")]),
        ("odd", Some("application/x-own+thing"), EMPTY, b"{}", vec![("x/y; z=1", b"\x00\xff")]),
        ("nothing", Some("application/x-nothing"), EMPTY, b"{}", vec![]),
    ] {
        registry.push_blob("things", config);
        layers.iter().for_each(|(_, bytes)| drop(registry.push_blob("things", bytes)));
        let layers: Vec<_> = layers.iter().map(|(kind, bytes)| descriptor(kind, bytes)).collect();
        let mut manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": descriptor(config_kind, config), "layers": layers,
        });
        if let Some(kind) = artifact {
            manifest["artifactType"] = kind.into();
        }
        let bytes = push(&registry, tag, &manifest);
        let found = registry.get(&format!("/v2/things/manifests/{tag}"));
        found.is(200);
        assert_eq!((found.body, sha256(&bytes)), (bytes.clone(), found_digest(&registry, tag)), "{tag}");
        for layer in manifest["layers"].as_array().into_iter().flatten() {
            let digest = layer["digest"].as_str().expect("a digest");
            registry.get(&format!("/v2/things/blobs/{digest}")).is(200);
        }
    }
}

fn found_digest(registry: &OwnRegistry, reference: &str) -> String {
    let head = registry.send("HEAD", &format!("/v2/things/manifests/{reference}"), &[], b"");
    head.is(200);
    assert_eq!(head.header("content-type"), OCI_MANIFEST);
    head.header("docker-content-digest").to_owned()
}

fn signatures() {
    let registry = OwnRegistry::start(&[]);
    let image = registry.push_image("things", "signed", &[], "");
    let payload = br#"{"critical":{}}"#;
    registry.push_blob("things", payload);
    let mut layer = descriptor("application/vnd.dev.cosign.simplesigning.v1+json", payload);
    layer["annotations"] = serde_json::json!({ "dev.cosignproject.cosign/signature": "MEUC" });
    let mut manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST,
        "config": descriptor("application/vnd.oci.image.config.v1+json", b"{}"), "layers": [layer],
    });
    // Under the tag that is made of the image's digest, as older tools have it.
    let tag = format!("{}.sig", image.replace(':', "-"));
    let bytes = push(&registry, &tag, &manifest);
    assert_eq!(registry.get(&format!("/v2/things/manifests/{tag}")).body, bytes);
    // With a subject, as newer ones have it; its kind is the config's where it names none.
    manifest["subject"] = descriptor(OCI_MANIFEST, b"");
    manifest["subject"]["digest"] = image.clone().into();
    let digest = sha256(&push(&registry, "", &manifest));
    let found = registry.get(&format!("/v2/things/referrers/{image}")).json();
    let found = &found["manifests"][0];
    assert_eq!(
        (&found["digest"], &found["artifactType"]),
        (&digest.into(), &"application/vnd.oci.image.config.v1+json".into())
    );
}
