//! Containers by id and name: look-up by id, name or prefix, and names taken before a container exists.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use http::StatusCode;

use super::Container;
use crate::error::HttpStatus;

/// A text that names no container.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// Neither an id, nor a name, nor the beginning of an id.
    #[error("No such container: {0}")]
    NotFound(String),
    /// The beginning of several ids.
    #[error("multiple IDs found with provided prefix: {0}")]
    Ambiguous(String),
}

impl HttpStatus for LookupError {
    fn status(&self) -> StatusCode {
        match self {
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::Ambiguous(_) => StatusCode::BAD_REQUEST,
        }
    }
}

/// A name that another container has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "Conflict. The container name \"/{name}\" is already in use by container \"{holder}\". You have to remove (or rename) that container to be able to reuse that name."
)]
pub struct NameTaken {
    /// The name.
    pub name: String,
    /// Id of who has it.
    pub holder: String,
}

impl HttpStatus for NameTaken {
    fn status(&self) -> StatusCode {
        StatusCode::CONFLICT
    }
}

/// All containers of this engine.
#[derive(Default)]
pub struct Registry {
    index: RwLock<Index>,
}

#[derive(Default)]
struct Index {
    by_id: BTreeMap<String, Arc<Container>>,
    ids_by_name: HashMap<String, String>,
}

impl Registry {
    /// Takes a name for a container that is being made, or renamed.
    pub fn reserve(&self, name: &str, id: &str) -> Result<(), NameTaken> {
        let mut index = self.write();
        match index.ids_by_name.get(name) {
            Some(holder) if holder != id => Err(NameTaken { name: name.to_owned(), holder: holder.clone() }),
            _ => {
                index.ids_by_name.insert(name.to_owned(), id.to_owned());
                Ok(())
            }
        }
    }

    /// Gives a name back, if this container has it.
    pub fn release(&self, name: &str, id: &str) {
        let mut index = self.write();
        if index.ids_by_name.get(name).is_some_and(|holder| holder == id) {
            index.ids_by_name.remove(name);
        }
    }

    /// Makes a container findable.
    pub fn insert(&self, container: Arc<Container>) {
        self.write().by_id.insert(container.id.clone(), container);
    }

    /// Forgets a container and its name.
    pub fn remove(&self, id: &str) {
        let mut index = self.write();
        index.by_id.remove(id);
        index.ids_by_name.retain(|_, holder| holder != id);
    }

    /// Finds by full id, then by name, then by the beginning of an id, as Docker does.
    pub fn find(&self, text: &str) -> Result<Arc<Container>, LookupError> {
        let index = self.read();
        let name = text.strip_prefix('/').unwrap_or(text);
        let by_name = || index.ids_by_name.get(name).and_then(|id| index.by_id.get(id));
        if let Some(container) = index.by_id.get(text).or_else(by_name) {
            return Ok(Arc::clone(container));
        }
        if text.is_empty() {
            return Err(LookupError::NotFound(text.to_owned()));
        }
        let mut matching = index.by_id.range(text.to_owned()..).take_while(|(id, _)| id.starts_with(text));
        match (matching.next(), matching.next()) {
            (Some((_, container)), None) => Ok(Arc::clone(container)),
            (Some(_), Some(_)) => Err(LookupError::Ambiguous(text.to_owned())),
            (None, _) => Err(LookupError::NotFound(text.to_owned())),
        }
    }

    /// Every container, by id.
    pub fn all(&self) -> Vec<Arc<Container>> {
        self.read().by_id.values().cloned().collect()
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Index> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }
}
