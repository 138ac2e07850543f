//! Every step of a build is an image that can be run by its id. It is kept as a configuration in memory, and
//! becomes an image of the store when somebody asks for it: thousands of steps cost nothing.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ferry_build::build::{self, Built, Plan};
use ferry_oci::Digest;
use ferry_store::Registration;

use super::classic::ClassicOutput;
use super::service::BuildService;
use crate::clock;
use crate::engine::Engine;
use crate::error::error_chain;

/// Steps kept: those of many builds, at some kilobytes each.
const MAX_STEPS: usize = 1000;

/// Fewest digits by which a step is found; less is a name.
const LEAST_DIGITS: usize = 6;

/// Images that are not in the store.
#[derive(Debug, Default)]
pub struct StepImages(Mutex<VecDeque<(Digest, Vec<u8>)>>);

impl StepImages {
    fn list(&self) -> MutexGuard<'_, VecDeque<(Digest, Vec<u8>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, id: Digest, config: Vec<u8>) {
        let mut list = self.list();
        if list.iter().any(|(known, _)| *known == id) {
            return;
        }
        if list.len() >= MAX_STEPS {
            list.pop_front();
        }
        list.push_back((id, config));
    }

    fn contains(&self, id: &Digest) -> bool {
        self.list().iter().any(|(known, _)| known == id)
    }

    fn find(&self, name: &str) -> Option<Vec<u8>> {
        let digits = name.strip_prefix("sha256:").unwrap_or(name);
        if digits.len() < LEAST_DIGITS || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let list = self.list();
        let found = list.iter().rev().find(|(id, _)| id.hex().starts_with(digits));
        found.map(|(_, config)| config.clone())
    }
}

impl BuildService {
    /// Keeps the images of the steps of a build, as far as it came.
    pub fn keep_steps(&self, plan: &Plan, texts: &ClassicOutput<'_>) {
        for step in &plan.lowered.steps {
            if let Some((id, config)) = build::step_image(step, texts.trees(), plan.lowered.epoch) {
                self.steps().keep(id, config);
            }
        }
    }
}

/// Was the image of a step made before: in a build that this engine remembers, or on the way to one of its images?
pub fn was_made(engine: &Engine, steps: &StepImages, built: &Built) -> bool {
    let (history, layers) = (&built.config.history, &built.config.rootfs.diff_ids);
    steps.contains(&built.id)
        || engine.store.images().list().iter().any(|image| {
            image.config.history.starts_with(history) && image.config.rootfs.diff_ids.starts_with(layers)
        })
}

/// Makes the image of a step, where a name is the id of one and of no image.
pub async fn ensure_step(engine: &Arc<Engine>, name: &str) {
    let Some(config) = engine.builds_if_open().and_then(|builds| builds.steps().find(name)) else { return };
    if engine.store.images().resolve(name).is_ok() {
        return;
    }
    let store = Arc::clone(&engine.store);
    let registration = Registration { config, built: Some(clock::now()), ..Registration::default() };
    let registered = tokio::task::spawn_blocking(move || store.images().register(registration)).await;
    // Where it fails, whoever asked is told that there is no such image, as of any other that is gone.
    if let Ok(Err(error)) = registered {
        tracing::debug!(error = %error_chain(&error), "a step's layers are gone");
    }
}
