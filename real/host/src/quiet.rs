//! How quiet a host is: what others have of its processors while nothing of the caller's own runs.

use std::time::Instant;

/// Holds the counts of the kernel up to an instant.
#[derive(Clone, Copy, Debug)]
pub struct Counted {
    at: Instant,
    /// Processor time that was used, that the hypervisor took, and all there was, in clock ticks.
    busy: f64,
    stolen: f64,
    whole: f64,
    /// Microseconds in which something waited for a processor; `None` where the kernel does not tell.
    waited: Option<u64>,
}

impl Counted {
    /// Up to now.
    pub fn now() -> Counted {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        Counted::parse(Instant::now(), &read("/proc/stat"), &read("/proc/pressure/cpu"))
    }

    fn parse(at: Instant, stat: &str, pressure: &str) -> Counted {
        let line = stat.lines().find_map(|line| line.strip_prefix("cpu ")).unwrap_or_default();
        let ticks: Vec<f64> = line.split_whitespace().filter_map(|n| n.parse().ok()).collect();
        // user, nice, system, idle, iowait, irq, softirq, steal; what guests use is in user and nice.
        let sum = |places: &[usize]| places.iter().filter_map(|i| ticks.get(*i)).sum();
        let some = pressure.lines().find(|line| line.starts_with("some "));
        let waited = some.and_then(|line| line.rsplit_once("total=")?.1.trim().parse().ok());
        Counted {
            at,
            busy: sum(&[0, 1, 2, 5, 6]),
            stolen: sum(&[7]),
            whole: sum(&[0, 1, 2, 3, 4, 5, 6, 7]),
            waited,
        }
    }
}

/// Adds up the work of others over all spans that were looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Others {
    /// Seconds that were looked at.
    pub seconds: f64,
    /// Seconds of processor time that was used in them.
    pub used: f64,
    /// Seconds in which something waited for a processor; `None` where the kernel does not tell.
    pub waited: Option<f64>,
}

impl Others {
    /// Adds the span from an instant until now, in which nothing of the caller's own ran.
    pub fn add(&mut self, from: &Counted) {
        self.add_span(from, &Counted::now());
    }

    fn add_span(&mut self, from: &Counted, to: &Counted) {
        let ticks = rustix::param::clock_ticks_per_second().max(1) as f64;
        self.seconds += to.at.duration_since(from.at).as_secs_f64();
        self.used += (to.busy - from.busy).max(0.0) / ticks;
        if let (Some(before), Some(after)) = (from.waited, to.waited) {
            self.waited = Some(self.waited.unwrap_or(0.0) + after.saturating_sub(before) as f64 / 1e6);
        }
    }

    /// Processors that others kept busy, on average.
    pub fn processors(&self) -> f64 {
        self.used / self.seconds.max(1e-9)
    }

    /// Share of the time in which something waited for a processor, 0 to 1; `None` where the kernel does not tell.
    pub fn pressure(&self) -> Option<f64> {
        self.waited.map(|waited| (waited / self.seconds.max(1e-9)).min(1.0))
    }
}

/// Share of the processor time since an instant that the hypervisor gave to other machines, 0 to 1.
pub fn stolen_since(from: &Counted) -> f64 {
    let now = Counted::now();
    ((now.stolen - from.stolen) / (now.whole - from.whole).max(1.0)).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn others_are_what_the_counters_grew_by() {
        let begun = Instant::now();
        let at = |ms: u64, stat: &str, pressure: &str| {
            Counted::parse(begun + Duration::from_millis(ms), stat, pressure)
        };
        let some =
            |us: u64| format!("some avg10=0.00 avg60=0.00 avg300=0.00 total={us}\nfull avg10=0.00 total=7\n");
        let first = at(0, "cpu  100 0 50 1000 10 0 5 3 0 0\ncpu0 1 2 3 4\n", &some(1_000_000));
        let second = at(2_000, "cpu  140 5 60 1300 15 1 9 13 0 0\ncpu0 1 2 3 4\n", &some(1_500_000));
        let mut others = Others::default();
        others.add_span(&first, &second);
        // 40 + 5 + 10 + 1 + 4 ticks of 10 ms in two seconds.
        assert!((others.processors() - 0.3).abs() < 1e-9, "{others:?}");
        assert_eq!(others.pressure(), Some(0.25));
        others.add_span(&second, &at(4_000, "cpu  140 5 60 1700 15 1 9 13 0 0\n", ""));
        assert!((others.processors() - 0.15).abs() < 1e-9, "{others:?}");
        let silent = at(0, "", "");
        let mut none = Others::default();
        none.add_span(&silent, &silent);
        assert_eq!((none.processors(), none.pressure()), (0.0, None));
    }
}
