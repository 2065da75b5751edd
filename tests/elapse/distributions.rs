//! Distributions that loads are drawn from: their limits, and the means that are told.

use crate::common::simulate;
use elapse::Run;
use elapse::base::{Dist, Duration};
use elapse::rt::chance::{Purpose, Seed};

const MS: u64 = 1_000_000;

fn dist(text: &str) -> Dist {
    serde_json::from_str(text).expect(text)
}

#[test]
fn every_distribution_is_cut_at_its_limits_and_its_mean_is_told() {
    let draws = |text: &str, n: u64| -> Vec<u64> {
        let mut draw = Seed::new(5).named(text).draw(Purpose::Duration, 0);
        (0..n).map(|_| dist(text).sample(&mut draw).0).collect()
    };
    let cut = r#"{"empirical":["100ms","900ms"],"max":"500ms","min":"150ms"}"#;
    let drawn: std::collections::BTreeSet<u64> = draws(cut, 100).into_iter().collect();
    assert_eq!(drawn.into_iter().collect::<Vec<_>>(), [150 * MS, 500 * MS]);
    assert_eq!(
        dist(cut).cut_mean().unwrap(),
        "the mean of what is drawn is 325 ms, not 500 ms: below min and above max is cut"
    );
    for (text, what) in [
        (r#"{"normal":{"mean":"100ms","sd":"200ms"}}"#, "139.6 ms, not 100 ms: below zero is cut"),
        (r#"{"exponential":{"mean":"100ms"},"max":"200ms"}"#, "86.47 ms, not 100 ms: above max is cut"),
        (
            r#"{"normal":{"mean":"100ms","sd":"200ms"},"max":"300ms","min":"1ms"}"#,
            "below min and above max is cut",
        ),
        (r#"{"uniform":{"low":"0ms","high":"100ms"},"min":"50ms"}"#, "62.5 ms, not 50 ms: below min is cut"),
        (r#"{"lognormal":{"median":"10ms","sigma":2.0},"max":"50ms"}"#, "above max is cut"),
        (r#"{"lognormal":{"median":"1us","sigma":1.0},"min":"1us"}"#, "below min is cut"),
        (
            r#"{"gamma":{"mean":"10ms","shape":0.3},"max":"20ms","min":"2ms"}"#,
            "below min and above max is cut",
        ),
        (r#"{"gamma":{"mean":"10ms","shape":200.0},"max":"10ms"}"#, "above max is cut"),
        (r#"{"weibull":{"mean":"10ms","shape":0.5},"max":"20ms"}"#, "above max is cut"),
        (r#"{"weibull":{"mean":"10ms","shape":3.0},"min":"9ms"}"#, "below min is cut"),
    ] {
        let n = 200_000;
        let mean = draws(text, n).iter().map(|x| *x as f64).sum::<f64>() / n as f64;
        let said = dist(text).cut_mean().unwrap_or_else(|| panic!("{text}: nothing is said"));
        assert!(said.contains(what), "{text}: {said}");
        let told: f64 = said.split(' ').nth(7).unwrap().parse().unwrap();
        let unit = if said.contains(" us, not") { 1e3 } else { 1e6 };
        assert!((mean / unit / told - 1.0).abs() < 0.01, "{text}: {said}, and {mean} ns were drawn");
    }
    for text in [
        r#""120ms""#,
        r#"{"normal":{"mean":"100ms","sd":"30ms"}}"#,
        r#"{"exponential":{"mean":"100ms"},"max":"10s"}"#,
        r#"{"lognormal":{"median":"1us","sigma":0.6}}"#,
        r#"{"lognormal":{"median":"120ms","sigma":3.0}}"#,
        r#"{"gamma":{"mean":"2ns","shape":0.3}}"#,
        r#"{"weibull":{"mean":"2ms","shape":0.7}}"#,
        r#"{"empirical":["1ms","3ms"],"max":"3ms"}"#,
    ] {
        assert_eq!(dist(text).cut_mean(), None, "{text}");
    }
    // What no limit cuts ends at a century all the same.
    assert!(
        draws(r#"{"lognormal":{"median":"1d","sigma":30.0}}"#, 1000)
            .iter()
            .all(|x| *x <= Duration::CENTURY.0)
    );
}

#[test]
fn a_load_ends_at_a_century() {
    let plan = crate::common::plan(
        "name = 'slow'\ninvocations = 100\n[worker]\nmemory = '1GiB'\n[[function]]\nname = 'f'\nmemory = '1MiB'\n\
         duration = '1ms'\nload = { constant = '0.0001/d' }",
    );
    let said = Run::new(plan).simulate().map(drop).unwrap_err().to_string();
    assert!(said.contains("beyond 100 years"), "{said}");
}

#[test]
fn a_run_tells_the_means_that_are_drawn() {
    let run = simulate(
        "name = 'nd'\nduration = '100s'\n[worker]\nmemory = '16GiB'\n\
         [model]\nremoval = { exponential = { mean = '100ms' }, max = '200ms' }\n[[function]]\nname = 'f'\nmemory = '128MiB'\n\
         duration = { normal = { mean = '100ms', sd = '200ms' } }\ncold_start = { uniform = { low = '0s', high = '1s' }, min = '1s' }\n\
         memory_used = { uniform = { low = '0MiB', high = '256MiB' }, max = '128MiB' }\nload = { closed = { clients = 1, \
         think = { exponential = { mean = '1s' }, min = '1s' } } }",
    );
    let remarks = run.summary.json()["remarks"].clone();
    let said: Vec<&str> = remarks.as_array().unwrap().iter().filter_map(|r| r.as_str()).collect();
    for part in [
        "function 'f': duration: the mean of what is drawn is 139.6 ms, not 100 ms: below zero is cut.",
        "function 'f': cold_start: the mean of what is drawn is 1 s, not 500 ms",
        "function 'f': memory_used: the mean of what is drawn is 96 MiB, not 128 MiB: above max is cut.",
        "function 'f': load.closed.think: the mean of what is drawn is 1.368 s, not 1 s: below min is cut.",
        "model.removal: the mean of what is drawn is 86.47 ms, not 100 ms: above max is cut.",
    ] {
        assert!(said.iter().any(|said| said.contains(part)), "'{part}' is not in: {said:?}");
    }
}
