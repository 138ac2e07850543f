//! Paths and queries: nothing panics, and no name that is accepted can leave its place.
#![no_main]

use ferry_registry::routes::path::{Query, Route};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let (path, query) = text.split_once('?').unwrap_or((text, ""));
    if let Ok(Route::Tags(name) | Route::Uploads(name)) = Route::parse(path) {
        assert!(name.as_str().split('/').all(|part| !part.is_empty() && part != "." && part != ".."));
        assert!(!name.as_str().contains('\0'));
    }
    let _ = Query::parse(query);
});
