//! Which limit is meant: a tree of rules, one a domain, in which each entry of a request goes one step down.
//!
//! ```text
//! domain: shop                        user=alice, then path=/cart
//! └─ user              100 a second     └─ user: no value of that name, so the one without
//!    ├─ path=/cart      10 a second        └─ path=/cart: 10 a second, for alice alone
//!    └─ path=/img*      unlimited
//! ```
//!
//! The way is that of envoyproxy/ratelimit, whose files are read here: of a level, the key with this very value is taken, or
//! else the first pattern (`/img*`) that fits, or else the key without a value. It never turns back, and only a rule where
//! the entries end counts. A key without a value stands for a bucket for each value there is.

mod file;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use crate::domain::{Rule, Unfit};

use file::{Descriptor, Limiting};
pub use file::{File, parse};

/// The most rules, in all files together.
const MOST_RULES: usize = 10_000;

/// Why rules cannot be taken, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The file, where there is one.
    pub file: Option<Arc<str>>,
    /// The line, from 1.
    pub line: Option<usize>,
    /// A sentence for whoever wrote it.
    pub reason: String,
}

impl Fault {
    fn at(line: usize, reason: impl Into<String>) -> Self {
        Self {
            file: None,
            line: Some(line),
            reason: reason.into(),
        }
    }

    /// The same, of a file.
    #[must_use]
    pub fn of(self, file: &Arc<str>) -> Self {
        Self {
            file: Some(Arc::clone(file)),
            ..self
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.file, self.line) {
            (Some(file), Some(line)) => write!(f, "{file}:{line}: {}", self.reason),
            (Some(file), None) => write!(f, "{file}: {}", self.reason),
            (None, Some(line)) => write!(f, "line {line}: {}", self.reason),
            (None, None) => f.write_str(&self.reason),
        }
    }
}

impl std::error::Error for Fault {}

/// The rules of one or several domains, and what a limiter keeps for each.
pub struct Rules<B> {
    domains: HashMap<String, Node<B>>,
    /// By the path to them, which names no two.
    kept: HashMap<String, Arc<Kept<B>>>,
}

/// A rule, and what is kept for it.
pub struct Kept<B> {
    /// The rule.
    pub rule: Arc<Rule>,
    /// Names of rules that do not count where this one does.
    pub replaces: Vec<String>,
    /// What the limiter keeps.
    pub buckets: Arc<B>,
}

/// What stands at the end of a way.
pub enum Found<B> {
    /// Nothing limits it, and these rules do not count beside it.
    Unlimited(Vec<String>),
    /// A rule does.
    Limited(Arc<Kept<B>>),
}

impl<B> Found<B> {
    /// Names of rules that do not count beside it.
    pub fn replaces(&self) -> &[String] {
        match self {
            Self::Unlimited(replaces) => replaces,
            Self::Limited(kept) => &kept.replaces,
        }
    }
}

struct Node<B> {
    found: Option<Found<B>>,
    keys: HashMap<String, Level<B>>,
}

/// Where one key leads.
struct Level<B> {
    values: HashMap<String, Node<B>>,
    patterns: Vec<Pattern<B>>,
    any: Option<Box<Node<B>>>,
}

struct Pattern<B> {
    begins: String,
    /// Whether all values that fit share a bucket.
    shared: bool,
    node: Node<B>,
}

impl<B> Node<B> {
    fn new() -> Self {
        Self {
            found: None,
            keys: HashMap::new(),
        }
    }
}

impl<B> Rules<B> {
    /// The rules of these files. `open` makes what is kept for one; a rule that stands in `before` at the same place, and
    /// decides alike, keeps what it has.
    ///
    /// # Errors
    /// Two files have one domain, two descriptors are the same, or a rule cannot be kept.
    pub fn build(
        files: Vec<File>,
        before: Option<&Self>,
        open: impl FnMut(&Rule) -> Result<B, Unfit>,
    ) -> Result<Self, Fault> {
        let mut builder = Builder {
            before,
            open,
            kept: HashMap::new(),
        };
        let mut domains = HashMap::new();
        for file in files {
            let mut node = Node::new();
            let built = builder.grow(&mut node, &file.domain, &file.descriptors);
            let of_file = |fault: Fault| match &file.name {
                Some(name) => fault.of(name),
                None => fault,
            };
            built.map_err(of_file)?;
            if domains.contains_key(&file.domain) {
                let reason = format!("the domain `{}` has a file already", file.domain);
                return Err(of_file(Fault::at(1, reason)));
            }
            domains.insert(file.domain, node);
        }
        let kept = builder.kept;
        Ok(Self { domains, kept })
    }

    /// What limits a request with these entries, if anything does. `key` becomes the text of its bucket: no two buckets have
    /// the same.
    pub fn find<K: AsRef<str>, V: AsRef<str>>(
        &self,
        domain: &str,
        entries: &[(K, V)],
        key: &mut String,
    ) -> Option<&Found<B>> {
        let mut node = self.domains.get(domain)?;
        key.clear();
        escape(domain, key);
        for (name, value) in entries {
            let (name, value) = (name.as_ref(), value.as_ref());
            let level = node.keys.get(name)?;
            begin(name, key);
            let fits = |pattern: &&Pattern<B>| value.starts_with(&pattern.begins);
            node = match level.values.get(value) {
                Some(node) => {
                    escape(value, key);
                    node
                }
                None => match level.patterns.iter().find(fits) {
                    Some(pattern) if pattern.shared => {
                        escape(&pattern.begins, key);
                        // No value is written so, since `%` is escaped in all of them.
                        key.push_str("%*");
                        &pattern.node
                    }
                    other => {
                        escape(value, key);
                        match other {
                            Some(pattern) => &pattern.node,
                            None => level.any.as_deref()?,
                        }
                    }
                },
            };
        }
        node.found.as_ref()
    }

    /// All rules that limit something, in no order.
    pub fn rules(&self) -> impl Iterator<Item = &Arc<Kept<B>>> {
        self.kept.values()
    }
}

/// The text of a bucket for a limit that no rule has: as [`Rules::find`] writes it.
pub fn bucket<K: AsRef<str>, V: AsRef<str>>(domain: &str, entries: &[(K, V)], key: &mut String) {
    key.clear();
    escape(domain, key);
    for (name, value) in entries {
        begin(name.as_ref(), key);
        escape(value.as_ref(), key);
    }
}

fn begin(name: &str, key: &mut String) {
    key.push('/');
    escape(name, key);
    key.push('=');
}

/// Appends `text` such that it holds none of the characters that separate.
fn escape(text: &str, key: &mut String) {
    let mut rest = text;
    while let Some(at) = rest.find(['%', '/', '=']) {
        key.push_str(&rest[..at]);
        key.push_str(match rest.as_bytes()[at] {
            b'%' => "%25",
            b'/' => "%2F",
            _ => "%3D",
        });
        rest = &rest[at + 1..];
    }
    key.push_str(rest);
}

struct Builder<'a, B, O> {
    before: Option<&'a Rules<B>>,
    open: O,
    kept: HashMap<String, Arc<Kept<B>>>,
}

impl<B, O: FnMut(&Rule) -> Result<B, Unfit>> Builder<'_, B, O> {
    fn grow(&mut self, node: &mut Node<B>, path: &str, descriptors: &[Descriptor]) -> Result<(), Fault> {
        for descriptor in descriptors {
            let mut path = String::from(path);
            begin(&descriptor.key, &mut path);
            escape(descriptor.value.as_deref().unwrap_or("%"), &mut path);
            let level = node.keys.entry(descriptor.key.clone()).or_insert_with(|| Level {
                values: HashMap::new(),
                patterns: Vec::new(),
                any: None,
            });
            let mut child = Node::new();
            child.found = match &descriptor.limiting {
                None => None,
                Some(Limiting::Unlimited(replaces)) => Some(Found::Unlimited(replaces.clone())),
                Some(Limiting::Limited(rule, replaces)) => {
                    Some(Found::Limited(self.keep(&path, rule, replaces, descriptor.line)?))
                }
            };
            self.grow(&mut child, &path, &descriptor.descriptors)?;
            let twice = match &descriptor.value {
                None => level.any.replace(Box::new(child)).is_some(),
                Some(value) => match value.strip_suffix('*') {
                    Some(begins) => {
                        let twice = level.patterns.iter().any(|pattern| pattern.begins == begins);
                        level.patterns.push(Pattern {
                            begins: begins.to_owned(),
                            shared: descriptor.shared,
                            node: child,
                        });
                        twice
                    }
                    None => level.values.insert(value.clone(), child).is_some(),
                },
            };
            if twice {
                let value = descriptor.value.as_deref().unwrap_or("(any)");
                let reason = format!("`{}` with the value `{value}` stands here twice", descriptor.key);
                return Err(Fault::at(descriptor.line, reason));
            }
        }
        Ok(())
    }

    fn keep(&mut self, path: &str, rule: &Rule, replaces: &[String], line: usize) -> Result<Arc<Kept<B>>, Fault> {
        if self.kept.len() == MOST_RULES {
            return Err(Fault::at(line, format!("more than {MOST_RULES} rules")));
        }
        let before = self.before.and_then(|before| before.kept.get(path));
        let buckets = match before.filter(|before| decide_alike(&before.rule, rule)) {
            Some(before) => Arc::clone(&before.buckets),
            None => Arc::new((self.open)(rule).map_err(|unfit| Fault::at(line, unfit.to_string()))?),
        };
        let kept = Arc::new(Kept {
            rule: Arc::new(rule.clone()),
            replaces: replaces.to_vec(),
            buckets,
        });
        self.kept.insert(path.to_owned(), Arc::clone(&kept));
        Ok(kept)
    }
}

/// Whether the buckets of one rule are those of the other.
fn decide_alike(one: &Rule, other: &Rule) -> bool {
    let what = |rule: &Rule| (rule.limit, rule.algorithm, rule.failure, rule.single);
    what(one) == what(other)
}
