//! Where builds take their files from, beside a folder: repositories, URLs, standard input, named folders.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use ferry_tests::Engine;

use crate::{CLIENTS, Test};

/// The suite.
pub const TESTS: &[Test] = &[
    ("build_sources::repository_as_context", repository_as_context),
    ("build_sources::add_of_a_repository", add_of_a_repository),
    ("build_sources::add_of_a_url_follows_the_server", add_of_a_url_follows_the_server),
    ("build_sources::archive_by_url", archive_by_url),
    ("build_sources::dockerfile_from_stdin", dockerfile_from_stdin),
    ("build_sources::named_folder", named_folder),
    ("build_sources::named_elsewhere", named_elsewhere),
    ("build_sources::ignore_files_of_dockerfiles", ignore_files_of_dockerfiles),
];

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn git(folder: &Path, arguments: &[&str]) {
    let status = Command::new("git")
        .args(["-c", "user.name=test", "-c", "user.email=test@localhost", "-c", "init.defaultBranch=main"])
        .args(arguments)
        .current_dir(folder)
        .env("GIT_COMMITTER_DATE", "2020-01-02T03:04:05Z")
        .env("GIT_AUTHOR_DATE", "2020-01-02T03:04:05Z")
        .env_remove("GIT_DIR")
        .output()
        .expect("git is installed");
    assert!(status.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&status.stderr));
}

/// A repository with a Dockerfile in a folder, a branch and a tag; its name ends with `.git`.
fn repository(engine: &Engine) -> PathBuf {
    let folder = engine.directory().join("project.git");
    fs::create_dir_all(folder.join("docker")).expect("folders");
    fs::write(folder.join("docker/Dockerfile"), "FROM busybox\nCOPY . /app/\nCMD cat /app/text\n")
        .expect("a file");
    fs::write(folder.join("docker/text"), "first\n").expect("a file");
    git(&folder, &["init", "-q"]);
    git(&folder, &["add", "."]);
    git(&folder, &["commit", "-q", "-m", "first"]);
    git(&folder, &["tag", "v1"]);
    fs::write(folder.join("docker/text"), "second\n").expect("a file");
    git(&folder, &["commit", "-q", "-a", "-m", "second"]);
    folder
}

fn repository_as_context() {
    let engine = Engine::with_busybox();
    let folder = repository(&engine);
    for (fragment, wanted) in [("#:docker", "second"), ("#v1:docker", "first"), ("#main:docker", "second")] {
        let url = format!("file://{}{fragment}", text(&folder));
        engine.ferry(["build", "-t", "cloned", &url]).exits(0);
        engine.ferry(["run", "--rm", "cloned"]).prints(wanted);
        // The commit's time is the build's: the image is the same wherever and whenever it is built.
        assert!(engine.inspect("cloned", "{{.Created}}").starts_with("2020-01-02T03:04:05"), "{fragment}");
    }
    engine.ferry(["run", "--rm", "cloned", "ls", "-a", "/app"]).prints(".\n..\nDockerfile\ntext");
    let missing = format!("file://{}#nothing:docker", text(&folder));
    engine.ferry(["build", &missing]).exits(1).complains("cannot clone");
    let outside = format!("file://{}#:nowhere", text(&folder));
    engine.ferry(["build", &outside]).exits(1).complains("nowhere");
}

fn add_of_a_repository() {
    let engine = Engine::with_busybox();
    let repository = repository(&engine);
    let folder = engine.directory().join("adds");
    fs::create_dir_all(&folder).expect("a folder");
    let dockerfile = format!(
        "FROM busybox\nADD file://{0}#v1:docker /first/\nADD --keep-git-dir=true file://{0} /whole/\n\
         RUN cat /first/text && test ! -e /first/.git && test -d /whole/.git\n",
        text(&repository)
    );
    fs::write(folder.join("Dockerfile"), dockerfile).expect("a file");
    for client in CLIENTS {
        engine.client(client, ["build", "-t", "added", &text(&folder)]).exits(0);
        engine
            .client(client, ["run", "--rm", "added", "cat", "/first/text", "/whole/docker/text"])
            .prints("first\nsecond");
        engine.client(client, ["rmi", "added"]).exits(0);
    }
    // A branch that moved on is a change.
    fs::write(repository.join("docker/text"), "third\n").expect("a file");
    git(&repository, &["commit", "-q", "-a", "-m", "third"]);
    engine.ferry(["build", "-t", "added", &text(&folder)]).exits(0);
    engine.ferry(["run", "--rm", "added", "cat", "/whole/docker/text"]).prints("third");
}

/// A web server with one answer that can be changed; it lives as long as the test program.
fn serve(body: Vec<u8>) -> (String, Arc<Mutex<Vec<u8>>>) {
    let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("http://{}", socket.local_addr().expect("an address"));
    let body = Arc::new(Mutex::new(body));
    let answer = Arc::clone(&body);
    std::thread::spawn(move || {
        for stream in socket.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut request = Vec::new();
            let mut buffer = [0; 1024];
            while !request.windows(4).any(|end| end == b"\r\n\r\n") {
                match stream.read(&mut buffer) {
                    Ok(0) | Err(_) => break,
                    Ok(length) => request.extend_from_slice(&buffer[..length]),
                }
            }
            let body = answer.lock().expect("no panic").clone();
            let head =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            // A client that went away is its own business.
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
        }
    });
    (address, body)
}

fn add_of_a_url_follows_the_server() {
    let engine = Engine::with_busybox();
    let (address, body) = serve(b"old".to_vec());
    let folder = engine.directory().join("url");
    fs::create_dir_all(&folder).expect("a folder");
    fs::write(folder.join("Dockerfile"), format!("FROM busybox\nADD {address}/file /file\nRUN cat /file\n"))
        .expect("a file");
    engine.ferry(["build", "-t", "url", &text(&folder)]).exits(0);
    engine.ferry(["run", "--rm", "url", "cat", "/file"]).prints("old");
    let again = engine.ferry(["build", "-t", "url", &text(&folder)]);
    again.exits(0);
    assert_eq!(again.stderr.matches("CACHED").count(), 3, "{again}");
    *body.lock().expect("no panic") = b"new".to_vec();
    for client in CLIENTS {
        engine.client(client, ["build", "-t", "url", &text(&folder)]).exits(0);
        engine.client(client, ["run", "--rm", "url", "cat", "/file"]).prints("new");
    }
}

fn archive_by_url() {
    let engine = Engine::with_busybox();
    let folder = engine.directory().join("packed");
    fs::create_dir_all(&folder).expect("a folder");
    fs::write(folder.join("Dockerfile"), "FROM busybox\nCOPY a /a\nCMD cat /a\n").expect("a file");
    fs::write(folder.join("a"), "from an archive\n").expect("a file");
    let packed = Command::new("tar").args(["-cz", "."]).current_dir(&folder).output().expect("tar").stdout;
    let (address, _body) = serve(packed);
    engine.ferry(["build", "-t", "packed", &format!("{address}/context.tar.gz")]).exits(0);
    engine.ferry(["run", "--rm", "packed"]).prints("from an archive");
}

fn dockerfile_from_stdin() {
    let engine = Engine::with_busybox();
    let dockerfile = b"FROM busybox\nRUN --mount=type=secret,id=t test -s /run/secrets/t\nCMD echo stdin\n";
    let token = engine.directory().join("token");
    fs::write(&token, "x").expect("a file");
    let secret = format!("id=t,src={}", text(&token));
    let arguments = ["build", "-q", "--secret", &secret, "-t", "stdin", "-"];
    engine.ferry_with_input(arguments, dockerfile).exits(0);
    engine.ferry(["run", "--rm", "stdin"]).prints("stdin");
    let folder = engine.directory().join("files");
    fs::create_dir_all(&folder).expect("a folder");
    fs::write(folder.join("a"), "a\n").expect("a file");
    let arguments = ["build", "-q", "-t", "stdin", "-f", "-", &text(&folder)];
    engine.ferry_with_input(arguments, b"FROM busybox\nCOPY a /\nCMD cat /a\n").exits(0);
    engine.ferry(["run", "--rm", "stdin"]).prints("a");
}

/// Each Dockerfile has its own ignore file, beside it, wherever that is; it goes before the context's.
fn ignore_files_of_dockerfiles() {
    let engine = Engine::with_busybox();
    let (folder, elsewhere) = (engine.directory().join("context"), engine.directory().join("elsewhere"));
    let dockerfile = "FROM busybox\nCOPY . /all\nCMD ls /all\n";
    for (path, text) in [
        (folder.join("a"), "a"),
        (folder.join("b"), "b"),
        (folder.join("c"), "c"),
        (folder.join(".dockerignore"), "a\n*ockerfile*\n.docker*\n"),
        (folder.join("Dockerfile"), dockerfile),
        (folder.join("own.Dockerfile"), dockerfile),
        (folder.join("own.Dockerfile.dockerignore"), "b\n*ockerfile*\n.docker*\n"),
        (elsewhere.join("Dockerfile"), dockerfile),
        (elsewhere.join("Dockerfile.dockerignore"), "c\n*ockerfile*\n.docker*\n"),
    ] {
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, text).expect("a file");
    }
    for (dockerfile, left) in [
        (folder.join("Dockerfile"), "b\nc"),
        (folder.join("own.Dockerfile"), "a\nc"),
        (elsewhere.join("Dockerfile"), "a\nb"),
    ] {
        for client in CLIENTS {
            // Docker's classic client packs the context by the context's own ignore file alone.
            if client == "docker" && left != "b\nc" {
                continue;
            }
            let arguments = ["build", "-q", "-t", "left", "-f", &text(&dockerfile), &text(&folder)];
            engine.client(client, arguments).exits(0);
            engine.client(client, ["run", "--rm", "left"]).prints(left);
        }
    }
    engine.ferry(["build", "--call", "check", &text(&folder)]).exits(1).says("JSONArgsRecommended");
    engine.ferry(["build", "--call", "dance", &text(&folder)]).exits(1).complains("dance is not known");
}

fn named_folder() {
    let engine = Engine::with_busybox();
    let (folder, other) = (engine.directory().join("main"), engine.directory().join("other"));
    for (folder, file, text) in
        [(&folder, "Dockerfile", "FROM base\nCOPY --from=other a /a\nRUN cat /a\n"), (&other, "a", "named")]
    {
        fs::create_dir_all(folder).expect("a folder");
        fs::write(folder.join(file), text).expect("a file");
    }
    let other = format!("other={}", text(&other));
    engine
        .ferry([
            "build",
            "-t",
            "n",
            "--build-context",
            &other,
            "--build-context",
            "base=docker-image://busybox",
            &text(&folder),
        ])
        .exits(0);
    engine.ferry(["run", "--rm", "n", "cat", "/a"]).prints("named");
}

/// Repositories, archives and images in folders, by a name that the Dockerfile uses.
fn named_elsewhere() {
    let engine = Engine::with_busybox();
    let repository = repository(&engine);
    let packed = engine.directory().join("packed");
    fs::create_dir_all(&packed).expect("a folder");
    fs::write(packed.join("a"), "from an archive\n").expect("a file");
    let archive = Command::new("tar").args(["-cz", "."]).current_dir(&packed).output().expect("tar").stdout;
    let (address, _body) = serve(archive);
    let (layout, folder) = (engine.directory().join("layout"), engine.directory().join("main"));
    fs::create_dir_all(&folder).expect("a folder");
    let dockerfile = "FROM busybox\nRUN echo from a layout > /l\n";
    let output = format!("type=oci,tar=false,dest={}", text(&layout));
    let base = engine.ferry_with_input(["build", "-q", "-o", &output, "-"], dockerfile.as_bytes());
    engine.ferry(["rmi", "-f", base.ok()]).exits(0);
    let dockerfile = "FROM base\nCOPY --from=project text /text\nCOPY --from=web a /a\nCMD cat /text /a /l\n";
    fs::write(folder.join("Dockerfile"), dockerfile).expect("a file");
    let contexts = [
        format!("base=oci-layout://{}", text(&layout)),
        format!("project=file://{}#v1:docker", text(&repository)),
        format!("web={address}/files.tar.gz"),
    ];
    let mut arguments = vec!["build".to_owned(), "-q".into(), "-t".into(), "n".into(), text(&folder)];
    for context in contexts {
        arguments.extend(["--build-context".to_owned(), context]);
    }
    engine.ferry(&arguments).exits(0);
    engine.ferry(["run", "--rm", "n"]).prints("first\nfrom an archive\nfrom a layout");
    let list = engine.ferry(["images", "-a", "--format", "{{.Repository}}"]);
    assert!(!list.ok().contains("<none>"), "{list}");
    let wrong = ["build", "--build-context", "x=moon://y", &text(&folder)];
    engine.ferry(wrong).exits(1).complains("its kind is not known");
}
