//! The small process that outlives engines: holds the API socket and starts the next engine.
