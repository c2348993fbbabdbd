//! Two lists of lines side by side: what both have, what only one has.
//!
//! The longest common subsequence, by the textbook's table. Answers have tens of lines,
//! so a table of their product is small.

use std::fmt;

/// A line of the comparison.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// In both; the pattern as it was expected, and what matched it.
    Same { expected: String, actual: String },
    /// Expected only.
    Missing(String),
    /// Answered only.
    Unexpected(String),
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Same { actual, .. } => write!(f, "  {actual}"),
            Self::Missing(expected) => write!(f, "- {expected}"),
            Self::Unexpected(actual) => write!(f, "+ {actual}"),
        }
    }
}

/// Aligns `expected` with `actual`, keeping as many matching lines as possible.
pub(super) fn align(expected: &[String], actual: &[String], matches: impl Fn(&str, &str) -> bool) -> Vec<Line> {
    let common = common_lengths(expected, actual, &matches);
    let (mut e, mut a) = (0, 0);
    let mut lines = Vec::new();
    while e < expected.len() || a < actual.len() {
        let both = e < expected.len() && a < actual.len();
        if both && matches(&expected[e], &actual[a]) && common[e][a] == common[e + 1][a + 1] + 1 {
            lines.push(Line::Same {
                expected: expected[e].clone(),
                actual: actual[a].clone(),
            });
            (e, a) = (e + 1, a + 1);
        } else if e < expected.len() && (a == actual.len() || common[e + 1][a] >= common[e][a + 1]) {
            lines.push(Line::Missing(expected[e].clone()));
            e += 1;
        } else {
            lines.push(Line::Unexpected(actual[a].clone()));
            a += 1;
        }
    }
    lines
}

/// `[e][a]`: how many lines `expected[e..]` and `actual[a..]` have in common, in order.
fn common_lengths(expected: &[String], actual: &[String], matches: &impl Fn(&str, &str) -> bool) -> Vec<Vec<usize>> {
    let mut common = vec![vec![0; actual.len() + 1]; expected.len() + 1];
    for e in (0..expected.len()).rev() {
        for a in (0..actual.len()).rev() {
            common[e][a] = if matches(&expected[e], &actual[a]) {
                common[e + 1][a + 1] + 1
            } else {
                common[e + 1][a].max(common[e][a + 1])
            };
        }
    }
    common
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn an_inserted_line_does_not_disturb_the_rest() {
        let aligned = align(&lines("a b c"), &lines("a x b c"), |e, a| e == a);
        let shown: Vec<String> = aligned.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["  a", "+ x", "  b", "  c"]);
    }

    #[test]
    fn a_changed_line_is_shown_before_and_after() {
        let aligned = align(&lines("a b c"), &lines("a x c"), |e, a| e == a);
        let shown: Vec<String> = aligned.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["  a", "- b", "+ x", "  c"]);
    }
}
