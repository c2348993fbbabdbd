//! Scripts against a tiny server: one that goes well, those that do not, a recording.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Mutex;

use super::*;

/// A shortener in twenty lines: POST remembers its body under a code, GET redirects to it.
fn shortener() -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let addr = listener.local_addr().unwrap();
    let links = Mutex::new(Vec::<String>::new());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            answer(stream, &mut links.lock().unwrap());
        }
    });
    addr
}

fn answer(mut stream: TcpStream, links: &mut Vec<String>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let head: Vec<String> = reader
        .by_ref()
        .lines()
        .map_while(Result::ok)
        .take_while(|line| !line.is_empty())
        .collect();
    let length = head
        .iter()
        .find_map(|line| line.strip_prefix("Content-Length: ")?.parse().ok())
        .unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();

    let target = head[0].split(' ').nth(1).unwrap();
    let known = target
        .strip_prefix("/code-")
        .and_then(|number| links.get(number.parse::<usize>().ok()?));
    let reply = if head[0].starts_with("POST") {
        links.push(String::from_utf8(body).unwrap());
        let json = format!(
            r#"{{"url":"{}","code":"code-{}","made":"2026-01-01T00:00:0{}Z"}}"#,
            links[links.len() - 1],
            links.len() - 1,
            links.len() % 10
        );
        format!(
            "201 Created\r\nContent-Type: application/json\r\nDate: now\r\nLocation: {target}/code-{}\r\nContent-Length: {}\r\n\r\n{json}",
            links.len() - 1,
            json.len()
        )
    } else if let Some(url) = known {
        format!("302 Found\r\nLocation: {url}\r\nContent-Length: 0\r\n\r\n")
    } else {
        "404 Not Found\r\nContent-Length: 5\r\n\r\nnone\n".to_owned()
    };
    stream.write_all(format!("HTTP/1.1 {reply}").as_bytes()).unwrap();
}

const SCRIPT: &str = r#"# A link is made and followed.

### a new link
# The code is the server's choice.
POST /links
X-From: {{who}}

https://example.org/{{who}}
---
201
Location: /links/{{code = word}}
!Set-Cookie

{
  "code": "{{code}}",
  "made": "{{date}}",
  "url": "https://example.org/{{who}}"
}

### following it
GET /{{code}}
---
302
Location: https://example.org/ann

### an unknown one
GET /nobody
---
404

none
"#;

fn compare(script: &str) -> Result<String, Failure> {
    play("links.http", script, shortener(), &[("who", "ann")], Mode::Compare)
}

#[test]
fn a_script_that_goes_as_written_passes_and_stays() {
    assert_eq!(compare(SCRIPT).unwrap(), SCRIPT);
}

#[test]
fn a_difference_is_shown_with_file_step_and_both_sides() {
    let failure = compare(&SCRIPT.replace("\nnone\n", "\nnobody here\n")).unwrap_err();
    assert_eq!(
        (failure.script.as_str(), failure.step.as_str()),
        ("links.http", "an unknown one")
    );
    assert_eq!(failure.problem, "GET /nobody\n\n  404\n  \n- nobody here\n+ none\n");
    assert!(
        failure.to_string().starts_with("links.http: an unknown one\n"),
        "{failure}"
    );
}

#[test]
fn every_part_of_an_answer_counts() {
    for (from, to) in [
        ("\n302\n", "\n301\n"),                                           // status
        ("Location: https://example.org/ann", "Location: https://x.org"), // header
        ("!Set-Cookie", "!Location"),                                     // a header that must not be there
        ("!Set-Cookie", "Set-Cookie: {{any}}"),                           // one that must
        ("  \"made\": \"{{date}}\",\n", ""),                              // a line too many
        ("{{date}}", "{{uuid}}"),                                         // a pattern
        ("404\n\nnone", "404"),                                           // a body where there should be none
    ] {
        let changed = SCRIPT.replacen(from, to, 1);
        assert_ne!(changed, SCRIPT);
        assert!(compare(&changed).is_err(), "{from} -> {to} was not noticed");
    }
}

#[test]
fn a_recording_fills_in_what_is_missing_and_keeps_patterns_that_match() {
    let unrecorded = "### new\nPOST /links\n\nhttps://example.org/{{who}}\n---\n\n### again\nPOST /links\n\nx\n---\n500\nLocation: /links/{{code = word}}\n\n{\n  \"made\": \"{{date}}\",\n  \"gone\": 1\n}\n\n### follow\nGET /{{code}}\n---\n302\nLocation: y\n";
    let recorded = play("new.http", unrecorded, shortener(), &[("who", "anna")], Mode::Record).unwrap();
    let expected = r#"### new
POST /links

https://example.org/{{who}}
---
201
Content-Type: application/json
Location: /links/code-0

{
  "code": "code-0",
  "made": "2026-01-01T00:00:01Z",
  "url": "https://example.org/{{who}}"
}

### again
POST /links

x
---
201
Location: /links/{{code = word}}

{
  "code": "{{code}}",
  "made": "{{date}}",
  "url": "x"
}

### follow
GET /{{code}}
---
302
Location: x
"#;
    assert_eq!(recorded, expected);
    let again = play("new.http", &recorded, shortener(), &[("who", "anna")], Mode::Compare);
    assert_eq!(again.unwrap(), expected);
}

#[test]
fn a_server_that_is_not_there_is_a_failure_of_the_step() {
    let nobody = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
    let failure = play("x.http", "### a\nGET /\n---\n200\n", nobody, &[], Mode::Compare).unwrap_err();
    assert!(failure.problem.contains("GET /: "), "{failure}");
}

#[test]
fn a_folder_without_scripts_fails() {
    let folder = tempfile::tempdir().unwrap();
    let outcome = std::panic::catch_unwind(|| check_folder(folder.path(), shortener(), &[]));
    assert!(outcome.is_err());
}
