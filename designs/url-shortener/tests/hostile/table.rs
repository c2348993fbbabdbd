//! The table: number, what it is, what is sent, what comes back.

use crate::House;
use crate::talks;
use testkit::http::Answer;

/// One input. Several share a number where they are of one kind.
pub(crate) struct Case {
    pub(crate) number: u8,
    pub(crate) what: &'static str,
    pub(crate) sent: Sent,
    pub(crate) expected: Expected,
}

/// How an input is sent.
pub(crate) enum Sent {
    /// These bytes, then one answer is read.
    Raw(Vec<u8>),
    /// More than that; gives the answers.
    Talk(fn(&House) -> Vec<Answer>),
    /// Not here, for this reason.
    Elsewhere(&'static str),
}

/// What must come back.
#[derive(Clone, Copy)]
pub(crate) enum Expected {
    /// Answers of ours with one of these statuses; every error in our shape.
    Status(&'static [u16]),
    /// Answers with one of these statuses from the HTTP library, before there is a request: no body.
    FromTheLibrary(&'static [u16]),
    /// The connection is closed, or nothing was sent.
    Nothing,
}

use Expected::{FromTheLibrary, Nothing, Status};

const JSON: &str = "Content-Type: application/json";

/// All inputs, in order.
pub(crate) fn cases() -> Vec<Case> {
    [transport(), talked(), numbers(), strings(), urls()]
        .into_iter()
        .flatten()
        .collect()
}

/// A request of these parts, with its true length.
fn request(line: &str, headers: &[&str], body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{line} HTTP/1.1\r\nHost: t\r\n").into_bytes();
    for header in headers {
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    let framed = headers.iter().any(|header| {
        let header = header.to_ascii_lowercase();
        header.starts_with("content-length") || header.starts_with("transfer-encoding")
    });
    if !framed && !body.is_empty() {
        bytes.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    bytes
}

fn raw(number: u8, what: &'static str, bytes: Vec<u8>, expected: Expected) -> Case {
    Case {
        number,
        what,
        sent: Sent::Raw(bytes),
        expected,
    }
}

/// A create with these headers and this body.
fn post(number: u8, what: &'static str, headers: &[&str], body: &[u8], expected: Expected) -> Case {
    raw(number, what, request("POST /api/links", headers, body), expected)
}

/// A create with this JSON text.
fn json(number: u8, what: &'static str, body: impl AsRef<[u8]>, expected: &'static [u16]) -> Case {
    post(number, what, &[JSON], body.as_ref(), Status(expected))
}

/// A create of a link to this URL.
fn url(number: u8, url: &str, expected: &'static [u16]) -> Case {
    json(number, "url", serde_json::json!({ "url": url }).to_string(), expected)
}

/// A create of a link that lives for this JSON value.
fn life(number: u8, what: &'static str, value: &str, expected: &'static [u16]) -> Case {
    let body = format!(r#"{{"url":"https://example.org/","expires_in_s":{value}}}"#);
    json(number, what, body, expected)
}

/// A create of a link of this name.
fn alias(number: u8, what: &'static str, name: &str, expected: &'static [u16]) -> Case {
    let body = serde_json::json!({"url": "https://example.org/", "alias": name});
    json(number, what, body.to_string(), expected)
}

fn get(number: u8, what: &'static str, target: &str, expected: Expected) -> Case {
    raw(number, what, request(&format!("GET {target}"), &[], b""), expected)
}

fn talk(number: u8, what: &'static str, talk: fn(&House) -> Vec<Answer>, expected: Expected) -> Case {
    Case {
        number,
        what,
        sent: Sent::Talk(talk),
        expected,
    }
}

fn elsewhere(number: u8, what: &'static str, reason: &'static str) -> Case {
    Case {
        number,
        what,
        sent: Sent::Elsewhere(reason),
        expected: Nothing,
    }
}

const GOOD: &[u8] = br#"{"url":"https://example.org/"}"#;

fn transport() -> Vec<Case> {
    let megabyte = format!(r#"{{"url":"https://example.org/{}"}}"#, "x".repeat(1 << 20));
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
    let too_much = format!("{chunk}{chunk}0\r\n\r\n");
    let long_path = |length: usize| format!("/{}", "x".repeat(length));
    let many_headers: Vec<String> = (0..101).map(|n| format!("X-{n}: y")).collect();
    let many_headers: Vec<&str> = many_headers.iter().map(String::as_str).collect();
    let long_header = format!("X-Long: {}", "y".repeat(20 << 10));
    let chunked = "Transfer-Encoding: chunked";
    vec![
        post(1, "empty body", &[JSON], b"", Status(&[400])),
        post(
            1,
            "empty body of a stated length",
            &[JSON, "Content-Length: 0"],
            b"",
            Status(&[400]),
        ),
        post(2, "no Content-Type", &[], GOOD, Status(&[415])),
        post(3, "JSON as text", &["Content-Type: text/plain"], GOOD, Status(&[415])),
        post(
            4,
            "UTF-16",
            &["Content-Type: application/json; charset=utf-16"],
            GOOD,
            Status(&[415]),
        ),
        json(5, "truncated JSON", r#"{"url":"https://example.org/"#, &[400]),
        json(6, "garbage after JSON", r#"{"url":"https://example.org/"} x"#, &[400]),
        json(7, "two documents", [GOOD, GOOD].concat(), &[400]),
        json(
            8,
            "a member twice",
            r#"{"url":"https://a.example/","url":"https://b.example/"}"#,
            &[400],
        ),
        json(
            9,
            "unknown member",
            r#"{"url":"https://example.org/","clicks":1}"#,
            &[422],
        ),
        json(10, "10 000 deep", "[".repeat(10_000), &[400]),
        json(
            10,
            "10 000 deep within",
            format!(r#"{{"url":{}"#, "[".repeat(10_000)),
            &[400],
        ),
        post(11, "a megabyte", &[JSON], megabyte.as_bytes(), Status(&[413])),
        post(
            13,
            "length -1",
            &[JSON, "Content-Length: -1"],
            b"",
            FromTheLibrary(&[400]),
        ),
        post(
            13,
            "length +5",
            &[JSON, "Content-Length: +5"],
            b"[1,2]",
            FromTheLibrary(&[400]),
        ),
        post(
            13,
            "length 5,5",
            &[JSON, "Content-Length: 5,5"],
            b"[1,2]",
            FromTheLibrary(&[400]),
        ),
        post(
            13,
            "lengths 5 and 6",
            &[JSON, "Content-Length: 5", "Content-Length: 6"],
            b"[1,2]",
            FromTheLibrary(&[400]),
        ),
        post(
            15,
            "a bad chunk size",
            &[JSON, chunked],
            b"zz\r\n{}\r\n0\r\n\r\n",
            Status(&[400]),
        ),
        post(
            16,
            "chunks over the limit",
            &[JSON, chunked],
            too_much.as_bytes(),
            Status(&[413]),
        ),
        post(
            17,
            "gzip",
            &[JSON, "Content-Encoding: gzip"],
            b"\x1f\x8b\x08\0\0\0\0\0",
            Status(&[415]),
        ),
        json(
            18,
            "invalid UTF-8",
            b"{\"url\":\"https://example.org/\xff\xfe\"}",
            &[400],
        ),
        json(19, "byte order mark", [b"\xef\xbb\xbf", GOOD].concat(), &[400]),
        json(20, "lone surrogate", r#"{"url":"https://example.org/\ud800"}"#, &[400]),
        json(21, "NUL in a string", r#"{"url":"https://example.org/\u0000"}"#, &[422]),
        json(22, "null", "null", &[422]),
        json(22, "an array", "[]", &[422]),
        json(22, "a string", "\"x\"", &[422]),
        json(22, "a number", "1", &[422]),
        raw(
            23,
            "101 headers",
            request("GET /zzzzzzz", &many_headers, b""),
            FromTheLibrary(&[431]),
        ),
        raw(
            24,
            "a header of 20 KiB",
            request("GET /zzzzzzz", &[&long_header], b""),
            FromTheLibrary(&[431]),
        ),
        get(25, "a path over our limit", &long_path(9_000), Status(&[414])),
        get(
            25,
            "a path over the library's",
            &long_path(70_000),
            FromTheLibrary(&[414, 431]),
        ),
        get(26, "NUL in a path", "/%00", Status(&[404])),
        get(27, "a bad escape", "/%zz", Status(&[404])),
        get(27, "escaped dots", "/%2e%2e%2fetc%2fpasswd", Status(&[404])),
        get(27, "dots", "/../../etc/passwd", Status(&[404])),
        get(27, "two slashes", "//", Status(&[404])),
        get(27, "a dot", "/./", Status(&[404])),
        get(27, "dots below the API", "/api/links/..%2f..%2fmetrics", Status(&[404])),
        raw(
            28,
            "absolute form",
            request("GET http://evil.example/zzzzzzz", &[], b""),
            Status(&[404]),
        ),
        raw(
            28,
            "an odd Host",
            b"GET /zzzzzzz HTTP/1.1\r\nHost: @:x/\r\n\r\n".to_vec(),
            Status(&[400, 404]),
        ),
        raw(
            28,
            "two Hosts",
            request("GET /zzzzzzz", &["Host: evil.example"], b""),
            Status(&[400, 404]),
        ),
        json(
            29,
            "line breaks in a name of a member",
            r#"{"a\r\nSet-Cookie: x=y\r\n":1}"#,
            &[422],
        ),
        alias(29, "line breaks in an alias", "abc\r\nSet-Cookie: x=y", &[422]),
        url(29, "https://example.org/\r\nSet-Cookie: x=y", &[422]),
        get(
            29,
            "line breaks in a path",
            "/abc%0d%0aSet-Cookie:%20x=y",
            Status(&[404]),
        ),
        raw(30, "TRACE", request("TRACE /zzzzzzz", &[], b""), Status(&[405])),
        raw(30, "PROPFIND", request("PROPFIND /zzzzzzz", &[], b""), Status(&[405])),
        raw(
            30,
            "CONNECT",
            request("CONNECT example.org:443", &[], b""),
            Status(&[400, 404, 405]),
        ),
        raw(
            36,
            "HTTP/1.0 without Host",
            b"GET /zzzzzzz HTTP/1.0\r\n\r\n".to_vec(),
            Status(&[404]),
        ),
        post(
            39,
            "100-continue for too much",
            &[JSON, "Content-Length: 99999999", "Expect: 100-continue"],
            b"",
            Status(&[413]),
        ),
        post(
            41,
            "an empty Idempotency-Key",
            &[JSON, "Idempotency-Key:"],
            GOOD,
            Status(&[400]),
        ),
        post(
            41,
            "a long one",
            &[JSON, &format!("Idempotency-Key: {}", "k".repeat(256))],
            GOOD,
            Status(&[400]),
        ),
        post(
            41,
            "one not in ASCII",
            &[JSON, "Idempotency-Key: schlüssel"],
            GOOD,
            Status(&[400]),
        ),
        post(
            41,
            "two",
            &[JSON, "Idempotency-Key: a", "Idempotency-Key: b"],
            GOOD,
            Status(&[400]),
        ),
    ]
}

fn talked() -> Vec<Case> {
    vec![
        talk(12, "a body shorter than its length", talks::short_body, Status(&[408])),
        // hyper goes by the chunks, as RFC 9112 (6.3) allows.
        talk(14, "length and chunks", talks::two_framings, Status(&[422])),
        talk(31, "HEAD", talks::head_is_get_without_a_body, Status(&[302])),
        talk(32, "a head that never ends", talks::slow_head, Nothing),
        talk(33, "a body a byte at a time", talks::slow_body, Status(&[408])),
        talk(
            34,
            "clients that leave in the middle",
            talks::leaves_in_the_middle,
            Status(&[404]),
        ),
        talk(35, "1 000 requests in a row", talks::pipelined, Status(&[404])),
        talk(37, "HTTP/2 rapid reset", talks::rapid_reset, Status(&[404])),
        talk(38, "1 000 idle connections", talks::idle_connections, Status(&[404])),
        talk(40, "Range and If-Match", talks::conditions, Status(&[302])),
        talk(42, "a key for another body", talks::reused_key, Status(&[422])),
        elsewhere(43, "50 at once under one key", "races.rs sends them to every stage"),
        talk(44, "Authorization", talks::authorization, Status(&[401])),
    ]
}

fn numbers() -> Vec<Case> {
    let mut cases = vec![
        life(45, "1e400", "1e400", &[400]),
        life(45, "NaN", "NaN", &[400]),
        life(45, "Infinity", "Infinity", &[400]),
        life(47, "a number as a string", "\"5\"", &[422]),
        life(48, "0", "0", &[422]),
        life(48, "-1", "-1", &[422]),
        life(48, "one more than the most", "3153600001", &[422]),
        elsewhere(
            49,
            "limit and offset",
            "not applicable: nothing here is listed in pages",
        ),
        life(50, "a sum that overflows", "18446744073709551615", &[422]),
    ];
    let integers = [
        "9007199254740992",
        "9223372036854775808",
        "18446744073709551616",
        "-0",
        "1.5",
    ];
    cases.extend(integers.map(|value| life(46, "not a number of seconds", value, &[422])));
    for links in [0, 1_001] {
        let links = vec![serde_json::json!({"url": "https://example.org/"}); links];
        let body = serde_json::json!({ "links": links }).to_string();
        let request = request("POST /api/links:batch", &[JSON], body.as_bytes());
        cases.push(raw(48, "links in a batch", request, Status(&[422])));
    }
    cases
}

fn strings() -> Vec<Case> {
    let of_length = |length: usize| {
        format!(
            "https://example.org/{}",
            "x".repeat(length - "https://example.org/".len())
        )
    };
    let key = |length: usize| format!("Idempotency-Key: {}", "b".repeat(length));
    let mut cases = vec![
        url(51, "", &[422]),
        url(51, "   ", &[422]),
        alias(51, "an empty alias", "", &[422]),
        alias(51, "an alias of spaces", "    ", &[422]),
        alias(52, "the longest alias", &"y".repeat(64), &[201]),
        alias(52, "one more", &"y".repeat(65), &[422]),
        url(52, &of_length(2_048), &[201]),
        url(52, &of_length(2_049), &[422]),
        post(52, "the longest key", &[JSON, &key(255)], GOOD, Status(&[201])),
        post(52, "one more", &[JSON, &key(256)], GOOD, Status(&[400])),
        url(53, "https://example.org/\u{202e}gnp.exe", &[422]),
        url(53, "https://example.org/a\u{200b}b", &[422]),
        url(53, "https://exa\u{ad}mple.org/", &[422]),
        talk(
            53,
            "emoji and combining characters",
            talks::kept_exactly,
            Status(&[201]),
        ),
        talk(54, "keys made of separators", talks::no_two_keys_meet, Status(&[201])),
    ];
    for name in [
        "../",
        "'; DROP TABLE links;--",
        "{{7*7}}",
        "*",
        "[abc]",
        "{tag}",
        "a:b:c",
        "abc😀",
        "abc\u{200b}",
    ] {
        cases.push(alias(54, "a name for another language", name, &[422]));
        let escaped: String = name.bytes().map(|byte| format!("%{byte:02x}")).collect();
        cases.push(get(54, "such a name in a path", &format!("/{escaped}"), Status(&[404])));
    }
    cases
}

fn urls() -> Vec<Case> {
    let refused: [(u8, &[&str]); 6] = [
        (
            55,
            &[
                "javascript:alert(1)",
                "data:text/html,x",
                "file:///etc/passwd",
                "vbscript:x",
                "ftp://example.org/",
                " JaVaScRiPt:alert(1)",
                "java\tscript:alert(1)",
            ],
        ),
        (
            56,
            &[
                "http://",
                "https:///x",
                "http:evil.example",
                "//evil.example",
                "http:///",
                "https://?q",
                "http:\\\\evil.example",
            ],
        ),
        (
            57,
            &[
                "https://bank.com@evil.example",
                "https://a:b@evil.example/",
                "https://@evil.example/",
                "https://:@evil.example/",
            ],
        ),
        (
            58,
            &[
                "https://xn--bcher-kva.example/abcdefg",
                "https://bücher.example/abcdefg",
                "http://BÜCHER.example:8443/",
                "https://XN--BCHER-KVA.EXAMPLE./",
                "http://bu\u{308}cher.example/",
            ],
        ),
        (
            59,
            &[
                "http://127.0.0.1/",
                "http://0x7f.1/",
                "http://2130706433/",
                "http://[::1]/",
                "http://[::ffff:127.0.0.1]/",
                "http://169.254.169.254/latest/meta-data/",
                "http://localhost./",
                "http://LOCALHOST/",
                "http://a.localhost/",
                "http://0/",
                "http://10.1.2.3/",
                "http://[fe80::1]/",
            ],
        ),
        (
            60,
            &[
                "https://example.org/a\nb",
                "https://example.org/a\rb",
                "https://example.org/a\0b",
                "https://example.org/a b",
                "https://example.org/a\tb",
                " https://example.org/",
            ],
        ),
    ];
    let refused = refused.into_iter();
    let mut cases: Vec<Case> = refused
        .flat_map(|(number, urls)| urls.iter().map(move |text| url(number, text, &[422])))
        .collect();
    cases.push(url(60, &format!("https://example.org/{}", "x".repeat(5_000)), &[422]));
    // Short as written, long as stored.
    cases.push(url(60, &format!("https://example.org/{}", "ä".repeat(900)), &[422]));
    cases.push(talk(
        58,
        "the address it listens on",
        talks::own_address,
        Status(&[422]),
    ));
    cases.push(talk(
        61,
        "a host that looks like another",
        talks::homograph,
        Status(&[201]),
    ));
    cases.push(url(62, "https://another-shortener.example/abcdefg", &[201]));
    cases
}
