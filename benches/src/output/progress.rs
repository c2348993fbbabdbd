//! Progress on standard error: a bar on a terminal, nothing but plain lines elsewhere.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::climb::Phase;

/// A line that says what is going on.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    plain: bool,
}

impl Progress {
    /// A bar that fills over `duration`.
    pub fn timed(what: &'static str, duration: Duration) -> Self {
        let bar = bar(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX));
        bar.set_message(what);
        Self {
            bar,
            plain: !std::io::stderr().is_terminal(),
        }
    }

    /// A bar without an end, for work of unknown length.
    pub fn spinner() -> Self {
        let bar = ProgressBar::new_spinner();
        bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(5));
        Self {
            bar,
            plain: !std::io::stderr().is_terminal(),
        }
    }

    /// So much time has passed.
    pub fn at(&self, time: Duration) {
        self.bar
            .set_position(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    }

    /// What a stage is doing right now. Elsewhere than on a terminal the long phases get a line, the probes report for
    /// themselves.
    pub fn phase(&self, stage: &str, phase: Phase, text: &str) {
        let text = format!("{stage:<14} {phase}: {text}");
        if self.plain {
            if matches!(phase, Phase::Prepare | Phase::Verify) {
                eprintln!("{text}");
            }
            return;
        }
        self.bar.set_message(text);
        self.bar.tick();
    }

    /// Something that stays: a line above the bar.
    pub fn line(&self, text: &str) {
        if self.plain {
            eprintln!("{text}");
        } else {
            self.bar.suspend(|| eprintln!("{text}"));
        }
    }

    /// Takes the bar away.
    pub fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

fn bar(length: u64) -> ProgressBar {
    // A few draws a second: a draw runs on the generator's thread.
    let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr_with_hz(4));
    if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {elapsed}/{eta}") {
        bar.set_style(style);
    }
    bar
}
