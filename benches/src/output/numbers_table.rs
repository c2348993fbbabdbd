//! The numbers of a machine as a table: ordered by time, each a bar on a logarithmic scale.
//!
//! From a clock reading to a commit on a disk it is six or seven powers of ten. On a linear scale all but the last would be
//! invisible; on this one three columns are a factor of a thousand, and what is three columns shorter is ten times faster.
#![expect(clippy::print_stdout, reason = "this is the one module that writes the numbers")]

use std::fmt::Write as _;

use crate::output::numbers::{Number, NumbersReport};

/// Columns of the bar that stand for a factor of ten.
const COLUMNS_A_DECADE: f64 = 3.0;
/// Where the bar begins, in seconds.
const SHORTEST: f64 = 1e-9;
/// Columns of the bar: up to 100 ms.
const COLUMNS: usize = 24;
/// Columns of the whole table, at the most.
const WIDTH: usize = 140;
/// What stands above the bar.
const SCALE: &str = "1ns......1us......1ms...";

/// Prints the table, what follows from it, and the procedures behind it.
pub fn print(report: &NumbersReport) {
    print!("{}", text(report));
}

/// A number while the others are still being measured.
pub fn line(number: &Number) -> String {
    format!("{:<35} {:>8}", number.what, time(number.seconds))
}

fn text(report: &NumbersReport) -> String {
    let mut out = String::new();
    let machine = &report.machine;
    // Writing into a string cannot fail.
    let _ = writeln!(
        out,
        "{}, {} cores, {}; {}; in {:.0} s",
        machine.cpu, machine.cores, machine.kernel, report.layout.text, report.elapsed_s
    );
    let _ = writeln!(
        out,
        "\n{:<35} {:>8} {:>8} {:>17}  {SCALE}  published (o)",
        "", "one", "a second", "quartiles"
    );
    let mut numbers: Vec<&Number> = report.numbers.iter().collect();
    numbers.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
    for number in &numbers {
        out.push_str(row(number).trim_end());
        out.push('\n');
    }
    for why in &report.absent {
        let _ = writeln!(out, "{why}");
    }
    let answer = qps(report);
    if !answer.is_empty() {
        let _ = writeln!(out, "\nWhat is the QPS of a typical server?");
        for line in answer.lines().flat_map(|line| wrapped(line, WIDTH)) {
            let _ = writeln!(out, "{line}");
        }
    }
    let _ = writeln!(out, "\nHow each was measured:");
    for number in &numbers {
        let mut what = number.what.as_str();
        for line in wrapped(&number.how, WIDTH - 36) {
            let _ = writeln!(out, "{what:<35} {line}");
            what = "";
        }
    }
    out
}

/// A text in lines of at most so many columns, broken between words.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

fn row(number: &Number) -> String {
    let published = number.published.as_ref().map_or_else(String::new, |published| {
        format!("{}, {}, {}", time(published.seconds), published.source, published.year)
    });
    format!(
        "{:<35} {:>8} {:>8} {:>17}  {}  {published}",
        number.what,
        time(number.seconds),
        count(number.per_second),
        format!("{} - {}", time(number.low_s), time(number.high_s)),
        bar(
            number.seconds,
            number.published.as_ref().map(|published| published.seconds)
        ),
    )
}

/// The answer, from what was measured of it: a line each for answering, for writing and for reading.
fn qps(report: &NumbersReport) -> String {
    let rate = |key: &str| report.of(key).map(|number| count(number.per_second));
    let listed = |parts: Vec<String>| (!parts.is_empty()).then(|| parts.join(", "));
    let bare = rate("http_request")
        .map(|bare| format!("One core of this machine answers {bare} requests a second that do nothing."));
    let writes = [("SQLite", "sqlite"), ("Postgres", "postgres")]
        .into_iter()
        .filter_map(|(name, key)| {
            let (single, grouped) = (rate(&format!("{key}_insert"))?, rate(&format!("{key}_insert_grouped"))?);
            Some(format!("{single} a second in {name} ({grouped} by 100)"))
        });
    let writes = listed(writes.collect())
        .map(|writes| format!("Rows written, each (or each hundred) durable before the next: {writes}."));
    let reads = [
        ("SQLite", "sqlite_read"),
        ("Postgres", "postgres_read"),
        ("Redis", "redis_get"),
    ];
    let reads = reads
        .into_iter()
        .filter_map(|(name, key)| Some(format!("{} a second from {name}", rate(key)?)));
    let reads = listed(reads.collect()).map(|reads| {
        format!(
            "Reads by key, one after the other: {reads}.\n\
             More connections hide the waiting in these, not the work: what a whole design carries is what `lab climb` finds out."
        )
    });
    [bare, writes, reads]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join("\n")
}

/// A bar from the left end of the scale to `seconds`, with an `o` where the published figure is.
fn bar(seconds: f64, published: Option<f64>) -> String {
    let end = column(seconds);
    let mut bar: Vec<char> = (0..COLUMNS).map(|at| if at < end { '#' } else { ' ' }).collect();
    if let Some(published) = published {
        bar[column(published) - 1] = 'o';
    }
    bar.into_iter().collect()
}

/// How many columns a time fills, from 1 to all.
fn column(seconds: f64) -> usize {
    let columns = ((seconds / SHORTEST).log10() * COLUMNS_A_DECADE).round();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 1 and 24"
    )]
    let columns = columns.clamp(1.0, COLUMNS as f64) as usize;
    columns
}

/// A time with three digits: 98.1 ns, 5.20 ms.
fn time(seconds: f64) -> String {
    let (value, unit) = match seconds {
        s if s < 999.5e-9 => (s * 1e9, "ns"),
        s if s < 999.5e-6 => (s * 1e6, "us"),
        s if s < 999.5e-3 => (s * 1e3, "ms"),
        s => (s, "s"),
    };
    format!("{} {unit}", three_digits(value))
}

/// How many, with three digits: 192, 9.61k, 54.1M.
fn count(value: f64) -> String {
    let (value, unit) = match value {
        v if v < 999.5 => (v, ""),
        v if v < 999.5e3 => (v / 1e3, "k"),
        v if v < 999.5e6 => (v / 1e6, "M"),
        v => (v / 1e9, "G"),
    };
    format!("{}{unit}", three_digits(value))
}

fn three_digits(value: f64) -> String {
    match value {
        v if v < 9.995 => format!("{v:.2}"),
        v if v < 99.95 => format!("{v:.1}"),
        v => format!("{v:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::Layout;
    use crate::machine::Machine;
    use crate::output::numbers::Published;

    fn number(key: &str, what: &str, seconds: f64, published: Option<f64>) -> Number {
        Number {
            key: key.to_owned(),
            what: what.to_owned(),
            seconds,
            low_s: seconds * 0.9,
            high_s: seconds * 1.1,
            samples: 11,
            per_second: 1.0 / seconds,
            how: format!("how {what} is done"),
            published: published.map(|seconds| Published {
                seconds,
                source: "a list (of something else)".to_owned(),
                year: 2012,
            }),
        }
    }

    fn report(numbers: Vec<Number>, absent: Vec<String>) -> NumbersReport {
        NumbersReport {
            schema: 1,
            date: "2026-01-01T00:00:00Z".to_owned(),
            command: "lab numbers".to_owned(),
            machine: Machine {
                cpu: "A CPU".to_owned(),
                cores: 2,
                memory_bytes: 1 << 30,
                kernel: "Linux 6".to_owned(),
                rustc: "rustc".to_owned(),
                clock_source: "tsc".to_owned(),
            },
            layout: Layout {
                server_cores: vec![0],
                generator_core: Some(1),
                text: "server on core 0".to_owned(),
            },
            elapsed_s: 12.3,
            numbers,
            absent,
        }
    }

    #[test]
    fn times_and_counts_have_three_digits_and_a_unit() {
        for (seconds, shown) in [
            (0.5e-9, "0.50 ns"),
            (98.14e-9, "98.1 ns"),
            (999.6e-9, "1.00 us"),
            (5.2e-6, "5.20 us"),
            (123.4e-6, "123 us"),
            (16.67e-3, "16.7 ms"),
            (1.5, "1.50 s"),
        ] {
            assert_eq!(time(seconds), shown);
        }
        for (value, shown) in [
            (60.0, "60.0"),
            (999.7, "1.00k"),
            (9_612.0, "9.61k"),
            (54.1e6, "54.1M"),
            (2e9, "2.00G"),
        ] {
            assert_eq!(count(value), shown);
        }
    }

    #[test]
    fn three_columns_are_a_factor_of_ten_and_the_bar_stays_in_its_place() {
        for (seconds, columns) in [
            (1e-12, 1),
            (1e-8, 3),
            (1e-7, 6),
            (1e-6, 9),
            (1e-3, 18),
            (0.1, 24),
            (10.0, 24),
        ] {
            let bar = bar(seconds, None);
            assert_eq!((bar.trim_end().len(), bar.len()), (columns, COLUMNS), "{seconds}");
        }
        assert_eq!(bar(1e-8, Some(1e-7)), format!("{:<24}", "###  o"));
        assert_eq!(bar(1e-7, Some(1e-8)), format!("{:<24}", "##o###"));
        assert_eq!(SCALE.len(), COLUMNS);
        assert_eq!(&SCALE[9..12], "1us", "the bar of 1 us ends before its mark");
    }

    #[test]
    fn the_table_is_ordered_by_time_and_not_too_wide() {
        let numbers = vec![
            number("fdatasync", "Disk, fdatasync", 1e-3, Some(5e-3)),
            number("clock_read", "Clock, one reading", 20e-9, None),
            number(
                "redis_zrevrank_pipelined",
                "The lab's generator, one operation",
                1.123e-6,
                Some(1.0 / 123_601.76),
            ),
        ];
        let text = text(&report(
            numbers,
            vec!["redis: not measured. It is not installed".to_owned()],
        ));
        let at = |what: &str| text.find(what).unwrap();
        assert!(at("Clock, one") < at("The lab's") && at("The lab's") < at("Disk, fdatasync"));
        assert!(text.contains("5.00 ms, a list (of something else), 2012"), "{text}");
        assert!(
            text.contains("redis: not measured") && text.contains("how Disk, fdatasync is done"),
            "{text}"
        );
        assert!(!text.contains("QPS"), "there is nothing to answer from: {text}");
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
    }

    #[test]
    fn long_texts_are_broken_between_words() {
        assert_eq!(wrapped("one two three four", 9), ["one two", "three", "four"]);
        assert_eq!(wrapped("unbreakable", 4), ["unbreakable"]);
    }

    #[test]
    fn the_question_is_answered_from_what_was_measured() {
        let numbers = vec![
            number("http_request", "HTTP", 10e-6, None),
            number("sqlite_insert", "SQLite", 1e-3, None),
            number("sqlite_insert_grouped", "SQLite by 100", 20e-6, None),
            number("postgres_insert", "Postgres", 2e-3, None),
            number("redis_get", "Redis", 50e-6, None),
        ];
        let answer = qps(&report(numbers, vec![]));
        let lines: Vec<&str> = answer.lines().collect();
        assert_eq!(
            lines[0],
            "One core of this machine answers 100k requests a second that do nothing."
        );
        assert_eq!(
            lines[1],
            "Rows written, each (or each hundred) durable before the next: 1.00k a second in SQLite (50.0k by 100)."
        );
        assert_eq!(
            lines[2],
            "Reads by key, one after the other: 20.0k a second from Redis."
        );
        assert_eq!(qps(&report(vec![], vec![])), "");
    }

    #[test]
    fn the_json_comes_back_as_it_was_and_takes_no_unknown_key() {
        let report = report(vec![number("fdatasync", "Disk", 1e-3, Some(5e-3))], vec![]);
        let mut value = serde_json::to_value(&report).unwrap();
        let back: NumbersReport = serde_json::from_value(value.clone()).unwrap();
        assert_eq!((back.numbers, back.layout), (report.numbers, report.layout));
        value["numbers"][0]["other"] = 1.into();
        assert!(serde_json::from_value::<NumbersReport>(value).is_err());
    }
}
