//! What clients did and heard, and what must be true of it afterwards.
//!
//! Clients write down every create with its outcome: acknowledged, refused with the promise that nothing happened, or
//! unknown (cut off, or an answer that says so). Afterwards the checker holds the whole history against the store.

use std::collections::{HashMap, HashSet};

/// How a create ended, as its client knows it.
#[derive(Clone, Debug)]
pub(crate) enum Create {
    /// 201, read to its end.
    Acknowledged { code: String, url: String },
    /// The server promised that it did nothing.
    Refused { url: String },
    /// Nobody told the client.
    Unknown { url: String },
}

impl Create {
    pub(crate) fn url(&self) -> &str {
        let (Self::Acknowledged { url, .. } | Self::Refused { url } | Self::Unknown { url }) = self;
        url
    }
}

/// Every create of a test, each with a URL of its own, by all clients and through all crashes.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    pub(crate) creates: Vec<Create>,
}

impl History {
    pub(crate) fn acknowledged(&self) -> impl Iterator<Item = (&str, &str)> {
        self.creates.iter().filter_map(|create| match create {
            Create::Acknowledged { code, url } => Some((code.as_str(), url.as_str())),
            Create::Refused { .. } | Create::Unknown { .. } => None,
        })
    }

    /// What is wrong with it: an acknowledged link that is lost or leads elsewhere, a code that was given twice, a link
    /// that was refused and is there all the same, a link that nobody asked for.
    pub(crate) fn violations(&self, stored: &[String], mut follow: impl FnMut(&str) -> Option<String>) -> Vec<String> {
        let mut violations = Vec::new();
        let mut given = HashMap::new();
        for (code, url) in self.acknowledged() {
            if let Some(other) = given.insert(code, url) {
                violations.push(format!("{code} was given twice: for {other} and for {url}"));
            }
            match follow(code) {
                Some(target) if target == url => {}
                Some(target) => violations.push(format!("{code} leads to {target}, not to {url}")),
                None => violations.push(format!("{code}, acknowledged for {url}, is lost")),
            }
        }
        let stored: HashSet<&str> = stored.iter().map(String::as_str).collect();
        let mut asked = HashSet::new();
        for create in &self.creates {
            let url = create.url();
            asked.insert(url);
            if matches!(create, Create::Refused { .. }) && stored.contains(url) {
                violations.push(format!("{url} was refused as not executed and is stored"));
            }
        }
        violations.extend(stored.difference(&asked).map(|url| format!("nobody asked for {url}")));
        violations
    }
}
