//! The dispatcher: takes the API's requests to whoever answers them, a worker's service or a controller's, and keeps the answers
//! that are fetched later.

use super::request::{Answer, PendingRequest, Request, UNANSWERED};
use super::roles::{Caller, Role};
use axum::body::Bytes;
use elapse::base::Status;
use elapse::rt::chance::RngKey;
use elapse::rt::supervise::{Patience, Supervised, supervise};
use elapse::rt::sync::Notify;
use elapse::rt::{self, Either};
use rustc_hash::FxHashMap;
use serde_json::json;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{pending, poll_fn};
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Who answers.
pub(super) trait Service: 'static {
    /// Answers a question. `id` is the request's.
    fn answer(self: Rc<Self>, ask: Request, id: String) -> impl Future<Output = Answer>;

    /// Why an invocation of this function is not even begun, if it is not.
    fn refuses(&self, function: &str) -> Option<Answer>;

    /// Whether somebody asked for the end.
    fn drains(&self) -> bool;

    /// What is told of its health by whoever is alive to tell it.
    fn health(&self) -> serde_json::Value {
        json!({"status": "ok"})
    }
}

/// See the module.
pub(super) struct Dispatcher<O> {
    service: Rc<O>,
    later: RefCell<Later>,
    /// Nothing is waited for any more.
    over: Cell<bool>,
    ended: Notify,
}

/// Invocations that nobody waits for, and the answers of those that have one. Of the answers the oldest go first.
#[derive(Default)]
struct Later {
    answers: FxHashMap<String, (Arc<str>, Option<Answer>)>,
    /// What has its answer.
    answered: VecDeque<String>,
    /// Bytes of those answers.
    bytes: usize,
}

/// Answers kept at most, and their bytes.
const KEPT: usize = 1000;
const KEPT_BYTES: usize = 64 << 20;

impl Later {
    /// Expects an answer under this id, for whoever of this name asked; false if the id is taken.
    fn expect(&mut self, id: &str, who: &Arc<str>) -> bool {
        if self.answers.contains_key(id) {
            return false;
        }
        self.answers.insert(id.to_string(), (Arc::clone(who), None));
        true
    }

    fn put(&mut self, id: &str, answer: Answer) {
        // What waits to be fetched has room of its own: it is not to keep what is on its way from its.
        let answer = Answer { body: Bytes::copy_from_slice(&answer.body), ..answer };
        self.bytes += answer.body.len();
        if let Some((_, expected)) = self.answers.get_mut(id) {
            *expected = Some(answer);
        }
        self.answered.push_back(id.to_string());
        // The newest is kept, however long it is.
        while self.answered.len() > KEPT || (self.bytes > KEPT_BYTES && self.answered.len() > 1) {
            let Some(oldest) = self.answered.pop_front() else { break };
            let gone = self.answers.remove(&oldest).and_then(|(_, answer)| answer);
            self.bytes -= gone.map_or(0, |answer| answer.body.len());
        }
    }

    /// The answer for who asked, or who may do everything; nobody else learns that there is one.
    fn fetch(&self, id: &str, caller: &Caller) -> Answer {
        let theirs =
            |(who, _): &&(Arc<str>, Option<Answer>)| **who == *caller.name || caller.may(Role::Operate, None);
        match self.answers.get(id).filter(theirs) {
            Some((_, Some(answer))) => answer.clone(),
            Some((_, None)) => Answer::json(202, &json!({"id": id, "status": "under way"})),
            None => Answer::error(
                404,
                &format!(
                    "there is no invocation '{id}', or its answer is no longer kept (the last {KEPT} are, of at \
                     most {} MiB)",
                    KEPT_BYTES >> 20
                ),
            ),
        }
    }
}

impl<O: Service> Dispatcher<O> {
    pub(super) fn new(service: Rc<O>) -> Rc<Dispatcher<O>> {
        Rc::new(Dispatcher {
            service,
            later: RefCell::default(),
            over: Cell::new(false),
            ended: Notify::new(),
        })
    }

    /// Whatever has no answer by now is told that there will be none.
    pub(super) fn end(&self) {
        self.over.set(true);
        self.ended.notify_waiters();
    }

    async fn is_over(&self) {
        loop {
            let told = self.ended.notified();
            if self.over.get() {
                return;
            }
            told.await;
        }
    }

    pub(super) fn drains(&self) -> bool {
        self.service.drains()
    }

    /// Begins what is ordered; its answer goes out when it is there, whoever comes in between.
    pub(super) fn take(self: &Rc<Self>, order: PendingRequest) {
        let dispatcher = Rc::clone(self);
        rt::spawn_detached(async move {
            let PendingRequest { ask, id, reply, permit } = order;
            let service = Rc::clone(&dispatcher.service);
            let answer = match ask {
                // What is wrong from the beginning is told now, and not to who fetches it.
                Request::InvokeLater(call, caller) => {
                    if let Some(refusal) = service.refuses(&call.function) {
                        refusal
                    } else if dispatcher.later.borrow_mut().expect(&id, &caller.name) {
                        let told = id.clone();
                        rt::spawn_detached(async move {
                            let answer = service.answer(Request::Invoke(call), id.clone()).await;
                            dispatcher.later.borrow_mut().put(&id, answer);
                            drop(permit);
                        });
                        Answer::json(202, &json!({"id": told, "status": "under way"}))
                    } else {
                        Answer::error(409, "there is an invocation with this x-request-id already")
                    }
                }
                Request::Fetch(of, caller) => dispatcher.later.borrow().fetch(&of, &caller),
                Request::Health => Answer::json(200, &service.health()),
                ask => match rt::select(service.answer(ask, id), dispatcher.is_over()).await {
                    Either::Left(answer) => answer,
                    Either::Right(()) => Answer::error(502, UNANSWERED).with_status(Status::Lost),
                },
            };
            // Nobody may wait any more; what was done is done all the same.
            let _ = reply.send(answer);
        });
    }
}

/// Takes orders as they come, under a supervisor.
pub(super) fn orders<O: Service>(
    dispatcher: &Rc<Dispatcher<O>>,
    orders: mpsc::Receiver<PendingRequest>,
    rng: RngKey,
) -> Supervised {
    let (dispatcher, orders) = (Rc::clone(dispatcher), Rc::new(RefCell::new(orders)));
    supervise("orders", Patience::default(), rng, move |pulse| {
        let (dispatcher, orders) = (Rc::clone(&dispatcher), Rc::clone(&orders));
        async move {
            while let Some(order) = pulse.rest(poll_fn(|cx| orders.borrow_mut().poll_recv(cx))).await {
                dispatcher.take(order);
            }
            // The API has ended, and with it soon the daemon.
            pulse.rest(pending()).await
        }
    })
}

#[cfg(test)]
mod tests {
    use super::super::roles::Roles;
    use super::*;
    use elapse::rt::chance::Seed;
    use tokio::sync::oneshot;

    struct TestService;

    impl Service for TestService {
        async fn answer(self: Rc<TestService>, _ask: Request, id: String) -> Answer {
            Answer::json(200, &json!(id))
        }

        fn refuses(&self, _function: &str) -> Option<Answer> {
            None
        }

        fn drains(&self) -> bool {
            false
        }
    }

    async fn answered(orders: &mpsc::Sender<PendingRequest>) -> Option<u16> {
        let (reply, answer) = oneshot::channel();
        let order = PendingRequest { ask: Request::Status, id: "1".into(), reply, permit: None };
        assert!(orders.send(order).await.is_ok());
        answer.await.ok().map(|answer| answer.status)
    }

    #[test]
    fn orders_are_taken_again_after_a_panic() {
        rt::Live::new().unwrap().block_on(async {
            let (sender, taken) = mpsc::channel(4);
            let dispatcher = Dispatcher::new(Rc::new(TestService));
            let watched = orders(&dispatcher, taken, Seed::new(1).named("test"));
            assert_eq!(answered(&sender).await, Some(200));
            watched.pulse.inject_panic();
            assert_eq!(answered(&sender).await, None, "whoever asked is not left waiting");
            assert_eq!(answered(&sender).await, Some(200));
            let status = watched.pulse.status();
            assert!(status.restarts == 1 && status.last_panic.is_some_and(|p| p.contains("injected")));
        });
    }

    #[test]
    fn of_the_answers_that_are_kept_the_oldest_go_first() {
        let answer =
            |bytes: usize| Answer { body: Bytes::from(vec![0; bytes]), ..Answer::json(200, &json!(null)) };
        let (who, other) =
            (Caller::new("a", Roles::of(Role::Invoke)), Caller::new("b", Roles::of(Role::Invoke)));
        let mut later = Later::default();
        for i in 0..=KEPT {
            assert!(later.expect(&i.to_string(), &who.name) && !later.expect(&i.to_string(), &who.name));
            assert_eq!(later.fetch(&i.to_string(), &who).status, 202);
            later.put(&i.to_string(), answer(1));
        }
        assert_eq!((later.fetch("0", &who).status, later.fetch("1", &who).status), (404, 200));
        assert_eq!((later.bytes, later.answers.len()), (KEPT, KEPT));
        assert_eq!(later.fetch("1", &other).status, 404, "it is another's");
        assert_eq!(later.fetch("1", &Caller::new("c", Roles::of(Role::Operate))).status, 200);
        assert!(later.expect("long", &who.name) && later.expect("longer", &who.name));
        later.put("long", answer(KEPT_BYTES - 3));
        assert_eq!((later.bytes, later.answers.len()), (KEPT_BYTES, 5));
        later.put("longer", answer(KEPT_BYTES + 1));
        assert_eq!((later.answers.len(), later.fetch("longer", &who).status), (1, 200));
    }
}
