//! A stage's profile as text on standard output: a line of shares, a line a function.
#![expect(clippy::print_stdout, reason = "a part of the results of a climb")]

use crate::output::climb::ProfileReport;

/// Prints it as a part of what is said of a stage.
pub fn print(profile: &ProfileReport) {
    let percent = |share: f64| share * 100.0;
    println!(
        "  CPU: server {:.0} %, kernel {:.0} %, runtime {:.0} % ({} samples); {}",
        percent(profile.server),
        percent(profile.kernel),
        percent(profile.runtime),
        profile.samples,
        profile.file
    );
    for hot in &profile.hottest {
        println!(
            "    {:>4.1} % own {:>5.1} % total  {}",
            percent(hot.own),
            percent(hot.total),
            hot.function
        );
    }
}
