//! What `config` prints and explains, and what is too large.

use super::*;

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
            networks:
              default: null
          web:
            depends_on:
              db:
                condition: service_started
                required: true
            environment:
              A: x
              B: "1"
            healthcheck:
              test:
                - CMD-SHELL
                - exit 0
              interval: 1m30s
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
