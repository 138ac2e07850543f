//! What watches containers: probes over their network, restarts of unhealthy ones, logs that go elsewhere and
//! searches through them.

use std::io::Read as _;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use ferry_tests::Engine;
use ferry_tests::engine::{patience, wait_until};

use crate::{CLIENTS, Test};

/// The suite.
pub const TESTS: &[Test] = &[
    ("watching::probes_over_the_network", probes_over_the_network),
    ("watching::the_unhealthy_are_restarted", the_unhealthy_are_restarted),
    ("watching::logs_go_to_syslog", logs_go_to_syslog),
    ("watching::logs_go_to_fluentd_and_graylog", logs_go_to_fluentd_and_graylog),
    ("watching::logs_wait_for_their_receiver", logs_wait_for_their_receiver),
    ("watching::local_logs", local_logs),
    ("watching::log_drivers_that_cannot_work", log_drivers_that_cannot_work),
    ("watching::logs_are_searched", logs_are_searched),
];

/// A web server without any shell or tool to probe it with would do as well.
const SERVER: &str = "mkdir /www; echo fine > /www/up; exec httpd -f -p 8080 -h /www";

fn health_of(engine: &Engine, name: &str) -> String {
    engine.inspect(name, "{{.State.Health.Status}}")
}

fn probes_over_the_network() {
    let engine = Engine::with_busybox();
    for (name, flag, place, wanted) in [
        ("up", "--health-http", "8080/up", "healthy"),
        ("url", "--health-http", "http://127.0.0.1:8080/up", "healthy"),
        ("missing", "--health-http", "8080/nope", "unhealthy"),
        ("port", "--health-tcp", "8080", "healthy"),
        ("closed", "--health-tcp", "8081", "unhealthy"),
    ] {
        let mut words = vec!["run", "-d", "--name", name, flag, place, "--health-interval", "50ms"];
        words.extend(["--health-retries", "2", "--health-timeout", "5s"]);
        // The first probes may come before the server.
        if wanted == "healthy" {
            words.extend(["--health-start-period", "60s", "--health-start-interval", "50ms"]);
        }
        words.extend(["busybox", "sh", "-c", SERVER]);
        engine.ferry(words).exits(0);
        wait_until(&format!("{name} to be {wanted}"), || health_of(&engine, name) == wanted);
    }
    let log = engine.inspect("missing", "{{json .State.Health.Log}}");
    assert!(log.contains("404"), "{log}");
    engine.ferry(["inspect", "-f", "{{.Config.Healthcheck.Test}}", "up"]).exits(0).prints("[HTTP 8080/up]");
    let bad = ["run", "--rm", "--health-http", "https://x/", "busybox", "true"];
    engine.ferry(bad).exits(125).complains("health probe");
    let two = ["run", "--rm", "--health-cmd", "true", "--health-tcp", "80", "busybox", "true"];
    engine.ferry(two).exits(125).complains("only one of");
}

fn the_unhealthy_are_restarted() {
    let engine = Engine::with_busybox();
    for client in CLIENTS {
        let words = "run -d --name sick --restart on-unhealthy:2 --stop-signal KILL --health-interval 50ms --health-retries 2";
        let mut words: Vec<&str> = words.split(' ').collect();
        words.extend(["--health-cmd", "test ! -e /broken", "busybox", "sleep", "1000"]);
        engine.client(client, words).exits(0);
        wait_until("it to be healthy", || health_of(&engine, "sick") == "healthy");
        engine.ferry(["exec", "sick", "touch", "/broken"]).exits(0);
        // The file stays, so two restarts are all it gets.
        wait_until("two restarts", || engine.inspect("sick", "{{.RestartCount}}") == "2");
        wait_until("it to be given up", || health_of(&engine, "sick") == "unhealthy");
        assert_eq!(
            engine.inspect("sick", "{{.State.Running}} {{.HostConfig.RestartPolicy.Name}}"),
            "true on-unhealthy"
        );
        engine.ferry(["rm", "-f", "sick"]).exits(0);
    }
}

const SAY: &str = "echo hello out; echo hello err >&2";

fn logs_go_to_syslog() {
    let engine = Engine::with_busybox();
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.set_read_timeout(Some(patience())).expect("a limit");
    let path = engine.directory().join("log");
    let datagrams = UnixDatagram::bind(&path).expect("a socket");
    datagrams.set_read_timeout(Some(patience())).expect("a limit");
    let udp = format!("syslog-address=udp://{}", socket.local_addr().expect("an address"));
    let unix = format!("syslog-address=unixgram://{}", path.display());
    for client in CLIENTS {
        for (address, form) in [(&udp, "rfc5424"), (&unix, "rfc3164")] {
            let form = format!("syslog-format={form}");
            let mut words = vec!["run", "--name", "talker", "--log-driver", "syslog", "--log-opt", address];
            words.extend([
                "--log-opt",
                &form,
                "--log-opt",
                "syslog-facility=local3",
                "--log-opt",
                "tag=web/{{.Name}}",
            ]);
            words.extend(["busybox", "sh", "-c", SAY]);
            engine.client(client, words).exits(0);
            let mut got = Vec::new();
            for _ in 0..2 {
                let mut buffer = [0; 2048];
                let count = match *address == udp {
                    true => socket.recv(&mut buffer).expect("a message"),
                    false => datagrams.recv(&mut buffer).expect("a message"),
                };
                got.push(String::from_utf8_lossy(&buffer[..count]).into_owned());
            }
            got.sort();
            assert!(got[0].starts_with("<155>") && got[0].ends_with("hello err"), "{got:?}");
            assert!(got[1].starts_with("<158>") && got[1].ends_with("hello out"), "{got:?}");
            assert!(got.iter().all(|line| line.contains("web/talker")), "{got:?}");
            engine.client(client, ["logs", "talker"]).exits(0).prints("hello out").complains("hello err");
            engine.client(client, ["rm", "talker"]).exits(0);
        }
    }
}

fn logs_go_to_fluentd_and_graylog() {
    let engine = Engine::with_busybox();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let fluentd = format!("fluentd-address={}", listener.local_addr().expect("an address"));
    let words = [
        "run",
        "--name",
        "fluent",
        "--log-driver",
        "fluentd",
        "--log-opt",
        &fluentd,
        "busybox",
        "echo",
        "by fluentd",
    ];
    engine.docker(words).exits(0);
    let (mut stream, _) = listener.accept().expect("a connection");
    stream.set_read_timeout(Some(patience())).expect("a limit");
    let mut got = Vec::new();
    while !contains(&got, b"by fluentd") {
        let mut buffer = [0; 1024];
        let count = stream.read(&mut buffer).expect("a record");
        assert!(count > 0, "{got:?}");
        got.extend_from_slice(&buffer[..count]);
    }
    assert!(contains(&got, b"/fluent") && contains(&got, b"stdout"), "{got:?}");
    engine.docker(["logs", "fluent"]).exits(0).prints("by fluentd");

    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.set_read_timeout(Some(patience())).expect("a limit");
    let gelf = format!("gelf-address=udp://{}", socket.local_addr().expect("an address"));
    let words =
        ["run", "--name", "gray", "--log-driver", "gelf", "--log-opt", &gelf, "busybox", "echo", "by gelf"];
    engine.docker(words).exits(0);
    let mut buffer = [0; 4096];
    let count = socket.recv(&mut buffer).expect("a message");
    let text = String::from_utf8_lossy(&buffer[..count]).into_owned();
    assert!(
        text.contains("\"short_message\":\"by gelf\"") && text.contains("\"_container_name\":\"gray\""),
        "{text}"
    );
    engine.docker(["logs", "gray"]).exits(0).prints("by gelf");
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// A receiver that is away, and an engine that is killed meanwhile: nothing is lost.
fn logs_wait_for_their_receiver() {
    let engine = Engine::with_busybox();
    let address = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port");
    let option = format!("fluentd-address={address}");
    let words = ["run", "-d", "--name", "patient", "--log-driver", "fluentd", "--log-opt", &option];
    let talk = ["busybox", "sh", "-c", "echo early; sleep 1000"];
    engine.ferry(words.into_iter().chain(talk)).exits(0);
    wait_until("the local copy", || engine.ferry(["logs", "patient"]).stdout.contains("early"));
    engine.kill("engine");
    engine.ferry(["ps"]).exits(0);
    let listener = TcpListener::bind(address).expect("the same port");
    let (mut stream, _) = listener.accept().expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a limit");
    let mut buffer = [0; 1024];
    let count = stream.read(&mut buffer).expect("a record");
    assert!(contains(&buffer[..count], b"early"), "{:?}", String::from_utf8_lossy(&buffer[..count]));
}

fn local_logs() {
    let engine = Engine::with_busybox();
    for client in CLIENTS {
        engine
            .client(client, ["run", "--name", "near", "--log-driver", "local", "busybox", "echo", "here"])
            .exits(0);
        engine.client(client, ["logs", "near"]).exits(0).prints("here");
        assert_eq!(engine.inspect("near", "{{.HostConfig.LogConfig.Type}}:{{.LogPath}}"), "local:");
        engine.client(client, ["rm", "near"]).exits(0);
    }
    engine.docker(["info", "-f", "{{.Plugins.Log}}"]).exits(0).says("fluentd gelf journald json-file local");
}

fn log_drivers_that_cannot_work() {
    let engine = Engine::with_busybox();
    for (driver, option, text) in [
        ("splunk", "a=b", "no log driver named 'splunk'"),
        ("syslog", "syslog-address=http://x", "none of udp://"),
        ("syslog", "syslog-facility=nope", "invalid syslog facility"),
        ("syslog", "max-sise=1m", "unknown log opt 'max-sise'"),
        ("gelf", "tag=x", "gelf-address is a required parameter"),
        ("journald", "tag={{.Nope}}", "the tag"),
    ] {
        for client in CLIENTS {
            let words = ["create", "--log-driver", driver, "--log-opt", option, "busybox", "true"];
            let outcome = engine.client(client, words);
            assert!(outcome.code != 0 && outcome.stderr.contains(text), "{outcome}");
        }
    }
    engine.ferry(["ps", "-aq"]).exits(0).prints("");
}

fn logs_are_searched() {
    let engine = Engine::with_busybox();
    let say = "echo INFO ready; echo ERROR Disk full >&2; echo plain";
    engine.ferry(["run", "--name", "one", "busybox", "sh", "-c", say]).exits(0);
    engine.ferry(["run", "--name", "two", "busybox", "echo", "WARN disk slow"]).exits(0);
    engine.ferry(["run", "--name", "mute", "--log-driver", "none", "busybox", "echo", "disk"]).exits(0);
    engine.ferry(["logs", "--grep", "disk", "one"]).exits(0).prints("ERROR Disk full");
    engine.ferry(["logs", "--grep", "Disk", "--all"]).exits(0).prints("one | ERROR Disk full");
    engine
        .ferry(["logs", "--all", "--level", "warn"])
        .exits(0)
        .prints("one | ERROR Disk full\ntwo | WARN disk slow");
    engine.ferry(["logs", "--level", "error", "one", "two"]).exits(0).prints("one | ERROR Disk full");
    engine.ferry(["logs", "--grep", "nowhere", "one"]).exits(1).prints("");
    engine.ferry(["logs", "--level", "loud", "one"]).exits(1).complains("there is no level");
    engine.ferry(["logs", "one", "two"]).exits(1).complains("requires 1 argument");
}
