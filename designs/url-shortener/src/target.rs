//! Which URLs a link may lead to.
//!
//! # The problem
//!
//! Two programs that read the same URL differently are an open door: the checker sees a harmless host, the browser goes
//! to another one. A stored target also comes back in a header, where a line break would forge a second header.
//!
//! # The idea
//!
//! One parser, the one browsers use (the WHATWG URL standard, as the `url` crate implements it), and its *result* is what
//! is stored and sent. Where that parser is forgiving, we are not: it drops tabs, line breaks and invisible characters and
//! reads `\` as `/` without a word, so whatever contains them is refused before it is parsed. What remains means the same
//! to everybody.
//!
//! ```text
//! what was sent                  what happens
//! HTTPS://Example.COM:443/a/../b stored as https://example.com/b
//! https://bücher.example/        stored as https://xn--bcher-kva.example/, which no look-alike can imitate
//! https://bank.com@evil.example  refused: user information
//! java\tscript:alert(1)          refused: white space
//! http:evil, https:///x          refused: must begin with http:// or https:// and a host
//! http://2130706433/             refused: the parser reads it as 127.0.0.1
//! ```
//!
//! # Left out
//!
//! Whether a host resolves, and where to: names change their address, so a check today says nothing tomorrow. Whoever
//! *fetches* such a URL has to check the address it connects to.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bytes::Bytes;
use url::{Host, Url};

use crate::domain::Refusal;

/// The longest URL, in bytes, before and after parsing.
pub const LONGEST: usize = 2_048;

/// A URL that a link may lead to: printable ASCII, as the parser wrote it. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct Target(Bytes);

impl Target {
    /// The URL.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The URL's bytes, shared.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        self.0.clone()
    }

    /// A URL that was checked when it was stored. `None` if it cannot have been: someone else wrote to the store.
    #[must_use]
    pub fn stored(url: String) -> Option<Self> {
        let web = url.starts_with("http://") || url.starts_with("https://");
        (web && url.bytes().all(|byte| byte.is_ascii_graphic())).then(|| Self(Bytes::from(url)))
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

/// What is refused beyond what no link may do.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Hosts that are ourselves, as the parser writes them: a link to a link could go round in a circle.
    own_hosts: Vec<String>,
    /// Whether addresses that mean another machine to each reader are allowed.
    allow_private: bool,
}

impl Rules {
    /// Rules for a service that is known under `own_hosts`. `allow_private` lets links lead to `localhost`, `10.0.0.1` and
    /// their kind.
    #[must_use]
    pub fn new<'a>(own_hosts: impl IntoIterator<Item = &'a str>, allow_private: bool) -> Self {
        let parsed = own_hosts
            .into_iter()
            .filter_map(|host| Url::parse(&format!("http://{host}/")).ok());
        Self {
            own_hosts: parsed.filter_map(|url| url.host_str().map(without_dot)).collect(),
            allow_private,
        }
    }

    /// Checks and normalises a URL.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self, url: &str) -> Result<Target, Refusal> {
        let refuse = |reason| Err(Refusal::new("/url", reason));
        if url.trim().is_empty() {
            return refuse("must not be empty");
        }
        if url.len() > LONGEST {
            return refuse("is longer than 2048 bytes");
        }
        if url.chars().any(is_unseen) {
            return refuse("contains white space, control or invisible characters");
        }
        if url.contains('\\') {
            return refuse("contains a backslash");
        }
        if !begins_with_host(url) {
            return refuse("must begin with http:// or https:// and a host");
        }
        let Ok(parsed) = Url::parse(url) else {
            return refuse("is not a URL");
        };
        if !parsed.username().is_empty() || parsed.password().is_some() || authority(url).contains('@') {
            return refuse("must not contain user information");
        }
        let Some(host) = parsed.host() else {
            return refuse("has no host");
        };
        if self.own_hosts.contains(&without_dot(&host.to_string())) {
            return refuse("leads back to this service");
        }
        if !self.allow_private && is_private(&host) {
            return refuse("leads to a private or local address");
        }
        if parsed.as_str().len() > LONGEST {
            return refuse("is longer than 2048 bytes once encoded");
        }
        Target::stored(parsed.into()).ok_or(Refusal::new("/url", "is not a web address"))
    }
}

/// Characters that a reader does not see, or that mean one thing in the middle of a URL and nothing at its ends.
fn is_unseen(c: char) -> bool {
    let invisible = matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e0fff}');
    c.is_control() || c.is_whitespace() || invisible
}

/// `http://` or `https://`, in any case, and then something that can begin a host.
fn begins_with_host(url: &str) -> bool {
    let lower = url.get(..8).unwrap_or(url).to_ascii_lowercase();
    let scheme = ["https://", "http://"]
        .into_iter()
        .find(|scheme| lower.starts_with(scheme));
    let after = scheme.and_then(|scheme| url.get(scheme.len()..)).unwrap_or_default();
    after.starts_with(|first| !matches!(first, '/' | '?' | '#' | ':' | '@'))
}

/// What stands between `//` and the path, as it was written: the parser forgets an empty `@`.
fn authority(url: &str) -> &str {
    let after = url.split_once("//").map_or("", |(_, after)| after);
    after.split(['/', '?', '#']).next().unwrap_or_default()
}

/// `example.com.` is `example.com`.
fn without_dot(host: &str) -> String {
    host.strip_suffix('.').unwrap_or(host).to_owned()
}

fn is_private(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => {
            let name = without_dot(name);
            name == "localhost" || name.ends_with(".localhost")
        }
        Host::Ipv4(address) => is_private_v4(*address),
        Host::Ipv6(address) => is_private_v6(*address),
    }
}

fn is_private_v4(address: Ipv4Addr) -> bool {
    let [a, b, ..] = address.octets();
    address.is_loopback()
        || address.is_private()
        || address.is_link_local()
        || address.is_unspecified()
        || address.is_broadcast()
        || address.is_multicast()
        || a == 0
        || (a == 100 && (64..128).contains(&b)) // shared address space, RFC 6598
}

fn is_private_v6(address: Ipv6Addr) -> bool {
    if let Some(IpAddr::V4(inner)) = address.to_ipv4_mapped().map(IpAddr::V4) {
        return is_private_v4(inner);
    }
    address.is_loopback()
        || address.is_unspecified()
        || address.is_multicast()
        || address.is_unique_local()
        || address.is_unicast_link_local()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rules() -> Rules {
        Rules::new(["sho.rt", "127.0.0.1:8080", "bücher.example"], false)
    }

    fn reason(url: &str) -> &'static str {
        rules().check(url).map_or_else(|refusal| refusal.reason, |_| "accepted")
    }

    #[test]
    fn what_is_stored_is_what_the_parser_wrote() {
        for (sent, stored) in [
            ("HTTPS://Example.COM:443/a/../b", "https://example.com/b"),
            ("http://example.com", "http://example.com/"),
            ("https://b\u{fc}cher-2.example/", "https://xn--bcher-2-n2a.example/"),
            (
                "https://example.com/\u{1f980}?q=\u{e9}#f",
                "https://example.com/%F0%9F%A6%80?q=%C3%A9#f",
            ),
            ("https://ex\u{430}mple.com/", "https://xn--exmple-4nf.com/"),
        ] {
            assert_eq!(rules().check(sent).unwrap().as_str(), stored);
        }
    }

    #[test]
    fn other_schemes_in_any_disguise_are_refused() {
        for url in [
            "javascript:alert(1)",
            "data:text/html,x",
            "file:///etc/passwd",
            "vbscript:x",
            "ftp://example.com/",
            " JaVaScRiPt:alert(1)",
            "java\tscript:alert(1)",
            "http:evil",
            "http:/evil",
            "https:///x",
            "//evil",
            "http://",
            "http://?",
            "http://:80/",
            "evil",
        ] {
            assert_ne!(reason(url), "accepted", "{url}");
        }
    }

    #[test]
    fn our_own_host_is_refused_in_every_spelling() {
        for url in [
            "http://sho.rt/abc",
            "https://SHO.RT:8443/",
            "http://sho.rt./x",
            "http://s%68o.rt/",
            "http://\u{ff53}\u{ff48}\u{ff4f}.rt/",
            "http://b\u{fc}cher.example/",
            "http://xn--bcher-kva.example/",
        ] {
            assert_eq!(reason(url), "leads back to this service", "{url}");
        }
    }

    #[test]
    fn local_addresses_are_refused_in_every_notation_unless_allowed() {
        for url in [
            "http://127.0.0.2/",
            "http://0x7f.3/",
            "http://2130706434/",
            "http://[::1]/",
            "http://[::ffff:10.0.0.1]/",
            "http://169.254.169.254/",
            "http://localhost./",
            "http://a.localhost/",
            "http://0/",
            "http://100.64.0.1/",
        ] {
            assert_eq!(reason(url), "leads to a private or local address", "{url}");
            let lenient = Rules::new(["sho.rt"], true);
            assert!(lenient.check(url).is_ok(), "{url}");
        }
    }

    #[test]
    fn what_a_reader_cannot_see_is_refused() {
        for url in [
            "",
            "   ",
            "http://example.com/\r\nSet-Cookie: x",
            "http://example.com/\0",
            "http://example.com/a b",
            "http://exam\u{200b}ple.com/",
            "http://example.com/\u{202e}gpj.exe",
            "http://user:pass@example.com/",
            "http://@example.com/",
            "https://bank.com@evil.example/",
            "http://bank.com\\@evil.example/",
        ] {
            assert_ne!(reason(url), "accepted", "{url:?}");
        }
    }

    #[test]
    fn the_limit_is_2048_bytes_before_and_after_encoding() {
        let of_length = |n: usize| format!("http://example.com/{}", "x".repeat(n - 19));
        assert_eq!(reason(&of_length(LONGEST)), "accepted");
        assert_ne!(reason(&of_length(LONGEST + 1)), "accepted");
        assert_ne!(
            reason(&format!("http://example.com/{}", "\u{e9}".repeat(1_000))),
            "accepted"
        );
    }

    proptest! {
        #[test]
        fn whatever_is_accepted_is_a_plain_web_address_that_parses_to_itself(
            url in prop_oneof![
                any::<String>(),
                "(?i)https?://[a-z0-9.@:%\\[\\]\\\\]{1,20}[/?#]?.{0,20}",
                "https?://[a-z]{1,9}\\.(com|org)(:[0-9]{1,5})?/[ -~]{0,30}",
            ]
        ) {
            if let Ok(target) = rules().check(&url) {
                let text = target.as_str();
                prop_assert!(text.bytes().all(|byte| byte.is_ascii_graphic()));
                prop_assert!(text.len() <= LONGEST);
                let again = Url::parse(text).unwrap();
                prop_assert_eq!(again.as_str(), text);
                prop_assert!(matches!(again.scheme(), "http" | "https"));
                prop_assert!(again.username().is_empty() && again.password().is_none());
                let host = again.host().unwrap();
                prop_assert!(!is_private(&host));
                prop_assert!(!rules().own_hosts.contains(&without_dot(&host.to_string())));
                prop_assert_eq!(rules().check(text), Ok(target));
            }
        }
    }
}
