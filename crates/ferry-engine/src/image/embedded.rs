//! The images that every engine has, made of the ferry binary itself, so that they need neither network nor
//! archive: `localhost/hello` for the first container, and `localhost/registry`, which is made when it is
//! first asked for. Both have the same layer, which is kept once.

use std::path::PathBuf;
use std::sync::Arc;

use ferry_oci::image::{ContainerConfig, Empty};
use ferry_oci::{Digest, Reference};
use ferry_store::{DirectoryFile, DirectoryImage, FileContent, Store};

use crate::engine::Engine;
use crate::error::error_chain;

/// The first container's, as people write it.
pub const NAME: &str = "localhost/hello";
/// The registry's, as people write it.
pub const REGISTRY: &str = "localhost/registry";

/// Whether a name means this image.
fn means(name: &str, image: &str) -> bool {
    Reference::parse_normalized(name)
        .is_ok_and(|reference| Reference::parse_normalized(image) == Ok(reference))
}

/// Makes the image where a container wants it before the engine's start has got to it; and the image of a
/// build's step.
pub async fn ensure(engine: &Arc<Engine>, name: &str) {
    crate::build::ensure_step(engine, name).await;
    let make: fn(&Store) = match name {
        _ if means(name, NAME) => register_or_warn,
        _ if means(name, REGISTRY) => register_registry_or_warn,
        _ => return,
    };
    if engine.store.images().resolve(name).is_ok() {
        return;
    }
    let engine = Arc::clone(engine);
    // A failure was logged, and whoever asked is told that there is no such image.
    let _ = tokio::task::spawn_blocking(move || make(&engine.store)).await;
}

/// Makes the first container's image; an engine without it works all the same.
pub fn register_or_warn(store: &Store) {
    let config = ContainerConfig {
        entrypoint: Some(vec!["/hello".to_owned()]),
        env: vec!["PATH=/".to_owned()],
        working_dir: "/".to_owned(),
        exposed_ports: [("80/tcp".to_owned(), Empty {})].into(),
        ..ContainerConfig::default()
    };
    warn_of(register(store, NAME, config));
}

fn register_registry_or_warn(store: &Store) {
    let config = ContainerConfig {
        entrypoint: Some(vec!["/registry".to_owned()]),
        env: vec!["PATH=/".to_owned()],
        working_dir: "/".to_owned(),
        exposed_ports: [("5000/tcp".to_owned(), Empty {})].into(),
        volumes: [("/var/lib/registry".to_owned(), Empty {})].into(),
        ..ContainerConfig::default()
    };
    warn_of(register(store, REGISTRY, config));
}

fn warn_of(registered: Result<Digest, Box<dyn std::error::Error + Send + Sync>>) {
    if let Err(error) = registered {
        tracing::warn!(error = %error_chain(error.as_ref()), "an embedded image could not be made");
    }
}

/// Makes an image, or finds that it is made of this very binary. Blocking. A person who removed it
/// gets it back with the next start or the next use.
fn register(
    store: &Store,
    name: &str,
    config: ContainerConfig,
) -> Result<Digest, Box<dyn std::error::Error + Send + Sync>> {
    let file =
        |path: &str, mode: u32, content: FileContent| DirectoryFile { path: path.to_owned(), mode, content };
    let image = DirectoryImage {
        reference: Reference::parse_normalized(name)?,
        files: vec![
            file("data", 0o755, FileContent::Directory),
            file("etc", 0o755, FileContent::Directory),
            file("hello", 0o755, FileContent::Host(PathBuf::from("/proc/self/exe"))),
            file("registry", 0o777, FileContent::Symlink("hello".to_owned())),
            file("tmp", 0o1777, FileContent::Directory),
        ],
        config,
        created_by: "ferry: made of the ferry binary".to_owned(),
    };
    Ok(store.register_directory_image(&image)?.id.clone())
}
