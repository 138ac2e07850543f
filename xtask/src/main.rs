//! The project's chores, run as `cargo xtask CHORE`.
//!
//! | chore | what it does |
//! |---|---|
//! | `setup` | installs the Debian packages that tests need (as root) |
//! | `images [NAME…]` | makes the offline base images and prints their archives' paths |
//! | `test [FILTER…]` | sets up, then runs the whole test suite |
//! | `vm [FILTER…]` | boots a virtual machine with cgroup v2 and runs the black-box suite in it |
//! | `bench [FILTER…]` | measures ferry beside its peers and writes BENCHMARKS.md |
//! | `conformance [SUITE…]` | runs other people's API clients against an engine and writes CONFORMANCE.md |
//! | `compare-builds [NAME…]` | builds the corpus with ferry and with Docker and compares the images |
//! | `tidy` | layering, `unsafe`, licences and other rules of the house |

mod bench;
mod compare;
mod compose_go;
mod conformance;
mod host;
mod images;
mod moto;
mod test;
mod tidy;
mod vm;

use std::process::ExitCode;

use anyhow::{Result, bail};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match chore(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn chore(arguments: &[String]) -> Result<()> {
    let Some((name, rest)) = arguments.split_first() else {
        bail!("which chore? setup, images, test, tidy, bench, vm, conformance, compare-builds");
    };
    match name.as_str() {
        "images" => {
            for archive in images::make(rest)? {
                println!("{}", archive.display());
            }
            Ok(())
        }
        "setup" => test::set_up(),
        "test" => test::run(rest),
        "bench" => bench::run(rest),
        "vm" => vm::run(rest),
        "compare-builds" => compare::run(rest),
        "conformance" => conformance::run(rest),
        "tidy" => tidy::check(),
        other => bail!(
            "no chore `{other}`; there are: setup, images, test, tidy, bench, vm, conformance, compare-builds"
        ),
    }
}
