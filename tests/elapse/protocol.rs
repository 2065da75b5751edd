//! The controller's protocol by itself, and over a simulated network: the daemons' tests of losses (`losses.rs`, `fleet.rs`) have their
//! twins here, and random histories look for what neither thought of.

use crate::common::{figure, plan};
use elapse::base::{Cpus, Duration, Time};
use elapse::controller::protocol::{
    Action, Attempt, Beat, CallEnd, Farewell, Heard, Load, Newcomer, Objection, OnRefusal, Over, Protocol,
    Session, Terms, Verdict,
};
use elapse::controller::{Fleet, Health, balancer};
use elapse::rt::chance::{Purpose, RngStream, Seed};
use elapse::{Finished, Run};
use rand::RngExt;
use std::collections::BTreeMap;

const PATIENCE: Duration = Duration::from_secs(5);

fn protocol(name: &str, attempts: u32) -> Protocol {
    let balancer = balancer::build(&name.into(), Seed::new(1).named("balancer")).expect("a balancer");
    let attempt_timeout = Duration::from_secs(60);
    let on_refusal = OnRefusal::Next;
    Protocol::new(Fleet::new(balancer), Terms { lost_after: PATIENCE, attempts, attempt_timeout, on_refusal })
}

fn at(seconds: u64) -> Time {
    Time(seconds * 1_000_000_000)
}

fn newcomer(name: &str, incarnation: u64) -> Newcomer<'_> {
    Newcomer { name, incarnation, machine: "host", cores: Cpus::from_cores(2) }
}

fn join(protocol: &mut Protocol, name: &str, now: Time) -> Session {
    let session = protocol.register(newcomer(name, 1), now).expect("it may");
    assert_eq!(actions(protocol), [Action::Introduce(session)]);
    protocol.introduced(session, true, now);
    session
}

fn actions(protocol: &mut Protocol) -> Vec<Action> {
    assert_eq!(protocol.broken(), None);
    std::iter::from_fn(|| protocol.poll()).collect()
}

fn beat(incarnation: u64, draining: bool) -> Beat {
    Beat { incarnation, draining, load: Load::Left(0) }
}

/// The attempt that is to be sent, which is all there is to be done.
fn sent(protocol: &mut Protocol) -> Attempt {
    match actions(protocol).as_slice() {
        [Action::Send(attempt)] => *attempt,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_silent_worker_is_lost_its_late_answer_unheard_and_healthy_when_it_speaks() {
    let mut p = protocol("round-robin", 1);
    let session = join(&mut p, "a", at(0));
    let call = p.invoke(1, at(1));
    let attempt = sent(&mut p);
    assert_eq!(p.beat("a", beat(1, false), at(3)), Heard::Is(Health::Healthy));
    p.handle_timeout(at(7));
    assert_eq!(actions(&mut p), []);
    assert_eq!(p.next_deadline(), Some(at(8)));
    p.handle_timeout(at(8));
    let over = Action::Over { session, why: Over::Silent };
    assert_eq!(actions(&mut p), [over, Action::End { call, how: CallEnd::Lost }]);
    p.answered(attempt, Verdict::Answered { ran: true }, at(9));
    assert_eq!(actions(&mut p), []);
    let other = p.invoke(1, at(9));
    assert_eq!(actions(&mut p), [Action::End { call: other, how: CallEnd::NoWorker }]);
    // It is told what it missed before it takes part again.
    assert_eq!(p.beat("a", beat(1, false), at(10)), Heard::Registering);
    assert_eq!(
        (actions(&mut p), p.health(session)),
        (vec![Action::Introduce(session)], Some(Health::Draining))
    );
    p.introduced(session, true, at(10));
    assert_eq!(p.health(session), Some(Health::Healthy));
    p.invoke(1, at(11));
    assert_eq!(sent(&mut p).to, session);
}

#[test]
fn what_a_lost_worker_had_runs_elsewhere_where_that_is_wanted_and_a_refusal_does_not_hide_it() {
    let mut p = protocol("round-robin", 3);
    let sessions = ["a", "b", "c"].map(|name| join(&mut p, name, at(0)));
    let call = p.invoke(1, at(0));
    let first = sent(&mut p);
    p.answered(first, Verdict::Lost, at(1));
    let second = sent(&mut p);
    assert_eq!((second.attempt, second.to == first.to), (2, false));
    // It did not take it: nothing is lost by that, and the last one is tried in silence.
    p.answered(second, Verdict::NotTaken, at(1));
    let third = sent(&mut p);
    assert_eq!((third.attempt, sessions.contains(&third.to)), (2, true));
    // A refusal of another attempt does not undo that the first may have run.
    p.answered(third, Verdict::Answered { ran: false }, at(2));
    assert_eq!(actions(&mut p), [Action::End { call, how: CallEnd::Lost }]);
    assert_eq!((p.totals().lost, p.totals().retries, p.under_way()), (1, 1, 0));
}

#[test]
fn an_attempt_that_takes_too_long_is_lost_though_its_worker_is_heard_of() {
    let mut p = protocol("round-robin", 1);
    join(&mut p, "a", at(0));
    let call = p.invoke(1, at(0));
    sent(&mut p);
    for second in (1..60).step_by(3) {
        assert_eq!(p.beat("a", beat(1, false), at(second)), Heard::Is(Health::Healthy));
        p.handle_timeout(at(second));
    }
    assert_eq!(actions(&mut p), []);
    p.handle_timeout(at(60));
    assert_eq!(actions(&mut p), [Action::End { call, how: CallEnd::Lost }]);
}

#[test]
fn a_worker_that_drains_or_leaves_answers_what_it_has() {
    let mut p = protocol("round-robin", 1);
    let session = join(&mut p, "a", at(0));
    let (first, second) = (p.invoke(1, at(0)), p.invoke(1, at(0)));
    let sends = actions(&mut p);
    let [Action::Send(one), Action::Send(two)] = sends.as_slice() else { panic!("{sends:?}") };
    assert_eq!(p.beat("a", beat(1, true), at(1)), Heard::Is(Health::Draining));
    let refused = p.invoke(1, at(1));
    assert_eq!(actions(&mut p), [Action::End { call: refused, how: CallEnd::NoWorker }]);
    assert_eq!(p.leave("a", Some(1), at(2)), Farewell::Left);
    // What overtakes the farewell, or is overtaken by it, is heard for five seconds.
    p.answered(*one, Verdict::Answered { ran: true }, at(3));
    assert_eq!(actions(&mut p), [Action::End { call: first, how: CallEnd::Answered }]);
    p.handle_timeout(at(7));
    let over = Action::Over { session, why: Over::Left };
    assert_eq!(actions(&mut p), [over, Action::End { call: second, how: CallEnd::Lost }]);
    p.answered(*two, Verdict::Answered { ran: true }, at(8));
    assert_eq!((actions(&mut p), p.leave("a", None, at(9))), (vec![], Farewell::Unknown));
}

#[test]
fn a_later_life_replaces_an_earlier_one_and_an_earlier_one_is_refused() {
    let mut p = protocol("round-robin", 1);
    let first = join(&mut p, "a", at(0));
    let call = p.invoke(1, at(0));
    sent(&mut p);
    let elsewhere = Newcomer { machine: "another", ..newcomer("a", 2) };
    assert_eq!(p.register(elsewhere, at(1)), Err(Objection::OtherHost));
    // Its answer was lost: it says again what it said, and what it has goes on.
    assert_eq!(p.register(newcomer("a", 1), at(1)), Ok(first));
    assert_eq!(actions(&mut p), []);
    let second = p.register(newcomer("a", 2), at(2)).expect("a later life");
    let over = Action::Over { session: first, why: Over::Replaced };
    let lost = Action::End { call, how: CallEnd::Lost };
    assert_eq!(actions(&mut p), [over, lost, Action::Introduce(second)]);
    assert_eq!(p.register(newcomer("a", 1), at(3)), Err(Objection::LaterLife));
    assert_eq!(p.beat("a", beat(1, false), at(3)), Heard::OtherLife { later: true });
    assert_eq!(p.beat("a", beat(3, false), at(3)), Heard::OtherLife { later: false });
    // A life that could not be introduced has to register again.
    p.introduced(second, false, at(4));
    assert_eq!(actions(&mut p), [Action::Over { session: second, why: Over::NotIntroduced }]);
    assert_eq!(p.beat("a", beat(2, false), at(4)), Heard::Unknown);
    // One that is lost may be on another host from then on, whatever its number.
    join(&mut p, "b", at(4));
    p.handle_timeout(at(20));
    let elsewhere = Newcomer { machine: "another", ..newcomer("b", 0) };
    assert!(p.register(elsewhere, at(21)).is_ok());
}

#[test]
fn a_controller_that_is_started_again_is_told_who_there_is_and_one_that_ends_takes_nobody() {
    let mut p = protocol("least-loaded", 1);
    assert_eq!(p.beat("a", beat(7, false), at(0)), Heard::Unknown);
    let session = p.register(newcomer("a", 7), at(0)).expect("it may");
    assert_eq!(p.beat("a", beat(7, false), at(1)), Heard::Registering);
    p.introduced(session, true, at(2));
    p.serves(session, 9, false);
    actions(&mut p);
    let call = p.invoke(9, at(3));
    assert_eq!(actions(&mut p), [Action::End { call, how: CallEnd::NoWorker }]);
    p.drain();
    assert_eq!(p.register(newcomer("b", 1), at(4)), Err(Objection::Draining));
}

#[test]
fn what_is_kept_follows_what_is_under_way() {
    let mut p = protocol("round-robin", 1);
    join(&mut p, "a", at(0));
    for n in 0..10_000 {
        p.invoke(1, at(n / 1000));
        let attempt = sent(&mut p);
        p.answered(attempt, Verdict::Answered { ran: true }, at(n / 1000));
        actions(&mut p);
        assert!(p.deadlines() < 100, "{} instants are kept for nothing", p.deadlines());
    }
}

/// A random history: workers that live, die, go silent, drain and leave; messages that are late, lost and twice; calls. Each call ends
/// once, and what the protocol holds agrees with itself after every step.
fn history(seed: u64) -> Result<(), String> {
    let r = &mut Seed::new(seed).named("history").draw(Purpose::Generate, 0);
    let names = ["a", "b", "c", "d"];
    let kind = ["round-robin", "least-loaded", "power-of-two", "locality"][r.random_range(0..4)];
    let attempts = r.random_range(1..4);
    let mut p = protocol(kind, attempts);
    let mut now = Time(0);
    let mut open: BTreeMap<u64, u32> = BTreeMap::new();
    let mut sends: Vec<Attempt> = Vec::new();
    let mut introductions: Vec<Session> = Vec::new();
    let mut lives = [0u64; 4];
    let pick = |r: &mut RngStream, n: usize| r.random_range(0..n.max(1));
    for _ in 0..r.random_range(20..300) {
        now = now + Duration::from_millis(r.random_range(0..2500));
        match r.random_range(0..12u8) {
            0 => {
                let i = pick(r, 4);
                lives[i] += u64::from(r.random_bool(0.7));
                let machine = if r.random_bool(0.9) { "host" } else { "another" };
                let _ = p.register(Newcomer { machine, ..newcomer(names[i], lives[i]) }, now);
            }
            1 => {
                let _ = p.leave(names[pick(r, 4)], r.random_bool(0.5).then(|| lives[0]), now);
            }
            2..5 => {
                let i = pick(r, 4);
                let _ = p.beat(names[i], beat(lives[i], r.random_bool(0.1)), now);
            }
            5 if !introductions.is_empty() => {
                let session = introductions.swap_remove(pick(r, introductions.len()));
                p.introduced(session, r.random_bool(0.9), now);
            }
            6 if !sends.is_empty() => {
                // Now and then an answer comes twice.
                let i = pick(r, sends.len());
                let attempt = if r.random_bool(0.2) { sends[i] } else { sends.swap_remove(i) };
                let verdict = [
                    Verdict::Answered { ran: true },
                    Verdict::Answered { ran: false },
                    Verdict::NotTaken,
                    Verdict::Unreached,
                    Verdict::Lost,
                ][pick(r, 5)];
                p.answered(attempt, verdict, now);
            }
            7 => p.handle_timeout(now),
            8 if !open.is_empty() && r.random_bool(0.2) => {
                let call = *open.keys().nth(pick(r, open.len())).expect("there is one");
                p.give_up(call);
                open.remove(&call);
            }
            _ => drop(open.insert(p.invoke(pick(r, 3) as u64, now), 0)),
        }
        while let Some(action) = p.poll() {
            match action {
                Action::Send(attempt) => {
                    let sent =
                        open.get_mut(&attempt.call).ok_or(format!("{attempt:?} is of no open call"))?;
                    *sent += 1;
                    if attempt.nth != *sent || attempt.attempt > attempts || attempt.attempt > attempt.nth {
                        return Err(format!("{attempt:?} is the {sent}. of its call"));
                    }
                    if p.health(attempt.to) != Some(Health::Healthy) {
                        return Err(format!("{attempt:?} goes to a worker that takes none"));
                    }
                    sends.push(attempt);
                }
                Action::End { call, .. } => {
                    open.remove(&call).ok_or(format!("call {call} ends twice, or never came"))?;
                }
                Action::Introduce(session) => introductions.push(session),
                Action::Over { .. } => {}
            }
        }
        if let Some(why) = p.broken() {
            return Err(why);
        }
        if p.under_way() != open.len() as u64 {
            return Err(format!("{} are under way, and {} are open", p.under_way(), open.len()));
        }
        if p.next_deadline().is_none() && !open.is_empty() {
            return Err("calls are under way, and nothing is ever due".into());
        }
    }
    // When nobody is heard of any more every call comes to its end.
    p.handle_timeout(now + Duration::from_secs(1000));
    while let Some(action) = p.poll() {
        if let Action::End { call, .. } = action {
            open.remove(&call).ok_or(format!("call {call} ends twice"))?;
        }
    }
    open.is_empty().then_some(()).ok_or(format!("{} calls never end", open.len()))
}

#[test]
fn random_histories_end_every_call_once() {
    let seeds = if std::env::var_os("ELAPSE_SOAK").is_some() { 1_000_000 } else { 5_000 };
    let wrong: Vec<String> = (0..seeds)
        .filter_map(|seed| history(seed).err().map(|why| format!("seed {seed}: {why}")))
        .take(5)
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn fleet(keys: &str, faults: &str) -> Finished {
    seeded(keys, faults, 1)
}

fn seeded(keys: &str, faults: &str, seed: u64) -> Finished {
    let delay = if keys.contains("delay") { "" } else { "delay = \"1ms\"" };
    let text = format!(
        r#"
name = "fleet"
seed = {seed}
duration = "60s"
[worker]
count = 3
cores = 4
memory = "4GiB"
[controller]
balancer = "round-robin"
{delay}
lost_after = "3s"
{keys}
{faults}
[model]
cold_start = "500ms"
[[function]]
name = "f"
memory = "128MiB"
duration = "400ms"
load = {{ constant = "9/s" }}
"#
    );
    Run::new(plan(&text)).checked(true).simulate().unwrap_or_else(|e| panic!("{e}"))
}

fn statuses(run: &Finished) -> [f64; 3] {
    ["completed", "lost", "dropped"].map(|name| figure(run, name))
}

const KILL: &str = "[[fault]]\nat = \"10s\"\nworker = 1\nkind = \"kill\"";

/// By hand: the worker that is killed at 10 s gets the calls of (3 k + 1) / 9 s. It has that of 9.778 s. It was heard of last at 9.001 s,
/// as its heartbeat of 10 s comes behind its end, so it is lost at 12.001 s, and gets those of 10.111, 10.444 ... 11.778 s: 7 in all.
#[test]
fn a_killed_worker_costs_what_it_had_and_what_it_was_sent_until_it_is_lost() {
    let run = fleet("", KILL);
    let [completed, lost, dropped] = statuses(&run);
    assert_eq!((completed + lost, dropped), (540.0, 0.0));
    assert_eq!(lost, 7.0);
    let retried = fleet("on_loss = \"retry\"", KILL);
    assert_eq!(statuses(&retried), [540.0, 0.0, 0.0]);
    // They wait until the worker is lost: that of 9.778 s for 2.223 s.
    assert!(figure(&retried, "latency_ms.max") >= 2620.0 && figure(&run, "latency_ms.p50") < 1000.0);
}

#[test]
fn a_worker_that_is_restarted_comes_back_empty_and_takes_part() {
    let run = fleet("", "[[fault]]\nat = \"10s\"\nworker = 1\nkind = \"restart\"\nfor = \"20s\"");
    let killed = fleet("", KILL);
    let gone =
        fleet("on_loss = \"retry\"", "[[fault]]\nat = \"10s\"\nworker = 1\nkind = \"restart\"\nfor = \"1s\"");
    assert_eq!(statuses(&run)[1], statuses(&killed)[1]);
    // Two containers more: those of its second life.
    let containers = |run: &Finished| figure(run, "containers_created");
    assert!(containers(&run) > containers(&killed) && figure(&run, "cold_causes.first") > 3.0);
    // It registers again before it is lost: what it had is lost at once, and runs elsewhere.
    assert_eq!(statuses(&gone), [540.0, 0.0, 0.0]);
    assert!(figure(&gone, "latency_ms.max") < 2500.0);
    let json = run.summary.json();
    let sum = |names: &[&str]| names.iter().map(|name| json[*name].as_f64().unwrap_or(0.0)).sum::<f64>();
    let went =
        sum(&["evictions", "expirations", "containers_failed", "containers_condemned", "containers_left"]);
    assert_eq!(sum(&["containers_at_begin", "containers_created"]), went);
}

#[test]
fn a_parted_worker_goes_on_and_its_answers_are_unheard() {
    let run = fleet("", "[[fault]]\nat = \"10s\"\nworker = 1\nkind = \"part\"\nfor = \"10s\"");
    let [completed, lost, _] = statuses(&run);
    assert_eq!(completed + lost, 540.0);
    assert_eq!(lost, 7.0);
    // Its containers are there when it is back: nothing starts cold again.
    let whole = fleet("", "");
    assert_eq!(figure(&run, "containers_created"), figure(&whole, "containers_created"));
    // Less than it takes to be lost: what was on its way is lost when its attempt takes too long.
    let short = "[[fault]]\nat = \"10s\"\nworker = 1\nkind = \"part\"\nfor = \"500ms\"";
    let short = fleet("attempt_timeout = \"5s\"\non_loss = \"retry\"", short);
    assert_eq!(statuses(&short), [540.0, 0.0, 0.0]);
    assert!(figure(&short, "latency_ms.max") > 5000.0);
}

#[test]
fn lost_messages_are_seen_as_time_outs_alone_and_equal_runs_are_equal() {
    let keys = "loss = 0.02\nattempt_timeout = \"2s\"\non_loss = \"retry\"\nattempts = 3";
    let lossy = fleet(keys, "");
    let [completed, lost, dropped] = statuses(&lossy);
    assert_eq!(completed + lost + dropped, 540.0);
    // Each attempt fails with 1 - 0.98^2 = 4 %; three of them with 0.006 %.
    assert!(completed >= 539.0 && figure(&lossy, "latency_ms.p99") > 2000.0);
    let again = fleet(keys, "");
    assert_eq!((lossy.summary.result_hash, lossy.event_hash), (again.summary.result_hash, again.event_hash));
    let delays = "delay = { exponential = { mean = \"500ms\" } }";
    let (any, ordered) = (fleet(delays, ""), fleet(&format!("{delays}\nordered = true"), ""));
    assert_eq!((statuses(&any)[0], statuses(&ordered)[0]), (540.0, 540.0));
    assert!(figure(&ordered, "latency_ms.mean") > figure(&any, "latency_ms.mean"));
}

#[test]
fn a_refused_invocation_is_tried_elsewhere_where_that_is_wanted() {
    let crowded = |on_refusal: &str| {
        let text = format!(
            r#"
name = "crowded"
duration = "20s"
[worker]
count = 2
cores = 1
memory = "4GiB"
queue = {{ policy = "fifo", limit = 1 }}
[controller]
balancer = "round-robin"
on_refusal = "{on_refusal}"
[model]
cold_start = "0s"
[[function]]
name = "f"
memory = "128MiB"
duration = {{ exponential = {{ mean = "300ms" }} }}
load = {{ poisson = "6/s" }}
"#
        );
        Run::new(plan(&text)).checked(true).simulate().unwrap_or_else(|e| panic!("{e}"))
    };
    let (next, end) = (crowded("next"), crowded("end"));
    let all = |run: &Finished| figure(run, "invocations");
    assert_eq!((all(&next), statuses(&next).iter().sum::<f64>()), (all(&end), all(&next)));
    // Two workers of which one may have room are refused by both less often.
    assert!(statuses(&next)[2] < 0.8 * statuses(&end)[2], "{:?} {:?}", statuses(&next), statuses(&end));
}

/// Messages of an introduction are lost as well: a worker that comes back takes part in the end.
#[test]
fn a_restarted_worker_takes_part_though_messages_are_lost() {
    let keys = "loss = 0.3\nattempt_timeout = \"2s\"\non_loss = \"retry\"\nattempts = 9";
    let restart = "[[fault]]\nat = \"10s\"\nworker = 1\nkind = \"restart\"";
    for seed in 1..8 {
        let run = seeded(keys, restart, seed);
        let last = run.summary.workers[1].series.points().last().expect("a point");
        // What it holds at the end is of its second life.
        let column = elapse::metrics::Snapshot::INDEX.invocations;
        assert!(last.1[column] > 20.0, "seed {seed}: it got {} calls after its restart", last.1[column]);
    }
}

/// A worker that is lost before the window begins, and one whose end comes while it has calls: containers add up.
#[test]
fn containers_of_a_killed_worker_add_up() {
    for (measure, at) in
        [("warm_up = \"20s\"", "10s"), ("warm_up = \"5s\"", "10s"), ("until = \"30s\"", "40s")]
    {
        for kind in ["kill", "restart"] {
            let fault =
                format!("[measure]\n{measure}\n[[fault]]\nat = \"{at}\"\nworker = 1\nkind = \"{kind}\"");
            let json = fleet("on_loss = \"retry\"", &fault).summary.json();
            let sum =
                |names: &[&str]| names.iter().map(|name| json[*name].as_f64().unwrap_or(0.0)).sum::<f64>();
            let went = sum(&[
                "evictions",
                "expirations",
                "containers_failed",
                "containers_condemned",
                "containers_left",
            ]);
            assert_eq!(sum(&["containers_at_begin", "containers_created"]), went, "{fault}");
            let left = json["containers_left"].as_f64().expect("a number");
            assert!((4.0..20.0).contains(&left), "{fault}: {left}");
        }
    }
}

#[test]
fn where_nothing_is_lost_heartbeats_change_no_figure() {
    let (plain, watched) = (fleet("", ""), fleet("heartbeat = \"500ms\"", ""));
    assert_eq!(plain.summary.result_hash, watched.summary.result_hash);
}
