//! The workload of the id generator against servers that are right, and against servers that are not.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lab::generator::Outcome;
use lab::http::{Client, Target};
use lab::stop::Stop;
use lab::workload::{Verified, Workload};
use lab::workloads::{self, Options};
use support::{Act, serve};

const EPOCH_MS: u64 = 1_288_834_974_657;
const OPERATIONS: u64 = 400;

/// Two nodes of Twitter's layout behind one address, which take turns: the last number of each, 4,096 a millisecond.
struct Nodes {
    turn: usize,
    last: [u64; 2],
}

impl Nodes {
    /// So many ids of one node.
    fn take(&mut self, count: u64) -> Vec<u64> {
        self.turn = 1 - self.turn;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
        let now = (u64::try_from(now).unwrap() - EPOCH_MS) << 12;
        let first = now.max(self.last[self.turn] + 1);
        self.last[self.turn] = first + count - 1;
        let node = self.turn as u64;
        let id = |number: u64| (number >> 12) << 22 | node << 12 | number & 4_095;
        (first..first + count).map(id).collect()
    }
}

fn json(body: &str) -> Act {
    let length = body.len();
    Act::Answer(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}").into_bytes())
}

fn list(ids: &[u64]) -> String {
    serde_json::json!({ "ids": ids.iter().map(u64::to_string).collect::<Vec<_>>() }).to_string()
}

fn decoded(id: &str) -> String {
    let bits: u64 = id.parse().unwrap();
    let time = UNIX_EPOCH + Duration::from_millis((bits >> 22) + EPOCH_MS);
    let time = humantime::format_rfc3339_millis(time);
    let (node, sequence) = (bits >> 12 & 1_023, bits & 4_095);
    format!(r#"{{"id":"{id}","layout":"twitter","time":"{time}","node":{node},"sequence":{sequence}}}"#)
}

/// A server whose answers with ids are spoilt by `spoil`, which is told how many there were before; and what it decodes by
/// `decode`.
fn server(
    spoil: impl Fn(u64, Vec<u64>) -> String + Send + Sync + 'static,
    decode: impl Fn(&str) -> String + Send + Sync + 'static,
) -> SocketAddr {
    let nodes = Mutex::new(Nodes { turn: 0, last: [0; 2] });
    let answers = AtomicU64::new(0);
    serve(move |line| {
        let path = line.split(' ').nth(1).unwrap();
        match (path.strip_prefix("/ids/"), path.strip_prefix("/ids")) {
            (Some(id), _) => json(&decode(id)),
            (_, Some(query)) => {
                let count = query.strip_prefix("?count=").map_or(1, |count| count.parse().unwrap());
                json(&spoil(
                    answers.fetch_add(1, Ordering::SeqCst),
                    nodes.lock().unwrap().take(count),
                ))
            }
            _ => Act::Answer(b"HTTP/1.1 404 X\r\nContent-Length: 0\r\n\r\n".to_vec()),
        }
    })
    .0
}

fn workload(address: SocketAddr, mix: Option<&str>) -> Box<dyn Workload> {
    let options = Options {
        target: Target::of(address),
        key: Some("secret".to_owned()),
        seed: 7,
        items: 1,
        mix: mix.map(ToOwned::to_owned),
        nodes: 1,
    };
    workloads::of("id-generator", &options).unwrap()
}

fn client(address: SocketAddr) -> Client {
    Client::new(Target::of(address), Some("secret".to_owned()))
}

fn load(address: SocketAddr, mix: Option<&str>) -> (Outcome, Verified) {
    support::load(&mut client(address), workload(address, mix), OPERATIONS)
}

fn honest(_: u64, ids: Vec<u64>) -> String {
    list(&ids)
}

#[test]
fn an_honest_server_has_no_violations_and_all_is_counted() {
    for (mix, least) in [
        (None, OPERATIONS),
        (Some("bulk=1"), OPERATIONS * 1_000),
        (Some("decode=1"), 1),
    ] {
        let (outcome, verified) = load(server(honest, decoded), mix);
        assert_eq!(
            (outcome.completed, outcome.violations),
            (OPERATIONS, 0),
            "{:?}",
            outcome.examples
        );
        let compared: u64 = verified.summary.split(' ').next().unwrap().parse().unwrap();
        assert!(compared >= least && verified.violations == 0, "{}", verified.summary);
        let nodes = if mix == Some("decode=1") { 1 } else { 2 };
        assert!(
            verified.summary.contains(&format!("of {nodes} node(s)")),
            "{}",
            verified.summary
        );
        assert!(verified.summary.contains("layout twitter"), "{}", verified.summary);
    }
}

/// The answer number 100 is spoilt, and nothing else.
fn found(part: &str, spoil: impl Fn(Vec<u64>) -> String + Send + Sync + 'static) {
    let address = server(
        move |before, ids| if before == 100 { spoil(ids) } else { list(&ids) },
        decoded,
    );
    let (outcome, _) = load(address, Some("batch=1"));
    let examples = &outcome.examples;
    assert!(
        outcome.violations >= 1 && examples[0].contains(part),
        "{part}: {examples:?}"
    );
}

#[test]
fn each_broken_promise_is_found() {
    found("ids were asked for and", |ids| list(&ids[1..]));
    found("given twice", |mut ids| {
        ids[1] = ids[0];
        list(&ids)
    });
    found("was sent after its answer with", |ids| {
        list(&ids.iter().map(|id| id - (60_000 << 22)).collect::<Vec<_>>())
    });
    found("an id in quotes", |ids| serde_json::json!({ "ids": ids }).to_string());
    found("the beginning of a list", |_| "{}".to_owned());
    let wrong = server(honest, |id| decoded(id).replace("\"node\":", "\"node\":1"));
    let error = workload(wrong, None)
        .prepare(&mut client(wrong), &Stop::default())
        .unwrap_err();
    assert!(error.to_string().contains("is not time"), "{error}");
}
