//! One attribute of a service, and where it ends up in the create request.

use super::*;
use crate::files::MemoryFiles;
use crate::loader::{Request, load};

fn request(attribute: &str) -> serde_json::Value {
    let text = format!(
        "services:\n  w:\n    image: i\n    {attribute}\n  db: {{image: d}}\nnetworks: {{front: {{}}, back: {{name: real}}}}\nvolumes: {{data: {{}}}}\nsecrets: {{s: {{file: ./s}}, e: {{environment: E}}}}\nconfigs: {{c: {{content: hi}}}}\n"
    );
    let files = MemoryFiles([("/app/compose.yaml".into(), text.into_bytes())].into());
    let request = Request { working_dir: "/app".into(), ..Request::default() };
    let project = load(&request, &files).unwrap_or_else(|error| panic!("{attribute}: {error}")).project;
    let services = project.services().unwrap();
    let (networks, volumes) = (project.networks().unwrap(), project.volumes().unwrap());
    let (secrets, configs) = (project.secrets().unwrap(), project.configs().unwrap());
    let wanted = Wanted {
        project: &project,
        name: "w",
        service: &services["w"],
        image: "i",
        image_id: Some("sha256:1"),
        hash: "h",
        docker_hash: "d",
        container_name: "app-w-1",
        number: Some(1),
        networks: &networks,
        volumes: &volumes,
        secrets: &secrets,
        configs: &configs,
        aliases: true,
    };
    serde_json::to_value(create_request(&wanted)).unwrap()
}

#[test]
fn attributes_in_their_places() {
    for (attribute, pointer, expected) in [
        ("hostname: h", "/Hostname", r#""h""#),
        ("environment: {A: 1, B: }", "/Env", r#"["A=1","B"]"#),
        ("command: a b", "/Cmd", r#"["a","b"]"#),
        ("user: x", "/Cmd", "null"),
        ("entrypoint: []", "/Entrypoint", r#"[""]"#),
        ("entrypoint: /e", "/Entrypoint", r#"["/e"]"#),
        ("tty: true", "/Tty", "true"),
        ("stdin_open: true", "/OpenStdin", "true"),
        ("expose: [80, '90-91/udp']", "/ExposedPorts", r#"{"80/tcp":{},"90/udp":{},"91/udp":{}}"#),
        ("ports: ['8080:80']", "/ExposedPorts", r#"{"80/tcp":{}}"#),
        (
            "ports: ['8080:80', '127.0.0.1:81:80']",
            "/HostConfig/PortBindings",
            r#"{"80/tcp":[{"HostIp":"","HostPort":"8080"},{"HostIp":"127.0.0.1","HostPort":"81"}]}"#,
        ),
        ("ports: ['8000-8010:80']", "/HostConfig/PortBindings/80~1tcp/0/HostPort", r#""8000-8010""#),
        ("stop_grace_period: 1m", "/StopTimeout", "60"),
        ("stop_signal: SIGINT", "/StopSignal", r#""SIGINT""#),
        (
            "healthcheck: {test: x, interval: 5s, retries: 3}",
            "/Healthcheck",
            r#"{"Test":["CMD-SHELL","x"],"Interval":5000000000,"Retries":3}"#,
        ),
        ("healthcheck: {disable: true}", "/Healthcheck/Test", r#"["NONE"]"#),
        ("user: x", "/Labels/com.docker.compose.project", r#""app""#),
        ("user: x", "/Labels/com.docker.compose.service", r#""w""#),
        ("user: x", "/Labels/com.docker.compose.container-number", r#""1""#),
        ("user: x", "/Labels/com.docker.compose.oneoff", r#""False""#),
        ("user: x", "/Labels/com.docker.compose.image", r#""sha256:1""#),
        ("user: x", "/Labels/com.docker.compose.project.config_files", r#""/app/compose.yaml""#),
        (
            "depends_on: {db: {condition: service_healthy, restart: true}}",
            "/Labels/com.docker.compose.depends_on",
            r#""db:service_healthy:true""#,
        ),
        ("user: x", "/HostConfig/NetworkMode", r#""app_default""#),
        ("networks: [front, back]", "/HostConfig/NetworkMode", r#""real""#),
        ("networks: {front: {priority: 5}, back: }", "/HostConfig/NetworkMode", r#""app_front""#),
        (
            "networks: {front: {aliases: [x], ipv4_address: 10.0.0.2}}",
            "/NetworkingConfig/EndpointsConfig/app_front/Aliases",
            r#"["app-w-1","w","x"]"#,
        ),
        (
            "networks: {front: {ipv4_address: 10.0.0.2}}",
            "/NetworkingConfig/EndpointsConfig/app_front/IPAMConfig/IPv4Address",
            r#""10.0.0.2""#,
        ),
        ("network_mode: host", "/NetworkingConfig", "null"),
        ("network_mode: service:db", "/HostConfig/NetworkMode", r#""service:db""#),
        ("volumes: ['./a:/x:ro,z']", "/HostConfig/Binds", r#"["/app/a:/x:ro,z"]"#),
        (
            "volumes: ['data:/x']",
            "/HostConfig/Mounts",
            r#"[{"Type":"volume","Source":"app_data","Target":"/x"}]"#,
        ),
        ("volumes: [/x]", "/HostConfig/Mounts", r#"[{"Type":"volume","Target":"/x"}]"#),
        (
            "volumes: [{type: bind, source: ./a, target: /x}]",
            "/HostConfig/Mounts",
            r#"[{"Type":"bind","Source":"/app/a","Target":"/x"}]"#,
        ),
        (
            "volumes: [{type: tmpfs, target: /x, tmpfs: {size: 1m, mode: '0700'}}]",
            "/HostConfig/Mounts/0/TmpfsOptions",
            r#"{"SizeBytes":1048576,"Mode":448}"#,
        ),
        ("volumes: ['data:/x:nocopy']", "/HostConfig/Mounts/0/VolumeOptions", r#"{"NoCopy":true}"#),
        ("tmpfs: ['/x:size=1m']", "/HostConfig/Tmpfs", r#"{"/x":"size=1m"}"#),
        (
            "secrets: [s]",
            "/HostConfig/Mounts",
            r#"[{"Type":"bind","Source":"/app/s","Target":"/run/secrets/s","ReadOnly":true}]"#,
        ),
        ("configs: [c]", "/HostConfig/Mounts", "absent"),
        ("secrets: [{source: s, mode: 0400}]", "/HostConfig/Mounts", "absent"),
        (
            "restart: on-failure:3",
            "/HostConfig/RestartPolicy",
            r#"{"Name":"on-failure","MaximumRetryCount":3}"#,
        ),
        (
            "restart: always\n    deploy: {restart_policy: {condition: none}}",
            "/HostConfig/RestartPolicy/Name",
            r#""no""#,
        ),
        ("cpus: 1.5", "/HostConfig/NanoCpus", "1500000000"),
        (
            "deploy: {resources: {limits: {cpus: '0.5', memory: 1g, pids: 9}}}",
            "/HostConfig/Memory",
            "1073741824",
        ),
        ("mem_limit: 1m", "/HostConfig/Memory", "1048576"),
        ("pids_limit: 10", "/HostConfig/PidsLimit", "10"),
        ("extra_hosts: ['a:1.2.3.4', b=::1]", "/HostConfig/ExtraHosts", r#"["a:1.2.3.4","b:::1"]"#),
        (
            "ulimits: {nofile: 5, nproc: {soft: 1, hard: 2}}",
            "/HostConfig/Ulimits",
            r#"[{"Name":"nofile","Hard":5,"Soft":5},{"Name":"nproc","Hard":2,"Soft":1}]"#,
        ),
        (
            "gpus: all",
            "/HostConfig/DeviceRequests",
            r#"[{"Driver":"","Count":-1,"DeviceIDs":null,"Capabilities":[["gpu"]],"Options":{}}]"#,
        ),
        (
            "devices: ['/dev/a:/dev/b:r']",
            "/HostConfig/Devices",
            r#"[{"PathOnHost":"/dev/a","PathInContainer":"/dev/b","CgroupPermissions":"r"}]"#,
        ),
        (
            "security_opt: ['systempaths=unconfined', 'label:disable']",
            "/HostConfig/SecurityOpt",
            r#"["label=disable"]"#,
        ),
        ("security_opt: ['systempaths=unconfined']", "/HostConfig/MaskedPaths", "[]"),
        (
            "logging: {driver: local, options: {max-size: 1m}}",
            "/HostConfig/LogConfig",
            r#"{"Type":"local","Config":{"max-size":"1m"}}"#,
        ),
        ("privileged: true", "/HostConfig/Privileged", "true"),
        ("init: true", "/HostConfig/Init", "true"),
        ("shm_size: 1m", "/HostConfig/ShmSize", "1048576"),
        ("sysctls: [a=1]", "/HostConfig/Sysctls", r#"{"a":"1"}"#),
        ("cap_add: [NET_ADMIN]", "/HostConfig/CapAdd", r#"["NET_ADMIN"]"#),
        (
            "blkio_config: {weight: 300, device_read_bps: [{path: /dev/sda, rate: 1mb}]}",
            "/HostConfig/BlkioDeviceReadBps",
            r#"[{"Path":"/dev/sda","Rate":1048576}]"#,
        ),
        ("cap_drop: [ALL]", "/HostConfig/CapDrop", r#"["ALL"]"#),
        ("cgroup: private", "/HostConfig/CgroupnsMode", r#""private""#),
        ("cgroup_parent: /x", "/HostConfig/CgroupParent", r#""/x""#),
        ("cpu_count: 2", "/HostConfig/CpuCount", "2"),
        ("cpu_percent: 50", "/HostConfig/CpuPercent", "50"),
        ("cpu_shares: 73", "/HostConfig/CpuShares", "73"),
        ("cpu_quota: 50000", "/HostConfig/CpuQuota", "50000"),
        ("cpu_period: 20000", "/HostConfig/CpuPeriod", "20000"),
        ("cpu_rt_runtime: 400ms", "/HostConfig/CpuRealtimeRuntime", "400000"),
        ("cpu_rt_period: '11000'", "/HostConfig/CpuRealtimePeriod", "11000"),
        ("cpuset: 0-1", "/HostConfig/CpusetCpus", r#""0-1""#),
        ("device_cgroup_rules: ['c 1:3 mr']", "/HostConfig/DeviceCgroupRules", r#"["c 1:3 mr"]"#),
        ("dns: 1.1.1.1", "/HostConfig/Dns", r#"["1.1.1.1"]"#),
        ("dns_search: [a]", "/HostConfig/DnsSearch", r#"["a"]"#),
        ("dns_opt: [ndots:1]", "/HostConfig/DnsOptions", r#"["ndots:1"]"#),
        ("domainname: d.x", "/Domainname", r#""d.x""#),
        ("group_add: [docker]", "/HostConfig/GroupAdd", r#"["docker"]"#),
        ("ipc: host", "/HostConfig/IpcMode", r#""host""#),
        ("pid: host", "/HostConfig/PidMode", r#""host""#),
        ("uts: host", "/HostConfig/UTSMode", r#""host""#),
        ("userns_mode: host", "/HostConfig/UsernsMode", r#""host""#),
        ("isolation: default", "/HostConfig/Isolation", r#""default""#),
        ("labels: {a: b}", "/Labels/a", r#""b""#),
        ("mac_address: 02:42:ac:11:65:43", "/MacAddress", r#""02:42:ac:11:65:43""#),
        ("mem_reservation: 1m", "/HostConfig/MemoryReservation", "1048576"),
        ("memswap_limit: -1", "/HostConfig/MemorySwap", "-1"),
        ("mem_swappiness: 60", "/HostConfig/MemorySwappiness", "60"),
        ("oom_kill_disable: true", "/HostConfig/OomKillDisable", "true"),
        ("oom_score_adj: 500", "/HostConfig/OomScoreAdj", "500"),
        ("read_only: true", "/HostConfig/ReadonlyRootfs", "true"),
        ("runtime: runc", "/HostConfig/Runtime", r#""runc""#),
        ("storage_opt: {size: 1G}", "/HostConfig/StorageOpt", r#"{"size":"1G"}"#),
        ("user: '1:2'", "/User", r#""1:2""#),
        ("working_dir: /w", "/WorkingDir", r#""/w""#),
        ("use_api_socket: true", "/HostConfig/Binds", r#"["/var/run/docker.sock:/var/run/docker.sock"]"#),
        ("volumes_from: [db]", "/HostConfig/VolumesFrom", r#"["db"]"#),
        ("annotations: {a: b}", "/HostConfig/Annotations", r#"{"a":"b"}"#),
    ] {
        let found =
            request(attribute).pointer(pointer).map_or("absent".to_owned(), |value| value.to_string());
        assert_eq!(found, expected, "{attribute}");
    }
}
