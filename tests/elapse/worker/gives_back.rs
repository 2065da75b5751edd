//! What a worker gives back: when it drains, when an invocation is cancelled, when a function is forgotten.

use super::*;

#[test]
fn drain_finishes_what_runs_and_admits_nothing() {
    in_sim(async || {
        let w = start(config(100), Model::default(), vec![function("f", 100, SEC)]);
        let running = rt::spawn(w.clone().invoke(call(0, 0, Duration::from_secs(5))));
        let queued = rt::spawn(w.clone().invoke(call(1, 0, SEC)));
        rt::sleep(SEC).await;
        let draining = rt::spawn({
            let w = w.clone();
            async move { w.drain().await }
        });
        rt::sleep(SEC).await;
        let refused = w.clone().invoke(call(2, 0, SEC)).await;
        assert_eq!((refused.status, refused.error.as_deref()), (Status::Dropped, Some("worker drains")));
        assert_eq!(draining.await, Ok(true));
        assert_eq!(running.await.unwrap().status, Status::Completed);
        assert_eq!(queued.await.unwrap().status, Status::Completed, "what was admitted is finished");
        assert_eq!(w.containers_alive(), 0);
    });
}

#[test]
fn a_cancelled_invocation_gives_back_what_it_took() {
    in_sim(async || {
        let c = Config { cores: Some(Cpus::from_cores(1)), ..config(100) };
        let w = start(c, Model::default(), vec![function("f", 100, SEC)]);
        for span in [0.5, 2.0] {
            let cut = rt::timeout(
                Duration::from_nanos_f64(span * 1e9),
                w.clone().invoke(call(0, 0, Duration::from_secs(9))),
            )
            .await;
            assert!(cut.is_err(), "cancelled while creating, then while running");
            let s = w.snapshot();
            assert_eq!((s.cpus_used, s.in_flight, s.memory_running_mb), (0.0, 0.0, 0.0));
        }
        let running = rt::spawn(w.clone().invoke(call(1, 0, Duration::from_secs(5))));
        rt::sleep(SEC).await;
        let queued = rt::timeout(SEC, w.clone().invoke(call(2, 0, SEC))).await;
        assert!(queued.is_err(), "cancelled while queued");
        assert_eq!(w.snapshot().queue_length, 0.0);
        assert_eq!(running.await.unwrap().status, Status::Completed);
    });
}

/// Whoever registers and forgets for ever takes no more numbers than what is there at once; a number is given again when nothing bears
/// it any more, and what was known under it is not.
#[test]
fn the_number_of_a_forgotten_function_is_given_again() {
    in_sim(async || {
        let w = start(config(1024), Model::default(), vec![function("stays", 128, SEC)]);
        for round in 0..1_000u32 {
            let name = format!("f{round}");
            let id = w.register(function(&name, 128, SEC)).expect("registered");
            assert_eq!(id, FunctionId(1), "round {round}");
            let run = rt::spawn(w.clone().invoke(call(u64::from(round), 1, SEC)));
            match round % 2 {
                0 => rt::sleep(Duration::from_millis(500)).await,
                _ => rt::yield_now().await,
            }
            w.deregister(id);
            // Its invocation goes on, in a container of its own: nobody else has its number meanwhile.
            let other = w.register(function("other", 128, SEC)).expect("registered");
            assert_eq!(other, FunctionId(2));
            w.deregister(other);
            let record = run.await.expect("no panic");
            assert_eq!((record.status, record.cause.map(|c| c.word())), (Status::Completed, Some("first")));
            rt::sleep(SEC).await;
        }
        assert_eq!(w.functions().len(), 3);
        assert_eq!(w.functions()[0].0.name, "stays");
        // One that is prewarmed in vain keeps its number until that is given up.
        let id = w.register(function("ahead", 1024, SEC)).expect("registered");
        let _held = rt::spawn(w.clone().invoke(call(2_000, 0, SEC * 10)));
        rt::yield_now().await;
        let (ahead, retry) = (w.clone(), Retry { attempts: 2, jitter: 0.0, ..Retry::default() });
        let tried = rt::spawn(async move { ahead.prewarm(id, retry).await });
        rt::yield_now().await;
        w.deregister(id);
        let next = w.register(function("next", 128, SEC)).expect("registered");
        assert_ne!(next, id);
        assert!(tried.await.expect("no panic").is_err());
        assert_eq!(w.register(function("last", 128, SEC)).expect("registered"), id);
    });
}

#[test]
fn who_gives_up_waiting_at_the_head_lets_the_next_one_go() {
    let records = in_sim(async || {
        let functions = vec![function("large", 200, Duration::ZERO), function("small", 50, Duration::ZERO)];
        let config = Config { memory: Some(Mem::from_mib(300)), ..Config::default() };
        let worker = start(config, Model::default(), functions);
        let runs = rt::spawn(worker.clone().invoke(call(0, 0, Duration::from_secs(10))));
        rt::yield_now().await;
        // The head needs what the first one has; the small one behind it does not.
        let head = worker.clone().invoke(call(1, 0, Duration::from_secs(1)));
        let head = rt::spawn(async move { rt::timeout(Duration::from_secs(2), head).await.is_err() });
        rt::yield_now().await;
        let small = rt::spawn(worker.clone().invoke(call(2, 1, Duration::from_secs(1))));
        assert!(head.await.expect("no panic"), "the head gives up");
        let small = small.await.expect("no panic");
        (small, runs.await.expect("no panic"))
    });
    assert_eq!((records.0.dispatch, records.0.returned), (Some(at(2.0)), at(3.0)));
    assert_eq!(records.1.returned, at(10.0));
}
