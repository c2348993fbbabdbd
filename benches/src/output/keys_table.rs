//! What primary keys cost as a table, one block for each engine and cache, and in words what a random key costs in each.
#![expect(clippy::print_stdout, reason = "this is the one module that writes the keys")]

use std::fmt::Write as _;

use crate::keys::Kind;
use crate::output::keys::{KeyTable, KeysReport, KeysRun};
use crate::output::text::{grouped, rate};

/// What the columns are, below the table.
const LEGEND: &str = "\
first, last: the first and the last tenth of the rows. Each commit is durable; only commits are timed.
index: all pages of the primary key's index; - where the table is itself the tree that is ordered by the key.
table: all other pages. in cache: whether that tree, at its end, was smaller than the database's own cache.
log: what went through the write-ahead log. pages in it: SQLite logs nothing but whole pages, each commit every page that it
changed; Postgres logs changes, and a whole page at the first change after a checkpoint, of which there is one a tenth.
rising: the share of the keys that are larger than the one before. clustered: WITHOUT ROWID, rows in the order of the key.
";

/// Prints the table.
pub fn print(report: &KeysReport) {
    print!("{}", text(report));
}

/// The same as a text.
pub fn text(report: &KeysReport) -> String {
    let mut out = String::new();
    let machine = &report.machine;
    // Writing into a string cannot fail.
    let _ = writeln!(
        out,
        "{}, {} cores, {}, data on {}; {}",
        machine.cpu, machine.cores, machine.kernel, report.data_filesystem, report.layout.text
    );
    let _ = writeln!(
        out,
        "{} rows in each table, of a key and {} bytes, {} a commit; seed {}; in {:.0} s",
        grouped(&report.rows.to_string()),
        report.payload_bytes,
        grouped(&report.rows_a_commit.to_string()),
        report.seed,
        report.elapsed_s
    );
    for run in &report.runs {
        block(&mut out, run);
    }
    out.push('\n');
    for why in &report.absent {
        let _ = writeln!(out, "{why}");
    }
    let costs: Vec<String> = report.runs.iter().flat_map(costs).collect();
    if !costs.is_empty() {
        let _ = writeln!(
            out,
            "What a random key costs, beside one of the same length that rises:"
        );
        for line in costs {
            let _ = writeln!(out, "{line}");
        }
        out.push('\n');
    }
    out.push_str(LEGEND);
    out
}

/// As people write it.
pub fn name(kind: Kind, clustered: bool) -> String {
    let name = match kind {
        Kind::AutoIncrement => "auto-increment",
        Kind::UuidV4 => "UUIDv4",
        Kind::UuidV7 => "UUIDv7",
        Kind::Ulid => "ULID",
        Kind::Snowflake => "Snowflake",
    };
    if clustered {
        format!("{name}, clustered")
    } else {
        name.to_owned()
    }
}

/// The engine and its cache: `SQLite 3.51.3, cache 64 MiB`.
pub fn title(run: &KeysRun) -> String {
    format!("{}, cache {}", run.engine, size(run.cache_bytes))
}

fn block(out: &mut String, run: &KeysRun) {
    let _ = writeln!(
        out,
        "\n{:<34} {:>9} {:>9} {:>10}  {:>9} {:>9} {:>8}  {:>8} {:>11} {:>6}",
        title(run),
        "rows/s",
        "first",
        "last",
        "index MiB",
        "table MiB",
        "in cache",
        "log MiB",
        "pages in it",
        "rising"
    );
    for table in &run.tables {
        let fits = if table.tree_bytes() <= run.cache_bytes {
            "yes"
        } else {
            "no"
        };
        let _ = writeln!(
            out,
            "{:<34} {:>9} {:>9} {:>10}  {:>9} {:>9} {:>8}  {:>8} {:>11} {:>6}",
            name(table.key, table.clustered),
            rate(table.rows_per_second),
            rate(table.first_tenth_rows_per_second),
            rate(table.last_tenth_rows_per_second),
            table.index_bytes.map_or_else(|| "-".to_owned(), mib),
            mib(table.table_bytes),
            fits,
            mib(table.log_bytes),
            table
                .log_pages
                .map_or_else(|| "-".to_owned(), |pages| grouped(&pages.to_string())),
            format!("{:.0} %", table.in_order * 100.0),
        );
    }
}

/// UUIDv4 beside UUIDv7, for each way to store them: what only the order of the keys does.
fn costs(run: &KeysRun) -> Vec<String> {
    let of = |kind, clustered| {
        let mut tables = run.tables.iter();
        tables.find(|table| (table.key, table.clustered) == (kind, clustered))
    };
    let cost = |clustered| {
        let (random, rising) = (of(Kind::UuidV4, clustered)?, of(Kind::UuidV7, clustered)?);
        Some(cost(&title(run), random, rising))
    };
    [false, true].into_iter().filter_map(cost).collect()
}

fn cost(title: &str, random: &KeyTable, rising: &KeyTable) -> String {
    let clustered = if random.clustered { ", clustered" } else { "" };
    let tree = if random.index_bytes.is_some() { "index" } else { "table" };
    let times = |random: f64, rising: f64| format!("{:.2}", random / rising);
    format!(
        "{:<46} {} of the rate at the start, {} at the end; {} times the {tree}, {} times the log",
        format!("{title}{clustered}:"),
        times(random.first_tenth_rows_per_second, rising.first_tenth_rows_per_second),
        times(random.last_tenth_rows_per_second, rising.last_tenth_rows_per_second),
        times(random.tree_bytes() as f64, rising.tree_bytes() as f64),
        times(random.log_bytes as f64, rising.log_bytes as f64),
    )
}

fn mib(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / f64::from(1 << 20))
}

/// Of a cache: `64 MiB`, `2000 KiB`.
fn size(bytes: u64) -> String {
    if bytes.is_multiple_of(1 << 20) {
        format!("{} MiB", bytes >> 20)
    } else {
        format!("{} KiB", bytes >> 10)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::layout::Layout;
    use crate::machine::Machine;
    use crate::output::keys::Slice;

    fn table(key: Kind, clustered: bool, slow: f64) -> KeyTable {
        KeyTable {
            key,
            clustered,
            rows_per_second: 100_000.0 / slow,
            first_tenth_rows_per_second: 200_000.0,
            last_tenth_rows_per_second: 80_000.0 / slow,
            table_bytes: 150 << 20,
            index_bytes: (!clustered).then_some(40 << 20),
            log_bytes: 1_000 << 20,
            log_pages: Some(254_509),
            in_order: 0.4996,
            slices: (1..=10_u32)
                .map(|slice| Slice {
                    rows: 100_000,
                    seconds: 0.5 + slow * f64::from(slice) / 10.0,
                })
                .collect(),
        }
    }

    /// A report with two engines and two caches.
    pub(in crate::output) fn report() -> KeysReport {
        let run = |engine: &str, cache_bytes, clustered: bool| KeysRun {
            engine: engine.to_owned(),
            cache_bytes,
            tables: Kind::ALL
                .into_iter()
                .map(|kind| table(kind, false, if kind == Kind::UuidV4 { 4.0 } else { 1.0 }))
                .chain(clustered.then(|| table(Kind::UuidV4, true, 8.0)))
                .chain(clustered.then(|| table(Kind::UuidV7, true, 2.0)))
                .collect(),
        };
        KeysReport {
            schema: 1,
            date: "2026-01-01T00:00:00Z".to_owned(),
            command: "lab keys".to_owned(),
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
            data_filesystem: "ext4".to_owned(),
            elapsed_s: 99.6,
            seed: 1,
            rows: 1_000_000,
            rows_a_commit: 1_000,
            payload_bytes: 100,
            runs: vec![
                run("SQLite 3", 64 << 20, true),
                run("SQLite 3", 2_000 << 10, true),
                run("Postgres 15", 128 << 20, false),
                run("Postgres 15", 16 << 20, false),
            ],
            absent: Vec::new(),
        }
    }

    fn line<'a>(text: &'a str, begin: &str) -> &'a str {
        text.lines().find(|line| line.starts_with(begin)).unwrap()
    }

    fn words(line: &str) -> Vec<&str> {
        line.split_whitespace().collect()
    }

    #[test]
    fn each_figure_stands_in_its_column() {
        let text = text(&report());
        assert_eq!(
            words(line(&text, "UUIDv4 ")),
            [
                "UUIDv4", "25,000", "200,000", "20,000", "40.0", "150.0", "yes", "1000.0", "254,509", "50", "%"
            ]
        );
        assert_eq!(words(line(&text, "UUIDv4, clustered"))[5..8], ["-", "150.0", "no"]);
        assert!(
            text.contains("1,000,000 rows in each table, of a key and 100 bytes, 1,000 a commit; seed 1; in 100 s")
        );
        assert!(text.lines().all(|line| line.chars().count() <= 140), "{text}");
    }

    #[test]
    fn a_tree_larger_than_the_cache_is_said_not_to_fit() {
        let text = text(&report());
        let small = text.split("SQLite 3, cache 2000 KiB").nth(1).unwrap();
        assert_eq!(words(line(small, "UUIDv4 "))[6], "no");
    }

    #[test]
    fn the_cost_of_a_random_key_is_the_ratio_to_one_of_the_same_length() {
        let text = text(&report());
        assert!(
            line(&text, "SQLite 3, cache 64 MiB: ")
                .ends_with(" 1.00 of the rate at the start, 0.25 at the end; 1.00 times the index, 1.00 times the log")
        );
        assert!(line(&text, "SQLite 3, cache 64 MiB, clustered: ").contains("1.00 times the table"));
        assert_eq!(
            text.matches("at the start").count(),
            6,
            "clustered or not, where both are there"
        );
    }

    #[test]
    fn what_was_not_measured_is_said_and_compared_with_nothing() {
        let mut report = report();
        report.runs.clear();
        report
            .absent
            .push("postgres: not measured. It is not installed".to_owned());
        let text = text(&report);
        assert!(
            text.contains("\npostgres: not measured. It is not installed\n"),
            "{text}"
        );
        assert!(!text.contains("random key"), "{text}");
    }

    #[test]
    fn pages_that_nobody_counted_are_a_hyphen() {
        let mut report = report();
        report.runs[2].tables[1].log_pages = None;
        let text = text(&report);
        let postgres = text.split("Postgres 15, cache 128 MiB").nth(1).unwrap();
        assert_eq!(words(line(postgres, "UUIDv4 "))[8], "-");
    }

    #[test]
    fn the_json_comes_back_as_it_was_and_takes_no_unknown_key() {
        let report = report();
        let mut value = serde_json::to_value(&report).unwrap();
        let back: KeysReport = serde_json::from_value(value.clone()).unwrap();
        assert_eq!(text(&back), text(&report));
        assert_eq!(back.runs, report.runs);
        value["runs"][0]["tables"][0]["other"] = 1.into();
        assert!(serde_json::from_value::<KeysReport>(value).is_err());
    }
}
