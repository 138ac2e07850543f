//! Version 1 as it was first spoken must stay readable for ever.

use super::*;

/// Requests recorded from the first release: what an old engine sends.
const RECORDED_REQUESTS: &[&str] = &[
    r#"{"seq":1,"request":{"hello":{"version":1}}}"#,
    r#"{"seq":2,"request":{"exec":{"exec_id":"e1","process":{"terminal":false,"user":{"uid":0,"gid":0},"args":["sh"],"cwd":"/"},"terminal":null,"open_stdin":false,"capture":true}}}"#,
    r#"{"seq":3,"request":{"attach":{"exec_id":null,"stdin":true,"stdout":false,"stderr":false}}}"#,
    r#"{"seq":4,"request":{"resize":{"exec_id":"e1","size":{"rows":24,"cols":80}}}}"#,
    r#"{"seq":5,"request":{"close_stdin":{"exec_id":null}}}"#,
    r#"{"seq":6,"request":{"signal":{"exec_id":null,"signal":15,"all":false}}}"#,
    r#"{"seq":7,"request":{"freeze":true}}"#,
    r#"{"seq":8,"request":{"update_resources":{"pids":{"limit":10}}}}"#,
    r#"{"seq":9,"request":"rootfs"}"#,
    r#"{"seq":10,"request":{"follow_log":{"on":true}}}"#,
    r#"{"seq":11,"request":"log_ack"}"#,
    r#"{"seq":12,"request":{"pin_log":{"generation":0}}}"#,
    r#"{"seq":13,"request":"processes"}"#,
    r#"{"seq":14,"request":"stats"}"#,
    r#"{"seq":15,"request":"release"}"#,
];

/// Messages recorded from the first release: what an old shim sends.
const RECORDED_MESSAGES: &[&str] = &[
    r#"{"event":{"started":{"pid":42,"started_at":"2026-01-02T03:04:05.000000006Z","warnings":[]}}}"#,
    r#"{"event":{"start_failed":{"exit_code":127,"message":"exec: \"foo\": executable file not found in $PATH"}}}"#,
    r#"{"event":{"exited":{"version":1,"generation":1,"pid":42,"exit_code":137,"signal":9,"oom_killed":true,"started_at":"a","finished_at":"b","error":null}}}"#,
    r#"{"event":{"exec_exited":{"exec_id":"e1","exit_code":0}}}"#,
    r#"{"event":"oom"}"#,
    r#"{"event":{"log_tick":{"generation":3}}}"#,
    r#"{"reply":{"seq":1,"result":{"Ok":"ok"}}}"#,
    r#"{"reply":{"seq":1,"result":{"Ok":{"state":{"version":1,"id":"c","generation":1,"pid":42,"started_at":"a","frozen":false,"exit":null,"execs":[],"log_generation":0}}}}}"#,
    r#"{"reply":{"seq":2,"result":{"Ok":{"exec_started":{"pid":43}}}}}"#,
    r#"{"reply":{"seq":2,"result":{"Err":{"code":126,"message":"permission denied"}}}}"#,
    r#"{"reply":{"seq":9,"result":{"Ok":"rootfs"}}}"#,
    r#"{"reply":{"seq":13,"result":{"Ok":{"processes":[42,43]}}}}"#,
    r#"{"reply":{"seq":14,"result":{"Ok":{"stats":{"pids":{"current":1}}}}}}"#,
];

const RECORDED_LAUNCHER: &[&str] = &[
    r#"{"launch":{"version":1,"id":"c","generation":1,"run_dir":"/run/ferry/containers/c","data_dir":"/var/lib/ferry/containers/c","spec":{"ociVersion":"1.2.0"},"rootfs":{"overlay":{"lowers":["/l/2","/l/1"],"upper":"/u","work":"/w"}},"log":{"json_file":{"path":"/c-json.log","max_size":10000000,"max_file":3}}}}"#,
    r#""ping""#,
    r#""shutdown""#,
];

#[test]
fn recorded_version_1_is_understood() {
    for (index, text) in RECORDED_REQUESTS.iter().enumerate() {
        let envelope = decode_request(text.as_bytes()).unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!(envelope.seq, index as u64 + 1);
    }
    for text in RECORDED_MESSAGES {
        let message = decode_message(text.as_bytes()).unwrap_or_else(|e| panic!("{text}: {e}"));
        assert!(message.is_some(), "{text}");
    }
    for text in RECORDED_LAUNCHER {
        decode::<LauncherRequest>(text.as_bytes()).unwrap_or_else(|e| panic!("{text}: {e}"));
    }
}

#[test]
fn every_message_survives_a_round_trip() {
    for text in RECORDED_REQUESTS {
        let first = encode(&decode_request(text.as_bytes()).unwrap());
        let second = encode(&decode_request(&first).unwrap());
        assert_eq!(first, second, "{text}");
    }
    for text in RECORDED_MESSAGES {
        let first = encode(&decode_message(text.as_bytes()).unwrap().unwrap());
        let second = encode(&decode_message(&first).unwrap().unwrap());
        assert_eq!(first, second, "{text}");
    }
}

#[test]
fn requests_of_a_newer_engine_get_an_answer() {
    let newer = br#"{"seq":77,"request":{"checkpoint":{"path":"/x"}},"trace":"ignored"}"#;
    let Err(DecodeError::Request { seq: 77, error }) = decode_request(newer) else {
        panic!("a request of an unknown kind must keep its number");
    };
    assert_eq!(error.code, error_code::UNKNOWN_REQUEST);
    assert!(error.message.contains("checkpoint"), "{}", error.message);

    let malformed = br#"{"seq":78,"request":{"signal":{"exec_id":null,"signal":"TERM","all":false}}}"#;
    let Err(DecodeError::Request { seq: 78, error }) = decode_request(malformed) else {
        panic!("a malformed request must keep its number");
    };
    assert_eq!(error.code, error_code::MALFORMED);
    assert!(matches!(decode_request(b"garbage"), Err(DecodeError::Envelope { size: 7, .. })));
}

#[test]
fn new_members_of_known_requests_are_ignored() {
    let text = br#"{"seq":1,"request":{"hello":{"version":9,"features":["x"]}}}"#;
    assert!(matches!(decode_request(text).unwrap().request, ShimRequest::Hello { version: 9 }));
}

#[test]
fn events_of_a_newer_shim_are_skipped() {
    assert!(decode_message(br#"{"event":{"pressure":{"some":1}}}"#).unwrap().is_none());
    assert!(decode_message(br#"{"event":"#).is_err());
}
