//! The fuzz targets of this crate, fed with mutations of seeds.

extern crate self as libfuzzer_sys;

#[path = "../../../tests/fuzz/driver.rs"]
mod driver;

#[allow(unused_attributes, reason = "a fuzz target is a crate of its own, too")]
#[path = "../fuzz/fuzz_targets/daemon_file.rs"]
mod daemon_file;

#[test]
fn settings_of_any_bytes() {
    let seeds: [&[u8]; 4] = [
        br#"{"log-driver":"json-file","log-opts":{"max-size":"10m","max-file":"3"},"default-ulimits":{"nofile":{"Name":"nofile","Soft":64,"Hard":128}},"default-shm-size":"64M","init":true}"#,
        br#"{"bip":"10.9.0.1/16","fixed-cidr":"10.9.1.0/24","default-gateway":"10.9.0.2","mtu":1400,"ip":"127.0.0.1","icc":false,"ip-masq":true}"#,
        br#"{"default-address-pools":[{"base":"10.10.0.0/16","size":24},{"base":"fd00::/48","size":64}],"dns":["1.1.1.1"],"dns-search":["x"],"dns-opts":["ndots:1"]}"#,
        br#"{"labels":["a=b"],"log-level":"debug","default-network-opts":{"bridge":{"com.docker.network.driver.mtu":"1400"}},"registry-mirrors":["http://x"],"builder":{"gc":{"defaultKeepStorage":"1GB"}},"userns-remap":"x","lables":[]}"#,
    ];
    let pieces: [&[u8]; 10] =
        [b"null", b"{}", b"[]", b"-1", b"\"", b",", b":", b"/129", b"18446744073709551616", b"\"0.0.0.0/0\""];
    driver::feed(daemon_file::target, &seeds, &pieces);
}
