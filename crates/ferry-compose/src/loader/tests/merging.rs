//! Files laid on each other: overrides, several documents, `extends`, `include`.

use super::*;

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
