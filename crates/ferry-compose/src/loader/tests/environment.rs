//! Variables, env files, and how much of them a project sees.

use super::*;

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

#[test]
fn without_interpolation_templates_stay() {
    let text = "services: {w: {image: '$X', ports: ['${P}:80'], mem_limit: '${M}', command: 'a $Y'}}";
    let case = || app(text).with(|r| r.steps.interpolate = false);
    assert_eq!(case().get("services/w/ports"), r#"["${P}:80"]"#);
    assert_eq!(case().get("services/w/command"), r#""a $Y""#);
    assert_eq!(case().get("services/w/mem_limit"), r#""${M}""#);
}
