//! Flags of `run` and `network create` that say how containers are addressed and named.

use ferry_tests::Engine;

use crate::{CLIENTS, Test};

/// The suite.
pub const TESTS: &[Test] = &[
    ("network::servers_search_and_options_of_dns", servers_search_and_options_of_dns),
    ("network::links", links),
    ("network::addresses_asked_for", addresses_asked_for),
    ("network::every_flag_of_create", every_flag_of_create),
    ("network::driver_options_reach_the_kernel", driver_options_reach_the_kernel),
    ("network::configuration_networks", configuration_networks),
    ("network::lists_filter_and_prune", lists_filter_and_prune),
    ("network::several_networks_and_their_gateway", several_networks_and_their_gateway),
];

/// The arguments of a line without quotes.
fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

fn servers_search_and_options_of_dns() {
    let engine = Engine::with_busybox();
    engine.ferry(["network", "create", "named"]).exits(0);
    let flags = "--dns 192.0.2.53 --dns 2001:db8::53 --dns-search corp.example --dns-option ndots:3";
    for client in CLIENTS {
        let shown = |network: &str| {
            let line = format!("run --rm --network {network} {flags} busybox cat /etc/resolv.conf");
            engine.client(client, words(&line)).ok().to_owned()
        };
        assert_eq!(
            shown("bridge"),
            "nameserver 192.0.2.53\nnameserver 2001:db8::53\nsearch corp.example\noptions ndots:3"
        );
        assert_eq!(shown("named"), "nameserver 127.0.0.11\nsearch corp.example\noptions ndots:3");
        let none = "run --rm --network named --dns-search . busybox cat /etc/resolv.conf";
        let text = engine.client(client, words(none));
        assert!(!text.ok().contains("search"), "{text}");
        engine.client(client, words("run --rm --dns nonsense busybox true")).complains("nonsense");
    }
}

fn links() {
    let engine = Engine::with_busybox();
    engine.ferry(["network", "create", "linked"]).exits(0);
    for client in CLIENTS {
        for network in ["bridge", "linked"] {
            let run = format!("run -d --name db --network {network} busybox sleep 60");
            engine.client(client, words(&run)).exits(0);
            let ping = format!("run --rm --network {network} --link db:store busybox ping -c 1 -W 5 store");
            let address =
                engine.inspect("db", &format!("{{{{.NetworkSettings.Networks.{network}.IPAddress}}}}"));
            engine.client(client, words(&ping)).says(&address);
            engine.client(client, ["rm", "-f", "db"]).exits(0);
        }
        engine.client(client, words("run --rm --link nobody busybox true")).exits(125).complains("nobody");
    }
}

fn addresses_asked_for() {
    let engine = Engine::with_busybox();
    let create = "network create --subnet 10.213.7.0/24 --subnet fd13:7::/64 --ipv6 asked";
    engine.docker(words(create)).exits(0);
    for client in CLIENTS {
        let run = "run -d --name box --network asked --ip 10.213.7.9 --ip6 fd13:7::9 --link-local-ip 169.254.9.9 \
                   --mac-address 02:42:00:00:00:99 busybox sleep 60";
        engine.client(client, words(run)).exits(0);
        for _ in 0..2 {
            engine
                .client(client, words("exec box ip addr show eth0"))
                .says("10.213.7.9/24")
                .says("fd13:7::9/64")
                .says("169.254.9.9")
                .says("02:42:00:00:00:99");
            // What was asked for is the same in the next run.
            engine.client(client, words("restart -t 0 box")).exits(0);
        }
        engine
            .client(client, words("run --rm --network asked --ip 10.213.7.9 busybox true"))
            .exits(125)
            .complains("Address already in use");
        engine.client(client, words("rm -f box")).exits(0);
        for (flags, complaint) in [
            ("--ip 10.9.9.9", "no configured subnet"),
            ("--ip nonsense", "nonsense"),
            ("--mac-address 01:00:5e:00:00:01", "01:00:5e:00:00:01"),
        ] {
            let run = format!("run --rm --network asked {flags} busybox true");
            engine.client(client, words(&run)).exits(125).complains(complaint);
        }
    }
    let on_default = "run --rm --ip 172.17.0.9 busybox true";
    engine.docker(words(on_default)).exits(125).complains("user defined networks only");
}

fn every_flag_of_create() {
    let engine = Engine::with_busybox();
    for client in CLIENTS {
        let create = "network create --driver bridge --subnet 10.214.0.0/16 --ip-range 10.214.5.0/24 \
                      --gateway 10.214.5.254 --aux-address router=10.214.5.1 --internal --attachable \
                      --ipv6 --subnet fd14::/64 --label team=blue --scope local --ipam-driver default \
                      -o com.docker.network.bridge.name=fe-flags -o com.docker.network.driver.mtu=1300 whole";
        engine.client(client, words(create)).exits(0);
        let shown = |format: &str| engine.client(client, ["network", "inspect", "-f", format, "whole"]);
        shown("{{.Driver}} {{.Scope}} {{.Internal}} {{.Attachable}} {{.EnableIPv6}}")
            .prints("bridge local true true true");
        shown("{{(index .IPAM.Config 0).Subnet}} {{(index .IPAM.Config 0).IPRange}}")
            .prints("10.214.0.0/16 10.214.5.0/24");
        shown("{{(index .IPAM.Config 0).Gateway}}").prints("10.214.5.254");
        shown("{{index .Labels \"team\"}}").prints("blue");
        // The auxiliary address is a router's and given to nobody.
        engine
            .client(client, words("run --rm --network whole busybox ip -4 addr show eth0"))
            .says("mtu 1300")
            .says("10.214.5.")
            .says("/16");
        engine
            .client(client, words("run --rm --network whole --ip 10.214.5.1 busybox true"))
            .exits(125)
            .complains("already in use");
        engine.client(client, words("network rm whole")).exits(0);
    }
}

fn driver_options_reach_the_kernel() {
    let engine = Engine::with_busybox();
    let create = "network create -o com.docker.network.bridge.enable_icc=false \
                  -o com.docker.network.container_iface_prefix=net -o com.docker.network.bridge.host_binding_ipv4=127.0.0.1 shy";
    engine.docker(words(create)).exits(0);
    engine.docker(words("run -d --name one --network shy -p 80 busybox sleep 60")).exits(0);
    engine.docker(words("port one 80")).says("127.0.0.1:");
    let address = engine.inspect("one", "{{.NetworkSettings.Networks.shy.IPAddress}}");
    engine.docker(words("exec one ip addr show net0")).says(&address);
    let ping = format!("run --rm --network shy busybox ping -c 1 -W 1 {address}");
    engine.docker(words(&ping)).exits(1);
    let interface =
        "run --rm --network name=shy,driver-opt=com.docker.network.endpoint.ifname=up0 busybox ip link";
    engine.docker(words(interface)).says("up0");
    let setting =
        "name=shy,driver-opt=com.docker.network.endpoint.sysctls=net.ipv4.conf.IFNAME.log_martians=1";
    engine
        .docker([
            "run",
            "--rm",
            "--network",
            setting,
            "busybox",
            "cat",
            "/proc/sys/net/ipv4/conf/net0/log_martians",
        ])
        .prints("1");
    for (option, complaint) in [
        ("com.docker.network.bridge.enable_icc=maybe", "true or false"),
        ("com.docker.network.bridge.name=a-name-of-many-letters", "1 to 15 bytes"),
        ("com.docker.network.bridge.gateway_mode_ipv4=odd", "nat, nat-unprotected, routed or isolated"),
        ("nonsense=1", "unknown option nonsense"),
    ] {
        engine.docker(["network", "create", "-o", option, "bad"]).exits(1).complains(complaint);
    }
}

fn configuration_networks() {
    let engine = Engine::with_busybox();
    for client in CLIENTS {
        let template = "network create --config-only --subnet 10.215.0.0/24 --label kind=template form";
        engine.client(client, words(template)).exits(0);
        engine.client(client, words("network create --config-from form made")).exits(0);
        let format = "{{(index .IPAM.Config 0).Subnet}} {{.ConfigFrom.Network}} {{.ConfigOnly}}";
        engine
            .client(client, ["network", "inspect", "-f", format, "made"])
            .prints("10.215.0.0/24 form false");
        engine.client(client, words("run --rm --network made busybox ip addr")).says("10.215.0.");
        for (line, complaint) in [
            ("network rm form", "is in use"),
            ("run --rm --network form busybox true", "configuration network"),
            (
                "network create --config-from form --subnet 10.216.0.0/24 other",
                "user specified configurations",
            ),
            ("network create --config-only --internal other", "Network operator fields"),
            ("network create --config-from made other", "not a configuration network"),
            ("network create --config-from nowhere other", "not found"),
            ("network create --scope swarm other", "not a swarm manager"),
        ] {
            engine.client(client, words(line)).complains(complaint);
        }
        engine.client(client, words("network rm made")).exits(0);
        engine.client(client, words("network rm form")).exits(0);
    }
}

fn lists_filter_and_prune() {
    let engine = Engine::with_busybox();
    for client in CLIENTS {
        engine.client(client, words("network create --label team=blue alpha")).exits(0);
        engine.client(client, words("network create --label team=red beta")).exits(0);
        engine.client(client, words("run -d --name user --network beta busybox sleep 60")).exits(0);
        for (filter, names) in [
            ("label=team=blue", "alpha"),
            ("label=team", "alpha\nbeta"),
            ("name=bet", "beta"),
            ("driver=null", "none"),
            ("type=builtin", "bridge\nhost\nnone"),
            ("type=custom", "alpha\nbeta"),
            ("dangling=true", "alpha"),
            ("scope=swarm", ""),
        ] {
            engine
                .client(client, ["network", "ls", "--format", "{{.Name}}", "--filter", filter])
                .prints(names);
        }
        engine.client(client, ["network", "ls", "-f", "odd=1"]).exits(1).complains("odd");
        let id = engine.client(client, words("network inspect -f {{.Id}} beta")).ok().to_owned();
        engine.client(client, words("network ls --no-trunc -q")).says(&id);
        engine.client(client, ["network", "inspect", &id[..12]]).says("\"Name\": \"beta\"").says("\"user\"");
        engine.client(client, words("network prune -f --filter label=team=red")).exits(0);
        engine.client(client, words("network prune -f --filter until=24h")).exits(0);
        engine.client(client, words("network inspect alpha")).exits(0);
        engine.client(client, words("network prune -f")).says("alpha");
        engine.client(client, words("network inspect alpha")).exits(1);
        engine.client(client, words("rm -f user")).exits(0);
        engine.client(client, words("network rm beta")).exits(0);
    }
}

fn several_networks_and_their_gateway() {
    let engine = Engine::with_busybox();
    for (name, subnet) in [("east", "10.217.1.0/24"), ("west", "10.217.2.0/24")] {
        engine.docker(["network", "create", "--subnet", subnet, name]).exits(0);
    }
    for client in CLIENTS {
        let run = |networks: &str, command: &str| {
            let line = format!("run --rm {networks} busybox {command}");
            engine.client(client, words(&line)).ok().to_owned()
        };
        let both = run("--network east --network west", "ip -4 addr");
        assert!(both.contains("10.217.1.") && both.contains("10.217.2."), "{both}");
        let first_by_name = run("--network west --network east", "ip route");
        assert!(first_by_name.contains("default via 10.217.1.1"), "{first_by_name}");
        let by_priority = run("--network east --network name=west,gw-priority=5", "ip route");
        assert!(by_priority.contains("default via 10.217.2.1"), "{by_priority}");
    }
    // A network joined later takes the default route over when it has the higher priority, and gives it back.
    engine.docker(words("run -d --name box --network east busybox sleep 60")).exits(0);
    for client in CLIENTS {
        engine.client(client, words("network connect --gw-priority 9 west box")).exits(0);
        engine.client(client, words("exec box ip route")).says("default via 10.217.2.1");
        engine.client(client, words("network disconnect west box")).exits(0);
        engine.client(client, words("exec box ip route")).says("default via 10.217.1.1");
    }
}
