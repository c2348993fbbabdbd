//! The page of a climb in a real browser: it loads without a complaint, fetches nothing, and says what its run says.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lab::output::climb::{Bottleneck, ClimbReport, HotFunction, ProfileReport};
use lab::output::html;
use lab::output::picture::{self, Width};
use lab::proof::{Finding, Intervention, Measure, Proof, Relief};
use lab::verdict::Reason;
use lab::workload::Accuracy;
use serde_json::Value;
use testkit::browser::{self, Leave, Seen};

/// What a page must not let out: strings that would end whatever they stand in.
const HOSTILE: &str =
    "</script><!-- <script>alert(1)</script> \"'><img src=http://example.com/x onerror=alert(2)> ]]> &amp; \u{0}";

/// The newest committed climb of all stages.
fn committed() -> PathBuf {
    let runs = Path::new(env!("CARGO_MANIFEST_DIR")).join("runs");
    let mut found: Vec<PathBuf> = fs::read_dir(runs)
        .unwrap()
        .map(|folder| folder.unwrap().path().join("url-shortener.json"))
        .filter(|run| run.exists())
        .collect();
    found.sort();
    found.pop().expect("benches/runs has a climb")
}

fn read(run: &Path) -> ClimbReport {
    serde_json::from_str(&fs::read_to_string(run).unwrap()).unwrap()
}

/// A committed climb with a proof of each finding and a profile put in, and with texts as bad as they can be.
fn everything() -> ClimbReport {
    let mut report = read(&committed());
    report.command = HOSTILE.to_owned();
    report.machine.cpu = HOSTILE.to_owned();
    report.set = vec![("key".to_owned(), HOSTILE.to_owned())];
    let findings = [Finding::Proven, Finding::Balanced, Finding::Unproven];
    for (stage, finding) in report.stages.iter_mut().zip(findings) {
        stage.proof = Some(proof(finding));
        stage.violations = 3;
        stage.violation_examples = vec!["code `aaaaaaa` was given twice".to_owned(), HOSTILE.to_owned()];
    }
    let first = &mut report.stages[0];
    first.accuracy = Some(Accuracy {
        most_in_a_window: 1.374,
        too_many: 96,
        refused_wrongly: 2,
    });
    first.profile = Some(ProfileReport {
        file: "url-shortener-permuted.svg".to_owned(),
        svg: "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 600 40\"><rect width=\"600\" height=\"18\" y=\"20\" fill=\"#e66101\"/>\
              <text x=\"4\" y=\"34\" font-size=\"12\">main 100 %</text><script>alert(3)</script></svg>"
            .to_owned(),
        samples: 4_321,
        server: 0.41,
        kernel: 0.37,
        runtime: 0.22,
        hottest: vec![HotFunction {
            function: "url_shortener::service::Shortener<L, K>::resolve".to_owned(),
            total: 0.183,
            own: 0.021,
        }],
    });
    first.stage = "<b>single & \"table\"</b>".to_owned();
    report.stages[1].bottleneck.as_mut().unwrap().reason = Reason::RigLimited;
    report
}

fn proof(finding: Finding) -> Proof {
    let step = |resource: &str, utilisation: f64, predicted: f64, measured: f64| Intervention {
        resource: resource.to_owned(),
        utilisation,
        factor: 1.8,
        predicted_low: predicted,
        predicted_high: predicted,
        measured,
        value: 11_800.0 * measured,
        elasticity: -measured.ln() / 1.8f64.ln(),
        elasticity_spread: 0.08,
        as_predicted: (predicted - measured).abs() < 0.1,
    };
    let proven = finding == Finding::Proven;
    Proof {
        finding,
        measure: if proven { Measure::Knee } else { Measure::ResponseTime },
        named: vec!["cpu".to_owned()],
        summary: "slowing cpu by 1.8 takes the knee to 0.57 of what it was, as predicted (0.56); slowing sqlite_writer or admission does not move it".to_owned(),
        spread: 0.05,
        baselines: vec![11_800.0, 11_650.0, 11_900.0],
        interventions: vec![
            step("cpu", 0.97, 0.556, 0.571),
            step("sqlite_writer", 0.41, 1.0, 0.985),
            step("admission", 0.12, 1.0, if proven { 1.01 } else { 0.62 }),
        ],
        unsteady: Vec::new(),
        relief_failed: None,
        relief: proven.then(|| Relief {
            resource: "cpu".to_owned(),
            knob: "workers".to_owned(),
            from: 1.0,
            to: 2.0,
            knee_rps: 20_123.4,
            rig_limited: false,
            ratio: 1.71,
            next: Some(Bottleneck {
                resource: "sqlite_writer".to_owned(),
                utilisation: 0.93,
                reason: Reason::Full,
                evidence: String::new(),
                warnings: Vec::new(),
            }),
        }),
    }
}

/// Opens a file in a browser without a window.
fn browse(file: &Path) -> Seen {
    browser::browse(
        &format!("file://{}", file.display()),
        Leave::WhenIdle(Duration::from_secs(2)),
    )
}

fn browse_text(name: &str, text: &str) -> Seen {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join(name);
    fs::write(&file, text).unwrap();
    browse(&file)
}

/// One figure of a page: its place in the run, the exact value, the printed text, and whether it stands in a table.
struct Figure {
    place: String,
    value: String,
    text: String,
    in_a_cell: bool,
}

fn figures(dom: &str) -> Vec<Figure> {
    let opening = "<data data-of=\"";
    dom.match_indices(opening)
        .map(|(at, _)| {
            let (place, rest) = dom[at + opening.len()..].split_once("\" value=\"").unwrap();
            let (value, rest) = rest.split_once("\">").unwrap();
            let before = &dom[..at];
            let (cell, end) = (before.rfind("<td"), before.rfind("</td>"));
            let row = (before.rfind("<th scope=\"row\""), before.rfind("</th>"));
            Figure {
                place: place.to_owned(),
                value: value.to_owned(),
                text: rest.split("</data>").next().unwrap().to_owned(),
                in_a_cell: cell > end || row.0 > row.1,
            }
        })
        .collect()
}

/// The places of all numbers under one of these keys, but for those of `recorded`, which verdicts are made from.
fn places(value: &Value, at: &str, keys: &[&str], found: &mut Vec<String>) {
    let children: Vec<(String, &Value)> = match value {
        Value::Object(map) => map.iter().map(|(key, value)| (key.clone(), value)).collect(),
        Value::Array(list) => list
            .iter()
            .enumerate()
            .map(|(index, value)| (index.to_string(), value))
            .collect(),
        _ => Vec::new(),
    };
    for (key, value) in children.into_iter().filter(|(key, _)| key != "recorded") {
        let place = format!("{at}/{key}");
        if value.is_number() && keys.contains(&key.as_str()) {
            found.push(place);
        } else {
            places(value, &place, keys, found);
        }
    }
}

/// The number that a reader reads: `12,300`, `87 %`, `× 0.57`; and by how much it may differ through rounding.
fn as_read(text: &str) -> (f64, f64) {
    let digits: String = text
        .chars()
        .filter(|letter| letter.is_ascii_digit() || ".-".contains(*letter))
        .collect();
    let number: f64 = digits.parse().unwrap_or_else(|_| panic!("`{text}` is no number"));
    let decimals = digits.split_once('.').map_or(0, |(_, decimals)| decimals.len());
    let unit = 0.5001 * 10f64.powi(-i32::try_from(decimals).unwrap());
    if text.ends_with('%') {
        (number / 100.0, unit / 100.0)
    } else if decimals == 0 && number >= 1000.0 {
        // Rates have three digits; counts are whole, and so are exact anyway.
        (number, number * 0.006)
    } else {
        (number, unit)
    }
}

fn says_what_its_run_says(dom: &str, report: &ClimbReport) {
    let run = serde_json::to_value(report).unwrap();
    let figures = figures(dom);
    for figure in &figures {
        let (place, text) = (&figure.place, &figure.text);
        let wanted = run
            .pointer(place)
            .unwrap_or_else(|| panic!("{place} is not in the run"));
        assert_eq!(figure.value, wanted.to_string(), "{place}");
        let (read, off) = as_read(text);
        let exact = wanted.as_f64().unwrap();
        assert!((read - exact).abs() <= off, "{place}: {text} stands for {exact}");
    }
    let mut wanted = Vec::new();
    let keys = [
        "knee_rps",
        "p50_ms",
        "p99_ms",
        "utilisation",
        "violations",
        "most_in_a_window",
        "too_many",
        "refused_wrongly",
    ];
    places(&run["stages"], "/stages", &keys, &mut wanted);
    assert!(wanted.len() > 100, "a climb has more figures than {}", wanted.len());
    for place in &wanted {
        let there = figures.iter().any(|figure| figure.place == *place && figure.in_a_cell);
        assert!(there, "{place} stands in no table of the page");
    }
}

/// The run folded into a page is the run.
fn carries_its_run(dom: &str, report: &ClimbReport) {
    let (_, rest) = dom.split_once("<script type=\"application/json\" id=\"run\">").unwrap();
    let json: Value = serde_json::from_str(rest.split("</script>").next().unwrap()).unwrap();
    let wanted: Value = serde_json::from_str(&serde_json::to_string(report).unwrap()).unwrap();
    assert!(json == wanted, "the folded JSON is another one");
}

#[test]
fn the_page_of_a_committed_climb_is_its_run_and_the_browser_has_no_complaint() {
    let report = read(&committed());
    let seen = browse_text("page.html", &html::page(&report).unwrap());
    assert_eq!(seen.console, Vec::<String>::new());
    says_what_its_run_says(&seen.dom, &report);
    carries_its_run(&seen.dom, &report);
}

#[test]
fn proofs_profiles_and_hostile_texts_do_not_break_out() {
    let report = everything();
    let seen = browse_text("page.html", &html::page(&report).unwrap());
    assert_eq!(
        seen.console,
        Vec::<String>::new(),
        "a script that got loose is refused, and the refusal is seen here"
    );
    says_what_its_run_says(&seen.dom, &report);
    carries_its_run(&seen.dom, &report);
    assert_eq!(seen.dom.matches("<script").count(), 1, "only the run");
    assert!(seen.dom.contains("&lt;b&gt;single &amp; \"table\"&lt;/b&gt;"));
    for word in ["proven", "balanced", "unproven"] {
        assert!(
            seen.dom
                .contains(&format!("<span class=\"badge {word}\">{word}</span>")),
            "{word}"
        );
    }
}

/// A test of the test: the browser says it when a page does what it must not.
#[test]
fn a_script_in_a_page_and_a_picture_from_elsewhere_would_be_noticed() {
    let page = html::page(&read(&committed())).unwrap();
    for loose in [
        "<script>console.log(1)</script>",
        "<img src=\"http://127.0.0.1:9/x.png\">",
    ] {
        let seen = browse_text("page.html", &page.replacen("<main>", &format!("<main>{loose}"), 1));
        assert!(!seen.console.is_empty(), "{loose} went unnoticed");
    }
}

/// Everything that a browser would fetch for a page is in the page.
#[test]
fn a_page_refers_to_nothing_outside_itself() {
    for report in [read(&committed()), everything()] {
        let page = html::page(&report).unwrap();
        for attribute in [" src=\"", " href=\"", " srcset=\"", " action=\"", " poster=\""] {
            for (at, _) in page.match_indices(attribute) {
                let target = page[at + attribute.len()..].split('"').next().unwrap();
                assert!(target.starts_with("data:") || target.starts_with('#'), "{target}");
            }
        }
        assert!(!page.contains("@import") && !page.contains("url("));
        assert_eq!(page.matches("<link").count(), 1, "the icon, which is empty");
    }
}

/// A picture is well-formed XML: a browser shows an error in its place if not.
#[test]
fn the_pictures_are_read_by_a_browser() {
    let report = everything();
    for width in [Width::Page, Width::Phone] {
        let svg = picture::svg(&report, width);
        let seen = browse_text("picture.svg", &svg);
        assert_eq!(seen.console, Vec::<String>::new());
        assert!(!seen.dom.contains("parsererror"), "{}", seen.dom);
        assert!(
            seen.dom.matches("<polyline").count() == 2 * report.stages.len(),
            "two lines a stage"
        );
        let broken = browse_text("picture.svg", &svg.replacen("<line", "<line<", 1));
        assert!(broken.dom.contains("parsererror"), "a broken picture goes unnoticed");
    }
}
