//! Plots in SVG, for `docs/benchmarks.md`.

use std::path::Path;

use plotters::coord::combinators::IntoLogRange as _;
use plotters::prelude::*;

/// The colour of axes and text, with the same contrast on white and on black, because the page may
/// be either.
const INK: RGBColor = RGBColor(0x80, 0x86, 0x8e);
/// Colours with the same property, which readers with colour blindness can distinguish.
const COLOURS: [RGBColor; 4] = [
    RGBColor(0x2f, 0x81, 0xf7),
    RGBColor(0xd9, 0x73, 0x0d),
    RGBColor(0x1a, 0x9e, 0x77),
    RGBColor(0xb8, 0x5c, 0xc8),
];
const SIZE: (u32, u32) = (480, 340);

/// One pair of axes.
pub struct Panel {
    pub title: &'static str,
    /// The quantity on the x axis, which is logarithmic.
    pub x: &'static str,
    /// The quantity on the y axis, with its unit.
    pub y: &'static str,
    pub lines: Vec<Line>,
}

pub struct Line {
    pub name: String,
    pub points: Vec<(f64, f64)>,
}

/// Writes `docs/NAME`: the panels side by side, on a transparent background.
pub fn draw(name: &str, panels: &[Panel]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../docs")
        .join(name);
    let mut svg = String::new();
    {
        let width = SIZE.0 * u32::try_from(panels.len()).expect("a few");
        let root = SVGBackend::with_string(&mut svg, (width, SIZE.1)).into_drawing_area();
        for (area, panel) in root.split_evenly((1, panels.len())).iter().zip(panels) {
            draw_panel(area, panel).expect("a string takes everything");
        }
        root.present().expect("a string takes everything");
    }
    svg.push('\n');
    std::fs::write(&path, svg).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    eprintln!("drew docs/{name}");
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Drawn<'a> = Result<(), DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>>;

fn draw_panel<'a>(area: &Area<'a>, panel: &Panel) -> Drawn<'a> {
    let points = || panel.lines.iter().flat_map(|line| &line.points);
    let left = points().map(|point| point.0).fold(f64::INFINITY, f64::min);
    let right = points().map(|point| point.0).fold(left * 2.0, f64::max);
    // Above the lines there is room for their names.
    let top =
        points().map(|point| point.1).fold(0.0, f64::max) * (1.1 + 0.12 * panel.lines.len() as f64);
    let text = |size: i32| ("sans-serif", size).into_font().color(&INK);
    // The library's own ticks would only be the powers of ten.
    let mut ticks: Vec<_> = points().map(|point| point.0).collect();
    ticks.sort_by(f64::total_cmp);
    ticks.dedup();
    let mut chart = ChartBuilder::on(area)
        .margin(12)
        .margin_right(32)
        .caption(panel.title, text(20))
        .x_label_area_size(44)
        .y_label_area_size(84)
        .build_cartesian_2d((left..right).log_scale().with_key_points(ticks), 0.0..top)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .y_labels(6)
        .max_light_lines(0)
        .bold_line_style(INK.mix(0.25))
        .axis_style(INK)
        .label_style(text(16))
        .axis_desc_style(text(17))
        .x_desc(panel.x)
        .y_desc(panel.y)
        .x_label_formatter(&|x| super::grouped(x.round() as u64))
        .y_label_formatter(&|y| super::grouped(y.round() as u64))
        .draw()?;
    for (line, colour) in panel.lines.iter().zip(COLOURS.iter().cycle()) {
        let series = LineSeries::new(line.points.iter().copied(), colour.stroke_width(2));
        let key = move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2));
        chart.draw_series(series)?.label(&line.name).legend(key);
        chart.draw_series(
            line.points
                .iter()
                .map(|point| Circle::new(*point, 3, colour.filled())),
        )?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .label_font(text(16))
        .margin(6)
        .legend_area_size(24)
        .draw()
}
