//! Progress on standard error: a bar and colours on a terminal, nothing but plain lines elsewhere.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::climb::Phase;
use crate::output::paint::{self, BAD, DOUBTFUL, GOOD, paint};

/// A line that says what is going on.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    plain: bool,
    colour: bool,
}

impl Progress {
    /// A bar that fills over `duration`.
    pub fn timed(what: &'static str, duration: Duration) -> Self {
        let bar = bar(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX));
        bar.set_message(what);
        Self {
            bar,
            plain: !std::io::stderr().is_terminal(),
            colour: paint::wanted(&std::io::stderr()),
        }
    }

    /// A bar without an end, for work of unknown length.
    pub fn spinner() -> Self {
        let bar = ProgressBar::new_spinner();
        bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(5));
        Self {
            bar,
            plain: !std::io::stderr().is_terminal(),
            colour: paint::wanted(&std::io::stderr()),
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
            let text = painted(text, self.colour);
            self.bar.suspend(|| eprintln!("{text}"));
        }
    }

    /// Takes the bar away.
    pub fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

/// A probe's line with its result in colour; any other line as it is.
fn painted(text: &str, on: bool) -> String {
    for (word, style) in [("passed", GOOD), ("failed:", BAD), ("rig-limited:", DOUBTFUL)] {
        if let Some((before, after)) = text.split_once(&format!(" ms  {word}")) {
            return format!("{before} ms  {}{after}", paint(on, style, word));
        }
    }
    text.to_owned()
}

fn bar(length: u64) -> ProgressBar {
    // A few draws a second: a draw runs on the generator's thread.
    let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr_with_hz(4));
    if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {elapsed}/{eta}") {
        bar.set_style(style);
    }
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_result_of_a_probe_is_coloured_and_nothing_else() {
        let line = "cached           9000/s search    p50    0.30 ms  p99     6.41 ms  failed: create p99 131 ms";
        assert_eq!(painted(line, false), line);
        assert_eq!(
            painted(line, true),
            line.replace("failed:", "\u{1b}[31mfailed:\u{1b}[0m")
        );
        assert_eq!(
            painted("cached: skipped, failed: no", true),
            "cached: skipped, failed: no"
        );
    }
}
