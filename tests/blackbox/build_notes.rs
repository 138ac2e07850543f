//! The Dockerfiles that beginners write down in their notes, letter by letter, traps included: what builds
//! elsewhere builds here, what fails elsewhere fails here with the reason, and the check names the trap.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use ferry_tests::Engine;

use crate::{CLIENTS, Test};

/// The suite.
pub const TESTS: &[Test] = &[
    ("build_notes::first_dockerfile", first_dockerfile),
    ("build_notes::entrypoint_script", entrypoint_script),
    ("build_notes::single_instructions", single_instructions),
    ("build_notes::markdown_entrypoint", markdown_entrypoint),
    ("build_notes::rebuild_leaves_none", rebuild_leaves_none),
];

/// A stand-in for a project's `manage.py`: says what it was asked for, and that its requirement is there.
const MANAGE: &str = "import sys, greeting\nprint('manage', *sys.argv[1:])\nprint(greeting.TEXT)\n";

/// Makes a wheel with one module, as pip would fetch it.
const MAKE_WHEEL: &str = r#"
import zipfile
name = 'greeting-1.0'
info = name + '.dist-info/'
files = {
    'greeting.py': "TEXT = 'hello from a wheel'\n",
    info + 'METADATA': 'Metadata-Version: 2.1\nName: greeting\nVersion: 1.0\n',
    info + 'WHEEL': 'Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n',
}
record = ''.join(path + ',,\n' for path in list(files) + [info + 'RECORD'])
with zipfile.ZipFile('/out/greeting-1.0-py3-none-any.whl', 'w') as wheel:
    for path, text in files.items():
        wheel.writestr(path, text)
    wheel.writestr(info + 'RECORD', record)
"#;

/// A project folder with its wheel; requirements lie in every place that the notes name.
fn project(engine: &Engine, name: &str, dockerfile: &str) -> PathBuf {
    let folder = engine.directory().join(name);
    fs::create_dir_all(folder.join("requirements")).expect("a folder");
    fs::create_dir_all(folder.join("wheels")).expect("a folder");
    let out = format!("{}:/out", folder.join("wheels").display());
    engine.ferry(["run", "--rm", "-v", &out, "python:3.8", "python3", "-c", MAKE_WHEEL]).exits(0);
    let wheel = "greeting-1.0-py3-none-any.whl";
    for (file, text) in [
        ("Dockerfile", dockerfile.to_owned()),
        ("manage.py", MANAGE.to_owned()),
        ("requirements.txt", "--no-index\n--find-links wheels\ngreeting\n".to_owned()),
        ("requirements/production.txt", "--no-index\n--find-links ../wheels\ngreeting\n".to_owned()),
        (
            "docker-entrypoint.sh",
            "#!/bin/sh\npython3 manage.py makemigrations\npython3 manage.py migrate\n".to_owned(),
        ),
    ] {
        fs::write(folder.join(file), text).expect("a file");
    }
    fs::copy(folder.join("wheels").join(wheel), folder.join(wheel)).expect("the wheel");
    fs::write(folder.join("req.txt"), format!("./{wheel}\n")).expect("a file");
    let script = fs::Permissions::from_mode(0o755);
    fs::set_permissions(folder.join("docker-entrypoint.sh"), script).expect("permissions");
    folder
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// `usr/src/req.txt` lacks its first slash and the list has single quotes: two traps in one file. The line
/// `COPY . .` stands in for the package index: it brings the wheel.
fn first_dockerfile() {
    let engine = Engine::with_images(&["python"]);
    let written = "FROM python:3.8\nENV PYTHONINBUFFERED 1\nWORKDIR /usr/src/dm_rest\nCOPY ./req.txt /usr/src/req.txt\n\
                   COPY . .\nRUN pip install -r usr/src/req.txt\nEXPOSE 8000\nCMD ['python', 'manage.py', 'runserver']\n";
    let folder = project(&engine, "first", written);
    for client in CLIENTS {
        let outcome = engine.client(client, ["build", "-t", "first", &text(&folder)]);
        outcome.exits(1);
        let said = format!("{}{}", outcome.stdout, outcome.stderr);
        assert!(said.contains("usr/src/req.txt"), "{outcome}");
    }
    let check = engine.ferry(["build", "--check", &text(&folder)]);
    check.exits(1).says("SingleQuotedJson").says("RelativePathAfterWorkdir");
    let mended = written.replace("-r usr/src", "-r /usr/src");
    fs::write(folder.join("Dockerfile"), &mended).expect("a file");
    for client in CLIENTS {
        engine.client(client, ["build", "-t", "first", &text(&folder)]).exits(0);
        // As everywhere, a list in single quotes is a line for the shell, which finds no such program.
        engine.client(client, ["run", "--rm", "first"]).exits(127);
    }
    engine.ferry(["build", "--check", "--fix", &text(&folder)]).exits(0);
    for client in CLIENTS {
        engine.client(client, ["build", "-t", "first", &text(&folder)]).exits(0);
        engine.client(client, ["run", "--rm", "first"]).prints("manage runserver\nhello from a wheel");
        engine.client(client, ["rmi", "first"]).exits(0);
    }
}

fn entrypoint_script() {
    let engine = Engine::with_images(&["python"]);
    let dockerfile = "FROM python:3.8\nWORKDIR /usr/src/app\nCOPY ./requirements.txt .\nCOPY wheels wheels\n\
                      RUN pip install -r requirements.txt\nCOPY . .\nENTRYPOINT [\"./docker-entrypoint.sh\"]\n";
    let folder = project(&engine, "script", dockerfile);
    for client in CLIENTS {
        engine.client(client, ["build", &text(&folder), "--tag", "my_project_tag"]).exits(0);
        engine
            .client(client, ["run", "--rm", "my_project_tag"])
            .prints("manage makemigrations\nhello from a wheel\nmanage migrate\nhello from a wheel");
        engine.client(client, ["rmi", "my_project_tag"]).exits(0);
    }
}

/// Each base with the instructions that the notes explain one by one, in both forms of CMD.
fn single_instructions() {
    let engine = Engine::with_images(&["python"]);
    let folder = project(&engine, "single", "");
    let commands = ["CMD python3 manage.py migrate", "CMD [\"python3\", \"manage.py\", \"migrate\"]"];
    for (base, command) in ["python:3.8-buster", "python:3.8-alpine"].into_iter().zip(commands) {
        let dockerfile = format!(
            "# a comment\nFROM {base}\nCOPY . /usr/src/app\nWORKDIR /usr/src/app\n\
             RUN pip install -r requirements/production.txt\nEXPOSE 5000\nENV PYTHONUNBUFFERED 1\nADD . /code/\n{command}\n"
        );
        fs::write(folder.join("Dockerfile"), dockerfile).expect("a file");
        for client in CLIENTS {
            engine.client(client, ["build", "-t", "web_app", &text(&folder)]).exits(0);
            engine.client(client, ["run", "--rm", "web_app"]).prints("manage migrate\nhello from a wheel");
            engine
                .client(client, ["run", "--rm", "web_app", "ls", "/code/manage.py"])
                .prints("/code/manage.py");
            engine
                .client(client, ["run", "--rm", "web_app", "sh", "-c", "echo $PYTHONUNBUFFERED"])
                .prints("1");
        }
    }
}

/// `ENTRYPOINT \["fortune"\]` was copied from Markdown. Where the Debian mirror cannot be reached the
/// package is left out, loudly, and a stand-in takes its place.
fn markdown_entrypoint() {
    let engine = Engine::with_images(&["debian"]);
    let install = "RUN apt update -y\nRUN apt install fortune -y\n";
    let rest = "RUN ln -s /usr/games/fortune /usr/bin/fortune\nENTRYPOINT \\[\"fortune\"\\]\n";
    let folder = engine.directory().join("fortune");
    fs::create_dir_all(&folder).expect("a folder");
    fs::write(folder.join("Dockerfile"), format!("FROM ubuntu\n{install}{rest}")).expect("a file");
    let online = engine.ferry(["run", "--rm", "ubuntu", "apt", "update"]).code == 0;
    if !online {
        eprintln!("SKIPPED in part: no Debian mirror answers in containers; a stand-in for fortune is used");
        let stand_in = "RUN mkdir -p /usr/games && echo 'echo luck' > /usr/games/fortune && chmod 755 /usr/games/fortune\n";
        fs::write(folder.join("Dockerfile"), format!("FROM ubuntu\n{stand_in}{rest}")).expect("a file");
    }
    for client in CLIENTS {
        engine.client(client, ["build", "-t", "fortune", &text(&folder)]).exits(0);
        // The shell is given the brackets, as Docker does it.
        engine.client(client, ["run", "--rm", "fortune"]).exits(127);
        engine.client(client, ["run", "--rm", "--entrypoint", "fortune", "fortune"]).exits(0);
    }
    engine.ferry(["build", "--check", &text(&folder)]).exits(1).says("EscapedMarkdown");
    // What cannot be mended by itself (apt in a step of its own) stays.
    engine.ferry(["build", "--check", "--fix", &text(&folder)]).says("Mended");
    for client in CLIENTS {
        engine.client(client, ["build", "-t", "fortune", &text(&folder)]).exits(0);
        let said = engine.client(client, ["run", "--rm", "fortune"]);
        assert!(!said.ok().is_empty(), "{said}");
    }
}

/// The image that had the name before stays, as `<none>`, until it is removed.
fn rebuild_leaves_none() {
    for client in CLIENTS {
        let engine = Engine::with_busybox();
        let folder = engine.directory().join("again");
        fs::create_dir_all(&folder).expect("a folder");
        for turn in ["one", "two"] {
            fs::write(folder.join("Dockerfile"), format!("FROM busybox\nRUN echo {turn} > /turn\n"))
                .expect("a file");
            engine.client(client, ["build", "-t", "web_app", &text(&folder)]).exits(0);
            engine.client(client, ["run", "--rm", "web_app", "cat", "/turn"]).prints(turn);
        }
        let list = engine.client(client, ["images", "--format", "{{.Repository}}:{{.Tag}}"]);
        assert_eq!(list.ok().lines().filter(|line| *line == "<none>:<none>").count(), 1, "{list}");
        let dangling = engine.client(client, ["images", "-q", "-f", "dangling=true"]);
        engine.client(client, ["rmi", dangling.ok()]).exits(0);
        engine.client(client, ["images"]).exits(0);
    }
}
