//! The files of the project, as the rules see them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Paths from the root of the project, with `/`, and what stands in those that are text.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    texts: BTreeMap<String, String>,
    /// Files and folders.
    paths: BTreeSet<String>,
}

/// What is not the project's: results of builds, the history, what editors and tools leave.
const FOREIGN: [&str; 2] = ["target", ".git"];

/// Files that rules read. The rest only has to be there.
const TEXTS: [&str; 10] = [
    ".rs", ".md", ".toml", ".sql", ".sh", ".http", ".yaml", ".yml", ".out", "Makefile",
];

impl Tree {
    pub(crate) fn of_the_project() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut tree = Self::default();
        tree.take(&root, "");
        tree
    }

    fn take(&mut self, folder: &Path, below: &str) {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let name = entry.file_name().into_string().unwrap();
            if FOREIGN.contains(&name.as_str()) || entry.path().join("CACHEDIR.TAG").exists() {
                continue;
            }
            let path = format!("{below}{name}");
            if entry.file_type().unwrap().is_dir() {
                self.take(&entry.path(), &format!("{path}/"));
            } else if is_text(&path) {
                let text = std::fs::read_to_string(entry.path()).unwrap_or_else(|error| panic!("{path}: {error}"));
                self.texts.insert(path.clone(), text);
            }
            self.paths.insert(path);
        }
    }

    /// A tree for the test of a rule.
    pub(crate) fn sample(files: &[(&str, &str)]) -> Self {
        let mut tree = Self::default();
        for &(path, text) in files {
            tree.texts.insert(path.to_owned(), text.to_owned());
            let folders = path.match_indices('/').map(|(end, _)| path[..end].to_owned());
            tree.paths.extend(folders.chain([path.to_owned()]));
        }
        tree
    }

    pub(crate) fn exists(&self, path: &str) -> bool {
        path.is_empty() || self.paths.contains(path)
    }

    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        self.texts.get(path).map(String::as_str)
    }

    /// All texts, with their paths.
    pub(crate) fn texts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.texts.iter().map(|(path, text)| (path.as_str(), text.as_str()))
    }

    /// The texts whose path ends so.
    pub(crate) fn ending(&self, end: &str) -> impl Iterator<Item = (&str, &str)> {
        self.texts().filter(move |(path, _)| path.ends_with(end))
    }

    /// The names of the designs.
    pub(crate) fn designs(&self) -> Vec<&str> {
        let manifests = self
            .paths
            .iter()
            .filter_map(|path| path.strip_prefix("designs/")?.strip_suffix("/Cargo.toml"));
        manifests.filter(|name| !name.contains('/')).collect()
    }

    /// The sources directly under `src` of each design: design, file name, text.
    pub(crate) fn design_sources(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        self.ending(".rs").filter_map(|(path, text)| {
            let (design, file) = path.strip_prefix("designs/")?.split_once("/src/")?;
            Some((design, file, text))
        })
    }
}

fn is_text(path: &str) -> bool {
    TEXTS.iter().any(|end| path.ends_with(end)) || path.starts_with(".ci/") || path.starts_with("scripts/")
}

/// The numbered lines of a Rust source that are not comments.
pub(crate) fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line));
    lines.filter(|(_, line)| !line.trim_start().starts_with("//"))
}

/// The path that `relative` means in the file `from`, or nothing when it leaves the project.
pub(crate) fn resolve(from: &str, relative: &str) -> Option<String> {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in relative.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

#[test]
fn paths_resolve_within_the_project_only() {
    assert_eq!(resolve("a/b/c.md", "../d.md"), Some("a/d.md".to_owned()));
    assert_eq!(resolve("a/c.md", "./../"), Some(String::new()));
    assert_eq!(resolve("c.md", "../d.md"), None);
}

#[test]
fn comments_are_no_code() {
    let lines: Vec<_> = code_lines("//! a\nlet x; // b\n    /// c\n").collect();
    assert_eq!(lines, [(2, "let x; // b")]);
}

#[test]
fn the_project_is_read() {
    let tree = Tree::of_the_project();
    assert!(tree.exists("shared/testkit/tests/tidy/tree.rs"));
    assert!(tree.designs().contains(&"url-shortener"));
    assert!(!tree.exists("target"));
}
