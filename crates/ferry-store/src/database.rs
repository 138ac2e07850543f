//! Metadata database.
use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::DatabaseError;

/// Writes that become durable together or not at all.
#[derive(Debug, Default)]
pub struct Batch {}

/// A typed table of JSON records.
pub struct Table<T> {
    value: PhantomData<fn() -> T>,
}

impl<T: Serialize + DeserializeOwned> Table<T> {
    /// The record of this key.
    pub fn get(&self, _key: &str) -> Result<Option<T>, DatabaseError> {
        unimplemented!()
    }
    /// All records by key.
    pub fn list(&self) -> Result<Vec<(String, T)>, DatabaseError> {
        unimplemented!()
    }
    /// Writes a record durably.
    pub fn put(&self, _key: &str, _value: &T) -> Result<(), DatabaseError> {
        unimplemented!()
    }
    /// Removes a record durably.
    pub fn remove(&self, _key: &str) -> Result<(), DatabaseError> {
        unimplemented!()
    }
    /// Adds a write to a batch.
    pub fn put_in(&self, _batch: &mut Batch, _key: &str, _value: &T) -> Result<(), DatabaseError> {
        unimplemented!()
    }
    /// Adds a removal to a batch.
    pub fn remove_in(&self, _batch: &mut Batch, _key: &str) {
        unimplemented!()
    }
}
