//! Whether a host is quiet enough to be measured: what doctor finds, and what others have of its processors meanwhile.

use elapse::backend::Quiet;
use elapse::base::{Duration, Fault, Result};
use elapse::rt;
use elapse_host::doctor::{Finding, Level};
use elapse_host::quiet::{Counted, Others, stolen_since};
use std::cell::RefCell;

/// Share of the processors that others may keep busy.
const OTHERS: f64 = 0.05;
/// Share of the time in which something may wait for a processor, while nothing of ours runs.
const PRESSURE: f64 = 0.05;
/// Share of the processors' time that the hypervisor may give to other machines.
const STEAL: f64 = 0.01;
/// How long is looked before anything is measured.
const LOOK: Duration = Duration::from_secs(2);

/// Looks at the host while it is measured.
pub(super) struct Watch {
    cores: usize,
    begun: Counted,
    others: RefCell<Others>,
    /// What doctor said before, where it spoils figures.
    doctor: Vec<String>,
}

impl Watch {
    /// Looks for a while before anything is measured.
    pub(super) async fn begin(cores: usize, findings: &[Finding]) -> Watch {
        let spoils = findings.iter().filter(|finding| finding.level == Level::Spoils);
        let doctor = spoils.map(|finding| format!("{}: {}", finding.what, finding.says)).collect();
        let watch = Watch { cores, begun: Counted::now(), others: RefCell::default(), doctor };
        watch.rest(LOOK).await;
        watch
    }

    /// Rests for so long. In the second half nothing of ours runs any more: not even what the kernel still had to do for it.
    pub(super) async fn rest(&self, span: Duration) {
        let half = Duration(span.0 / 2);
        rt::sleep(half).await;
        let from = Counted::now();
        rt::sleep(half).await;
        self.others.borrow_mut().add(&from);
    }

    /// What others had so far.
    pub(super) fn others(&self) -> Others {
        *self.others.borrow()
    }

    /// How quiet it was so far.
    pub(super) fn quiet(&self) -> Quiet {
        let others = self.others();
        let four = |x: f64| (x * 1e4).round() / 1e4;
        let (processors, steal) = (four(others.processors()), four(stolen_since(&self.begun)));
        let pressure = others.pressure().map(four);
        let mut spoilt = self.doctor.clone();
        spoilt.extend(judge(processors, self.cores, pressure, steal));
        Quiet { others: processors, pressure, steal, spoilt }
    }

    /// Refuses a host that is not quiet.
    ///
    /// # Errors
    /// What of it is not.
    pub(super) fn check(&self, consequence: &str) -> Result<()> {
        let spoilt = self.quiet().spoilt;
        if spoilt.is_empty() {
            return Ok(());
        }
        Err(Fault::host(format!(
            "{consequence}, as the host is not quiet: {}; try again when it is, or have it measured all the same with --force",
            spoilt.join("; ")
        )))
    }
}

/// What is too much of what was seen, in words.
fn judge(others: f64, cores: usize, pressure: Option<f64>, steal: f64) -> Vec<String> {
    let mut all = Vec::new();
    let percent = |share: f64| format!("{:.1} %", share * 100.0);
    if others > OTHERS * cores as f64 {
        all.push(format!("others kept {others:.2} of {cores} processors busy while nothing was measured"));
    }
    if let Some(share) = pressure.filter(|share| *share > PRESSURE) {
        all.push(format!("something waited for a processor in {} of the time meanwhile", percent(share)));
    }
    if steal > STEAL {
        all.push(format!("the hypervisor gave {} of the processors' time to other machines", percent(steal)));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::judge;

    #[test]
    fn a_busy_host_is_told_by_what_makes_it_busy() {
        assert_eq!(judge(0.1, 2, Some(0.05), 0.01), Vec::<String>::new());
        assert_eq!(judge(0.0, 1, None, 0.0), Vec::<String>::new());
        let said = judge(0.31, 2, Some(0.062), 0.034);
        assert!(
            said[0].contains("0.31 of 2") && said[1].contains("6.2 %") && said[2].contains("3.4 %"),
            "{said:?}"
        );
        // As much on more processors.
        assert_eq!(judge(0.31, 8, Some(0.0), 0.0), Vec::<String>::new());
    }
}
