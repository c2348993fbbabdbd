//! What primary keys cost as a picture: rows a second against rows in the table.
//!
//! One panel for each engine and cache, those of an engine side by side on one scale. A point is a slice of the rows, drawn in
//! its middle. Both axes are linear and begin at zero, because what is to be seen is by how much a line falls. The kind is
//! colour, dash and marker, as in the picture of a climb; a clustered table has its kind's, with hollow markers. The names are
//! above the panels, once: lines of kinds that cost the same lie upon each other, and would leave no room at their ends.

use crate::keys::Kind;
use crate::output::keys::{KeyTable, KeysReport, KeysRun, Slice};
use crate::output::keys_table::{name, title};
use crate::output::picture::{BOLD_LETTER, Canvas, Width, colour, short};
use crate::output::text::grouped;

/// Between a panel and the next, with room for the labels of its axis.
const GAP: f64 = 28.0;
const HEIGHT: f64 = 170.0;
/// How many labels an axis has room for.
const TICKS: u32 = 6;

/// The picture of a run; a note in its place when nothing was measured.
pub fn svg(report: &KeysReport) -> String {
    let mut canvas = Canvas::of(Width::Page);
    canvas.wrapped(
        "What a primary key costs: rows a second while a table grows",
        "lb-text",
        true,
        15,
    );
    let runs: Vec<&KeysRun> = report.runs.iter().filter(|run| !run.tables.is_empty()).collect();
    if runs.is_empty() {
        canvas.paragraph("Nothing was measured.");
    } else {
        canvas.paragraph(&format!(
            "Rows of a key and {} bytes, {} a commit, each commit durable. Across: rows in the table. Hollow: the rows themselves \
             are stored in the order of the key. Left and right differ in the database's own cache alone, and share a scale.",
            report.payload_bytes,
            grouped(&report.rows_a_commit.to_string())
        ));
        legend(&mut canvas, &runs);
        for engine in runs.chunk_by(|one, other| one.engine == other.engine) {
            row(&mut canvas, engine);
        }
        canvas.y += 14.0;
    }
    canvas.finish(&description(report))
}

/// What the picture shows, for those who do not see it.
fn description(report: &KeysReport) -> String {
    let run = |run: &KeysRun| {
        let table = |table: &KeyTable| {
            let rates = [table.first_tenth_rows_per_second, table.last_tenth_rows_per_second].map(short_rate);
            format!("{} {} to {}", name(table.key, table.clustered), rates[0], rates[1])
        };
        let tables: Vec<String> = run.tables.iter().map(table).collect();
        format!("{}: {}", title(run), tables.join(", "))
    };
    let runs: Vec<String> = report.runs.iter().map(run).collect();
    format!(
        "Rows a second in the first and in the last tenth of a table. {}",
        runs.join("; ")
    )
}

/// Three digits: more would be noise.
fn short_rate(rate: f64) -> String {
    let scale = 10f64.powf(rate.max(1.0).log10().floor() - 2.0).max(1.0);
    short((rate / scale).round() * scale)
}

/// The place of a kind among all, from which its colour, dash and marker follow.
fn index(kind: Kind) -> usize {
    Kind::ALL.iter().position(|other| *other == kind).unwrap_or_default()
}

fn markers(table: &KeyTable) -> &'static str {
    if table.clustered { "lb-hollow" } else { "lb-solid" }
}

/// All that is drawn anywhere, with its line, in as many rows as it takes.
fn legend(canvas: &mut Canvas, runs: &[&KeysRun]) {
    const LINE: f64 = 34.0;
    let mut named: Vec<&KeyTable> = Vec::new();
    for table in runs.iter().flat_map(|run| &run.tables) {
        if !named
            .iter()
            .any(|other| (other.key, other.clustered) == (table.key, table.clustered))
        {
            named.push(table);
        }
    }
    canvas.y += 22.0;
    let mut x = 16.0;
    for table in named {
        let name = name(table.key, table.clustered);
        let width = LINE + 8.0 + name.chars().count() as f64 * BOLD_LETTER + 12.0;
        if x + width > canvas.width - 16.0 {
            x = 16.0;
            canvas.y += 20.0;
        }
        let (middle, index) = (canvas.y - 4.0, index(table.key));
        canvas.curve(&[(x, middle), (x + LINE, middle)], index, markers(table));
        let class = format!("lb-name {}", colour(index));
        canvas.text(x + LINE + 8.0, canvas.y, &class, "start", 12, false, &name);
        x += width;
    }
}

/// The panels of one engine.
fn row(canvas: &mut Canvas, runs: &[&KeysRun]) {
    let slices = || runs.iter().flat_map(|run| &run.tables).map(|table| &table.slices);
    let fastest = slices()
        .flatten()
        .map(|slice| Slice::rate(&[*slice]))
        .fold(0.0, f64::max);
    let most = slices().map(|slices| total(slices)).fold(0.0, f64::max);
    let (first, last) = (58.0, canvas.width - 24.0);
    let wide = (last - first - GAP * (runs.len() - 1) as f64) / runs.len() as f64;
    canvas.y += 34.0;
    let heading = canvas.y;
    let (top, bottom) = (heading + 14.0, heading + 14.0 + HEIGHT);
    for (place, run) in runs.iter().enumerate() {
        let left = first + place as f64 * (wide + GAP);
        let panel = Panel {
            x: Linear {
                end: most,
                to: (left, left + wide),
            },
            y: Linear {
                end: fastest * 1.06,
                to: (bottom, top),
            },
        };
        canvas.text(left, heading, "lb-text", "start", 13, true, &title(run));
        panel.axes(canvas, place == 0);
        for table in &run.tables {
            canvas.curve(&panel.points(&table.slices), index(table.key), markers(table));
        }
    }
    canvas.y = bottom + 18.0;
}

fn total(slices: &[Slice]) -> f64 {
    slices.iter().map(|slice| slice.rows as f64).sum()
}

/// Where one run is drawn.
struct Panel {
    x: Linear,
    y: Linear,
}

impl Panel {
    fn axes(&self, canvas: &mut Canvas, labelled: bool) {
        let ((left, right), (bottom, top)) = (self.x.to, self.y.to);
        for tick in self.y.ticks(TICKS) {
            let y = self.y.at(tick);
            canvas.line((left, y), (right, y), "lb-grid", "");
            if labelled {
                canvas.text(left - 7.0, y + 4.0, "lb-soft", "end", 12, false, &short(tick));
            }
        }
        for tick in self.x.ticks(TICKS) {
            let x = self.x.at(tick);
            canvas.line((x, top), (x, bottom), "lb-grid", "");
            canvas.text(x, bottom + 16.0, "lb-soft", "middle", 12, false, &short(tick));
        }
        canvas.line((left, bottom), (right, bottom), "lb-axis", "");
    }

    /// Each slice in its middle.
    fn points(&self, slices: &[Slice]) -> Vec<(f64, f64)> {
        let mut rows = 0.0;
        let point = |slice: &Slice| {
            let middle = rows + slice.rows as f64 / 2.0;
            rows += slice.rows as f64;
            (self.x.at(middle), self.y.at(Slice::rate(&[*slice])))
        };
        slices.iter().map(point).collect()
    }
}

/// A scale from zero.
#[derive(Clone, Copy)]
struct Linear {
    end: f64,
    to: (f64, f64),
}

impl Linear {
    fn at(self, value: f64) -> f64 {
        self.to.0 + value / self.end * (self.to.1 - self.to.0)
    }

    /// Round values from zero on, as close as they can be without being more than so many.
    fn ticks(self, most: u32) -> Vec<f64> {
        let decade = 10f64.powf(self.end.log10().floor() - 1.0);
        let steps = [1.0, 2.0, 2.5, 5.0, 10.0, 20.0, 25.0, 50.0].map(|step| step * decade);
        let fits = |step: &f64| self.end / step < f64::from(most);
        let step = steps.into_iter().find(fits).unwrap_or(self.end);
        (0..most)
            .map(|tick| f64::from(tick) * step)
            .filter(|tick| *tick <= self.end)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::keys_table::tests::report;

    #[test]
    fn every_table_has_its_line_and_every_run_its_panel() {
        let report = report();
        let svg = svg(&report);
        // Seven names in the legend, and the tables of four runs.
        assert_eq!(svg.matches("<polyline").count(), 7 + 7 + 7 + 5 + 5);
        for run in &report.runs {
            assert_eq!(svg.matches(&format!(">{}</text>", title(run))).count(), 1);
        }
        assert_eq!(svg.matches(">UUIDv4, clustered</text>").count(), 1);
        assert!(svg.contains("UUIDv4 200k to 20k"), "those who do not see it are told");
    }

    #[test]
    fn a_slower_table_is_drawn_lower_and_at_its_place() {
        let panel = Panel {
            x: Linear {
                end: 200.0,
                to: (100.0, 300.0),
            },
            y: Linear {
                end: 50.0,
                to: (200.0, 100.0),
            },
        };
        let slices = [(100, 2.0), (100, 4.0)].map(|(rows, seconds)| Slice { rows, seconds });
        assert_eq!(panel.points(&slices), [(150.0, 100.0), (250.0, 150.0)]);
    }

    #[test]
    fn axes_are_labelled_with_round_values_from_zero() {
        let ticks = |end| Linear { end, to: (0.0, 1.0) }.ticks(6);
        assert_eq!(ticks(1_000_000.0), [0.0, 200e3, 400e3, 600e3, 800e3, 1e6]);
        assert_eq!(ticks(42.0), [0.0, 10.0, 20.0, 30.0, 40.0]);
        assert_eq!(ticks(636_000.0), [0.0, 200e3, 400e3, 600e3]);
        for end in [1.0, 3.7, 9.99, 123.0, 5e8] {
            let ticks = ticks(end);
            assert!((3..=6).contains(&ticks.len()), "{end}: {ticks:?}");
        }
    }

    #[test]
    fn another_rate_is_another_picture() {
        let mut report = report();
        let before = svg(&report);
        report.runs[0].tables[1].slices[9].seconds *= 2.0;
        assert_ne!(svg(&report), before);
    }

    #[test]
    fn nothing_measured_is_a_picture_too() {
        let mut report = report();
        report.runs.clear();
        assert!(svg(&report).contains("Nothing was measured."));
    }

    #[test]
    fn texts_stay_inside_and_no_figure_is_broken() {
        let svg = svg(&report());
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        let xs = svg
            .split("x=\"")
            .skip(1)
            .filter_map(|rest| rest.split('"').next()?.parse::<f64>().ok());
        assert!(xs.into_iter().all(|x| (0.0..=760.0).contains(&x)));
    }
}
