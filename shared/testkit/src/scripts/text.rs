//! A script as text: read into steps, written back in one fixed layout.

use std::fmt;

/// A file of steps.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Script {
    /// What stands above the first step.
    preamble: Vec<String>,
    pub(super) steps: Vec<Step>,
}

/// A request and the answer it must get, line by line, variables not yet replaced.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) title: String,
    comments: Vec<String>,
    /// At least the request line.
    pub(super) request: Vec<String>,
    /// Empty when nothing has been recorded yet.
    pub(super) expected: Vec<String>,
}

const TITLE: &str = "### ";
const ANSWER: &str = "---";

impl Script {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut parts: Vec<Vec<String>> = vec![Vec::new()];
        for line in text.lines() {
            if line.starts_with(TITLE) {
                parts.push(Vec::new());
            }
            parts
                .last_mut()
                .expect("there is a first part")
                .push(line.trim_end().to_owned());
        }
        let mut parts = parts.into_iter().map(without_blank_ends);
        let preamble = parts.next().unwrap_or_default();
        if let Some(line) = preamble.iter().find(|line| !line.is_empty() && !line.starts_with('#')) {
            return Err(format!("`{line}` stands above the first `### title` and is no comment"));
        }
        let steps = parts.map(Step::parse).collect::<Result<Vec<_>, _>>()?;
        if steps.is_empty() {
            return Err("there is no `### title` in it: it tests nothing".to_owned());
        }
        Ok(Self { preamble, steps })
    }
}

impl Step {
    fn parse(lines: Vec<String>) -> Result<Self, String> {
        let title = lines[0][TITLE.len()..].to_owned();
        let (comments, rest): (Vec<_>, Vec<_>) = {
            let request_line = lines[1..]
                .iter()
                .position(|line| !line.is_empty() && !line.starts_with('#'));
            let request_line = request_line.ok_or_else(|| format!("the step `{title}` has no request"))? + 1;
            (lines[1..request_line].to_vec(), lines[request_line..].to_vec())
        };
        let mut halves = rest
            .splitn(2, |line| line == ANSWER)
            .map(|half| without_blank_ends(half.to_vec()));
        let request = halves.next().unwrap_or_default();
        let expected = halves.next().unwrap_or_default();
        if request.is_empty() {
            return Err(format!("the step `{title}` has no request"));
        }
        Ok(Self {
            title,
            comments: without_blank_ends(comments),
            request,
            expected,
        })
    }
}

fn without_blank_ends(mut lines: Vec<String>) -> Vec<String> {
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    let first = lines.iter().position(|line| !line.is_empty()).unwrap_or(0);
    lines.split_off(first)
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut blocks = Vec::new();
        if !self.preamble.is_empty() {
            blocks.push(self.preamble.join("\n"));
        }
        blocks.extend(self.steps.iter().map(ToString::to_string));
        writeln!(f, "{}", blocks.join("\n\n"))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{TITLE}{}", self.title)?;
        let lines = self.comments.iter().chain(&self.request).map(String::as_str);
        lines
            .chain([ANSWER])
            .chain(self.expected.iter().map(String::as_str))
            .try_for_each(|line| write!(f, "\n{line}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# about\n\n### one\n# why\nPOST /x\nA: b\n\nbody\n\nmore\n---\n200\n\n# not a comment\n\n### two\nGET /\n---\n";

    #[test]
    fn reads_steps_and_writes_them_back_unchanged() {
        let script = Script::parse(TEXT).unwrap();
        assert_eq!(script.steps[0].request, ["POST /x", "A: b", "", "body", "", "more"]);
        assert_eq!(script.steps[0].expected, ["200", "", "# not a comment"]);
        assert!(script.steps[1].expected.is_empty());
        assert_eq!(script.to_string(), TEXT);
    }

    #[test]
    fn refuses_what_tests_nothing() {
        assert!(Script::parse("# only words").unwrap_err().contains("tests nothing"));
        assert!(
            Script::parse("### title\n# no request\n")
                .unwrap_err()
                .contains("no request")
        );
        assert!(Script::parse("### title\n---\n200\n").is_err());
        assert!(
            Script::parse("GET /\n### title\nGET /\n")
                .unwrap_err()
                .contains("no comment")
        );
    }
}
