//! A run, from its plan to its folder.

use super::drive::{Shared, drive};
use super::scenario::{AtEnd, Scenario};
use crate::backend::{Backend, Contention, Simulated};
use crate::base::{Cpus, Fault, FunctionId, FunctionSpec, Result, Time};
use crate::load::{self, ClosedLoop, Merge, Notes, Source};
use crate::metrics::Series;
use crate::report::{self, Folder, Recorder, RunFacts, Summary, WorkerFacts};
use crate::rt::chance::Chance;
use crate::rt::wall::{Stopwatch, unix_now};
use crate::rt::{self, Counters, Either, Options, Sim, Stop};
use crate::worker::{Parts, Worker, eviction::Eviction, queue::QueuePolicy};
use elapse_real::Interrupt;
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// A run that can be started.
///
/// ```no_run
/// # use elapse::world::{Run, Scenario};
/// # fn demo(scenario: Scenario) -> elapse::base::Result<()> {
/// let finished = Run::new(scenario).simulate()?;
/// println!("{} cold starts", finished.summary.json()["cold_starts"]);
/// # Ok(())
/// # }
/// ```
pub struct Run {
    scenario: Scenario,
    eviction: Option<Box<dyn Eviction>>,
    queue: Option<Box<dyn QueuePolicy>>,
    target: Option<(PathBuf, bool)>,
    plots: bool,
    command: Vec<String>,
    interrupt: Interrupt,
    progress: Option<Box<dyn FnMut(Progress)>>,
}

/// How far a run is.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Virtual time.
    pub now: Time,
    /// Its end, as far as it is known.
    pub horizon: Option<Time>,
    /// Virtual seconds per real second.
    pub speed_up: f64,
}

/// What a run came to.
pub struct Finished {
    /// Every figure.
    pub summary: Summary,
    /// What the executor did.
    pub counters: Counters,
    /// Hash over every poll and fire.
    pub event_hash: u64,
    /// Real seconds.
    pub wall_seconds: f64,
    /// Processor seconds, loading and writing included.
    pub cpu_seconds: f64,
    /// Where the results are, if they were written.
    pub folder: Option<PathBuf>,
}

/// The parts of a workload, put together.
struct Assembled {
    functions: Vec<FunctionSpec>,
    prewarm: Vec<(FunctionId, u32)>,
    source: Box<dyn Source>,
    closed: Vec<ClosedLoop>,
    horizon: Option<Time>,
    until: Time,
    notes: Rc<RefCell<Notes>>,
    load: String,
}

impl Run {
    /// A run of a scenario that writes nothing.
    pub fn new(scenario: Scenario) -> Run {
        Run {
            scenario,
            eviction: None,
            queue: None,
            target: None,
            plots: true,
            command: Vec::new(),
            interrupt: Interrupt::default(),
            progress: None,
        }
    }

    /// With an eviction policy of the caller's.
    #[must_use]
    pub fn eviction(mut self, policy: impl Eviction + 'static) -> Run {
        self.eviction = Some(Box::new(policy));
        self
    }

    /// With a queue policy of the caller's.
    #[must_use]
    pub fn queue(mut self, policy: impl QueuePolicy + 'static) -> Run {
        self.queue = Some(Box::new(policy));
        self
    }

    /// Writes the results into a folder; `force` replaces one that holds a run.
    #[must_use]
    pub fn write_to(mut self, folder: &Path, force: bool) -> Run {
        self.target = Some((folder.to_path_buf(), force));
        self
    }

    /// With or without plots and the page.
    #[must_use]
    pub fn plots(mut self, plots: bool) -> Run {
        self.plots = plots;
        self
    }

    /// The command line, to be kept beside the results.
    #[must_use]
    pub fn command(mut self, command: Vec<String>) -> Run {
        self.command = command;
        self
    }

    /// Ends cleanly, with what it has, when this is asked for.
    #[must_use]
    pub fn interrupt(mut self, interrupt: Interrupt) -> Run {
        self.interrupt = interrupt;
        self
    }

    /// Tells how far it is, some times a second.
    #[must_use]
    pub fn progress(mut self, tell: impl FnMut(Progress) + 'static) -> Run {
        self.progress = Some(Box::new(tell));
        self
    }

    /// Runs it under the virtual clock.
    ///
    /// # Errors
    /// What of the plan or its data cannot be used, or what this host lacks.
    pub fn simulate(mut self) -> Result<Finished> {
        self.scenario.check()?;
        let clock = Stopwatch::start();
        let cpu_before = elapse_real::usage().cpu_seconds;
        if let Some((target, force)) = &self.target {
            report::check_target(target, *force)?;
        }
        let assembled = assemble(&self.scenario)?;
        let folder = self.target.take().map(|(target, force)| Folder::create(&target, force)).transpose()?;
        let window = window(&self.scenario);
        let mut recorder = Recorder::new(&assembled.functions, window);
        if let Some(folder) = folder.as_ref().filter(|_| self.scenario.records != report::Records::None) {
            let names = assembled.functions.iter().map(|f| f.name.clone()).collect();
            let (start, seed) = (self.scenario.start.0, self.scenario.seed);
            let (file, path) = (folder.file("records.csv")?, folder.target().join("records.csv"));
            recorder.write_to(
                file,
                path,
                self.scenario.records,
                start,
                names,
                vec!["simulated".into()],
                seed,
            );
        }
        let shared = Shared::new(recorder, self.scenario.invocations);
        let sim = Sim::new(Options { seed: self.scenario.seed, contain_panics: false, ..Options::default() });
        self.observe(&sim, assembled.horizon);
        let outcome = self.run_in(&sim, &shared, assembled, window)?;
        let cpu_so_far = move || elapse_real::usage().cpu_seconds - cpu_before;
        let (summary, counters, event_hash) = outcome;
        let mut finished =
            Finished { summary, counters, event_hash, wall_seconds: 0.0, cpu_seconds: 0.0, folder: None };
        if let Some(folder) = folder {
            report::write_all(&folder, &finished.summary, self.plots)?;
            finished.wall_seconds = clock.elapsed().as_secs_f64();
            finished.cpu_seconds = cpu_so_far();
            folder.put("run.json", finished.run_json(&self.command, &self.scenario)?.as_bytes())?;
            finished.folder = Some(folder.commit()?);
        }
        finished.wall_seconds = clock.elapsed().as_secs_f64();
        finished.cpu_seconds = cpu_so_far();
        Ok(finished)
    }

    fn observe(&mut self, sim: &Sim, horizon: Option<Time>) {
        let interrupt = self.interrupt.clone();
        let mut tell = self.progress.take();
        let clock = Stopwatch::start();
        let mut told = 0.0;
        sim.observe(Box::new(move |now, _events| {
            if let Some(tell) = &mut tell {
                let elapsed = clock.elapsed().as_secs_f64();
                if elapsed - told > 0.2 {
                    told = elapsed;
                    tell(Progress { now, horizon, speed_up: now.as_secs_f64() / elapsed });
                }
            }
            !interrupt.asked()
        }));
    }

    /// Runs the worker and its load in `sim`, and sums up.
    fn run_in(
        &mut self,
        sim: &Sim,
        shared: &Rc<Shared>,
        assembled: Assembled,
        window: (Time, Time),
    ) -> Result<(Summary, Counters, u64)> {
        let scenario = self.scenario.clone();
        let Assembled { functions, prewarm, source, closed, until, notes, load, .. } = assembled;
        let (eviction, queue) = (self.eviction.take(), self.queue.take());
        let started: Rc<RefCell<Option<Worker>>> = Rc::default();
        let cut = (scenario.measure.at_end == AtEnd::Cut)
            .then(|| scenario.measure.until.or(scenario.duration))
            .flatten();
        let main = {
            let (shared, started, functions, scenario) =
                (Rc::clone(shared), Rc::clone(&started), functions.clone(), scenario.clone());
            async move {
                let cores = match scenario.model.contention {
                    Contention::Permits => scenario.worker.cores.unwrap_or(Cpus::MAX),
                    Contention::Shared | Contention::None => Cpus::MAX,
                };
                let shares = scenario.worker.cores.unwrap_or(Cpus::MAX);
                let backend: Rc<dyn Backend> =
                    Rc::new(Simulated::new(scenario.model.clone(), shares, scenario.seed));
                let mut config = scenario.worker.clone();
                config.cores = Some(cores);
                let series = Series::new(config.status, scenario.metrics.points);
                let seed = scenario.seed;
                let backends = vec![backend];
                let worker = Worker::start(Parts {
                    number: 0,
                    config,
                    backends,
                    eviction,
                    queue,
                    series,
                    window,
                    seed,
                })?;
                *started.borrow_mut() = Some(worker.clone());
                for spec in functions {
                    worker.register(spec)?;
                }
                for (function, containers) in prewarm {
                    for _ in 0..containers {
                        let (worker, retry) = (worker.clone(), scenario.prewarm);
                        rt::spawn_detached(async move {
                            if let Err(fault) = worker.prewarm(function, retry).await {
                                tracing::warn!(target: "elapse", %fault);
                            }
                        });
                    }
                }
                // A task of its own, so that an arrival wakes nothing but it.
                let driver = rt::spawn_named("load", drive(shared, worker.clone(), source, closed, until));
                let driven = async move { driver.await.map_err(|e| Fault::bug(e.to_string()))? };
                let whole = async move {
                    let Some(at) = cut.map(|at| Time(at.0)) else { return driven.await };
                    match rt::select(driven, rt::sleep_until(at)).await {
                        // It ended early: the rest of the time is part of the run all the same.
                        Either::Left(driven) => {
                            rt::sleep_until(at).await;
                            driven
                        }
                        Either::Right(()) => Ok(()),
                    }
                };
                match rt::select(worker.failed(), whole).await {
                    Either::Left(why) => Err(Fault::bug(why.to_string())),
                    Either::Right(driven) => driven,
                }
            }
        };
        let interrupted = match sim.block_on(main) {
            Ok(outcome) => {
                outcome?;
                false
            }
            Err(Stop::Interrupted) => true,
            Err(stop) => return Err(Fault::bug(stop.to_string())),
        };
        let end = sim.now();
        let (counters, event_hash) = (sim.counters(), sim.event_hash());
        let worker = started.borrow().clone().ok_or_else(|| Fault::bug("the worker was never started"))?;
        let facts = facts_of(&worker, end, &scenario);
        // Drops what is still under way, which records it as unfinished.
        sim.shut_down();
        let mut recorder = shared.recorder.borrow_mut();
        recorder.finish()?;
        let notes = notes.borrow();
        let summary = Summary {
            facts: RunFacts {
                name: scenario.name.clone(),
                start_unix_ns: scenario.start.0,
                seed: scenario.seed,
                end,
                window,
                events: counters.events(),
                interrupted,
                load,
                backend: "simulated".into(),
                dirty: notes.dirty.clone(),
                remarks: remarks(&notes),
                busy: notes.busy,
            },
            functions,
            tally: recorder.tally().clone(),
            by_function: recorder.functions().to_vec(),
            workers: vec![facts],
            result_hash: recorder.hash(),
            last_arrival: recorder.last_arrival(),
        };
        Ok((summary, counters, event_hash))
    }
}

fn remarks(notes: &Notes) -> Vec<String> {
    /// Drawn busy time may differ from the trace's by this share before it is warned of.
    const TOLERANCE: f64 = 0.02;
    let mut remarks = notes.remarks.clone();
    if let Some((trace, drawn)) = notes.busy.filter(|(trace, _)| *trace > 0.0) {
        let off = drawn / trace - 1.0;
        let says = format!(
            "The trace's averages amount to {trace:.0} busy seconds; {drawn:.0} were drawn ({:+.2} %).",
            off * 100.0
        );
        remarks.push(if off.abs() > TOLERANCE {
            format!("{says} That is more than 2 % apart.")
        } else {
            says
        });
    }
    remarks
}

fn facts_of(worker: &Worker, end: Time, scenario: &Scenario) -> WorkerFacts {
    let memory = worker.memory_use(end);
    WorkerFacts {
        name: format!("worker-{}", worker.number()),
        cores: scenario.worker.cores.unwrap_or(Cpus::MAX),
        policies: worker.policy_names(),
        counts: worker.counts(),
        capacity: memory.capacity,
        peaks: [memory.peaks.used, memory.peaks.running, memory.peaks.creating, memory.peaks.cached],
        gb_seconds: memory.gb_seconds,
        containers_left: worker.containers_alive(),
        loop_restarts: worker.loops().iter().map(|l| l.status.restarts).sum(),
        series: worker.series(),
    }
}

/// What arrives in it is what the figures cover.
fn window(scenario: &Scenario) -> (Time, Time) {
    let m = &scenario.measure;
    (Time(m.warm_up.map_or(0, |d| d.0)), m.until.map_or(Time::MAX, |d| Time(d.0)))
}

fn assemble(scenario: &Scenario) -> Result<Assembled> {
    let chance = Chance::new(scenario.seed);
    let until = scenario.duration.map_or(Time::MAX, |d| Time(d.0));
    let mut functions = Vec::new();
    let mut prewarm = Vec::new();
    let mut closed = Vec::new();
    let mut merge = Merge::default();
    let mut loads = Vec::new();
    let mut open = 0;
    for config in &scenario.functions {
        let shares = config.load.as_ref().map_or(Vec::new(), |load| load.shares(config.count));
        for (i, spec) in config.specs().into_iter().enumerate() {
            let id = FunctionId(functions.len() as u32);
            let luck = chance.named(&spec.name);
            if config.prewarm > 0 {
                prewarm.push((id, config.prewarm));
            }
            functions.push(spec);
            let Some(load) = &config.load else { continue };
            let profile = config.profile(luck);
            match (&load.closed, load.open(id, shares[i], profile.clone(), until)) {
                (Some(loop_), _) => {
                    let clients = clients_of(loop_.clients, &shares, i);
                    closed.push(ClosedLoop {
                        function: id,
                        clients,
                        think: loop_.think.clone(),
                        profile,
                        luck,
                    });
                }
                (None, Some(source)) => {
                    open += 1;
                    merge.add(Box::new(source), 0);
                }
                (None, None) => {}
            }
        }
    }
    if open > 0 {
        loads.push(format!("{open} open-loop functions"));
    }
    if !closed.is_empty() {
        loads.push(format!("{} closed-loop clients", closed.iter().map(|c| c.clients).sum::<u32>()));
    }
    let mut horizon = (open > 0 || !closed.is_empty()).then_some(until).filter(|t| *t != Time::MAX);
    let mut notes = Rc::default();
    let mut source: Box<dyn Source> = Box::new(merge);
    if let Some(trace) = &scenario.trace {
        let workload = load::open(trace, scenario.seed)?;
        let offset = functions.len() as u32;
        functions.extend(workload.functions.into_iter().map(|mut spec| {
            spec.cold_start = spec.cold_start.or_else(|| workload.cold_start.clone());
            spec
        }));
        loads.push(format!(
            "a trace ({})",
            serde_json::to_value(trace.format).unwrap_or_default().as_str().unwrap_or("?")
        ));
        horizon = workload.horizon.max(horizon);
        notes = workload.notes;
        source = if open > 0 {
            let mut both = Merge::default();
            both.add(source, 0);
            both.add(workload.source, offset);
            Box::new(both)
        } else if offset > 0 {
            let mut shifted = Merge::default();
            shifted.add(workload.source, offset);
            Box::new(shifted)
        } else {
            workload.source
        };
    }
    let load = loads.join(" and ");
    Ok(Assembled { functions, prewarm, source, closed, horizon, until, notes, load })
}

/// Whole clients for the i-th of these shares, so that they add up to `clients`.
fn clients_of(clients: u32, shares: &[f64], i: usize) -> u32 {
    let up_to = |n: usize| (f64::from(clients) * shares[..n].iter().sum::<f64>()).round() as u32;
    up_to(i + 1) - up_to(i)
}

impl Finished {
    /// What is known of the run itself; the only file that differs between equal runs.
    fn run_json(&self, command: &[String], scenario: &Scenario) -> Result<String> {
        let usage = elapse_real::usage();
        let host = elapse_real::host();
        let plan = serde_json::to_value(scenario)
            .map_err(|e| Fault::bug(format!("a plan cannot be written: {e}")))?;
        let invocations = self.summary.invocations();
        let date = jiff::Timestamp::from_second(unix_now().as_secs() as i64)
            .map(|t| t.to_string())
            .unwrap_or_default();
        let value = serde_json::json!({
            "command": command,
            "version": env!("CARGO_PKG_VERSION"),
            "finished_at": date,
            "plan": plan,
            "host": {
                "kernel": host.kernel, "machine": host.machine, "cpu": host.cpu,
                "cores": host.cores, "memory_mb": host.memory >> 20,
            },
            "wall_seconds": self.wall_seconds,
            "cpu_seconds": self.cpu_seconds,
            "invocations_per_cpu_second": if self.cpu_seconds > 0.0 { invocations as f64 / self.cpu_seconds } else { 0.0 },
            "peak_rss_mb": usage.peak_rss as f64 / (1 << 20) as f64,
            "interrupted": self.summary.facts.interrupted,
            "executor": {
                "polls": self.counters.polls, "fires": self.counters.fires, "cancels": self.counters.cancels,
                "sweeps": self.counters.sweeps, "longest_queue": self.counters.longest_queue,
            },
            "event_hash": format!("{:016x}", self.event_hash),
            "result_hash": format!("{:016x}", self.summary.result_hash),
        });
        Ok(serde_json::to_string_pretty(&value).unwrap_or_default() + "\n")
    }
}
