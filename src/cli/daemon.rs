//! Worker and controller as daemons, and the commands that talk to a running one.

use super::daemon_args::{AtArgs, ControllerArgs, InvokeArgs, NamedArgs, RegisterArgs, WorkerArgs};
use super::{deeds, print};
use elapse::base::{Fault, Result};
use elapse::world::{self, Client, Overrides};

pub fn worker(args: &WorkerArgs) -> Result<u8> {
    let mut overrides = Overrides::from_environment();
    for pair in &args.sets {
        overrides.set(pair)?;
    }
    let config = world::load_daemon(&args.config, &overrides)?;
    let interrupt = deeds::listen()?;
    let file = args.config.clone();
    world::worker(config, &interrupt, move || world::load_daemon(&file, &overrides))?;
    Ok(0)
}

pub fn controller(args: &ControllerArgs) -> Result<u8> {
    let mut overrides = Overrides::from_environment();
    for pair in &args.sets {
        overrides.set(pair)?;
    }
    let config = world::load_controller(&args.config, &overrides)?;
    let interrupt = deeds::listen()?;
    let file = args.config.clone();
    world::controller(config, &interrupt, move || world::load_controller(&file, &overrides))?;
    Ok(0)
}

fn client(at: &AtArgs) -> Result<Client> {
    Client::new(&at.at, at.token_file.as_deref(), at.ca_file.as_deref())
}

pub fn register(args: &RegisterArgs) -> Result<u8> {
    let file = &args.file;
    let text = std::fs::read_to_string(file).map_err(|e| Fault::reading(file, &e))?;
    let json = if file.extension().is_some_and(|e| e == "json") {
        text
    } else {
        let fault = |e: &dyn std::fmt::Display| Fault::usage(format!("cannot read {}: {e}", file.display()));
        let table: toml::Table = text.parse().map_err(|e: toml::de::Error| fault(&e.message()))?;
        serde_json::to_string(&table).map_err(|e| fault(&e))?
    };
    print::answer(&client(&args.at)?.post("/v1/functions", json.into_bytes())?)
}

pub fn invoke(args: &InvokeArgs) -> Result<u8> {
    let body = match (&args.body, &args.body_file) {
        (Some(text), _) => text.clone().into_bytes(),
        (None, Some(file)) => std::fs::read(file).map_err(|e| Fault::reading(file, &e))?,
        (None, None) => Vec::new(),
    };
    let path = format!("/v1/functions/{}/invoke", args.named.function);
    print::answer(&client(&args.named.at)?.post(&path, body)?)
}

pub fn prewarm(args: &NamedArgs) -> Result<u8> {
    let path = format!("/v1/functions/{}/prewarm", args.function);
    print::answer(&client(&args.at)?.post(&path, Vec::new())?)
}

pub fn deregister(args: &NamedArgs) -> Result<u8> {
    print::answer(&client(&args.at)?.delete(&format!("/v1/functions/{}", args.function))?)
}

pub fn workers(at: &AtArgs) -> Result<u8> {
    print::answer(&client(at)?.get("/v1/workers")?)
}

pub fn list(at: &AtArgs) -> Result<u8> {
    print::answer(&client(at)?.get("/v1/functions")?)
}

pub fn status(at: &AtArgs) -> Result<u8> {
    print::answer(&client(at)?.get("/v1/status")?)
}

pub fn drain(at: &AtArgs) -> Result<u8> {
    print::answer(&client(at)?.post("/v1/drain", Vec::new())?)
}
