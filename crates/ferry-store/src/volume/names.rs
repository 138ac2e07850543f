//! One change per volume at a time: changes of different volumes go side by side, so that their durable
//! writes share one sync.

use std::collections::HashSet;
use std::sync::{Condvar, Mutex, PoisonError};

/// The volumes that are being changed.
#[derive(Debug, Default)]
pub(super) struct Names {
    busy: Mutex<HashSet<String>>,
    freed: Condvar,
}

/// Volumes that nobody else may change now.
pub(super) struct Changing<'a> {
    names: &'a Names,
    held: Vec<String>,
}

impl Names {
    /// Waits until nobody changes this volume.
    pub fn one(&self, name: &str) -> Changing<'_> {
        self.all(std::slice::from_ref(&name.to_owned()))
    }

    /// Waits until nobody changes any of these; takes all or none, so nobody waits for each other.
    pub fn all(&self, names: &[String]) -> Changing<'_> {
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        while names.iter().any(|name| busy.contains(name)) {
            busy = self.freed.wait(busy).unwrap_or_else(PoisonError::into_inner);
        }
        busy.extend(names.iter().cloned());
        Changing { names: self, held: names.to_vec() }
    }
}

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        let mut busy = self.names.busy.lock().unwrap_or_else(PoisonError::into_inner);
        for name in &self.held {
            busy.remove(name);
        }
        self.names.freed.notify_all();
    }
}
