//! The daemon: HTTP server, container state machine, recovery, events.
