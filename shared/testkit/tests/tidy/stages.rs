//! The ladder in a README and the stages in the code are the same.

use std::collections::BTreeSet;

use crate::tree::Tree;

pub(crate) fn ladders_match_the_code(tree: &Tree) -> Vec<String> {
    tree.designs()
        .into_iter()
        .flat_map(|design| compare(tree, design))
        .collect()
}

fn compare(tree: &Tree, design: &str) -> Vec<String> {
    let text = |file: &str| tree.text(&format!("designs/{design}/{file}")).unwrap_or_default();
    let (code, ladder) = (
        stages_in_code(text("src/stages.rs")),
        stages_in_readme(text("README.md")),
    );
    if code.is_empty() || ladder.is_empty() {
        let what = if code.is_empty() {
            "no `enum Stage` in src/stages.rs"
        } else {
            "no ladder (a table whose first column is `stage`) in README.md"
        };
        return vec![format!("designs/{design}: {what}")];
    }
    let only_code = code
        .difference(&ladder)
        .map(|stage| format!("designs/{design}: stage `{stage}` is not in the README's ladder"));
    let only_ladder = ladder
        .difference(&code)
        .map(|stage| format!("designs/{design}: stage `{stage}` of the README is not in the code"));
    only_code.chain(only_ladder).collect()
}

/// The names of the variants of `enum Stage`: what `#[value(name = "..")]` says, or the
/// variant in snake case.
fn stages_in_code(source: &str) -> BTreeSet<String> {
    let Some((_, body)) = source.split_once("enum Stage {") else {
        return BTreeSet::new();
    };
    let body = body.split("\n}").next().unwrap_or_default();
    let mut stages = BTreeSet::new();
    let mut given = None;
    for line in body.lines().map(str::trim) {
        if let Some(attribute) = line.strip_prefix("#[") {
            given = attribute
                .split_once("name = \"")
                .and_then(|(_, rest)| rest.split('"').next())
                .or(given);
        } else if line.starts_with(char::is_uppercase) {
            let variant = line.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
            stages.insert(given.take().map_or_else(|| snake_case(variant), str::to_owned));
        }
    }
    stages
}

fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    for (index, c) in name.chars().enumerate() {
        if c.is_uppercase() && index > 0 {
            snake.push('_');
        }
        snake.extend(c.to_lowercase());
    }
    snake
}

/// The first column of every table whose first column is headed `stage`.
fn stages_in_readme(readme: &str) -> BTreeSet<String> {
    let mut stages = BTreeSet::new();
    let mut in_ladder = false;
    for line in readme.lines().map(str::trim) {
        let Some(row) = line.strip_prefix('|') else {
            in_ladder = false;
            continue;
        };
        let cell = row.split('|').next().unwrap_or_default().trim();
        if cell.eq_ignore_ascii_case("stage") {
            in_ladder = true;
        } else if in_ladder && !cell.starts_with(['-', ':']) {
            let name: String = cell.chars().filter(|c| c.is_alphanumeric() || *c == '_').collect();
            stages.insert(name.trim_start_matches(|c: char| c.is_ascii_digit()).to_owned()); // "1 `cached`"
        }
    }
    stages
}

#[cfg(test)]
const CODE: &str = "//! T.\n#[derive(ValueEnum)]\n#[value(rename_all = \"snake_case\")]\npub enum Stage {\n    /// One row.\n    #[value(name = \"single_table\")]\n    OneTable,\n    /// A cache.\n    Cached,\n}\nfn single_table() {}\n";

#[test]
fn names_are_given_or_made_from_the_variant() {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(stages_in_code(CODE), names(&["cached", "single_table"]));
    assert_eq!(snake_case("GroupCommit"), "group_commit");
    let table = "| x | y |\n|---|---|\n| no | z |\n\n| Stage | idea |\n|:--|---|\n| 1 `single_table` | a |\n| **`cached`** | b |\n";
    assert_eq!(stages_in_readme(table), names(&["cached", "single_table"]));
}

#[test]
fn a_ladder_that_differs_from_the_code_is_found() {
    let with = |readme| {
        ladders_match_the_code(&Tree::sample(&[
            ("designs/a/Cargo.toml", ""),
            ("designs/a/src/stages.rs", CODE),
            ("designs/a/README.md", readme),
        ]))
    };
    assert!(with("| stage |\n|---|\n| `single_table` |\n| `cached` |\n").is_empty());
    assert_eq!(
        with("| stage |\n|---|\n| `cached` |\n"),
        ["designs/a: stage `single_table` is not in the README's ladder"]
    );
    let problems = with("| stage |\n|---|\n| `single_table` |\n| `cached` |\n| `sharded` |\n");
    assert_eq!(
        problems,
        ["designs/a: stage `sharded` of the README is not in the code"]
    );
    assert!(with("no table")[0].contains("no ladder"));
}
