//! How far a run is: a bar on a terminal (the feature `terminal`), a line a minute elsewhere.

use crate::{print, show};
use elapse::Progress as Far;
use elapse::rt::wall::Stopwatch;
#[cfg(feature = "terminal")]
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Tells how far a run is.
pub enum Progress {
    /// A line on the terminal that is drawn again.
    #[cfg(feature = "terminal")]
    Bar(ProgressBar),
    /// Lines in a log.
    Lines,
    /// Nothing.
    Silent,
}

impl Progress {
    /// A bar if stderr is a terminal.
    pub fn new() -> Progress {
        if print::is_quiet() {
            return Progress::Silent;
        }
        #[cfg(feature = "terminal")]
        if std::io::IsTerminal::is_terminal(&std::io::stderr()) {
            return Progress::Bar(ProgressBar::with_draw_target(Some(1000), ProgressDrawTarget::stderr()));
        }
        Progress::Lines
    }

    /// What is called some times a second.
    pub fn reporter(&self) -> Option<Box<dyn FnMut(Far)>> {
        match self {
            Progress::Silent => None,
            #[cfg(feature = "terminal")]
            Progress::Bar(bar) => {
                let bar = bar.clone();
                let mut is_set = false;
                Some(Box::new(move |far| {
                    if !is_set {
                        is_set = true;
                        // Without a known end there is nothing that a bar could show.
                        let bar_too = if far.horizon.is_some() {
                            "{msg} {bar:30} {percent:>3}% {eta}"
                        } else {
                            "{msg}"
                        };
                        let style = ProgressStyle::with_template(bar_too);
                        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
                    }
                    bar.set_position((share(far).unwrap_or(0.0) * 1000.0) as u64);
                    bar.set_message(says(far, None));
                }))
            }
            Progress::Lines => {
                let (clock, mut minutes) = (Stopwatch::start(), Minutes::default());
                Some(Box::new(move |far| {
                    let elapsed = clock.elapsed().as_secs_f64();
                    if minutes.is_due(elapsed) {
                        print::to_stderr(&says(far, Some(elapsed)));
                    }
                }))
            }
        }
    }

    /// Takes it from the screen.
    pub fn clear(&self) {
        #[cfg(feature = "terminal")]
        if let Progress::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

/// Lets through what comes first in each minute but the zeroth.
#[derive(Default)]
struct Minutes(u64);

impl Minutes {
    fn is_due(&mut self, seconds: f64) -> bool {
        let minute = (seconds / 60.0) as u64;
        let due = minute > self.0;
        self.0 = self.0.max(minute);
        due
    }
}

fn share(far: Far) -> Option<f64> {
    let whole = far.horizon?.as_secs_f64().max(1e-9);
    Some((far.now.as_secs_f64() / whole).min(1.0))
}

/// Says where it is; for a reader who sees no bar, after so many real seconds, also how much of it that is and how long it
/// may still take.
fn says(far: Far, elapsed: Option<f64>) -> String {
    let ms = |seconds: f64| show::millis((seconds * 1e3).round());
    let now = far.now.as_secs_f64();
    let mut text = match far.horizon {
        Some(end) => format!("at {} of {}", ms(now), ms(end.as_secs_f64())),
        None => format!("at {}", ms(now)),
    };
    if let (Some(elapsed), Some(share)) = (elapsed, share(far)) {
        text.push_str(&format!(" ({})", show::share(share, 1.0)));
        let left = elapsed * (1.0 - share) / share.max(1e-9);
        if share < 1.0 && left.is_finite() {
            text.push_str(&format!(", about {} left", ms(left)));
        }
    }
    if far.speed_up != 1.0 {
        text.push_str(&format!(", {} times real time", show::digits(far.speed_up)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use elapse::base::Time;

    #[test]
    fn a_log_gets_a_line_a_minute() {
        let mut minutes = Minutes::default();
        let told: Vec<u64> = (0..1000u64).filter(|s| minutes.is_due(*s as f64 * 0.2)).collect();
        assert_eq!(told, [300, 600, 900]);
        // After a gap one line, not one for each minute of it.
        let told: Vec<u64> = (900..1000u64).filter(|s| minutes.is_due(*s as f64)).collect();
        assert_eq!(told, [900, 960]);
    }

    #[test]
    fn a_line_says_where_it_is_and_how_long_it_takes() {
        let far = |now: u64, horizon, speed_up| Far {
            now: Time(now * 1_000_000_000),
            horizon: Option::map(horizon, |s: u64| Time(s * 1_000_000_000)),
            speed_up,
        };
        let alone = Some(60.0);
        assert_eq!(
            says(far(7_200, Some(28_800), 120.0), alone),
            "at 2 h of 8 h (25 %), about 3 min left, 120 times real time"
        );
        assert_eq!(says(far(60, Some(300), 1.0), alone), "at 1 min of 5 min (20 %), about 4 min left");
        assert_eq!(says(far(60, Some(300), 1.0), None), "at 1 min of 5 min");
        assert_eq!(says(far(90, None, 1.5), alone), "at 1.5 min, 1.5 times real time");
    }
}
