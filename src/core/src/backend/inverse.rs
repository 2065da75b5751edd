//! What something is while nothing disturbs it, from what it took while something did: the law of sharing processors, inverted.
//!
//! By that law ([`sharing`](super::sharing)) work of which a fraction f is processor time has, with a share s of the processors
//! that it asks for, `cpus` f / ((1 - f) + f / s) of them, and s is the largest at which all have no more than there are. So what
//! took `span` and had `cpu` of processor time had cpu / span processors, whatever its share was; what executed beside it had the
//! rest of them, and that says what the share was.

/// Something while nothing disturbs it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Undisturbed {
    /// How long it takes, in ns.
    pub(super) span: f64,
    /// How many processors it keeps busy. Below 1 that is the fraction of its time that is processor time; above, it is all processor
    /// time, of so many at once.
    pub(super) busy: f64,
}

/// The most processor time that can have been in something that took `span` beside executions that ask for `beside` processors, on
/// a host that has `cores` of them: it asks for one, or for as many as there are. All times in one unit.
fn most(span: f64, beside: f64, cores: f64) -> f64 {
    let asked = cores.max(1.0);
    span * cores * asked / (beside + asked)
}

/// What something is, undisturbed, that took `span` (ns) beside executions that ask for `beside` processors, on a host that has
/// `cores` (> 0) of them. `cpu` (ns) is its processor time; what of it cannot have been its own is left out.
pub(super) fn undisturbed(span: f64, cpu: f64, beside: f64, cores: f64) -> Undisturbed {
    let cpu = cpu.clamp(0.0, most(span, beside, cores));
    let left = cores - cpu / span;
    let share = if left < beside { left / beside } else { 1.0 };
    // Of one processor at most it waits for, then its waiting for something else is as it was; of more it waits all the time.
    let span = if cpu <= share * span { span - cpu * (1.0 / share - 1.0) } else { share * span };
    Undisturbed { span, busy: cpu / span }
}

/// The processor time of each of `n` things that took `span` together, with nothing beside them, on a host that has `cores`
/// processors: `cpu`, or less where that is more than they can have had. All times in one unit.
pub(super) fn cpu_among(n: u32, span: f64, cpu: f64, cores: f64) -> f64 {
    cpu.min(cores * span / f64::from(n.max(1)))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// How long something takes beside executions, by the law: its share is found by halving.
    pub(in super::super) fn disturbed(work: Undisturbed, beside: f64, cores: f64) -> f64 {
        let fraction = work.busy.min(1.0);
        let slowdown = |share: f64| (1.0 - fraction) + fraction / share;
        let used = |share: f64| beside * share + work.busy / slowdown(share);
        let (mut least, mut most) = (0.0, 1.0);
        if used(1.0) > cores {
            for _ in 0..200 {
                let middle = f64::midpoint(least, most);
                if used(middle) <= cores { least = middle } else { most = middle }
            }
        } else {
            least = 1.0;
        }
        work.span * slowdown(least)
    }

    #[test]
    fn what_was_measured_comes_out_again() {
        for cores in [0.3, 0.9, 1.0, 1.9, 4.0, 64.0] {
            for beside in [0.0, 0.5, 1.0, 2.0, 8.0, 100.0] {
                for share in [0.0, 0.01, 0.3, 0.8, 1.0, 1.7, 5.0, 1e6] {
                    let (span, cpu) = (14e6, 14e6 * share);
                    let own = undisturbed(span, cpu, beside, cores);
                    let again = disturbed(own, beside, cores);
                    assert!(
                        (again / span - 1.0).abs() < 1e-6,
                        "{again} of {cores} {beside} {share}: {own:?}"
                    );
                    assert!(
                        own.span <= span * (1.0 + 1e-9) && own.busy <= cores.max(1.0) * (1.0 + 1e-9),
                        "{own:?}"
                    );
                    // Its processor time is what it was, where that can have been its own.
                    let time = own.span * own.busy;
                    assert!((time - cpu.min(most(span, beside, cores))).abs() < 1.0, "{time} of {cpu}");
                }
            }
        }
    }

    #[test]
    fn with_processors_to_spare_it_is_as_it_was_seen() {
        assert_eq!(undisturbed(20e6, 16e6, 1.0, 1.9), Undisturbed { span: 20e6, busy: 0.8 });
        // A cold start of 14 ms, of which others' processor time was taken for its own.
        assert_eq!(undisturbed(14e6, 2_000e6, 0.0, 0.5), Undisturbed { span: 14e6, busy: 0.5 });
        assert_eq!(cpu_among(4, 28.0, 20.0, 2.0), 14.0);
    }
}
