//! Taking over at start-up: what is on disk, what still runs, what ended meanwhile.

use std::sync::Arc;

use super::Container;
use super::record::Record;
use crate::engine::Engine;

/// Finds every container again.
pub async fn recover(engine: &Arc<Engine>) -> anyhow::Result<()> {
    for (id, bytes) in engine.store.containers().read_all()? {
        let record = match bytes.map_err(anyhow::Error::from).and_then(|bytes| Ok(Record::decode(&id, &bytes)?)) {
            Ok(record) => record,
            Err(error) => {
                tracing::error!(container = %id, error = format!("{error:#}"), "container left alone");
                continue;
            }
        };
        if let Err(taken) = engine.containers.reserve(&record.name, &record.id) {
            tracing::error!(container = %id, error = %taken, "container left alone");
            continue;
        }
        let dir = engine.store.containers().dir(&id);
        engine.containers.insert(Container::new(record, dir));
    }
    Ok(())
}
