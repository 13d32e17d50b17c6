//! Plots as SVG, for what simulations find.
#![expect(
    clippy::let_underscore_must_use,
    reason = "writing to a text in memory never fails"
)]

use std::fmt::Write as _;

/// Named lines over a common axis from 0 to its most; what they show goes from 0 to 1.
pub fn plot(title: &str, x: (&str, f64), lines: &[(String, Vec<(f64, f64)>)]) -> String {
    const COLOURS: [&str; 6] = [
        "#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#555",
    ];
    let (label, most) = x;
    let place = |(x, y): (f64, f64)| (50.0 + 500.0 * x / most, 260.0 - 220.0 * y);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 720 310\" font-family=\"sans-serif\" font-size=\"12\"><rect width=\"720\" height=\"310\" fill=\"#fff\"/><text x=\"50\" y=\"22\" font-size=\"14\">{title}</text><text x=\"250\" y=\"300\">{label}</text>\n"
    );
    for tenth in (0..=10).step_by(2) {
        let share = f64::from(tenth) / 10.0;
        let (left, y) = place((0.0, share));
        let (x, _) = place((share * most, 0.0));
        let _ = writeln!(
            svg,
            "<path d=\"M{left} {y}h500\" stroke=\"#ddd\"/><text x=\"22\" y=\"{}\">{share}</text><text x=\"{x:.0}\" y=\"278\">{:.0}</text>",
            y + 4.0,
            share * most
        );
    }
    for (number, (name, points)) in lines.iter().enumerate() {
        let colour = COLOURS[number % COLOURS.len()];
        let path: Vec<String> = points
            .iter()
            .map(|point| place(*point))
            .map(|(x, y)| format!("{x:.1},{y:.1}"))
            .collect();
        let y = 50 + 18 * number;
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/><text x=\"562\" y=\"{y}\" fill=\"{colour}\">{name}</text>",
            path.join(" ")
        );
    }
    svg.push_str("</svg>\n");
    svg
}
