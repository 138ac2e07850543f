//! The ferry binary: one program under several names.
//!
//! Owns the dispatch by name and first word. The long-lived processes (keeper, launcher, engine) are entered
//! before any thread exists, because the first two fork.

mod cli;
mod commands;
mod compose;
mod config_file;
mod dockerd;
mod engine_process;
mod failure;
mod flags;
mod hello;
mod internal;
mod output;
mod registry_image;
mod service;
mod session;
mod template;
mod terminal;

use std::ffi::OsString;
use std::path::Path;

fn main() {
    let mut words = std::env::args_os();
    let name = words.next().unwrap_or_default();
    let name =
        Path::new(&name).file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let words: Vec<OsString> = words.collect();
    std::process::exit(dispatch(&name, words));
}

/// Runs what the name and the first word ask for; gives the exit code.
fn dispatch(name: &str, words: Vec<OsString>) -> i32 {
    if name == "hello" || words.first().is_some_and(|word| word == "hello") && std::process::id() == 1 {
        return hello::run(&words);
    }
    if name == "registry" {
        return registry_image::run(&words);
    }
    if name == "runc" {
        return ferry_oci_cli::run("runc", &words);
    }
    let words = if name == "dockerd" { internal::as_dockerd(words) } else { words };
    if let Some((word, rest)) = words.split_first()
        && let Some(code) = internal::run(&word.to_string_lossy(), rest)
    {
        return code;
    }
    let called = if name == "docker" { "docker" } else { "ferry" };
    if name != "docker-compose"
        && let [word] = words.as_slice()
        && (word == "--version" || word == "-v")
    {
        return match output::line(&version_line(called)) {
            Ok(()) => 0,
            Err(error) => failure::Failure::from(error).code,
        };
    }
    let mut texts = Vec::with_capacity(words.len());
    for word in words {
        match word.into_string() {
            Ok(text) => texts.push(text),
            Err(word) => {
                output::note(&format!("error: the argument {word:?} is not valid UTF-8"));
                return failure::ENGINE_FAILED;
            }
        }
    }
    if name == "docker-compose" {
        let session = session::Session::new("docker", true);
        return block_on(compose::run(compose::Called::Standalone, session, texts));
    }
    block_on(cli::run(called, texts))
}

/// Runs a command of the command line on one thread.
fn block_on(command: impl std::future::Future<Output = i32>) -> i32 {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            output::note(&format!("error: cannot start: {error}"));
            return failure::ENGINE_FAILED;
        }
    };
    let code = runtime.block_on(command);
    // A read of stdin that nobody waits for any more must not hold the process up.
    runtime.shutdown_background();
    code
}

/// `Ferry version 0.1.0, build abc`; scripts read Docker's form when we are called by its name.
pub fn version_line(called: &str) -> String {
    let version = env!("CARGO_PKG_VERSION");
    match called {
        "docker" => format!("Docker version {version}, build ferry"),
        _ => format!("Ferry version {version}"),
    }
}
