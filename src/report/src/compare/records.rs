//! What only the records can tell: how sure a ratio of quantiles is, how execution was stretched, and how far apart the
//! latencies of each function are.

use super::super::read::{Distribution, Finished, each_row, float};
use super::STAGES;
use crate::base::Result;
use crate::metrics::Sketch;
use crate::rt::chance::{Purpose, Seed};
use rand::RngExt;
use std::collections::BTreeMap;

/// Blocks of a run. Latencies of neighbours are alike, so whole stretches of time are drawn and not single invocations.
const BLOCKS: usize = 30;
const DRAWS: usize = 400;
/// Functions that are told apart; of more, those that are seen first.
const FUNCTIONS: usize = 1000;

/// The values of each stage of a run, by block of time.
type Blocks = [Vec<Sketch>; STAGES.len()];

/// What the records of the repeats of a run say.
pub(super) struct Times {
    repeats: Vec<Blocks>,
    /// Execution over intended duration, in millionths.
    stretch: Sketch,
    /// Latency by function, in ns.
    functions: BTreeMap<String, Sketch>,
}

impl Times {
    /// Reads the records of repeats; `None` where one has none. Blocks are parts of the first `length` seconds of what is
    /// measured; what arrives later is in the last one.
    pub(super) fn read(runs: &[Finished], length: f64) -> Result<Option<Times>> {
        let mut times =
            Times { repeats: Vec::new(), stretch: Sketch::default(), functions: BTreeMap::default() };
        for run in runs {
            let path = run.file("records.csv");
            let Some(start) = run.start().filter(|_| path.exists()) else { return Ok(None) };
            // What the run measured, as in its summary: by arrival inside the window.
            let [from, until] = run.window();
            let mut blocks: Blocks = std::array::from_fn(|_| vec![Sketch::default(); BLOCKS]);
            let columns = [
                "function",
                "start_kind",
                "arrival_unix_ns",
                "dispatch_ns",
                "exec_start_ns",
                "exec_end_ns",
                "return_ns",
                "intended_ns",
            ];
            each_row(&path, columns, |[function, kind, arrival, dispatch, begun, ended, back, intended]| {
                if ended.is_empty() || back.is_empty() {
                    return Ok(());
                }
                let at = float(arrival)? / 1e9 - start;
                if !(from..until).contains(&at) {
                    return Ok(());
                }
                let block = (((at - from) / length).max(0.0) * BLOCKS as f64) as usize;
                let block = block.min(BLOCKS - 1);
                let [dispatch, begun, ended, back] =
                    [float(dispatch)?, float(begun)?, float(ended)?, float(back)?];
                let cold = (kind == b"cold").then_some(begun - dispatch);
                let each = [Some(back), Some(dispatch), cold, Some(ended - begun), Some(back - ended)];
                for (stage, value) in blocks.iter_mut().zip(each) {
                    if let Some(value) = value {
                        stage[block].add(value.max(0.0) as u64);
                    }
                }
                let intended = float(intended)?;
                if intended > 0.0 {
                    times.stretch.add(((ended - begun) / intended * 1e6) as u64);
                }
                let name = String::from_utf8_lossy(function);
                let more = times.functions.len() < FUNCTIONS;
                match times.functions.get_mut(name.as_ref()) {
                    Some(latency) => latency.add(back as u64),
                    None if more => times.functions.entry(name.into_owned()).or_default().add(back as u64),
                    None => {}
                }
                Ok(())
            })?;
            times.repeats.push(blocks);
        }
        Ok(Some(times))
    }

    /// Execution over intended duration.
    pub(super) fn stretch(&self) -> Distribution {
        distribution(&self.stretch)
    }

    /// The latency of a function, in ms; `None` where it is not told apart.
    pub(super) fn latency(&self, function: &str) -> Option<Distribution> {
        self.functions.get(function).map(distribution)
    }

    /// All values of a stage in these blocks of these repeats.
    fn drawn(&self, stage: usize, repeats: &[usize], blocks: &[usize]) -> Sketch {
        let mut all = Sketch::default();
        for repeat in repeats {
            blocks.iter().for_each(|block| all.merge(&self.repeats[*repeat][stage][*block]));
        }
        all
    }
}

/// In millionths of the unit of what was added.
fn distribution(sketch: &Sketch) -> Distribution {
    Distribution(sketch.cumulative().into_iter().map(|(value, n)| (value as f64 / 1e6, n)).collect())
}

/// The 95 % intervals of the ratios of quantiles of a stage, second over first, by a bootstrap: repeats are drawn, and blocks
/// of time, the same ones on both sides because the same invocations arrive in them.
pub(super) fn intervals<const N: usize>(
    a: &Times,
    b: &Times,
    stage: usize,
    quantiles: [f64; N],
) -> [Option<[f64; 2]>; N] {
    let rng = Seed::new(1).named("bootstrap");
    let mut ratios: [Vec<f64>; N] = std::array::from_fn(|_| Vec::new());
    for draw in 0..DRAWS {
        let mut rng = rng.draw(Purpose::Sampling, draw as u64);
        let mut among =
            |n: usize, of: usize| -> Vec<usize> { (0..n).map(|_| rng.random_range(0..of)).collect() };
        let blocks = among(BLOCKS, BLOCKS);
        let [x, y] = [a, b].map(|side| {
            let repeats = among(side.repeats.len(), side.repeats.len());
            side.drawn(stage, &repeats, &blocks)
        });
        for (all, q) in ratios.iter_mut().zip(quantiles) {
            if let (Some(x), Some(y)) = (x.quantile(q).filter(|x| *x > 0), y.quantile(q)) {
                all.push(y as f64 / x as f64);
            }
        }
    }
    ratios.map(|mut all| {
        if all.len() < DRAWS / 2 {
            return None;
        }
        all.sort_by(f64::total_cmp);
        let at = |share: f64| all[((all.len() - 1) as f64 * share) as usize];
        Some([at(0.025), at(0.975)])
    })
}
