//! What only the records can tell: how sure a ratio of quantiles is, and how execution was stretched.

use super::super::read::{Finished, each_row, float};
use crate::base::Result;
use crate::metrics::Sketch;
use crate::rt::chance::{Chance, Purpose};
use rand::RngExt;

/// Blocks of a run. Latencies of neighbours are alike, so whole stretches of time are drawn and not single invocations.
const BLOCKS: usize = 30;
const DRAWS: usize = 400;

/// Latencies of the repeats of a run by block of time, and the stretch of all executions.
pub(super) struct Times {
    blocks: Vec<Sketch>,
    stretch: Sketch,
}

impl Times {
    /// Reads the records of repeats; `None` where one has none.
    pub(super) fn read(runs: &[Finished]) -> Result<Option<Times>> {
        let mut times = Times { blocks: vec![Sketch::default(); BLOCKS], stretch: Sketch::default() };
        for run in runs {
            let path = run.file("records.csv");
            let Some(start) = run.start().filter(|_| path.exists()) else { return Ok(None) };
            // What the run measured, as in its summary: by arrival inside the window.
            let [from, until] = run.window();
            let length = (until.min(run.seconds()) - from).max(1e-9);
            let columns = ["arrival_unix_ns", "exec_start_ns", "exec_end_ns", "return_ns", "intended_ns"];
            each_row(&path, columns, |[arrival, begun, ended, back, intended]| {
                if ended.is_empty() || back.is_empty() {
                    return Ok(());
                }
                let at = float(arrival)? / 1e9 - start;
                if !(from..until).contains(&at) {
                    return Ok(());
                }
                let share = (at - from) / length;
                let block = (share.max(0.0) * BLOCKS as f64) as usize;
                times.blocks[block.min(BLOCKS - 1)].add(float(back)? as u64);
                let intended = float(intended)?;
                if intended > 0.0 {
                    times.stretch.add(((float(ended)? - float(begun)?) / intended * 1e6) as u64);
                }
                Ok(())
            })?;
        }
        Ok(Some(times))
    }

    /// Execution over intended duration, p50 and p99.
    pub(super) fn stretch(&self) -> [f64; 2] {
        [0.5, 0.99].map(|q| self.stretch.quantile(q).map_or(f64::NAN, |v| v as f64 / 1e6))
    }

    fn quantile(&self, blocks: &[usize], q: f64) -> Option<f64> {
        let mut all = Sketch::default();
        blocks.iter().for_each(|i| all.merge(&self.blocks[*i]));
        all.quantile(q).map(|v| v as f64)
    }
}

/// The 95 % interval of the ratio of a quantile, second over first, by a bootstrap over blocks of time: the same blocks are
/// drawn on both sides, because the same invocations arrive in them.
pub(super) fn interval(a: &Times, b: &Times, q: f64) -> Option<[f64; 2]> {
    let luck = Chance::new(1).named("bootstrap");
    let mut ratios = Vec::new();
    for draw in 0..DRAWS {
        let mut rng = luck.draw(Purpose::Sampling, draw as u64);
        let blocks: Vec<usize> = (0..BLOCKS).map(|_| rng.random_range(0..BLOCKS)).collect();
        if let (Some(x), Some(y)) = (a.quantile(&blocks, q), b.quantile(&blocks, q)) {
            ratios.push(y / x);
        }
    }
    if ratios.len() < DRAWS / 2 {
        return None;
    }
    ratios.sort_by(f64::total_cmp);
    let at = |share: f64| ratios[((ratios.len() - 1) as f64 * share) as usize];
    Some([at(0.025), at(0.975)])
}
