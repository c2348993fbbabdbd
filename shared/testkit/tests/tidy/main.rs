//! The house rules that no compiler checks.
//!
//! Each rule is a pure function from the files of the project to a list of problems, and
//! stands beside a test in which it finds one: a check that cannot fail is no check.
//!
//! | file | rules about |
//! |---|---|
//! | `tree.rs` | (what the rules look at) |
//! | `rooms.rs` | which files there are, and how they begin |
//! | `layers.rs` | who may depend on whom, and who may know what |
//! | `stages.rs` | the ladder in a README and the stages in the code |
//! | `pages.rs` | links, names of files, reports and commands in texts |

#![allow(clippy::unwrap_used, reason = "helpers of tests may, as tests may")]

mod layers;
mod pages;
mod rooms;
mod stages;
mod tree;

use tree::Tree;

/// Fails with all problems at once, one a line.
fn tidy(rule: impl Fn(&Tree) -> Vec<String>) {
    let problems = rule(&Tree::of_the_project());
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

#[test]
fn every_source_begins_with_what_it_is() {
    tidy(rooms::sources_begin_with_a_module_comment);
}

#[test]
fn every_design_has_its_rooms() {
    tidy(rooms::designs_have_their_rooms);
}

#[test]
fn nothing_is_left_undone_or_skipped() {
    tidy(rooms::nothing_is_left_undone_or_skipped);
}

#[test]
fn no_design_depends_on_another_or_on_the_lab() {
    tidy(layers::designs_stand_alone);
}

#[test]
fn the_ledger_knows_no_runtime_and_no_http() {
    tidy(layers::the_ledger_is_plain);
}

#[test]
fn domain_and_idea_files_do_no_io() {
    tidy(layers::ideas_do_no_io);
}

#[test]
fn only_the_composition_root_asks_for_the_stage() {
    tidy(layers::only_stages_knows_the_stage);
}

#[test]
fn only_http_knows_status_codes() {
    tidy(layers::only_http_knows_status_codes);
}

#[test]
fn every_stage_of_a_readme_is_in_the_code_and_the_other_way_round() {
    tidy(stages::ladders_match_the_code);
}

#[test]
fn no_link_is_dead() {
    tidy(pages::links_lead_somewhere);
}

#[test]
fn no_text_speaks_of_a_page_that_is_not_there() {
    tidy(pages::named_pages_exist);
}

#[test]
fn nothing_points_out_of_the_project() {
    tidy(pages::nothing_points_out_of_the_project);
}

#[test]
fn every_report_has_its_run() {
    tidy(pages::reports_have_their_run);
}

#[test]
fn every_quoted_output_is_its_runs() {
    tidy(pages::quoted_outputs_are_their_runs);
}

#[test]
fn every_command_in_a_text_exists() {
    tidy(pages::make_targets_exist);
}
