//! The fuzz targets of this crate, fed with mutations of seeds.

extern crate self as libfuzzer_sys;

#[path = "../../../tests/fuzz/driver.rs"]
mod driver;

#[allow(unused_attributes, reason = "a fuzz target is a crate of its own, too")]
#[path = "../fuzz/fuzz_targets/bodies.rs"]
mod bodies;
#[allow(unused_attributes, reason = "a fuzz target is a crate of its own, too")]
#[path = "../fuzz/fuzz_targets/filters.rs"]
mod filters;
#[allow(unused_attributes, reason = "a fuzz target is a crate of its own, too")]
#[path = "../fuzz/fuzz_targets/frames.rs"]
mod frames;

const JSON: [&[u8]; 10] =
    [b"null", b"{}", b"[]", b"-1", b"\"", b",", b":", b"18446744073709551616", b"1e400", b"\"\\u0000\""];

#[test]
fn bodies_of_any_bytes() {
    let seeds: [&[u8]; 6] = [
        br#"{"Image":"busybox","Cmd":["a"],"Entrypoint":"b","Env":["A=b"],"ExposedPorts":{"80/tcp":{}},"Volumes":{"/a":{}},"Labels":{"a":"b"},"Healthcheck":{"Test":["CMD","true"],"Interval":1000000000},"HostConfig":{"Binds":["a:/b"],"Memory":64,"PortBindings":{"80/tcp":[{"HostIp":"","HostPort":"1"}]},"RestartPolicy":{"Name":"always","MaximumRetryCount":0},"Mounts":[{"Type":"volume","Source":"a","Target":"/b","ReadOnly":true}],"Ulimits":[{"Name":"nofile","Soft":1,"Hard":2}]},"NetworkingConfig":{"EndpointsConfig":{"n":{"Aliases":["x"],"IPAMConfig":{"IPv4Address":"1.2.3.4"}}}}}"#,
        br#"{"cmd":"one","hostconfig":{"capadd":"ALL","Devices":[{"PathOnHost":"/dev/null"}],"LogConfig":{"Type":"none","Config":null}},"StopTimeout":null}"#,
        br#"{"Memory":314572800,"NanoCpus":5,"RestartPolicy":{"Name":"on-failure","MaximumRetryCount":4},"PidsLimit":null}"#,
        br#"{"Cmd":["sh"],"Tty":true,"ConsoleSize":[24,80],"Env":null,"DetachKeys":"ctrl-p","AttachStdout":true}"#,
        br#"{"Name":"n","Driver":"bridge","Internal":false,"IPAM":{"Driver":"default","Config":[{"Subnet":"10.0.0.0/8"}]},"Options":{"a":"b"},"EnableIPv6":true}"#,
        br#"{"Container":"x","Force":true,"EndpointConfig":{"Aliases":["a"],"GwPriority":-5,"MacAddress":"02:00:00:00:00:01"}}"#,
    ];
    driver::feed(bodies::target, &seeds, &JSON);
}

#[test]
fn filters_of_any_text() {
    let seeds: [&[u8]; 5] = [
        br#"{"label":["a=b","c"],"status":["running"]}"#,
        br#"{"dangling":{"true":true,"false":false}}"#,
        br#"{"until":["24h"],"label!":null}"#,
        b"",
        br#"{"a":{"":true},"":["\u0000"]}"#,
    ];
    driver::feed(filters::target, &seeds, &JSON);
}

#[test]
fn frames_of_any_bytes() {
    let seeds: [&[u8]; 4] = [
        b"\x01\0\0\0\0\0\0\x03hi\n\x02\0\0\0\0\0\0\x04err\n",
        b"\x01\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\x01a\x04\0\0\0\0\0\0\x02{}",
        b"\0\0\0\0\0\0\0\x05input\x03\0\0\0\0\0\0\x01x",
        b"hello, this is no frame",
    ];
    let pieces: [&[u8]; 5] =
        [b"\x01\0\0\0\0\0\0\x01a", b"\x01\0\0\0\x01\0\0\x01", b"\x05", b"\0\0\0", b"\x02\0\0\0\xff"];
    driver::feed(frames::target, &seeds, &pieces);
}
