//! Functions by time; the colour says how often each was invoked.

use super::chart::{Axis, Drawn, GREY, label, picture, text};
use super::{Data, Plot};
use elapse_report::HeatRow;
use plotters::coord::ranged1d::ValueFormatter;
use plotters::prelude::*;
use plotters::style::colors::colormaps::ViridisRGB;
use plotters::style::text_anchor::{HPos, Pos, VPos};

const WIDTH: u32 = 880;
/// Functions on the map.
const ROWS: usize = 40;
/// Height beside the rows.
const FRAME: u32 = 116;

/// The picture of the most invoked functions.
pub(super) fn heat_map(data: &Data) -> Drawn<Plot> {
    let rows: &[HeatRow] = &data.heat[..data.heat.len().min(ROWS)];
    let cells = || rows.iter().flat_map(|r| &r.cells);
    let per_minute = |cell: &(f64, f64, u64, u64)| cell.2 as f64 / ((cell.1 - cell.0) / 60.0).max(1e-9);
    let low = cells().map(per_minute).fold(f64::MAX, f64::min);
    let high = cells().map(per_minute).fold(low, f64::max);
    let tone = |x: f64| if high > low { (x / low).ln() / (high / low).ln() } else { 1.0 };
    let (scale, unit, axis) = data.axis();
    let shift = data.clock.offset;
    let row_height = (400 / rows.len().max(1) as u32).clamp(14, 28);
    let height = FRAME + row_height * rows.len() as u32;
    let title = title(data, rows);
    let time = Axis::of_time((shift / scale, (shift + data.end) / scale), unit);
    let svg = picture((WIDTH, height), |area| {
        let (main, legend) = area.split_horizontally(WIDTH - 92);
        area.draw(&Text::new(
            title.clone(),
            (WIDTH as i32 / 2, 14),
            text(17).pos(Pos::new(HPos::Center, VPos::Top)),
        ))?;
        let mut chart = ChartBuilder::on(&main)
            .margin(10)
            .margin_top(44)
            .x_label_area_size(48)
            .y_label_area_size(130)
            .build_cartesian_2d(time.clone(), 0.0..rows.len() as f64)?;
        chart
            .configure_mesh()
            .disable_mesh()
            .disable_y_axis()
            .axis_style(GREY)
            .label_style(text(13))
            .axis_desc_style(text(15))
            .x_desc(axis.as_str())
            .x_label_formatter(&|x| time.format_ext(x))
            .draw()?;
        let y_of = |i: usize| (rows.len() - 1 - i) as f64;
        // The last cell may reach beyond the run.
        let x_of = |seconds: f64| (seconds.min(data.end) + shift) / scale;
        for (i, row) in rows.iter().enumerate() {
            chart.draw_series(row.cells.iter().map(|cell| {
                let colour = ViridisRGB.get_color(tone(per_minute(cell)));
                Rectangle::new(
                    [(x_of(cell.0), y_of(i) + 0.04), (x_of(cell.1), y_of(i) + 0.96)],
                    colour.filled(),
                )
            }))?;
            let (x, y) = chart.backend_coord(&(shift / scale, y_of(i) + 0.5));
            let style = text(12).pos(Pos::new(HPos::Right, VPos::Center));
            let (left, top) = main.get_base_pixel();
            main.draw(&Text::new(shortened(&row.function), (x - left - 6, y - top), style))?;
        }
        let (top, span) = (62, (height - FRAME) as i32 - 14);
        legend.draw(&Text::new("per minute", (2, top - 20), text(13)))?;
        for i in 0..span {
            let colour = ViridisRGB.get_color(1.0 - f64::from(i) / f64::from(span.max(1)));
            legend.draw(&Rectangle::new([(6, top + i), (24, top + i + 1)], colour.filled()))?;
        }
        for (share, value) in [(0.0, high), (0.5, (low * high).sqrt()), (1.0, low)] {
            let y = top + (share * f64::from(span)) as i32 - 6;
            legend.draw(&Text::new(label(rounded(value)), (30, y), text(13)))?;
        }
        Ok(())
    })?;
    Ok(Plot::new("heat-map", title, &svg))
}

/// What is shown, and how much of the load that is.
fn title(data: &Data, rows: &[HeatRow]) -> String {
    let of = format!("{}: invocations per minute of", data.name);
    if data.functions as usize <= rows.len() {
        return format!("{of} every function");
    }
    let shown: u64 = rows.iter().flat_map(|r| &r.cells).map(|c| c.2).sum();
    let percent = shown as f64 / data.invocations.max(shown).max(1) as f64 * 100.0;
    format!(
        "{of} the {} most invoked of {} functions, {percent:.1} % of the load",
        rows.len(),
        super::grouped(data.functions)
    )
}

/// Two digits are enough for a colour.
fn rounded(x: f64) -> f64 {
    let unit = 10f64.powf(x.abs().max(1e-9).log10().floor() - 1.0);
    (x / unit).round() * unit
}

/// The two ends of a long name, as hashes have them.
fn shortened(name: &str) -> String {
    let letters: Vec<char> = name.chars().collect();
    if letters.len() <= 18 {
        return name.to_string();
    }
    let (head, tail): (String, String) =
        (letters[..10].iter().collect(), letters[letters.len() - 6..].iter().collect());
    format!("{head}…{tail}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_title_says_how_much_of_the_load_is_shown() {
        let row = |n| HeatRow { function: "f".into(), cells: vec![(0.0, 1.0, n, 0)] };
        let of = |invocations, functions, rows: &[HeatRow]| {
            title(&Data { name: "run".into(), invocations, functions, ..Data::default() }, rows)
        };
        assert_eq!(
            of(4000, 3000, &[row(1000), row(500)]),
            "run: invocations per minute of the 2 most invoked of 3,000 functions, 37.5 % of the load"
        );
        assert_eq!(of(7, 1, &[row(7)]), "run: invocations per minute of every function");
    }
}
