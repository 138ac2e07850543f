//! Golden tests of the loader: a file, a path into the result, and what stands there.

use super::{LoadError, Loaded, Request, load};
use crate::files::MemoryFiles;
use crate::tree::Node;
use std::path::PathBuf;

struct Case {
    files: Vec<(&'static str, String)>,
    request: Request,
}

fn app(text: &str) -> Case {
    Case {
        files: vec![("/app/compose.yaml", text.to_owned())],
        request: Request { working_dir: "/app".into(), ..Request::default() },
    }
}

impl Case {
    fn file(mut self, path: &'static str, text: &str) -> Self {
        self.files.push((path, text.to_owned()));
        self
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.request.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    fn with(mut self, change: impl FnOnce(&mut Request)) -> Self {
        change(&mut self.request);
        self
    }

    fn load(&self) -> Result<Loaded, Box<LoadError>> {
        let files = self.files.iter().map(|(path, text)| (PathBuf::from(path), text.clone().into_bytes()));
        load(&self.request, &MemoryFiles(files.collect()))
    }

    fn get(&self, path: &str) -> String {
        match self.load() {
            Ok(loaded) => at(&loaded.project.tree, path),
            Err(error) => format!("! {error}"),
        }
    }

    fn error(&self) -> String {
        match self.load() {
            Ok(loaded) => format!("loaded: {}", loaded.project.tree.to_json()),
            Err(error) => {
                error.report.diagnostics.iter().map(|d| d.message.clone()).collect::<Vec<_>>().join("; ")
            }
        }
    }

    fn warnings(&self) -> String {
        match self.load() {
            Ok(loaded) => loaded.report.warnings().map(|d| d.message.clone()).collect::<Vec<_>>().join("; "),
            Err(error) => format!("! {error}"),
        }
    }
}

fn at(tree: &Node, path: &str) -> String {
    let mut node = tree;
    for part in path.split('/').filter(|part| !part.is_empty()) {
        let next = match part.parse::<usize>() {
            Ok(index) if node.as_sequence().is_some() => {
                node.as_sequence().and_then(|items| items.get(index))
            }
            _ => node.get(part),
        };
        match next {
            Some(found) => node = found,
            None => return "absent".to_owned(),
        }
    }
    node.to_json().to_string()
}

/// The value at `services/w/PATH` of a service `w` with one attribute given in flow style.
fn service(attribute: &str, path: &str) -> String {
    let (key, _) = attribute.split_once(':').unwrap();
    let path = if path.is_empty() { key.to_owned() } else { path.to_owned() };
    let extra = "networks: {front: {}, back: {}}\nvolumes: {data: {}, v: {}}\nsecrets: {s: {file: ./s}}\nconfigs: {c: {file: ./c}}\n";
    app(&format!("services:\n  w:\n    image: i\n    {attribute}\n  db: {{image: d}}\n{extra}"))
        .get(&format!("services/w/{path}"))
}

#[test]
fn canonical_form_of_every_short_syntax() {
    for (attribute, path, expected) in [
        ("environment: [A=1, B, C=]", "", r#"{"A":"1","B":null,"C":""}"#),
        (
            "environment: {A: 1, B: true, C: null, D: 1.5, E: x}",
            "",
            r#"{"A":"1","B":"true","C":null,"D":"1.5","E":"x"}"#,
        ),
        ("environment: [A=1, A=2]", "", r#"{"A":"2"}"#),
        ("environment: ['A=b=c']", "", r#"{"A":"b=c"}"#),
        ("labels: [a=1, b]", "", r#"{"a":"1","b":""}"#),
        ("labels: {a: 1, b: null}", "", r#"{"a":"1","b":""}"#),
        ("annotations: [a=1]", "", r#"{"a":"1"}"#),
        ("sysctls: {net.core.somaxconn: 1024}", "", r#"{"net.core.somaxconn":"1024"}"#),
        ("sysctls: [net.core.somaxconn=1024]", "", r#"{"net.core.somaxconn":"1024"}"#),
        ("command: a 'b c'", "", r#"["a","b c"]"#),
        ("command: [a, b c]", "", r#"["a","b c"]"#),
        ("command: []", "", "[]"),
        ("command: ''", "", "[]"),
        ("command: null", "", "null"),
        ("command: echo $$HOME", "", r#"["echo","$HOME"]"#),
        ("entrypoint: /e x", "", r#"["/e","x"]"#),
        ("depends_on: [db]", "", r#"{"db":{"condition":"service_started","required":true}}"#),
        (
            "depends_on: {db: {condition: service_healthy}}",
            "",
            r#"{"db":{"condition":"service_healthy","required":true}}"#,
        ),
        (
            "depends_on: {db: {condition: service_started, restart: true, required: false}}",
            "",
            r#"{"db":{"condition":"service_started","restart":true,"required":false}}"#,
        ),
        ("dns: 1.1.1.1", "", r#"["1.1.1.1"]"#),
        ("dns_search: a.b", "", r#"["a.b"]"#),
        ("tmpfs: /run", "", r#"["/run"]"#),
        ("expose: [80, '90-91', '53/udp']", "", r#"["80","90-91","53/udp"]"#),
        ("group_add: [1000, docker]", "", r#"["1000","docker"]"#),
        ("extra_hosts: ['a:1.2.3.4', b=::1]", "", r#"["a=1.2.3.4","b=::1"]"#),
        ("extra_hosts: {a: 1.2.3.4, b: ['1.1.1.1', '[::1]']}", "", r#"["a=1.2.3.4","b=1.1.1.1","b=::1"]"#),
        ("extra_hosts: ['a:host-gateway']", "", r#"["a=host-gateway"]"#),
        ("healthcheck: {test: curl x}", "healthcheck/test", r#"["CMD-SHELL","curl x"]"#),
        ("healthcheck: {test: [CMD, a]}", "healthcheck/test", r#"["CMD","a"]"#),
        ("healthcheck: {interval: 90s}", "healthcheck/interval", r#""1m30s""#),
        ("healthcheck: {retries: '3'}", "healthcheck/retries", "3"),
        ("networks: [front, back]", "", r#"{"front":null,"back":null}"#),
        ("networks: {front: {aliases: [x]}}", "", r#"{"front":{"aliases":["x"]}}"#),
        ("networks: []", "", r#"{"default":null}"#),
        ("networks: {}", "", r#"{"default":null}"#),
        ("ports: ['80']", "", r#"[{"mode":"ingress","target":80,"protocol":"tcp"}]"#),
        ("ports: [80]", "", r#"[{"mode":"ingress","target":80,"protocol":"tcp"}]"#),
        (
            "ports: ['8080:80', '127.0.0.1:8080:80']",
            "",
            r#"[{"mode":"ingress","target":80,"published":"8080","protocol":"tcp"},{"mode":"ingress","host_ip":"127.0.0.1","target":80,"published":"8080","protocol":"tcp"}]"#,
        ),
        (
            "ports: ['8080:80', '8080:80/tcp']",
            "",
            r#"[{"mode":"ingress","target":80,"published":"8080","protocol":"tcp"}]"#,
        ),
        (
            "ports: [{target: 80, published: 8080}]",
            "",
            r#"[{"target":80,"published":"8080","mode":"ingress","protocol":"tcp"}]"#,
        ),
        ("ports: [22:22]", "ports/0/published", r#""22""#),
        (
            "volumes: ['data:/x:ro']",
            "",
            r#"[{"type":"volume","source":"data","target":"/x","read_only":true,"volume":{}}]"#,
        ),
        (
            "volumes: ['./a:/x']",
            "",
            r#"[{"type":"bind","source":"/app/a","target":"/x","bind":{"create_host_path":true}}]"#,
        ),
        ("volumes: ['../a:/x']", "volumes/0/source", r#""/a""#),
        ("volumes: ['/x']", "", r#"[{"type":"volume","target":"/x","volume":{}}]"#),
        ("volumes: [{type: tmpfs, target: /t, tmpfs: {size: 1m}}]", "volumes/0/tmpfs/size", r#""1048576""#),
        (
            "volumes: [{type: bind, source: ./a, target: /x/}]",
            "",
            r#"[{"type":"bind","source":"/app/a","target":"/x"}]"#,
        ),
        (
            "volumes: ['data:/x', 'v:/x']",
            "volumes",
            r#"[{"type":"volume","source":"v","target":"/x","volume":{}}]"#,
        ),
        ("secrets: [s]", "", r#"[{"source":"s"}]"#),
        (
            "configs: [{source: c, target: /c, mode: 0440}]",
            "",
            r#"[{"source":"c","target":"/c","mode":288}]"#,
        ),
        ("env_file: [{path: ./none, required: false}]", "environment", "absent"),
        ("devices: ['/dev/a:/dev/b:r']", "", r#"[{"source":"/dev/a","target":"/dev/b","permissions":"r"}]"#),
        ("gpus: all", "", r#"[{"count":"all"}]"#),
        ("mem_limit: 512m", "", r#""536870912""#),
        ("shm_size: 64k", "", r#""65536""#),
        ("memswap_limit: -1", "", r#""-1""#),
        ("stop_grace_period: 90s", "", r#""1m30s""#),
        (
            "deploy: {resources: {limits: {cpus: 0.5, memory: 1g}}}",
            "deploy/resources/limits",
            r#"{"cpus":"0.5","memory":"1073741824"}"#,
        ),
        (
            "ulimits: {nofile: 1024, nproc: {soft: 1, hard: 2}}",
            "",
            r#"{"nofile":1024,"nproc":{"soft":1,"hard":2}}"#,
        ),
        ("logging: {driver: json-file, options: {max-file: 3}}", "logging/options", r#"{"max-file":"3"}"#),
        ("build: .", "", r#"{"context":"/app","dockerfile":"Dockerfile"}"#),
        ("build: {args: [A=1, B]}", "build/args", r#"{"A":"1"}"#),
        ("build: {dockerfile_inline: FROM x}", "build/dockerfile", "absent"),
        (
            "build: https://github.com/a/b.git#main:sub",
            "build/context",
            r#""https://github.com/a/b.git#main:sub""#,
        ),
        ("build: {context: ./x, ssh: [default]}", "build/context", r#""/app/x""#),
        (
            "build: {additional_contexts: [a=./b, c=docker-image://d, e=service:db]}",
            "build/additional_contexts",
            r#"{"a":"/app/b","c":"docker-image://d","e":"service:db"}"#,
        ),
        ("pull_policy: if_not_present", "", r#""missing""#),
        ("privileged: 'yes'", "", "true"),
        ("init: on", "", "true"),
        ("scale: '2'", "", "2"),
        (
            "links: [db]",
            "depends_on",
            r#"{"db":{"condition":"service_started","restart":true,"required":true}}"#,
        ),
        ("links: ['db:x']", "depends_on/db/restart", "true"),
        ("network_mode: service:db", "depends_on/db/condition", r#""service_started""#),
        ("network_mode: host", "networks", "absent"),
        ("ipc: service:db", "depends_on/db/restart", "true"),
        ("pid: service:db", "depends_on/db/restart", "true"),
        ("volumes_from: ['db:ro']", "depends_on/db/restart", "false"),
        ("volumes_from: ['container:x']", "depends_on", "absent"),
        ("post_start: [{command: a b}]", "post_start/0/command", r#"["a","b"]"#),
        ("pre_stop: [{command: [a], environment: [X=1]}]", "pre_stop/0/environment", r#"{"X":"1"}"#),
        (
            "develop: {watch: [{path: ./src, action: sync, target: /x, ignore: a/}]}",
            "develop/watch/0",
            r#"{"path":"/app/src","action":"sync","target":"/x","ignore":["a/"]}"#,
        ),
        ("x-any: {a: '${UNSET-d}'}", "", r#"{"a":"d"}"#),
        ("cap_add: [ALL, ALL]", "", r#"["ALL"]"#),
        (
            "security_opt: ['seccomp=./p.json', no-new-privileges]",
            "",
            r#"["seccomp=/app/p.json","no-new-privileges"]"#,
        ),
        ("cpus: '1.5'", "", "1.5"),
        ("restart: no", "", r#""no""#),
    ] {
        assert_eq!(service(attribute, path), expected, "{attribute}");
    }
}

#[test]
fn errors_of_one_attribute() {
    for (attribute, expected) in [
        ("ports: ['80:a']", "invalid port \"80:a\""),
        ("ports: ['70000']", "not a port number"),
        (
            "mem_limit: 5x",
            "services.w.mem_limit: invalid size \"5x\": the unit \"x\" is none of b, k, m, g, t, p",
        ),
        ("stop_grace_period: 5", "services.w.stop_grace_period must be a string"),
        ("stop_grace_period: '5'", "a unit is missing"),
        ("healthcheck: {interval: 5 sec}", "invalid duration \"5 sec\""),
        ("healthcheck: {test: [curl, x]}", "begins with none of NONE, CMD, CMD-SHELL"),
        ("healthcheck: {start_interval: 1s}", "start_interval without start_period"),
        ("depends_on: [bd]", "depends on undefined service \"bd\""),
        ("depends_on: [w]", "dependency cycle: w -> w"),
        ("networks: [fornt]", "refers to undefined network fornt"),
        ("volumes: ['dta:/x']", "refers to undefined volume dta"),
        ("volumes: ['data:x']", "must be absolute"),
        ("secrets: [t]", "refers to undefined secret t"),
        ("configs: [t]", "refers to undefined config t"),
        ("restart: sometimes", "has restart \"sometimes\""),
        ("restart: on-failure:x", "has restart \"on-failure:x\""),
        ("network_mode: service:x", "shares network_mode with undefined service \"x\""),
        ("volumes_from: [x]", "takes volumes from undefined service \"x\""),
        ("command: a 'b", "a quote in \"a 'b\" is never closed"),
        ("dns: abc", "not an IP address"),
        ("privileged: maybe", "services.w.privileged must be a boolean, not \"maybe\""),
        ("scale: many", "services.w.scale must be an integer, not \"many\""),
        ("container_name: a b", "not a valid value"),
        ("user: ${X:?set X}", "required variable X is missing a value: set X"),
        ("hostname: ${bad-", "invalid template"),
        ("tmpfs: [/x, '/x:size=1m']", "loaded"),
        (
            "cpus: 1\n    deploy: {resources: {limits: {cpus: '2'}}}",
            "sets cpus and deploy.resources.limits.cpus to different values",
        ),
        ("scale: 2\n    deploy: {replicas: 3}", "has scale 2, but deploy.replicas 3"),
        ("scale: 2\n    container_name: ab", "which 2 containers cannot share"),
        ("network_mode: host\n    networks: [front]", "mutually exclusive network_mode and networks"),
        ("gpus: [{count: 1, device_ids: ['0']}]", "by both count and device_ids"),
        (
            "platform: linux/arm64\n    build: {platforms: [linux/amd64]}",
            "which its build.platforms do not contain",
        ),
        ("develop: {watch: [{path: ., action: sync}]}", "without a target"),
        ("volumes: ['data:/x']\n    tmpfs: /x", "mounts /x twice"),
        ("build: {dockerfile: A, dockerfile_inline: B}", "both dockerfile and dockerfile_inline"),
        ("extra_hosts: [abc]", "not HOST=ADDRESS"),
        ("devices: ['/a:/b:zz']", "invalid device"),
        ("environment: [1]", "services.w.environment[0] must be a string, not an integer (1)"),
        ("ports: {a: b}", "services.w.ports must be a list, not a mapping"),
        ("oom_score_adj: 2000", "must be between -1000 and 1000"),
    ] {
        let extra = "networks: {front: {}}\nvolumes: {data: {}}\n";
        let text = format!("services:\n  w:\n    image: i\n    {attribute}\n  db: {{image: d}}\n{extra}");
        let error = app(&text).error();
        assert!(error.contains(expected), "{attribute}: {error}");
    }
}

#[test]
fn interpolation_and_environment() {
    let text = "services: {w: {image: 'i:${TAG:-latest}'}}";
    for (case, expected) in [
        (app(text), r#""i:latest""#),
        (app(text).env("TAG", "1"), r#""i:1""#),
        (app(text).file("/app/.env", "TAG=2"), r#""i:2""#),
        (app(text).file("/app/.env", "TAG=2").env("TAG", "1"), r#""i:1""#),
        (app(text).file("/app/.env", "TAG=2").env("COMPOSE_DISABLE_ENV_FILE", "1"), r#""i:latest""#),
        (
            app(text)
                .file("/app/.env", "TAG=2")
                .file("/app/other", "TAG=3")
                .with(|r| r.env_files = vec!["other".into()]),
            r#""i:3""#,
        ),
        (
            app(text)
                .file("/app/a", "TAG=3")
                .file("/app/b", "TAG=4")
                .with(|r| r.env_files = vec!["a".into(), "b".into()]),
            r#""i:4""#,
        ),
        (app(text).file("/app/a", "TAG=5").env("COMPOSE_ENV_FILES", "a"), r#""i:5""#),
        (app(text).with(|r| r.env_files = vec!["none".into()]), "! error: couldn't find env file: /app/none"),
        (app("services: {w: {image: '$COMPOSE_PROJECT_NAME'}}"), r#""app""#),
        (app("services: {w: {image: \"$${X}\"}}"), r#""${X}""#),
    ] {
        assert_eq!(case.get("services/w/image"), expected);
    }
    assert_eq!(
        app("services: {w: {image: '$NO'}}").warnings(),
        "the \"NO\" variable is not set, it becomes an empty string"
    );
    let unset = app("services: {w: {image: i, environment: [A, B, C=c]}}").env("A", "1");
    assert_eq!(unset.get("services/w/environment"), r#"{"A":"1","B":null,"C":"c"}"#);
}

#[test]
fn env_files_of_services() {
    let env_file = |text: &str, environment: &str| {
        app(&format!("services: {{w: {{image: i, env_file: f.env{environment}}}}}")).file("/app/f.env", text)
    };
    for (case, expected) in [
        (env_file("A=1", ""), r#"{"A":"1"}"#),
        (env_file("A=1\nB=$A", ""), r#"{"A":"1","B":"1"}"#),
        (env_file("A=1", ", environment: {A: 2, C: 3}"), r#"{"A":"2","C":"3"}"#),
        (env_file("A=$X", ", environment: {X: 9}"), r#"{"A":"9","X":"9"}"#),
        (env_file("A=$X", ", environment: {X: 9}").env("X", "8"), r#"{"A":"8","X":"9"}"#),
        (env_file("A", "").env("A", "in"), r#"{"A":"in"}"#),
        (env_file("A", ""), "absent"),
        (
            app("services: {w: {image: i, env_file: [{path: f, format: raw}]}}").file("/app/f", "A=\"$X\""),
            r#"{"A":"\"$X\""}"#,
        ),
        (
            app("services: {w: {image: i, env_file: [a, b]}}")
                .file("/app/a", "A=1\nB=1")
                .file("/app/b", "B=2"),
            r#"{"A":"1","B":"2"}"#,
        ),
    ] {
        assert_eq!(case.get("services/w/environment"), expected);
    }
    assert!(
        app("services: {w: {image: i, env_file: none}}")
            .error()
            .contains("cannot read /app/none: no such file")
    );
    // Only what takes part is read.
    let two = app("services: {w: {image: i}, v: {image: i, env_file: none}}");
    assert!(two.with(|r| r.services = vec!["w".into()]).load().is_ok());
    let labels = app("services: {w: {image: i, label_file: l, labels: {a: 2}}}").file("/app/l", "a=1\nb=1");
    assert_eq!(labels.get("services/w/labels"), r#"{"a":"2","b":"1"}"#);
}

/// A service of a base file with an override file laid on it.
fn merged(base: &str, over: &str, path: &str) -> String {
    let file = |attribute: &str| format!("services:\n  w:\n    {attribute}\n");
    app(&format!("{}    image: i\n  db: {{image: i}}\n  dc: {{image: i}}\nvolumes: {{a: {{}}, b: {{}}}}\nnetworks: {{a: {{}}, b: {{}}}}\n", file(base)))
        .file("/app/compose.override.yaml", &file(over))
        .get(&format!("services/w/{path}"))
}

#[test]
fn merge_rules() {
    for (base, over, path, expected) in [
        ("user: a", "user: b", "user", r#""b""#),
        ("user: a", "user: null", "user", r#""a""#),
        ("command: [a, b]", "command: [c]", "command", r#"["c"]"#),
        ("command: a", "command: null", "command", r#"["a"]"#),
        ("entrypoint: [a]", "entrypoint: b c", "entrypoint", r#"["b","c"]"#),
        (
            "environment: {A: 1, B: 1}",
            "environment: [B=2, C=2]",
            "environment",
            r#"{"A":"1","B":"2","C":"2"}"#,
        ),
        ("labels: [a=1]", "labels: {a: 2, b: 2}", "labels", r#"{"a":"2","b":"2"}"#),
        (
            "ports: ['80:80']",
            "ports: ['80:80', '81:81']",
            "ports",
            r#"[{"mode":"ingress","target":80,"published":"80","protocol":"tcp"},{"mode":"ingress","target":81,"published":"81","protocol":"tcp"}]"#,
        ),
        (
            "volumes: ['a:/x', 'a:/y']",
            "volumes: ['b:/x']",
            "volumes",
            r#"[{"type":"volume","source":"b","target":"/x","volume":{}},{"type":"volume","source":"a","target":"/y","volume":{}}]"#,
        ),
        ("cap_add: [A]", "cap_add: [B, A]", "cap_add", r#"["A","B"]"#),
        ("dns: 1.1.1.1", "dns: [2.2.2.2, 1.1.1.1]", "dns", r#"["1.1.1.1","2.2.2.2"]"#),
        (
            "depends_on: [db]",
            "depends_on: {db: {condition: service_healthy}}",
            "depends_on",
            r#"{"db":{"condition":"service_healthy","required":true}}"#,
        ),
        ("depends_on: [db]", "depends_on: [dc]", "depends_on/dc/required", "true"),
        ("networks: [a]", "networks: {b: {aliases: [x]}}", "networks", r#"{"a":null,"b":{"aliases":["x"]}}"#),
        ("networks: {a: {aliases: [x]}}", "networks: [a]", "networks", r#"{"a":{"aliases":["x"]}}"#),
        (
            "networks: {a: {aliases: [x]}}",
            "networks: {a: {aliases: [y, x]}}",
            "networks/a/aliases",
            r#"["x","y"]"#,
        ),
        (
            "build: ./a",
            "build: {target: t}",
            "build",
            r#"{"context":"/app/a","target":"t","dockerfile":"Dockerfile"}"#,
        ),
        ("build: {args: {A: 1}}", "build: {args: [A=2]}", "build/args", r#"{"A":"2"}"#),
        (
            "healthcheck: {test: a, retries: 2}",
            "healthcheck: {test: [NONE]}",
            "healthcheck",
            r#"{"test":["NONE"],"retries":2}"#,
        ),
        (
            "logging: {driver: a, options: {x: 1}}",
            "logging: {options: {y: 2}}",
            "logging",
            r#"{"driver":"a","options":{"x":"1","y":"2"}}"#,
        ),
        (
            "logging: {driver: a, options: {x: 1}}",
            "logging: {driver: b, options: {y: 2}}",
            "logging",
            r#"{"driver":"b","options":{"y":"2"}}"#,
        ),
        (
            "ulimits: {nofile: 1}",
            "ulimits: {nofile: {soft: 1, hard: 2}}",
            "ulimits",
            r#"{"nofile":{"soft":1,"hard":2}}"#,
        ),
        ("ulimits: {nofile: {soft: 1, hard: 2}}", "ulimits: {nofile: 5}", "ulimits", r#"{"nofile":5}"#),
        ("tmpfs: /x", "tmpfs: ['/x:size=1m', /y]", "tmpfs", r#"["/x:size=1m","/y"]"#),
        (
            "extra_hosts: [a=1.1.1.1]",
            "extra_hosts: [a=1.1.1.1, a=2.2.2.2]",
            "extra_hosts",
            r#"["a=1.1.1.1","a=2.2.2.2"]"#,
        ),
        ("security_opt: [a]", "security_opt: [a, b]", "security_opt", r#"["a","b"]"#),
        (
            "deploy: {replicas: 1, labels: [a=1]}",
            "deploy: {replicas: 2, labels: {b: 2}}",
            "deploy",
            r#"{"replicas":2,"labels":{"a":"1","b":"2"}}"#,
        ),
        ("ports: ['80:80']", "ports: !reset []", "ports", "absent"),
        (
            "ports: ['80:80']",
            "ports: !override ['81:81']",
            "ports",
            r#"[{"mode":"ingress","target":81,"published":"81","protocol":"tcp"}]"#,
        ),
        ("environment: {A: 1, B: 1}", "environment: {A: !reset null}", "environment", r#"{"B":"1"}"#),
        ("environment: {A: 1, B: 1}", "environment: !override {C: 1}", "environment", r#"{"C":"1"}"#),
        ("command: a", "command: !reset null", "command", "absent"),
        ("x-a: {b: 1}", "x-a: {c: 2}", "x-a", r#"{"b":1,"c":2}"#),
        ("secrets: []", "user: x", "user", r#""x""#),
        (
            "post_start: [{command: a}]",
            "post_start: [{command: a}]",
            "post_start",
            r#"[{"command":["a"]},{"command":["a"]}]"#,
        ),
        (
            "devices: ['/dev/a:/dev/x']",
            "devices: ['/dev/b:/dev/x']",
            "devices",
            r#"[{"source":"/dev/b","target":"/dev/x","permissions":"rwm"}]"#,
        ),
    ] {
        assert_eq!(merged(base, over, path), expected, "{base} + {over}");
    }
}

#[test]
fn documents_of_one_file_are_merged() {
    let case = app("services: {w: {image: a, user: u}}\n---\nservices: {w: {image: b}}\n---\n");
    assert_eq!(case.get("services/w"), r#"{"image":"b","user":"u","networks":{"default":null}}"#);
    let ipam = app(
        "services: {}\nnetworks: {n: {ipam: {config: [{subnet: 10.0.0.0/8}]}}}\n---\nnetworks: {n: {ipam: {config: [{subnet: 10.0.0.0/8, gateway: 10.0.0.1}]}}}",
    );
    assert_eq!(
        ipam.with(|r| r.all_resources = true).get("networks/n/ipam/config"),
        r#"[{"subnet":"10.0.0.0/8","gateway":"10.0.0.1"}]"#
    );
}

#[test]
fn extends() {
    for (case, path, expected) in [
        (
            app("services: {b: {image: i, environment: {A: 1}}, w: {extends: b, environment: {B: 2}}}"),
            "environment",
            r#"{"A":"1","B":"2"}"#,
        ),
        (app("services: {b: {image: i}, w: {extends: {service: b}}}"), "image", r#""i""#),
        (app("services: {c: {image: i}, b: {extends: c, user: u}, w: {extends: b}}"), "user", r#""u""#),
        (
            app("services: {w: {extends: {file: x/f.yaml, service: b}}}")
                .file("/app/x/f.yaml", "services: {b: {image: i, volumes: ['./d:/d']}}"),
            "volumes/0/source",
            r#""/app/x/d""#,
        ),
        (
            app("services: {w: {extends: {file: x/f.yaml, service: b}}}")
                .file("/app/x/f.yaml", "services: {b: {extends: {file: g.yaml, service: c}}}")
                .file("/app/x/g.yaml", "services: {c: {image: deep}}"),
            "image",
            r#""deep""#,
        ),
        (
            app("services: {b: {image: i, ports: ['80:80']}, w: {extends: b, ports: !reset []}}"),
            "ports",
            "absent",
        ),
        (
            app("services: {b: {image: i, ports: ['80:80']}, w: {extends: b, ports: !override ['81:81']}}"),
            "ports/0/target",
            "81",
        ),
        (
            app("services: {b: {image: i, profiles: [p]}, w: {extends: b, profiles: !reset []}}"),
            "image",
            r#""i""#,
        ),
        (
            app("services: {w: {extends: {file: f.yaml, service: b}}}")
                .file("/app/f.yaml", "services: {b: {image: 'x:${T}'}}")
                .env("T", "9"),
            "image",
            r#""x:9""#,
        ),
        (
            app("services: {b: {image: i, command: [a]}, w: {extends: b, command: [c]}}"),
            "command",
            r#"["c"]"#,
        ),
    ] {
        assert_eq!(case.get(&format!("services/w/{path}")), expected);
    }
    for (case, expected) in [
        (app("services: {w: {extends: nope}}"), "cannot extend service \"nope\": it is not defined"),
        (
            app("services: {a: {extends: b}, b: {extends: a}}"),
            "services extend each other in a cycle: a -> b -> a",
        ),
        (app("services: {w: {extends: {file: none.yaml, service: b}}}"), "cannot read /app/none.yaml"),
        (
            app("services: {w: {extends: {file: f.yaml, service: b}}}").file("/app/f.yaml", "services: {}"),
            "cannot extend service \"b\" in /app/f.yaml",
        ),
    ] {
        assert!(case.error().contains(expected), "{}", case.error());
    }
}

#[test]
fn a_reset_reaches_what_an_extended_service_brought() {
    let case = app("services: {b: {image: i, environment: {A: 1}}, w: {extends: b}}")
        .file("/app/compose.override.yaml", "services: {w: {environment: {A: !reset null, B: 2}}}");
    assert_eq!(case.get("services/w/environment"), r#"{"B":"2"}"#);
}

#[test]
fn include() {
    let main = "include: [sub/compose.yaml]\nservices: {w: {image: i, depends_on: [s]}}";
    let sub = "services: {s: {image: '${T:-none}', volumes: ['./d:/d']}}";
    for (case, path, expected) in [
        (app(main).file("/app/sub/compose.yaml", sub), "s/image", r#""none""#),
        (app(main).file("/app/sub/compose.yaml", sub), "s/volumes/0/source", r#""/app/sub/d""#),
        (app(main).file("/app/sub/compose.yaml", sub).file("/app/sub/.env", "T=sub"), "s/image", r#""sub""#),
        (
            app(main)
                .file("/app/sub/compose.yaml", sub)
                .file("/app/sub/.env", "T=sub")
                .file("/app/.env", "T=main"),
            "s/image",
            r#""main""#,
        ),
        (
            app("include: [{path: sub/c.yaml, env_file: e}]\nservices: {}")
                .file("/app/sub/c.yaml", sub)
                .file("/app/e", "T=e"),
            "s/image",
            r#""e""#,
        ),
        (
            app("include: [{path: sub/c.yaml, env_file: /dev/null}]\nservices: {}")
                .file("/app/sub/c.yaml", sub)
                .file("/app/sub/.env", "T=no"),
            "s/image",
            r#""none""#,
        ),
        (
            app("include: [{path: sub/c.yaml, project_directory: /p}]\nservices: {}")
                .file("/app/sub/c.yaml", sub),
            "s/volumes/0/source",
            r#""/p/d""#,
        ),
        (
            app("include: [{path: [sub/c.yaml, sub/o.yaml]}]\nservices: {}")
                .file("/app/sub/c.yaml", sub)
                .file("/app/sub/o.yaml", "services: {s: {image: o}}"),
            "s/image",
            r#""o""#,
        ),
        (
            app("include: [sub/c.yaml]\nservices: {s: {image: mine}}").file("/app/sub/c.yaml", sub),
            "s/image",
            r#""mine""#,
        ),
        (
            app("include: [sub/c.yaml, sub/c.yaml]\nservices: {}")
                .file("/app/sub/c.yaml", "services: {s: {image: i, post_start: [{command: a}]}}"),
            "s/post_start",
            r#"[{"command":["a"]}]"#,
        ),
        (
            app("include: [a.yaml]\nservices: {}")
                .file("/app/a.yaml", "include: [x/b.yaml]")
                .file("/app/x/b.yaml", "services: {s: {image: deep}}"),
            "s/image",
            r#""deep""#,
        ),
        (
            app("include: [sub/c.yaml]\nservices: {s: {ports: !reset []}}")
                .file("/app/sub/c.yaml", "services: {s: {image: i, ports: ['80']}}"),
            "s/ports",
            "absent",
        ),
    ] {
        assert_eq!(case.get(&format!("services/{path}")), expected);
    }
    for (case, expected) in [
        (app("include: [none.yaml]"), "included file /app/none.yaml does not exist"),
        (
            app("include: [a.yaml]")
                .file("/app/a.yaml", "include: [b.yaml]")
                .file("/app/b.yaml", "include: [a.yaml]"),
            "include cycle",
        ),
        (app("include: ['oci://x/y']"), "is not a local file"),
    ] {
        assert!(case.error().contains(expected), "{}", case.error());
    }
}

#[test]
fn project_names() {
    let text = "services: {w: {image: i}}";
    for (case, expected) in [
        (app(text), "\"app\""),
        (app(&format!("name: n\n{text}")), "\"n\""),
        (app(&format!("name: n-$X\n{text}")).env("X", "1"), "\"n-1\""),
        (app(&format!("name: n\n{text}")).env("COMPOSE_PROJECT_NAME", "e"), "\"e\""),
        (
            app(&format!("name: n\n{text}"))
                .env("COMPOSE_PROJECT_NAME", "e")
                .with(|r| r.project_name = Some("p".into())),
            "\"p\"",
        ),
        (app(text).file("/app/.env", "COMPOSE_PROJECT_NAME=dot"), "\"dot\""),
        (
            app(text)
                .with(|r| r.project_directory = Some("/My Dir".into()))
                .with(|r| r.files = vec!["/app/compose.yaml".into()]),
            "\"mydir\"",
        ),
    ] {
        assert_eq!(case.get("name"), expected);
    }
    assert!(
        app(text)
            .with(|r| r.project_name = Some("Bad".into()))
            .error()
            .contains("invalid project name \"Bad\"")
    );
    assert_eq!(app(&format!("name: Bad Name\n{text}")).get("name"), "\"badname\"");
    assert!(app(&format!("name: '!!'\n{text}")).error().contains("invalid project name \"!!\""));
    let two = app(text)
        .file("/app/o.yaml", "name: second")
        .with(|r| r.files = vec!["compose.yaml".into(), "o.yaml".into()]);
    assert_eq!(two.get("name"), "\"second\"");
}

#[test]
fn files_are_found() {
    let web = "services: {w: {image: web}}";
    let none = || Case {
        files: vec![],
        request: Request { working_dir: "/app/deep/er".into(), ..Request::default() },
    };
    for (case, expected) in [
        (none().file("/app/compose.yaml", web), r#""web""#),
        (none().file("/app/docker-compose.yml", web), r#""web""#),
        (
            none()
                .file("/app/deep/docker-compose.yaml", "services: {w: {image: near}}")
                .file("/app/compose.yaml", web),
            r#""near""#,
        ),
        (
            none()
                .file("/app/compose.yml", web)
                .file("/app/docker-compose.override.yml", "services: {w: {image: over}}"),
            r#""over""#,
        ),
        (none().file("/x/c.yaml", web).with(|r| r.files = vec!["/x/c.yaml".into()]), r#""web""#),
        (none().file("/x/c.yaml", web).env("COMPOSE_FILE", "/x/c.yaml"), r#""web""#),
        (
            none()
                .file("/q/a.yaml", web)
                .file("/q/b.yaml", "services: {w: {image: b}}")
                .env("COMPOSE_FILE", "/q/a.yaml:/q/b.yaml"),
            r#""b""#,
        ),
        (
            none()
                .file("/q/a.yaml", web)
                .file("/q/b.yaml", "services: {w: {image: b}}")
                .env("COMPOSE_FILE", "/q/a.yaml,/q/b.yaml")
                .env("COMPOSE_PATH_SEPARATOR", ","),
            r#""b""#,
        ),
        (none().with(|r| (r.files, r.stdin) = (vec!["-".into()], Some(web.into()))), r#""web""#),
    ] {
        assert_eq!(case.get("services/w/image"), expected);
    }
    assert!(none().error().contains("no configuration file provided: not found"));
    assert!(
        none()
            .with(|r| r.files = vec!["x.yaml".into()])
            .error()
            .contains("cannot read /app/deep/er/x.yaml: no such file")
    );
    assert!(app("").error().contains("empty compose file"));
    assert!(app("- a").error().contains("a Compose file is a mapping, this one is a list"));
    // A file named with -f takes no override file with it.
    let alone = app(web).file("/app/compose.override.yaml", "services: {w: {image: over}}");
    assert_eq!(alone.with(|r| r.files = vec!["compose.yaml".into()]).get("services/w/image"), r#""web""#);
}

#[test]
fn profiles_and_selection() {
    let text = "services: {a: {image: i}, b: {image: i, profiles: [p]}, c: {image: i, profiles: [q], depends_on: [b]}}";
    let names = |case: Case| {
        case.load().map(|l| l.project.service_names().join(",")).unwrap_or_else(|e| format!("! {e}"))
    };
    assert_eq!(names(app(text)), "a");
    assert_eq!(names(app(text).with(|r| r.profiles = vec!["p".into()])), "a,b");
    assert_eq!(names(app(text).with(|r| r.profiles = vec!["*".into()])), "a,b,c");
    assert_eq!(names(app(text).env("COMPOSE_PROFILES", "p,q")), "a,b,c");
    assert_eq!(names(app(text).with(|r| r.services = vec!["b".into()])), "a,b");
    let missing = names(app(text).with(|r| r.services = vec!["c".into()]));
    assert!(
        missing.contains("service \"c\" depends on \"b\", which belongs to an inactive profile"),
        "{missing}"
    );
    assert!(missing.contains("activate it: --profile p"), "{missing}");
    let optional = "services: {a: {image: i, depends_on: {b: {condition: service_started, required: false}}}, b: {image: i, profiles: [p]}}";
    assert_eq!(names(app(optional)), "a");
}

#[test]
fn names_and_resources() {
    let text = "services: {w: {image: i, volumes: ['v:/v', 'e:/e'], networks: [n, o]}}\nvolumes: {v: , e: {external: true}, unused: {}}\nnetworks: {n: {name: real}, o: {external: {name: old}}, unused: {}}";
    for (path, expected) in [
        ("volumes", r#"{"v":{"name":"app_v"},"e":{"external":true,"name":"e"}}"#),
        ("networks", r#"{"n":{"name":"real"},"o":{"external":true,"name":"old"}}"#),
    ] {
        assert_eq!(app(text).get(path), expected);
    }
    assert_eq!(app(text).with(|r| r.all_resources = true).get("volumes/unused/name"), "\"app_unused\"");
    assert_eq!(app("services: {w: {image: i}}").get("networks"), r#"{"default":{"name":"app_default"}}"#);
    assert_eq!(app("services: {w: {image: i, network_mode: none}}").get("networks"), "absent");
    let device = "services: {w: {image: i, volumes: ['v:/v']}}\nvolumes: {v: {driver_opts: {type: none, o: bind, device: ./d}}}";
    assert_eq!(app(device).get("volumes/v/driver_opts/device"), "\"/app/d\"");
    for (text, expected) in [
        (
            "services: {}\nvolumes: {v: {external: true, driver: x}}",
            "volumes.v is external, so \"driver\" cannot be set",
        ),
        ("services: {}\nsecrets: {s: {file: a, environment: B}}", "secrets.s has file and environment"),
        ("services: {}\nsecrets: {s: {}}", "secrets.s needs one of file, environment"),
        ("services: {}\nconfigs: {c: {content: a, file: b}}", "configs.c has file and content"),
        ("services: {w: {}}", "has neither an image nor a build context specified"),
        ("services: {w: }", "must be a mapping, not null"),
        (
            "services: {a: {image: i, container_name: xx}, b: {image: i, container_name: xx}}",
            "have the same container_name \"xx\"",
        ),
        (
            "services: {a: {image: i, depends_on: [b]}, b: {image: i, depends_on: [c]}, c: {image: i, depends_on: [a]}}",
            "dependency cycle: a -> b -> c -> a",
        ),
    ] {
        let error = app(text).error();
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn warnings() {
    for (text, expected) in [
        ("version: '3'\nservices: {}", "the key \"version\" is obsolete and ignored"),
        (
            "services: {a: {image: i, ports: ['80:80']}, b: {image: i, ports: ['80:81']}}",
            "services \"a\" and \"b\" both publish host port 80",
        ),
        (
            "services: {a: {image: i, network_mode: host, ports: ['80:80']}}",
            "publishes ports, which network_mode: host ignores",
        ),
        ("services: {a: {image: i, tty: 'yes'}}", "\"yes\" is not a YAML 1.2 boolean"),
        ("services: {a: {image: i, volumes: ['/a:/b:zz']}}", "unknown option \"zz\" is ignored"),
    ] {
        assert!(app(text).warnings().contains(expected), "{text}: {}", app(text).warnings());
    }
}

#[test]
fn damaged_files_are_explained() {
    let flat = "version: '3.1'\nservices:\ndb:\nimage: mariadb\nenvironment:\nMYSQL\\_ROOT\\_PASSWORD: example\nports:\n\\- 8080:8080\n";
    let error = app(flat).get("");
    assert!(error.contains("\"db\" stands as far left as \"services\": the indentation was lost"), "{error}");
    assert!(error.contains("      MYSQL_ROOT_PASSWORD: example"), "{error}");
    assert!(error.contains("      - 8080:8080"), "{error}");
    let escaped = app("services:\n  db:\n    image: m\n    environment:\n      MYSQL\\_ROOT: x\n").get("");
    assert!(escaped.contains("MYSQL_ROOT"), "{escaped}");
    let tabs = app("services:\n\tdb:\n\t\timage: m\n").get("");
    assert!(tabs.contains("a tab indents this line"), "{tabs}");
}

#[test]
fn anchors_inside_extensions() {
    let text = "x-base: &base\n  restart: always\n  environment: &env {A: 1}\nservices:\n  w:\n    <<: *base\n    image: i\n    environment:\n      <<: *env\n      B: 2\n";
    assert_eq!(app(text).get("services/w/environment"), r#"{"B":"2","A":"1"}"#);
    assert_eq!(app(text).get("services/w/restart"), r#""always""#);
    assert_eq!(app(text).get("x-base/restart"), r#""always""#);
}

#[test]
fn without_interpolation_templates_stay() {
    let text = "services: {w: {image: '$X', ports: ['${P}:80'], mem_limit: '${M}', command: 'a $Y'}}";
    let case = || app(text).with(|r| r.steps.interpolate = false);
    assert_eq!(case().get("services/w/ports"), r#"["${P}:80"]"#);
    assert_eq!(case().get("services/w/command"), r#""a $Y""#);
    assert_eq!(case().get("services/w/mem_limit"), r#""${M}""#);
}

#[test]
fn the_output_loads_to_the_same_project() {
    let text = "services:\n  w:\n    image: i\n    command: echo $$HOME 'a b'\n    environment: {A: 'x: y', B: ''}\n    ports: ['8080:80']\n    volumes: ['./a:/a', 'v:/v:ro']\n    depends_on: [db]\n    healthcheck: {test: exit 0, interval: 5s}\n  db:\n    build: .\nvolumes: {v: }\n";
    let first = app(text).load().unwrap().project;
    let yaml = crate::output::to_yaml(&crate::output::presentable(&first.tree, true));
    let second = app(&yaml).load().unwrap_or_else(|e| panic!("{e}\n{yaml}")).project;
    let again = crate::output::to_yaml(&crate::output::presentable(&second.tree, true));
    assert_eq!(yaml, again);
    for name in ["w", "db"] {
        let node = |project: &crate::project::Project| {
            crate::hash::service(project.tree.get("services").unwrap().get(name).unwrap())
        };
        assert_eq!(node(&first), node(&second), "{name}");
    }
    first.services().unwrap();
}

#[test]
fn explanations_name_every_source() {
    let case = app("services: {w: {image: 'i:${TAG:-1}', user: a}}")
        .file("/app/compose.override.yaml", "services: {w: {user: b}}")
        .file("/app/.env", "TAG=7");
    let loaded = case.load().unwrap();
    let explain =
        |key: &str| crate::explain::explain(&loaded.project, &loaded.sources, key).unwrap_or_default();
    assert_eq!(
        explain("services.w.user"),
        "services.w.user = b\n  overridden: /app/compose.yaml:1:44  a\n  from /app/compose.override.yaml:1:22  b\n"
    );
    assert_eq!(
        explain("services.w.image"),
        "services.w.image = i:7\n  from /app/compose.yaml:1:23  i:7\n    TAG = \"7\" from /app/.env:1\n"
    );
    assert_eq!(explain("TAG"), "TAG = 7\n  from /app/.env:1\n");
    assert_eq!(
        explain("services.w.networks"),
        "services.w.networks = {\"default\":null}\n  derived: no file sets it\n"
    );
    assert_eq!(explain("nothing"), "");
}

#[test]
fn config_output_golden() {
    let text = "services:\n  web:\n    image: hello\n    ports: ['8080:80']\n    environment: {B: 1, A: x}\n    volumes: ['data:/d']\n    healthcheck: {test: exit 0, interval: 90s}\n    depends_on: [db]\n  db:\n    build: ./db\nvolumes: {data: }\nx-note: {a: 1}\n";
    let project = app(text).load().unwrap().project;
    expect_test::expect![[r#"
        name: app
        services:
          db:
            build:
              context: /app/db
              dockerfile: Dockerfile
            command: null
            entrypoint: null
            networks:
              default: null
          web:
            command: null
            depends_on:
              db:
                condition: service_started
                required: true
            entrypoint: null
            environment:
              A: x
              B: "1"
            healthcheck:
              interval: 1m30s
              test:
                - CMD-SHELL
                - exit 0
            image: hello
            networks:
              default: null
            ports:
              - mode: ingress
                target: 80
                published: "8080"
                protocol: tcp
            volumes:
              - type: volume
                source: data
                target: /d
                volume: {}
        networks:
          default:
            name: app_default
        volumes:
          data:
            name: app_data
        x-note:
          a: 1
    "#]]
    .assert_eq(&crate::output::to_yaml(&crate::output::presentable(&project.tree, true)));
}

#[test]
fn a_thousand_services_load_and_ten_megabytes_do_not() {
    let mut text = String::from("services:\n");
    for n in 0..1000 {
        text += &format!(
            "  s{n}:\n    image: i:{n}\n    environment: [A={n}, 'B=${{X:-y}}']\n    ports: ['{}:80']\n    volumes: ['v:/v']\n",
            10000 + n
        );
        if n > 0 {
            text += &format!("    depends_on: [s{}]\n", n - 1);
        }
    }
    text += "volumes: {v: }\n";
    let loaded = app(&text).load().unwrap();
    assert_eq!(loaded.project.services().unwrap().len(), 1000);
    let big = format!("services: {{}}\n#{}", "x".repeat(10 << 20));
    assert_eq!(app(&big).error(), "cannot read /app/compose.yaml: it is larger than 4 MiB");
}

proptest::proptest! {
    /// Whatever the bytes: an answer or diagnostics, never a panic.
    #[test]
    fn any_text_is_loaded_or_refused(text in "\\PC{0,200}", yaml in "(services|x|image|ports|volumes|<<|&a|\\*a|!reset|-|:|\\{|\\}|\\[|\\]|,|\"|'|\\$|80| |\n){0,60}") {
        let _ = app(&text).load();
        let _ = app(&yaml).load();
        let _ = app(&format!("services:\n  w:\n    image: i\n    {text}\n")).load();
        let _ = app("services: {w: {image: i, env_file: f}}").file("/app/f", &text).file("/app/.env", &text).load();
        let mut found = std::collections::BTreeSet::new();
        crate::interpolate::variables(&text, &mut found);
        let _ = crate::interpolate::substitute(&text, &|_| None, &mut |_| {});
    }

    /// Values that look like attributes of every kind.
    #[test]
    fn any_value_of_an_attribute_is_answered(key in proptest::sample::select(crate::schema::service_attributes()), value in "(a|1|:|/|-|\\[|\\]|\\{|\\}|,|=| |\"|\\$\\{X\\}|m|s|~|\\.){0,12}") {
        if let Ok(loaded) = app(&format!("services:\n  w:\n    image: i\n    {key}: {value}\n")).load() {
            loaded.project.services().unwrap();
            let _ = crate::output::to_yaml(&crate::output::presentable(&loaded.project.tree, true));
        }
    }
}
