//! A run, from its plan to its folder.

use crate::assemble::assemble;
use crate::backend::Calibration;
use crate::base::{Cpus, Fault, FaultKind, Result, Time, interrupt};
use crate::begun::{Begun, Progress, remarks};
use crate::drive::Shared;
use crate::facts::{EVENTS_AT_ONCE, TICKS_ALONE, fleet_peaks, parts, stands_still, waits_for_ever};
use crate::host::{host, usage};
use crate::interrupt::Interrupt;
use crate::load::Workload;
use crate::operate::{Started, operate, simulated};
use crate::own::Own;
use crate::plot;
use crate::publisher::{ClockMarker, FromGraphite, Opener, Over, Publisher};
use crate::report::{self, Folder, Recorder, RunFacts, Setup, Summary};
use crate::rt::wall::Stopwatch;
use crate::rt::{Counters, Options, Sim, Stop};
use crate::scenario::{Scenario, Start};
use crate::setup::setup;
use crate::window;
use crate::world::World;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// A run that can be started.
///
/// ```no_run
/// # use elapse::{Run, Scenario};
/// # fn demo(scenario: Scenario) -> elapse::base::Result<()> {
/// let finished = Run::new(scenario).simulate()?;
/// println!("{} cold starts", finished.summary.json()["cold_starts"]);
/// # Ok(())
/// # }
/// ```
pub struct Run {
    pub(crate) scenario: Scenario,
    pub(crate) own: Own,
    pub(crate) workload: Option<Workload>,
    target: Option<(PathBuf, bool)>,
    plots: bool,
    command: Vec<String>,
    /// The program's commit and features.
    built: (Option<&'static str>, Vec<&'static str>),
    interrupt: Interrupt,
    progress: Option<Box<dyn FnMut(Progress)>>,
    opener: Option<Opener>,
}

/// What a run came to.
pub struct Finished {
    /// Every figure.
    pub summary: Summary,
    /// What the executor did.
    pub counters: Counters,
    /// Hash over every poll and fire; a live run has none.
    pub event_hash: Option<u64>,
    /// Real seconds.
    pub wall_seconds: f64,
    /// Processor seconds, loading and writing included.
    pub cpu_seconds: f64,
    /// Where the results are, if they were written.
    pub folder: Option<PathBuf>,
    /// What came of Graphite, if it was wanted.
    pub graphite: Option<FromGraphite>,
    /// What the first invocations of a live run said, where it was ended because none of them completed.
    pub gave_up: Option<String>,
    /// Whether the user ended it early. Where that was after the last return, the figures are whole, and plots are missing.
    pub interrupted: bool,
}

impl Run {
    /// A run of a scenario that writes nothing.
    pub fn new(scenario: Scenario) -> Run {
        Run {
            scenario,
            own: Own::default(),
            workload: None,
            target: None,
            plots: true,
            command: Vec::new(),
            built: (None, Vec::new()),
            interrupt: Interrupt::default(),
            progress: None,
            opener: None,
        }
    }

    /// With somebody who takes the run's points where the scenario names a Graphite.
    #[must_use]
    pub fn publish_with(mut self, opener: Opener) -> Run {
        self.opener = Some(opener);
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

    /// The commit and the features of the program, to be kept beside the results.
    #[must_use]
    pub fn built(mut self, commit: Option<&'static str>, features: Vec<&'static str>) -> Run {
        self.built = (commit, features);
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
        let heeding = self.heed();
        let mut begun = self.begin()?;
        if let Some(publisher) = &begun.publisher {
            publisher.check_start(self.scenario.start.0)?;
        }
        let mut names = vec!["simulated".to_string()];
        if let Some(path) = &self.scenario.model.calibration {
            begun.facts.remarks.extend(Calibration::read(path)?.remarks());
            names = self.scenario.worker.backend_names();
        } else {
            // Where nothing was measured, every backend is modelled alike.
            begun.assembled.functions.iter_mut().for_each(|f| f.backends.clear());
        }
        begun.facts.remarks.extend(self.scenario.assumed_cold_start(&begun.functions));
        let sim = Sim::new(Options {
            seed: self.scenario.seed,
            contain_panics: false,
            polls_per_instant: EVENTS_AT_ONCE,
            ticks_alone: Some(TICKS_ALONE),
            ..Options::default()
        });
        begun.observe(&sim);
        let (shared, started) = (Rc::clone(&begun.shared), Started::default());
        begun.facts.backend = "simulated".into();
        begun.facts.setup = setup(&self.scenario, false, Start(begun.facts.start_unix_ns));
        begun.shared.recorder.borrow_mut().backends(names);
        let job = begun.job();
        let main = operate(job, simulated, shared, started.clone());
        begun.facts.interrupted = match sim.block_on(main) {
            Ok(Err(fault)) if fault.kind() == FaultKind::Interrupted => true,
            Ok(outcome) => {
                outcome?;
                false
            }
            Err(Stop::Interrupted) => true,
            Err(Stop::Livelock(at, _)) => return Err(stands_still(&begun, at)),
            Err(Stop::Deadlock(_)) => return Err(waits_for_ever(&begun, sim.now())),
            Err(stop) => return Err(Fault::bug(stop.to_string())),
        };
        begun.facts.end = sim.now();
        begun.counters = sim.counters();
        begun.event_hash = Some(sim.event_hash());
        begun.workers = sim.within(|| started.facts(sim.now(), &self.scenario));
        begun.facts.fleet = started.fleet.borrow().as_ref().map(|fleet| fleet_peaks(fleet, sim.now()));
        begun.controller = started.controller.borrow().as_ref().map(|series| series.borrow().clone());
        if let Some(publisher) = &mut begun.publisher {
            let start = self.scenario.start.0;
            begun.shift = publisher.shift(start, begun.facts.end);
            let moved = start.saturating_add_signed(begun.shift * 1_000_000_000);
            for (name, series) in report::all_series(&begun.workers, begun.controller.as_ref()) {
                publisher.send(&self.scenario.name, name, series, moved);
            }
        }
        // Drops what is still under way, which records it as unfinished.
        sim.shut_down();
        drop(heeding);
        self.finish(begun)
    }

    /// Runs it in a world that is not simulated, in real time: the same worker, on what that world has.
    ///
    /// # Errors
    /// What of the plan or its data cannot be used, or what this host lacks.
    pub fn within(mut self, world: impl World) -> Result<Finished> {
        let cores = Cpus::from_cores(host().cores as u32);
        self.scenario.worker.cores.get_or_insert(cores);
        let heeding = self.heed();
        let mut begun = self.begin()?;
        let lived = world.run(&mut begun)?;
        begun.facts.setup = setup(&self.scenario, true, self.scenario.start);
        begun.facts.interrupted = lived.interrupted;
        let early = lived.gave_up.as_ref().map(|why| format!("The run was ended early: {why}."));
        begun.facts.remarks.extend(early);
        begun.gave_up = lived.gave_up;
        begun.facts.end = lived.end;
        begun.facts.backend = lived.backends.join(" and ");
        begun.workers = lived.facts.into_iter().collect();
        drop(heeding);
        self.finish(begun)
    }

    /// Its plan.
    pub fn scenario(&self) -> &Scenario {
        &self.scenario
    }

    /// Opens who takes its points, where the scenario names one.
    fn publisher(&self) -> Result<Option<Box<dyn Publisher>>> {
        let graphite = &self.scenario.graphite;
        match self.opener {
            Some(open) => open(graphite, &self.interrupt),
            None if graphite.carbon.is_none() && graphite.url.is_none() => Ok(None),
            None => Err(Fault::host(
                "[graphite]: this program was built without Graphite; build it whole (make build), or leave out carbon and url",
            )),
        }
    }

    /// Lets what reads or computes for long on this thread ask whether the user wants the end.
    fn heed(&self) -> interrupt::Heeding {
        let asked = self.interrupt.clone();
        interrupt::heed(move || asked.asked())
    }

    /// Everything before the first instant.
    fn begin(&mut self) -> Result<Begun> {
        self.scenario.check_beside(self.workload.is_some())?;
        let clock = Stopwatch::start();
        let cpu_before = usage().cpu_seconds;
        if let Some((target, force)) = &self.target {
            report::check_target(target, *force)?;
        }
        if let Some(font) = self.scenario.plots.font.as_deref().filter(|_| self.plots) {
            plot::check_font(font)?;
        }
        let assembled = assemble(&self.scenario, self.workload.take())?;
        let publisher = self.publisher()?;
        let folder = self.target.take().map(|(target, force)| Folder::create(&target, force)).transpose()?;
        let plan = window::Plan::new(&self.scenario, &assembled)?;
        if self.scenario.start.is_default()
            && let Some(epoch) = assembled.epoch
        {
            self.scenario.start = Start(epoch);
        }
        let window = plan.bounds();
        let mut recorder = Recorder::new(&assembled.functions, window);
        if self.plots && folder.is_some() {
            recorder.with_heat();
        }
        if let Some(folder) = folder.as_ref().filter(|_| self.scenario.records != report::Records::None) {
            let names = assembled.functions.iter().map(|f| f.name.clone()).collect();
            let (start, seed) = (self.scenario.start.0, self.scenario.seed);
            let (file, path) = (folder.file("records.csv")?, folder.target().join("records.csv"));
            recorder.write_to(file, path, self.scenario.records, start, names, seed);
        }
        let facts = RunFacts {
            name: self.scenario.name.clone(),
            start_unix_ns: self.scenario.start.0,
            seed: self.scenario.seed,
            end: Time::ZERO,
            window,
            ends_with_return: false,
            parts: parts(&self.scenario, &assembled.functions),
            fleet: None,
            closed: assembled.first.is_none() && !assembled.closed.is_empty(),
            events: 0,
            interrupted: false,
            load: assembled.load.clone(),
            backend: String::new(),
            dirty: Vec::new(),
            remarks: Vec::new(),
            busy: None,
            setup: Setup::default(),
        };
        let shared = Shared::new(recorder, self.scenario.invocations, plan);
        let (functions, notes) = (assembled.functions.clone(), Rc::clone(&assembled.notes));
        Ok(Begun {
            scenario: self.scenario.clone(),
            interrupt: self.interrupt.clone(),
            progress: self.progress.take(),
            own: std::mem::take(&mut self.own),
            clock,
            cpu_before,
            folder,
            window,
            functions,
            notes,
            assembled,
            shared,
            facts,
            workers: Vec::new(),
            controller: None,
            counters: Counters::default(),
            event_hash: None,
            publisher,
            shift: 0,
            marker: None,
            at: None,
            gave_up: None,
        })
    }

    /// Everything after the last instant.
    fn finish(&self, begun: Begun) -> Result<Finished> {
        // Who asked for the end before has it, with plots of what there is; who asks now does not wait for plots.
        let heeding = (!self.interrupt.asked()).then(|| self.heed());
        let Begun { clock, cpu_before, mut facts, functions, mut workers, counters, .. } = begun;
        let mut recorder = begun.shared.recorder.borrow_mut();
        recorder.finish()?;
        // Invocations count by their arrival, whichever worker they came to.
        for (i, worker) in workers.iter_mut().enumerate() {
            let came = recorder.workers().get(i).copied().unwrap_or_default();
            worker.counts.invocations = came.invocations;
            (worker.counts.cold_starts, worker.counts.warm_starts) = (came.cold_starts, came.warm_starts);
        }
        facts.window = begun.shared.window(facts.end);
        facts.ends_with_return = begun.shared.ends_with_return();
        let notes = begun.notes.borrow();
        facts.events = counters.events();
        facts.dirty.clone_from(&notes.dirty);
        facts.remarks.extend(remarks(&notes));
        if recorder.tally().invocations() == 0 {
            let (from, until) = facts.window;
            facts.remarks.push(format!(
                "Nothing arrives in the window, which is from {from} to {until}: see [measure] and the load's length."
            ));
        }
        facts.busy = notes.busy;
        let summary = Summary {
            facts,
            functions,
            tally: recorder.tally().clone(),
            by_function: recorder.functions().to_vec(),
            workers,
            controller: begun.controller,
            result_hash: recorder.hash(),
            last_arrival: recorder.last_arrival(),
            heat: recorder.heat().cloned(),
        };
        let cpu_so_far = move || usage().cpu_seconds - cpu_before;
        let event_hash = begun.event_hash;
        let interrupted = summary.facts.interrupted;
        let mut finished = Finished {
            summary,
            counters,
            event_hash,
            wall_seconds: 0.0,
            cpu_seconds: 0.0,
            folder: None,
            graphite: None,
            gave_up: begun.gave_up,
            interrupted,
        };
        let chosen = &self.scenario.graphite.plot;
        if let Some(folder) = begun.folder {
            report::write_all(&folder, &finished.summary)?;
            if self.plots {
                let about = self.about(&finished, begun.marker, begun.at.as_ref())?;
                self.plot(&folder, &finished.summary, &about)?;
            }
            finished.interrupted |= interrupt::check().is_err();
            drop(heeding);
            finished.wall_seconds = clock.elapsed().as_secs_f64();
            finished.cpu_seconds = cpu_so_far();
            let about = self.about(&finished, begun.marker, begun.at.as_ref())?;
            let text = serde_json::to_string_pretty(&about).unwrap_or_default() + "\n";
            folder.put("run.json", text.as_bytes())?;
            finished.folder = Some(folder.commit(finished.interrupted)?);
        }
        finished.wall_seconds = clock.elapsed().as_secs_f64();
        finished.cpu_seconds = cpu_so_far();
        // The results are whole and in their place: whatever Graphite does now, they stay.
        if let Some(publisher) = begun.publisher {
            let (shift, marker, plots) = (begun.shift, begun.marker, self.plots);
            let (summary, folder) = (&finished.summary, finished.folder.as_deref());
            finished.graphite =
                Some(publisher.end(&Over { summary, shift, marker, plots, folder, chosen })?);
        }
        Ok(finished)
    }

    /// What `run.json` tells.
    fn about(
        &self,
        finished: &Finished,
        marker: ClockMarker,
        at: Option<&serde_json::Value>,
    ) -> Result<serde_json::Value> {
        let mut about = finished.run_json(&self.command, &self.scenario, marker, at)?;
        about["commit"] = self.built.0.into();
        about["features"] = self.built.1.clone().into();
        Ok(about)
    }

    /// Draws the plots and writes them, with the page, unless the user asks for the end meanwhile.
    fn plot(&self, folder: &Folder, summary: &Summary, about: &serde_json::Value) -> Result<()> {
        if interrupt::check().is_err() {
            return Ok(());
        }
        let plots = plot::draw(summary, Vec::new(), &self.scenario.graphite.plot)?;
        if interrupt::check().is_ok() {
            plot::write_plots_of(folder.path(), about, &plots, false)?;
        }
        Ok(())
    }
}
