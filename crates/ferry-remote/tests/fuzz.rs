//! The fuzz targets of this crate, fed with mutations of seeds.

extern crate self as libfuzzer_sys;

#[path = "../../../tests/fuzz/driver.rs"]
mod driver;

#[allow(unused_attributes, reason = "a fuzz target is a crate of its own, too")]
#[path = "../fuzz/fuzz_targets/challenge.rs"]
mod challenge;
#[allow(unused_attributes, reason = "a fuzz target is a crate of its own, too")]
#[path = "../fuzz/fuzz_targets/range.rs"]
mod range;

#[test]
fn challenges_of_any_bytes() {
    let seeds: [&[u8]; 4] = [
        b"Bearer realm=\"https://auth.docker.io/token\",service=\"registry.docker.io\",scope=\"repository:a/b:pull\"",
        b"Basic realm=\"a \\\"b\\\" c\"",
        b"Negotiate, Bearer realm=plain , service = x, error=\"invalid_token\", Basic realm=\"\xc3\xbc\"",
        b"Basic dGVzdA==, Bearer realm=\"r\"",
    ];
    let pieces: [&[u8]; 10] =
        [b"\"", b"\\", b",", b"=", b" ", b"Bearer ", b"realm=", b"Basic ", b"\xc3\xbc", b", ,"];
    driver::feed(challenge::target, &seeds, &pieces);
}

#[test]
fn ranges_of_any_bytes() {
    let seeds: [&[u8]; 5] =
        [b"bytes 0-99/100", b"bytes 5-9/*", b"bytes */100", b"bytes 0-0/1", b"bytes=1-2/3"];
    let pieces: [&[u8]; 8] = [b"-", b"/", b"*", b"bytes ", b"18446744073709551615", b"-1", b" ", b"+1"];
    driver::feed(range::target, &seeds, &pieces);
}
