//! The image that every engine has: `localhost/hello`, made of the ferry binary itself, so that the
//! first container needs neither network nor archive.

use std::path::PathBuf;
use std::sync::Arc;

use ferry_oci::image::{ContainerConfig, Empty};
use ferry_oci::{Digest, Reference};
use ferry_store::{DirectoryFile, DirectoryImage, FileContent, Store};

use crate::engine::Engine;
use crate::error::error_chain;

/// Its name, as people write it.
pub const NAME: &str = "localhost/hello";

/// Whether a name means this image.
pub fn is_named(name: &str) -> bool {
    Reference::parse_normalized(name)
        .is_ok_and(|reference| Reference::parse_normalized(NAME) == Ok(reference))
}

/// Makes the image where a container wants it before the engine's start has got to it; and the image of a
/// build's step.
pub async fn ensure(engine: &Arc<Engine>, name: &str) {
    crate::build::ensure_step(engine, name).await;
    if !is_named(name) || engine.store.images().resolve(name).is_ok() {
        return;
    }
    let engine = Arc::clone(engine);
    // A failure was logged, and whoever asked is told that there is no such image.
    let _ = tokio::task::spawn_blocking(move || register_or_warn(&engine.store)).await;
}

/// Makes the image; an engine without it works all the same.
pub fn register_or_warn(store: &Store) {
    if let Err(error) = register(store) {
        tracing::warn!(error = %error_chain(error.as_ref()), "the embedded image could not be made");
    }
}

/// Makes the image, or finds that it is made of this very binary. Blocking. A person who removed it
/// gets it back with the next start.
fn register(store: &Store) -> Result<Digest, Box<dyn std::error::Error + Send + Sync>> {
    let file =
        |path: &str, mode: u32, content: FileContent| DirectoryFile { path: path.to_owned(), mode, content };
    let config = ContainerConfig {
        entrypoint: Some(vec!["/hello".to_owned()]),
        env: vec!["PATH=/".to_owned()],
        working_dir: "/".to_owned(),
        exposed_ports: [("80/tcp".to_owned(), Empty {})].into(),
        ..ContainerConfig::default()
    };
    let image = DirectoryImage {
        reference: Reference::parse_normalized(NAME)?,
        files: vec![
            file("data", 0o755, FileContent::Directory),
            file("etc", 0o755, FileContent::Directory),
            file("hello", 0o755, FileContent::Host(PathBuf::from("/proc/self/exe"))),
            file("tmp", 0o1777, FileContent::Directory),
        ],
        config,
        created_by: "ferry: made of the ferry binary".to_owned(),
    };
    Ok(store.register_directory_image(&image)?.id.clone())
}
