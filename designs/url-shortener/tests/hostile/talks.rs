//! Inputs that take more than one message.

use std::io::Write as _;
use std::time::Duration;

use serde_json::json;
use testkit::http::{self, Answer, Connection};
use testkit::server::Server;

use crate::House;
use crate::common::{Client, metric, wait_until};

fn create(server: &Server, link: &serde_json::Value) -> Answer {
    http::post_json(server.addr(), "/api/links", link).unwrap()
}

fn create_under(server: &Server, key: &str, link: &serde_json::Value) -> Answer {
    let headers = [("Content-Type", "application/json"), ("Idempotency-Key", key)];
    http::request(
        server.addr(),
        "POST",
        "/api/links",
        &headers,
        link.to_string().as_bytes(),
    )
    .unwrap()
}

const HEAD_OF_A_CREATE: &str =
    "POST /api/links HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n";

/// By its length, this body has a second request in it; by its chunks, that request comes after it.
pub(crate) fn two_framings(house: &House) -> Vec<Answer> {
    let smuggled = "DELETE /api/links/zzzzzzz HTTP/1.1\r\nHost: t\r\n\r\n";
    let body = format!("2\r\n{{}}\r\n0\r\n\r\n{smuggled}");
    let head = "POST /api/links HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked";
    let mut connection = Connection::open(house.open.addr()).unwrap();
    let request = format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    connection.send(request.as_bytes()).unwrap();
    let answer = connection.read().unwrap();
    assert!(
        connection.is_closed().unwrap(),
        "what came after it was taken for a request"
    );
    vec![answer]
}

pub(crate) fn short_body(house: &House) -> Vec<Answer> {
    let mut connection = Connection::open(house.hasty.addr()).unwrap();
    connection
        .send(format!("{HEAD_OF_A_CREATE}{{\"url\":").as_bytes())
        .unwrap();
    let answer = connection.read().unwrap();
    // Whatever would still come could be taken for a request.
    assert!(connection.is_closed().unwrap());
    vec![answer]
}

pub(crate) fn slow_body(house: &House) -> Vec<Answer> {
    let mut connection = Connection::open(house.hasty.addr()).unwrap();
    connection.send(HEAD_OF_A_CREATE.as_bytes()).unwrap();
    let mut drip = connection.stream().try_clone().unwrap();
    std::thread::scope(|scope| {
        // A byte now and then does not earn more time. Ends when the server has closed.
        scope.spawn(move || {
            while drip.write_all(b" ").is_ok() {
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let answer = connection.read().unwrap();
        drop(connection.stream().shutdown(std::net::Shutdown::Both));
        vec![answer]
    })
}

pub(crate) fn slow_head(house: &House) -> Vec<Answer> {
    // Of the first request, of a later one, and not even a byte.
    for (before, part) in [
        ("", "GET /zzzz"),
        ("GET /zzzzzzz HTTP/1.1\r\nHost: t\r\n\r\n", "GET /zzzz"),
        ("", ""),
    ] {
        let mut connection = Connection::open(house.hasty.addr()).unwrap();
        connection.send(before.as_bytes()).unwrap();
        if !before.is_empty() {
            assert_eq!(connection.read().unwrap().status, 404);
        }
        connection.send(part.as_bytes()).unwrap();
        let closed = connection.is_closed().unwrap();
        assert!(closed || connection.read().is_ok_and(|answer| answer.status == 408));
    }
    Vec::new()
}

pub(crate) fn head_is_get_without_a_body(house: &House) -> Vec<Answer> {
    let link = json!({"url": "https://example.org/", "alias": "for-head"});
    assert_eq!(create(&house.open, &link).status, 201);
    let mut connection = Connection::open(house.open.addr()).unwrap();
    let mut ask = |method: &str, name: &str| {
        let request = format!("{method} /{name} HTTP/1.1\r\nHost: t\r\n\r\n");
        connection.send(request.as_bytes()).unwrap();
        let mut answer = connection.read_answer_to(method).unwrap();
        // RFC 9110 (9.3.2) lets HEAD leave out what only the body would tell.
        answer
            .headers
            .retain(|(name, _)| !matches!(name.as_str(), "date" | "content-length"));
        answer
    };
    let (got, headed) = (ask("GET", "for-head"), ask("HEAD", "for-head"));
    assert_eq!((got.status, got.headers), (headed.status, headed.headers.clone()));
    // Nothing is left over that the next answer could be taken for.
    let missing = ask("HEAD", "nobody-has-this");
    assert!(missing.status == 404 && missing.body.is_empty());
    assert_eq!(ask("GET", "nobody-has-this").status, 404);
    vec![headed]
}

pub(crate) fn leaves_in_the_middle(house: &House) -> Vec<Answer> {
    for sent in ["GET /zz", HEAD_OF_A_CREATE, "GET /zzzzzzz HTTP/1.1\r\nHost: t\r\n\r\n"] {
        for _ in 0..50 {
            let mut connection = Connection::open(house.open.addr()).unwrap();
            connection.send(sent.as_bytes()).unwrap();
        }
    }
    wait_until("nothing of them is left", || {
        metric(&house.open, "resource_backlog", &["resource=\"admission\""]) == 0.0
            && http::get(house.open.addr(), "/zzzzzzz").is_ok_and(|answer| answer.status == 404)
    });
    vec![http::get(house.open.addr(), "/zzzzzzz").unwrap()]
}

pub(crate) fn pipelined(house: &House) -> Vec<Answer> {
    let mut connection = Connection::open(house.open.addr()).unwrap();
    let mut sender = connection.stream().try_clone().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let request = b"GET /zzzzzzz HTTP/1.1\r\nHost: t\r\n\r\n";
            sender.write_all(&request.repeat(1_000)).unwrap();
        });
        (0..1_000).map(|_| connection.read().unwrap()).collect()
    })
}

/// Resident memory of a server, in KiB.
fn resident_kib(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Opens streams and resets each at once, as in CVE-2023-44487.
pub(crate) fn rapid_reset(house: &House) -> Vec<Answer> {
    let frame = |kind: u8, flags: u8, stream: u32, payload: &[u8]| {
        let mut frame = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        frame
    };
    // HPACK: GET, http, a path and an authority as literals.
    let head = [&[0x82, 0x86, 0x04, 8][..], b"/zzzzzzz", &[0x01, 1], b"t"].concat();
    let before = resident_kib(&house.open);
    let mut connection = Connection::open(house.open.addr()).unwrap();
    connection.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
    connection.send(&frame(4, 0, 0, &[])).unwrap();
    for number in 0..10_000 {
        let stream = 2 * number + 1;
        let open = frame(1, 5, stream, &head); // HEADERS, END_STREAM and END_HEADERS
        let reset = frame(3, 0, stream, &8_u32.to_be_bytes()); // RST_STREAM, CANCEL
        if connection.send(&[open, reset].concat()).is_err() {
            break; // the server has had enough, as it should
        }
    }
    let grown = resident_kib(&house.open).saturating_sub(before);
    assert!(grown < 64 << 10, "grown by {grown} KiB");
    vec![http::get(house.open.addr(), "/zzzzzzz").unwrap()]
}

pub(crate) fn idle_connections(house: &House) -> Vec<Answer> {
    // As many as a test may open files under the usual limit of 1 024.
    let idle: Vec<_> = (0..900).map(|_| Connection::open(house.open.addr()).unwrap()).collect();
    let answer = http::get(house.open.addr(), "/zzzzzzz").unwrap();
    drop(idle);
    vec![answer]
}

pub(crate) fn conditions(house: &House) -> Vec<Answer> {
    let link = json!({"url": "https://example.org/", "alias": "unconditional"});
    assert_eq!(create(&house.open, &link).status, 201);
    let headers = [
        ("Range", "bytes=9-0,lines=x"),
        ("If-Match", "\"never"),
        ("If-Modified-Since", "yesterday"),
    ];
    vec![http::request(house.open.addr(), "GET", "/unconditional", &headers, b"").unwrap()]
}

pub(crate) fn reused_key(house: &House) -> Vec<Answer> {
    let first = create_under(&house.open, "reused", &json!({"url": "https://example.org/1"}));
    assert_eq!(first.status, 201);
    let others = [
        json!({"url": "https://example.org/2"}),
        json!({"url": "https://example.org/1", "expires_in_s": 60}),
        json!({"url": "https://example.org/1", "alias": "another-wish"}),
    ];
    others
        .iter()
        .map(|link| create_under(&house.open, "reused", link))
        .collect()
}

pub(crate) fn authorization(house: &House) -> Vec<Answer> {
    let long = format!("Bearer {}", "x".repeat(10 << 10));
    let values = [
        "",
        "Bearer",
        "Bearer ",
        "Bearer  ",
        "Basic azN5",
        "k3y-0f-the-house",
        "Bearer k3y-0f-the-hous",
        "bearer\tx",
        &long,
    ];
    let mut answers: Vec<Answer> = values
        .iter()
        .map(|value| {
            let headers = [("Content-Type", "application/json"), ("Authorization", *value)];
            let body = br#"{"url":"https://example.org/"}"#;
            http::request(house.keyed.addr(), "POST", "/api/links", &headers, body).unwrap()
        })
        .collect();
    answers.push(create(&house.keyed, &json!({"url": "https://example.org/"})));
    answers.push(http::request(house.keyed.addr(), "DELETE", "/api/links/zzzzzzz", &[], b"").unwrap());
    // Who may not write learns nothing about the body, however wrong it is.
    answers.push(http::request(house.keyed.addr(), "POST", "/api/links", &[], b"{").unwrap());
    answers
}

pub(crate) fn kept_exactly(house: &House) -> Vec<Answer> {
    let urls = [
        ("https://example.org/😀", "https://example.org/%F0%9F%98%80"),
        ("https://example.org/e\u{301}", "https://example.org/e%CC%81"),
        ("https://example.org/é", "https://example.org/%C3%A9"),
        (
            "https://example.org/?q=שלום",
            "https://example.org/?q=%D7%A9%D7%9C%D7%95%D7%9D",
        ),
    ];
    let answers = urls.iter().map(|(sent, stored)| {
        let answer = create(&house.open, &json!({ "url": sent }));
        assert_eq!(answer.json()["url"], *stored);
        let code = answer.json()["code"].as_str().unwrap().to_owned();
        assert_eq!(
            Client::new(house.open.addr()).target_of(&code).as_deref(),
            Some(*stored)
        );
        answer
    });
    answers.collect()
}

pub(crate) fn no_two_keys_meet(house: &House) -> Vec<Answer> {
    let keys = [
        "a:b,c", "a,b:c", "a:b:c", "{a}b", "a{b}", "[ab]", "*", "'--", "..", "%2e",
    ];
    let answers = keys.iter().enumerate().map(|(number, key)| {
        create_under(
            &house.open,
            key,
            &json!({"url": format!("https://example.org/{number}")}),
        )
    });
    answers.collect()
}

pub(crate) fn own_address(house: &House) -> Vec<Answer> {
    let port = house.open.addr().port();
    let urls = [
        format!("http://127.0.0.1:{port}/abcdefg"),
        format!("https://127.1:{port}/"),
    ];
    urls.iter()
        .map(|url| create(&house.open, &json!({ "url": url })))
        .collect()
}

pub(crate) fn homograph(house: &House) -> Vec<Answer> {
    // Cyrillic letters.
    let answer = create(&house.open, &json!({"url": "https://аррӏе.example/"}));
    let stored = answer.json()["url"].as_str().unwrap().to_owned();
    assert!(stored.starts_with("https://xn--") && stored.is_ascii(), "{stored}");
    vec![answer]
}
