//! API keys: who may write.
//!
//! Only the SHA-256 of each key is kept: keys are long and random, so a fast hash is enough, and a memory dump does not
//! give them away. Comparing takes the same time whatever is wrong, and always looks at every key.

use http::{HeaderMap, header};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

/// The longest key that is looked at, in bytes.
const LONGEST: usize = 512;

/// The keys that may write; none configured means that everybody may.
#[derive(Default)]
pub(crate) struct ApiKeys(Vec<[u8; 32]>);

impl ApiKeys {
    pub(crate) fn new<'a>(keys: impl IntoIterator<Item = &'a str>) -> Self {
        Self(keys.into_iter().map(|key| digest(key.trim())).collect())
    }

    /// Whether a request with these headers may write.
    pub(crate) fn admit(&self, headers: &HeaderMap) -> bool {
        if self.0.is_empty() {
            return true;
        }
        let Some(given) = bearer(headers) else {
            return false;
        };
        let given = digest(given);
        let known = self
            .0
            .iter()
            .fold(Choice::from(0), |found, key| found | key.ct_eq(&given));
        known.into()
    }
}

fn digest(key: &str) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, key) = value.split_once(' ')?;
    (scheme.eq_ignore_ascii_case("bearer") && key.len() <= LONGEST).then(|| key.trim())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn with(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn any_configured_key_opens_and_nothing_else_does() {
        let keys = ApiKeys::new(["first-key", "second-key"]);
        assert!(keys.admit(&with("Bearer first-key")));
        assert!(keys.admit(&with("bearer second-key")));
        for wrong in [
            "Bearer first-ke",
            "Bearer",
            "Basic first-key",
            "first-key",
            "Bearer third-key",
        ] {
            assert!(!keys.admit(&with(wrong)), "{wrong}");
        }
        assert!(!keys.admit(&with(&format!("Bearer {}", "k".repeat(10_240)))));
        assert!(!keys.admit(&HeaderMap::new()));
    }

    #[test]
    fn without_keys_everybody_may_write() {
        assert!(ApiKeys::default().admit(&HeaderMap::new()));
    }
}
