//! What the shortener has promised during a run, and the arithmetic that tells whether it kept it.
//!
//! Pure: no requests, no clock. A link takes 20 bytes, whatever its URL, because the URLs are the lines of a file that is
//! in memory already. A million creates are 20 MB.

use std::fmt;

/// A short code of at most 15 bytes, without a pointer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code {
    length: u8,
    bytes: [u8; 15],
}

impl Code {
    /// `None` when the text is empty or longer than any generated code may be.
    pub fn new(text: &str) -> Option<Self> {
        let length = u8::try_from(text.len()).ok().filter(|n| (1..=15).contains(n))?;
        let mut bytes = [0; 15];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        Some(Self { length, bytes })
    }

    /// The code as it stands in a path.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(self.as_bytes()))
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// One acknowledged link: the code given, and which URL it was given for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// The code.
    pub code: Code,
    /// Index of the URL.
    pub url: u32,
}

/// How often a link was followed, from the outside.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Follows {
    /// Requests sent.
    pub sent: u32,
    /// Redirects that came back: each must be counted.
    pub acknowledged: u32,
}

/// Why a count of clicks cannot be right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WrongClicks {
    /// Fewer than the redirects that were answered.
    Lost,
    /// More than the requests that were sent.
    Invented,
}

/// Everything acknowledged since the run began, preloading included.
#[derive(Debug, Default)]
pub struct History {
    /// Links made before the load; redirects go to these.
    pub preloaded: Vec<Link>,
    /// One entry a preloaded link.
    pub follows: Vec<Follows>,
    /// Links made under load.
    pub created: Vec<Link>,
    /// Codes drawn at random that resolved, though nobody was given them as far as this run knows.
    pub surprises: Vec<Code>,
    /// Creates whose outcome is unknown (no answer, or 504): neither promised nor refused.
    pub unknown_creates: u64,
}

impl History {
    /// Codes that were given out more than once, each once.
    pub fn duplicates(&self) -> Vec<Code> {
        let codes = self.sorted_codes();
        let mut twice: Vec<Code> = codes.windows(2).filter(|w| w[0] == w[1]).map(|w| w[0]).collect();
        twice.dedup();
        twice
    }

    /// Codes that resolved without having been given out. Creates with an unknown outcome may explain as many.
    pub fn unexplained_surprises(&self) -> Vec<Code> {
        let codes = self.sorted_codes();
        let mut unexplained: Vec<Code> = self
            .surprises
            .iter()
            .filter(|code| codes.binary_search(code).is_err())
            .copied()
            .collect();
        unexplained.sort_unstable();
        unexplained.dedup();
        let explained = usize::try_from(self.unknown_creates).unwrap_or(usize::MAX);
        unexplained.drain(..explained.min(unexplained.len()));
        unexplained
    }

    fn sorted_codes(&self) -> Vec<Code> {
        let mut codes: Vec<Code> = self
            .preloaded
            .iter()
            .chain(&self.created)
            .map(|link| link.code)
            .collect();
        codes.sort_unstable();
        codes
    }
}

/// Whether a link's count of clicks can be right: at least the redirects answered, at most the requests sent.
///
/// # Errors
/// Which bound it breaks.
pub fn clicks_fit(follows: Follows, clicks: u64) -> Result<(), WrongClicks> {
    if clicks < u64::from(follows.acknowledged) {
        Err(WrongClicks::Lost)
    } else if clicks > u64::from(follows.sent) {
        Err(WrongClicks::Invented)
    } else {
        Ok(())
    }
}

/// Whether an answer to `GET /{code}` sends the user to the URL that the code was given for.
pub fn resolves(status: u16, location: Option<&[u8]>, url: &str) -> bool {
    matches!(status, 301 | 302 | 307 | 308) && location == Some(url.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(code: &str, url: u32) -> Link {
        Link {
            code: Code::new(code).unwrap(),
            url,
        }
    }

    fn honest() -> History {
        History {
            preloaded: vec![link("aaaaaaa", 0), link("aaaaaab", 1)],
            follows: vec![Follows::default(); 2],
            created: vec![link("aaaaaac", 0), link("aaaaaad", 1)],
            ..History::default()
        }
    }

    #[test]
    fn an_honest_history_has_nothing_to_show() {
        assert!(honest().duplicates().is_empty());
        assert!(honest().unexplained_surprises().is_empty());
    }

    #[test]
    fn a_code_given_twice_is_found_wherever_it_was_given() {
        let twice = |history: History| history.duplicates().iter().map(ToString::to_string).collect::<Vec<_>>();
        let mut under_load = honest();
        under_load.created.push(link("aaaaaac", 1));
        assert_eq!(twice(under_load), ["aaaaaac"]);
        let mut across = honest();
        across.created.push(link("aaaaaab", 0));
        assert_eq!(twice(across), ["aaaaaab"]);
        let mut thrice = honest();
        thrice.created.extend([link("aaaaaaa", 0), link("aaaaaaa", 0)]);
        assert_eq!(twice(thrice), ["aaaaaaa"], "each code is named once");
    }

    #[test]
    fn a_code_that_differs_only_in_length_is_another_code() {
        let mut history = honest();
        history.created = vec![link("a", 0), link("aa", 0)];
        assert!(history.duplicates().is_empty());
    }

    #[test]
    fn a_lost_or_mixed_up_link_does_not_resolve() {
        assert!(resolves(302, Some(b"https://a/"), "https://a/"));
        assert!(!resolves(404, None, "https://a/"));
        assert!(!resolves(302, Some(b"https://b/"), "https://a/"));
        assert!(!resolves(302, Some(b"https://a"), "https://a/"), "byte for byte");
        assert!(!resolves(302, None, "https://a/"));
        assert!(!resolves(200, Some(b"https://a/"), "https://a/"));
    }

    #[test]
    fn clicks_have_bounds() {
        let follows = Follows {
            sent: 10,
            acknowledged: 8,
        };
        assert_eq!(clicks_fit(follows, 7), Err(WrongClicks::Lost));
        assert_eq!(clicks_fit(follows, 8), Ok(()));
        assert_eq!(clicks_fit(follows, 10), Ok(()));
        assert_eq!(clicks_fit(follows, 11), Err(WrongClicks::Invented));
    }

    #[test]
    fn a_code_out_of_nowhere_is_a_surprise_unless_a_create_was_left_open() {
        let mut history = honest();
        history.surprises = vec![Code::new("aaaaaaa").unwrap()];
        assert!(history.unexplained_surprises().is_empty(), "it was given out");
        history.surprises.push(Code::new("zzzzzzz").unwrap());
        assert_eq!(history.unexplained_surprises().len(), 1);
        history.unknown_creates = 1;
        assert!(history.unexplained_surprises().is_empty());
    }

    #[test]
    fn codes_have_a_length() {
        assert!(Code::new("").is_none());
        assert!(Code::new("0123456789abcdef").is_none());
        assert_eq!(Code::new("abc").unwrap().as_bytes(), b"abc");
        assert_eq!(size_of::<Link>(), 20);
    }
}
