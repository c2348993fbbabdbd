//! A small HTTP/1.1 client for tests, which sends exactly the bytes it is given.
//!
//! A real client library is in the way here: it repairs what a hostile client would
//! send broken, follows redirects, pools connections. This one opens a socket, writes,
//! and reads one answer at a time.
//!
//! ```no_run
//! use testkit::http::{self, Connection};
//! # let addr = "127.0.0.1:1".parse().unwrap();
//! let answer = http::get(addr, "/livez").unwrap();
//! assert_eq!(answer.status, 200);
//!
//! // What no client library would send:
//! let answer = http::raw(addr, b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n").unwrap();
//!
//! // Several requests on one connection:
//! let mut connection = Connection::open(addr).unwrap();
//! connection.send(b"GET /a HTTP/1.1\r\nHost: t\r\n\r\nGET /b HTTP/1.1\r\nHost: t\r\n\r\n").unwrap();
//! let (a, b) = (connection.read().unwrap(), connection.read().unwrap());
//! ```

mod connection;

use std::io::Result;
use std::net::SocketAddr;

pub use self::connection::Connection;

/// One answer of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Names in lower case, in the order in which they came.
    pub headers: Vec<(String, String)>,
    /// The body, with any chunking removed.
    pub body: Vec<u8>,
}

impl Answer {
    /// The value of the first header of this name, in whatever case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(held, _)| held.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The body as text.
    ///
    /// # Panics
    /// When it is not UTF-8.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap_or_else(|error| panic!("the body is not UTF-8: {error}: {self:?}"))
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When it is not JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("the body is not JSON: {error}: {self:?}"))
    }
}

/// `GET target` on a new connection.
///
/// # Errors
/// When the server cannot be reached or does not answer in HTTP.
pub fn get(addr: SocketAddr, target: &str) -> Result<Answer> {
    request(addr, "GET", target, &[], b"")
}

/// `POST target` with a JSON body, on a new connection.
///
/// # Errors
/// As [`get`].
pub fn post_json(addr: SocketAddr, target: &str, body: &serde_json::Value) -> Result<Answer> {
    request(
        addr,
        "POST",
        target,
        &[("Content-Type", "application/json")],
        body.to_string().as_bytes(),
    )
}

/// Any request on a new connection. `Host`, `Connection: close` and, where there is a body,
/// `Content-Length` are added unless `headers` has them.
///
/// # Errors
/// As [`get`].
pub fn request(addr: SocketAddr, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Answer> {
    let mut connection = Connection::open(addr)?;
    connection.send(&render(addr, method, target, headers, body))?;
    connection.read_answer_to(method)
}

/// Sends `bytes` as they are on a new connection and reads one answer.
///
/// # Errors
/// As [`get`]; `UnexpectedEof` when the server closes without an answer.
pub fn raw(addr: SocketAddr, bytes: &[u8]) -> Result<Answer> {
    let mut connection = Connection::open(addr)?;
    connection.send(bytes)?;
    connection.read()
}

fn render(addr: SocketAddr, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let length = body.len().to_string();
    let host = addr.to_string();
    let mut defaults = vec![("Host", host.as_str()), ("Connection", "close")];
    if !body.is_empty() {
        defaults.push(("Content-Length", &length));
    }
    defaults.retain(|(name, _)| !headers.iter().any(|(given, _)| given.eq_ignore_ascii_case(name)));

    let mut bytes = format!("{method} {target} HTTP/1.1\r\n").into_bytes();
    for (name, value) in defaults.iter().chain(headers) {
        bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    bytes
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::*;
    use crate::server::canned;

    #[test]
    fn reads_a_body_of_known_length() {
        let answer = get(
            canned("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-A: b\r\n\r\nhiNOT READ"),
            "/",
        )
        .unwrap();
        assert_eq!(
            (answer.status, answer.text(), answer.header("x-a")),
            (200, "hi", Some("b"))
        );
    }

    #[test]
    fn reads_chunks_with_extensions_and_trailers() {
        let addr = canned(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\n{\"a\r\n4\r\n\":1}\r\n0\r\nT: t\r\n\r\n",
        );
        assert_eq!(get(addr, "/").unwrap().json(), serde_json::json!({"a": 1}));
    }

    #[test]
    fn reads_a_body_that_ends_with_the_connection() {
        assert_eq!(
            get(canned("HTTP/1.0 200 OK\r\n\r\nuntil the end"), "/").unwrap().text(),
            "until the end"
        );
    }

    #[test]
    fn an_answer_to_head_has_no_body_whatever_its_length_says() {
        let answer = request(
            canned("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"),
            "HEAD",
            "/",
            &[],
            b"",
        )
        .unwrap();
        assert!(answer.body.is_empty());
    }

    #[test]
    fn passes_over_interim_answers_and_reads_two_in_a_row() {
        let addr = canned(
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
        );
        let mut connection = Connection::open(addr).unwrap();
        connection.send(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        assert_eq!(
            [connection.read().unwrap().status, connection.read().unwrap().status],
            [204, 404]
        );
        assert!(connection.is_closed().unwrap());
    }

    #[test]
    fn what_is_not_http_is_an_error() {
        assert_eq!(
            get(canned("SSH-2.0-x\r\n\r\n"), "/").unwrap_err().kind(),
            ErrorKind::InvalidData
        );
        assert_eq!(get(canned(""), "/").unwrap_err().kind(), ErrorKind::UnexpectedEof);
    }

    #[test]
    fn given_headers_replace_the_added_ones() {
        let addr = "127.0.0.1:80".parse().unwrap();
        let bytes = render(
            addr,
            "POST",
            "/x",
            &[("content-length", "5,5"), ("HOST", "other")],
            b"abc",
        );
        assert_eq!(
            String::from_utf8(bytes).unwrap(),
            "POST /x HTTP/1.1\r\nConnection: close\r\ncontent-length: 5,5\r\nHOST: other\r\n\r\nabc"
        );
    }
}
