//! Workers that are lost, silent, or leave while they have invocations: nothing is lost or run twice in silence.

use crate::common::daemon::{Daemon, elapse, said};
use crate::common::fleet::{
    REQUIRED, can, controller, has_one, header, health, invoke, membership, started, worker,
};

#[test]
fn what_a_lost_worker_had_is_answered_as_lost_or_run_elsewhere_and_it_may_come_back() {
    let test = "what_a_lost_worker_had_is_answered_as_lost_or_run_elsewhere_and_it_may_come_back";
    if !can(test) {
        return;
    }
    for (on_loss, succeeds) in [("fail", false), ("retry", true)] {
        let controller = controller(test, &format!("on_loss = \"{on_loss}\"\nbalancer = \"least-loaded\""));
        let mut doomed = worker(test, &controller);
        let call = std::thread::scope(|scope| {
            let call = scope.spawn(|| invoke(&controller, "slow", "x-request-id: mine\r\n"));
            controller.until("sent", || has_one(&controller, &doomed.name));
            let other = worker(test, &controller);
            doomed.kill();
            (call.join().expect("an answer"), other)
        });
        let (answer, other) = call;
        assert_eq!(answer.starts_with("HTTP/1.0 200"), succeeds, "{on_loss}: {answer}");
        assert_eq!(header(&answer, "x-request-id"), Some("mine"));
        let told = (header(&answer, "elapse-attempt"), header(&answer, "elapse-status"));
        if succeeds {
            assert_eq!(told, (Some("2"), Some("completed")), "{answer}");
        } else {
            assert_eq!(told, (Some("1"), Some("lost")), "{answer}");
            assert!(answer.contains("where it may have run"), "{answer}");
        }
        let counts = &controller.json(&["status"])["metrics"];
        assert_eq!(
            (&counts["invocations_lost"], &counts["retries"]),
            (&1.into(), &u64::from(succeeds).into())
        );
        // Everything goes to the other one meanwhile, and to both when it is back with another life.
        assert!((0..4).all(|_| invoke(&controller, "echo", "").starts_with("HTTP/1.0 200")));
        controller.until("lost", || health(&controller, &doomed.name) == "lost");
        doomed.start_again();
        assert_eq!(health(&controller, &doomed.name), "healthy");
        doomed.ends_well();
        other.ends_well();
        controller.ends_well();
    }
}

/// That a second attempt is refused does not undo that the first one may have run.
#[test]
fn a_refusal_after_a_loss_is_told_as_the_loss() {
    let test = "a_refusal_after_a_loss_is_told_as_the_loss";
    if !can(test) {
        return;
    }
    let controller = controller(test, "on_loss = \"retry\"\nbalancer = \"least-loaded\"");
    let mut doomed = worker(test, &controller);
    let (answer, other) = std::thread::scope(|scope| {
        let call = scope.spawn(|| invoke(&controller, "slow", "elapse-duration-ns: 60000000000\r\n"));
        controller.until("sent", || has_one(&controller, &doomed.name));
        let other = Daemon::worker(test, &format!("{REQUIRED}\nconcurrent = 1"), &membership(&controller));
        let answer = std::thread::scope(|scope| {
            let fills = scope.spawn(|| invoke(&other, "slow", "elapse-duration-ns: 8000000000\r\n"));
            other.until("full", || other.json(&["status"])["metrics"]["invocations"] == 1.0);
            doomed.kill();
            let answer = call.join().expect("an answer");
            assert!(fills.join().expect("an answer").starts_with("HTTP/1.0 200"));
            answer
        });
        (answer, other)
    });
    assert!(answer.starts_with("HTTP/1.0 502") && answer.contains("where it may have run"), "{answer}");
    let told = (header(&answer, "elapse-attempt"), header(&answer, "elapse-status"));
    assert_eq!(told, (Some("1"), Some("lost")), "{answer}");
    let counts = &controller.json(&["status"])["metrics"];
    for count in ["invocations_lost", "retries", "invocations_refused"] {
        assert_eq!(counts[count], 1, "{count}: {counts}");
    }
    doomed.start_again();
    doomed.ends_well();
    other.ends_well();
    controller.ends_well();
}

#[test]
fn a_silent_worker_is_lost_its_late_answer_unheard_and_healthy_when_it_speaks() {
    let test = "a_silent_worker_is_lost_its_late_answer_unheard_and_healthy_when_it_speaks";
    if !can(test) {
        return;
    }
    let controller = controller(test, "");
    let silent = worker(test, &controller);
    let call = started(&controller, "slow");
    controller.until("sent", || has_one(&controller, &silent.name));
    silent.signal("STOP");
    controller.until("lost", || health(&controller, &silent.name) == "lost");
    let output = call.wait_with_output().expect("an answer");
    assert!(!output.status.success() && said(&output).contains("has not been heard of"), "{}", said(&output));
    assert!(invoke(&controller, "echo", "").starts_with("HTTP/1.0 503"));
    // What it could not be told meanwhile it is told when it is back.
    let file = controller.folder.join("cat.toml");
    std::fs::write(&file, "name = \"cat\"\nmemory = \"64MiB\"\nbehaviour = \"exec\"\ncommand = [\"cat\"]\n")
        .expect("a file");
    assert!(controller.ask(&["register", file.to_str().expect("a path")]).status.success());
    assert!(controller.ask(&["deregister", "slow"]).status.success());
    silent.signal("CONT");
    controller.until("back", || health(&controller, &silent.name) == "healthy");
    assert!(invoke(&controller, "echo", "").starts_with("HTTP/1.0 200"));
    let answer = invoke(&controller, "cat", "");
    assert!(answer.starts_with("HTTP/1.0 200") && answer.ends_with("abc"), "{answer}");
    assert!(invoke(&controller, "slow", "").starts_with("HTTP/1.0 404"));
    silent.ends_well();
    controller.ends_well();
}

/// A worker that is heard of and does not answer holds no place of the controller's for ever.
#[test]
fn an_attempt_that_takes_too_long_is_lost_though_its_worker_is_heard_of() {
    let test = "an_attempt_that_takes_too_long_is_lost_though_its_worker_is_heard_of";
    if !can(test) {
        return;
    }
    let controller = controller(test, "attempt_timeout = \"3s\"");
    let worker = worker(test, &controller);
    let answer = invoke(&controller, "slow", "elapse-duration-ns: 6000000000\r\n");
    assert!(answer.starts_with("HTTP/1.0 502") && answer.contains("no answer within 3s"), "{answer}");
    assert_eq!(header(&answer, "elapse-status"), Some("lost"), "{answer}");
    assert_eq!(health(&controller, &worker.name), "healthy");
    assert!(invoke(&controller, "echo", "").starts_with("HTTP/1.0 200"));
    worker.ends_well();
    controller.ends_well();
}

/// Nothing that a worker admitted is lost with it, and the controller hears of its end after the answers.
#[test]
fn a_worker_that_drains_answers_what_it_has_through_its_controller() {
    let test = "a_worker_that_drains_answers_what_it_has_through_its_controller";
    if !can(test) {
        return;
    }
    let controller = controller(test, "");
    let worker = worker(test, &controller);
    let answers = std::thread::scope(|scope| {
        let calls: Vec<_> = (0..6).map(|_| scope.spawn(|| invoke(&controller, "slow", ""))).collect();
        worker.until("admitted", || worker.json(&["status"])["metrics"]["invocations"] == 6.0);
        worker.ends_well();
        calls.into_iter().map(|call| call.join().expect("an answer")).collect::<Vec<_>>()
    });
    for answer in answers {
        assert!(answer.starts_with("HTTP/1.0 200"), "{answer}");
    }
    controller.ends_well();
}

/// A load that goes on while its worker ends: what was admitted is answered, and what came too late was never begun.
#[test]
fn a_worker_that_ends_under_load_loses_nothing_that_it_admitted() {
    let test = "a_worker_that_ends_under_load_loses_nothing_that_it_admitted";
    if !can(test) {
        return;
    }
    let worker = Daemon::worker(test, "", "");
    let (file, out) = (worker.folder.join("load.toml"), worker.folder.join("out"));
    let text = "name = \"load\"\nduration = \"8s\"\n[worker]\nmemory = \"1GiB\"\n[[function]]\nname = \"nap\"\nmemory = \
                \"64MiB\"\nduration = \"10ms\"\nbehaviour = \"sleep\"\nload = { constant = \"150/s\" }\n";
    std::fs::write(&file, text).expect("a scenario");
    let at = worker.at.clone();
    let (code, log, ran) = std::thread::scope(|scope| {
        let (file, out) = (file.to_str().expect("a path"), out.to_str().expect("a path"));
        let args = ["live", file, "--at", &at, "--no-plots", "--out", out];
        let load = scope.spawn(move || elapse(&args));
        worker.until("loaded", || worker.json(&["status"])["metrics"]["invocations"].as_f64() > Some(100.0));
        worker.signal("TERM");
        let (code, log) = worker.ended();
        (code, log, load.join().expect("a run"))
    });
    assert_eq!(code, Some(0), "{log}");
    let records =
        std::fs::read_to_string(out.join("records.csv")).unwrap_or_else(|e| panic!("{e}: {}", said(&ran)));
    let (mut completed, mut late, mut unread) = (0, 0, 0);
    for line in records.lines().skip(1) {
        match line.split(',').nth(7).expect("a status") {
            "completed" => completed += 1,
            // Refused while it drained, or found nobody.
            _ if line.contains("not admitted") || line.contains("nobody answers") => late += 1,
            // Written into a connection at the moment at which it was closed: nobody read it.
            _ if line.contains("the connection broke") => unread += 1,
            _ => panic!("{line}"),
        }
    }
    let fates = (completed, late, unread);
    assert!(completed > 100 && late > 0 && unread <= 2, "it ended in the midst of it: {fates:?}");
}

/// The first SIGTERM lets what is under way be answered and takes nothing new; the second ends a controller at once.
#[test]
fn a_controller_that_ends_answers_what_it_has() {
    let test = "a_controller_that_ends_answers_what_it_has";
    if !can(test) {
        return;
    }
    let controller = controller(test, "");
    let worker = worker(test, &controller);
    let (answers, late) = std::thread::scope(|scope| {
        let call = || invoke(&controller, "slow", "elapse-duration-ns: 3000000000\r\n");
        let calls: Vec<_> = (0..4).map(|_| scope.spawn(call)).collect();
        worker.until("admitted", || worker.json(&["status"])["metrics"]["invocations"] == 4.0);
        controller.signal("TERM");
        assert!(controller.notified().contains("STOPPING=1"));
        let late = invoke(&controller, "echo", "");
        (calls.into_iter().map(|call| call.join().expect("an answer")).collect::<Vec<_>>(), late)
    });
    assert!(answers.iter().all(|answer| answer.starts_with("HTTP/1.0 200")), "{answers:?}");
    assert!(late.starts_with("HTTP/1.0 503") && late.contains("drain"), "{late}");
    let (code, log) = controller.ended();
    assert_eq!(code, Some(0), "{log}");
    worker.ends_well();
}

#[test]
fn a_controller_waits_no_longer_than_its_drain_and_not_at_all_when_told_twice() {
    let test = "a_controller_waits_no_longer_than_its_drain_and_not_at_all_when_told_twice";
    if !can(test) {
        return;
    }
    for twice in [false, true] {
        let mut controller = controller(test, if twice { "" } else { "drain = \"200ms\"" });
        controller.kill();
        controller.reconfigure(
            "duration = \"1s\"\nbehaviour = \"sleep\"",
            "duration = \"5s\"\nbehaviour = \"sleep\"",
        );
        controller.start_again();
        let worker = worker(test, &controller);
        let mut call = started(&controller, "slow");
        controller.until("sent", || has_one(&controller, &worker.name));
        controller.signal("TERM");
        assert!(controller.notified().contains("STOPPING=1"));
        if twice {
            controller.signal_again("TERM");
            assert!(!controller.child.wait().expect("it ends").success());
            let _ = std::fs::remove_file(&controller.at["unix:".len()..]);
        } else {
            let (code, log) = controller.ended();
            assert!(code == Some(0) && log.contains("beyond drain are not answered"), "{code:?} {log}");
        }
        assert!(!call.wait().expect("a client").success(), "whoever asked is not told a success");
        worker.ends_well();
    }
}

/// What a worker knows from an earlier time does not stand in the way of what the controller has now.
#[test]
fn a_worker_that_comes_back_with_an_old_description_is_told_the_new_one() {
    let test = "a_worker_that_comes_back_with_an_old_description_is_told_the_new_one";
    if !can(test) {
        return;
    }
    let controller = controller(test, "");
    let state = crate::common::scratch(&format!("{test}-state"));
    let top = format!("{REQUIRED}\nstate = {state:?}");
    let mut worker = Daemon::worker(test, &top, &membership(&controller));
    let file = controller.folder.join("count.toml");
    let register = |command: &str| {
        let text =
            format!("name = \"count\"\nmemory = \"64MiB\"\nbehaviour = \"exec\"\ncommand = {command}\n");
        std::fs::write(&file, text).expect("a file");
        let registered = controller.ask(&["register", file.to_str().expect("a path")]);
        assert!(registered.status.success(), "{}", said(&registered));
    };
    register("[\"cat\"]");
    assert!(invoke(&controller, "count", "").ends_with("abc"));
    worker.kill();
    controller.until("lost", || health(&controller, &worker.name) == "lost");
    assert!(controller.ask(&["deregister", "count"]).status.success());
    register("[\"wc\", \"-c\"]");
    worker.start_again();
    controller.until("back", || health(&controller, &worker.name) == "healthy");
    let answer = invoke(&controller, "count", "");
    assert!(answer.starts_with("HTTP/1.0 200") && answer.trim_end().ends_with('3'), "{answer}");
    worker.ends_well();
    controller.ends_well();
}
