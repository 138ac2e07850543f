//! Builds: the corpus of Dockerfiles through ferry's own way and the classic API, and what the cache,
//! failures, secrets and traps do.

use std::fs;
use std::path::{Path, PathBuf};

use ferry_tests::Engine;

use crate::{CLIENTS, Test};

/// The suite.
pub const TESTS: &[Test] = &[
    ("build::corpus", corpus),
    ("build::image_is_run", image_is_run),
    ("build::cache_follows_contents", cache_follows_contents),
    ("build::equal_results_keep_later_steps", equal_results_keep_later_steps),
    ("build::failed_step_is_shown", failed_step_is_shown),
    ("build::secrets_stay_out", secrets_stay_out),
    ("build::outputs", outputs),
    ("build::used_tag_leaves_none", used_tag_leaves_none),
    ("build::check_and_fix", check_and_fix),
    ("build::cache_survives_the_engine", cache_survives_the_engine),
    ("build::fixed_time_gives_equal_images", fixed_time_gives_equal_images),
    ("build::stages_in_parallel", stages_in_parallel),
];

fn corpus_directory() -> PathBuf {
    // Cargo runs tests in their package's folder; the path of compile time may be another clone's.
    std::env::current_dir().expect("a working directory").join("dockerfiles")
}

fn context(engine: &Engine, name: &str, files: &[(&str, &str)]) -> PathBuf {
    let folder = engine.directory().join(name);
    for (path, text) in files {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
        fs::write(path, text).expect("a file");
    }
    folder
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// Every Dockerfile gives the same image through both ways: the folder read where it lies, and a tar
/// over the classic API.
fn corpus() {
    let engine = Engine::with_images(&["busybox", "python"]);
    let mut names: Vec<_> = fs::read_dir(corpus_directory())
        .expect("the corpus")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    assert!(names.len() >= 60, "the corpus has {} Dockerfiles", names.len());
    for name in names {
        let folder = corpus_directory().join(&name);
        let mut arguments = vec!["build".to_owned(), "-q".to_owned(), "-t".to_owned(), format!("c-{name}")];
        for line in fs::read_to_string(folder.join("build-args")).unwrap_or_default().lines() {
            arguments.extend(["--build-arg".to_owned(), line.to_owned()]);
        }
        arguments.push(text(&folder));
        if let Ok(wanted) = fs::read_to_string(folder.join("fails")) {
            engine.ferry(&arguments).exits(1).complains(wanted.trim());
            // Docker's client ends with the failed command's own exit code.
            let classic = engine.docker(&arguments);
            assert_ne!(classic.code, 0, "{classic}");
            classic.complains(wanted.trim());
            continue;
        }
        let own = engine.ferry(&arguments);
        let id = own.ok().trim().to_owned();
        let classic = engine.docker(&arguments);
        assert_eq!(
            classic.ok().lines().last().unwrap_or_default().trim(),
            id,
            "{name}: both ways give one image"
        );
    }
}

fn image_is_run() {
    let engine = Engine::with_busybox();
    let files = [
        (
            "Dockerfile",
            "FROM busybox\nWORKDIR /app\nCOPY hello.txt .\nRUN cat hello.txt > copy.txt\nCMD cat copy.txt\n",
        ),
        ("hello.txt", "hello from a file\n"),
    ];
    let folder = context(&engine, "run", &files);
    for client in CLIENTS {
        // Flags may follow the path.
        engine.client(client, ["build", &text(&folder), "--tag", "hello"]).exits(0);
        engine.client(client, ["run", "--rm", "hello"]).prints("hello from a file");
        engine.client(client, ["rmi", "hello"]).exits(0);
    }
}

fn cache_follows_contents() {
    let engine = Engine::with_busybox();
    let dockerfile = "FROM busybox\nCOPY a.txt /\nRUN cat a.txt\nCOPY b.txt /\nRUN cat b.txt\n";
    let folder = context(&engine, "cache", &[("Dockerfile", dockerfile), ("a.txt", "a"), ("b.txt", "b")]);
    let build = || {
        let outcome = engine.ferry(["build", "-t", "c", &text(&folder)]);
        outcome.exits(0);
        outcome.stderr.matches("CACHED").count()
    };
    build();
    assert_eq!(build(), 5, "the base and four steps");
    fs::write(folder.join("b.txt"), "changed").expect("a file");
    assert_eq!(build(), 3, "what stands in front of the changed file");
    // A new time is no change.
    let file = fs::File::options().write(true).open(folder.join("a.txt")).expect("the file");
    file.set_modified(std::time::SystemTime::UNIX_EPOCH).expect("a time");
    assert_eq!(build(), 5);
}

/// A step that is done again but gives what it gave before keeps the steps behind it.
fn equal_results_keep_later_steps() {
    let engine = Engine::with_busybox();
    let dockerfile =
        |comment: &str| format!("FROM busybox\nRUN echo same > /f # {comment}\nRUN sleep 0 && cat /f\n");
    let folder = context(&engine, "equal", &[("Dockerfile", dockerfile("one").as_str())]);
    engine.ferry(["build", "-t", "e", &text(&folder)]).exits(0);
    fs::write(folder.join("Dockerfile"), dockerfile("two")).expect("a file");
    let outcome = engine.ferry(["build", "-t", "e", &text(&folder)]);
    outcome.exits(0);
    assert_eq!(outcome.stderr.matches("CACHED").count(), 2, "{}", outcome.stderr);
}

fn failed_step_is_shown() {
    let engine = Engine::with_busybox();
    let folder =
        context(&engine, "fail", &[("Dockerfile", "FROM busybox\nRUN echo before\nRUN echo why && false\n")]);
    let outcome = engine.ferry(["build", &text(&folder)]);
    outcome.exits(1).complains("non-zero code: 1");
    for part in ["why", "Dockerfile:3:1", "^^^", "docker run --rm -it"] {
        assert!(outcome.stderr.contains(part), "{part} is not in {}", outcome.stderr);
    }
    engine
        .docker(["build", &text(&folder)])
        .exits(1)
        .complains("The command '/bin/sh -c echo why && false' returned");
}

fn secrets_stay_out() {
    let engine = Engine::with_busybox();
    let dockerfile = "FROM busybox\nRUN --mount=type=secret,id=t,required=true cat /run/secrets/t | md5sum > /sum\n\
                      RUN --mount=type=secret,id=t,env=T test \"${T#*-}\" = value && test ${#T} = 12\n";
    let folder = context(&engine, "secret", &[("Dockerfile", dockerfile)]);
    let secret = engine.directory().join("token");
    fs::write(&secret, "s3cret-value").expect("a file");
    let flag = format!("id=t,src={}", text(&secret));
    engine.ferry(["build", "--secret", &flag, "-t", "s", &text(&folder)]).exits(0);
    let archive = engine.directory().join("s.tar");
    engine.ferry(["save", "-o", &text(&archive), "s"]).exits(0);
    let bytes = fs::read(&archive).expect("the archive");
    assert!(!bytes.windows(12).any(|window| window == b"s3cret-value"), "the secret is in the image");
    engine.ferry(["run", "--rm", "s", "ls", "/run"]).prints("");
    engine.ferry(["build", "--no-cache", &text(&folder)]).exits(1).complains("secret t was not given");
}

fn outputs() {
    let engine = Engine::with_busybox();
    let folder =
        context(&engine, "out", &[("Dockerfile", "FROM scratch\nCOPY a /dir/a\n"), ("a", "contents")]);
    let target = engine.directory().join("result");
    engine.ferry(["build", "-o", &text(&target), &text(&folder)]).exits(0);
    assert_eq!(fs::read_to_string(target.join("dir/a")).expect("the file"), "contents");
    let id = engine.directory().join("id");
    engine.ferry(["build", "-q", "--iidfile", &text(&id), &text(&folder)]).exits(0).says("sha256:");
    assert!(fs::read_to_string(id).expect("the id").starts_with("sha256:"));
}

fn used_tag_leaves_none() {
    let engine = Engine::with_busybox();
    let folder = context(&engine, "none", &[("Dockerfile", "FROM busybox\nRUN echo 1 > /f\n")]);
    engine.ferry(["build", "-t", "again", &text(&folder)]).exits(0);
    fs::write(folder.join("Dockerfile"), "FROM busybox\nRUN echo 2 > /f\n").expect("a file");
    engine.ferry(["build", "-t", "again", &text(&folder)]).exits(0);
    for client in CLIENTS {
        engine.client(client, ["images"]).exits(0).says("<none>");
    }
}

fn check_and_fix() {
    let engine = Engine::with_busybox();
    let dockerfile = "FROM busybox\nENV PYTHONUNBUFFERED 1\nCMD ['python', 'manage.py', 'runserver']\n";
    let folder = context(&engine, "check", &[("Dockerfile", dockerfile)]);
    let check = engine.ferry(["build", "--check", &text(&folder)]);
    check.exits(1).says("SingleQuotedJson").says("LegacyKeyValueFormat");
    engine.ferry(["build", "--check", "--fix", &text(&folder)]).exits(0);
    let mended = fs::read_to_string(folder.join("Dockerfile")).expect("the file");
    assert_eq!(
        mended,
        "FROM busybox\nENV PYTHONUNBUFFERED=1\nCMD [\"python\", \"manage.py\", \"runserver\"]\n"
    );
    engine.ferry(["build", "--check", &text(&folder)]).exits(0).says("no warnings found");
}

fn cache_survives_the_engine() {
    let engine = Engine::with_busybox();
    let folder = context(&engine, "kill", &[("Dockerfile", "FROM busybox\nRUN echo x > /x\n")]);
    let first = engine.ferry(["build", "-q", &text(&folder)]).ok().to_owned();
    // The records are written behind the answer.
    std::thread::sleep(std::time::Duration::from_millis(500));
    engine.kill("engine");
    assert_eq!(engine.ferry(["build", "-q", &text(&folder)]).ok(), first);
}

fn fixed_time_gives_equal_images() {
    let engine = Engine::with_busybox();
    let folder = context(
        &engine,
        "epoch",
        &[("Dockerfile", "FROM busybox\nRUN echo x > /x\nCOPY a /a\n"), ("a", "a")],
    );
    let build = || {
        let arguments =
            ["build", "-q", "--no-cache", "--build-arg", "SOURCE_DATE_EPOCH=1000000000", &text(&folder)];
        engine.ferry(arguments).ok().to_owned()
    };
    assert_eq!(build(), build());
}

fn stages_in_parallel() {
    let engine = Engine::with_busybox();
    let dockerfile = "FROM busybox AS a\nRUN sleep 2 && echo a > /a\nFROM busybox AS b\nRUN sleep 2 && echo b > /b\n\
                      FROM busybox\nCOPY --from=a /a /\nCOPY --from=b /b /\n";
    let folder = context(&engine, "parallel", &[("Dockerfile", dockerfile)]);
    let begin = std::time::Instant::now();
    engine.ferry(["build", "-q", &text(&folder)]).exits(0);
    assert!(begin.elapsed().as_secs_f64() < 3.8, "two stages of 2 s took {:?}", begin.elapsed());
}
