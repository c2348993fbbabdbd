//! Reads the ledger of a server from its `/metrics` page: every resource with its capacity and three counters.
//!
//! A stage of several nodes has one ledger, the sum of theirs ([`sum`]).
//!
//! Five families are understood, by their names on the wire: `resource_capacity`, `resource_operations_total`,
//! `resource_busy_seconds_total`, `resource_wait_seconds_total`, `resource_backlog`. Everything else on the page is left
//! alone, so a server without a ledger is simply one without resources.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::http::Client;

/// One resource at one moment. The counters only grow.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// How many there are, in `unit`.
    pub capacity: f64,
    /// What is counted: connections, cores, requests.
    #[serde(default)]
    pub unit: String,
    /// Operations so far.
    pub operations: f64,
    /// Seconds in use so far, all of them together.
    pub busy_s: f64,
    /// Seconds waited for it so far, all waiters together.
    pub wait_s: f64,
    /// How many wait right now.
    #[serde(default)]
    pub backlog: f64,
}

/// All resources at one moment, by name.
pub type Rows = BTreeMap<String, Row>;

/// The cores that everything under test runs on.
pub const CPU: &str = "cpu";

/// What one of several processes takes of them: `cpu/postgres`.
pub const CPU_PARTS: &str = "cpu/";

/// Makes [`CPU`] what the server and its engines (name, seconds used so far) take of the same cores together, and writes
/// beside it what each of them takes. A server knows only of itself, and a core that its engine fills is full for it too.
pub fn share_cpu(rows: &mut Rows, engines: &[(&str, f64)]) {
    let Some(cpu) = rows.get_mut(CPU).filter(|_| !engines.is_empty()) else {
        return;
    };
    let server = cpu.clone();
    cpu.busy_s += engines.iter().map(|(_, busy_s)| busy_s).sum::<f64>();
    for (name, busy_s) in engines {
        let part = Row {
            busy_s: *busy_s,
            operations: 0.0, // nobody counts them
            ..server.clone()
        };
        rows.insert(format!("{CPU_PARTS}{name}"), part);
    }
    rows.insert(format!("{CPU_PARTS}server"), server);
}

/// The ledger of a stage whose nodes run beside each other: what each of them has, together.
///
/// Everything adds up, because each node has its own: two pools of 8 connections are 16, two doors admit twice as many, and
/// the threads of two nodes are as many as both have, however few cores these run on. But for the CPU: the nodes run on
/// the same cores, which each of them sees and counts as its own. What they take of them adds up; the cores do not.
pub fn sum(nodes: impl IntoIterator<Item = Rows>) -> Rows {
    let mut all = Rows::new();
    for (name, row) in nodes.into_iter().flatten() {
        match all.entry(name) {
            Entry::Vacant(first) => {
                first.insert(row);
            }
            Entry::Occupied(mut sum) => {
                let shared = sum.key() == CPU;
                add(sum.get_mut(), &row, shared);
            }
        }
    }
    all
}

/// `shared`: both have the same ones, not each its own.
fn add(sum: &mut Row, row: &Row, shared: bool) {
    sum.capacity = if shared {
        sum.capacity.max(row.capacity)
    } else {
        sum.capacity + row.capacity
    };
    sum.operations += row.operations;
    sum.busy_s += row.busy_s;
    sum.wait_s += row.wait_s;
    sum.backlog += row.backlog;
}

/// Asks the nodes of a stage, one after the other, for their ledgers, and sums them.
///
/// # Errors
/// A node does not answer, or its page is not in the exposition format.
pub fn read(nodes: &mut [Client]) -> Result<Rows> {
    let rows: Vec<Rows> = nodes.iter_mut().map(read_one).collect::<Result<_>>()?;
    Ok(sum(rows))
}

fn read_one(client: &mut Client) -> Result<Rows> {
    let answer = client.get("/metrics")?;
    ensure!(answer.status == 200, "GET /metrics was answered with {}", answer.status);
    parse(&String::from_utf8_lossy(&answer.body))
}

/// Takes the ledger out of a page in the Prometheus or OpenMetrics text format.
///
/// # Errors
/// A ledger line without a resource label or without a number.
pub fn parse(page: &str) -> Result<Rows> {
    let mut rows = Rows::new();
    for line in page.lines().filter(|line| line.starts_with("resource_")) {
        let (name, labels, value) = split(line).with_context(|| format!("/metrics: cannot read `{line}`"))?;
        let label = |key: &str| labels.iter().find(|(k, _)| k == key).map(|(_, v)| v.clone());
        let resource = label("resource").with_context(|| format!("/metrics: no resource in `{line}`"))?;
        let row = rows.entry(resource).or_default();
        match name {
            "resource_capacity" => {
                row.capacity = value;
                row.unit = label("unit").unwrap_or_default();
            }
            "resource_operations_total" => row.operations = value,
            "resource_busy_seconds_total" => row.busy_s = value,
            "resource_wait_seconds_total" => row.wait_s = value,
            "resource_backlog" => row.backlog = value,
            _ => {}
        }
    }
    Ok(rows)
}

type Labels = Vec<(String, String)>;

/// `name{key="value",...} number [timestamp]`.
fn split(line: &str) -> Option<(&str, Labels, f64)> {
    let (name, rest) = line.split_once('{')?;
    let mut labels = Vec::new();
    let mut rest = rest;
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(after) = rest.strip_prefix('}') {
            let value = after.split_whitespace().next()?.parse().ok()?;
            return Some((name, labels, value));
        }
        let (key, after) = rest.split_once("=\"")?;
        let (value, after) = quoted(after)?;
        labels.push((key.to_owned(), value));
        rest = after;
    }
}

/// The text up to the closing quote, with escapes resolved, and what follows the quote.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = r#"# TYPE resource_capacity gauge
# HELP resource_capacity How many there are.
resource_capacity{resource="sqlite_writer",unit="connections"} 1.0
resource_capacity{unit="cores",resource="cpu"} 2
# TYPE resource_operations counter
resource_operations_total{resource="sqlite_writer"} 1234
resource_busy_seconds_total{resource="sqlite_writer"} 12.345
resource_busy_seconds_total{resource="cpu"} 1e-3
resource_wait_seconds_total{resource="sqlite_writer"} 0.123 1700000000
resource_backlog{resource="sqlite_writer"} 7
http_requests_total{route="/{code}",method="GET",status="302"} 5
# EOF
"#;

    #[test]
    fn a_page_becomes_rows() {
        let rows = parse(PAGE).unwrap();
        assert_eq!(rows.len(), 2);
        assert_eq!(
            rows["sqlite_writer"],
            Row {
                capacity: 1.0,
                unit: "connections".to_owned(),
                operations: 1234.0,
                busy_s: 12.345,
                wait_s: 0.123,
                backlog: 7.0
            }
        );
        assert_eq!((rows["cpu"].capacity, rows["cpu"].busy_s), (2.0, 0.001));
    }

    #[test]
    fn the_cpu_is_shared_with_the_engines() {
        let mut rows = parse(PAGE).unwrap();
        let alone = rows.clone();
        share_cpu(&mut rows, &[]);
        assert_eq!(rows, alone, "nobody to share with");
        share_cpu(&mut rows, &[("postgres", 2.0), ("redis", 0.5)]);
        let busy = |name: &str| (rows[name].busy_s, rows[name].capacity);
        assert_eq!(busy("cpu"), (2.501, 2.0));
        assert_eq!(busy("cpu/server"), (0.001, 2.0));
        assert_eq!(busy("cpu/postgres"), (2.0, 2.0));
        assert_eq!(busy("cpu/redis"), (0.5, 2.0));
        assert_eq!(rows["sqlite_writer"], alone["sqlite_writer"]);
        let mut without = Rows::new();
        share_cpu(&mut without, &[("redis", 1.0)]);
        assert!(
            without.is_empty(),
            "a server without a ledger says nothing of the cores"
        );
    }

    #[test]
    fn the_ledgers_of_nodes_add_up_and_their_cores_do_not() {
        let row = |capacity: f64, busy_s: f64| Row {
            capacity,
            unit: "of them".to_owned(),
            operations: 10.0,
            busy_s,
            wait_s: 0.25,
            backlog: 3.0,
        };
        let node = |busy_s: f64| -> Rows {
            [(CPU, 1.0), ("workers", 1.0), ("admission", 64.0), ("pool", 8.0)]
                .map(|(name, capacity)| (name.to_owned(), row(capacity, busy_s)))
                .into()
        };
        let mut second = node(0.5);
        second.insert("lease".to_owned(), row(1.0, 0.125));
        let both = sum([node(0.25), second]);
        let together = |capacity: f64| Row {
            operations: 20.0,
            wait_s: 0.5,
            backlog: 6.0,
            ..row(capacity, 0.75)
        };
        assert_eq!(both[CPU], together(1.0), "two nodes on a core have one core");
        assert_eq!(both["workers"], together(2.0));
        assert_eq!(both["admission"], together(128.0));
        assert_eq!(both["pool"], together(16.0));
        assert_eq!(both["lease"], row(1.0, 0.125), "what one of them has alone");
        assert_eq!(sum([node(0.25)]), node(0.25), "a node alone is what it was");
    }

    #[test]
    fn labels_may_hold_anything() {
        let rows = parse("resource_backlog{resource=\"a\\\"b,}\\\\c\"} 1\n").unwrap();
        assert_eq!(rows.keys().collect::<Vec<_>>(), [r#"a"b,}\c"#]);
    }

    #[test]
    fn a_broken_line_is_an_error_and_another_page_is_not() {
        assert!(parse("resource_backlog{resource=\"a\"} many\n").is_err());
        assert!(parse("resource_backlog{unit=\"a\"} 1\n").is_err());
        assert!(parse("resource_backlog{resource=\"a\n").is_err());
        assert!(parse("up 1\n").unwrap().is_empty());
    }
}
