//! Documents of image archives and registries.
#![no_main]

use ferry_oci::image::ImageConfig;
use ferry_store::archive::parse;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = parse::docker_manifest(bytes);
    let _ = parse::manifest("manifest", bytes);
    if let Ok(index) = parse::index("index.json", bytes) {
        for descriptor in &index.manifests {
            let _ = parse::name_of(descriptor);
        }
        let _ = parse::choose(&index.manifests, None, &|_| true);
    }
    if let Ok(config) = ImageConfig::parse(bytes) {
        assert!(config.rootfs.diff_ids.iter().all(|digest| digest.hex().len() >= 64));
    }
});
