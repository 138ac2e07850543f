//! Base images of builds: from the store.

use std::sync::{Arc, Weak};

use ferry_build::build::ImageSource;
use ferry_build::lower::{ImageRequest, ResolvedImage};
use ferry_build::solve::BoxFuture;
use ferry_oci::Platform;
use ferry_store::Image;

use crate::engine::Engine;
use crate::error::error_chain;

/// Finds base images for one build.
pub struct BaseImages {
    engine: Weak<Engine>,
}

impl BaseImages {
    /// Over an engine.
    pub fn new(engine: &Arc<Engine>) -> Self {
        Self { engine: Arc::downgrade(engine) }
    }
}

impl ImageSource for BaseImages {
    fn resolve(&self, request: ImageRequest) -> BoxFuture<'_, Result<ResolvedImage, String>> {
        Box::pin(async move {
            let engine = self.engine.upgrade().ok_or("the engine is ending")?;
            let image = engine.store.images().resolve(&request.name).map_err(|error| error_chain(&error))?;
            check_platform(&image, &request)?;
            Ok(ResolvedImage { id: image.id.clone(), config: image.config.clone() })
        })
    }
}

fn check_platform(image: &Image, request: &ImageRequest) -> Result<(), String> {
    let wanted = Platform::parse(&request.platform).map_err(|error| error.to_string())?;
    let found = image.config.platform();
    // Images made by hand often say nothing.
    if found.architecture.is_empty() || found.satisfies(&wanted) {
        return Ok(());
    }
    Err(format!("image with reference {} was found but does not provide the specified platform ({wanted})", request.name))
}
