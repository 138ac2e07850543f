//! The black-box suites. Every test starts its own engine; a test that cannot run here is listed as ignored,
//! with the reason printed.

#![forbid(unsafe_code)]

mod adopt;
mod api;
mod api_events;
mod api_filters;
mod api_schema;
mod as_user;
mod attack;
mod attack_bundle;
mod bad_input;
mod boot;
mod build;
mod build_builders;
mod build_classic;
mod build_input;
mod build_notes;
mod build_platforms;
mod build_results;
mod build_sources;
mod build_steps;
mod build_survival;
mod clients;
mod clients_flags;
mod compose;
mod compose_apps;
mod compose_attributes;
mod compose_commands;
mod compose_convert;
mod compose_engine;
mod compose_foreground;
mod compose_go;
mod compose_hooks;
mod compose_live;
mod compose_remote;
mod compose_trouble;
mod compose_update;
mod daemon;
mod data;
mod data_binds;
mod data_faults;
mod data_files;
mod data_full;
mod data_mounts;
mod data_odd;
mod data_prune;
mod data_volumes;
mod explore;
mod flags;
mod garbage;
mod images;
mod lifecycle;
mod limits;
mod logs;
mod machine;
mod network;
mod oci;
mod oci_config;
mod oci_engines;
mod oci_faults;
mod oci_limits;
mod oci_linux;
mod registry_artifacts;
mod registry_bucket;
mod registry_clients;
mod registry_engine;
mod registry_house;
mod registry_page;
mod registry_server;
mod registry_survival;
mod registry_upstream;
mod remote;
mod rootless;
mod run;
mod socket;
mod stats;
mod stuck;
mod survival;
mod survival_calls;
mod transfer;
mod transfer_auth;
mod transfer_faults;
mod transfer_lists;
mod transfer_packed;
mod transfer_progress;
mod transfer_proxy;
mod transfer_secrets;
mod transfer_slow;
mod transfer_ways;
mod vm;
mod watchdog;
mod watching;
mod why;

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
        // The longest goes first: at the end all would wait for it.
        oci_faults::TESTS,
        run::TESTS,
        adopt::TESTS,
        garbage::TESTS,
        socket::TESTS,
        api::TESTS,
        api_events::TESTS,
        api_filters::TESTS,
        api_schema::TESTS,
        remote::TESTS,
        clients::TESTS,
        clients_flags::TESTS,
        daemon::TESTS,
        flags::TESTS,
        lifecycle::TESTS,
        limits::TESTS,
        logs::TESTS,
        network::TESTS,
        network::dns::TESTS,
        network::drivers::TESTS,
        network::egress::TESTS,
        network::flags::TESTS,
        network::live::TESTS,
        network::outside::TESTS,
        network::publish::TESTS,
        images::TESTS,
        data::TESTS,
        data_binds::TESTS,
        data_faults::TESTS,
        data_files::TESTS,
        data_mounts::TESTS,
        data_full::TESTS,
        data_odd::TESTS,
        data_prune::TESTS,
        data_volumes::TESTS,
        build::TESTS,
        build_classic::TESTS,
        build_input::TESTS,
        build_builders::TESTS,
        build_notes::TESTS,
        build_platforms::TESTS,
        build_results::TESTS,
        build_sources::TESTS,
        build_steps::TESTS,
        build_survival::TESTS,
        compose::TESTS,
        compose_apps::TESTS,
        compose_attributes::TESTS,
        compose_commands::TESTS,
        compose_convert::TESTS,
        compose_engine::TESTS,
        compose_foreground::TESTS,
        compose_go::TESTS,
        compose_hooks::TESTS,
        compose_live::TESTS,
        compose_remote::TESTS,
        compose_trouble::TESTS,
        compose_update::TESTS,
        bad_input::TESTS,
        boot::TESTS,
        machine::TESTS,
        rootless::TESTS,
        as_user::TESTS,
        stats::TESTS,
        survival::TESTS,
        stuck::TESTS,
        survival_calls::TESTS,
        transfer::TESTS,
        explore::TESTS,
        transfer_faults::TESTS,
        transfer_auth::TESTS,
        transfer_lists::TESTS,
        transfer_packed::TESTS,
        transfer_progress::TESTS,
        transfer_proxy::TESTS,
        transfer_secrets::TESTS,
        transfer_slow::TESTS,
        transfer_ways::TESTS,
        watching::TESTS,
        why::TESTS,
        registry_server::TESTS,
        registry_artifacts::TESTS,
        registry_bucket::TESTS,
        registry_clients::TESTS,
        registry_engine::TESTS,
        registry_house::TESTS,
        registry_page::TESTS,
        registry_survival::TESTS,
        registry_upstream::TESTS,
        attack::TESTS,
        attack_bundle::TESTS,
        oci::TESTS,
        oci_config::TESTS,
        oci_limits::TESTS,
        oci_linux::TESTS,
        oci_engines::TESTS,
        vm::TESTS,
    ];
    let trials = suites.iter().flat_map(|suite| suite.iter()).map(|(name, test)| {
        let (name, test) = (*name, *test);
        Trial::test(name, move || {
            run(name, test);
            Ok(())
        })
        .with_ignored_flag(!root)
    });
    watchdog::start();
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    watchdog::end_what_is_left();
    conclusion.exit();
}

/// Runs a test, and once more where it failed: a hundred engines at a time on a few processors reach limits
/// that one does not. What failed first is said, so that nobody takes it for well.
fn run(name: &'static str, test: fn()) {
    if std::panic::catch_unwind(|| watchdog::watched(name, test)).is_err() {
        eprintln!("UNSTEADY: {name} failed as told above; it is run once more");
        watchdog::watched(name, test);
    }
}
