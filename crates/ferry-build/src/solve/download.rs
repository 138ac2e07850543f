//! `ADD https://..`: a download becomes a tree with one file.

use std::path::Path;
use std::sync::Arc;

use ferry_oci::Digest;
use ferry_store::{LayerRecord, Store};

use super::error::SolveError;
use super::files::StepSnapshot;
use super::inputs::Downloads;
use super::run::blocking;
use crate::fileop::FileError;
use crate::llb::ops::SourceOp;

/// Fetches a URL into a layer of its own.
pub async fn download(
    store: &Arc<Store>,
    downloads: &Arc<dyn Downloads>,
    source: &SourceOp,
) -> Result<Option<Arc<LayerRecord>>, SolveError> {
    let url = source.identifier.clone();
    let name = source.attrs.get("http.filename").cloned().unwrap_or_else(|| "download".to_owned());
    let checksum = source.attrs.get("http.checksum").cloned();
    let preparing = Arc::clone(store);
    let step = blocking(move || StepSnapshot::prepare(&preparing, &[])).await?;
    let target = step.snapshot.upper.join(&name);
    let modified = downloads
        .fetch(url.clone(), target.clone())
        .await
        .map_err(|reason| SolveError::Download { url: url.clone(), reason })?;
    blocking(move || {
        if let Some(expected) = checksum {
            verify(&url, &target, &expected)?;
        }
        let seconds = modified.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(0);
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
        let file =
            std::fs::File::options().write(true).open(&target).map_err(FileError::io("open", &target))?;
        file.set_modified(time).map_err(FileError::io("set the time of", &target))?;
        step.commit()
    })
    .await
}

fn verify(url: &str, path: &Path, expected: &str) -> Result<(), SolveError> {
    let mut file = std::fs::File::open(path).map_err(FileError::io("open", path))?;
    let algorithm = Digest::parse(expected).map_or(ferry_oci::Algorithm::Sha256, |digest| digest.algorithm());
    let mut hasher = ferry_oci::Hasher::new(algorithm);
    let mut buffer = vec![0; 128 << 10];
    loop {
        let length = std::io::Read::read(&mut file, &mut buffer).map_err(FileError::io("read", path))?;
        if length == 0 {
            break;
        }
        hasher.update(&buffer[..length]);
    }
    let found = hasher.finish().to_string();
    match found == expected {
        true => Ok(()),
        false => Err(SolveError::Checksum { url: url.to_owned(), found, expected: expected.to_owned() }),
    }
}
