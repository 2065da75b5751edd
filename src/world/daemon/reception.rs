//! The reception: takes the API's orders to whoever answers them, a worker's desk or a controller's, and keeps the answers
//! that are fetched later.

use super::api::{Answer, Ask, Order};
use crate::rt;
use rustc_hash::FxHashMap;
use serde_json::json;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

/// Who answers.
pub(super) trait Office: 'static {
    /// Answers a question. `id` is the request's.
    fn answer(self: Rc<Self>, ask: Ask, id: String) -> impl Future<Output = Answer>;

    /// Why an invocation of this function is not even begun, if it is not.
    fn refuses(&self, function: &str) -> Option<Answer>;

    /// Whether somebody asked for the end.
    fn drains(&self) -> bool;
}

/// See the module.
pub(super) struct Reception<O> {
    office: Rc<O>,
    later: RefCell<Later>,
}

/// Invocations that nobody waits for, and the answers of those that have one. Of the answers the oldest go first.
#[derive(Default)]
struct Later {
    answers: FxHashMap<String, Option<Answer>>,
    /// What has its answer.
    answered: VecDeque<String>,
}

/// Answers kept at most.
const KEPT: usize = 1000;

impl Later {
    /// Expects an answer under this id; false if the id is taken.
    fn expect(&mut self, id: &str) -> bool {
        if self.answers.contains_key(id) {
            return false;
        }
        self.answers.insert(id.to_string(), None);
        true
    }

    fn put(&mut self, id: &str, answer: Answer) {
        self.answers.insert(id.to_string(), Some(answer));
        self.answered.push_back(id.to_string());
        if self.answered.len() > KEPT
            && let Some(oldest) = self.answered.pop_front()
        {
            self.answers.remove(&oldest);
        }
    }

    fn fetch(&self, id: &str) -> Answer {
        match self.answers.get(id) {
            Some(Some(answer)) => answer.clone(),
            Some(None) => Answer::json(202, &json!({"id": id, "status": "under way"})),
            None => Answer::error(
                404,
                &format!(
                    "there is no invocation '{id}', or its answer is no longer kept (the last {KEPT} are)"
                ),
            ),
        }
    }
}

impl<O: Office> Reception<O> {
    pub(super) fn new(office: Rc<O>) -> Rc<Reception<O>> {
        Rc::new(Reception { office, later: RefCell::default() })
    }

    pub(super) fn drains(&self) -> bool {
        self.office.drains()
    }

    /// Begins what is ordered; its answer goes out when it is there, whoever comes in between.
    pub(super) fn take(self: &Rc<Self>, order: Order) {
        let reception = Rc::clone(self);
        rt::spawn_detached(async move {
            let Order { ask, id, reply, seat } = order;
            let office = Rc::clone(&reception.office);
            let answer = match ask {
                // What is wrong from the beginning is told now, and not to who fetches it.
                Ask::InvokeLater(call) => {
                    if let Some(refusal) = office.refuses(&call.function) {
                        refusal
                    } else if reception.later.borrow_mut().expect(&id) {
                        let told = id.clone();
                        rt::spawn_detached(async move {
                            let answer = office.answer(Ask::Invoke(call), id.clone()).await;
                            reception.later.borrow_mut().put(&id, answer);
                            drop(seat);
                        });
                        Answer::json(202, &json!({"id": told, "status": "under way"}))
                    } else {
                        Answer::error(409, "there is an invocation with this x-request-id already")
                    }
                }
                Ask::Fetch(of) => reception.later.borrow().fetch(&of),
                ask => office.answer(ask, id).await,
            };
            // Nobody may wait any more; what was done is done all the same.
            let _ = reply.send(answer);
        });
    }
}
