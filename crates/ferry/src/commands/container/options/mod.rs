//! From the flags of `run` and `create` to the request that the engine takes.
//!
//! Everything that can be judged without the engine is judged here, so that a mistake costs no call.

mod build;
pub mod device;
mod environment;
mod flags;
mod mount;
mod network;
pub mod port;
mod volume;

pub use build::{Defaults, build, restart_policy};
pub use environment::{environment, labels};
pub use flags::ContainerFlags;
pub use volume::missing_source;

/// `name=value` pairs of a repeated flag.
pub fn pairs(list: &[String]) -> std::collections::BTreeMap<String, String> {
    list.iter()
        .map(|pair| match pair.split_once('=') {
            Some((name, value)) => (name.to_owned(), value.to_owned()),
            None => (pair.clone(), String::new()),
        })
        .collect()
}

/// A list, or nothing where it is empty, as Go leaves lists that nobody filled.
fn list(values: &[String]) -> Option<Vec<String>> {
    (!values.is_empty()).then(|| values.to_vec())
}
