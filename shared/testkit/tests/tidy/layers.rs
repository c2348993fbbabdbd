//! Who may depend on whom, and who may know what.

use crate::tree::{Tree, code_lines};

/// The rooms under `src` that are not about the idea: they may know the outer world.
const NOT_IDEAS: [&str; 9] = [
    "http.rs",
    "grpc.rs",
    "layer.rs",
    "main.rs",
    "config.rs",
    "stages.rs",
    "service.rs",
    "lib.rs",
    "ports.rs",
];

/// What the outer world looks like in code. Of `std::net`, addresses are data like any other.
const OUTER_WORLD: [&str; 9] = [
    "tokio",
    "axum",
    "sqlx",
    "redis",
    "std::fs",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "ToSocketAddrs",
];

/// The binaries' rooms, which hand the stage on as a value.
const KNOW_THE_STAGE: [&str; 3] = ["stages.rs", "main.rs", "config.rs"];

pub(crate) fn designs_stand_alone(tree: &Tree) -> Vec<String> {
    let designs = tree.designs();
    let mut problems = Vec::new();
    for design in &designs {
        let path = format!("designs/{design}/Cargo.toml");
        let forbidden = designs.iter().copied().filter(|other| other != design).chain(["lab"]);
        let depends = dependencies(tree.text(&path).unwrap_or_default());
        problems.extend(
            forbidden
                .filter(|name| depends.contains(name))
                .map(|name| format!("{path}: depends on {name}")),
        );
    }
    problems
}

pub(crate) fn the_ledger_is_plain(tree: &Tree) -> Vec<String> {
    let path = "shared/ledger/Cargo.toml";
    let Some(manifest) = tree.text(path) else {
        return vec![format!("{path}: is not there")];
    };
    let depends = dependencies_of(manifest, &["dependencies"]);
    let heavy = ["tokio", "axum", "hyper", "hyper-util", "http"]
        .into_iter()
        .filter(|name| depends.contains(name));
    heavy.map(|name| format!("{path}: depends on {name}")).collect()
}

pub(crate) fn ideas_do_no_io(tree: &Tree) -> Vec<String> {
    mentions(tree, &OUTER_WORLD, |file| {
        !file.contains('/') && !NOT_IDEAS.contains(&file)
    })
}

pub(crate) fn only_stages_knows_the_stage(tree: &Tree) -> Vec<String> {
    mentions(tree, &["Stage::"], |file| !KNOW_THE_STAGE.contains(&file))
}

pub(crate) fn only_http_knows_status_codes(tree: &Tree) -> Vec<String> {
    mentions(tree, &["StatusCode"], |file| {
        file != "http.rs" && !file.starts_with("http/")
    })
}

/// Where the code of a design's source that `applies` says one of `words`.
fn mentions(tree: &Tree, words: &[&str], applies: impl Fn(&str) -> bool) -> Vec<String> {
    let mut problems = Vec::new();
    for (design, file, text) in tree.design_sources().filter(|(_, file, _)| applies(file)) {
        for (number, line) in code_lines(text) {
            let said = words.iter().filter(|word| says(line, word));
            problems.extend(said.map(|word| format!("designs/{design}/src/{file}:{number}: speaks of `{word}`")));
        }
    }
    problems
}

/// Whether `line` holds `word` as a word of its own (`redistribute` is not `redis`).
fn says(line: &str, word: &str) -> bool {
    let part_of_a_name = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(start, _)| {
        let before = line[..start].chars().next_back();
        let after = line[start + word.len()..].chars().next();
        let ends_open = !word.ends_with(':') && after.is_some_and(part_of_a_name);
        !before.is_some_and(part_of_a_name) && !ends_open
    })
}

/// All crates that a manifest depends on, in whatever role.
fn dependencies(manifest: &str) -> Vec<&str> {
    dependencies_of(manifest, &["dependencies", "dev-dependencies", "build-dependencies"])
}

/// The crates in these tables, those for one platform (`target.'..'.dependencies`) included.
fn dependencies_of<'a>(manifest: &'a str, tables: &[&str]) -> Vec<&'a str> {
    let is_one = |header: &str| {
        tables
            .iter()
            .any(|table| header == *table || header.ends_with(&format!(".{table}")))
    };
    let mut names = Vec::new();
    let mut inside = false;
    for line in manifest.lines().map(str::trim) {
        if let Some(header) = line.strip_prefix('[') {
            let header = header.trim_end_matches(']');
            inside = is_one(header);
            let alone = header.rsplit_once('.').filter(|(table, _)| is_one(table)); // [dependencies.name]
            names.extend(alone.map(|(_, name)| name));
        } else if inside && !line.starts_with('#') {
            names.extend(line.split(['.', '=', ' ']).next().filter(|name| !name.is_empty()));
        }
    }
    names
}

#[test]
fn a_design_that_depends_on_another_or_on_the_lab_is_found() {
    let tree = Tree::sample(&[
        (
            "designs/a/Cargo.toml",
            "[package]\nname = \"a\"\n[dependencies]\naxum.workspace = true\nb = { path = \"../b\" }\n",
        ),
        ("designs/b/Cargo.toml", "[dev-dependencies]\nlab.workspace = true\n"),
        (
            "designs/c/Cargo.toml",
            "[dependencies]\nservice.workspace = true\n[features]\nlab = []\n",
        ),
        (
            "designs/d/Cargo.toml",
            "[target.'cfg(unix)'.dependencies.a]\npath = \"../a\"\n",
        ),
    ]);
    let problems = designs_stand_alone(&tree);
    let found = [
        "designs/a/Cargo.toml: depends on b",
        "designs/b/Cargo.toml: depends on lab",
        "designs/d/Cargo.toml: depends on a",
    ];
    assert_eq!(problems, found);
}

#[test]
fn a_ledger_with_a_runtime_is_found() {
    let with = |text| the_ledger_is_plain(&Tree::sample(&[("shared/ledger/Cargo.toml", text)]));
    assert!(with("[dependencies]\nquanta.workspace = true\n[dev-dependencies]\ntokio.workspace = true\n").is_empty());
    assert_eq!(
        with("[dependencies]\ntokio = \"1\"\n"),
        ["shared/ledger/Cargo.toml: depends on tokio"]
    );
    assert_eq!(the_ledger_is_plain(&Tree::default()).len(), 1);
}

#[test]
fn io_in_a_domain_or_idea_file_is_found_and_prose_is_not() {
    let tree = Tree::sample(&[
        (
            "designs/a/src/domain.rs",
            "//! Not like redis.\nuse std::fs::File;\nuse std::net::IpAddr;\nuse std::net::{IpAddr, TcpStream};\n",
        ),
        (
            "designs/a/src/snowflake.rs",
            "//! T.\n// tokio would\nfn f() { tokio::spawn(x) }\nfn redistribute() {}\n",
        ),
        ("designs/a/src/adapters/sqlite.rs", "//! T.\nuse sqlx::Pool;\n"),
        ("designs/a/src/main.rs", "//! T.\n#[tokio::main]\n"),
    ]);
    let found = [
        "designs/a/src/domain.rs:2: speaks of `std::fs`",
        "designs/a/src/domain.rs:4: speaks of `TcpStream`",
        "designs/a/src/snowflake.rs:3: speaks of `tokio`",
    ];
    assert_eq!(ideas_do_no_io(&tree), found);
}

#[test]
fn a_question_for_the_stage_elsewhere_is_found() {
    let asks = "//! T.\nif stage == Stage::Cached {}\n";
    let tree = Tree::sample(&[
        ("designs/a/src/stages.rs", asks),
        ("designs/a/src/service.rs", asks),
        ("designs/a/src/adapters/x.rs", "//! T.\nlet s = MyStage::New;\n"),
    ]);
    assert_eq!(
        only_stages_knows_the_stage(&tree),
        ["designs/a/src/service.rs:2: speaks of `Stage::`"]
    );
}

#[test]
fn a_status_code_elsewhere_is_found() {
    let tree = Tree::sample(&[
        ("designs/a/src/http.rs", "//! T.\nStatusCode::OK\n"),
        ("designs/a/src/service.rs", "//! T.\nuse http::StatusCode;\n"),
    ]);
    assert_eq!(
        only_http_knows_status_codes(&tree),
        ["designs/a/src/service.rs:2: speaks of `StatusCode`"]
    );
}
