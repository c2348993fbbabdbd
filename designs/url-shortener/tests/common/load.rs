//! Creates from several clients at once, written down as they end.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::{Value, json};
use testkit::http::Answer;

use super::Client;
use super::history::{Create, History};

/// A number that no other create of this test process has, for URLs that are told apart.
pub(crate) fn fresh_url() -> String {
    static MADE: AtomicU64 = AtomicU64::new(0);
    format!("https://example.org/{}", MADE.fetch_add(1, Ordering::Relaxed))
}

/// Makes one link and says how it ended.
pub(crate) fn create_one(client: &mut Client) -> Create {
    let url = fresh_url();
    match client.create(&json!({ "url": url })) {
        Ok(answer) if answer.status == 201 => acknowledged(&answer.json(), url),
        Ok(answer) => refused(&answer.json(), url, &answer),
        Err(_) => Create::Unknown { url },
    }
}

/// Makes many links in one batch and says how each ended.
pub(crate) fn create_batch(client: &mut Client, size: usize) -> Vec<Create> {
    let urls: Vec<String> = (0..size).map(|_| fresh_url()).collect();
    let links: Vec<Value> = urls.iter().map(|url| json!({ "url": url })).collect();
    match client.post("/api/links:batch", &json!({ "links": links })) {
        Ok(answer) if answer.status == 200 => {
            let results = answer.json();
            let results = results["results"].as_array().unwrap();
            assert_eq!(results.len(), size, "{answer:?}");
            let ends = urls.into_iter().zip(results);
            ends.map(|(url, result)| match result["status"].as_u64() {
                Some(201) => acknowledged(result, url),
                _ => refused(&result["problem"], url, &answer),
            })
            .collect()
        }
        Ok(answer) => {
            let problem = answer.json();
            urls.into_iter().map(|url| refused(&problem, url, &answer)).collect()
        }
        Err(_) => urls.into_iter().map(|url| Create::Unknown { url }).collect(),
    }
}

fn acknowledged(created: &Value, url: String) -> Create {
    assert_eq!(created["url"], url.as_str());
    let code = created["code"].as_str().unwrap().to_owned();
    Create::Acknowledged { code, url }
}

fn refused(problem: &Value, url: String, answer: &Answer) -> Create {
    match (problem["status"].as_u64(), problem["outcome"].as_str()) {
        (Some(503 | 507), Some("not_executed")) => Create::Refused { url },
        (Some(504), Some("unknown")) => Create::Unknown { url },
        _ => panic!("a create ended as none should: {answer:?}"),
    }
}

/// Creates from `clients` at once for as long as `until` does not return; gives what `until` returned, and the history.
pub(crate) fn creates_during<T>(addr: SocketAddr, clients: usize, until: impl FnOnce(&AtomicU64) -> T) -> (T, History) {
    let stop = AtomicBool::new(false);
    let done = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..clients)
            .map(|_| {
                scope.spawn(|| {
                    let mut client = Client::new(addr);
                    let mut creates = Vec::new();
                    while !stop.load(Ordering::Relaxed) {
                        let create = create_one(&mut client);
                        let end = matches!(create, Create::Unknown { .. });
                        done.fetch_add(u64::from(!end), Ordering::Relaxed);
                        creates.push(create);
                        if end {
                            break; // killed: there is nobody to talk to
                        }
                    }
                    creates
                })
            })
            .collect();
        let result = until(&done);
        stop.store(true, Ordering::Relaxed);
        let creates = workers.into_iter().flat_map(|worker| worker.join().unwrap());
        let creates = creates.collect();
        (result, History { creates })
    })
}
