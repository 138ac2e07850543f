//! Compose file to model to plan to API calls.
