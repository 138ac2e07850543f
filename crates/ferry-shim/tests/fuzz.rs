//! The fuzz targets of this crate, fed with mutations of seeds.

extern crate self as libfuzzer_sys;

#[path = "../../../tests/fuzz/driver.rs"]
mod driver;

#[allow(unused_attributes, reason = "a fuzz target is a crate of its own, too")]
#[path = "../fuzz/fuzz_targets/log_lines.rs"]
mod log_lines;
#[allow(unused_attributes, reason = "a fuzz target is a crate of its own, too")]
#[path = "../fuzz/fuzz_targets/messages.rs"]
mod messages;

#[test]
fn output_of_any_bytes() {
    let seeds: [&[u8]; 4] = [
        b"\x05a line\nanother\r\n",
        b"\x00\xc3\xbc\xe2\x82\xac\n\"\\\t\x1b[0m",
        b"\xffno end",
        b"\x01\n\n\n",
    ];
    let pieces: [&[u8]; 6] = [b"\n", b"\0", b"\xf0\x9f\x98\x80", b"\xc3", b"\"", b"\\"];
    driver::feed(log_lines::target, &seeds, &pieces);
}

#[test]
fn frames_of_any_bytes() {
    let seeds: [&[u8]; 4] = [
        br#"{"seq":1,"request":{"hello":{"version":1}}}"#,
        br#"{"seq":7,"request":{"exec":{"exec_id":"a","process":{"argv":["sh"],"cwd":"/","env":["A=b"]},"terminal":{"rows":24,"columns":80}}}}"#,
        br#"{"reply":{"seq":7,"result":{"Err":{"code":"unknown_request","message":"x"}}}}"#,
        br#"{"pong":{"version":1}}"#,
    ];
    let pieces: [&[u8]; 8] = [b"null", b"{}", b"[]", b"-1", b"\"", b",", b":", b"18446744073709551616"];
    driver::feed(messages::target, &seeds, &pieces);
}
