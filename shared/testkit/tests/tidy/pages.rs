//! Links, names of files, reports and commands: what a text says is there, is there.

use crate::tree::{Tree, resolve};

/// This test's own sources speak of files that are not there.
const OURSELVES: &str = "shared/testkit/tests/tidy/";

pub(crate) fn links_lead_somewhere(tree: &Tree) -> Vec<String> {
    let mut problems = Vec::new();
    for (path, text) in tree.ending(".md") {
        for target in links(text).filter(|target| is_relative(target)) {
            let file = target.split('#').next().unwrap_or_default();
            let there = file.is_empty() || resolve(path, file).is_some_and(|file| tree.exists(&file));
            problems.extend((!there).then(|| format!("{path}: dead link to {target}")));
        }
    }
    problems
}

/// A page that a text names (`ARCHITECTURE.md`) is a page of this project.
pub(crate) fn named_pages_exist(tree: &Tree) -> Vec<String> {
    let pages: Vec<&str> = tree.ending(".md").map(|(path, _)| path).collect();
    let is_there = |named: &str| {
        pages
            .iter()
            .any(|page| *page == named || page.ends_with(&format!("/{named}")))
    };
    let mut problems = Vec::new();
    // Shell scripts put names together from variables.
    for (path, text) in texts(tree).filter(|(path, _)| !path.starts_with("scripts/")) {
        let named =
            words(text).filter(|word| word.len() > ".md".len() && word.ends_with(".md") && !word.contains("://"));
        let missing = named.filter(|word| !is_there(word.trim_start_matches(['.', '/'])));
        problems.extend(missing.map(|word| format!("{path}: speaks of {word}, which is not there")));
    }
    problems
}

/// Notes and folders of the people who write this project are not the reader's.
pub(crate) fn nothing_points_out_of_the_project(tree: &Tree) -> Vec<String> {
    let work_folder = concat!("/", "work", "/");
    let mut problems = Vec::new();
    for (path, text) in texts(tree) {
        let absolute = words(text).filter(|word| word.starts_with(work_folder));
        let upwards = words(text).filter(|word| word.starts_with("../"));
        let leaving = upwards.filter(|word| resolve(path, word).is_none());
        let to_shared =
            words(text).filter(|word| word.trim_start_matches("../").starts_with("shared/") && word.starts_with("../"));
        let not_ours = to_shared.filter(|word| resolve(path, word).is_some_and(|file| !tree.exists(&file)));
        problems.extend(
            absolute
                .chain(leaving)
                .chain(not_ours)
                .map(|word| format!("{path}: {word} is not in this project")),
        );
    }
    problems
}

pub(crate) fn reports_have_their_run(tree: &Tree) -> Vec<String> {
    let mut problems = Vec::new();
    for (path, text) in tree.ending(".md") {
        let reports = text
            .match_indices(REPORT)
            .map(|(start, _)| &text[start + REPORT.len()..]);
        let runs = reports.filter_map(|rest| rest.split("-->").next()?.split_whitespace().next());
        let missing = runs.filter(|run| !run.starts_with("benches/runs/") || !tree.exists(run));
        problems.extend(missing.map(|run| format!("{path}: a report of {run}, which is not a committed run")));
    }
    problems
}

const REPORT: &str = "<!-- report:";

/// What a page shows as a command's output is, to the letter, what a committed run printed:
/// `<!-- output: FILE -->` and then a fenced block.
pub(crate) fn quoted_outputs_are_their_runs(tree: &Tree) -> Vec<String> {
    let mut problems = Vec::new();
    for (path, text) in tree.ending(".md") {
        for quote in text.split(OUTPUT).skip(1) {
            let (file, rest) = quote.split_once("-->").unwrap_or((quote, ""));
            let shown = rest
                .trim_start()
                .strip_prefix("```text\n")
                .and_then(|rest| rest.split("```").next());
            match tree.text(file.trim()) {
                None => problems.push(format!("{path}: an output of {}, which is not there", file.trim())),
                Some(printed) if shown != Some(printed) => {
                    problems.push(format!("{path}: the output shown is not that of {}", file.trim()));
                }
                Some(_) => {}
            }
        }
    }
    problems
}

const OUTPUT: &str = "<!-- output:";

pub(crate) fn make_targets_exist(tree: &Tree) -> Vec<String> {
    let Some(makefile) = tree.text("Makefile") else {
        return vec!["Makefile: is not there".to_owned()];
    };
    let targets: Vec<&str> = makefile.lines().filter_map(target_of).collect();
    let mut problems = Vec::new();
    for (path, text) in tree.ending(".md") {
        let unknown = commands(text).filter_map(|command| command.strip_prefix("make ")?.split_whitespace().next());
        let unknown = unknown.filter(|word| !word.contains('=') && !targets.contains(word));
        problems.extend(unknown.map(|word| format!("{path}: `make {word}` is not in the Makefile")));
    }
    problems
}

/// The target of a rule, if the line of a Makefile is one.
fn target_of(line: &str) -> Option<&str> {
    let (target, rest) = line.split_once(':')?;
    let is_name = !target.is_empty() && target.chars().all(|c| c.is_ascii_lowercase() || c == '-' || c == '_');
    (is_name && !rest.starts_with('=')).then_some(target)
}

/// Commands in a page: `code` that stands in backticks, and lines of fenced blocks.
fn commands(text: &str) -> impl Iterator<Item = &str> {
    let mut fenced = false;
    text.lines().flat_map(move |line| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        let (whole, quoted) = if fenced {
            (Some(line.trim_start().trim_start_matches("$ ")), None)
        } else {
            (None, Some(line))
        };
        whole
            .into_iter()
            .chain(quoted.into_iter().flat_map(|line| line.split('`').skip(1).step_by(2)))
    })
}

/// The targets of `[text](target)`, outside of fenced blocks.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let mut fenced = false;
    let lines = text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    });
    lines.flat_map(|line| {
        line.split("](")
            .skip(1)
            .filter_map(|rest| rest.split([')', ' ']).next())
    })
}

fn is_relative(target: &str) -> bool {
    !target.contains("://") && !target.starts_with("mailto:")
}

fn texts(tree: &Tree) -> impl Iterator<Item = (&str, &str)> {
    tree.texts().filter(|(path, _)| !path.starts_with(OURSELVES))
}

/// The text cut at everything that is not part of a path or URL, without full stops at its end.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let cut = |c: char| !(c.is_alphanumeric() || "/._-:".contains(c));
    text.split(cut)
        .map(|word| word.trim_end_matches(['.', ':']))
        .filter(|word| !word.is_empty())
}

#[test]
fn an_output_that_is_not_its_runs_is_found() {
    let page = |shown: &str| format!("<!-- output: runs/a.out -->\n```text\n{shown}```\n<!-- output: gone.out -->");
    let problems = |shown: &str| {
        let page = page(shown);
        quoted_outputs_are_their_runs(&Tree::sample(&[("a.md", &page), ("runs/a.out", "12 a second\n")]))
    };
    assert_eq!(problems("12 a second\n").len(), 1);
    assert_eq!(problems("13 a second\n").len(), 2);
}

#[test]
fn a_dead_link_is_found() {
    let page = "[a](b.md#x) [c](../Makefile) [d](https://x.org/gone.md) [e](#here)\n```\n[f](gone.md)\n```\n[g](gone.md) [h](../../out.md)";
    let tree = Tree::sample(&[("docs/a.md", page), ("docs/b.md", ""), ("Makefile", "")]);
    assert_eq!(
        links_lead_somewhere(&tree),
        [
            "docs/a.md: dead link to gone.md",
            "docs/a.md: dead link to ../../out.md"
        ]
    );
}

#[test]
fn a_page_that_is_not_there_is_found_wherever_it_is_named() {
    let tree = Tree::sample(&[
        (
            "a.rs",
            "//! See notes.md, section 4, and README.md, and designs/*/README.md.\n",
        ),
        ("x/README.md", "https://x.org/b.md"),
    ]);
    assert_eq!(
        named_pages_exist(&tree),
        ["a.rs: speaks of notes.md, which is not there"]
    );
}

#[test]
fn what_points_out_of_the_project_is_found() {
    let absolute = concat!("read /", "work/notes");
    let tree = Tree::sample(&[
        (
            "a/b/c.md",
            "../../shared/kit is fine, ../shared/x is not, nor is ../../../y",
        ),
        ("shared/kit/lib.rs", ""),
        ("Makefile", absolute),
    ]);
    let problems = nothing_points_out_of_the_project(&tree);
    assert_eq!(problems.len(), 3, "{problems:?}");
    assert!(problems[0].starts_with("Makefile: "));
    assert_eq!(
        problems[1..],
        [
            "a/b/c.md: ../../../y is not in this project",
            "a/b/c.md: ../shared/x is not in this project"
        ]
    );
}

#[test]
fn a_report_without_its_run_is_found() {
    let page = "<!-- report: benches/runs/a/x.json -->\n<!-- report: benches/runs/b/x.json knee -->\n<!-- report: elsewhere/x.json -->";
    let tree = Tree::sample(&[
        ("designs/x/README.md", page),
        ("benches/runs/a/x.json", ""),
        ("elsewhere/x.json", ""),
    ]);
    let problems = reports_have_their_run(&tree);
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems[0].contains("benches/runs/b/x.json") && problems[1].contains("elsewhere"));
}

#[test]
fn a_command_that_is_not_there_is_found() {
    let makefile = "D := x\nclimb: deps ## c\n\tmake-nothing: no\ntest:\n";
    let page = "we make things; `make climb D=x`, `make D=x`, `make fly`\n```sh\n$ make test\nmake sail\n```\n";
    let tree = Tree::sample(&[("Makefile", makefile), ("README.md", page)]);
    assert_eq!(
        make_targets_exist(&tree),
        [
            "README.md: `make fly` is not in the Makefile",
            "README.md: `make sail` is not in the Makefile"
        ]
    );
    assert_eq!(make_targets_exist(&Tree::default()).len(), 1);
}
