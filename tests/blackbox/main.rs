//! The black-box suites. Every test starts its own engine; a test that cannot run here is listed as ignored,
//! with the reason printed.

#![forbid(unsafe_code)]

mod bad_input;
mod build;
mod compose;
mod data;
mod images;
mod lifecycle;
mod limits;
mod network;
mod run;
mod survival;
mod transfer;

use libtest_mimic::{Arguments, Trial};

/// The clients that a scenario runs through: ferry's own and the stock one.
pub const CLIENTS: [&str; 2] = ["ferry", "docker"];

/// A named test; the name's first part is its suite.
pub type Test = (&'static str, fn());

fn main() {
    let arguments = Arguments::from_args();
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("SKIPPED: the black-box tests make namespaces and mounts and need root");
    }
    let suites: &[&[Test]] = &[
        run::TESTS,
        lifecycle::TESTS,
        limits::TESTS,
        network::TESTS,
        images::TESTS,
        data::TESTS,
        build::TESTS,
        compose::TESTS,
        bad_input::TESTS,
        survival::TESTS,
        transfer::TESTS,
    ];
    let trials = suites.iter().flat_map(|suite| suite.iter()).map(|(name, test)| {
        let test = *test;
        Trial::test(*name, move || {
            test();
            Ok(())
        })
        .with_ignored_flag(!root)
    });
    libtest_mimic::run(&arguments, trials.collect()).exit();
}
