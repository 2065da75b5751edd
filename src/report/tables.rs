//! The tables of a run: functions.csv, workers.csv, metrics.csv.

use super::Summary;
use crate::base::Status;
use crate::metrics::PATHS;
use std::borrow::Cow;
use std::fmt::Write as _;

/// A CSV field, in quotes if it needs them.
pub(super) fn quoted(text: &str) -> Cow<'_, str> {
    if text.contains([',', '"', '\n', '\r']) {
        return Cow::Owned(format!("\"{}\"", text.replace('"', "\"\"")));
    }
    Cow::Borrowed(text)
}

/// At most 6 decimals, and none that say nothing.
pub(super) fn short(x: f64) -> String {
    if x.fract() == 0.0 && x.abs() < 9e15 {
        return format!("{}", x as i64);
    }
    let text = format!("{x:.6}");
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}

/// A row for each function.
pub fn functions_csv(summary: &Summary) -> String {
    let mut out = String::from(
        "function,app,memory_mb,invocations,completed,failed,timed_out,dropped,cold_starts,cold_start_share,\
latency_mean_ms,latency_p50_ms,latency_p99_ms,latency_max_ms,exec_mean_ms,start_delay_mean_ms,slowdown_mean\n",
    );
    for (spec, f) in summary.functions.iter().zip(&summary.by_function) {
        let ended = |s: Status| f.ended[s as usize];
        let over = |sum: f64, n: u64| if n > 0 { short(sum / n as f64) } else { String::new() };
        let ms = |x: Option<f64>| x.map_or(String::new(), |x| short(x / 1e6));
        let quantile = |q: f64| ms(f.latency.quantile(q).map(|v| v as f64));
        let _ = writeln!(
            out,
            "{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{}",
            quoted(&spec.name),
            quoted(&spec.app),
            short(spec.memory.as_mib_f64()),
            f.ended.iter().sum::<u64>(),
            ended(Status::Completed),
            ended(Status::Failed),
            ended(Status::TimedOut),
            ended(Status::Dropped),
            f.cold_starts,
            over(f.cold_starts as f64, f.starts),
            ms(f.latency.mean()),
            quantile(0.5),
            quantile(0.99),
            ms((f.latency.count() > 0).then(|| f.latency.max() as f64)),
            over(f.exec_sum as f64 / 1e6, f.latency.count()),
            over(f.delay_sum as f64 / 1e6, f.starts),
            over(f.slowdown_sum, ended(Status::Completed)),
        );
    }
    out
}

/// A row for each worker.
pub fn workers_csv(summary: &Summary) -> String {
    let mut out = String::from(
        "worker,cores,memory_mb,invocations,cold_starts,warm_starts,evictions,expirations,containers_created,containers_left,\
peak_used_mb,peak_running_mb,peak_creating_mb,peak_cached_mb,gb_seconds_creating,gb_seconds_running,gb_seconds_cached,\
gb_seconds_removing,memory_reads,loop_restarts\n",
    );
    for w in &summary.workers {
        let c = &w.counts;
        let capacity = w.capacity.map_or("unlimited".into(), |m| short(m.as_mib_f64()));
        let _ = write!(
            out,
            "{},{},{capacity},{},{},{}",
            quoted(&w.name),
            w.cores,
            c.invocations,
            c.cold_starts,
            c.warm_starts
        );
        let _ =
            write!(out, ",{},{},{},{}", c.evictions, c.expirations, c.containers_created, w.containers_left);
        w.peaks.iter().for_each(|p| {
            let _ = write!(out, ",{}", short(p.as_mib_f64()));
        });
        w.gb_seconds.iter().for_each(|g| {
            let _ = write!(out, ",{}", short(*g));
        });
        let _ = writeln!(out, ",{},{}", c.memory_reads, w.loop_restarts);
    }
    out
}

/// A name as a part of a metric path: what Graphite would take for structure becomes an underscore.
pub(super) fn path_part(name: &str) -> String {
    let part: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect();
    if part.is_empty() { "run".into() } else { part }
}

/// Writes the very points that Graphite gets: path, unix_seconds, value.
///
/// # Errors
/// If `file` cannot be written.
pub fn metrics_csv(summary: &Summary, file: &mut impl std::io::Write) -> std::io::Result<()> {
    let mut out = b"path,unix_seconds,value\n".to_vec();
    let run = path_part(&summary.facts.name);
    for w in &summary.workers {
        let paths: Vec<String> =
            PATHS.iter().map(|p| format!("elapse.{run}.{}.{},", path_part(&w.name), p.name)).collect();
        let mut integer = itoa::Buffer::new();
        for (at, values) in w.series.points() {
            let seconds = (summary.facts.start_unix_ns + at.0) / 1_000_000_000;
            let seconds = itoa::Buffer::new().format(seconds).as_bytes().to_vec();
            for (path, value) in paths.iter().zip(values) {
                out.extend_from_slice(path.as_bytes());
                out.extend_from_slice(&seconds);
                out.push(b',');
                if value.fract() == 0.0 {
                    out.extend_from_slice(integer.format(*value as i64).as_bytes());
                } else {
                    out.extend_from_slice(short(*value).as_bytes());
                }
                out.push(b'\n');
            }
            if out.len() > 1 << 16 {
                file.write_all(&out)?;
                out.clear();
            }
        }
    }
    file.write_all(&out)
}
