//! A climb as a picture: latency against offered rate, all stages in one SVG.
//!
//! # What is drawn
//!
//! Three panels above one logarithmic rate axis. On top the knees, a row a stage: the row is label and legend at once, so
//! labels cannot run into each other however close the knees are. Below it the p99 and the median response time. A small
//! dot is one probe; the line goes through the medians of probes at the same rate (within 5 %, the search's resolution),
//! because single probes on a small machine scatter. Latencies are cut at ten times the laxest promise: how long a queue
//! gets in the seconds of a probe past the knee says something of the probe, not of the server.
//!
//! # How it stays legible
//!
//! A stage differs in colour, dash and marker, so that it can be told apart without colours. Colours are for a light
//! ground, a dark one where the reader prefers that, and a light one on paper. The picture brings its own ground: a page
//! around it may be of the other kind. There is nothing to fetch: no font, no script.

use std::fmt::Write;

use crate::output::climb::{ClimbReport, Phase, ProbeReport, StageReport};
use crate::output::markdown::knee;
use crate::output::text::rate;

/// How wide a picture is drawn, in CSS pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Width {
    /// For a page and for paper: 760.
    Page,
    /// For a telephone: 370.
    Phone,
}

/// Probes within this factor of each other are at the same rate.
const SAME_RATE: f64 = 1.05;
/// Latencies above this many times the laxest promise are drawn at the edge.
const CUT: f64 = 10.0;
/// How many colours, dashes and markers there are; a seventh stage begins again, with another marker.
const COLOURS: usize = 6;
const MARKERS: usize = 5;
const DASHES: [&str; COLOURS] = ["none", "7 3", "2 3", "9 3 2 3", "4 2", "12 4"];

/// How wide a letter of 12 pixels is on average, on the safe side: fonts differ, and nothing here can measure one.
const LETTER: f64 = 6.5;
pub(super) const BOLD_LETTER: f64 = 8.0;

const ROW: f64 = 23.0;

/// What every picture brings along. The classes have a prefix because the picture also stands inside a page.
const STYLE: &str = "\
.lb-ground{fill:#fff;stroke:#d8dce2}.lb-text{fill:#1c2128}.lb-soft{fill:#59636e}.lb-grid{stroke:#e6e9ed}\
.lb-axis{stroke:#8c959f}.lb-slo{stroke:#b3261e}.lb-slo-text{fill:#b3261e}\
.lb-0{--c:#0068b0}.lb-1{--c:#c4500a}.lb-2{--c:#0a7a58}.lb-3{--c:#9c3f85}.lb-4{--c:#80660a}.lb-5{--c:#4b535c}\
.lb-hollow{fill:#fff}.lb-halo{stroke:#fff}\
@media screen and (prefers-color-scheme:dark){\
.lb-ground{fill:#14181d;stroke:#353c45}.lb-text{fill:#e8ecf0}.lb-soft{fill:#a2abb5}.lb-grid{stroke:#2a3038}\
.lb-axis{stroke:#6c7681}.lb-slo{stroke:#ff8a80}.lb-slo-text{fill:#ff8a80}\
.lb-0{--c:#5cb8f5}.lb-1{--c:#f59a55}.lb-2{--c:#3fcf9f}.lb-3{--c:#e795cc}.lb-4{--c:#e3c74f}.lb-5{--c:#c3cad2}\
.lb-hollow{fill:#14181d}.lb-halo{stroke:#14181d}}\
.lb-line{stroke:var(--c);fill:none;stroke-width:2;stroke-linejoin:round}.lb-solid{fill:var(--c);stroke:var(--c)}\
.lb-hollow{stroke:var(--c)}.lb-name{fill:var(--c);font-weight:600}.lb-drop{stroke:var(--c);opacity:.45}\
.lb-halo{stroke-width:4;stroke-linejoin:round;paint-order:stroke}";

/// The picture of a climb; a note in its place when no stage was measured.
pub fn svg(report: &ClimbReport, width: Width) -> String {
    let mut canvas = Canvas::of(width);
    canvas.wrapped(&title(report), "lb-text", true, 15);
    let curves: Vec<Curve<'_>> = report.stages.iter().enumerate().filter_map(Curve::of).collect();
    match rates(&curves) {
        Some(domain) => draw(&mut canvas, &curves, &limits(report), domain),
        None => canvas.paragraph("No stage of this climb was measured."),
    }
    canvas.finish(&description(report))
}

/// What the picture shows, for those who do not see it.
pub fn description(report: &ClimbReport) -> String {
    let knees: Vec<String> = report
        .stages
        .iter()
        .filter(|stage| stage.knee_rps.is_some())
        .map(|stage| format!("{} {}", stage.stage, knee(stage)))
        .collect();
    if knees.is_empty() {
        return format!("{}: nothing was measured", report.design);
    }
    format!(
        "Response time of {} against offered rate, with the knees in requests a second: {}",
        report.design,
        knees.join(", ")
    )
}

fn title(report: &ClimbReport) -> String {
    format!("{}: latency against offered rate", report.design)
}

/// Text that can stand in HTML and XML, in an element or in a quoted attribute.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // XML has no way to write these at all.
            _ if letter.is_control() && !matches!(letter, '\n' | '\t') => out.push('\u{fffd}'),
            '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            _ => out.push(letter),
        }
    }
    out
}

/// One stage, and how it looks.
struct Curve<'a> {
    stage: &'a StageReport,
    /// Its place in the ladder, from which its colour, dash and marker follow.
    index: usize,
    probes: Vec<&'a ProbeReport>,
}

impl<'a> Curve<'a> {
    /// Nothing for a stage that was skipped.
    fn of((index, stage): (usize, &'a StageReport)) -> Option<Self> {
        let mut probes: Vec<&ProbeReport> = stage
            .probes
            .iter()
            .filter(|probe| matches!(probe.phase, Phase::Search | Phase::Confirm | Phase::Past))
            // A probe without an answer has no latency.
            .filter(|probe| probe.offered_rps > 0.0 && probe.p50_ms > 0.0 && probe.p99_ms > 0.0)
            .collect();
        probes.sort_by(|a, b| a.offered_rps.total_cmp(&b.offered_rps));
        (!probes.is_empty()).then_some(Self { stage, index, probes })
    }

    fn colour(&self) -> String {
        colour(self.index)
    }

    /// Medians over the probes at the same rate: rate and latency.
    fn medians(&self, latency: fn(&ProbeReport) -> f64) -> Vec<(f64, f64)> {
        let mut rest = self.probes.as_slice();
        std::iter::from_fn(|| {
            let first = rest.first()?.offered_rps;
            let end = rest.partition_point(|probe| probe.offered_rps <= first * SAME_RATE);
            let (group, more) = rest.split_at(end);
            rest = more;
            Some(group)
        })
        .map(|group| {
            (
                median(group.iter().map(|probe| probe.offered_rps).collect()),
                median(group.iter().map(|probe| latency(probe)).collect()),
            )
        })
        .collect()
    }
}

/// The class of a colour.
pub(super) fn colour(index: usize) -> String {
    format!("lb-{}", index % COLOURS)
}

/// The middle of values of which there is at least one.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let upper = values.len() / 2;
    let lower = (values.len() - 1) / 2;
    (values[lower] + values[upper]) / 2.0
}

/// The rates to show: those of the probes and the knees, with a little room; `None` when there are none.
fn rates(curves: &[Curve<'_>]) -> Option<(f64, f64)> {
    let all = curves.iter().flat_map(|curve| {
        let probes = curve.probes.iter().map(|probe| probe.offered_rps);
        let knees = [curve.stage.knee_min_rps, curve.stage.knee_max_rps];
        probes.chain(knees.into_iter().flatten().filter(|knee| *knee > 0.0))
    });
    span(all).map(|(low, high)| (low / 1.15, high * 1.15))
}

fn span(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.fold(None, |span, value| match span {
        None => Some((value, value)),
        Some((low, high)) => Some((low.min(value), high.max(value))),
    })
}

/// A logarithmic scale from values to pixels.
#[derive(Clone, Copy)]
struct Scale {
    from: (f64, f64),
    to: (f64, f64),
}

impl Scale {
    fn at(self, value: f64) -> f64 {
        let (low, high) = self.from;
        let share = (value.clamp(low, high) / low).ln() / (high / low).ln();
        self.to.0 + share * (self.to.1 - self.to.0)
    }

    /// Round values, as close as they can be without being more than so many.
    fn ticks(self, most: usize) -> Vec<f64> {
        const FINE: [f64; 10] = [1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0];
        let (low, high) = self.from;
        let all = |steps: &[f64]| -> Vec<f64> {
            #[expect(clippy::cast_possible_truncation, reason = "a decade, between -300 and 300")]
            let decades = (low.log10().floor() as i32)..=(high.log10().ceil() as i32);
            decades
                .flat_map(|decade| steps.iter().map(move |step| step * 10f64.powi(decade)))
                .filter(|tick| (low..=high).contains(tick))
                .collect()
        };
        [&FINE[..], &[1.0, 2.0, 5.0], &[1.0, 3.0], &[1.0]]
            .into_iter()
            .map(all)
            .find(|ticks| ticks.len() <= most)
            .unwrap_or_default()
    }
}

fn draw(canvas: &mut Canvas, curves: &[Curve<'_>], limits: &[(f64, String)], domain: (f64, f64)) {
    let x = Scale {
        from: domain,
        to: (canvas.left, canvas.right),
    };
    canvas.paragraph(
        "A dot is a probe: filled when every promise was kept, hollow when one was broken. Lines join the medians of probes \
         at the same rate. Both axes are logarithmic.",
    );
    canvas.heading("Knee");
    canvas.paragraph(
        "The highest rate served within the promises, in requests a second. Bar: from the lowest to the highest round.",
    );
    canvas.y += 6.0;
    let top = canvas.y;
    let rows = top + ROW * curves.len() as f64;
    grid(canvas, x, (top, rows));
    for curve in curves {
        lane(canvas, curve, x);
    }
    canvas.y = rows;
    let cut = limits
        .iter()
        .map(|(limit, _)| *limit)
        .fold(None, |laxest: Option<f64>, limit| {
            Some(laxest.map_or(limit, |laxest| laxest.max(limit)))
        });
    let cut = cut.map_or(f64::INFINITY, |laxest| laxest * CUT);
    canvas.heading("p99 response time");
    let promised: Vec<String> = limits
        .iter()
        .map(|(limit, kinds)| format!("{} for {kinds}", time(*limit)))
        .collect();
    if !promised.is_empty() {
        canvas.paragraph(&format!(
            "Of all operations together. Dotted: what is promised, {}.",
            promised.join(", ")
        ));
    }
    canvas.y += 12.0;
    panel(canvas, curves, x, 230.0, |probe| probe.p99_ms, limits, cut);
    canvas.heading("Median response time");
    canvas.y += 12.0;
    panel(canvas, curves, x, 160.0, |probe| probe.p50_ms, &[], cut);
    for tick in x.ticks(canvas.rates) {
        canvas.text(
            x.at(tick),
            canvas.y + 16.0,
            "lb-soft",
            "middle",
            12,
            false,
            &short(tick),
        );
    }
    canvas.y += 36.0;
    let middle = f64::midpoint(canvas.left, canvas.right);
    canvas.text(
        middle,
        canvas.y,
        "lb-soft",
        "middle",
        12,
        false,
        "offered rate, requests a second",
    );
}

/// The promised p99, the strictest first, and for which kinds: those of which there was any in the load.
fn limits(report: &ClimbReport) -> Vec<(f64, String)> {
    let loaded = |kind: &str| {
        report.mix.as_ref().is_none_or(|mix| {
            let mut shares = mix.split(',').filter_map(|part| part.split_once('='));
            shares.any(|(name, share)| name.trim() == kind && share.trim().parse() != Ok(0.0))
        })
    };
    let mut limits: Vec<(f64, String)> = Vec::new();
    for kind in report.slo.kinds.iter().filter(|kind| loaded(&kind.kind)) {
        let Some(limit) = kind.p99_ms.filter(|limit| *limit > 0.0) else {
            continue;
        };
        match limits.iter_mut().find(|(other, _)| *other == limit) {
            Some((_, kinds)) => *kinds += &format!(" and {}", kind.kind),
            None => limits.push((limit, kind.kind.clone())),
        }
    }
    limits.sort_by(|a, b| a.0.total_cmp(&b.0));
    limits
}

/// One row of the knees: the spread, the median, and the name beside it, on the side that has room.
fn lane(canvas: &mut Canvas, curve: &Curve<'_>, x: Scale) {
    let stage = curve.stage;
    let middle = canvas.y + ROW / 2.0;
    canvas.y += ROW;
    let colour = curve.colour();
    let Some(median) = stage.knee_rps.filter(|median| *median > 0.0) else {
        let text = format!("{}: no rate was served within the promises", stage.stage);
        canvas.text(
            canvas.left + 4.0,
            middle + 4.0,
            &format!("lb-name {colour}"),
            "start",
            12,
            false,
            &text,
        );
        return;
    };
    let (low, high) = (
        x.at(stage.knee_min_rps.unwrap_or(median)),
        x.at(stage.knee_max_rps.unwrap_or(median)),
    );
    canvas.line(
        (low, middle),
        (high, middle),
        &format!("lb-line {colour}"),
        "stroke-width=\"4\" opacity=\".5\"",
    );
    canvas.marker(curve.index, (x.at(median), middle), 5.0, &format!("lb-solid {colour}"));
    let bound = if stage.rig_limited { "≥ " } else { "" };
    let left = low - canvas.left;
    let (at, anchor) = if left > canvas.right - high {
        (low - 11.0, "end")
    } else {
        (high + 11.0, "start")
    };
    let class = format!("lb-name lb-halo {colour}");
    let text = format!("{} {bound}{}", stage.stage, rate(median));
    canvas.text(at, middle + 4.0, &class, anchor, 12, false, &text);
}

fn grid(canvas: &mut Canvas, x: Scale, (top, bottom): (f64, f64)) {
    for tick in x.ticks(canvas.rates) {
        canvas.line((x.at(tick), top), (x.at(tick), bottom), "lb-grid", "");
    }
}

/// Latencies of all stages on one logarithmic scale.
fn panel(
    canvas: &mut Canvas,
    curves: &[Curve<'_>],
    x: Scale,
    height: f64,
    latency: fn(&ProbeReport) -> f64,
    limits: &[(f64, String)],
    cut: f64,
) {
    let (top, bottom) = (canvas.y, canvas.y + height);
    canvas.y = bottom;
    let latencies = curves
        .iter()
        .flat_map(|curve| curve.probes.iter().map(|probe| latency(probe).min(cut)));
    let Some((low, high)) = span(latencies.chain(limits.iter().map(|(limit, _)| *limit))) else {
        return;
    };
    let y = Scale {
        from: (low / 1.3, high * 1.3),
        to: (bottom, top),
    };
    grid(canvas, x, (top, bottom));
    for tick in y.ticks(5) {
        canvas.line((canvas.left, y.at(tick)), (canvas.right, y.at(tick)), "lb-grid", "");
        canvas.text(
            canvas.left - 7.0,
            y.at(tick) + 4.0,
            "lb-soft",
            "end",
            12,
            false,
            &time(tick),
        );
    }
    canvas.line((canvas.left, bottom), (canvas.right, bottom), "lb-axis", "");
    let (mut ends, mut taken) = (Vec::new(), Vec::new());
    let mut below = f64::INFINITY;
    for (limit, _) in limits {
        let at = y.at(*limit);
        canvas.line(
            (canvas.left, at),
            (canvas.right, at),
            "lb-slo",
            "stroke-width=\"1.5\" stroke-dasharray=\"1.5 3\"",
        );
        // Two limits may be close; their labels are not.
        below = (at + 4.0).min(below - 13.0);
        canvas.text(
            canvas.right + 6.0,
            below,
            "lb-slo-text",
            "start",
            12,
            false,
            &time(*limit),
        );
        taken.push(Area {
            left: canvas.right,
            top: below - 11.0,
            right: canvas.width,
            bottom: below + 3.0,
        });
    }
    for curve in curves {
        let colour = curve.colour();
        if let Some(knee) = curve.stage.knee_rps.filter(|knee| *knee > 0.0) {
            canvas.line(
                (x.at(knee), top),
                (x.at(knee), bottom),
                &format!("lb-drop {colour}"),
                "stroke-width=\"1.2\"",
            );
            canvas.marker(curve.index, (x.at(knee), top), 4.0, &format!("lb-solid {colour}"));
        }
        for probe in &curve.probes {
            let kind = if probe.passed { "lb-solid" } else { "lb-hollow" };
            let at = (x.at(probe.offered_rps), y.at(latency(probe).min(cut)));
            canvas.dot(at, &format!("{kind} {colour}"));
        }
    }
    for curve in curves {
        let points: Vec<(f64, f64)> = curve
            .medians(latency)
            .into_iter()
            .map(|(rate, value)| (x.at(rate), y.at(value.min(cut))))
            .collect();
        canvas.curve(&points, curve.index, "lb-solid");
        ends.extend(points.last().map(|point| (*point, curve)));
        taken.extend(along(&points).map(|(x, y)| Area::around(x, y, 4.0)));
    }
    for (end, curve) in ends {
        canvas.name(end, curve, top, &mut taken);
    }
}

/// Points all along a line, close enough that no letter fits between two of them.
fn along(points: &[(f64, f64)]) -> impl Iterator<Item = (f64, f64)> {
    let ends = points.windows(2).flat_map(|ends| {
        let [(x, y), (to_x, to_y)] = [ends[0], ends[1]];
        let steps = (to_x - x).hypot(to_y - y) / 6.0;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a count of pixels"
        )]
        let count = steps.ceil() as u32;
        (0..count).map(move |step| {
            let share = f64::from(step) / steps;
            (x + (to_x - x) * share, y + (to_y - y) * share)
        })
    });
    ends.chain(points.last().copied())
}

/// A part of the picture that something fills.
#[derive(Clone, Copy)]
struct Area {
    left: f64,
    top: f64,
    right: f64,
    bottom: f64,
}

impl Area {
    fn around(x: f64, y: f64, by: f64) -> Self {
        Self {
            left: x - by,
            top: y - by,
            right: x + by,
            bottom: y + by,
        }
    }

    fn meets(self, other: Self) -> bool {
        self.left < other.right && other.left < self.right && self.top < other.bottom && other.top < self.bottom
    }
}

/// `800`, `12k`, `1.5M`.
pub(super) fn short(value: f64) -> String {
    match value {
        _ if value >= 1e6 => format!("{}M", trimmed(value / 1e6)),
        _ if value >= 1e3 => format!("{}k", trimmed(value / 1e3)),
        _ => trimmed(value),
    }
}

/// `0.5 ms`, `20 ms`, `2 s`.
fn time(ms: f64) -> String {
    if ms >= 1e3 {
        format!("{} s", trimmed(ms / 1e3))
    } else {
        format!("{} ms", trimmed(ms))
    }
}

/// At most three decimals, and no zeros behind.
fn trimmed(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// What has been drawn so far, and how far down. Writing into a String cannot fail.
pub(super) struct Canvas {
    body: String,
    pub(super) width: f64,
    /// Where plots begin and end.
    pub(super) left: f64,
    pub(super) right: f64,
    /// How many rates the axis has room for.
    rates: usize,
    /// Everything above this is taken.
    pub(super) y: f64,
}

impl Canvas {
    /// An empty one.
    pub(super) fn of(width: Width) -> Self {
        let wide = match width {
            Width::Page => 760.0,
            Width::Phone => 370.0,
        };
        Self {
            body: String::new(),
            width: wide,
            left: 66.0,
            right: wide - 66.0,
            rates: if width == Width::Page { 8 } else { 5 },
            y: 10.0,
        }
    }

    #[expect(clippy::too_many_arguments, reason = "each is an attribute of an SVG text")]
    pub(super) fn text(&mut self, x: f64, y: f64, class: &str, anchor: &str, size: u32, bold: bool, text: &str) {
        let weight = if bold { " font-weight=\"600\"" } else { "" };
        let _ = writeln!(
            self.body,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" class=\"{class}\" text-anchor=\"{anchor}\" font-size=\"{size}\"{weight}>{}</text>",
            escaped(text)
        );
    }

    pub(super) fn line(&mut self, from: (f64, f64), to: (f64, f64), class: &str, more: &str) {
        let _ = writeln!(
            self.body,
            "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" class=\"{class}\" {more}/>",
            from.0, from.1, to.0, to.1
        );
    }

    fn dot(&mut self, (x, y): (f64, f64), class: &str) {
        let _ = writeln!(
            self.body,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2\" class=\"{class}\" opacity=\".55\"/>"
        );
    }

    /// A line in the colour, dash and marker of this index; its markers are `lb-solid` or `lb-hollow`.
    pub(super) fn curve(&mut self, points: &[(f64, f64)], index: usize, markers: &str) {
        let colour = colour(index);
        let path: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = writeln!(
            self.body,
            "<polyline class=\"lb-line {colour}\" stroke-dasharray=\"{}\" points=\"{}\"/>",
            DASHES[index % COLOURS],
            path.join(" ")
        );
        for point in points {
            self.marker(index, *point, 3.6, &format!("{markers} {colour}"));
        }
    }

    /// A curve's name at its end, on the first side with room. Where there is none, the row of its knee names it all the same.
    fn name(&mut self, (x, y): (f64, f64), curve: &Curve<'_>, top: f64, taken: &mut Vec<Area>) {
        let name = &curve.stage.stage;
        let width = name.chars().count() as f64 * BOLD_LETTER;
        let sides = [
            (x + 9.0, y + 4.0),
            (x - 9.0 - width, y + 4.0),
            (x - width / 2.0, y - 9.0),
            (x - width / 2.0, y + 19.0),
            (x - width, y - 9.0),
            (x + 9.0, y + 17.0),
        ];
        let room = sides.into_iter().find_map(|(left, base)| {
            let area = Area {
                left,
                top: base - 11.0,
                right: left + width,
                bottom: base + 3.0,
            };
            let inside = left >= self.left && area.right <= self.width - 8.0 && area.top >= top;
            (inside && !taken.iter().any(|other| area.meets(*other))).then_some((left, base, area))
        });
        if let Some((left, base, area)) = room {
            taken.push(area);
            let class = format!("lb-name lb-halo {}", curve.colour());
            self.text(left, base, &class, "start", 12, false, name);
        }
    }

    /// Disc, square, triangle, diamond, triangle on its head: equally large to the eye.
    pub(super) fn marker(&mut self, index: usize, (x, y): (f64, f64), size: f64, class: &str) {
        let corners: &[(f64, f64)] = match index % MARKERS {
            0 => {
                let _ = writeln!(
                    self.body,
                    "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{size}\" class=\"{class}\"/>"
                );
                return;
            }
            1 => &[(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
            2 => &[(0.0, -1.2), (1.15, 0.9), (-1.15, 0.9)],
            3 => &[(0.0, -1.3), (1.3, 0.0), (0.0, 1.3), (-1.3, 0.0)],
            _ => &[(0.0, 1.2), (1.15, -0.9), (-1.15, -0.9)],
        };
        let points: Vec<String> = corners
            .iter()
            .map(|(right, down)| format!("{:.1},{:.1}", x + right * size, y + down * size))
            .collect();
        let _ = writeln!(
            self.body,
            "<polygon points=\"{}\" class=\"{class}\"/>",
            points.join(" ")
        );
    }

    /// The whole file; `description` is for those who do not see it.
    pub(super) fn finish(self, description: &str) -> String {
        let (wide, height) = (self.width, self.y + 16.0);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {wide:.0} {height:.0}\" width=\"{wide:.0}\" height=\"{height:.0}\" \
             role=\"img\" aria-label=\"{}\" font-family=\"system-ui,-apple-system,'Segoe UI',sans-serif\">\n<style>{STYLE}</style>\n\
             <rect class=\"lb-ground\" x=\".5\" y=\".5\" width=\"{:.0}\" height=\"{:.0}\" rx=\"8\"/>\n{}</svg>\n",
            escaped(description),
            wide - 1.0,
            height - 1.0,
            self.body
        )
    }

    /// Soft text over the whole width, in as many lines as it takes.
    pub(super) fn paragraph(&mut self, text: &str) {
        self.y += 2.0;
        self.wrapped(text, "lb-soft", false, 12);
    }

    /// What the next panel shows.
    fn heading(&mut self, text: &str) {
        self.y += 22.0;
        self.wrapped(text, "lb-text", true, 13);
    }

    pub(super) fn wrapped(&mut self, text: &str, class: &str, bold: bool, size: u32) {
        let letter = if bold { BOLD_LETTER } else { LETTER } * f64::from(size) / 12.0;
        let fits = |line: &str| line.chars().count() as f64 * letter <= self.width - 32.0;
        let mut lines = vec![String::new()];
        for word in text.split(' ') {
            match lines.last_mut() {
                Some(line) if line.is_empty() => line.push_str(word),
                Some(line) if fits(&format!("{line} {word}")) => *line += &format!(" {word}"),
                _ => lines.push(word.to_owned()),
            }
        }
        for line in lines {
            self.y += f64::from(size) + 4.0;
            self.text(16.0, self.y, class, "start", size, bold, &line);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    /// Every committed climb, and the one that tests are made from.
    fn climbs() -> Vec<ClimbReport> {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let folders = std::fs::read_dir(root.join("runs")).unwrap();
        let files = folders
            .map(|folder| folder.unwrap().path())
            .flat_map(|folder| ["url-shortener.json", "url-shortener-creates.json"].map(|name| folder.join(name)))
            .filter(|file| file.exists());
        let climbs: Vec<ClimbReport> = files
            .chain([root.join("tests/ledgers/climb.json")])
            .map(|file| serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap())
            .collect();
        assert!(climbs.len() > 2, "there are committed climbs");
        climbs
    }

    /// Where each text of a picture stands.
    fn labels(svg: &str) -> Vec<(Area, String)> {
        let texts = svg
            .split("<text ")
            .skip(1)
            .map(|text| text.split("</text>").next().unwrap());
        texts
            .map(|text| {
                let value = |name: &str| {
                    text.split(&format!("{name}=\""))
                        .nth(1)
                        .unwrap()
                        .split('"')
                        .next()
                        .unwrap()
                };
                let number = |name: &str| value(name).parse::<f64>().unwrap();
                let words = text.split('>').nth(1).unwrap().to_owned();
                let letter = if value("class").contains("lb-name") {
                    BOLD_LETTER
                } else {
                    LETTER
                };
                let width = words.chars().count() as f64 * letter * number("font-size") / 12.0;
                let left = match value("text-anchor") {
                    "start" => number(" x"),
                    "end" => number(" x") - width,
                    _ => number(" x") - width / 2.0,
                };
                let area = Area {
                    left,
                    top: number(" y") - 9.0,
                    right: left + width,
                    bottom: number(" y"),
                };
                (area, words)
            })
            .collect()
    }

    #[test]
    fn no_two_labels_overlap_and_none_leaves_the_picture() {
        for climb in climbs() {
            for (width, pixels) in [(Width::Page, 760.0), (Width::Phone, 370.0)] {
                let svg = svg(&climb, width);
                // The attributes are looked for with a blank before them, and the first has lost its own.
                let labels = labels(&svg.replace("<text ", "<text  "));
                assert!(labels.len() > climb.stages.len());
                for (index, (area, words)) in labels.iter().enumerate() {
                    assert!(
                        area.left >= 0.0 && area.right <= pixels,
                        "{words} leaves the picture at {width:?}"
                    );
                    for (other, others) in &labels[..index] {
                        assert!(!area.meets(*other), "`{words}` and `{others}` overlap at {width:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn every_stage_has_its_knee_and_its_lines() {
        for climb in climbs() {
            let svg = svg(&climb, Width::Page);
            assert_eq!(svg.matches("<polyline").count(), 2 * climb.stages.len());
            for stage in &climb.stages {
                let label = format!(">{} {}</text>", stage.stage, rate(stage.knee_rps.unwrap()));
                assert!(svg.contains(&label), "{label}");
            }
        }
    }

    #[test]
    fn a_line_goes_through_the_medians_at_a_rate() {
        let mut climb = climbs().pop().unwrap();
        let stage = &mut climb.stages[0];
        let probe = stage
            .probes
            .iter()
            .find(|probe| probe.phase == Phase::Past)
            .unwrap()
            .clone();
        let at = |offered_rps: f64, p99_ms: f64| ProbeReport {
            offered_rps,
            p99_ms,
            ..probe.clone()
        };
        stage.probes = vec![at(2000.0, 90.0), at(1000.0, 5.0), at(1040.0, 7.0), at(1020.0, 400.0)];
        let curve = Curve::of((0, &climb.stages[0])).unwrap();
        assert_eq!(curve.medians(|probe| probe.p99_ms), [(1020.0, 7.0), (2000.0, 90.0)]);
    }

    /// A collapse is as long as the queue, and would press everything else flat.
    #[test]
    fn a_collapse_is_cut_at_ten_times_the_laxest_promise() {
        let mut climb = climbs().pop().unwrap();
        let probe = climb.stages[0].probes.iter_mut().find(|probe| !probe.passed).unwrap();
        probe.p99_ms = 1000.0;
        let at_the_cut = svg(&climb, Width::Page);
        climb.stages[0]
            .probes
            .iter_mut()
            .find(|probe| !probe.passed)
            .unwrap()
            .p99_ms = 60_000.0;
        assert_eq!(svg(&climb, Width::Page), at_the_cut);
    }

    #[test]
    fn a_promise_for_what_was_not_in_the_load_is_not_drawn() {
        let mut climb = climbs().pop().unwrap();
        climb.mix = Some("create=100,unknown=0".to_owned());
        assert_eq!(limits(&climb), [(100.0, "create".to_owned())]);
        climb.mix = None;
        assert_eq!(limits(&climb).len(), 2);
    }

    #[test]
    fn a_climb_without_a_measured_stage_says_so() {
        let mut climb = climbs().pop().unwrap();
        climb.stages.truncate(1);
        climb.stages[0].probes.clear();
        climb.stages[0].knee_rps = None;
        assert!(svg(&climb, Width::Phone).contains("No stage of this climb was measured."));
    }

    #[test]
    fn one_rate_and_one_latency_are_a_picture_too() {
        let mut climb = climbs().pop().unwrap();
        climb.stages.truncate(1);
        climb.stages[0].probes.truncate(1);
        climb.slo.kinds.clear();
        let svg = svg(&climb, Width::Page);
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    #[test]
    fn texts_cannot_end_what_they_stand_in() {
        assert_eq!(
            escaped("a<b>&\"c'\u{0}\u{1b}"),
            "a&lt;b&gt;&amp;&quot;c&#39;\u{fffd}\u{fffd}"
        );
    }
}
