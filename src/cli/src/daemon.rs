//! Worker and controller as daemons, and the commands that talk to a running one.

use crate::daemon_args::{
    AtArgs, ControllerArgs, InvokeArgs, NamedArgs, RegisterArgs, ResultArgs, WorkerArgs,
};
use crate::{print, running};
use elapse::base::{Duration, Fault, Result};
use elapse::{Interrupt, Overrides};
use elapse_daemon::Client;
use serde_json::Value;
use std::path::Path;

pub fn worker(args: &WorkerArgs) -> Result<u8> {
    let overrides = overrides(&args.sets)?;
    let config = elapse_daemon::load_daemon(&args.config, &overrides)?;
    if args.print_plan {
        return print::plan(&config);
    }
    let interrupt = ready()?;
    let file = args.config.clone();
    elapse_daemon::worker(config, &interrupt, move || elapse_daemon::load_daemon(&file, &overrides))?;
    Ok(0)
}

pub fn controller(args: &ControllerArgs) -> Result<u8> {
    let overrides = overrides(&args.sets)?;
    let config = elapse_daemon::load_controller(&args.config, &overrides)?;
    if args.print_plan {
        return print::plan(&config);
    }
    let interrupt = ready()?;
    let file = args.config.clone();
    elapse_daemon::controller(config, &interrupt, move || elapse_daemon::load_controller(&file, &overrides))?;
    Ok(0)
}

/// Reads what goes over a daemon's file.
fn overrides(sets: &[String]) -> Result<Overrides> {
    let mut overrides = Overrides::from_environment();
    sets.iter().try_for_each(|pair| overrides.set(pair))?;
    Ok(overrides)
}

/// Readies this process to live as a daemon: for others who make it hold much for a moment, and for signals.
fn ready() -> Result<Interrupt> {
    elapse_host::give_memory_back();
    elapse_host::raise_descriptors();
    running::listen()
}

/// How long a daemon may take for what it does at once.
const SOON: Duration = Duration::from_secs(30);
/// How long it may take for what takes as long as it takes: a function, an image.
const LONG: Duration = Duration::from_secs(15 * 60);

/// A client that gives up after `limit` where the command does not say when.
fn client(at: &AtArgs, limit: Duration) -> Result<Client> {
    let wrong = |text: &str, why: String| Fault::usage(format!("--timeout {text}: {why}"));
    let given = at.timeout.as_ref().map(|text| text.parse().map_err(|why| wrong(text, why))).transpose()?;
    Client::new(at.at.as_deref(), at.token_file.as_deref(), at.ca_file.as_deref(), given.unwrap_or(limit))
}

/// What a daemon answered: JSON is laid out, anything else is printed as it is.
fn tell(body: &[u8]) {
    match (serde_json::from_slice::<Value>(body), print::is_json()) {
        (Ok(found), true) => print::value(&found),
        (Err(_), true) => print::value(&serde_json::json!(String::from_utf8_lossy(body))),
        (Ok(found), false) if found.is_object() => print::line(format_args!("{found:#}")),
        _ => print::put(body),
    }
}

fn answer(body: Vec<u8>) -> Result<u8> {
    tell(&body);
    Ok(0)
}

pub fn register(args: &RegisterArgs) -> Result<u8> {
    let file = &args.file;
    let fault = |e: &dyn std::fmt::Display| Fault::usage(format!("cannot read {}: {e}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|e| Fault::reading(file, &e))?;
    let mut function: Value = if file.extension().is_some_and(|e| e == "json") {
        serde_json::from_str(&text).map_err(|e| fault(&e))?
    } else {
        let table: toml::Table = text.parse().map_err(|e: toml::de::Error| fault(&e.message()))?;
        serde_json::to_value(table).map_err(|e| fault(&e))?
    };
    // The daemon stands elsewhere: what is relative to the file is told as it is from anywhere.
    if let Some(code) =
        function["code"].as_str().map(|code| file.parent().unwrap_or(Path::new("")).join(code))
    {
        function["code"] =
            std::fs::canonicalize(&code).map_err(|e| Fault::reading(&code, &e))?.display().to_string().into();
    }
    answer(client(&args.at, LONG)?.post("/v1/functions", function.to_string().into_bytes())?)
}

pub fn invoke(args: &InvokeArgs) -> Result<u8> {
    let body = match (&args.body, &args.body_file) {
        (Some(text), _) => text.clone().into_bytes(),
        (None, Some(file)) => std::fs::read(file).map_err(|e| Fault::reading(file, &e))?,
        (None, None) => Vec::new(),
    };
    let (how, limit) = if args.later { ("invoke-async", SOON) } else { ("invoke", LONG) };
    let path = format!("/v1/functions/{}/{how}", args.named.function);
    answer(client(&args.named.at, limit)?.post(&path, body)?)
}

pub fn result(args: &ResultArgs) -> Result<u8> {
    answer(client(&args.at, SOON)?.get(&format!("/v1/invocations/{}", args.id))?)
}

pub fn prewarm(args: &NamedArgs) -> Result<u8> {
    let path = format!("/v1/functions/{}/prewarm", args.function);
    answer(client(&args.at, LONG)?.post(&path, Vec::new())?)
}

pub fn deregister(args: &NamedArgs) -> Result<u8> {
    answer(client(&args.at, SOON)?.delete(&format!("/v1/functions/{}", args.function))?)
}

pub fn workers(at: &AtArgs) -> Result<u8> {
    answer(client(at, SOON)?.get("/v1/workers")?)
}

pub fn list(at: &AtArgs) -> Result<u8> {
    answer(client(at, SOON)?.get("/v1/functions")?)
}

pub fn status(at: &AtArgs) -> Result<u8> {
    answer(client(at, SOON)?.get("/v1/status")?)
}

pub fn health(at: &AtArgs) -> Result<u8> {
    answer(client(at, SOON)?.health()?)
}

pub fn metrics(at: &AtArgs) -> Result<u8> {
    answer(client(at, SOON)?.get("/metrics")?)
}

pub fn drain(at: &AtArgs) -> Result<u8> {
    answer(client(at, SOON)?.post("/v1/drain", Vec::new())?)
}
