//! Recorded conversations with a server: a readable file of requests and their answers.
//!
//! Such a file is at once a test, an example of the API and a page to review. It is plain
//! text in the style of the `.http` files that editors know, with the expected answer
//! below each request:
//!
//! ```text
//! # A link is made, followed and removed.          <- the file's own words
//!
//! ### a new link
//! # The code is drawn at random, so it is captured. <- comments of the step
//! POST /api/links
//! Content-Type: application/json
//!
//! {"url": "https://example.org/"}
//! ---
//! 201
//! Content-Type: application/json
//! Location: /{{code = word}}
//! !Set-Cookie
//!
//! {
//!   "code": "{{code}}",
//!   "created_at": "{{date}}",
//!   "short_url": "http://{{host}}/{{code}}"
//! }
//!
//! ### following it
//! GET /{{code}}
//! ---
//! 302
//! Location: https://example.org/
//! ```
//!
//! # The format
//!
//! - `### title` begins a step; what stands above the first one belongs to the file.
//!   Lines with `#` between a title and its request line are comments.
//! - A request is its request line, its headers, a blank line and a body. `Host`,
//!   `Connection` and `Content-Length` are added. The body loses its last line break.
//! - `---` ends the request. Below it stand the status, the headers *that matter* (others
//!   are not looked at), a blank line and the body. `!Name` says that there is no such header.
//! - A JSON body is compared in one fixed form: indented, keys in alphabetical order.
//! - `{{name}}` stands for a variable's value, in requests and answers. Given are `host`
//!   (the server's address and port) and what the test passes in.
//! - `{{kind}}` in an answer stands for anything of that kind, and `{{name = kind}}`
//!   captures it in a variable. The kinds, which cannot be names of variables:
//!
//! | kind | matches |
//! |---|---|
//! | `any` | anything within the line, nothing included |
//! | `word` | one or more of `A-Z a-z 0-9 _ -` |
//! | `number` | digits, with a sign or a fraction if need be |
//! | `date` | a time of RFC 3339 in UTC, `2026-01-31T23:59:59.123Z` |
//! | `uuid` | 32 hexadecimal digits in five groups |
//!
//! # Recording
//!
//! `RECORD=1 cargo test -p DESIGN --test stages -- --test-threads=1` rewrites the expected
//! answers with what the server says now. Lines that still match stay as they are, patterns
//! included; in new lines the values of variables become `{{name}}` again. A step without
//! an answer gets one, with the headers in [`TELLING`]. Then read the diff: a recording is a claim.

mod alignment;
mod pattern;
mod text;

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;

use self::alignment::{Line, align};
use self::pattern::{Variables, match_line, substitute, unsubstitute};
use self::text::{Script, Step};
use crate::http::{self, Answer};

/// The headers that a first recording keeps: those that change what an answer means.
pub const TELLING: [&str; 6] = [
    "Allow",
    "Cache-Control",
    "Content-Type",
    "Location",
    "Retry-After",
    "WWW-Authenticate",
];

/// Plays the script in the file `path` to the server at `addr`; with `RECORD=1` in the
/// environment, rewrites the file instead. `variables` are names and values.
///
/// # Panics
/// When an answer differs: the message names the file and the step and shows both.
pub fn check(path: impl AsRef<Path>, addr: SocketAddr, variables: &[(&str, &str)]) {
    let path = path.as_ref();
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("cannot read {name}: {error}"));
    let mode = if std::env::var("RECORD").is_ok_and(|value| value == "1") {
        Mode::Record
    } else {
        Mode::Compare
    };
    let played = play(&name, &text, addr, variables, mode).unwrap_or_else(|failure| panic!("{failure}"));
    if played != text && mode == Mode::Record {
        std::fs::write(path, played).unwrap_or_else(|error| panic!("cannot write {name}: {error}"));
    }
}

/// Plays every `*.http` file of a folder, in the order of their names.
///
/// # Panics
/// As [`check`], and when there is no such file.
pub fn check_folder(folder: impl AsRef<Path>, addr: SocketAddr, variables: &[(&str, &str)]) {
    let folder = folder.as_ref();
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("cannot read {}: {error}", folder.display()));
    let mut scripts: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    scripts.retain(|path| path.extension().is_some_and(|extension| extension == "http"));
    scripts.sort();
    assert!(!scripts.is_empty(), "no script in {}", folder.display());
    for script in scripts {
        check(script, addr, variables);
    }
}

/// What to do with an answer that differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Fail.
    Compare,
    /// Take it over.
    Record,
}

/// Plays the script `text`, called `name` in messages; returns it as it should be.
///
/// # Errors
/// The first [`Failure`]; when recording, differences are none.
pub fn play(
    name: &str,
    text: &str,
    addr: SocketAddr,
    variables: &[(&str, &str)],
    mode: Mode,
) -> Result<String, Failure> {
    let failure = |step: &str, problem| Failure {
        script: name.to_owned(),
        step: step.to_owned(),
        problem,
    };
    let mut script = Script::parse(text).map_err(|problem| failure("the file", problem))?;
    let mut variables = Variables::new(variables);
    variables.insert("host", &addr.to_string());
    for step in &mut script.steps {
        let outcome = play_step(step, addr, &mut variables, mode);
        outcome.map_err(|problem| failure(&step.title, problem))?;
    }
    Ok(script.to_string())
}

fn play_step(step: &mut Step, addr: SocketAddr, variables: &mut Variables, mode: Mode) -> Result<(), String> {
    let request = step
        .request
        .iter()
        .map(|line| substitute(line, variables))
        .collect::<Result<Vec<_>, _>>()?;
    let answer = send(&request, addr)?;
    let actual = render(&answer, &step.expected);
    if all_match(&step.expected, &actual, variables)? {
        return Ok(());
    }
    let aligned = align(&step.expected, &actual, |expected, actual| {
        // A capture that fails to match must not leave anything behind, hence the copy.
        match_line(expected, actual, &mut variables.clone()).unwrap_or(false)
    });
    if mode == Mode::Compare {
        return Err(format!(
            "{}\n\n{}",
            request[0],
            aligned.iter().map(|line| format!("{line}\n")).collect::<String>()
        ));
    }
    step.expected = record(&aligned, variables);
    // Once more, now that the lines stand side by side: for what they capture.
    match all_match(&step.expected, &actual, variables)? {
        true => Ok(()),
        false => Err(format!("{}: what the server said cannot be written down", request[0])),
    }
}

fn all_match(expected: &[String], actual: &[String], variables: &mut Variables) -> Result<bool, String> {
    let mut all = expected.len() == actual.len();
    for (expected, actual) in expected.iter().zip(actual) {
        all &= match_line(expected, actual, variables)?;
    }
    Ok(all)
}

fn record(aligned: &[Line], variables: &Variables) -> Vec<String> {
    let kept = |line: &Line| match line {
        Line::Same { expected, .. } => Some(expected.clone()),
        Line::Unexpected(actual) => Some(unsubstitute(actual, variables)),
        Line::Missing(_) => None,
    };
    aligned.iter().filter_map(kept).collect()
}

fn send(request: &[String], addr: SocketAddr) -> Result<Answer, String> {
    let Some((method, target)) = request[0].split_once(' ') else {
        return Err(format!("`{}` is not a request line: METHOD TARGET", request[0]));
    };
    let blank = request.iter().position(String::is_empty).unwrap_or(request.len());
    let headers: Option<Vec<(&str, &str)>> = request[1..blank].iter().map(|line| line.split_once(": ")).collect();
    let headers = headers.ok_or("a header of the request is not `Name: value`")?;
    let body = request.get(blank + 1..).unwrap_or_default().join("\n");
    http::request(addr, method, target.trim(), &headers, body.as_bytes())
        .map_err(|error| format!("{}: {error}", request[0]))
}

/// The answer in the form of a script, with those headers that `expected` speaks of.
fn render(answer: &Answer, expected: &[String]) -> Vec<String> {
    let mut lines = vec![answer.status.to_string()];
    if expected.is_empty() {
        let telling = TELLING
            .iter()
            .filter_map(|name| Some(format!("{name}: {}", answer.header(name)?)));
        lines.extend(telling);
    } else {
        let wanted = expected[1..].iter().take_while(|line| !line.is_empty());
        let names = wanted.map(|line| line.trim_start_matches('!').split(':').next().unwrap_or_default());
        lines.extend(names.map(|name| match answer.header(name) {
            Some(value) => format!("{name}: {value}"),
            None => format!("!{name}"),
        }));
    }
    if !answer.body.is_empty() {
        lines.push(String::new());
        lines.extend(body_lines(answer));
    }
    lines
}

fn body_lines(answer: &Answer) -> Vec<String> {
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    let is_json = answer.header("content-type").is_some_and(|kind| kind.contains("json"));
    let json = is_json
        .then(|| serde_json::from_str::<serde_json::Value>(&text).ok())
        .flatten();
    let text = json.map_or(text, |value| format!("{value:#}"));
    text.trim_end().lines().map(|line| line.trim_end().to_owned()).collect()
}

/// A script that did not go as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The name of the script, usually its file.
    pub script: String,
    /// The title of the step.
    pub step: String,
    /// What differs, line by line, or what could not be done.
    pub problem: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.script, self.step)?;
        writeln!(f, "{}", self.problem.trim_end())?;
        write!(
            f,
            "(`-` is what the script expects, `+` what the server said; RECORD=1 takes over what it said)"
        )
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests;
