//! Golden tests of plans: a project, what is there, and the steps.

use super::*;
use crate::files::MemoryFiles;
use crate::found::{Found, FoundContainer, FoundResource, Status};
use crate::loader::{Request, load};
use crate::target::Target;
use expect_test::{Expect, expect};

const APP: &str = "services:\n  web:\n    image: web\n    depends_on: {db: {condition: service_healthy, restart: true}}\n    volumes: ['data:/d']\n  db:\n    image: db\nvolumes: {data: }\n";

fn target(text: &str) -> Target {
    let files = MemoryFiles([("/app/compose.yaml".into(), text.as_bytes().to_vec())].into());
    let request = Request { working_dir: "/app".into(), ..Request::default() };
    let project = load(&request, &files).unwrap_or_else(|error| panic!("{error}")).project;
    let mut target = Target::new(project, '-').unwrap();
    for name in target.services.keys().cloned().collect::<Vec<_>>() {
        let image = target.image(&name);
        target.image_ids.insert(image.clone(), format!("sha256:{image}"));
    }
    target
}

/// Everything as `up` leaves it.
fn settled(target: &Target) -> Found {
    let mut found = Found::default();
    for (key, network) in &target.networks {
        let resource = FoundResource {
            id: format!("id-{}", network.name),
            project: Some(target.project.name.clone()),
            hash: target.network_hashes.get(key).cloned(),
            hash_version: Some(crate::hash::VERSION.to_owned()),
        };
        found.networks.insert(network.name.clone(), resource);
    }
    for (key, volume) in &target.volumes {
        let resource = FoundResource {
            id: volume.name.clone(),
            project: Some(target.project.name.clone()),
            hash: target.volume_hashes.get(key).cloned(),
            hash_version: Some(crate::hash::VERSION.to_owned()),
        };
        found.volumes.insert(volume.name.clone(), resource);
    }
    for (name, service) in &target.services {
        for number in 1..=service.replicas() as u32 {
            found.containers.push(container(target, name, number));
        }
    }
    found
}

fn container(target: &Target, service: &str, number: u32) -> FoundContainer {
    let model = &target.services[service];
    let image = target.image(service);
    FoundContainer {
        id: format!("{service}{number}"),
        name: target.container_name(service, number),
        service: service.to_owned(),
        number: Some(number),
        oneoff: false,
        hook: false,
        status: Status::Running,
        exit_code: None,
        health: None,
        hash: target.hashes.get(service).cloned(),
        hash_version: Some(crate::hash::VERSION.to_owned()),
        image: Some(format!("sha256:{image}")),
        networks: model
            .networks
            .keys()
            .filter_map(|key| target.networks.get(key))
            .map(|network| (network.name.clone(), format!("id-{}", network.name)))
            .collect(),
        volumes: model
            .volumes
            .iter()
            .filter_map(|mount| {
                let volume = target.volumes.get(mount.source.as_deref()?)?;
                Some((mount.target.clone(), volume.name.clone()))
            })
            .collect(),
        drift: None,
        shared: Default::default(),
        summary: Default::default(),
    }
}

fn orphan(service: &str) -> FoundContainer {
    let text = format!("services: {{{service}: {{image: x}}}}");
    container(&target(&text), service, 1)
}

fn render(plan: Result<Plan, PlanError>) -> String {
    match plan {
        Ok(plan) => {
            let warnings: String = plan.warnings.iter().map(|warning| format!("! {warning}\n")).collect();
            let same = if plan.unchanged.is_empty() {
                String::new()
            } else {
                format!("= {}\n", plan.unchanged.join(" "))
            };
            let steps: String = plan
                .render()
                .lines()
                .zip(&plan.steps)
                .enumerate()
                .map(|(index, (line, step))| {
                    let after: Vec<String> = step.after.iter().map(ToString::to_string).collect();
                    let after =
                        if after.is_empty() { String::new() } else { format!("  <- {}", after.join(",")) };
                    format!("{index} {line}{after}\n")
                })
                .collect();
            format!("{steps}{same}{warnings}")
        }
        Err(error) => format!(
            "error: {error}\n{}",
            error.hint().map(|hint| format!("hint: {hint}\n")).unwrap_or_default()
        ),
    }
}

fn check(text: &str, change: impl FnOnce(&mut Target, &mut Found, &mut UpOptions), expected: Expect) {
    let mut target = target(text);
    let mut found = settled(&target);
    let mut options = UpOptions::default();
    change(&mut target, &mut found, &mut options);
    expected.assert_eq(&render(up(&target, &found, &options)));
}

#[test]
fn from_nothing() {
    check(
        APP,
        |_, found, _| *found = Found::default(),
        expect![[r#"
        0 network app_default  create  (it does not exist)
        1 volume app_data      create  (it does not exist)
        2 container app-db-1   create  (it does not exist)  <- 0
        3 container app-web-1  create  (it does not exist)  <- 0,1
        4 container app-db-1   start  <- 2
        5 service db           wait until healthy  <- 4
        6 container app-web-1  start  <- 3,5
    "#]],
    );
}

#[test]
fn nothing_to_do() {
    check(
        APP,
        |_, _, _| {},
        expect![[r#"
        = app-db-1 app-web-1
    "#]],
    );
}

#[test]
fn a_changed_dependency_restarts_its_dependents() {
    check(
        APP,
        |target, _, _| drop(target.hashes.insert("db".into(), "new".into())),
        expect![[r#"
        0 container app-web-1  stop  ("db" is recreated)
        1 container app-db-1   recreate  (its configuration changed)  <- 0
        2 container app-db-1   start  <- 1
        3 service db           wait until healthy  <- 2
        4 container app-web-1  start  <- 0,3
    "#]],
    );
}

#[test]
fn a_new_image_replaces_the_container() {
    check(
        APP,
        |target, _, _| drop(target.image_ids.insert("web".into(), "sha256:0123456789abcdef".into())),
        expect![[r#"
        0 container app-web-1  recreate  (image web: web -> 0123456789ab)
        1 service db           wait until healthy
        2 container app-web-1  start  <- 0,1
        = app-db-1
    "#]],
    );
}

#[test]
fn the_fields_that_changed_are_the_reasons() {
    check(
        APP,
        |target, found, _| {
            target.hashes.insert("web".into(), "new".into());
            let change = |field: &str, from: &str, to: &str| crate::found::Change {
                field: field.into(),
                found: from.into(),
                wanted: to.into(),
            };
            found.containers[1].drift =
                Some(vec![change("user", "", "app"), change("environment.A", "1", "2")]);
        },
        expect![[r#"
            0 container app-web-1  recreate  (user: (none) -> app; environment.A: 1 -> 2)
            1 service db           wait until healthy
            2 container app-web-1  start  <- 0,1
            = app-db-1
        "#]],
    );
}

#[test]
fn containers_of_another_program_are_taken_over_when_no_field_differs() {
    check(
        APP,
        |_, found, _| {
            for container in &mut found.containers {
                (container.hash, container.hash_version) = (Some("docker's".into()), None);
                container.name = container.name.replace('-', "_");
                container.drift = Some(Vec::new());
            }
        },
        expect![[r#"
            = app_db_1 app_web_1
        "#]],
    );
}

#[test]
fn recreate_policies() {
    let changed = |target: &mut Target| drop(target.hashes.insert("web".into(), "new".into()));
    check(
        APP,
        |target, _, options| {
            changed(target);
            options.recreate = Recreate::Never;
        },
        expect![[r#"
        = app-db-1 app-web-1
    "#]],
    );
    check(
        APP,
        |_, _, options| {
            options.recreate = Recreate::Force;
            options.services = vec!["web".into()];
        },
        expect![[r#"
        0 container app-web-1  recreate  (--force-recreate)
        1 service db           wait until healthy
        2 container app-web-1  start  <- 0,1
        = app-db-1
    "#]],
    );
    check(
        APP,
        |_, _, options| {
            options.no_dependencies = true;
            options.services = vec!["web".into()];
            options.recreate = Recreate::Force;
        },
        expect![[r#"
        0 container app-web-1  recreate  (--force-recreate)
        1 container app-web-1  start  <- 0
    "#]],
    );
}

#[test]
fn stopped_containers_are_started() {
    check(
        APP,
        |_, found, _| found.containers[1].status = Status::Exited,
        expect![[r#"
        0 service db           wait until healthy
        1 container app-web-1  start  <- 0
        = app-db-1
    "#]],
    );
    check(
        APP,
        |_, found, options| {
            found.containers[1].status = Status::Exited;
            options.start = false;
        },
        expect![[r#"
        = app-db-1
    "#]],
    );
}

#[test]
fn scale() {
    let text = "services: {w: {image: i, scale: 2}}";
    check(
        text,
        |_, _, options| {
            options.scale.insert("w".into(), 4);
        },
        expect![[r#"
        0 container app-w-3  create  (it does not exist)
        1 container app-w-4  create  (it does not exist)
        2 container app-w-3  start  <- 0
        3 container app-w-4  start  <- 1
        = app-w-1 app-w-2
    "#]],
    );
    check(
        text,
        |_, _, options| {
            options.scale.insert("w".into(), 1);
        },
        expect![[r#"
        0 container app-w-2  stop  (only 1 wanted)
        1 container app-w-2  remove  (only 1 wanted)  <- 0
        = app-w-1
    "#]],
    );
    // Gaps are not filled again.
    check(
        text,
        |_, found, options| {
            found.containers[1].number = Some(7);
            options.scale.insert("w".into(), 3);
        },
        expect![[r#"
        0 container app-w-8  create  (it does not exist)
        1 container app-w-8  start  <- 0
        = app-w-1 app-w-2
    "#]],
    );
    // A changed container goes before an unchanged one of a higher number.
    check(
        text,
        |_, found, options| {
            found.containers[0].hash = Some("old".into());
            options.scale.insert("w".into(), 1);
        },
        expect![[r#"
        0 container app-w-1  stop  (only 1 wanted)
        1 container app-w-1  remove  (only 1 wanted)  <- 0
        = app-w-2
    "#]],
    );
    check(
        text,
        |_, found, options| {
            found.containers[0].id = "abcdef123456".into();
            options.scale.insert("abcdef".into(), 3);
        },
        expect![[r#"
        error: no such service: abcdef
        hint: "abcdef" is a container; its service is "w", as in --scale w=3
    "#]],
    );
    check(
        text,
        |_, _, options| options.services = vec!["v".into()],
        expect![[r#"
        error: no such service: v
        hint: did you mean "w"?
    "#]],
    );
    check(
        "services: {w: {image: i, container_name: fixed}}",
        |_, _, options| {
            options.scale.insert("w".into(), 2);
        },
        expect![[r#"
        error: service "w" has container_name "fixed", which 2 containers cannot share
        hint: take container_name out of the Compose file
    "#]],
    );
}

#[test]
fn updates_go_in_batches() {
    let text =
        "services: {w: {image: i, scale: 3, deploy: {update_config: {parallelism: 1, order: start-first}}}}";
    check(
        text,
        |target, _, _| drop(target.hashes.insert("w".into(), "new".into())),
        expect![[r#"
        0 container app-w-1  recreate  (its configuration changed)
        1 container app-w-2  recreate  (its configuration changed)  <- 0
        2 container app-w-3  recreate  (its configuration changed)  <- 1
        3 container app-w-1  start  <- 0
        4 container app-w-2  start  <- 1
        5 container app-w-3  start  <- 2
    "#]],
    );
}

#[test]
fn shared_namespaces_cascade() {
    let text = "services: {a: {image: i}, b: {image: i, network_mode: 'service:a'}, c: {image: i, volumes_from: [b]}}";
    check(
        text,
        |target, _, _| drop(target.hashes.insert("a".into(), "new".into())),
        expect![[r#"
        0 container app-b-1  stop  ("a" is recreated)
        1 container app-a-1  recreate  (its configuration changed)  <- 0
        2 container app-b-1  recreate  (it shares with "a", which is recreated)  <- 1
        3 container app-c-1  recreate  (it shares with "b", which is recreated)  <- 2
        4 container app-a-1  start  <- 1
        5 container app-b-1  start  <- 2,4
        6 container app-c-1  start  <- 3,5
    "#]],
    );
}

#[test]
fn other_shared_namespaces_that_are_gone_recreate() {
    let text = "services: {a: {image: i}, b: {image: i, ipc: 'service:a', pid: 'service:a'}}";
    let shares = |found: &mut Found, id: &str| {
        found.containers[1].shared = [("ipc".into(), "a1".into()), ("pid".into(), id.into())].into()
    };
    check(
        text,
        |_, found, _| shares(found, "a1"),
        expect![[r#"
        = app-a-1 app-b-1
    "#]],
    );
    check(
        text,
        |_, found, _| shares(found, "older"),
        expect![[r#"
        0 container app-b-1  recreate  (the container of "a" whose pid it shares is gone)
        1 container app-b-1  start  <- 0
        = app-a-1
    "#]],
    );
}

#[test]
fn a_shared_network_that_is_gone_recreates() {
    let text = "services: {a: {image: i}, b: {image: i, network_mode: 'service:a'}}";
    let shares = |found: &mut Found, id: &str| {
        found.containers[1].summary.host_config.network_mode = format!("container:{id}")
    };
    check(
        text,
        |_, found, _| shares(found, "a1"),
        expect![[r#"
        = app-a-1 app-b-1
    "#]],
    );
    check(
        text,
        |_, found, _| shares(found, "gone"),
        expect![[r#"
        0 container app-b-1  recreate  (the container of "a" whose network it shares is gone)
        1 container app-b-1  start  <- 0
        = app-a-1
    "#]],
    );
}

#[test]
fn orphans() {
    let text = "services: {w: {image: i}}";
    check(
        text,
        |_, found, _| found.containers.push(orphan("old")),
        expect![[r#"
        = app-w-1
        ! found orphan containers (app-old-1) for this project; if you removed or renamed this service in your compose file, you can run this command with the --remove-orphans flag to clean it up
    "#]],
    );
    check(
        text,
        |_, found, options| {
            found.containers.push(orphan("old"));
            options.remove_orphans = true;
        },
        expect![[r#"
        0 container app-old-1  stop  (its service is not in the Compose file)
        1 container app-old-1  remove  (its service is not in the Compose file)  <- 0
        = app-w-1
    "#]],
    );
    check(
        text,
        |_, found, options| {
            found.containers.push(orphan("old"));
            options.ignore_orphans = true;
        },
        expect![[r#"
        = app-w-1
    "#]],
    );
    // A service of an inactive profile is no orphan.
    check(
        "services: {w: {image: i}, old: {image: i, profiles: [p]}}",
        |_, found, options| {
            found.containers.push(orphan("old"));
            options.remove_orphans = true;
        },
        expect![[r#"
        = app-w-1
    "#]],
    );
}

#[test]
fn networks_and_volumes() {
    let text = "services: {w: {image: i, networks: [n], volumes: ['v:/v']}}\nnetworks: {n: {external: true, name: ext}}\nvolumes: {v: {external: true, name: vext}}";
    check(
        text,
        |_, found, _| found.networks.clear(),
        expect![[r#"
        error: network ext declared as external, but could not be found
        hint: create it: docker network create ext
    "#]],
    );
    check(
        text,
        |_, found, _| found.volumes.clear(),
        expect![[r#"
        error: external volume "vext" not found
        hint: create it: docker volume create vext
    "#]],
    );
    let own = "services: {w: {image: i, volumes: ['v:/v']}}\nvolumes: {v: }";
    check(
        own,
        |_, found, _| found.networks.get_mut("app_default").unwrap().hash = Some("old".into()),
        expect![[r#"
        0 network app_default  recreate  (its configuration changed)
        1 container app-w-1    recreate  (network default is recreated)  <- 0
        2 container app-w-1    start  <- 1
    "#]],
    );
    check(
        own,
        |_, found, _| found.networks.get_mut("app_default").unwrap().id = "other".into(),
        expect![[r#"
        0 container app-w-1  recreate  (it is not attached to network app_default)
        1 container app-w-1  start  <- 0
    "#]],
    );
    check(
        own,
        |_, found, _| found.volumes.get_mut("app_v").unwrap().project = None,
        expect![[r#"
        = app-w-1
        ! volume app_v exists but was not created by Compose; set "external: true" to use it without this warning
    "#]],
    );
    check(
        own,
        |_, found, _| found.containers[0].volumes.clear(),
        expect![[r#"
        0 container app-w-1  recreate  (volume app_v is not mounted at /v)
        1 container app-w-1  start  <- 0
    "#]],
    );
}

#[test]
fn a_run_brings_up_what_it_needs() {
    check(
        APP,
        |_, found, options| {
            *found = Found::default();
            options.services = vec!["web".into()];
            options.one_off = Some("web".into());
        },
        expect![[r#"
        0 network app_default  create  (it does not exist)
        1 volume app_data      create  (it does not exist)
        2 container app-db-1   create  (it does not exist)  <- 0
        3 container app-db-1   start  <- 2
        4 service db           wait until healthy  <- 3
    "#]],
    );
}

#[test]
fn what_an_interrupted_up_left_behind() {
    let text = "services: {w: {image: i}}";
    // Broken off before the old container was removed.
    check(
        text,
        |target, found, _| {
            let mut leftover = container(target, "w", 1);
            (leftover.id, leftover.name, leftover.status) =
                ("new".into(), "0123456789ab_app-w-1".into(), Status::Created);
            found.containers.push(leftover);
        },
        expect![[r#"
        0 container 0123456789ab_app-w-1  remove  (an interrupted up left it behind)
        = app-w-1
    "#]],
    );
    // Broken off after.
    check(
        text,
        |_, found, _| {
            found.containers[0].name = "0123456789ab_app-w-1".into();
            found.containers[0].status = Status::Created;
        },
        expect![[r#"
        0 container app-w-1               rename  (an interrupted up left it behind)
        1 container 0123456789ab_app-w-1  start
    "#]],
    );
}

#[test]
fn down_in_reverse_order() {
    let target = target(APP);
    let found = settled(&target);
    let all = DownOptions { volumes: true, images: vec!["web".into()], ..DownOptions::default() };
    expect![[r#"
        0 container app-web-1  stop
        1 container app-db-1   stop  <- 0
        2 container app-web-1  remove  <- 0
        3 container app-db-1   remove  <- 1
        4 network app_default  remove  <- 2,3
        5 volume app_data      remove  <- 2,3
        6 image web            remove  <- 2,3
    "#]]
    .assert_eq(&render(Ok(down(&target, &found, &all))));
    let one = DownOptions { services: vec!["web".into()], ..DownOptions::default() };
    expect![[r#"
        0 container app-web-1  stop
        1 container app-web-1  remove  <- 0
    "#]]
    .assert_eq(&render(Ok(down(&target, &found, &one))));
}
