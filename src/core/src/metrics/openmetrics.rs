//! OpenMetrics 1.0: the form in which Prometheus and its like read a daemon's metrics.

use super::{Columns, Kind, Path};
use std::fmt::Write;

/// The media type of the text.
pub const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A metric, and its value of each backend, or its only one.
struct Family<'a> {
    name: String,
    path: &'a Path,
    samples: Vec<(Option<&'a str>, f64)>,
}

/// A row of these columns as text. Names begin with `before`; a worker is a label, and so is a backend.
pub fn openmetrics(before: &str, worker: Option<&str>, columns: &Columns, row: &[f64]) -> String {
    // The samples of a metric stand together, whatever lies between their columns.
    let mut families: Vec<Family<'_>> = Vec::new();
    for ((name, path), value) in columns.names.iter().zip(&columns.paths).zip(row) {
        let backend = name.strip_prefix("backend.").and_then(|rest| rest.split('.').next());
        let name = format!("{before}{}{}", if backend.is_some() { "backend_" } else { "" }, path.name);
        match families.iter_mut().find(|known| known.name == name) {
            Some(family) => family.samples.push((backend, *value)),
            None => families.push(Family { name, path, samples: vec![(backend, *value)] }),
        }
    }
    let mut text = String::new();
    for Family { name, path, samples } in families {
        let (kind, suffix) = match path.kind {
            Kind::Gauge => ("gauge", ""),
            Kind::Total => ("counter", "_total"),
        };
        let _ = writeln!(text, "# TYPE {name} {kind}\n# HELP {name} {}", path.help);
        for (backend, value) in samples {
            let labels: Vec<String> = [("worker", worker), ("backend", backend)]
                .into_iter()
                .filter_map(|(label, value)| Some(format!("{label}=\"{}\"", value?)))
                .collect();
            let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
            let _ = writeln!(text, "{name}{suffix}{labels} {value}");
        }
    }
    text.push_str("# EOF\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_of_one_metric_stand_together() {
        let columns = Columns::new(&["process".into(), "docker".into()], false);
        let row: Vec<f64> = (0..columns.names.len()).map(|i| i as f64).collect();
        let text = openmetrics("elapse_", Some("w"), &columns, &row);
        let place = |what: &str| columns.names.iter().position(|n| n == what).unwrap();
        let of = |backend: &str| place(&format!("backend.{backend}.containers_cached"));
        let together = format!(
            "# TYPE elapse_backend_containers_cached gauge\n\
             # HELP elapse_backend_containers_cached Idle containers of this backend that are kept.\n\
             elapse_backend_containers_cached{{worker=\"w\",backend=\"process\"}} {}\n\
             elapse_backend_containers_cached{{worker=\"w\",backend=\"docker\"}} {}\n",
            of("process"),
            of("docker")
        );
        assert!(text.contains(&together), "{text}");
        let total = format!("elapse_cold_starts_total{{worker=\"w\"}} {}\n", place("cold_starts"));
        assert!(text.contains(&total) && text.ends_with("# EOF\n"), "{text}");
    }
}
