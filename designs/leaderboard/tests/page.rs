//! The page of a board in a real browser: it shows the board, and a score that is posted while somebody looks appears in
//! its place.

#![allow(clippy::unwrap_used, reason = "what helps a test is a test too")]

mod common;

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use common::{Site, make, report};
use serde_json::json;
use testkit::browser::{Leave, browse};
use testkit::wait::wait_until;

/// A name that would be markup if it were not text.
const HOSTILE: &str = "<img src=x onerror=alert(1)>";

/// The lines of the table as they stand in the document: class of the row, rank, member, score.
fn rows(dom: &str) -> Vec<[String; 4]> {
    let table = dom
        .split("<tbody>")
        .nth(1)
        .unwrap_or_default()
        .split("</tbody>")
        .next()
        .unwrap_or_default();
    let rows = table.split("<tr class=\"").skip(1).map(|row| {
        let (class, rest) = row.split_once('"').unwrap();
        let cells: Vec<&str> = rest
            .split("</")
            .filter_map(|cell| cell.rsplit_once('>').map(|(_, text)| text))
            .collect();
        [class, cells[0], cells[1], cells[2]].map(str::to_owned)
    });
    rows.collect()
}

/// A page that is looked at: how many events it was sent, and whether it may be left.
#[derive(Default)]
struct LookedAt {
    events: AtomicUsize,
    released: AtomicBool,
}

/// Passes requests on, each on a connection of its own, and keeps the last bytes of the page back until it may be left: a browser
/// leaves a page when it is loaded, and this one is looked at while it lives.
fn pass_on(server: SocketAddr, looked_at: &Arc<LookedAt>) -> SocketAddr {
    let looked_at = Arc::clone(looked_at);
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        for client in listener.incoming() {
            let looked_at = Arc::clone(&looked_at);
            // The browser ends connections when it likes.
            thread::spawn(move || client.and_then(|client| pass_one_on(client, server, &looked_at)));
        }
    });
    addr
}

fn pass_one_on(mut client: TcpStream, server: SocketAddr, looked_at: &LookedAt) -> io::Result<()> {
    let mut head = Vec::new();
    let mut reader = BufReader::new(client.try_clone()?);
    let mut page = false;
    while !head.ends_with(b"\r\n\r\n") {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let lower = line.to_ascii_lowercase();
        page |= lower.starts_with("accept: text/html");
        if line == "\r\n" {
            head.extend_from_slice(b"Connection: close\r\n");
        }
        if !lower.starts_with("connection:") {
            head.extend_from_slice(line.as_bytes());
        }
    }
    let mut server = TcpStream::connect(server)?;
    server.write_all(&head)?;
    if !page {
        for line in BufReader::new(server).split(b'\n') {
            let line = [line?, b"\n".to_vec()].concat();
            client.write_all(&line)?;
            let event = line.starts_with(b"data: ");
            looked_at.events.fetch_add(usize::from(event), Ordering::Relaxed);
        }
        return Ok(());
    }
    let mut answer = Vec::new();
    server.read_to_end(&mut answer)?;
    let (most, last) = answer.split_at(answer.len() - 4);
    client.write_all(most)?;
    wait_until("the page may be left", || looked_at.released.load(Ordering::Relaxed));
    client.write_all(last)
}

#[test]
fn a_score_that_is_posted_appears_in_its_place() {
    let site = Site::new();
    let server = site.start("ordered_tree", &[]);
    let addr = server.addr();
    make(addr, "chess", &json!({"policy": "best"}));
    for (member, score) in [("alice", 50), (HOSTILE, 40), ("carol", 1_234_567)] {
        let answer = report(addr, "chess", &json!({"member": member, "score": score}));
        assert_eq!(answer.status, 200);
    }
    let looked_at = Arc::<LookedAt>::default();
    let through = pass_on(addr, &looked_at);
    let events = || looked_at.events.load(Ordering::Relaxed);
    let seen = thread::scope(|scope| {
        let url = format!("http://{through}/boards/chess");
        let look = scope.spawn(move || browse(&url, Leave::WhenLoaded));
        wait_until("the page is sent what is there", || events() >= 1 || look.is_finished());
        let answer = report(addr, "chess", &json!({"member": "bob", "score": 45}));
        assert_eq!(answer.status, 200);
        wait_until("the page is sent what is new", || events() >= 2 || look.is_finished());
        // What it makes of that can only be seen when it is left. It has a moment for it.
        thread::sleep(Duration::from_millis(500));
        looked_at.released.store(true, Ordering::Relaxed);
        look.join().unwrap()
    });
    assert_eq!(seen.console, Vec::<String>::new());
    assert!(seen.dom.contains("<h1 id=\"name\">chess</h1>"), "{}", seen.dom);
    let live = "<p class=\"state\" id=\"state\">Live</p>";
    assert!(seen.dom.contains(live), "{}", seen.dom);
    let escaped = "&lt;img src=x onerror=alert(1)&gt;";
    let expected = [
        ["", "1", "carol", "1,234,567"],
        ["", "2", "alice", "50"],
        // What is new is marked, and told to whoever does not see it.
        ["new", "3", "bob", "45"],
        ["", "4", escaped, "40"],
    ];
    assert_eq!(rows(&seen.dom), expected);
    assert!(seen.dom.contains("bob is at rank 3 with 45"), "{}", seen.dom);
}
