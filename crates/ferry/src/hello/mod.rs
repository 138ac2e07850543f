//! The program of the image `localhost/hello`.
//!
//! Owns what a first container says, a small web page with a hit counter (`hello web`) and the counter's
//! store (`hello store`). Runs inside containers only, on nothing but the standard library's sockets.

mod greeting;
mod resolve;
mod store;
mod web;

use std::ffi::OsString;

use tokio::signal::unix::{SignalKind, signal};

/// Runs the program with the words after its name; gives the exit code.
pub fn run(words: &[OsString]) -> i32 {
    let words: Vec<String> = words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).skip_while(|word| *word == "hello").collect();
    let result = match words.as_slice() {
        [] => greeting::outside(),
        ["inside"] => greeting::inside(),
        ["web"] => serve(web::serve),
        ["store"] => serve(store::serve),
        ["count"] => web::count().map(|hits| println!("{hits}")),
        other => {
            eprintln!("hello: unknown words {other:?}\nusage: hello [web | store | inside | count]");
            return 2;
        }
    };
    match result {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("hello: {error}");
            1
        }
    }
}

/// Serves until asked to end. The first process of a container has no default action for signals, so that
/// without this a stop would have to wait for the kill.
fn serve(service: fn() -> std::io::Result<()>) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let (failed, mut failure) = tokio::sync::mpsc::channel(1);
        std::thread::spawn(move || {
            if let Err(error) = service() {
                // The receiver lives as long as this program.
                let _ = failed.blocking_send(error);
            }
        });
        tokio::select! {
            _ = terminate.recv() => println!("asked to end, good bye"),
            _ = interrupt.recv() => println!("interrupted, good bye"),
            Some(error) = failure.recv() => return Err(error),
        }
        Ok(())
    })
}

/// This container's name for itself.
fn hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map(|name| name.trim().to_owned())
        .unwrap_or_default()
}
