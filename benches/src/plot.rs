//! A plot as SVG: lines or points over two axes, and a legend.

use std::fmt::Write;

/// What is drawn.
#[derive(Debug)]
pub struct Plot {
    /// Over the drawing.
    pub title: String,
    /// Under the x axis, with its unit.
    pub x: String,
    /// Beside the y axis, with its unit.
    pub y: String,
    /// Powers of two have equal distances on the x axis.
    pub is_log: bool,
    /// Each point stands for itself, and no line joins them.
    pub is_scatter: bool,
    /// Name and points of each.
    pub series: Vec<(String, Vec<(f64, f64)>)>,
}

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 420.0;
/// The corners of the drawing proper; the legend is on its right.
const LEFT: f64 = 70.0;
const RIGHT: f64 = 540.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 360.0;

/// Colours that differ in lightness too, so that they are told apart without seeing colour.
const COLOURS: [&str; 8] = ["#0b3c8c", "#e69f00", "#009e73", "#cc3311", "#56b4e9", "#882288", "#777711", "#222222"];

impl Plot {
    /// The drawing, as the text of an SVG file.
    pub fn svg(&self) -> String {
        let all = || self.series.iter().flat_map(|(_, points)| points);
        let y_step = step(all().map(|point| point.1).fold(0.0, f64::max));
        let y_max = (all().map(|point| point.1).fold(0.0, f64::max) / y_step).ceil().max(1.0) * y_step;
        let mut xs: Vec<f64> = all().map(|point| point.0).collect();
        xs.sort_by(f64::total_cmp);
        xs.dedup();
        let scale = |x: f64| if self.is_log { x.log2() } else { x };
        let (first, last) = match (&xs[..], self.is_log) {
            ([first, .., last], true) => (scale(*first), scale(*last)),
            (_, _) => (0.0, xs.last().map_or(1.0, |last| last * 1.05)),
        };
        let at_x = |x: f64| LEFT + (scale(x) - first) / (last - first) * (RIGHT - LEFT);
        let at_y = |y: f64| BOTTOM - y / y_max * (BOTTOM - TOP);

        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
             font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
        );
        text(&mut svg, (LEFT, 20.0), "start", &format!("<tspan font-weight=\"bold\">{}</tspan>", escaped(&self.title)));
        text(&mut svg, ((LEFT + RIGHT) / 2.0, HEIGHT - 18.0), "middle", &escaped(&self.x));
        let beside = format!("<tspan>{}</tspan>", escaped(&self.y));
        let turned = format!("<g transform=\"rotate(-90 16 {0}) translate(16 {0})\">\n", (TOP + BOTTOM) / 2.0);
        svg += &turned;
        text(&mut svg, (0.0, 0.0), "middle", &beside);
        svg += "</g>\n";

        for tick in 0..=(y_max / y_step).round() as u32 {
            let y = f64::from(tick) * y_step;
            line(&mut svg, (LEFT, at_y(y)), (RIGHT, at_y(y)), "#dddddd");
            text(&mut svg, (LEFT - 6.0, at_y(y) + 4.0), "end", &number(y));
        }
        let x_ticks = if self.is_log {
            xs
        } else {
            let step = step(last);
            (0..=(last / step) as u32).map(|tick| f64::from(tick) * step).collect()
        };
        for x in x_ticks {
            line(&mut svg, (at_x(x), BOTTOM), (at_x(x), BOTTOM + 5.0), "black");
            text(&mut svg, (at_x(x), BOTTOM + 18.0), "middle", &number(x));
        }
        line(&mut svg, (LEFT, BOTTOM), (RIGHT, BOTTOM), "black");
        line(&mut svg, (LEFT, TOP), (LEFT, BOTTOM), "black");

        for (i, (name, points)) in self.series.iter().enumerate() {
            let colour = COLOURS[i % COLOURS.len()];
            let (width, radius) = if is_ours(name) { (3.0, 6.0) } else { (1.5, 4.0) };
            // The second round of colours is dashed, and its points are hollow.
            let is_second = i >= COLOURS.len();
            let (dash, fill) = if is_second { (" stroke-dasharray=\"5 3\"", "white") } else { ("", colour) };
            if !self.is_scatter {
                let path: String = points.iter().map(|(x, y)| format!("{:.1},{:.1} ", at_x(*x), at_y(*y))).collect();
                let path = path.trim_end();
                _ = writeln!(
                    svg,
                    "<polyline points=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width}\"{dash}/>"
                );
            }
            let legend = (RIGHT + 24.0, TOP + 10.0 + 20.0 * i as f64);
            let drawn = points.iter().map(|(x, y)| (at_x(*x), at_y(*y)));
            for (x, y) in drawn.chain([(legend.0, legend.1 - 4.0)]) {
                _ = writeln!(
                    svg,
                    "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\" fill=\"{fill}\" stroke=\"{colour}\" stroke-width=\"1.5\"/>"
                );
            }
            text(&mut svg, (legend.0 + 10.0, legend.1), "start", &escaped(name));
        }
        svg += "</svg>\n";
        svg
    }
}

/// hio-udp's own are drawn thicker.
fn is_ours(name: &str) -> bool {
    name.contains("Peer") || name.contains("fill")
}

/// A round distance of ticks, such that five to ten reach `max`.
fn step(max: f64) -> f64 {
    let power = 10_f64.powf((max / 5.0).max(f64::MIN_POSITIVE).log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power);
    steps.into_iter().find(|step| max / step <= 10.0).unwrap_or(max)
}

fn number(value: f64) -> String {
    if value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.1}") }
}

fn line(svg: &mut String, from: (f64, f64), to: (f64, f64), colour: &str) {
    _ = writeln!(
        svg,
        "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"{colour}\"/>",
        from.0, from.1, to.0, to.1
    );
}

fn text(svg: &mut String, at: (f64, f64), anchor: &str, inner: &str) {
    _ = writeln!(svg, "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{inner}</text>", at.0, at.1);
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
