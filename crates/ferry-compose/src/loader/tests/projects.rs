//! Names, places, profiles, warnings.

use super::*;

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
