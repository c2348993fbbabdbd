//! `{{...}}` in a line of a script: variables, and patterns for what varies.

use std::collections::BTreeMap;

/// Names and values: given by the test, or captured from answers.
#[derive(Clone, Debug)]
pub(super) struct Variables(BTreeMap<String, String>);

impl Variables {
    pub(super) fn new(given: &[(&str, &str)]) -> Self {
        Self(
            given
                .iter()
                .map(|&(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
        )
    }

    pub(super) fn insert(&mut self, name: &str, value: &str) {
        self.0.insert(name.to_owned(), value.to_owned());
    }

    fn get(&self, name: &str) -> Result<&str, String> {
        let known = || self.0.keys().cloned().collect::<Vec<_>>().join(", ");
        self.0
            .get(name)
            .map(String::as_str)
            .ok_or_else(|| format!("`{{{{{name}}}}}` has no value yet; known are: {}", known()))
    }
}

/// What a pattern matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Any,
    Word,
    Number,
    Date,
    Uuid,
}

impl Kind {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "any" => Self::Any,
            "word" => Self::Word,
            "number" => Self::Number,
            "date" => Self::Date,
            "uuid" => Self::Uuid,
            _ => return None,
        })
    }

    fn matches(self, text: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Word => {
                !text.is_empty()
                    && text
                        .bytes()
                        .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
            }
            Self::Number => is_number(text.strip_prefix('-').unwrap_or(text)),
            Self::Date => is_date(text),
            Self::Uuid => has_shape(text, "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx"),
        }
    }
}

fn is_number(text: &str) -> bool {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    text.split_once('.')
        .map_or_else(|| digits(text), |(whole, fraction)| digits(whole) && digits(fraction))
}

fn is_date(text: &str) -> bool {
    const SECONDS: &str = "dddd-dd-ddTdd:dd:dd";
    let Some(rest) = text.get(SECONDS.len()..).and_then(|rest| rest.strip_suffix('Z')) else {
        return false;
    };
    let fraction = rest.is_empty() || (rest.starts_with('.') && is_number(&format!("0{rest}")));
    has_shape(&text[..SECONDS.len()], SECONDS) && fraction
}

/// `d` is a digit, `x` a hexadecimal one, anything else itself.
fn has_shape(text: &str, shape: &str) -> bool {
    text.len() == shape.len()
        && text.bytes().zip(shape.bytes()).all(|(b, wanted)| match wanted {
            b'd' => b.is_ascii_digit(),
            b'x' => b.is_ascii_hexdigit(),
            itself => b == itself,
        })
}

/// A piece of a line of an expected answer.
#[derive(Debug, PartialEq, Eq)]
enum Piece<'a> {
    Literal(&'a str),
    Variable(&'a str),
    Pattern { kind: Kind, capture: Option<&'a str> },
}

fn pieces(line: &str) -> Result<Vec<Piece<'_>>, String> {
    let mut pieces = Vec::new();
    let mut rest = line;
    while let Some((before, inside)) = rest.split_once("{{") {
        let (inside, after) = inside
            .split_once("}}")
            .ok_or_else(|| format!("`{{{{` without `}}}}` in `{line}`"))?;
        pieces.push(Piece::Literal(before));
        pieces.push(placeholder(inside)?);
        rest = after;
    }
    pieces.push(Piece::Literal(rest));
    Ok(pieces)
}

fn placeholder(inside: &str) -> Result<Piece<'_>, String> {
    match inside.split_once('=') {
        None => Ok(
            Kind::named(inside.trim()).map_or(Piece::Variable(inside.trim()), |kind| Piece::Pattern {
                kind,
                capture: None,
            }),
        ),
        Some((name, kind)) => {
            let kind = Kind::named(kind.trim()).ok_or_else(|| format!("no such kind of pattern: `{}`", kind.trim()))?;
            if Kind::named(name.trim()).is_some() {
                return Err(format!(
                    "`{}` is a kind of pattern and cannot be a variable",
                    name.trim()
                ));
            }
            Ok(Piece::Pattern {
                kind,
                capture: Some(name.trim()),
            })
        }
    }
}

/// Replaces `{{name}}` in a line of a request.
pub(super) fn substitute(line: &str, variables: &Variables) -> Result<String, String> {
    let value = |piece: &Piece<'_>| match *piece {
        Piece::Literal(text) => Ok(text.to_owned()),
        Piece::Variable(name) => variables.get(name).map(str::to_owned),
        Piece::Pattern { .. } => Err(format!("a request cannot hold a pattern: `{line}`")),
    };
    pieces(line)?.iter().map(value).collect()
}

/// The reverse, for recording: values become `{{name}}` again. Short values would be found
/// where nobody meant them, so they stay.
pub(super) fn unsubstitute(line: &str, variables: &Variables) -> String {
    const SHORTEST: usize = 4;
    let mut by_length: Vec<_> = variables
        .0
        .iter()
        .filter(|(_, value)| value.len() >= SHORTEST)
        .collect();
    by_length.sort_by_key(|(_, value)| std::cmp::Reverse(value.len()));
    by_length.iter().fold(line.to_owned(), |line, (name, value)| {
        line.replace(*value, &format!("{{{{{name}}}}}"))
    })
}

/// Whether `actual` is what `expected` describes. If so, its captures are in `variables`.
pub(super) fn match_line(expected: &str, actual: &str, variables: &mut Variables) -> Result<bool, String> {
    let pieces = pieces(expected)?;
    let mut captured = Vec::new();
    let matches = match_pieces(&pieces, actual, variables, &mut captured)?;
    if matches {
        captured.iter().for_each(|(name, value)| variables.insert(name, value));
    }
    Ok(matches)
}

/// The longest text first for each pattern, then shorter ones until the rest fits.
fn match_pieces<'a>(
    pieces: &[Piece<'a>],
    actual: &'a str,
    variables: &Variables,
    captured: &mut Vec<(&'a str, &'a str)>,
) -> Result<bool, String> {
    let Some((first, later)) = pieces.split_first() else {
        return Ok(actual.is_empty());
    };
    let literal = match *first {
        Piece::Literal(text) => text,
        Piece::Variable(name) => match captured.iter().find(|(held, _)| *held == name) {
            Some((_, value)) => value, // captured earlier in this very line
            None => variables.get(name)?,
        },
        Piece::Pattern { kind, capture } => {
            for end in (0..=actual.len())
                .rev()
                .filter(|&end| actual.is_char_boundary(end) && kind.matches(&actual[..end]))
            {
                let held = captured.len();
                captured.extend(capture.map(|name| (name, &actual[..end])));
                if match_pieces(later, &actual[end..], variables, captured)? {
                    return Ok(true);
                }
                captured.truncate(held);
            }
            return Ok(false);
        }
    };
    match actual.strip_prefix(literal) {
        Some(rest) => match_pieces(later, rest, variables, captured),
        None => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(expected: &str, actual: &str) -> bool {
        match_line(expected, actual, &mut Variables::new(&[("code", "abc")])).unwrap()
    }

    #[test]
    fn each_kind_matches_its_own_and_nothing_else() {
        assert!(matches("[{{any}}]", "[]") && matches("{{any}}", "a b"));
        assert!(matches("/{{word}}/x", "/a_B-9/x") && !matches("/{{word}}/x", "//x") && !matches("{{word}}", "a b"));
        assert!(
            matches("{{number}}", "-12.5")
                && !matches("{{number}}", "1.")
                && !matches("{{number}}", "")
                && !matches("{{number}}", "x")
        );
        assert!(matches("{{date}}", "2026-01-31T23:59:59Z") && matches("{{date}}", "2026-01-31T23:59:59.123Z"));
        assert!(!matches("{{date}}", "2026-01-31") && !matches("{{date}}", "2026-01-31T23:59:59.Z"));
        assert!(matches("{{uuid}}", "01890a5d-ac96-774b-bcce-b302099a8057") && !matches("{{uuid}}", "01890a5d"));
    }

    #[test]
    fn a_variable_matches_its_value_only() {
        assert!(matches("/{{code}}", "/abc"));
        assert!(!matches("/{{code}}", "/abd"));
        assert!(
            match_line("{{nobody}}", "x", &mut Variables::new(&[]))
                .unwrap_err()
                .contains("no value yet")
        );
    }

    #[test]
    fn a_capture_holds_from_its_own_line_on_and_only_if_the_line_matches() {
        let mut variables = Variables::new(&[]);
        assert!(!match_line("{{id = word}} {{id}}", "a b", &mut variables).unwrap());
        assert!(variables.get("id").is_err());
        assert!(match_line("{{id = word}} {{id}}", "a a", &mut variables).unwrap());
        assert_eq!(substitute("/{{id}}", &variables).unwrap(), "/a");
    }

    #[test]
    fn mistakes_in_a_script_are_named() {
        let problem = |line| match_line(line, "x", &mut Variables::new(&[])).unwrap_err();
        assert!(problem("{{open").contains("without"));
        assert!(problem("{{x = nonsense}}").contains("no such kind"));
        assert!(problem("{{word = number}}").contains("cannot be a variable"));
        assert!(
            substitute("{{x = word}}", &Variables::new(&[]))
                .unwrap_err()
                .contains("cannot hold a pattern")
        );
    }

    #[test]
    fn values_become_names_again_the_longest_first() {
        let variables = Variables::new(&[("host", "h:80"), ("url", "http://h:80/x"), ("n", "7")]);
        assert_eq!(unsubstitute("7 http://h:80/x h:80", &variables), "7 {{url}} {{host}}");
    }
}
