//! What a short link is: codes, aliases, links, and every way in which asking for one can fail.
//!
//! No I/O, no wire formats, no status codes: those are the business of the adapters and of `http.rs`.

use std::fmt;
use std::sync::Arc;

use crate::target::Target;

/// How many characters a code has.
pub const CODE_LENGTH: usize = 7;

/// How many codes there are, about 3.5 million million: each character is one of 62.
pub const CODES: u64 = 62_u64.pow(7);

/// Words that no link may have for a name: paths of the service itself, and those that crawlers and browsers ask for.
const RESERVED: [&str; 16] = [
    "about", "admin", "api", "assets", "docs", "favicon", "health", "healthz", "help", "livez", "login", "metrics",
    "openapi", "readyz", "robots", "static",
];

/// A generated name: a number below [`CODES`], written as seven base62 characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Code(u64);

impl Code {
    /// The code of a number, if there are that many.
    #[must_use]
    pub fn new(number: u64) -> Option<Self> {
        (number < CODES).then_some(Self(number))
    }

    /// The number it stands for.
    #[must_use]
    pub fn number(self) -> u64 {
        self.0
    }

    /// Reads seven base62 characters.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let shaped = text.len() == CODE_LENGTH && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if !shaped {
            return None;
        }
        // Seven digits stay below 62^7, which fits.
        let number = base62::decode(text.trim_start_matches('0')).unwrap_or(0);
        u64::try_from(number).ok().and_then(Self::new)
    }

    /// Whether it happens to spell a reserved word.
    #[must_use]
    pub fn is_reserved(self) -> bool {
        is_reserved(&self.to_string())
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut digits = [b'0'; CODE_LENGTH];
        let length = base62::encode_bytes(self.0, &mut digits).unwrap_or(0);
        digits.rotate_left(length);
        // The digits are first now on the right, behind the zeros that were there before.
        f.write_str(std::str::from_utf8(&digits).unwrap_or_default())
    }
}

/// A name that a user chose: 3 to 64 characters of `A-Z a-z 0-9 _ -`, not reserved, and never of the shape of a code, so
/// that no code that is generated later can be taken already.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Alias(Box<str>);

impl Alias {
    /// Checks a wish for a name.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(text: &str) -> Result<Self, Refusal> {
        let refuse = |reason| Err(Refusal::new("/alias", reason));
        if !(3..=64).contains(&text.len()) {
            return refuse("must have 3 to 64 characters");
        }
        if !text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        {
            return refuse("may have only letters, digits, - and _");
        }
        if Code::parse(text).is_some() {
            return refuse("seven letters and digits are kept for generated codes");
        }
        if is_reserved(text) {
            return refuse("is reserved");
        }
        Ok(Self(text.into()))
    }

    /// The name itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_reserved(text: &str) -> bool {
    RESERVED.iter().any(|word| word.eq_ignore_ascii_case(text))
}

/// The name of a link, of either kind. Names are compared byte by byte.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Slug {
    /// A generated one.
    Code(Code),
    /// A chosen one.
    Alias(Alias),
}

impl Slug {
    /// Reads a name as it stands in a path. What cannot be a name is `None`: nothing is there.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match Code::parse(text) {
            Some(code) => Some(Self::Code(code)),
            None => Alias::new(text).ok().map(Self::Alias),
        }
    }
}

impl fmt::Display for Slug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => code.fmt(f),
            Self::Alias(alias) => f.write_str(alias.as_str()),
        }
    }
}

/// Where a new link goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// At the next number that the store counts.
    Next,
    /// At a code that was drawn or computed beforehand.
    At(Code),
    /// At a name that the user chose.
    Named(Alias),
}

/// A link that is yet to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewLink {
    /// Where it goes.
    pub place: Place,
    /// Where it leads.
    pub target: Target,
    /// When it was asked for, in milliseconds since 1970.
    pub created_at: u64,
    /// When it ends, in milliseconds since 1970.
    pub expires_at: Option<u64>,
    /// Under which key to remember the answer.
    pub idempotency: Option<Idempotency>,
}

/// An idempotency key, and what was asked for under it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idempotency {
    /// The key: 1 to 255 visible ASCII characters.
    pub key: Box<str>,
    /// SHA-256 of what was asked for.
    pub fingerprint: [u8; 32],
}

/// A stored link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its name.
    pub slug: Slug,
    /// Where it leads.
    pub target: Target,
    /// When it was made, in milliseconds since 1970.
    pub created_at: u64,
    /// When it ends, in milliseconds since 1970.
    pub expires_at: Option<u64>,
    /// Whether it was deleted.
    pub deleted: bool,
}

impl Link {
    /// Whether it still leads anywhere at a time in milliseconds since 1970.
    #[must_use]
    pub fn is_live(&self, now: u64) -> bool {
        !self.deleted && self.expires_at.is_none_or(|end| now < end)
    }
}

/// Why a wish is not granted: which part of it, and what is wrong there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// JSON pointer to the part.
    pub pointer: &'static str,
    /// What is wrong.
    pub reason: &'static str,
}

impl Refusal {
    pub(crate) const fn new(pointer: &'static str, reason: &'static str) -> Self {
        Self { pointer, reason }
    }
}

/// Every way in which a use case can fail. Clone, since one failed batch is the answer to many.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The request asks for something that links cannot do.
    #[error("{}: {}", .0.pointer, .0.reason)]
    Refused(Refusal),
    /// Another link has this alias, or had it once.
    #[error("the alias is taken")]
    AliasTaken,
    /// A generated code was already in use: the generator is broken. Counted as the bug it is, never tried again quietly.
    #[error("a generated code was in use already")]
    CodeTaken,
    /// There is no such link and never was.
    #[error("no such link")]
    NotFound,
    /// The link was deleted or has expired.
    #[error("the link is gone")]
    Gone,
    /// The idempotency key was used before, for something else.
    #[error("the idempotency key was used for another request")]
    KeyReused,
    /// A request with the same idempotency key is still being worked on.
    #[error("a request with this idempotency key is under way")]
    KeyInFlight,
    /// No code is left to give.
    #[error("no keys are left for the moment")]
    KeysExhausted,
    /// The store cannot be asked; nothing was changed.
    #[error("the store is unavailable: {0}")]
    Unavailable(Arc<dyn std::error::Error + Send + Sync>),
    /// The store has no space left; nothing was changed.
    #[error("the store is full: {0}")]
    Full(Arc<dyn std::error::Error + Send + Sync>),
    /// The store broke off in the middle; the change may have been made.
    #[error("it is unknown whether the change was made: {0}")]
    Unknown(Arc<dyn std::error::Error + Send + Sync>),
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_code_has_seven_characters_whatever_its_number() {
        let text = |number| Code::new(number).unwrap().to_string();
        assert_eq!(text(0), "0000000");
        assert_eq!(text(61), "000000z");
        assert_eq!(text(62), "0000010");
        assert_eq!(text(CODES - 1), "zzzzzzz");
        assert_eq!(Code::new(CODES), None);
    }

    #[test]
    fn only_seven_letters_and_digits_are_a_code() {
        for text in ["", "abc", "abcdefgh", "abc-efg", "abcdef ", "äbcdef", "abcdef\u{e9}"] {
            assert_eq!(Code::parse(text), None, "{text}");
        }
    }

    #[test]
    fn an_alias_never_has_the_shape_of_a_code_and_is_not_reserved() {
        for good in ["abc", "my-link", "a_b", "12345678", "abcdef", &"x".repeat(64)] {
            assert!(Alias::new(good).is_ok(), "{good}");
        }
        for bad in [
            "ab",
            "abcdefg",
            "0000001",
            "metrics",
            "API",
            "a b",
            "a/b",
            "a.b",
            "ünï",
            &"x".repeat(65),
        ] {
            assert!(Alias::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_are_compared_byte_by_byte() {
        assert_ne!(Slug::parse("abcdefg"), Slug::parse("abcdefG"));
        assert_ne!(Slug::parse("my-link"), Slug::parse("My-link"));
    }

    proptest! {
        #[test]
        fn a_code_reads_back_as_itself(number in 0..CODES) {
            let code = Code::new(number).unwrap();
            prop_assert_eq!(Code::parse(&code.to_string()), Some(code));
        }
    }
}
