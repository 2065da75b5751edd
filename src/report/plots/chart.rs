//! Drawing: panels with lines, in colours that colour-blind readers tell apart (Okabe and Ito, 2008), with the font inside.

use base64::prelude::{BASE64_STANDARD, Engine};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::{FontStyle, register_font};
use std::error::Error;
use std::sync::Once;

pub(super) type Drawn<T> = Result<T, Box<dyn Error>>;
pub(super) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

pub(super) const BLUE: RGBColor = RGBColor(0, 114, 178);
pub(super) const GREEN: RGBColor = RGBColor(0, 158, 115);
pub(super) const VERMILION: RGBColor = RGBColor(213, 94, 0);
pub(super) const GREY: RGBColor = RGBColor(110, 110, 110);
const DARK: RGBColor = RGBColor(40, 40, 40);
/// One after the other for things of one kind.
pub(super) const COLOURS: [RGBColor; 7] =
    [BLUE, VERMILION, GREEN, RGBColor(204, 121, 167), RGBColor(230, 159, 0), RGBColor(86, 180, 233), GREY];

const FONT: &str = "Open Sans";
static FONT_FILE: &[u8] = include_bytes!("../font/OpenSans-Regular.ttf");

/// A line with its name. `None` is a gap.
pub(super) struct Line {
    pub(super) name: String,
    pub(super) colour: RGBColor,
    pub(super) points: Vec<(f64, Option<f64>)>,
    pub(super) filled: bool,
    pub(super) dashed: bool,
}

impl Line {
    pub(super) fn new(name: impl Into<String>, colour: RGBColor, points: Vec<(f64, f64)>) -> Line {
        let points = points.into_iter().map(|(x, y)| (x, Some(y))).collect();
        Line { name: name.into(), colour, points, filled: false, dashed: false }
    }

    pub(super) fn filled(mut self) -> Line {
        self.filled = true;
        self
    }

    /// Half the height of its mark beside its name: a dashed one is told from one of its colour by the thinner mark.
    fn half_mark(&self) -> i32 {
        if self.dashed { 1 } else { 4 }
    }

    /// Its parts between gaps.
    fn segments(&self) -> Vec<Vec<(f64, f64)>> {
        let split = self.points.split(|p| p.1.is_none());
        split
            .filter(|s| !s.is_empty())
            .map(|s| s.iter().filter_map(|(x, y)| Some((*x, (*y)?))).collect())
            .collect()
    }
}

pub(super) fn highest(lines: &[Line]) -> f64 {
    lines.iter().flat_map(|l| l.points.iter().filter_map(|p| p.1)).fold(0.0, f64::max)
}

/// Where the names of several lines are.
pub(super) enum Legend {
    /// In this corner of the axes.
    Inside(SeriesLabelPosition),
    /// Above them: low panels have no room to spare.
    Above,
}

/// Axes, and what is drawn on them.
pub(super) struct Panel<'a> {
    pub(super) title: &'a str,
    /// What the x axis says; none in all but the lowest of several panels.
    pub(super) x: &'a str,
    pub(super) y: &'a str,
    pub(super) x_range: (f64, f64),
    pub(super) log_x: bool,
    pub(super) y_range: (f64, f64),
    pub(super) legend: Legend,
    pub(super) lines: &'a [Line],
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
    format!("{}{suffix}", super::super::tables::short((value * 1000.0).round() / 1000.0))
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

/// Draws a panel.
pub(super) fn panel(area: &Area<'_>, panel: &Panel<'_>) -> Drawn<()> {
    let mut builder = ChartBuilder::on(area);
    builder
        .margin(10)
        .margin_right(26)
        .x_label_area_size(if panel.x.is_empty() { 24 } else { 48 })
        .y_label_area_size(76);
    let names_above = matches!(panel.legend, Legend::Above) && panel.lines.len() > 1;
    if !panel.title.is_empty() {
        builder.caption(panel.title, text(19));
    } else if names_above {
        builder.margin_top(28);
    }
    let y = panel.y_range.0..panel.y_range.1;
    let height = area.dim_in_pixel().1;
    macro_rules! draw_on {
        ($x:expr) => {{
            let mut chart = builder.build_cartesian_2d($x, y)?;
            let mut mesh = chart.configure_mesh();
            mesh.light_line_style(WHITE)
                .bold_line_style(RGBColor(225, 225, 225))
                .axis_style(GREY)
                .label_style(text(13))
                .axis_desc_style(text(if height < 250 { 13 } else { 15 }))
                .y_desc(panel.y)
                .x_labels(8)
                .y_labels(if height < 250 { 5 } else { 10 })
                .x_label_formatter(&|x| label(*x))
                .y_label_formatter(&|y| label(*y));
            if !panel.x.is_empty() {
                mesh.x_desc(panel.x);
            }
            mesh.draw()?;
            for line in panel.lines {
                let colour = line.colour;
                let mut named = false;
                for segment in line.segments() {
                    if line.filled {
                        chart.draw_series(AreaSeries::new(segment.iter().copied(), 0.0, colour.mix(0.25)))?;
                    }
                    // A point between two gaps would not be seen as a line.
                    if let [(x, y)] = segment.as_slice() {
                        chart.draw_series([Circle::new((*x, *y), 2, colour.filled())])?;
                    }
                    let style = colour.stroke_width(2);
                    let drawn = if line.dashed {
                        chart.draw_series(DashedLineSeries::new(segment, 7, 4, style))?
                    } else {
                        chart.draw_series(LineSeries::new(segment, style))?
                    };
                    if !named {
                        named = true;
                        let half = line.half_mark();
                        drawn.label(format!("{}   ", line.name)).legend(move |(x, y)| {
                            Rectangle::new([(x, y - half), (x + 18, y + half)], colour.filled())
                        });
                    }
                }
            }
            if let Legend::Inside(corner) = &panel.legend
                && panel.lines.len() > 1
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
    let (low, high) = panel.x_range;
    if panel.log_x {
        draw_on!((low..high).log_scale());
    } else {
        draw_on!(low..high);
    }
    if names_above { draw_names(area, panel.lines) } else { Ok(()) }
}

/// The names of lines in a row that ends above the right end of the axes.
fn draw_names(area: &Area<'_>, lines: &[Line]) -> Drawn<()> {
    const Y: i32 = 10;
    let style = text(14);
    let mut right = area.dim_in_pixel().0 as i32 - 26;
    for line in lines.iter().rev().filter(|line| !line.segments().is_empty()) {
        let (width, height) = area.estimate_text_size(&line.name, &style)?;
        let left = right - width as i32;
        area.draw(&Text::new(line.name.clone(), (left, Y), style.clone()))?;
        let (middle, half) = (Y + height as i32 / 2, line.half_mark());
        let mark = [(left - 24, middle - half), (left - 6, middle + half)];
        area.draw(&Rectangle::new(mark, line.colour.filled()))?;
        right = left - 42;
    }
    Ok(())
}

/// The rule by which a page or a picture knows the font, wherever it is opened.
pub(in super::super) fn font_rule() -> String {
    format!(
        "@font-face{{font-family:\"{FONT}\";src:url(data:font/ttf;base64,{}) format(\"truetype\")}}",
        BASE64_STANDARD.encode(FONT_FILE)
    )
}

/// Embeds the font, so that the picture is the same everywhere.
pub(super) fn with_font(svg: &str) -> String {
    match svg.find('>') {
        Some(end) => format!("{}\n<style>{}</style>{}", &svg[..=end], font_rule(), &svg[end + 1..]),
        None => svg.to_string(),
    }
}

/// The picture as pixels, twice as many each way as its size says.
pub(super) fn png(svg: &str) -> Drawn<Vec<u8>> {
    use resvg::{tiny_skia, usvg};
    let mut options = usvg::Options { font_family: FONT.into(), ..usvg::Options::default() };
    options.fontdb_mut().load_font_data(FONT_FILE.to_vec());
    let tree = usvg::Tree::from_str(svg, &options)?;
    let size = tree.size().to_int_size();
    let mut pixels =
        tiny_skia::Pixmap::new(size.width() * 2, size.height() * 2).ok_or("a picture without pixels")?;
    resvg::render(&tree, tiny_skia::Transform::from_scale(2.0, 2.0), &mut pixels.as_mut());
    Ok(pixels.encode_png()?)
}
