//! Load against a running system: `elapse live SCENARIO --at ADDRESS`.
//!
//! A worker or a controller is driven through its API. Open-loop invocations are sent at their instants, whatever the
//! answers, and latency counts from the instant an invocation was meant for: a system that stalls does not slow the load
//! that measures it (coordinated omission). With a number of clients each sends its next when its last was answered, and
//! latency counts from the sending. What the answer tells of queue, cold start and execution goes into the record; the
//! network is in the queue's part before, and in the overhead after.

use crate::address::peer;
use crate::here::check;
use crate::threads::log_panics;
use elapse::backend::LiveConfig;
use elapse::base::{
    CompletionSink, Duration, Fault, FunctionId, FunctionSpec, Invocation, InvocationSink, Record, Result,
    StartKind, Status, Time,
};
use elapse::load::{FunctionConfig, Source};
use elapse::rt;
use elapse::rt::wall::unix_now;
use elapse::world::{Begun, Ending, Lived, World, before_load, drive, tell, until_measured, while_hopeful};
use elapse::{Finished, Run};
use elapse_host::wire::{Answer, Method, Peer, WireFault};
use std::cell::{Cell, RefCell};
use std::path::Path;
use std::rc::Rc;

/// Where a load goes.
pub struct Target {
    peer: Peer,
    at: String,
    bearer: Option<String>,
    /// Clients that send one after the other; none: each at its instant.
    clients: Option<u32>,
}

/// How long a registration may take: images may have to be pulled.
const REGISTRATION: Duration = Duration::from_secs(300);

impl Target {
    /// A worker or controller at an address, which is asked with the token in this file; over TLS the authorities in `ca_file`
    /// are believed, or those of the public web.
    ///
    /// # Errors
    /// No address, or a file that cannot be read.
    pub fn new(
        at: &str,
        token_file: Option<&Path>,
        ca_file: Option<&Path>,
        clients: Option<u32>,
    ) -> Result<Target> {
        let read = |path: &Path| std::fs::read_to_string(path).map_err(|e| Fault::reading(path, &e));
        let token = token_file.map(read).transpose()?;
        let bearer = token.map(|t| format!("Bearer {}", t.trim()));
        Ok(Target { peer: peer(at, ca_file)?, at: at.to_string(), bearer, clients })
    }

    /// Where the load goes, as `run.json` tells it.
    fn describe(&self) -> serde_json::Value {
        serde_json::json!({"address": self.at, "clients": self.clients})
    }

    async fn ask(&self, path: &str, more: &[(&str, &str)], body: Vec<u8>) -> Result<Answer, WireFault> {
        let bearer = self.bearer.iter().map(|b| ("authorization", b.as_str()));
        let headers: Vec<_> = bearer.chain(more.iter().copied()).collect();
        self.peer.ask(Method::POST, path, &headers, body.into()).await
    }

    /// Registers the functions; `ahead` tells how many containers of which are to be created ahead.
    async fn register(
        &self,
        functions: &[FunctionSpec],
        live: &LiveConfig,
        ahead: &[(FunctionId, u32)],
    ) -> Result<()> {
        for (id, spec) in (0..).zip(functions) {
            let mut config = FunctionConfig::of(spec);
            config.behaviour.get_or_insert(live.behaviour);
            if spec.program.is_agent() && live.init > Duration::ZERO {
                config.init.get_or_insert(live.init);
            }
            config.prewarm = ahead.iter().filter(|(f, _)| *f == FunctionId(id)).map(|(_, n)| *n).sum();
            let body = serde_json::to_vec(&config).map_err(|e| Fault::bug(e.to_string()))?;
            let answer = rt::timeout(REGISTRATION, self.ask("/v1/functions", &[], body)).await;
            let answer =
                answer.map_err(|_| Fault::host(format!("{} does not answer", self.at)))?.map_err(|e| {
                    Fault::host(format!("{}: {e}; is the daemon running, and is --at its address?", self.at))
                })?;
            if !answer.is_ok() {
                return Err(Fault::usage(format!("{}: {} (HTTP {})", self.at, answer.why(), answer.status)));
            }
        }
        Ok(())
    }
}

/// The far end, as a load sees it.
struct Remote {
    target: Target,
    names: Vec<String>,
    outcome: Rc<dyn CompletionSink>,
}

/// An invocation that was sent. Dropped before it was answered, it is told as unfinished.
struct Sent {
    record: Record,
    outcome: Rc<dyn CompletionSink>,
}

impl Drop for Sent {
    fn drop(&mut self) {
        if self.record.status == Status::Unfinished {
            self.record.returned = rt::now();
        }
        self.outcome.settle(&self.record);
    }
}

struct Far(Rc<Remote>);

impl InvocationSink for Far {
    fn submit(&self, call: Invocation) {
        let remote = Rc::clone(&self.0);
        let mut record = Record::new(&call, 0, rt::now());
        record.enqueue = None;
        let mut sent = Sent { record, outcome: Rc::clone(&remote.outcome) };
        rt::spawn_detached(async move {
            let path = format!("/v1/functions/{}/invoke", remote.names[call.function.index()]);
            let duration = call.intended.0.to_string();
            let mut headers = vec![("elapse-duration-ns", duration.as_str())];
            if call.fails {
                headers.push(("elapse-fail", "1"));
            }
            let answer = remote.target.ask(&path, &headers, Vec::new()).await;
            note(&mut sent.record, answer, rt::now());
        });
    }
}

/// Puts what an answer tells into the record.
fn note(record: &mut Record, answer: Result<Answer, WireFault>, returned: Time) {
    record.returned = returned;
    let answer = match answer {
        Ok(answer) => answer,
        Err(fault) => {
            (record.status, record.error) = (Status::Failed, Some(fault.to_string().into()));
            return;
        }
    };
    let fact = |name: &str| answer.facts.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
    let word = fact("elapse-status").and_then(|w| Status::ALL.iter().find(|s| s.word() == w)).copied();
    record.status = word.unwrap_or(match answer.status {
        200..400 => Status::Completed,
        429 | 503 => Status::Dropped,
        504 => Status::TimedOut,
        _ => Status::Failed,
    });
    record.start = fact("elapse-start").and_then(|w| StartKind::ALL.iter().find(|s| s.word() == w)).copied();
    record.container = fact("elapse-container").and_then(|n| n.parse().ok());
    record.attempt = fact("elapse-attempt").and_then(|n| n.parse().ok()).unwrap_or(1);
    if record.status != Status::Completed {
        record.error = Some(answer.why().into());
    }
    let span = |name: &str| {
        let ms: f64 = fact(name)?.parse().ok()?;
        Some(Duration::from_nanos_f64(ms * 1e6))
    };
    // The far clock is not ours: its spans are laid so that they end when the answer came.
    let Some(latency) = span("elapse-latency-ms") else { return };
    let enqueue = Time(returned.0.saturating_sub(latency.0)).max(record.arrival);
    record.enqueue = Some(enqueue);
    let after = |from: Option<Time>, span: Option<Duration>| Some((from? + span?).min(returned));
    record.dispatch = after(record.enqueue, span("elapse-queue-ms"));
    record.exec_start = after(record.dispatch, span("elapse-setup-ms"));
    record.exec_end = after(record.exec_start, span("elapse-exec-ms"));
}

/// Sends one after the other: what is next arrives when a client has time for it.
struct OneByOne {
    first: Cell<Option<Invocation>>,
    rest: RefCell<Box<dyn Source>>,
    fault: Cell<Option<Fault>>,
}

impl OneByOne {
    fn next(&self) -> Option<Invocation> {
        let first = self.first.take();
        first.map_or_else(|| self.rest.borrow_mut().next(), |call| Ok(Some(call))).unwrap_or_else(|fault| {
            self.fault.set(Some(fault));
            None
        })
    }
}

/// What a reader of latencies has to know of how they came about (Tene, "How NOT to measure latency", 2013).
fn how_it_is_measured(clients: Option<u32>, closed: bool) -> String {
    match clients {
        None if !closed => "The load is an open loop: each invocation was sent when it was due, whatever the answers, and its \
                            latency counts from that instant; no omission is coordinated."
            .into(),
        None => "Where the load is an open loop, latency counts from the instant an invocation was due; where it is a closed \
                 loop, from sending: who is answered late sends later (coordinated omission)."
            .into(),
        Some(clients) => format!(
            "The load is a closed loop of {clients} clients: each sent again once it was answered, and latency counts from \
             sending, so that a slow answer delays what would have followed it (coordinated omission)."
        ),
    }
}

/// Runs a scenario's load against a worker or a controller that runs elsewhere, in real time.
///
/// # Errors
/// What of the plan or its data cannot be used, or what answers there.
pub fn live_at(run: Run, target: Target) -> Result<Finished> {
    check(run.scenario())?;
    log_panics();
    run.publish_with(crate::graphite::open).within(target)
}

impl World for Target {
    fn run(self, begun: &mut Begun) -> Result<Lived> {
        begun.at = Some(self.describe());
        if let Some(publisher) = &mut begun.publisher {
            publisher.sends_nothing();
        }
        drive_at(begun, self)
    }
}

/// Drives a load against a target until all have been answered.
fn drive_at(begun: &mut Begun, target: Target) -> Result<Lived> {
    let scenario = begun.scenario.clone();
    let runtime = crate::backend::runtime()?;
    let functions = std::mem::take(&mut begun.assembled.functions);
    let closed = !begun.assembled.closed.is_empty();
    if let Some(clients) = target.clients.filter(|_| closed) {
        return Err(Fault::usage(format!(
            "--clients {clients} makes a closed loop of the load, and the scenario has closed loops of its own; leave one out"
        )));
    }
    let ahead = &begun.assembled.prewarm;
    let registered = target.register(&functions, &scenario.live, ahead);
    runtime.block_on(before_load(registered, &begun.interrupt))?;
    runtime.restart_clock();
    let anchor = runtime.block_on(async { unix_now().as_nanos() as u64 - rt::now().0 });
    begun.facts.start_unix_ns = anchor;
    begun.shared.recorder.borrow_mut().starts_at(anchor);
    let (shared, watched) = (Rc::clone(&begun.shared), Rc::clone(&begun.shared));
    let assembled = std::mem::take(&mut begun.assembled);
    let (clients, at) = (target.clients, target.at.clone());
    begun.facts.remarks.push(how_it_is_measured(clients, closed));
    let outcome = Rc::clone(&shared) as Rc<dyn CompletionSink>;
    let names = functions.into_iter().map(|f| f.name).collect();
    let front: Rc<dyn InvocationSink> = Rc::new(Far(Rc::new(Remote { target, names, outcome })));
    let sent = Rc::clone(&shared);
    let driven = async {
        let Some(clients) = clients else {
            let open = (assembled.first, assembled.source);
            return drive(sent, front, open, assembled.closed, assembled.until).await;
        };
        let (first, rest) = (Cell::new(assembled.first), RefCell::new(assembled.source));
        let source = Rc::new(OneByOne { first, rest, fault: Cell::new(None) });
        let all: Vec<_> = (0..clients)
            .map(|_| {
                let (source, shared, front) = (Rc::clone(&source), Rc::clone(&sent), Rc::clone(&front));
                rt::spawn(async move {
                    while let Some(mut call) = source.next() {
                        call.arrival = rt::now();
                        if shared.ask(call, &front).await.is_none() {
                            return;
                        }
                    }
                })
            })
            .collect();
        for client in all {
            client.await.map_err(|e| Fault::bug(e.to_string()))?;
        }
        sent.load_is_over();
        source.fault.take().map_or(Ok(()), Err)
    };
    let whole = until_measured(&shared, driven, scenario.finishes());
    let outcome = runtime.block_on(async {
        let told = tell(begun.progress.take(), assembled.horizon, begun.interrupt.clone());
        while_hopeful(whole, &watched, scenario.measure.give_up, told).await
    });
    let end = runtime.block_on(async { rt::now() });
    if matches!(outcome, Ok(Ending::Interrupted)) {
        begun.shared.cut_short(end);
    }
    drop(runtime);
    let ending = outcome?;
    let interrupted = ending == Ending::Interrupted;
    Ok(Lived { end, interrupted, gave_up: ending.gave_up(), facts: None, backends: vec![at] })
}

#[cfg(test)]
mod tests {
    use super::*;
    use elapse::base::Invocation;

    #[test]
    fn a_refusal_is_a_sentence() {
        let call = Invocation {
            number: 0,
            function: FunctionId(0),
            arrival: Time(0),
            intended: Duration(1),
            fails: false,
            usage: None,
        };
        let told = |status: u16, body: &'static str| {
            let mut record = Record::new(&call, 0, Time(1));
            let (kind, facts, headers) = (None, Vec::new(), Default::default());
            note(&mut record, Ok(Answer { status, body: body.into(), kind, facts, headers }), Time(2));
            (record.status, record.error.map(|e| e.to_string()))
        };
        let json = "{\"error\": \"the queue is full\", \"request_id\": \"7\"}";
        assert_eq!(told(429, json), (Status::Dropped, Some("the queue is full".into())));
        assert_eq!(told(500, "a line\nand more"), (Status::Failed, Some("a line".into())));
        assert_eq!(told(200, json), (Status::Completed, None));
    }
}
