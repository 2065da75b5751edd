//! Drawing: panels with marks, in colours that colour-blind readers tell apart (Okabe and Ito, 2008).

use super::fonts::{FONT, FONT_FILE};
use super::geometry::{self, Slab, Step};
use plotters::coord::Shift;
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontStyle, register_font};
use std::error::Error;
use std::ops::Range;
use std::sync::Once;

pub(super) type Drawn<T> = Result<T, Box<dyn Error>>;
pub(super) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

pub(super) const BLUE: RGBColor = RGBColor(0, 114, 178);
pub(super) const ORANGE: RGBColor = RGBColor(230, 159, 0);
pub(super) const GREEN: RGBColor = RGBColor(0, 158, 115);
pub(super) const VERMILION: RGBColor = RGBColor(213, 94, 0);
pub(super) const PURPLE: RGBColor = RGBColor(204, 121, 167);
pub(super) const GREY: RGBColor = RGBColor(110, 110, 110);
pub(super) const DARK: RGBColor = RGBColor(40, 40, 40);
/// One after the other for things of one kind.
pub(super) const COLOURS: [RGBColor; 7] =
    [BLUE, VERMILION, GREEN, PURPLE, ORANGE, RGBColor(86, 180, 233), GREY];

/// How opaque what is filled is.
const FILL: f64 = 0.25;
const STACKED: f64 = 0.75;

/// How something is drawn.
pub(super) enum Form {
    /// A line, flat over each step; where steps stand for several values, on a band from the least to the most.
    Steps(Vec<Step>),
    /// The same, filled down to 0.
    Filled(Vec<Step>),
    /// Parts of a stack.
    Slabs(Vec<Slab>),
    /// On a stack of means: a line at the least and one at the most, with what is above the mean filled.
    Band(Vec<Step>),
    /// A line through points.
    Line(Vec<(f64, f64)>),
    /// A dashed one.
    Dashed(Vec<(f64, f64)>),
    /// Points with words to their right and below, where no line of a distribution is.
    Dots(Vec<(f64, f64, String)>),
}

/// Something drawn, with its name in the legend; none where that is empty.
pub(super) struct Mark {
    pub(super) name: String,
    pub(super) colour: RGBColor,
    pub(super) form: Form,
}

impl Mark {
    pub(super) fn new(name: impl Into<String>, colour: RGBColor, form: Form) -> Mark {
        Mark { name: name.into(), colour, form }
    }

    /// Half the height of its mark beside its name: areas have thick ones, lines thin ones.
    fn half_height(&self) -> i32 {
        match self.form {
            Form::Slabs(_) | Form::Filled(_) => 5,
            Form::Band(_) | Form::Steps(_) | Form::Line(_) | Form::Dots(_) => 2,
            Form::Dashed(_) => 1,
        }
    }

    fn is_empty(&self) -> bool {
        match &self.form {
            Form::Steps(s) | Form::Filled(s) | Form::Band(s) => s.is_empty(),
            Form::Slabs(s) => s.is_empty(),
            Form::Line(p) | Form::Dashed(p) => p.is_empty(),
            Form::Dots(p) => p.is_empty(),
        }
    }

    /// How far up it reaches.
    pub(super) fn highest(&self) -> f64 {
        let most = |values: &mut dyn Iterator<Item = f64>| values.fold(0.0, f64::max);
        match &self.form {
            Form::Steps(s) | Form::Filled(s) | Form::Band(s) => most(&mut s.iter().map(|s| s.most)),
            Form::Slabs(s) => most(&mut s.iter().map(|s| s.top)),
            Form::Line(p) | Form::Dashed(p) => most(&mut p.iter().map(|p| p.1)),
            Form::Dots(p) => most(&mut p.iter().map(|p| p.1)),
        }
    }

    /// Moves and stretches it along the axis of time.
    pub(super) fn at(mut self, shift: f64, scale: f64) -> Mark {
        let place = |x: &mut f64| *x = (*x + shift) / scale;
        match &mut self.form {
            Form::Steps(s) | Form::Filled(s) | Form::Band(s) => {
                s.iter_mut().for_each(|s| [&mut s.from, &mut s.to].into_iter().for_each(place));
            }
            Form::Slabs(s) => s.iter_mut().for_each(|s| [&mut s.from, &mut s.to].into_iter().for_each(place)),
            Form::Line(p) | Form::Dashed(p) => p.iter_mut().for_each(|p| place(&mut p.0)),
            Form::Dots(p) => p.iter_mut().for_each(|p| place(&mut p.0)),
        }
        self
    }
}

/// Where the names of several marks are.
pub(super) enum Legend {
    /// In this corner of the axes.
    Inside(SeriesLabelPosition),
    /// Above them: low panels have no room to spare.
    Above,
}

/// An axis: its range, and where it is marked with which words.
#[derive(Clone)]
pub(super) struct Axis {
    pub(super) range: (f64, f64),
    pub(super) marks: Vec<(f64, String)>,
}

impl Axis {
    /// From 0, marked where values are round.
    pub(super) fn from_zero(high: f64, limit: usize) -> Axis {
        let high = if high > 0.0 { high } else { 1.0 };
        let marks = geometry::round_marks(0.0, high, limit);
        Axis { range: (0.0, high), marks: marks.into_iter().map(|y| (y, label(y))).collect() }
    }

    /// Of time in this unit, marked where clocks are.
    pub(super) fn of_time(range: (f64, f64), unit: &str) -> Axis {
        const LIMIT: f64 = 10.0;
        let sizes: &[f64] = match unit {
            "hours" => &[1.0, 2.0, 3.0, 6.0, 12.0, 24.0],
            "seconds" | "minutes" => &[1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0],
            _ => &[],
        };
        let long = range.1 - range.0;
        let marks = match sizes.iter().find(|size| (2.0..=LIMIT).contains(&(long / **size))) {
            Some(size) => geometry::marks_every(*size, range.0, range.1),
            None => geometry::round_marks(range.0, range.1, LIMIT as usize),
        };
        Axis { range, marks: marks.into_iter().map(|x| (x, label(x))).collect() }
    }
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let (low, high) = self.range;
        limit.0 + ((value - low) / (high - low) * f64::from(limit.1 - limit.0)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        let light = hint.weight().allow_light_points();
        if light { Vec::new() } else { self.marks.iter().map(|m| m.0).collect() }
    }

    fn range(&self) -> Range<f64> {
        self.range.0..self.range.1
    }
}

impl ValueFormatter<f64> for Axis {
    fn format(value: &f64) -> String {
        label(*value)
    }

    fn format_ext(&self, value: &f64) -> String {
        self.marks.iter().find(|m| m.0 == *value).map_or_else(|| label(*value), |m| m.1.clone())
    }
}

/// A horizontal axis.
pub(super) enum Across {
    Linear(Axis),
    /// From and to.
    Logarithmic(f64, f64),
}

/// Axes, and what is drawn on them.
pub(super) struct Panel<'a> {
    pub(super) title: &'a str,
    /// What the x axis says; none in all but the lowest of several panels.
    pub(super) x: &'a str,
    pub(super) y: &'a str,
    pub(super) across: Across,
    pub(super) up: Axis,
    pub(super) legend: Legend,
    pub(super) marks: &'a [Mark],
}

/// The unit that makes a span of seconds readable.
pub(super) fn time_unit(seconds: f64) -> (f64, &'static str) {
    match seconds {
        s if s > 2.0 * 86_400.0 => (86_400.0, "days"),
        s if s > 3.0 * 3600.0 => (3600.0, "hours"),
        s if s > 300.0 => (60.0, "minutes"),
        _ => (1.0, "seconds"),
    }
}

pub(super) fn label(x: f64) -> String {
    let (value, suffix) = match x.abs() {
        m if m >= 1e9 => (x / 1e9, "G"),
        m if m >= 1e6 => (x / 1e6, "M"),
        m if m >= 1e4 => (x / 1e3, "k"),
        _ => (x, ""),
    };
    format!("{}{suffix}", elapse_report::short((value * 1000.0).round() / 1000.0))
}

pub(super) fn text(size: i32) -> TextStyle<'static> {
    (FONT, size).into_font().color(&DARK)
}

/// A picture of this size.
pub(super) fn picture(size: (u32, u32), paint: impl FnOnce(&Area<'_>) -> Drawn<()>) -> Drawn<String> {
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(|| {
        let _ = register_font(FONT, FontStyle::Normal, FONT_FILE);
        let _ = register_font("sans-serif", FontStyle::Normal, FONT_FILE);
    });
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        area.fill(&WHITE)?;
        paint(&area)?;
        area.present()?;
    }
    Ok(svg)
}

/// Parts of a sequence that follow each other without a gap.
fn unbroken<T>(all: &[T], span: impl Fn(&T) -> (f64, f64)) -> impl Iterator<Item = &[T]> {
    all.chunk_by(move |a, b| span(b).0 - span(a).1 <= 1e-9 * span(a).1.abs().max(1.0))
}

/// A line that is flat over each step at the height that `of` gives.
fn flat(steps: &[Step], of: impl Fn(&Step) -> f64) -> Vec<(f64, f64)> {
    steps.iter().flat_map(|s| [(s.from, of(s)), (s.to, of(s))]).collect()
}

/// The outline of what is between two such lines.
fn between(upper: Vec<(f64, f64)>, lower: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    upper.into_iter().chain(lower.into_iter().rev()).collect()
}

/// What of a mark is filled, and which lines it has.
struct Shapes {
    filled: Vec<(Vec<(f64, f64)>, f64)>,
    lines: Vec<Vec<(f64, f64)>>,
    width: u32,
}

fn shapes(form: &Form) -> Shapes {
    let mut shapes = Shapes { filled: Vec::new(), lines: Vec::new(), width: 2 };
    match form {
        Form::Steps(steps) | Form::Filled(steps) => {
            for part in unbroken(steps, |s| (s.from, s.to)) {
                if matches!(form, Form::Filled(_)) {
                    shapes.filled.push((between(flat(part, |s| s.mean), flat(part, |_| 0.0)), FILL));
                }
                if geometry::is_thinned(part) {
                    shapes.filled.push((between(flat(part, |s| s.most), flat(part, |s| s.least)), FILL));
                }
                shapes.lines.push(flat(part, |s| s.mean));
            }
            // Many steps lie close together: a thick line would hide the band.
            shapes.width = if steps.len() > 150 { 1 } else { 2 };
        }
        Form::Band(steps) => {
            for part in unbroken(steps, |s| (s.from, s.to)) {
                shapes.filled.push((between(flat(part, |s| s.most), flat(part, |s| s.mean)), FILL));
                shapes.lines.extend([flat(part, |s| s.most), flat(part, |s| s.least)]);
            }
            shapes.width = 1;
        }
        Form::Slabs(slabs) => {
            for part in unbroken(slabs, |s| (s.from, s.to)) {
                let edge = |of: &dyn Fn(&Slab) -> f64| -> Vec<_> {
                    part.iter().flat_map(|s| [(s.from, of(s)), (s.to, of(s))]).collect()
                };
                shapes.filled.push((between(edge(&|s| s.top), edge(&|s| s.bottom)), STACKED));
            }
        }
        Form::Line(points) | Form::Dashed(points) => shapes.lines.push(points.clone()),
        Form::Dots(_) => {}
    }
    shapes
}

/// Draws a panel.
pub(super) fn panel(area: &Area<'_>, panel: &Panel<'_>) -> Drawn<()> {
    let mut builder = ChartBuilder::on(area);
    builder
        .margin(10)
        .margin_right(26)
        .x_label_area_size(if panel.x.is_empty() { 24 } else { 48 })
        .y_label_area_size(76);
    let named = panel.marks.iter().filter(|m| !m.name.is_empty() && !m.is_empty()).count();
    let names_above = matches!(panel.legend, Legend::Above) && named > 1;
    let room = |is: bool, height: u32| if is { height } else { 0 };
    let for_title = room(!panel.title.is_empty(), 30);
    builder.margin_top(10 + for_title + room(names_above, 20));
    if for_title > 0 {
        let middle = (area.dim_in_pixel().0 as i32 / 2, 12);
        area.draw(&Text::new(
            panel.title.to_string(),
            middle,
            text(19).pos(Pos::new(HPos::Center, VPos::Top)),
        ))?;
    }
    let y = panel.up.clone();
    let height = area.dim_in_pixel().1;
    macro_rules! draw_on {
        ($x:expr, $word:expr) => {{
            let mut chart = builder.build_cartesian_2d($x, y)?;
            let word = $word;
            let mut mesh = chart.configure_mesh();
            mesh.light_line_style(WHITE)
                .bold_line_style(RGBColor(225, 225, 225))
                .axis_style(GREY)
                .label_style(text(13))
                .axis_desc_style(text(if height < 250 { 13 } else { 15 }))
                .y_desc(panel.y)
                .x_labels(8)
                .x_label_formatter(&word);
            if !panel.x.is_empty() {
                mesh.x_desc(panel.x);
            }
            mesh.draw()?;
            for mark in panel.marks.iter().filter(|m| !m.is_empty()) {
                let colour = mark.colour;
                let shapes = shapes(&mark.form);
                for (outline, opaque) in shapes.filled {
                    chart.draw_series([Polygon::new(outline, colour.mix(opaque).filled())])?;
                }
                let style = colour.stroke_width(shapes.width);
                for line in shapes.lines {
                    if matches!(mark.form, Form::Dashed(_)) {
                        chart.draw_series(DashedLineSeries::new(line, 7, 4, style))?;
                    } else {
                        chart.draw_series(LineSeries::new(line, style))?;
                    }
                }
                if let Form::Dots(dots) = &mark.form {
                    let style = text(13).color(&colour).pos(Pos::new(HPos::Left, VPos::Top));
                    chart.draw_series(dots.iter().map(|(x, y, words)| {
                        EmptyElement::at((*x, *y))
                            + Circle::new((0, 0), 4, colour.filled())
                            + Text::new(words.clone(), (9, 3), style.clone())
                    }))?;
                }
                if !mark.name.is_empty() && named > 1 && !names_above {
                    let half = mark.half_height();
                    chart
                        .draw_series(std::iter::empty::<Circle<(f64, f64), i32>>())?
                        .label(padded(&mark.name))
                        .legend(move |(x, y)| {
                            Rectangle::new([(x, y - half), (x + 18, y + half)], colour.filled())
                        });
                }
            }
            if let Legend::Inside(corner) = &panel.legend
                && named > 1
            {
                chart
                    .configure_series_labels()
                    .position(corner.clone())
                    .background_style(WHITE.mix(0.85))
                    .border_style(RGBColor(200, 200, 200))
                    .label_font(text(14))
                    .margin(12)
                    .draw()?;
            }
        }};
    }
    match &panel.across {
        Across::Logarithmic(low, high) => draw_on!((*low..*high).log_scale(), |x: &f64| label(*x)),
        Across::Linear(axis) => draw_on!(axis.clone(), |x: &f64| axis.format_ext(x)),
    }
    if names_above { draw_names(area, panel.marks, 10 + for_title as i32) } else { Ok(()) }
}

/// A name with room behind it: the box of a legend is as wide as its words are thought to be, which is a little less than they
/// are.
fn padded(name: &str) -> String {
    format!("{name}{}", " ".repeat(3 + name.chars().count() / 8))
}

/// The names of marks in a row that ends above the right end of the axes.
fn draw_names(area: &Area<'_>, marks: &[Mark], y: i32) -> Drawn<()> {
    let style = text(14);
    let mut right = area.dim_in_pixel().0 as i32 - 26;
    for mark in marks.iter().rev().filter(|mark| !mark.name.is_empty() && !mark.is_empty()) {
        let (width, height) = area.estimate_text_size(&mark.name, &style)?;
        let left = right - width as i32;
        area.draw(&Text::new(mark.name.clone(), (left, y), style.clone()))?;
        let (middle, half) = (y + height as i32 / 2, mark.half_height());
        let beside = [(left - 24, middle - half), (left - 6, middle + half)];
        area.draw(&Rectangle::new(beside, mark.colour.filled()))?;
        right = left - 42;
    }
    Ok(())
}
