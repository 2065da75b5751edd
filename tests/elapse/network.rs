//! Networks of containers' own, in a network namespace that each test makes for itself: nothing of it touches the host's.

use crate::common::containers::{agent, benches, common_of, worker_name};
use crate::common::daemon::{Daemon, moment};
use crate::common::{has, program};
use elapse::backend::{Backend, Create, LiveConfig};
use elapse::base::{
    Behaviour, Cpus, Duration, FunctionId, FunctionSpec, Invocation, Mem, Network, Protocol, Time,
};
use elapse::rt;
use elapse_host::engine::{Common, Engine};
use elapse_host::net::{Lease, Networks, Subnet};
use elapse_host::process::Processes;
use elapse_live::backend::Live;
use rustix::mount::{MountFlags, MountPropagationFlags};
use rustix::thread::UnshareFlags;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::rc::Rc;

/// Puts this thread, and what it starts, into a network of its own with a loopback.
fn private(test: &str) -> bool {
    let can = has("root", test, elapse_host::is_root())
        && has("process", test, agent().exists() && Command::new("ip").arg("-V").output().is_ok());
    if can {
        // SAFETY: a new network namespace touches neither memory nor descriptors.
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }.expect("a namespace");
        ip(&["link", "set", "lo", "up"]);
    }
    can
}

fn ip(args: &[&str]) -> String {
    let output = Command::new("ip").args(args).output().expect("ip");
    assert!(output.status.success(), "ip {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Links of this namespace, but its loopback.
fn links() -> Vec<String> {
    let all = ip(&["-o", "link", "show"]);
    let name = |line: &str| line.split(": ").nth(1).map(|n| n.split('@').next().unwrap_or(n).to_string());
    all.lines().filter_map(name).filter(|n| n != "lo").collect()
}

fn namespaces_of(worker: &str) -> Vec<String> {
    let all = std::fs::read_dir("/run/netns").into_iter().flatten().flatten();
    let names = all.map(|e| e.file_name().to_string_lossy().into_owned());
    names.filter(|n| n.starts_with(&format!("elapse-{worker}-"))).collect()
}

fn on_a_runtime<F: Future>(test: F) -> F::Output {
    rt::Live::new().expect("a runtime").block_on(test)
}

#[test]
fn leases_are_whole_networks_and_what_is_given_back_serves_again() {
    if !private("leases_are_whole_networks_and_what_is_given_back_serves_again") {
        return;
    }
    let worker = worker_name();
    on_a_runtime(async {
        let networks = Networks::new(&worker, Subnet::default(), 3);
        networks.check().expect("root");
        let leases = futures::future::join_all((0..20).map(|_| networks.lease())).await;
        let leases: Vec<Lease> = leases.into_iter().map(|l| l.unwrap_or_else(|e| panic!("{e}"))).collect();
        let addresses: BTreeSet<String> = leases.iter().map(|l| l.port(80).to_string()).collect();
        assert_eq!(addresses.len(), 20, "{addresses:?}");
        for lease in &leases {
            let path = lease.namespace().expect("a namespace").display().to_string();
            let inside =
                Command::new("nsenter").arg(format!("--net={path}")).args(["ip", "-4", "addr"]).output();
            let inside = String::from_utf8_lossy(&inside.expect("nsenter").stdout).into_owned();
            assert!(
                inside.contains(&lease.port(80).ip().to_string()) && inside.contains("lo: <LOOPBACK,UP"),
                "{inside}"
            );
            let answered =
                Command::new("ping").args(["-c1", "-W2", &lease.port(80).ip().to_string()]).output();
            if let Ok(answered) = answered {
                assert!(answered.status.success(), "{}", String::from_utf8_lossy(&answered.stdout));
            }
        }
        let first = leases[0].port(80);
        let mut leases = leases;
        // Everything that is given back beyond what is to be ready is removed; so much is kept that the next one has it.
        leases.drain(1..).for_each(drop);
        leases.pop().expect("the first").give_back();
        let mut next = Vec::new();
        for _ in 0..4 {
            next.push(networks.lease().await.expect("a lease"));
        }
        drop((next, first));
        assert!(
            networks.clear().await.expect("a sweep").is_empty(),
            "nothing was left that should not have been"
        );
    });
    assert_eq!((links(), namespaces_of(&worker)), (Vec::new(), Vec::new()));
}

#[test]
fn a_panic_in_a_half_made_namespace_costs_no_later_network() {
    if !private("a_panic_in_a_half_made_namespace_costs_no_later_network") {
        return;
    }
    let worker = worker_name();
    on_a_runtime(async {
        let networks = Networks::new(&worker, Subnet::default(), 0);
        let before = networks.lease().await.expect("a lease");
        let fault = networks.inject_panic().await.expect_err("it panics");
        assert!(fault.transient && fault.why.contains("the log says why"), "{fault}");
        assert_eq!(namespaces_of(&worker).len(), 2, "one is half made");
        // The thread is back in the worker's own namespace, knows what is there, and takes the place that was half made.
        let after = networks.lease().await.expect("a lease");
        assert_eq!((before.number(), after.number()), (0, 1));
        assert_eq!((namespaces_of(&worker).len(), links().len()), (2, 3), "{:?}", links());
        let shown = |t: &elapse_host::threads::Told| {
            t.name == "network"
                && t.restarts == 1
                && t.last_panic.as_deref().is_some_and(|p| p.contains("injected"))
        };
        assert!(elapse_host::threads::all().iter().any(shown), "{:?}", elapse_host::threads::all());
        drop((before, after));
        assert!(networks.clear().await.expect("a sweep").is_empty());
    });
    assert_eq!((links(), namespaces_of(&worker)), (Vec::new(), Vec::new()));
}

/// On a host where no `ip netns add` has run before: the first one mounts the folder over itself.
#[test]
fn a_namespace_can_be_removed_after_the_first_one_of_ip() {
    if !private("a_namespace_can_be_removed_after_the_first_one_of_ip") {
        return;
    }
    // SAFETY: mounts of this thread alone, and its own working folder, touch neither memory nor descriptors.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::FS) }.expect("mounts");
    let flags = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", flags).expect("private mounts");
    rustix::mount::mount("none", "/run", "tmpfs", MountFlags::empty(), None).expect("an empty /run");
    let worker = worker_name();
    on_a_runtime(async {
        let networks = Networks::new(&worker, Subnet::default(), 0);
        let lease = networks.lease().await.expect("a lease");
        ip(&["netns", "add", "stranger"]);
        drop(lease);
        assert!(networks.clear().await.expect("a sweep").is_empty());
    });
    assert_eq!(namespaces_of(&worker), Vec::<String>::new());
    assert!(Path::new("/run/netns/stranger").exists());
}

#[test]
fn a_sweep_takes_what_a_crash_left_and_nothing_of_a_neighbour() {
    if !private("a_sweep_takes_what_a_crash_left_and_nothing_of_a_neighbour") {
        return;
    }
    let (ours, theirs) = (worker_name(), worker_name());
    on_a_runtime(async {
        let neighbours = Networks::new(&theirs, Subnet::default(), 0);
        let kept = neighbours.lease().await.expect("a lease");
        // Forgotten, as by a worker that was killed: a lease that is never dropped.
        let killed = Networks::new(&ours, Subnet::default(), 0);
        let lost = killed.lease().await.expect("a lease");
        assert_ne!(lost.port(1), kept.port(1), "each has a block of its own");
        std::mem::forget(lost);
        std::mem::forget(killed);
        ip(&["link", "add", "stranger0", "type", "bridge"]);
        let before = links();
        let next = Networks::new(&ours, Subnet::default(), 2);
        let removed = next.sweep().await.expect("a sweep");
        assert_eq!(removed.len(), 3, "a link, a namespace, a bridge: {removed:?}");
        assert_eq!(links().len(), before.len() - 2, "{:?}", links());
        assert!(namespaces_of(&ours).is_empty() && namespaces_of(&theirs).len() == 1);
        // A link that was made and not yet marked as ours, because its maker was killed right then, is known by its name.
        let bridge = links().into_iter().find(|l| l.ends_with("b0")).expect("the neighbour's bridge");
        let lease = next.lease().await.expect("a lease");
        let ours = links().into_iter().find(|l| l.ends_with("b0") && *l != bridge).expect("our bridge");
        let half = format!("{}-77", ours.trim_end_matches("b0"));
        ip(&["link", "add", &half, "type", "veth", "peer", "name", "other77"]);
        assert_eq!(next.sweep().await.expect("a sweep"), [format!("network link {half}")]);
        drop(lease);
        assert!(next.clear().await.expect("a sweep").is_empty());
        drop(kept);
        assert!(neighbours.clear().await.expect("a sweep").is_empty());
        assert_eq!(links(), ["stranger0"]);
    });
}

#[test]
fn a_subnet_that_the_host_has_is_told() {
    if !private("a_subnet_that_the_host_has_is_told") {
        return;
    }
    ip(&["link", "add", "br-other", "type", "bridge"]);
    ip(&["addr", "add", "10.231.0.9/16", "dev", "br-other"]);
    on_a_runtime(async {
        let networks = Networks::new(&worker_name(), Subnet::default(), 0);
        let why = networks.lease().await.map(drop).expect_err("no address is free").why;
        assert!(why.contains("no /22 of 10.231.0.0/16 is free") && why.contains("live.subnet"), "{why}");
        assert_eq!(links(), ["br-other"]);
        let elsewhere = Networks::new(&worker_name(), "10.99.0.0/16".parse().expect("a subnet"), 0);
        let lease = elsewhere.lease().await.expect("a lease");
        assert!(lease.port(1).to_string().starts_with("10.99.0."));
        drop(lease);
        elsewhere.clear().await.expect("a sweep");
    });
}

/// More than a bridge holds; a minute, so only in the long repetitions.
#[test]
fn a_second_bridge_takes_what_the_first_cannot() {
    if std::env::var_os("ELAPSE_SOAK").is_none() || !private("a_second_bridge_takes_what_the_first_cannot") {
        return;
    }
    let worker = worker_name();
    on_a_runtime(async {
        let networks = Networks::new(&worker, Subnet::default(), 0);
        let mut leases = Vec::new();
        for i in 0..1_010 {
            leases.push(networks.lease().await.unwrap_or_else(|e| panic!("{i}: {e}")));
        }
        assert_eq!(links().len(), 1_010 + 2, "two bridges");
        let last = leases.last().expect("one").port(1).ip().to_string();
        assert!(last.starts_with("10.231.4."), "{last}");
        drop(leases);
        assert!(networks.clear().await.expect("a sweep").is_empty());
        assert!(links().is_empty() && namespaces_of(&worker).is_empty());
    });
}

fn call(number: u64) -> Invocation {
    let intended = Duration::from_millis(1);
    Invocation { number, function: FunctionId(0), arrival: Time::ZERO, intended, fails: false, usage: None }
}

/// On every real backend: our agent, reached over TCP in a network of its own, and over the socket in one too.
#[test]
fn containers_answer_in_networks_of_their_own() {
    let test = "containers_answer_in_networks_of_their_own";
    if !private(test) {
        return;
    }
    // One that was created ahead has a network too, which would be counted.
    let real = benches(test).into_iter().filter(|bench| bench.is_real() && !bench.name().contains("ahead"));
    for bench in real {
        let name = bench.name();
        println!("{test} on {name}");
        bench.run(|bench| async move {
            for (protocol, network) in [
                (Protocol::Tcp, None),
                (Protocol::Unix, Some(Network::Bridge)),
                (Protocol::Tcp, Some(Network::Host)),
            ] {
                // What the daemon starts is in the host's network, and this test is not.
                if network == Some(Network::Host) && bench.name() != "process" {
                    continue;
                }
                let mut spec = FunctionSpec::new("f", Mem(64 << 20));
                spec.program.behaviour = Some(Behaviour::Echo);
                (spec.program.protocol, spec.program.network) = (protocol, network);
                bench.backend().admit(FunctionId(0), &spec).expect("admitted");
                let (memory, cpus) = (spec.memory, Cpus::from_cores(1));
                let create =
                    |nth| Create { function: FunctionId(0), memory, cpus, nth, gpu: None, at_once: false };
                let mut sandboxes = Vec::new();
                for nth in 0..3 {
                    let created = bench.backend().create(&create(nth)).await;
                    sandboxes.push(created.unwrap_or_else(|e| panic!("{}: {}", bench.name(), e.why)));
                }
                let expected = if network == Some(Network::Host) { 0 } else { 3 };
                let joined = || links().iter().filter(|l| l.contains('-')).count();
                // Those of the containers before are removed off the hot path.
                for _ in 0..200 {
                    if joined() == expected {
                        break;
                    }
                    rt::sleep(Duration::from_millis(10)).await;
                }
                assert_eq!(joined(), expected, "{}: {:?}", bench.name(), links());
                for (number, sandbox) in (0..).zip(&sandboxes) {
                    bench.backend().invoke(*sandbox, &call(number)).await.expect("completed");
                }
                for sandbox in sandboxes {
                    bench.backend().remove(sandbox).await;
                }
            }
        });
        assert_eq!(links(), Vec::<String>::new(), "{name}");
    }
}

/// Behind a bridge a container answers the host, and begins nothing: neither with the host, unless it may, nor with its neighbour.
#[test]
fn from_a_bridge_neither_the_host_nor_a_neighbour_is_reached() {
    let test = "from_a_bridge_neither_the_host_nor_a_neighbour_is_reached";
    if !private(test) || !has("process", test, program("python3")) {
        return;
    }
    for reach_host in [false, true] {
        let worker = worker_name();
        on_a_runtime(async {
            let common = common_of(&worker);
            let networks = Networks::new(&worker, Subnet::default(), 0).reaching_host(reach_host);
            let common = Common { networks: Rc::clone(&networks), ..common };
            let engine: Rc<dyn Engine> = Rc::new(Processes::new(common).expect("an engine"));
            let config = LiveConfig { worker: worker.clone(), ..LiveConfig::default() };
            let live = Live::new(Rc::clone(&engine), config);
            let python = |text: String| vec!["/usr/bin/python3".to_string(), "-c".into(), text];
            // On every address of this host, the bridge's among them.
            let host = std::net::TcpListener::bind("0.0.0.0:0").expect("a port");
            let port = host.local_addr().expect("an address").port();
            let mut server = FunctionSpec::new("server", Mem(64 << 20));
            server.program.behaviour = Some(Behaviour::Echo);
            server.program.protocol = Protocol::Tcp;
            let asking = |address: String| {
                let mut asks = FunctionSpec::new(format!("asks-{address}"), Mem(64 << 20));
                asks.program.behaviour = Some(Behaviour::Exec);
                asks.program.command =
                    python(format!("import socket; socket.create_connection(({address}), timeout=1)"));
                asks.program.network = Some(Network::Bridge);
                asks
            };
            // The first slot of the first bridge, and the bridge itself.
            let (neighbour, gateway) =
                (asking("'10.231.0.2', 8080".into()), asking(format!("'10.231.0.1', {port}")));
            for (id, spec) in (0..).map(FunctionId).zip([&server, &neighbour, &gateway]) {
                live.admit(id, spec).expect("admitted");
            }
            let mut all = Vec::new();
            for id in 0..3 {
                let create = Create {
                    function: FunctionId(id),
                    memory: Mem(64 << 20),
                    cpus: Cpus::from_cores(1),
                    nth: 0,
                    gpu: None,
                    at_once: false,
                };
                all.push(live.create(&create).await.unwrap_or_else(|e| panic!("{id}: {}", e.why)));
            }
            let answer = async |id: u32| {
                let invocation = Invocation { function: FunctionId(id), ..call(u64::from(id)) };
                live.invoke(all[id as usize], &invocation).await
            };
            answer(0).await.expect("the host reaches it");
            assert!(answer(1).await.is_err(), "its neighbour");
            assert_eq!(answer(2).await.is_ok(), reach_host, "the host");
            for sandbox in all.clone() {
                live.remove(sandbox).await;
            }
            assert!(engine.sweep().await.expect("a sweep").is_empty());
            assert!(networks.clear().await.expect("a sweep").is_empty());
        });
        assert_eq!((links(), namespaces_of(&worker)), (Vec::new(), Vec::new()));
        if program("nft") {
            let tables = std::process::Command::new("nft").args(["list", "tables"]).output().expect("nft");
            assert_eq!(String::from_utf8_lossy(&tables.stdout), "");
        }
    }
}

/// A worker is killed with containers that have networks: the next life takes both over, or removes both.
#[test]
fn networks_are_taken_over_or_removed_with_their_containers() {
    let test = "networks_are_taken_over_or_removed_with_their_containers";
    if !private(test) || !has("process", test, program("kill")) {
        return;
    }
    let state = crate::common::scratch(&format!("{test}-state"));
    let top = format!("state = {state:?}\non_boot = \"recover\"");
    let tables = "networks = 2\n[[function]]\nname = \"own\"\nmemory = \"64MiB\"\nbehaviour = \"echo\"\nduration = \"1ms\"\nprotocol = \"tcp\"\n";
    let mut daemon = Daemon::worker(test, &top, tables);
    let start = |daemon: &Daemon| {
        let answer = daemon.raw("POST /v1/functions/own/invoke HTTP/1.0\r\ncontent-length: 0\r\n\r\n");
        answer.lines().find_map(|l| l.strip_prefix("elapse-start: ").map(str::to_string)).unwrap_or(answer)
    };
    assert_eq!(start(&daemon), "cold");
    daemon.until("two ready beside the one that is used", || namespaces_of(&daemon.name).len() == 3);
    let before = (links(), namespaces_of(&daemon.name));
    daemon.kill();
    assert_eq!((links(), namespaces_of(&daemon.name)), before, "they outlive the worker");
    daemon.start_again();
    assert_eq!(
        (start(&daemon), &links(), &namespaces_of(&daemon.name)),
        ("warm".into(), &before.0, &before.1)
    );
    assert!(daemon.log().contains("namespaces of an earlier life taken over"), "{}", daemon.log());
    daemon.kill();
    daemon.reconfigure("on_boot = \"recover\"", "on_boot = \"clean\"");
    daemon.start_again();
    assert!(daemon.log().contains("network namespace"), "{}", daemon.log());
    assert_eq!(start(&daemon), "cold");
    let name = daemon.name.clone();
    daemon.signal("TERM");
    let (code, log) = daemon.ended();
    assert_eq!(code, Some(0), "{log}");
    assert_eq!((links(), namespaces_of(&name)), (Vec::new(), Vec::new()), "{log}");
}

/// Killed while containers with networks come and go: each life has what it knows of, and no stranger is touched.
#[test]
#[expect(clippy::disallowed_methods, reason = "it waits for another process")]
fn networks_are_as_many_as_a_worker_knows_of_however_often_it_dies() {
    const AHEAD: usize = 2;
    let test = "networks_are_as_many_as_a_worker_knows_of_however_often_it_dies";
    if !private(test) || !has("process", test, program("kill")) {
        return;
    }
    let state = crate::common::scratch(&format!("{test}-state"));
    let top = format!("state = {state:?}\non_boot = \"recover\"");
    let own = |name: &str| {
        format!(
            "[[function]]\nname = \"{name}\"\nmemory = \"64MiB\"\nbehaviour = \"echo\"\nduration = \"1ms\"\nprotocol = \"tcp\"\n\
             keep_alive = \"400ms\"\n"
        )
    };
    let mut daemon = Daemon::worker(test, &top, &format!("networks = {AHEAD}\n{}{}", own("one"), own("two")));
    ip(&["link", "add", "stranger0", "type", "bridge"]);
    let stranger = format!("stranger-{}", daemon.name);
    ip(&["netns", "add", &stranger]);
    let lives = if std::env::var_os("ELAPSE_SOAK").is_some() { 60 } else { 6 };
    let mut clean = false;
    for life in 0..lives {
        let calls = ["one", "two", "one", "two"].map(|function| daemon.client(&["invoke", function]));
        std::thread::sleep(moment(life as u64, std::time::Duration::from_millis(200)));
        daemon.kill();
        for mut call in calls {
            let _ = call.wait();
        }
        if life % 2 == 1 {
            clean = !clean;
            daemon.boots(clean);
        }
        daemon.start_again();
        daemon.until("a network for each container, and those ahead", || {
            let cached =
                daemon.json(&["status"])["metrics"]["containers_cached"].as_f64().unwrap_or(f64::NAN);
            let links =
                links().into_iter().filter(|link| link != "stranger0" && !link.ends_with("b0")).count();
            let namespaces = namespaces_of(&daemon.name).len();
            namespaces == links && namespaces as f64 == cached + AHEAD as f64
        });
    }
    daemon.ends_well();
    assert_eq!(links(), ["stranger0"]);
    assert!(Path::new("/run/netns").join(&stranger).exists(), "a stranger's namespace is gone");
    ip(&["netns", "del", &stranger]);
}
