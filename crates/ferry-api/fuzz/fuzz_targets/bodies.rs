//! Bodies of requests: what is read is written and read again to the same, by Go's rules and by the letter.
#![no_main]

use ferry_api::{container, exec, host_config, network, volume};
use serde::Serialize;
use serde::de::DeserializeOwned;

fn settles<T: DeserializeOwned + Serialize>(bytes: &[u8]) {
    let Ok(read) = ferry_api::from_slice::<T>(bytes) else { return };
    let once = serde_json::to_vec(&read).expect("what was read can be written");
    let again: T = ferry_api::from_slice(&once).expect("what was written can be read");
    assert_eq!(once, serde_json::to_vec(&again).expect("and written"));
    let by_the_letter: T = serde_json::from_slice(&once).expect("by the letter, too");
    assert_eq!(once, serde_json::to_vec(&by_the_letter).expect("and written"));
}

/// A container's definition is three objects in one, and read in a way of its own.
fn definition_settles(bytes: &[u8]) {
    let Ok(read) = container::CreateRequest::from_slice(bytes) else { return };
    let once = serde_json::to_vec(&read).expect("what was read can be written");
    let again = container::CreateRequest::from_slice(&once).expect("what was written can be read");
    assert_eq!(read, again);
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    definition_settles(bytes);
    settles::<host_config::UpdateRequest>(bytes);
    settles::<exec::ExecCreateRequest>(bytes);
    settles::<exec::ExecStartRequest>(bytes);
    settles::<network::CreateRequest>(bytes);
    settles::<network::ConnectRequest>(bytes);
    settles::<network::DisconnectRequest>(bytes);
    settles::<volume::CreateRequest>(bytes);
});
