//! Random worker programs: functions, calls, cancelled calls and prewarmings, loops that panic, under every policy. When all is
//! over nothing may be held, and nothing may ever have been held beyond what there is.

use elapse::backend::{Backend, Contention, Model, Simulated};
use elapse::base::{Compute, Cpus, Dist, Duration, FunctionSpec, Invocation, Mem, Time};
use elapse::metrics::Meter;
use elapse::rt::chance::{Purpose, RngStream, Seed};
use elapse::rt::{self, Options, Sim};
use elapse::worker::{Accounting, Config, Dispatch, LOOPS, Parts, QueueConfig, Retry, Worker};
use rand::RngExt;
use std::rc::Rc;

/// What happens at an instant of a program.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Prewarm,
    /// Given up after so long.
    PrewarmCut(Duration),
    Panic,
    Invoke {
        span: Duration,
        fails: bool,
        usage: Option<Mem>,
    },
    /// Given up after so long.
    InvokeCut {
        span: Duration,
        fails: bool,
        usage: Option<Mem>,
        cut: Duration,
    },
}

struct Program {
    config: Config,
    model: Model,
    specs: Vec<FunctionSpec>,
    deeds: Vec<(Time, u32, Deed)>,
    fuzz: bool,
}

fn ms(draw: &mut RngStream, range: std::ops::Range<u64>) -> Duration {
    Duration::from_millis(draw.random_range(range))
}

impl Program {
    fn draw(seed: u64) -> Program {
        let r = &mut Seed::new(seed).named("torture").draw(Purpose::Generate, 0);
        let functions = r.random_range(1..5u32);
        let gpus = if r.random_bool(0.2) { r.random_range(1..3) } else { 0 };
        let gpu_memory = (gpus > 0 && r.random_bool(0.5)).then(|| Mem::from_mib(10));
        let queue = QueueConfig {
            policy: ["fifo", "fifo-skip", "sjf", "edf"][r.random_range(0..4)].into(),
            limit: r.random_bool(0.3).then(|| r.random_range(0..6)),
            timeout: r.random_bool(0.4).then(|| ms(r, 1..3000)),
        };
        let config = Config {
            memory: Some(Mem::from_mib([200, 400, 1000, 100_000][r.random_range(0..4)])),
            cores: r.random_bool(0.6).then(|| Cpus::from_cores(r.random_range(1..4))),
            gpus,
            gpu_memory,
            keep_alive: ms(r, 1..5000).to_string().as_str().into(),
            eviction: ["lru", "ttl", "lfu", "size", "greedy-dual"][r.random_range(0..5)].into(),
            queue,
            timeout: r.random_bool(0.4).then(|| ms(r, 1..1500)),
            unit: r.random_bool(0.3).then_some(elapse::base::Unit::App),
            accounting: if r.random_bool(0.3) { Accounting::Measured } else { Accounting::Reserved },
            dispatch: if r.random_bool(0.4) { Dispatch::Late } else { Dispatch::Early },
            max_creating: if r.random_bool(0.3) { r.random_range(1..3) } else { 0 },
            memory_check: Duration::from_millis([1, 10, 1000][r.random_range(0..3)]),
            drain: Duration::from_secs(1000),
            ..Config::default()
        };
        let model = Model {
            cold_start: Dist::constant(ms(r, 0..900)),
            removal: Dist::constant(if r.random_bool(0.5) { Duration::ZERO } else { ms(r, 0..700) }),
            creation_failure: if r.random_bool(0.4) { 0.3 } else { 0.0 },
            transient: r.random_bool(0.5),
            contention: if r.random_bool(0.3) { Contention::Shared } else { Contention::Permits },
            cpu_fraction: [0.0, 0.3, 1.0][r.random_range(0..3)],
            ..Model::default()
        };
        let spec = |i: u32, r: &mut RngStream| {
            let mut spec =
                FunctionSpec::new(format!("f{i}"), Mem::from_mib([50, 100, 150, 200][r.random_range(0..4)]));
            spec.app = format!("app{}", r.random_range(0..2));
            spec.concurrency = r.random_range(1..4);
            spec.keep_alive = r.random_bool(0.3).then(|| ms(r, 1..2000));
            if gpus > 0 && r.random_bool(0.5) {
                spec.program.compute = Compute::Gpu;
                let part = gpu_memory.is_some() && r.random_bool(0.7);
                spec.program.gpu_memory = part.then(|| Mem::from_mib(r.random_range(1..10)));
            }
            spec
        };
        let specs = (0..functions).map(|i| spec(i, r)).collect();
        let n = r.random_range(1..120);
        let deed = |k: u64, r: &mut RngStream| {
            let (span, cut, fails) = (ms(r, 0..1500), ms(r, 0..2500), r.random_bool(0.1));
            let usage = k.is_multiple_of(7).then(|| Mem::from_mib(120));
            let deed = match r.random_range(0..20u8) {
                0 => Deed::Prewarm,
                1 => Deed::PrewarmCut(cut),
                2 => Deed::Panic,
                3..6 => Deed::InvokeCut { span, fails, usage, cut },
                _ => Deed::Invoke { span, fails, usage },
            };
            (Time(r.random_range(0..8000u64) * 1_000_000), r.random_range(0..functions), deed)
        };
        let deeds = (0..n).map(|k| deed(k, r)).collect();
        Program { config, model, specs, deeds, fuzz: r.random_bool(0.3) }
    }

    /// Runs it, and tells what is wrong in the end.
    fn run(self, seed: u64) -> Result<(), String> {
        let options = Options {
            seed,
            contain_panics: false,
            polls_per_instant: 200_000,
            time_limit: Some(Time(3_000_000_000_000)),
            fuzz_schedule: self.fuzz,
            ..Options::default()
        };
        Sim::new(options)
            .block_on(self.carried_out(seed))
            .map_err(|stop| stop.to_string().lines().take(4).collect::<Vec<_>>().join(" | "))?
    }

    async fn carried_out(self, seed: u64) -> Result<(), String> {
        let capacity = self.config.memory.unwrap();
        let cores = self.config.cores.unwrap_or(Cpus::MAX);
        let backend: Rc<dyn Backend> = Rc::new(Simulated::new(self.model, cores, seed));
        let worker = Worker::start(Parts {
            number: 0,
            config: self.config,
            backends: vec![backend],
            eviction: None,
            queue: None,
            keep_alive: None,
            observers: Vec::new(),
            checked: true,
            meter: Meter::new(Duration::from_secs(1), 10_000),
            window: (Time::ZERO, Time::MAX),
            seed,
            creations: Default::default(),
        })
        .map_err(|e| e.to_string())?;
        // What cannot run here is no program.
        let Ok(ids) = self.specs.into_iter().map(|s| worker.register(s)).collect::<Result<Vec<_>, _>>()
        else {
            return Ok(());
        };
        let sent =
            self.deeds.iter().filter(|d| matches!(d.2, Deed::Invoke { .. } | Deed::InvokeCut { .. })).count()
                as u64;
        let mut tasks = Vec::new();
        for (k, (at, function, deed)) in self.deeds.into_iter().enumerate() {
            let (worker, function) = (worker.clone(), ids[function as usize]);
            tasks.push(rt::spawn(async move {
                rt::sleep_until_as(rt::Class::Arrival, at).await;
                let (number, arrival) = (k as u64, rt::now());
                match deed {
                    Deed::Prewarm => {
                        let _ = worker.prewarm(function, Retry { attempts: 2, ..Retry::default() }).await;
                    }
                    Deed::PrewarmCut(cut) => {
                        drop(rt::timeout(cut, worker.prewarm(function, Retry::default())).await)
                    }
                    Deed::Panic => drop(worker.inject_panic(LOOPS[k % LOOPS.len()])),
                    Deed::Invoke { span: intended, fails, usage } => {
                        drop(
                            worker
                                .invoke(Invocation { number, function, arrival, intended, fails, usage })
                                .await,
                        );
                    }
                    Deed::InvokeCut { span: intended, fails, usage, cut } => {
                        let call = Invocation { number, function, arrival, intended, fails, usage };
                        drop(rt::timeout(cut, worker.invoke(call)).await);
                    }
                }
            }));
        }
        let watched = worker.clone();
        let watch = rt::spawn(async move {
            for _ in 0..12_000 {
                rt::sleep(Duration::from_millis(1)).await;
                let peaks = watched.memory_use(rt::now()).peaks;
                if peaks.used > capacity {
                    return Err(format!("{} is used of {capacity}", peaks.used));
                }
            }
            Ok(())
        });
        for task in tasks {
            task.await.map_err(|e| e.to_string())?;
        }
        watch.await.map_err(|e| e.to_string())??;
        rt::sleep(Duration::from_secs(120)).await;
        let (s, c) = (worker.snapshot(), worker.counts());
        let ended: u64 = c.ended.iter().sum();
        let mut wrong = Vec::new();
        let mut zero = |what: &str, x: f64| {
            if x != 0.0 {
                wrong.push(format!("{what} {x}"));
            }
        };
        zero("cores", s.cpus_used);
        zero("in flight", s.in_flight);
        zero("queue", s.queue_length);
        zero(
            "memory",
            s.memory_running_mb + s.memory_creating_mb + s.memory_removing_mb + s.memory_cached_mb,
        );
        zero("containers", worker.containers_alive() as f64);
        zero("containers by their counts", c.containers() as f64);
        zero("invocations beside those sent", c.invocations as f64 - sent as f64);
        if ended > c.invocations {
            wrong.push(format!("{ended} ended of {}", c.invocations));
        }
        if !worker.drain().await {
            wrong.push("a drain left something".into());
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
    }
}

/// Runs the programs of these seeds and tells which are wrong.
fn all(seeds: std::ops::Range<u64>) {
    let one = |seed: u64| {
        std::panic::catch_unwind(|| Program::draw(seed).run(seed)).unwrap_or_else(|payload| {
            let text = payload.downcast_ref::<String>().map(String::as_str);
            Err(format!("it panicked: {}", text.or(payload.downcast_ref().copied()).unwrap_or("?")))
        })
    };
    let wrong: Vec<String> =
        seeds.filter_map(|seed| one(seed).err().map(|why| format!("seed {seed}: {why}"))).take(10).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A few hundred, and a hundred thousand with ELAPSE_SOAK.
#[test]
fn random_programs_give_back_what_they_took_first_half() {
    all(0..if std::env::var_os("ELAPSE_SOAK").is_some() { 50_000 } else { 400 });
}

/// The other half, beside the first.
#[test]
fn random_programs_give_back_what_they_took_second_half() {
    all(50_000..if std::env::var_os("ELAPSE_SOAK").is_some() { 100_000 } else { 50_400 });
}
