//! Seccomp filters compiled ahead and kept: most containers share one, and compiling takes longer than
//! starting.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ferry_oci::runtime::Capabilities;
use ferry_runtime::capability;
use ferry_runtime::seccomp::{self, SeccompError};

use crate::spec::security::Seccomp;

/// Filters kept; every set of capabilities has its own, and few sets are in use.
const KEPT: usize = 16;

/// Compiled filters, in the form the monitor takes them.
#[derive(Default)]
pub struct SeccompCache {
    /// By the capabilities' bit mask.
    defaults: Mutex<HashMap<u64, Arc<str>>>,
}

impl SeccompCache {
    /// The filter for a container; `None` when nothing is filtered.
    pub fn filter(&self, wanted: &Seccomp, set: &Capabilities) -> Result<Option<Arc<str>>, SeccompError> {
        match wanted {
            Seccomp::Unconfined => Ok(None),
            Seccomp::Default => self.default_filter(set).map(Some),
            Seccomp::Profile(json) => {
                let profile = seccomp::parse_docker_profile(json.as_bytes(), set)?;
                Ok(Some(STANDARD.encode(seccomp::compile(&profile)?).into()))
            }
        }
    }

    /// Compiles the filter that nearly every container needs, before one does.
    pub fn warm(&self) -> Result<(), SeccompError> {
        self.default_filter(&capability::docker_default()).map(|_| ())
    }

    fn default_filter(&self, set: &Capabilities) -> Result<Arc<str>, SeccompError> {
        let mask = capability::mask(set);
        let lock = || self.defaults.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(filter) = lock().get(&mask) {
            return Ok(Arc::clone(filter));
        }
        // Compiled outside the lock: two at once may do it twice, nobody waits.
        let filter: Arc<str> = STANDARD.encode(seccomp::compile(&seccomp::default_profile(set))?).into();
        let mut kept = lock();
        if kept.len() >= KEPT {
            kept.clear();
        }
        kept.insert(mask, Arc::clone(&filter));
        Ok(filter)
    }
}
