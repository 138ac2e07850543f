//! The cases.

use ferry_shim::protocol::{ExitRecord, LauncherReply, ShimEvent, ShimRequest};

use crate::host::*;

type Case = fn(&mut Host);

pub const ALL: &[(&str, Case)] =
    &[("output-and-exit-code", output_and_exit_code), ("start-failures", start_failures)];

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
    let _ = (LauncherReply::Launched { shim_pid: 0 }, ShimRequest::Release);
}
