//! A Compose file: a model whose services are typed, or diagnostics; never a panic.
#![no_main]

use ferry_compose::files::MemoryFiles;
use ferry_compose::loader::{Request, load};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let files = MemoryFiles([("/app/compose.yaml".into(), bytes.to_vec())].into());
    let request = Request { working_dir: "/app".into(), ..Request::default() };
    if let Ok(loaded) = load(&request, &files) {
        loaded.project.services().expect("what was loaded can be typed");
    }
});
