//! Which files there are, and how they begin.

use crate::tree::{Tree, code_lines};

/// What every design has. The rest (migrations, adapters, an idea file, races) it has as needed.
const ROOMS: [&str; 11] = [
    "README.md",
    "src/lib.rs",
    "src/domain.rs",
    "src/ports.rs",
    "src/service.rs",
    "src/stages.rs",
    "src/http.rs",
    "src/config.rs",
    "src/main.rs",
    "tests/contract.rs",
    "tests/stages.rs",
];

pub(crate) fn sources_begin_with_a_module_comment(tree: &Tree) -> Vec<String> {
    let bare = tree.ending(".rs").filter(|(_, text)| !text.starts_with("//! "));
    bare.map(|(path, _)| format!("{path}: the first line is not `//! ` and what the file is"))
        .collect()
}

pub(crate) fn designs_have_their_rooms(tree: &Tree) -> Vec<String> {
    let rooms = tree
        .designs()
        .into_iter()
        .flat_map(|design| ROOMS.map(|room| format!("designs/{design}/{room}")));
    rooms
        .filter(|room| !tree.exists(room))
        .map(|room| format!("{room}: every design has this room"))
        .collect()
}

pub(crate) fn nothing_is_left_undone_or_skipped(tree: &Tree) -> Vec<String> {
    // Put together here, so that this file does not find itself.
    let marks = [
        concat!("todo", "!("),
        concat!("unimplemented", "!("),
        concat!("#[", "ignore"),
    ];
    let mut problems = Vec::new();
    for (path, text) in tree.ending(".rs") {
        for (number, line) in code_lines(text) {
            let found = marks.iter().filter(|mark| line.contains(**mark));
            problems.extend(found.map(|mark| format!("{path}:{number}: `{mark}`")));
        }
    }
    problems
}

#[test]
fn a_source_without_a_module_comment_is_found() {
    let tree = Tree::sample(&[
        ("a.rs", "//! What it is.\n"),
        ("b.rs", "use x;\n//! Late.\n"),
        ("c.rs", "//!\n"),
    ]);
    let problems = sources_begin_with_a_module_comment(&tree);
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems[0].starts_with("b.rs"));
}

#[test]
fn a_missing_room_is_found() {
    let mut files: Vec<String> = ROOMS.iter().map(|room| format!("designs/x/{room}")).collect();
    files.push("designs/x/Cargo.toml".to_owned());
    let complete: Vec<(&str, &str)> = files.iter().map(|file| (file.as_str(), "")).collect();
    assert!(designs_have_their_rooms(&Tree::sample(&complete)).is_empty());
    let problems = designs_have_their_rooms(&Tree::sample(&complete[1..]));
    assert_eq!(problems, ["designs/x/README.md: every design has this room"]);
}

#[test]
fn what_is_undone_or_skipped_is_found() {
    let undone = concat!(
        "//! T.\nfn f() { todo",
        "!() }\n// todo",
        "!()\n#[",
        "ignore = \"slow\"]\n"
    );
    let problems = nothing_is_left_undone_or_skipped(&Tree::sample(&[("a.rs", undone)]));
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems[0].starts_with("a.rs:2") && problems[1].starts_with("a.rs:4"));
}
