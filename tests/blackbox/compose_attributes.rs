//! Attributes of services as a container sees them: one project, one table.

use crate::Test;
use crate::compose::Project;

/// The suite.
pub const TESTS: &[Test] = &[
    ("compose_attributes::seen_from_inside", seen_from_inside),
    ("compose_attributes::kept_by_the_engine", kept_by_the_engine),
    ("compose_attributes::refused_with_a_reason", refused_with_a_reason),
    ("compose_attributes::a_provider_provides", a_provider_provides),
    ("compose_attributes::init_containers_run_once", init_containers_run_once),
];

/// One attribute each: as it stands in the file, a command, and what it prints.
const INSIDE: &[(&str, &str, &str)] = &[
    ("cap_drop: [ALL]", "grep CapEff /proc/self/status", "CapEff:\t0000000000000000"),
    ("domainname: example.org", "cat /proc/sys/kernel/domainname", "example.org"),
    ("dns_opt: ['ndots:3']", "grep options /etc/resolv.conf", "options ndots:3"),
    ("dns_search: corp.example", "grep search /etc/resolv.conf", "search corp.example"),
    ("environment: {A: b c, EMPTY: ''}", "echo \"$A[$EMPTY]\"", "b c[]"),
    ("extra_hosts: ['one:10.9.8.7']", "grep 10.9.8.7 /etc/hosts | cut -f2", "one"),
    ("group_add: ['4321']", "id -G", "0 4321"),
    ("hostname: named", "hostname", "named"),
    ("init: true", "cat /proc/1/comm", "ferry-init"),
    ("mac_address: '02:42:ac:11:65:43'", "cat /sys/class/net/eth0/address", "02:42:ac:11:65:43"),
    ("network_mode: none", "ls /sys/class/net", "lo"),
    ("oom_score_adj: 321", "cat /proc/1/oom_score_adj", "321"),
    ("read_only: true", "touch /x 2>/dev/null || echo refused", "refused"),
    ("security_opt: [no-new-privileges]", "grep NoNewPrivs /proc/1/status", "NoNewPrivs:\t1"),
    ("shm_size: 3m", "df -k /dev/shm | awk 'END {print $2}'", "3072"),
    ("sysctls: {net.ipv4.ip_forward: 1}", "cat /proc/sys/net/ipv4/ip_forward", "1"),
    ("tmpfs: ['/memory:size=2m']", "df -k /memory | awk 'END {print $2}'", "2048"),
    ("ulimits: {nofile: {soft: 123, hard: 456}}", "ulimit -n", "123"),
    ("user: '1234:56'", "id -u; id -g", "1234\n56"),
    ("working_dir: /made/here", "pwd", "/made/here"),
    ("command: []", "true", ""),
    ("devices: ['/dev/null:/dev/nothing:r']", "test -c /dev/nothing && echo there", "there"),
    ("privileged: true", "test -e /dev/mem -o -e /dev/kmsg && echo all", "all"),
];

fn seen_from_inside() {
    use std::fmt::Write as _;
    let mut text = String::from("services:\n");
    for (index, (attribute, command, _)) in INSIDE.iter().enumerate() {
        let script = command.replace('\'', "''").replace('$', "$$");
        let _ = write!(
            text,
            "  s{index}:\n    image: busybox\n    entrypoint: [sh, -c, '{script}']\n    {attribute}\n"
        );
    }
    let project = Project::new(&text);
    project.compose(&["up", "-d"]).exits(0);
    let mut wrong = Vec::new();
    for (index, (attribute, _, expected)) in INSIDE.iter().enumerate() {
        let name = format!("app-s{index}-1");
        project.engine.ferry(["wait", &name]).exits(0);
        let found = project.engine.ferry(["logs", &name]).stdout.trim_end().to_owned();
        if found != *expected {
            wrong.push(format!("{attribute}: {found:?} instead of {expected:?}"));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

/// What shows only in the record, or on hardware that is not here.
const KEPT: &[(&str, &str, &str)] = &[
    ("annotations: {a: b}", "{{.HostConfig.Annotations}}", "map[a:b]"),
    ("pull_refresh_after: 24h", "{{.Config.Image}}", "busybox"),
    ("cgroup: private", "{{.HostConfig.CgroupnsMode}}", "private"),
    ("cgroup_parent: /ferry-test", "{{.HostConfig.CgroupParent}}", "/ferry-test"),
    ("cpu_shares: 512", "{{.HostConfig.CpuShares}}", "512"),
    (
        "{cpu_quota: 50000, cpu_period: 100000}",
        "{{.HostConfig.CpuQuota}} {{.HostConfig.CpuPeriod}}",
        "50000 100000",
    ),
    ("cpus: 0.5", "{{.HostConfig.NanoCpus}}", "500000000"),
    ("cpuset: '0'", "{{.HostConfig.CpusetCpus}}", "0"),
    ("device_cgroup_rules: ['c 1:3 mr']", "{{.HostConfig.DeviceCgroupRules}}", "[c 1:3 mr]"),
    ("dns: 9.9.9.9", "{{.HostConfig.Dns}}", "[9.9.9.9]"),
    ("expose: ['3000']", "{{.Config.ExposedPorts}}", "map[3000/tcp:{}]"),
    ("labels: {x.y: z}", "{{index .Config.Labels \"x.y\"}}", "z"),
    (
        "logging: {driver: json-file, options: {max-size: 1m}}",
        "{{.HostConfig.LogConfig.Config}}",
        "map[max-size:1m]",
    ),
    ("mem_limit: 64m", "{{.HostConfig.Memory}}", "67108864"),
    ("{mem_limit: 64m, mem_reservation: 32m}", "{{.HostConfig.MemoryReservation}}", "33554432"),
    ("pids_limit: 50", "{{.HostConfig.PidsLimit}}", "50"),
    ("platform: linux/amd64", "{{.Platform}}", "linux"),
    ("stop_signal: SIGUSR1", "{{.Config.StopSignal}}", "SIGUSR1"),
    ("stop_grace_period: 1m5s", "{{.Config.StopTimeout}}", "65"),
    ("uts: host", "{{.HostConfig.UTSMode}}", "host"),
    ("userns_mode: host", "{{.HostConfig.UsernsMode}}", "host"),
    ("credential_spec: {file: spec.json}", "{{.Config.Image}}", "busybox"),
];

fn kept_by_the_engine() {
    use std::fmt::Write as _;
    let mut text = String::from("services:\n");
    for (index, (attribute, _, _)) in KEPT.iter().enumerate() {
        let flow = attribute.trim_start_matches('{').trim_end_matches('}');
        let flow = if attribute.starts_with('{') { flow } else { attribute };
        let _ = writeln!(text, "  s{index}: {{image: busybox, {flow}}}");
    }
    let project = Project::new(&text);
    project.compose(&["create"]).exits(0);
    for (index, (attribute, format, expected)) in KEPT.iter().enumerate() {
        let found = project.engine.inspect(&format!("app-s{index}-1"), format);
        assert_eq!(found, *expected, "{attribute}");
    }
}

fn refused_with_a_reason() {
    for (service, reason) in [
        ("{image: busybox, models: [llm]}", "this engine has no model runner"),
        ("{image: busybox, depends_on: [b]}", "cycle"),
        ("{image: busybox, mem_limit: 5 parsecs}", "compose.yaml:"),
        ("{image: busybox, imagee: x}", "did you mean"),
        ("{image: busybox, container_name: x, scale: 2}", "container_name"),
    ] {
        let project = Project::new(&format!(
            "services:\n  a: {service}\n  b: {{image: busybox, depends_on: [a]}}\nmodels:\n  llm: {{model: ai/model}}\n"
        ));
        project.compose(&["up", "-d"]).exits(1).complains(reason);
        assert_eq!(project.engine.ferry(["ps", "-aq"]).ok(), "", "{service}");
    }
}

fn init_containers_run_once() {
    let text = "services:\n  web:\n    image: busybox\n    init: true\n    command: sleep 1000\n    scale: 2\n    volumes: ['data:/data']\n    pre_start: [{command: sh -c 'echo prepared >> /data/lines'}]\n    pre_stop: [{command: sh -c 'echo stopping >> /data/lines'}]\nvolumes: {data: }\n";
    let project = Project::new(text);
    project.compose(&["up", "-d"]).exits(0);
    let lines =
        || project.compose(&["run", "--rm", "-T", "--no-deps", "web", "cat", "/data/lines"]).ok().to_owned();
    assert_eq!(lines(), "prepared");
    project.compose(&["up", "-d", "--scale", "web=3"]).exits(0);
    project.compose(&["up", "-d", "--scale", "web=1", "-t", "0"]).exits(0);
    project.compose(&["stop", "-t", "0"]).exits(0);
    let text = lines();
    assert!(text.starts_with("prepared\n") && text.ends_with("stopping"), "{text}");
    let failing = project.path();
    let broken =
        std::fs::read_to_string(&failing).expect("the file").replace("echo prepared", "exit 4; echo");
    project.write(&broken);
    project
        .compose(&["up", "-d", "--force-recreate", "-t", "0"])
        .exits(1)
        .complains("pre_start hook of service \"web\" exited with 4");
}

fn a_provider_provides() {
    use std::os::unix::fs::PermissionsExt as _;
    let text = "services:\n  web: {image: busybox, command: sleep 1000, init: true, depends_on: [my-db]}\n  my-db: {provider: {type: ./cloud, options: {size: big, tag: [a, b]}}}\n";
    let project = Project::new(text);
    let program = project.engine.directory().join("app/cloud");
    let script = "#!/bin/sh\necho \"$@\" >> calls\necho '{\"type\": \"setenv\", \"message\": \"URL=db://there\"}'\necho '{\"type\": \"rawsetenv\", \"message\": \"PLAIN=1\"}'\n";
    std::fs::write(&program, script).expect("a program");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("made executable");
    project.compose(&["up", "-d"]).exits(0);
    project.compose(&["exec", "-T", "web", "sh", "-c", "echo $MY_DB_URL $PLAIN"]).prints("db://there 1");
    let before = project.ids();
    project.compose(&["up", "-d"]).exits(0);
    assert_eq!(project.ids(), before, "the same variables change nothing");
    project.compose(&["down", "-t", "0"]).exits(0);
    let calls = std::fs::read_to_string(project.engine.directory().join("app/calls")).expect("calls");
    let up = "compose --project-name app up --size=big --tag=a --tag=b my-db";
    assert_eq!(calls, format!("{up}\n{up}\n{}\n", up.replace(" up ", " down ")));
    std::fs::write(&program, "#!/bin/sh\necho '{\"type\": \"error\", \"message\": \"no quota\"}'\n")
        .expect("a program");
    project.compose(&["up", "-d"]).exits(1).complains("the provider of service \"my-db\" says: no quota");
    project.write(&text.replace("./cloud", "nowhere"));
    project.compose(&["up", "-d"]).exits(1).complains("docker-nowhere");
}
