//! The functions of a controller: what all its workers serve.

use super::super::config::check_function;
use super::super::request::{Answer, too_many};
use super::super::roles::Caller;
use super::super::service::refusal;
use super::super::state::Registered;
use super::service::ControllerService;
use bytes::Bytes;
use elapse::base::{Fault, Result};
use elapse::function_of;
use serde_json::{Value, json};
use std::rc::Rc;

/// A function that is being registered or deregistered.
struct Changing<'a>(&'a ControllerService, String);

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        self.0.changing.borrow_mut().remove(&self.1);
    }
}

impl ControllerService {
    /// Begins to change a function of this name. Workers are told one after the other, and two changes at once would leave
    /// them with different ones.
    fn change(&self, name: &str) -> Result<Changing<'_>> {
        if !self.changing.borrow_mut().insert(name.to_string()) {
            return Err(Fault::usage(format!(
                "function '{name}' is being registered or deregistered by somebody else; ask again when that is done"
            )));
        }
        Ok(Changing(self, name.to_string()))
    }

    pub(super) async fn register(&self, json: &[u8], caller: &Caller, id: &str) -> Result<Answer> {
        let Registered { config, bound } = match caller.registers(function_of(json)?) {
            Ok(function) => function,
            Err(refusal) => return Ok(refusal),
        };
        if bound && let Err(why) = self.allowed.admits(&config, &[]) {
            return Ok(Answer::error(403, &why));
        }
        check_function(&config)?;
        let written: Bytes = serde_json::to_vec(&config).map_err(|e| Fault::bug(e.to_string()))?.into();
        let name = config.name.clone();
        let _changing = self.change(&name)?;
        if self.functions.borrow().get(&name).is_some_and(|known| *known != written) {
            return Err(Fault::usage(format!(
                "there is a function '{name}' already and it differs; take another name"
            )));
        }
        let known = self.functions.borrow().contains_key(&name);
        if let Some(refused) = too_many(self.functions.borrow().len()).filter(|_| !known) {
            return Ok(refused);
        }
        let mut told = serde_json::Map::new();
        let mut served = 0;
        let asked = self.able();
        for life in &asked {
            let life = Rc::clone(life);
            let says = match self.tell(&life, &name, written.clone(), id).await {
                Ok(None) => {
                    served += 1;
                    "registered".to_string()
                }
                Ok(Some(why)) | Err(why) => why,
            };
            told.insert(life.told.name.clone(), json!(says));
        }
        if served == 0 && !told.is_empty() {
            let why = told.iter().map(|(w, says)| format!("{w}: {}", says.as_str().unwrap_or("?")));
            return Err(Fault::usage(format!(
                "no worker can serve '{name}': {}",
                why.collect::<Vec<_>>().join("; ")
            )));
        }
        if let Some(state) = &self.state {
            state.registered(&config, bound).await?;
        }
        self.functions.borrow_mut().insert(name.clone(), written.clone());
        // Who came meanwhile was told all functions but this one.
        for life in self.able().iter().filter(|life| !asked.iter().any(|a| Rc::ptr_eq(a, life))) {
            let says = self.tell(life, &name, written.clone(), id).await;
            let says = says.map_or_else(|why| why, |refused| refused.unwrap_or_else(|| "registered".into()));
            told.insert(life.told.name.clone(), json!(says));
        }
        Ok(Answer::json(201, &json!({"name": name, "workers": told})))
    }

    pub(super) async fn deregister(&self, name: &str, id: &str) -> Answer {
        let _changing = match self.change(name) {
            Ok(changing) => changing,
            Err(fault) => return refusal(&fault),
        };
        // One whose end could not be written is known to the state alone.
        let known = self.functions.borrow_mut().remove(name).is_some();
        if !known && !self.state.as_ref().is_some_and(|state| state.remembers(name)) {
            return self.unknown(name);
        }
        for life in self.able() {
            // Who does not answer now is told when it is heard of again.
            let _ = self.untell(&life, name, id).await;
        }
        if let Some(state) = &self.state
            && let Err(fault) = state.deregistered(name).await
        {
            return refusal(&fault);
        }
        Answer::json(200, &json!({"name": name, "status": "deregistered"}))
    }

    /// All functions, as they were registered.
    pub(super) fn list(&self) -> Answer {
        let functions: Vec<Value> =
            self.functions.borrow().values().filter_map(|f| serde_json::from_slice(f).ok()).collect();
        Answer::json(200, &json!({ "functions": functions }))
    }
}
