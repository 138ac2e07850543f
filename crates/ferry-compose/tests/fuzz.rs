//! The fuzz targets of this crate, fed with mutations of seeds.

extern crate self as libfuzzer_sys;

#[path = "../../../tests/fuzz/driver.rs"]
mod driver;

#[allow(unused_attributes, reason = "a fuzz target is a crate of its own, too")]
#[path = "../fuzz/fuzz_targets/compose_file.rs"]
mod compose_file;
#[allow(unused_attributes, reason = "a fuzz target is a crate of its own, too")]
#[path = "../fuzz/fuzz_targets/dotenv.rs"]
mod env_file;
#[allow(unused_attributes, reason = "a fuzz target is a crate of its own, too")]
#[path = "../fuzz/fuzz_targets/interpolation.rs"]
mod interpolation;

#[test]
fn compose_files_of_any_bytes() {
    let seeds: [&[u8]; 3] = [
        b"name: app\nservices:\n  web:\n    image: ${IMAGE:-nginx}\n    ports: [\"8080-8081:80-81/udp\", {target: 80, published: \"0\"}]\n    depends_on: {db: {condition: service_healthy}}\n    environment: [A=b, C]\n    volumes: [\"./a:/b:ro\", data:/c]\n    deploy: {replicas: 2, resources: {limits: {cpus: '0.5', memory: 64M}}}\n  db:\n    build: {context: ., args: {X: 1}}\n    healthcheck: {test: [CMD, true], interval: 1m30s}\nvolumes: {data: {}}\n",
        b"x-base: &base\n  restart: always\n  logging: {driver: none}\nservices:\n  a:\n    <<: *base\n    command: >-\n      echo 'hi'\n      there\n    networks:\n      net: {aliases: [z], ipv4_address: 10.0.0.2}\nnetworks:\n  net:\n    ipam: {config: [{subnet: 10.0.0.0/24}]}\nsecrets: {s: {file: ./s}}\nconfigs: {c: {content: \"${A}\"}}\n",
        b"services: {a: {image: b, extends: {service: c}, profiles: [p], ulimits: {nofile: {soft: 1, hard: 2}}}, c: {image: d, env_file: [{path: .env, required: false}]}}\n",
    ];
    let pieces: [&[u8]; 16] = [
        b"${",
        b"}",
        b"$$",
        b": ",
        b"- ",
        b"\n",
        b"  ",
        b"&a ",
        b"*a",
        b"<<: ",
        b"!reset null",
        b"!override ",
        b"|\n",
        b"\"",
        b"null",
        b"99999999999999999999",
    ];
    driver::feed(compose_file::target, &seeds, &pieces);
}

#[test]
fn env_files_of_any_bytes() {
    let seeds: [&[u8]; 2] = [
        b"# x\nA=b\nexport C='d e'\nE=\"f\\n${A:-g}\"\nH = i # j\nK\nL: m\n",
        b"\xef\xbb\xbfA=${B?no}\nC=\"two\nlines\"\nD=$E$$F\n",
    ];
    let pieces: [&[u8]; 9] = [b"=", b"\"", b"'", b"${", b"}", b"\n", b"#", b"export ", b"\\"];
    driver::feed(env_file::target, &seeds, &pieces);
}

#[test]
fn templates_of_any_bytes() {
    let seeds: [&[u8]; 3] = [b"a$A-${B:-x${C:?y}}z$$", b"${A:+b}${C-}${D?e}", b"${A:-\"}\"}$1${"];
    let pieces: [&[u8]; 9] = [b"$", b"${", b"}", b":-", b":?", b":+", b"$$", b"A", b"\xc3\xbc"];
    driver::feed(interpolation::target, &seeds, &pieces);
}
