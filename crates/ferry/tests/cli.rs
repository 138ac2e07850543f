//! The command line without an engine: what is printed where, and the exit codes.

use std::process::{Command, Output, Stdio};

/// An address where nothing listens, so that nothing is ever started.
const NOWHERE: &str = "unix:///nonexistent/ferry.sock";

fn run(name: &str, line: &[&str]) -> Output {
    let folder = tempfile::tempdir().expect("a folder");
    let program = folder.path().join(name);
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_ferry"), &program).expect("a link");
    Command::new(program)
        .args(line)
        .env_clear()
        .env("HOME", folder.path())
        .env("FERRY_HOST", NOWHERE)
        .stdin(Stdio::null())
        .output()
        .expect("the program runs")
}

#[track_caller]
fn check(name: &str, line: &[&str], code: i32, stdout: &str, stderr: &str) {
    let output = run(name, line);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let found = (output.status.code(), text(&output.stdout), text(&output.stderr));
    assert_eq!(found, (Some(code), stdout.to_owned(), stderr.to_owned()), "{name} {line:?}");
}

#[test]
fn versions() {
    check("ferry", &["--version"], 0, concat!("Ferry version ", env!("CARGO_PKG_VERSION"), "\n"), "");
    check("docker", &["-v"], 0, concat!("Docker version ", env!("CARGO_PKG_VERSION"), ", build ferry\n"), "");
}

#[test]
fn mistakes_are_named_with_the_next_step() {
    let usage = |command: &str, rest: &str| format!("\nUsage:  ferry {command} {rest}\n");
    check("ferry", &["rnu"], 1, "", "error: unknown command 'rnu'\nhint: did you mean 'ferry run'?\n");
    check(
        "ferry",
        &["container", "lst"],
        1,
        "",
        "error: unknown command 'container lst'\nhint: did you mean 'ferry container ls'?\n",
    );
    check(
        "ferry",
        &["frobnicate"],
        1,
        "",
        "error: unknown command 'frobnicate'\nhint: run 'ferry --help' for the commands\n",
    );
    check(
        "ferry",
        &["ps", "--al"],
        125,
        "",
        &format!("error: unknown flag: --al\n{}hint: did you mean '--all'?\n", usage("ps", "[OPTIONS]")),
    );
    check(
        "ferry",
        &["logs"],
        1,
        "",
        &format!(
            "error: 'ferry logs' requires 1 argument, got 0\n{}\nhint: run 'ferry logs --help'\n",
            usage("logs", "[OPTIONS] CONTAINER")
        ),
    );
    check(
        "ferry",
        &["create", "–name", "x", "img"],
        1,
        "",
        "error: \"–name\" begins with an en dash (U+2013) where '--' was likely meant\nhint: ferry create --name x img\n",
    );
    check(
        "ferry",
        &["run", "-e", "“A=b”", "img"],
        125,
        "",
        "error: \"“A=b”\" has typographic quotes, which the shell does not take for quotes\nhint: ferry run -e \"A=b\" img\n",
    );
    check(
        "ferry",
        &["run", ""],
        125,
        "",
        "error: invalid reference format: the image name is empty\n\
         hint: an unset variable in its place gives an empty word; check it with 'echo'\n",
    );
    check(
        "ferry",
        &["run", "-it", "img"],
        1,
        "",
        "error: the input device is not a TTY\n\
         hint: leave -t away when the input is a pipe or a file; -i alone passes it on\n",
    );
}

#[test]
fn dockers_words_when_called_docker() {
    check(
        "docker",
        &["ps", "--foo"],
        125,
        "",
        "unknown flag: --foo\n\nUsage:  docker ps [OPTIONS]\n\nRun 'docker ps --help' for more information\n",
    );
    check(
        "docker",
        &["ps", "-Z"],
        125,
        "",
        "unknown shorthand flag: 'Z' in -Z\n\nUsage:  docker ps [OPTIONS]\n\nRun 'docker ps --help' for more information\n",
    );
    check(
        "docker",
        &["rn"],
        1,
        "",
        "docker: unknown command: docker rn\n\nRun 'docker --help' for more information\n",
    );
    check(
        "docker",
        &["logs"],
        1,
        "",
        "docker: 'docker logs' requires 1 argument\n\nUsage:  docker logs [OPTIONS] CONTAINER\n\n\
         Run 'docker logs --help' for more information\n",
    );
}

#[test]
fn an_engine_out_of_reach_is_named_and_not_started() {
    for line in [&["ps"][..], &["images"], &["stop", "x"], &["version", "-f", "{{.Server}}"]] {
        let output = run("ferry", line);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains(NOWHERE) && stderr.contains("No such file or directory"), "{stderr}");
        assert!(stderr.contains(&format!("ferry engine start --host {NOWHERE}")), "{stderr}");
    }
    assert_eq!(run("ferry", &["run", "img"]).status.code(), Some(125));
}

#[test]
fn help_goes_to_stdout() {
    for line in [
        &["--help"][..],
        &[],
        &["run", "--help"],
        &["help", "run"],
        &["container"],
        &["image", "--help"],
        &["ps", "-h"],
    ] {
        let output = run("ferry", line);
        assert_eq!(output.status.code(), Some(0), "{line:?}");
        assert!(output.stderr.is_empty(), "{line:?}");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.starts_with("Usage:  ferry "), "{line:?}: {text}");
    }
    let run_help = String::from_utf8_lossy(&run("ferry", &["run", "--help"]).stdout).into_owned();
    assert!(run_help.contains("  -e, --env list"), "{run_help}");
    assert!(run_help.contains("  -h, --hostname string"), "{run_help}");
}
