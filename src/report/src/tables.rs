//! The tables of a run: functions.csv, workers.csv, metrics.csv, distributions.csv, heat.csv, graphite.csv.

use super::Summary;
use super::format::{quoted, short};
use super::read::HeatRow;
use super::summary::PER_UNIT;
use crate::base::Status;
use crate::metrics;
use std::fmt::Write as _;

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
            over(f.exec_sum as f64 / 1e6, f.executed),
            over(f.delay_sum as f64 / 1e6, f.starts),
            over(f.slowdown_sum, f.slowdown.count()),
        );
    }
    out
}

/// A row for each worker.
pub fn workers_csv(summary: &Summary) -> String {
    let mut out = String::from(
        "worker,cores,memory_mb,invocations,cold_starts,warm_starts,containers_at_begin,containers_created,evictions,expirations,\
containers_failed,containers_condemned,containers_left,busy_cores_mean,in_flight_mean,queue_length_mean,\
peak_used_mb,peak_running_mb,peak_creating_mb,peak_cached_mb,gb_seconds_creating,gb_seconds_running,gb_seconds_cached,\
gb_seconds_removing,memory_reads,loop_restarts\n",
    );
    let seconds = summary.window_seconds();
    for w in &summary.workers {
        let c = &w.counts;
        let mean = |sum: f64| if seconds > 0.0 { short(sum / seconds) } else { String::new() };
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
        let containers = [
            w.containers_at_begin,
            c.containers_created,
            c.evictions,
            c.expirations,
            c.containers_failed,
            c.containers_condemned,
            w.containers_left(),
        ];
        containers.iter().for_each(|n| {
            let _ = write!(out, ",{n}");
        });
        [w.held.cores.0, w.held.in_flight.0, w.held.queued.0].iter().for_each(|sum| {
            let _ = write!(out, ",{}", mean(*sum));
        });
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

/// Every distribution as cumulative counts: figure, value, count_at_or_below. Values are the middles of buckets that are
/// the same in every run, so that distances between runs are exact to a bucket (1 %).
pub fn distributions_csv(summary: &Summary) -> String {
    let mut out = String::from("figure,value,count_at_or_below\n");
    for (figure, sketch) in summary.tally.distributions() {
        for (value, count) in sketch.cumulative() {
            let _ = writeln!(out, "{figure},{},{count}", short(value as f64 / PER_UNIT));
        }
    }
    out
}

/// Functions that are told apart over time: those with most invocations.
const HOTTEST: usize = 100;

/// What the most invoked functions did over time, the most invoked first.
pub fn heat_rows(summary: &Summary) -> Vec<HeatRow> {
    let Some(heat) = &summary.heat else { return Vec::new() };
    let total = |f: usize| (0..heat.buckets()).map(|b| u64::from(heat.cell(b, f)[0])).sum::<u64>();
    let mut order: Vec<(u64, usize)> = (0..summary.functions.len()).map(|f| (total(f), f)).collect();
    order.sort_unstable_by_key(|(n, f)| (std::cmp::Reverse(*n), *f));
    let (begin, width) = (heat.begin().as_secs_f64(), heat.width().as_secs_f64());
    let row = |f: usize| {
        let seen = (0..heat.buckets())
            .map(|b| (begin + b as f64 * width, heat.cell(b, f)))
            .filter(|(_, c)| c[0] > 0);
        let cells = seen.map(|(from, c)| (from, from + width, u64::from(c[0]), u64::from(c[1]))).collect();
        HeatRow { function: summary.functions[f].name.clone(), cells }
    };
    order.into_iter().take(HOTTEST).filter(|(n, _)| *n > 0).map(|(_, f)| row(f)).collect()
}

/// [`heat_rows`] as a table: function, from_s, to_s, invocations, cold_starts; where nothing was, no row.
pub fn heat_csv(rows: &[HeatRow]) -> String {
    let mut out = String::from("function,from_s,to_s,invocations,cold_starts\n");
    for row in rows {
        let name = quoted(&row.function);
        for (from, to, invocations, cold) in &row.cells {
            let _ = writeln!(out, "{name},{from},{to},{invocations},{cold}");
        }
    }
    out
}

/// Series of Graphite: path, unix_seconds, value, in the columns of metrics.csv; the value is empty where Graphite has
/// none.
pub fn graphite_csv<'a>(series: impl Iterator<Item = (&'a str, &'a [(u64, Option<f64>)])>) -> Vec<u8> {
    let mut out = b"path,unix_seconds,value\n".to_vec();
    for (path, points) in series {
        let path = quoted(path);
        for (at, value) in points {
            let value = value.map_or(String::new(), |v| format!("{v}"));
            out.extend_from_slice(format!("{path},{at},{value}\n").as_bytes());
        }
    }
    out
}

/// Writes the very points that Graphite gets: path, unix_seconds, value.
///
/// # Errors
/// If `file` cannot be written.
pub fn metrics_csv(summary: &Summary, file: &mut impl std::io::Write) -> std::io::Result<()> {
    let mut out = b"path,unix_seconds,value\n".to_vec();
    for (name, series) in summary.series() {
        let prefix = metrics::prefix(&summary.facts.name, name);
        let paths: Vec<String> =
            series.columns().names.iter().map(|name| format!("{prefix}{name},")).collect();
        let mut integer = itoa::Buffer::new();
        for (at, values) in series.points() {
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
