//! Dockerfiles: parsed, checked, mended and lowered, or refused with a place that lies in the file.
#![no_main]

use ferry_build::build::BuildError;
use ferry_build::dockerfile::{self, SourceFile};
use ferry_build::lint;
use ferry_build::lower::{self, ImageMap, LowerOptions};

/// The place an error points to, as it is shown.
fn show(error: impl Into<BuildError>, file: &SourceFile) {
    let place = error.into().diagnostic();
    drop(place.map(|place| place.render(file, false)));
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let file = SourceFile::new("Dockerfile", bytes);
    let parsed = match dockerfile::parse(&file) {
        Ok(parsed) => parsed,
        Err(error) => return show(error, &file),
    };
    let findings = lint::lint(&file, &parsed, None, None);
    for finding in &findings {
        drop(finding.diagnostic.render(&file, false));
    }
    drop(lint::fix(&file, &findings));
    if let Err(error) = lower::lower(&file, &parsed, &LowerOptions::default(), &ImageMap::new()) {
        show(error, &file);
    }
});
