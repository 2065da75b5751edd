//! Theory: what queueing theory and renewal theory say exactly, the simulator must show.
//!
//! Each figure is the mean of several seeds, held against the formula within 3 standard errors of that mean (measured
//! over the seeds) and 1 % (2 % for general service). `ELAPSE_SOAK=1` takes ten seeds of a million invocations.

use crate::common::{figure, plan};
use elapse::Run;

fn soak() -> bool {
    std::env::var("ELAPSE_SOAK").is_ok()
}

/// Runs a scenario under several seeds and returns a figure of each.
fn figures(text: &str, path: &str, invocations: u64, warm_up: &str) -> Vec<f64> {
    let (seeds, n) = if soak() { (10, 1_000_000) } else { (6, invocations) };
    (1..=seeds)
        .map(|seed| {
            let text = format!("name = 'theory'\nseed = {seed}\ninvocations = {n}\nrecords = 'none'\n{text}\n[measure]\nwarm_up = '{warm_up}'");
            figure(&Run::new(plan(&text)).simulate().unwrap(), path)
        })
        .collect()
}

fn agrees(what: &str, got: &[f64], theory: f64, share: f64) {
    let n = got.len() as f64;
    let mean = got.iter().sum::<f64>() / n;
    let variance = got.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0);
    let error = (variance / n).sqrt();
    // Few short seeds estimate their own spread badly; the shares hold for the long ones.
    let share = if soak() { share } else { share * 2.5 };
    let off = (mean - theory).abs();
    println!(
        "{what}: {mean:.5} against {theory:.5} ({:+.2} %, {:.1} standard errors)",
        (mean / theory - 1.0) * 100.0,
        off / error.max(1e-12)
    );
    assert!(off <= 3.0 * error.max(1e-9), "{what}: {mean} is {off} off {theory}, standard error {error}");
    assert!(off <= share * theory, "{what}: {mean} is {:.2} % off {theory}", off / theory * 100.0);
}

fn queue(cores: u32, rate: f64, duration: &str, contention: &str) -> String {
    format!(
        "[worker]\ncores = {cores}\nmemory = 'unlimited'\nkeep_alive = 'forever'\ntimeout = 'forever'\nstatus = '1h'\n\
         [model]\ncold_start = '0s'\ncontention = '{contention}'\n\
         [[function]]\nname = 'f'\nmemory = '1MiB'\nduration = {duration}\nload = {{ poisson = '{rate}/s' }}"
    )
}

/// Erlang C: the mean wait of M/M/c, in service times.
fn erlang_c_wait(c: u32, load: f64) -> f64 {
    let a = f64::from(c) * load;
    let mut term = 1.0;
    let mut sum = 1.0;
    for k in 1..c {
        term *= a / f64::from(k);
        sum += term;
    }
    let last = term * a / f64::from(c) / (1.0 - load);
    last / (sum + last) / (f64::from(c) * (1.0 - load))
}

#[test]
fn m_m_4() {
    for load in [0.5, 0.8] {
        let text = queue(4, 4.0 * load * 10.0, "{ exponential = { mean = '100ms' } }", "permits");
        let got = figures(&text, "queue_ms.mean", 250_000, "1000s");
        agrees(&format!("M/M/4 at {load}"), &got, erlang_c_wait(4, load) * 100.0, 0.01);
    }
}

#[test]
fn m_g_1_pollaczek_khinchine() {
    for load in [0.5, 0.8] {
        let text = queue(1, load * 10.0, "{ lognormal = { mean = '100ms', cv = 1.5 } }", "permits");
        let got = figures(&text, "queue_ms.mean", 400_000, "2000s");
        let theory = load / (1.0 - load) * (1.0 + 1.5 * 1.5) / 2.0 * 100.0;
        agrees(&format!("M/G/1 at {load}"), &got, theory, 0.02);
    }
}

#[test]
fn m_g_1_processor_sharing_does_not_depend_on_the_spread() {
    for load in [0.5, 0.8] {
        for duration in [
            "'100ms'",
            "{ exponential = { mean = '100ms' } }",
            "{ lognormal = { mean = '100ms', cv = 1.5 } }",
        ] {
            let text = queue(1, load * 10.0, duration, "shared");
            let got = figures(&text, "exec_ms.mean", 200_000, "1000s");
            agrees(&format!("M/G/1-PS at {load}, {duration}"), &got, 100.0 / (1.0 - load), 0.02);
        }
    }
}

#[test]
fn cold_start_probability_of_instant_functions() {
    for product in [0.5f64, 1.0, 2.0] {
        let text = format!(
            "[worker]\nmemory = 'unlimited'\nkeep_alive = '{}s'\nstatus = '24h'\n[model]\ncold_start = '0s'\n[[function]]\nname = 'f'\n\
             memory = '1MiB'\nduration = '0s'\nload = {{ poisson = '1/s' }}",
            product
        );
        let cold = figures(&text, "cold_starts", 200_000, "0s");
        let n = figures(&text, "invocations", 200_000, "0s");
        let shares: Vec<f64> = cold.iter().zip(&n).map(|(c, n)| c / n).collect();
        agrees(&format!("cold starts at lambda ttl = {product}"), &shares, (-product).exp(), 0.01);
    }
}

/// N clients think for exponential times and are served by c servers: the machine-repair model (M/M/c//N).
#[test]
fn machine_repair_model() {
    let (clients, cores, think, service) = (12u32, 3u32, 1.0, 0.4);
    // Stationary probabilities of k clients in service or waiting.
    let mut p = vec![1.0f64];
    for k in 0..clients {
        let birth = f64::from(clients - k) / think;
        let death = f64::from((k + 1).min(cores)) / service;
        p.push(p[k as usize] * birth / death);
    }
    let total: f64 = p.iter().sum();
    let busy: f64 = p.iter().enumerate().map(|(k, p)| p / total * (k as f64).min(f64::from(cores))).sum();
    let inside: f64 = p.iter().enumerate().map(|(k, p)| p / total * k as f64).sum();
    let throughput = busy / service;
    let response_ms = inside / throughput * 1000.0;
    let text = format!(
        "[worker]\ncores = {cores}\nmemory = 'unlimited'\nkeep_alive = 'forever'\nstatus = '1h'\n[model]\ncold_start = '0s'\n[[function]]\nname = 'f'\n\
         memory = '1MiB'\nduration = {{ exponential = {{ mean = '400ms' }} }}\nload = {{ closed = {{ clients = {clients}, think = {{ exponential = {{ mean = '1s' }} }} }} }}"
    );
    let got = figures(&text, "latency_ms.mean", 150_000, "1000s");
    agrees("machine repair, response", &got, response_ms, 0.01);
}

/// Little's law holds to rounding: the mean number in execution is rate times mean execution, from two different books.
#[test]
fn littles_law_to_rounding() {
    let text = "name = 'little'\nduration = '2h'\n[worker]\ncores = 4\nmemory = 'unlimited'\nkeep_alive = 'forever'\n[model]\ncold_start = '0s'\n\
                [[function]]\nname = 'f'\nmemory = '1GiB'\nduration = { exponential = { mean = '200ms' } }\nload = { poisson = '12/s' }";
    let run = Run::new(plan(text)).simulate().unwrap();
    let seconds = figure(&run, "latency_ms.n") * figure(&run, "exec_ms.mean") / 1000.0;
    let integral = figure(&run, "gb_seconds.running");
    assert!((seconds - integral).abs() < 1e-5 * integral, "{seconds} against {integral}");
}
