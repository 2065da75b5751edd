//! Across the wire: whether a sandbox answers already, and one invocation in it, each against the sandbox's death.

use super::Inside;
use elapse::backend::CallFault;
use elapse::base::{Duration, Exchange, Reply};
use elapse::rt::{self, Either};
use elapse_host::engine::Death;
use elapse_host::wire::{Answer, Call, WireFault};
use std::rc::Rc;

/// Pauses between two looks whether a sandbox answers already.
const FIRST_PAUSE: Duration = Duration(200_000);
const LONGEST_PAUSE: Duration = Duration(5_000_000);
/// How long a broken connection is given to turn out as the death of its sandbox.
const POST_MORTEM: Duration = Duration(200_000_000);
/// How long a daemon may take to say how a process ended that has.
const INQUEST: Duration = Duration(5_000_000_000);

/// Asks until it answers; an answer that is no HTTP, or a death, will not get better.
pub(crate) async fn until_ready(inside: &Inside) -> Result<(), String> {
    let mut pause = FIRST_PAUSE;
    loop {
        match rt::select(inside.peer.ready(), inside.sandbox.dies()).await {
            Either::Left(Ok(())) => return Ok(()),
            Either::Left(Err(WireFault::Refused(_))) => {}
            Either::Left(Err(fault)) => {
                let died = death_behind(inside).await;
                return Err(died.map_or_else(|| fault.to_string(), |death| death.to_string()));
            }
            Either::Right(death) => return Err(death.to_string()),
        }
        // A refusal may come at once, again and again, and would always be first.
        if let Either::Right(death) = rt::select(rt::sleep(pause), inside.sandbox.dies()).await {
            return Err(death.to_string());
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

pub(crate) async fn call(
    inside: Rc<Inside>,
    call: Call,
    exchange: Option<Rc<Exchange>>,
) -> Result<(), CallFault> {
    let passed = call.target.as_ref().map(|target| target.method.clone());
    let answer = match rt::select(inside.peer.call(call), inside.sandbox.dies()).await {
        Either::Left(answer) => answer,
        Either::Right(death) => return Err(dead(&death)),
    };
    if let (Some(exchange), Ok(answer)) = (exchange, &answer) {
        let (status, kind, body) = (answer.status, answer.kind.clone(), answer.body.clone());
        let headers = passed.map_or_else(Vec::new, |method| answer.carried(&method));
        exchange.answer(Reply { status, kind, body, headers });
    }
    match answer {
        // What the kernel killed for memory in there leaves an agent that tells of a failure, or of none.
        Ok(answer) => {
            let kills = inside.sandbox.kills();
            let more = kills > inside.kills.replace(kills);
            if more { Err(CallFault::OutOfMemory) } else { judge(&answer) }
        }
        // The function has answered; that nobody has room for it is not its container's fault.
        Err(fault @ WireFault::NoRoom) => Err(CallFault::Function(Rc::from(fault.to_string()))),
        Err(fault) => Err(match death_behind(&inside).await {
            Some(death) => dead(&death),
            None => CallFault::Broken(Rc::from(fault.to_string())),
        }),
    }
}

/// The death of a sandbox that a broken connection tells of: it shows a moment later, or when a daemon has said how.
async fn death_behind(inside: &Inside) -> Option<Death> {
    if let Ok(death) = rt::timeout(POST_MORTEM, inside.sandbox.dies()).await {
        return Some(death);
    }
    let lives = inside.sandbox.trace().is_none_or(|trace| trace.is_alive());
    if lives { None } else { rt::timeout(INQUEST, inside.sandbox.dies()).await.ok() }
}

fn judge(answer: &Answer) -> Result<(), CallFault> {
    if answer.is_ok() { Ok(()) } else { Err(CallFault::Function(Rc::from(answer.first_line()))) }
}

fn dead(death: &Death) -> CallFault {
    match death {
        Death::OutOfMemory => CallFault::OutOfMemory,
        Death::Ended(how) => CallFault::Broken(Rc::from(how.as_str())),
    }
}
