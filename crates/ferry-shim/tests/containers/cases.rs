//! The cases: each gets a launcher of its own, and is checked to leave nothing behind.

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use ferry_shim::client::{LauncherClient, ShimClient};
use ferry_shim::log::reader::{Format, LogReader, ReadOptions};
use ferry_shim::protocol::{
    ExitRecord, LaunchConfig, LauncherReply, LauncherRequest, LogConfig, ShimEvent, ShimReply, ShimRequest,
    VERSION, WindowSize, error_code,
};
use ferry_sys::channel::{self, Channel};
use sha2::Digest;

use crate::host::*;

type Case = fn(&mut Host);

pub const ALL: &[(&str, Case)] = &[
    ("output-and-exit-code", output_and_exit_code),
    ("start-failures", start_failures),
    ("malformed-frames", malformed_frames),
    ("stdin-half-close", stdin_half_close),
    ("terminal", terminal),
    ("attach-before-start", attach_before_start),
    ("exec-sessions", exec_sessions),
    ("signals-and-freeze", signals_and_freeze),
    ("shared-pid-namespace", shared_pid_namespace),
    ("out-of-memory", out_of_memory),
    ("prompt-reaches-followers", prompt_reaches_followers),
    ("gigabyte-log", gigabyte_log),
    ("log-rate", log_rate),
    ("follow-across-rotation", follow_across_rotation),
    ("killed-client", killed_client),
    ("slow-reader", slow_reader),
    ("later-connections", later_connections),
    ("hundred-at-once", hundred_at_once),
    ("start-latency", start_latency),
    ("idle-memory", idle_memory),
];

fn output_and_exit_code(host: &mut Host) {
    let (config, record) = host.run("echo out; echo err >&2; printf unfinished; exit 7");
    assert_eq!((record.exit_code, record.signal, record.oom_killed), (7, None, false));
    let text = String::from_utf8(log_text(&config)).unwrap();
    assert!(text.contains("out\n") && text.contains("err\n") && text.contains("unfinished"), "{text}");
    let file = std::fs::read(config.data_dir.join("exit.json")).unwrap();
    assert_eq!(serde_json::from_slice::<ExitRecord>(&file).unwrap(), record);
}

fn start_failures(host: &mut Host) {
    for (command, code, text) in [
        ("nonesuch", 127, "executable file not found in $PATH"),
        ("/etc", 126, "is a directory"),
        ("/nonesuch", 127, "no such file or directory"),
    ] {
        let config = host.config(&[command]);
        let mut shim = host.launch(config.clone());
        let ShimEvent::StartFailed { exit_code, message } = shim.event().unwrap() else {
            panic!("{command} started");
        };
        assert_eq!(exit_code, code, "{message}");
        assert!(message.contains(text), "{message}");
        assert!(shim.wait_closed());
        assert!(!config.data_dir.join("exit.json").exists());
    }
}

fn malformed_frames(host: &mut Host) {
    let path = host.root.join("run/launcher.sock");
    for frame in [&b"garbage"[..], b"", b"{\"newer\":{}}", b"{\"launch\":{}}"] {
        let mut peer = Channel::connect(&path).unwrap();
        peer.send(frame, &[]).unwrap();
        let reply: LauncherReply = serde_json::from_slice(&peer.recv().unwrap().0).unwrap();
        assert!(matches!(reply, LauncherReply::Failed { .. }), "{reply:?}");
    }
    let mut oversized = UnixStream::connect(&path).unwrap();
    oversized.write_all(&u32::MAX.to_le_bytes()).unwrap();
    let mut cut = UnixStream::connect(&path).unwrap();
    cut.write_all(&[9, 0, 0, 0, 1]).unwrap();
    drop(cut);

    // A launch that does not parse is told about by the shim, on its own connection.
    let (ours, theirs) = Channel::pair().unwrap();
    let mut peer = Channel::connect(&path).unwrap();
    peer.send(br#"{"launch":{"id":7}}"#, &[theirs.as_fd()]).unwrap();
    drop(theirs);
    let mut shim = ShimClient::new(ours);
    assert!(matches!(shim.event().unwrap(), ShimEvent::StartFailed { exit_code: 125, .. }));

    let pong = host.client.call(&LauncherRequest::Ping, &[]).unwrap();
    assert_eq!(pong, LauncherReply::Pong { version: VERSION });
}

/// Attaches to the streams of the container or a session; our end.
fn attach(shim: &mut ShimClient, exec_id: Option<&str>, stdin: bool, output: bool) -> UnixStream {
    let (ours, theirs) = channel::socketpair().unwrap();
    let exec_id = exec_id.map(str::to_owned);
    let request = ShimRequest::Attach { exec_id, stdin, stdout: output, stderr: output };
    shim.call_with(request, &[theirs.as_fd()]).unwrap();
    let ours = UnixStream::from(ours);
    ours.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    ours
}

fn finish(shim: &mut ShimClient) -> ExitRecord {
    let record = wait_exit(shim);
    shim.call(ShimRequest::Release).unwrap();
    assert!(shim.wait_closed());
    record
}

fn stdin_half_close(host: &mut Host) {
    let mut config = host.config(&["sh", "-c", "sha256sum; echo done"]);
    (config.open_stdin, config.stdin_once) = (true, true);
    let mut shim = host.launch(config.clone());
    let mut stdin = attach(&mut shim, None, true, false);
    let input = vec![b'x'; 3 << 20];
    stdin.write_all(&input).unwrap();
    stdin.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(finish(&mut shim).exit_code, 0);
    let digest: String = sha2::Sha256::digest(&input).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(String::from_utf8(log_text(&config)).unwrap(), format!("{digest}  -\ndone\n"));

    // Without stdin_once a client's end is not stdin's, and CloseStdin is.
    let mut config = host.config(&["cat"]);
    config.open_stdin = true;
    let mut shim = host.launch(config.clone());
    attach(&mut shim, None, true, false).write_all(b"first ").unwrap();
    attach(&mut shim, None, true, false).write_all(b"second").unwrap();
    wait_until("both arrived", || {
        shim.call(ShimRequest::FollowLog { on: true }).unwrap();
        log_text(&config).ends_with(b"second")
    });
    shim.call(ShimRequest::CloseStdin { exec_id: None }).unwrap();
    assert_eq!(finish(&mut shim).exit_code, 0);
    assert_eq!(log_text(&config), b"first second");
}

fn terminal(host: &mut Host) {
    let mut config = host.config(&["sh", "-c", "stty size; read line; stty size; echo got $line"]);
    config.terminal = Some(WindowSize { rows: 24, cols: 80 });
    config.open_stdin = true;
    let value = serde_json::to_value(&config.spec).unwrap();
    config.spec = serde_json::from_value(with(value, "/process/terminal", true.into())).unwrap();
    let mut shim = host.launch(config.clone());
    let mut client = attach(&mut shim, None, true, true);
    wait_started(&mut shim);
    let mut seen = String::new();
    read_until(&mut client, &mut seen, "24 80\r\n");
    shim.call(ShimRequest::Resize { exec_id: None, size: WindowSize { rows: 50, cols: 132 } }).unwrap();
    client.write_all(b"hello\n").unwrap();
    read_until(&mut client, &mut seen, "got hello\r\n");
    assert!(seen.contains("50 132\r\n"), "{seen:?}");
    assert_eq!(finish(&mut shim).exit_code, 0);
    assert!(String::from_utf8(log_text(&config)).unwrap().ends_with("got hello\r\n"));
}

fn read_until(client: &mut UnixStream, seen: &mut String, end: &str) {
    while !seen.contains(end) {
        let mut buffer = [0; 4096];
        let count = client.read(&mut buffer).unwrap();
        assert!(count > 0, "ended before {end:?}: {seen:?}");
        seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
}

fn with(mut value: serde_json::Value, pointer: &str, new: serde_json::Value) -> serde_json::Value {
    *value.pointer_mut(pointer).expect("the member is there") = new;
    value
}

/// Sends a launch with an attachment already waiting in the control connection.
fn launch_attached(host: &mut Host, config: LaunchConfig) -> (ShimClient, UnixStream) {
    let (mut ours, theirs) = Channel::pair().unwrap();
    let (stream, shim_end) = channel::socketpair().unwrap();
    let request =
        br#"{"seq":99,"request":{"attach":{"exec_id":null,"stdin":true,"stdout":true,"stderr":true}}}"#;
    ours.send(request, &[shim_end.as_fd()]).unwrap();
    let reply = host.client.call(&LauncherRequest::Launch(Box::new(config)), &[theirs.as_fd()]).unwrap();
    assert!(matches!(reply, LauncherReply::Launched { .. }));
    (ShimClient::new(ours), UnixStream::from(stream))
}

fn attach_before_start(host: &mut Host) {
    let mut config = host.config(&["sh", "-c", "echo out; echo err >&2"]);
    config.log = LogConfig::None;
    let (mut shim, mut client) = launch_attached(host, config);
    let mut bytes = Vec::new();
    client.read_to_end(&mut bytes).unwrap();
    let stdout = b"\x01\0\0\0\0\0\0\x04out\n".to_vec();
    let stderr = b"\x02\0\0\0\0\0\0\x04err\n".to_vec();
    assert!([[&stdout[..], &stderr].concat(), [&stderr[..], &stdout].concat()].contains(&bytes), "{bytes:?}");
    assert_eq!(finish(&mut shim).exit_code, 0);
}

fn process(command: &[&str]) -> Box<ferry_oci::runtime::Process> {
    let value =
        serde_json::json!({"user": {"uid": 0, "gid": 0}, "args": command, "cwd": "/", "env": ["PATH=/bin"]});
    Box::new(serde_json::from_value(value).unwrap())
}

fn exec_request(id: &str, command: &[&str]) -> ShimRequest {
    ShimRequest::Exec {
        exec_id: id.into(),
        process: process(command),
        terminal: None,
        open_stdin: false,
        capture: false,
        seccomp: None,
    }
}

fn exec(shim: &mut ShimClient, id: &str, command: &[&str]) -> (i32, UnixStream) {
    let (ours, theirs) = channel::socketpair().unwrap();
    let request = ShimRequest::Exec {
        exec_id: id.into(),
        process: process(command),
        terminal: None,
        open_stdin: true,
        capture: true,
        seccomp: None,
    };
    let ShimReply::ExecStarted { pid } = shim.call_with(request, &[theirs.as_fd()]).unwrap().0 else {
        panic!("not started");
    };
    let ours = UnixStream::from(ours);
    ours.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    (pid, ours)
}

fn exec_exit(shim: &mut ShimClient, id: &str) -> i32 {
    let code = shim.wait_for(|event| match event {
        ShimEvent::ExecExited { exec_id, exit_code } if exec_id == id => Some(*exit_code),
        _ => None,
    });
    code.unwrap()
}

fn exec_sessions(host: &mut Host) {
    let config = host.config(&["sleep", "1000"]);
    let mut shim = host.launch(config);
    wait_started(&mut shim);

    let (_, mut first) = exec(&mut shim, "first", &["sh", "-c", "cat; echo end; exit 3"]);
    let (_, mut second) = exec(&mut shim, "second", &["sh", "-c", "echo err >&2; sleep 1000"]);
    first.write_all(b"typed").unwrap();
    first.shutdown(std::net::Shutdown::Write).unwrap();
    let mut bytes = Vec::new();
    first.read_to_end(&mut bytes).unwrap();
    let text: Vec<u8> = bytes.iter().copied().filter(u8::is_ascii_graphic).collect();
    assert_eq!(String::from_utf8(text).unwrap(), "typedend");
    assert_eq!(exec_exit(&mut shim, "first"), 3);
    let mut frame = [0; 12];
    second.read_exact(&mut frame).unwrap();
    assert_eq!(&frame, b"\x02\0\0\0\0\0\0\x04err\n");
    shim.call(ShimRequest::Signal { exec_id: Some("second".into()), signal: 9, all: false }).unwrap();
    assert_eq!(exec_exit(&mut shim, "second"), 137);

    let ShimReply::State(state) = shim.call(ShimRequest::Hello { version: VERSION }).unwrap() else {
        panic!("no state");
    };
    let ended: Vec<_> = state.execs.iter().map(|exec| (exec.exec_id.as_str(), exec.exit_code)).collect();
    assert_eq!(ended, [("first", Some(3)), ("second", Some(137))]);

    let error = shim.call(exec_request("third", &["nonesuch"])).unwrap_err().to_string();
    assert!(error.contains("executable file not found in $PATH"), "{error}");
    let gone = ShimRequest::Resize { exec_id: Some("nine".into()), size: WindowSize { rows: 1, cols: 1 } };
    assert!(shim.call(gone).unwrap_err().to_string().contains("no exec session nine"));

    // One that still runs ends with the container, and its client hears of it.
    let (_, mut last) = exec(&mut shim, "last", &["sleep", "1000"]);
    shim.call(ShimRequest::Signal { exec_id: None, signal: 9, all: false }).unwrap();
    assert_eq!(exec_exit(&mut shim, "last"), 137);
    assert_eq!(last.read(&mut [0; 1]).unwrap(), 0);
    assert_eq!(finish(&mut shim).exit_code, 137);
}

fn signals_and_freeze(host: &mut Host) {
    let config = host.config(&["sh", "-c", "trap 'echo usr1' USR1; while :; do sleep 0.01; done"]);
    let mut shim = host.launch(config.clone());
    wait_started(&mut shim);
    let signal = |signal| ShimRequest::Signal { exec_id: None, signal, all: false };
    wait_until("the trap works", || {
        shim.call(signal(10)).unwrap();
        log_text(&config).starts_with(b"usr1\n")
    });
    assert!(shim.call(signal(99)).is_err());
    let ShimReply::Processes(pids) = shim.call(ShimRequest::Processes).unwrap() else { panic!() };
    assert!(!pids.is_empty());
    let ShimReply::Stats(stats) = shim.call(ShimRequest::Stats).unwrap() else { panic!() };
    assert!(stats.pids.current > 0 && stats.cpu.usage_ns > 0, "{stats:?}");
    shim.call(ShimRequest::Freeze(true)).unwrap();
    let (reply, fds) = shim.call_with(ShimRequest::Rootfs, &[]).unwrap();
    assert_eq!((reply, fds.len()), (ShimReply::Rootfs, 1));
    let bin = rustix::fs::openat(&fds[0], "bin/sh", rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty());
    bin.expect("the container's file is reached through its mount");
    drop(fds);
    // A process that joined now would freeze before it runs, and the shim would wait for it.
    let error = shim.call(exec_request("late", &["true"])).unwrap_err().to_string();
    assert!(error.contains("the container is paused"), "{error}");
    // A kill reaches a frozen container too.
    shim.call(signal(9)).unwrap();
    let record = finish(&mut shim);
    assert_eq!((record.exit_code, record.signal), (137, Some(9)));
}

fn shared_pid_namespace(host: &mut Host) {
    let mut config = host.config(&["sh", "-c", "sleep 1000 & echo started"]);
    let value = serde_json::to_value(&config.spec).unwrap();
    let namespaces =
        serde_json::json!([{"type": "mount"}, {"type": "ipc"}, {"type": "uts"}, {"type": "network"}]);
    config.spec = serde_json::from_value(with(value, "/linux/namespaces", namespaces)).unwrap();
    let mut shim = host.launch(config.clone());
    let begin = Instant::now();
    assert_eq!(finish(&mut shim).exit_code, 0);
    assert!(begin.elapsed() < Duration::from_secs(5), "the survivor held up the exit");
    assert_eq!(log_text(&config), b"started\n");
}

fn out_of_memory(host: &mut Host) {
    let mut config = host.config(&["sh", "-c", "dd if=/dev/zero of=/dev/null bs=100M count=1; sleep 1000"]);
    let value = serde_json::to_value(&config.spec).unwrap();
    let mut linux = value["linux"].clone();
    linux["resources"] = serde_json::json!({"memory": {"limit": 16 << 20, "swap": 16 << 20}});
    config.spec = serde_json::from_value(with(value, "/linux", linux)).unwrap();
    let mut shim = host.launch(config);
    wait_started(&mut shim);
    shim.wait_for(|event| matches!(event, ShimEvent::Oom).then_some(())).unwrap();
    shim.call(ShimRequest::Signal { exec_id: None, signal: 9, all: false }).unwrap();
    assert!(finish(&mut shim).oom_killed);
}

fn prompt_reaches_followers(host: &mut Host) {
    let mut config = host.config(&["sh", "-c", "printf 'name: '; read name; echo hello $name"]);
    (config.open_stdin, config.stdin_once) = (true, true);
    let mut shim = host.launch(config.clone());
    shim.call(ShimRequest::FollowLog { on: true }).unwrap();
    while log_text(&config) != b"name: " {
        shim.wait_for(|event| matches!(event, ShimEvent::LogTick { .. }).then_some(())).unwrap();
        shim.call(ShimRequest::LogAck).unwrap();
    }
    attach(&mut shim, None, true, false).write_all(b"you\n").unwrap();
    assert_eq!(finish(&mut shim).exit_code, 0);
    assert_eq!(log_text(&config), b"name: hello you\n");
}

fn digest(mut reader: LogReader) -> (u64, Vec<u8>) {
    let (mut hash, mut out, mut total) = (sha2::Sha256::new(), Vec::new(), 0);
    while reader.read_into(&mut out, &Format::default(), 1 << 20).unwrap() > 0 {
        hash.update(&out);
        total += out.len() as u64;
        out.clear();
    }
    (total, hash.finalize().to_vec())
}

fn expected_digest(line: &[u8], total: u64) -> Vec<u8> {
    let (mut hash, block) = (sha2::Sha256::new(), line.repeat(10_000));
    let mut left = total as usize;
    while left > 0 {
        let piece = left.min(block.len());
        hash.update(&block[..piece]);
        left -= piece;
    }
    hash.finalize().to_vec()
}

fn gigabyte_log(host: &mut Host) {
    let line = b"0123456789 0123456789 0123456789 01234567";
    let total: u64 = 1 << 30;
    let text = std::str::from_utf8(line).unwrap();
    let config = host.config(&["sh", "-c", &format!("yes '{text}' | head -c {total}")]);
    let begin = Instant::now();
    let mut shim = host.launch(config.clone());
    assert_eq!(finish(&mut shim).exit_code, 0);
    let written = begin.elapsed();
    let LogConfig::JsonFile { path, .. } = &config.log else { panic!() };
    let begin = Instant::now();
    let (bytes, hash) = digest(LogReader::open(path, ReadOptions::default()).unwrap());
    let rate = |elapsed: Duration| total as f64 / 1e6 / elapsed.as_secs_f64();
    println!("  1 GB: written at {:.0} MB/s, read at {:.0} MB/s", rate(written), rate(begin.elapsed()));
    assert_eq!(bytes, total);
    assert!(hash == expected_digest(&[&line[..], b"\n"].concat(), total));
}

/// What `docker run` does by default, rotation included; prints the rate and what it cost the shim.
fn log_rate(host: &mut Host) {
    let total: u64 = 1 << 30;
    let line = "0123456789 0123456789 0123456789 01234567";
    let mut config = host.config(&["sh", "-c", &format!("yes '{line}' | head -c {total}")]);
    if let LogConfig::JsonFile { max_size, max_file, .. } = &mut config.log {
        (*max_size, *max_file) = (Some(10_000_000), 3);
    }
    let (pid, mut shim) = host.client.launch(config).unwrap();
    let begin = Instant::now();
    assert_eq!(wait_exit(&mut shim).exit_code, 0);
    let elapsed = begin.elapsed().as_secs_f64();
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let seconds = |index: usize| fields[index].parse::<f64>().unwrap() / 100.0;
    println!(
        "  log intake {:.0} MB/s; the shim took {:.2} s user, {:.2} s system of {elapsed:.2} s",
        total as f64 / 1e6 / elapsed,
        seconds(11),
        seconds(12)
    );
    shim.call(ShimRequest::Release).unwrap();
    assert!(shim.wait_closed());
}

fn follow_across_rotation(host: &mut Host) {
    let total: u64 = 100 << 20;
    let line = b"a line with \"quotes\" and <brackets>";
    let text = std::str::from_utf8(line).unwrap();
    let mut config = host.config(&["sh", "-c", &format!("yes '{text}' | head -c {total}")]);
    if let LogConfig::JsonFile { max_size, max_file, compress, .. } = &mut config.log {
        // All files together are fewer than a reader may hold back, however slow it is.
        (*max_size, *max_file, *compress) = (Some(4 << 20), 3, true);
    }
    let LogConfig::JsonFile { path, .. } = config.log.clone() else { panic!() };
    let (mut ours, theirs) = Channel::pair().unwrap();
    ours.send(br#"{"seq":98,"request":{"pin_log":{"generation":0}}}"#, &[]).unwrap();
    host.client.call(&LauncherRequest::Launch(Box::new(config.clone())), &[theirs.as_fd()]).unwrap();
    drop(theirs);
    let mut shim = ShimClient::new(ours);
    wait_started(&mut shim);
    let options = ReadOptions { follow: true, ..ReadOptions::default() };
    let mut reader = LogReader::open(&path, options).unwrap();
    shim.call(ShimRequest::FollowLog { on: true }).unwrap();
    let (mut hash, mut out, mut bytes) = (sha2::Sha256::new(), Vec::new(), 0u64);
    let mut ended = false;
    while !ended {
        let event = shim.event().unwrap();
        ended = matches!(event, ShimEvent::Exited(_));
        while reader.read_into(&mut out, &Format::default(), 1 << 20).unwrap() > 0 {
            hash.update(&out);
            bytes += out.len() as u64;
            out.clear();
        }
        if let ShimEvent::LogTick { generation } = event {
            let oldest = generation.saturating_sub(reader.files_behind());
            shim.call(ShimRequest::PinLog { generation: Some(oldest) }).unwrap();
            shim.call(ShimRequest::LogAck).unwrap();
        }
    }
    assert_eq!((bytes, reader.malformed()), (total, 0));
    assert!(hash.finalize().to_vec() == expected_digest(&[&line[..], b"\n"].concat(), total));
    shim.call(ShimRequest::Release).unwrap();
    assert!(shim.wait_closed());
}

fn killed_client(host: &mut Host) {
    let config = host.config(&["sh", "-c", "sleep 0.2; echo later; exit 4"]);
    let shim = host.launch(config.clone());
    drop(shim);
    wait_until("the exit is recorded with nobody there", || config.data_dir.join("exit.json").exists());
    let file = std::fs::read(config.data_dir.join("exit.json")).unwrap();
    assert_eq!(serde_json::from_slice::<ExitRecord>(&file).unwrap().exit_code, 4);
    assert_eq!(log_text(&config), b"later\n");
}

fn slow_reader(host: &mut Host) {
    // Logged: a client that never reads is dropped, the container runs through.
    let script = "seq 1 400000; echo end >&2";
    let config = host.config(&["sh", "-c", script]);
    let (mut shim, client) = launch_attached(host, config.clone());
    assert_eq!(finish(&mut shim).exit_code, 0);
    assert!(log_text(&config).ends_with(b"end\n") || log_text(&config).ends_with(b"400000\n"));
    drop(client);

    // Not logged: it waits for the client, and nothing is lost.
    let mut config = host.config(&["sh", "-c", "seq 1 400000"]);
    config.log = LogConfig::None;
    let (mut shim, mut client) = launch_attached(host, config);
    wait_started(&mut shim);
    std::thread::sleep(Duration::from_millis(300));
    let mut bytes = Vec::new();
    client.read_to_end(&mut bytes).unwrap();
    let mut text = Vec::new();
    let mut rest = &bytes[..];
    while let [1, 0, 0, 0, a, b, c, d, more @ ..] = rest {
        let (payload, after) = more.split_at(u32::from_be_bytes([*a, *b, *c, *d]) as usize);
        text.extend_from_slice(payload);
        rest = after;
    }
    assert!(rest.is_empty());
    let expected: String = (1..=400_000).map(|number| format!("{number}\n")).collect();
    assert!(text == expected.as_bytes());
    assert_eq!(finish(&mut shim).exit_code, 0);
}

fn later_connections(host: &mut Host) {
    let config = host.config(&["sleep", "1000"]);
    let mut first = host.launch(config.clone());
    let pid = wait_started(&mut first);
    drop(first);
    let mut second = ShimClient::connect(&config.run_dir).unwrap();
    let ShimReply::State(state) = second.call(ShimRequest::Hello { version: VERSION + 7 }).unwrap() else {
        panic!("no state");
    };
    assert_eq!((state.id.as_str(), state.pid, state.version), (config.id.as_str(), pid, VERSION));
    let mut raw = Channel::connect(&config.run_dir.join("shim.sock")).unwrap();
    raw.send(br#"{"seq":1,"request":{"checkpoint":{}}}"#, &[]).unwrap();
    let reply = String::from_utf8(raw.recv().unwrap().0).unwrap();
    assert!(reply.contains(&format!("\"code\":{}", error_code::UNKNOWN_REQUEST)), "{reply}");
    assert!(second.call(ShimRequest::Release).is_err(), "it still runs");
    second.call(ShimRequest::Signal { exec_id: None, signal: 15, all: true }).unwrap();
    second.call(ShimRequest::Signal { exec_id: None, signal: 9, all: false }).unwrap();
    assert_eq!(finish(&mut second).exit_code, 137);
}

fn hundred_at_once(host: &mut Host) {
    let configs: Vec<LaunchConfig> =
        (0..100).map(|number| host.config(&["sh", "-c", &format!("exit {number}")])).collect();
    let run_root = host.root.join("run");
    let begin = Instant::now();
    let threads: Vec<_> = configs
        .into_iter()
        .map(|config| {
            let run_root = run_root.clone();
            std::thread::spawn(move || {
                let (_, mut shim) = LauncherClient::connect(&run_root).unwrap().launch(config).unwrap();
                finish(&mut shim).exit_code
            })
        })
        .collect();
    for (number, thread) in threads.into_iter().enumerate() {
        assert_eq!(thread.join().unwrap(), number as i32);
    }
    println!("  100 containers in {} ms", begin.elapsed().as_millis());
}

/// Launch to exit record of a container that does nothing, one after the other.
fn start_latency(host: &mut Host) {
    let mut times = Vec::new();
    for _ in 0..50 {
        let config = host.config(&["true"]);
        let begin = Instant::now();
        let mut shim = host.launch(config);
        wait_started(&mut shim);
        let started = begin.elapsed();
        wait_exit(&mut shim);
        times.push((begin.elapsed(), started));
        shim.call(ShimRequest::Release).unwrap();
        assert!(shim.wait_closed());
    }
    times.sort();
    let (total, started) = times[times.len() / 2];
    println!("  median of 50: started after {started:?}, exit told after {total:?}");
}

fn idle_memory(host: &mut Host) {
    let config = host.config(&["sh", "-c", "yes | head -c 20M; sleep 1000"]);
    let (pid, mut shim) = host.client.launch(config).unwrap();
    wait_started(&mut shim);
    std::thread::sleep(Duration::from_millis(2500));
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let field = |name: &str| -> u64 {
        let line = rollup.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    let private = field("Private_Clean") + field("Private_Dirty");
    println!("  idle shim: private {private} kB, pss {} kB, rss {} kB", field("Pss"), field("Rss"));
    assert!(private <= 1024, "{rollup}");
    shim.call(ShimRequest::Signal { exec_id: None, signal: 9, all: false }).unwrap();
    finish(&mut shim);
}
