//! A climb as one page: to look at, to send to somebody, to print.
//!
//! The page needs nothing but itself: no script, no font, no picture from elsewhere, and its own policy forbids the
//! browser to fetch any. The run's whole JSON is folded into its end.
//!
//! Every measured figure is written by `Page::figure`, which takes it out of that JSON by its place there and leaves both
//! beside the printed text: `<data data-of="/stages/0/p99_ms" value="14.77">14.77</data>`. So no figure can be the wrong
//! one of two, and a test can hold the page against its run.

use std::fmt::Write;

use serde_json::Value;

use crate::ledger::CPU_PARTS;
use crate::output::climb::{ClimbReport, ProfileReport, StageReport};
use crate::output::markdown;
use crate::output::picture::{self, Width, escaped};
use crate::output::text::{promises, rate};
use crate::proof::{Finding, Measure, Proof, Relief};
use crate::verdict::{FULL, Reason};
use crate::workload::Accuracy;

const STYLE: &str = include_str!("page.css");

/// What the browser may load for this page: nothing, but for styles and pictures inside it.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:";

const NOT_PROVEN: &str = "<p class=\"soft\">The bottleneck is named by counting. It was not proven by slowing it: \
                          this climb ran without <code>--prove</code>.</p>\n";

/// The page of a climb.
///
/// # Errors
/// The report cannot be put into JSON, which would be a fault of the lab's.
pub fn page(report: &ClimbReport) -> serde_json::Result<String> {
    let page = Page {
        report,
        json: serde_json::to_value(report)?,
    };
    Ok(format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
         <title>Climb of {design}</title>\n<link rel=\"icon\" href=\"data:,\">\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
         {head}<main>\n{summary}{picture}{stages}{setting}{raw}</main>\n</body>\n</html>\n",
        design = escaped(&report.design),
        head = page.head(),
        summary = page.summary(),
        picture = page.picture(),
        stages = page.stages(),
        setting = page.setting(),
        raw = raw(&serde_json::to_string_pretty(report)?),
    ))
}

struct Page<'a> {
    report: &'a ClimbReport,
    json: Value,
}

impl Page<'_> {
    /// The number at a place in the run, printed by `format`; a dash where there is none.
    fn figure(&self, place: &str, format: fn(f64) -> String) -> String {
        match self.json.pointer(place) {
            Some(Value::Number(number)) => format!(
                "<data data-of=\"{}\" value=\"{number}\">{}</data>",
                escaped(place),
                escaped(&format(number.as_f64().unwrap_or(f64::NAN)))
            ),
            _ => "-".to_owned(),
        }
    }

    /// As [`Accuracy`] prints it, each figure with its place.
    fn accuracy(&self, index: usize, accuracy: Accuracy) -> String {
        let figure = |key: &str, format| self.figure(&format!("/stages/{index}/accuracy/{key}"), format);
        let mut out = figure("most_in_a_window", |ratio| format!("{ratio:.2} x"));
        if accuracy.too_many > 0 {
            let _ = write!(out, ", {} too many", figure("too_many", whole));
        }
        if accuracy.refused_wrongly > 0 {
            let _ = write!(out, ", {} refused wrongly", figure("refused_wrongly", whole));
        }
        out
    }

    fn head(&self) -> String {
        let report = self.report;
        format!(
            "<header>\n<h1>{}: how much it carries, and what gives first</h1>\n<p class=\"soft\">{} on {}, {} cores, data on {}. \
             {} round(s), {:.0} s.{}</p>\n</header>\n",
            escaped(&report.design),
            escaped(&report.date),
            escaped(&report.machine.cpu),
            report.machine.cores,
            escaped(&report.data_filesystem),
            report.rounds,
            report.elapsed_s,
            if report.quick {
                " A quick climb: its figures are rough."
            } else {
                ""
            },
        )
    }

    fn summary(&self) -> String {
        let limits = self.report.stages.iter().any(|stage| stage.accuracy.is_some());
        let mut columns = vec![
            "<stage",
            "knee, req/s",
            "p50, ms",
            "p99, ms",
            "<bottleneck",
            "violations",
        ];
        columns.extend(limits.then_some("<accuracy"));
        let mut out = table("Every stage at its knee", &columns);
        for (index, stage) in self.report.stages.iter().enumerate() {
            let name = format!(
                "<tr><th scope=\"row\"><a href=\"#stage-{index}\">{}</a><small class=\"idea\">{}</small></th>",
                escaped(&stage.stage),
                escaped(&stage.idea)
            );
            out += &name;
            if let Some(reason) = &stage.skipped {
                let columns = columns.len() - 1;
                let _ = writeln!(out, "<td colspan=\"{columns}\">skipped: {}</td></tr>", escaped(reason));
                continue;
            }
            let at = |key: &str| format!("/stages/{index}/{key}");
            let bound = if stage.rig_limited { "≥ " } else { "" };
            let spread = if stage.knees_rps.len() > 1 {
                format!(
                    "<small>{}–{}</small>",
                    self.figure(&at("knee_min_rps"), rate),
                    self.figure(&at("knee_max_rps"), rate)
                )
            } else {
                String::new()
            };
            let accuracy = match stage.accuracy {
                Some(accuracy) => format!("<td class=\"text\">{}</td>", self.accuracy(index, accuracy)),
                None if limits => "<td></td>".to_owned(),
                None => String::new(),
            };
            let _ = writeln!(
                out,
                "<td>{bound}{}{spread}</td><td>{}</td><td>{}</td><td class=\"text\">{}</td><td{}>{}</td>{accuracy}</tr>",
                self.figure(&at("knee_rps"), rate),
                self.figure(&at("p50_ms"), ms),
                self.figure(&at("p99_ms"), ms),
                self.bottleneck(index, stage),
                bad(stage.violations > 0),
                self.figure(&at("violations"), whole),
            );
        }
        let _ = writeln!(
            out,
            "</tbody></table></div>\n<p class=\"soft\">Knee: the highest rate with {}, at most {} % errors, at least {} % completed \
             and no growing backlog; the median of the rounds, with the lowest and the highest. Latencies at 95 % of it.</p>",
            escaped(&promises(self.report)),
            self.report.slo.max_errors_percent,
            self.report.slo.min_completed_percent,
        );
        out
    }

    fn bottleneck(&self, index: usize, stage: &StageReport) -> String {
        let Some(found) = &stage.bottleneck else {
            return "-".to_owned();
        };
        let name = escaped(&found.resource);
        let busy = self.figure(&format!("/stages/{index}/bottleneck/utilisation"), percent);
        let finding = stage.proof.as_ref().map_or_else(String::new, badge);
        let text = match found.reason {
            Reason::Full => format!("<b>{name}</b> {busy} busy{}", escaped(&markdown::mostly(stage))),
            Reason::LatencyBound => format!("latency: <b>{name}</b> {busy} busy"),
            Reason::RigLimited => format!("rig-limited; the server's fullest resource was {busy} busy"),
        };
        text + &finding
    }

    fn picture(&self) -> String {
        format!(
            "<figure>\n<div class=\"wide\">{}</div>\n<div class=\"narrow\">{}</div>\n</figure>\n",
            picture::svg(self.report, Width::Page),
            picture::svg(self.report, Width::Phone)
        )
    }

    fn stages(&self) -> String {
        let stages = self.report.stages.iter().enumerate();
        let stages: String = stages.map(|(index, stage)| self.stage(index, stage)).collect();
        format!(
            "<p class=\"soft\">In the ledgers below, <i>each</i> is for one operation of the workload; the <i>ceiling</i> is what the resource carries \
             at that demand, whatever else is improved; the mark in a bar is where a resource counts as full ({:.0} %).</p>\n{stages}",
            FULL * 100.0
        )
    }

    fn stage(&self, index: usize, stage: &StageReport) -> String {
        let mut out = format!(
            "<section id=\"stage-{index}\">\n<h2>{}</h2>\n<p class=\"soft\">{}</p>\n",
            escaped(&stage.stage),
            escaped(&stage.idea)
        );
        if let Some(reason) = &stage.skipped {
            let _ = writeln!(out, "<p>Skipped: {}</p>\n</section>", escaped(reason));
            return out;
        }
        if let Some(found) = &stage.bottleneck {
            let _ = writeln!(
                out,
                "<p class=\"verdict\"><b>{}</b> <span class=\"badge\">{}</span>{}<br>{}</p>",
                escaped(&found.resource),
                found.reason,
                stage.proof.as_ref().map_or_else(String::new, badge),
                escaped(&found.evidence)
            );
            out += &list("Warnings", &found.warnings);
        }
        if let Some(ran) = markdown::ran(stage) {
            let _ = writeln!(out, "<p>Ran {}.</p>", escaped(&ran));
        }
        out += &self.ledger(index, stage);
        match &stage.proof {
            Some(proof) => out += &self.proof(index, proof),
            None if stage.bottleneck.is_some() => out += NOT_PROVEN,
            None => {}
        }
        if let Some(profile) = &stage.profile {
            out += &self.profile(index, profile);
        }
        let _ = writeln!(
            out,
            "<p{}>Violations: {}. {}</p>",
            bad(stage.violations > 0),
            self.figure(&format!("/stages/{index}/violations"), whole),
            escaped(&stage.verified)
        );
        out += &list("Broken promises, the first few", &stage.violation_examples);
        out += &self.probes(index, stage);
        out += "</section>\n";
        out
    }

    /// The resources just past the knee, a bar each; the CPU's parts stand under the CPU.
    fn ledger(&self, index: usize, stage: &StageReport) -> String {
        if stage.ledger.is_empty() {
            return "<p>The server has no ledger.</p>\n".to_owned();
        }
        let mut out = table(
            "The ledger just past the knee",
            &[
                "<resource",
                "<busy",
                "busy each, ms",
                "waited each, ms",
                "ceiling, req/s",
            ],
        );
        let part = |at: &usize| stage.ledger[*at].resource.starts_with(CPU_PARTS);
        let (parts, wholes): (Vec<usize>, Vec<usize>) = (0..stage.ledger.len()).partition(part);
        for row in wholes {
            out += &self.usage(index, stage, row);
            let of_this = |at: &&usize| {
                let name = stage.ledger[**at].resource.split('/').next();
                name == Some(stage.ledger[row].resource.as_str())
            };
            for part in parts.iter().filter(of_this) {
                out += &self.usage(index, stage, *part);
            }
        }
        out += "</tbody></table></div>\n";
        out
    }

    fn usage(&self, index: usize, stage: &StageReport, row: usize) -> String {
        let usage = &stage.ledger[row];
        let at = |key: &str| format!("/stages/{index}/ledger/{row}/{key}");
        let named = stage
            .bottleneck
            .as_ref()
            .is_some_and(|found| found.resource == usage.resource);
        let part = usage.resource.starts_with(CPU_PARTS);
        format!(
            "<tr{}><th scope=\"row\">{}<small>{}: {}</small></th><td><div class=\"busy\"><span class=\"bar\" aria-hidden=\"true\"><b style=\"width:{:.1}%\"></b><i style=\"left:{:.0}%\"></i></span>{}</div></td>\
             <td>{}</td><td>{}</td><td>{}</td></tr>\n",
            match (named, part) {
                (true, _) => " class=\"named\"",
                (_, true) => " class=\"part\"",
                _ => "",
            },
            escaped(&usage.resource),
            escaped(&usage.unit),
            usage.capacity,
            usage.utilisation.clamp(0.0, 1.0) * 100.0,
            FULL * 100.0,
            self.figure(&at("utilisation"), percent),
            self.figure(&at("demand_ms"), fine),
            self.figure(&at("wait_ms"), fine),
            self.figure(&at("ceiling_rps"), rate),
        )
    }

    fn proof(&self, index: usize, proof: &Proof) -> String {
        let (measure, value) = match proof.measure {
            Measure::Knee => ("knee", "knee then, req/s"),
            Measure::ResponseTime => ("response time", "response time then, ms"),
        };
        let mut out = format!("<h3>Proof{}</h3>\n<p>{}</p>\n", badge(proof), escaped(&proof.summary));
        out += &table(
            &format!("Each resource slowed in turn, and what the {measure} became"),
            &[
                "<slowed",
                "busy",
                "by",
                "predicted",
                "measured",
                value,
                "elasticity",
                "as predicted",
            ],
        );
        for (row, step) in proof.interventions.iter().enumerate() {
            let at = |key: &str| format!("/stages/{index}/proof/interventions/{row}/{key}");
            let mut predicted = self.figure(&at("predicted_low"), times);
            if step.predicted_low < step.predicted_high {
                predicted = format!("{predicted} to {}", self.figure(&at("predicted_high"), times));
            }
            let _ = writeln!(
                out,
                "<tr{}><th scope=\"row\">{}</th><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{} ± {}</td><td{}>{}</td></tr>",
                if proof.named.contains(&step.resource) {
                    " class=\"named\""
                } else {
                    ""
                },
                escaped(&step.resource),
                self.figure(&at("utilisation"), percent),
                self.figure(&at("factor"), times),
                predicted,
                self.figure(&at("measured"), times),
                self.figure(
                    &at("value"),
                    match proof.measure {
                        Measure::Knee => rate,
                        Measure::ResponseTime => ms,
                    }
                ),
                self.figure(&at("elasticity"), ms),
                self.figure(&at("elasticity_spread"), ms),
                bad(!step.as_predicted),
                if step.as_predicted { "yes" } else { "no" },
            );
        }
        let baselines: Vec<String> = (0..proof.baselines.len())
            .map(|row| {
                let place = format!("/stages/{index}/proof/baselines/{row}");
                self.figure(&place, if proof.measure == Measure::Knee { rate } else { ms })
            })
            .collect();
        let _ = writeln!(
            out,
            "</tbody></table></div>\n<p class=\"soft\">With nothing slowed the {measure} was {}. {} \
             Two measurements differ by {} through noise alone.</p>",
            baselines.join(", "),
            match proof.measure {
                Measure::Knee => "Elasticity: 1 for what sets the pace, 0 for a bystander.",
                Measure::ResponseTime =>
                    "Elasticity: 0 for a bystander; beyond 1 where a queue grows faster than what it waits for.",
            },
            self.figure(&format!("/stages/{index}/proof/spread"), percent),
        );
        if let Some(relief) = &proof.relief {
            out += &self.relief(index, relief);
        }
        if let Some(failed) = &proof.relief_failed {
            let _ = writeln!(out, "<p>Not relieved {}.</p>", escaped(failed));
        }
        out
    }

    fn relief(&self, index: usize, relief: &Relief) -> String {
        let at = |key: &str| format!("/stages/{index}/proof/relief/{key}");
        let mut out = table(
            "With more of what is named",
            &[
                "<flag",
                "from",
                "to",
                "knee then, req/s",
                "of what it was",
                "<gives then",
                "busy",
            ],
        );
        let next = relief.next.as_ref().map_or("-", |next| next.resource.as_str());
        let _ = writeln!(
            out,
            "<tr><th scope=\"row\">--{}</th><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td class=\"text\">{}</td><td>{}</td></tr>\n\
             </tbody></table></div>",
            escaped(&relief.knob),
            self.figure(&at("from"), plain),
            self.figure(&at("to"), plain),
            self.figure(&at("knee_rps"), rate),
            self.figure(&at("ratio"), times),
            escaped(next),
            self.figure(&at("next/utilisation"), percent),
        );
        out
    }

    fn profile(&self, index: usize, profile: &ProfileReport) -> String {
        let at = |key: &str| format!("/stages/{index}/profile/{key}");
        let mut out = format!(
            "<h3>What the server's CPU did</h3>\n<p>{} in code of the server and its libraries, {} in the kernel, {} in the runtime; {} samples.</p>\n",
            self.figure(&at("server"), percent),
            self.figure(&at("kernel"), percent),
            self.figure(&at("runtime"), percent),
            self.figure(&at("samples"), whole)
        );
        out += &table("The hottest functions", &["<function", "on the stack", "at the top"]);
        for (row, hot) in profile.hottest.iter().enumerate() {
            let _ = writeln!(
                out,
                "<tr><th scope=\"row\" class=\"text\"><code>{}</code></th><td>{}</td><td>{}</td></tr>",
                escaped(&hot.function),
                self.figure(&at(&format!("hottest/{row}/total")), percent),
                self.figure(&at(&format!("hottest/{row}/own")), percent)
            );
        }
        out += "</tbody></table></div>\n";
        // As a picture, not as part of the page: whatever is in it cannot run, and its styles stay its own.
        let _ = writeln!(
            out,
            "<figure><img alt=\"Flame graph of the server at its knee\" src=\"data:image/svg+xml,{}\"></figure>",
            percent_encoded(&profile.svg)
        );
        out
    }

    fn probes(&self, index: usize, stage: &StageReport) -> String {
        let mut out = format!("<details><summary>All {} probes</summary>\n", stage.probes.len());
        out += &table(
            "In the order in which they were made",
            &[
                "offered, req/s",
                "completed, req/s",
                "p50, ms",
                "p99, ms",
                "<for",
                "round",
                "viola\u{ad}tions",
                "<promises",
            ],
        );
        for (row, probe) in stage.probes.iter().enumerate() {
            let at = |key: &str| format!("/stages/{index}/probes/{row}/{key}");
            let _ = writeln!(
                out,
                "<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td><td>{}</td><td class=\"text\">{}</td><td>{}</td><td>{}</td><td class=\"text\">{}</td></tr>",
                self.figure(&at("offered_rps"), rate),
                self.figure(&at("achieved_rps"), rate),
                self.figure(&at("p50_ms"), ms),
                self.figure(&at("p99_ms"), ms),
                probe.phase,
                probe.round,
                self.figure(&at("violations"), whole),
                if probe.passed {
                    "kept".to_owned()
                } else {
                    escaped(&probe.missed.join("; "))
                },
            );
        }
        out += "</tbody></table></div>\n</details>\n";
        out
    }

    fn setting(&self) -> String {
        let report = self.report;
        let machine = &report.machine;
        let memory = format!("{} GiB", (machine.memory_bytes + (1 << 29)) >> 30);
        let set: Vec<String> = report
            .set
            .iter()
            .map(|(key, value)| format!("--{key} {value}"))
            .collect();
        let facts = [
            ("Command", report.command.clone()),
            ("Seed", report.seed.to_string()),
            ("Ended", report.date.clone()),
            ("CPU", format!("{}, {} cores", machine.cpu, machine.cores)),
            ("Memory", memory),
            ("System", machine.kernel.clone()),
            ("Compiler", machine.rustc.clone()),
            ("Clock", machine.clock_source.clone()),
            ("Data on", report.data_filesystem.clone()),
            ("Layout", report.layout.text.clone()),
            ("Items before the load", report.items.to_string()),
            (
                "Mix",
                report.mix.clone().unwrap_or_else(|| "the design's own".to_owned()),
            ),
            (
                "Flags of the servers",
                if set.is_empty() {
                    "none".to_owned()
                } else {
                    set.join(" ")
                },
            ),
            (
                "Slowed all the while",
                report.slowed.as_ref().map_or_else(
                    || "nothing".to_owned(),
                    |(resource, factor)| format!("{resource} by {factor}"),
                ),
            ),
            (
                "CPU quota of a server",
                report
                    .server_cpu_cores
                    .map_or_else(|| "none".to_owned(), |cores| format!("{cores} cores")),
            ),
        ];
        let facts: String = facts
            .iter()
            .map(|(name, text)| format!("<dt>{name}</dt><dd>{}</dd>\n", escaped(text)))
            .collect();
        format!("<section>\n<h2>How it was measured</h2>\n<dl>\n{facts}</dl>\n</section>\n")
    }
}

/// The run's JSON, folded in. A string in it cannot end the element: `<` stands in JSON only within strings, and is
/// written as an escape there, which any reader of JSON undoes.
fn raw(json: &str) -> String {
    format!(
        "<details>\n<summary>The whole run as JSON</summary>\n<script type=\"application/json\" id=\"run\">\n{}\n</script>\n</details>\n",
        json.replace('<', "\\u003c")
    )
}

/// The beginning of a table, up to its rows; `<` before a column's name puts it to the left, over words. The table scrolls by itself where the window is narrower.
fn table(caption: &str, columns: &[&str]) -> String {
    let columns: String = columns
        .iter()
        .map(|column| match column.strip_prefix('<') {
            Some(words) => format!("<th scope=\"col\" class=\"text\">{}</th>", escaped(words)),
            None => format!("<th scope=\"col\">{}</th>", escaped(column)),
        })
        .collect();
    let caption = escaped(caption);
    format!(
        "<div class=\"scroll\" role=\"region\" aria-label=\"{caption}\" tabindex=\"0\"><table>\n<caption>{caption}</caption>\n\
         <thead><tr>{columns}</tr></thead>\n<tbody>\n"
    )
}

fn list(title: &str, texts: &[String]) -> String {
    if texts.is_empty() {
        return String::new();
    }
    let items: String = texts
        .iter()
        .map(|text| format!("<li>{}</li>\n", escaped(text)))
        .collect();
    format!("<p>{title}:</p>\n<ul>\n{items}</ul>\n")
}

/// ` <span>proven</span>`.
fn badge(proof: &Proof) -> String {
    let word = match proof.finding {
        Finding::Proven => "proven",
        Finding::Balanced => "balanced",
        Finding::Unproven => "unproven",
    };
    format!(" <span class=\"badge {word}\">{word}</span>")
}

fn bad(is: bool) -> &'static str {
    if is { " class=\"bad\"" } else { "" }
}

/// Everything but letters and digits, as a URL wants it.
fn percent_encoded(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes())
        .collect::<String>()
        .replace('+', "%20")
}

fn ms(value: f64) -> String {
    format!("{value:.2}")
}

/// Milliseconds of a single resource are often microseconds.
fn fine(value: f64) -> String {
    format!("{value:.3}")
}

fn percent(value: f64) -> String {
    let decimals = usize::from(value.abs() < 0.0995);
    format!("{:.decimals$} %", value * 100.0)
}

fn times(value: f64) -> String {
    format!("× {value:.2}")
}

fn whole(value: f64) -> String {
    format!("{value:.0}")
}

fn plain(value: f64) -> String {
    value.to_string()
}
