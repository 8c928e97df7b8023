//! Candidates as a picture: what they cost against what they learned.

use super::CandidateRow;
use super::curves::{FONT, SIZE};
use plotters::prelude::*;

/// Latency across, accuracy after the last round that a candidate was in upwards, and the line of those that no other beats
/// in both; `None` where fewer than two were trained.
///
/// # Errors
/// What the plotting library says, which it does not of valid extents.
pub fn pareto(candidates: &[CandidateRow]) -> Result<Option<String>, String> {
    let point = |c: &CandidateRow| Some((c.latency_s * 1e3, *c.accuracies.last()?, c.name.clone()));
    let points: Vec<(f64, f64, String)> = candidates.iter().filter_map(point).collect();
    if points.len() < 2 {
        return Ok(None);
    }
    let range = |values: Vec<f64>| {
        let (low, high) = values.iter().fold((f64::MAX, f64::MIN), |(l, h), &v| (l.min(v), h.max(v)));
        let room = ((high - low) * 0.1).max(high.abs() * 0.01).max(1e-6);
        low - room..high + room
    };
    let (across, up) = (range(points.iter().map(|p| p.0).collect()), range(points.iter().map(|p| p.1).collect()));
    let mut svg = String::new();
    let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
    root.fill(&WHITE).map_err(|e| e.to_string())?;
    let mut chart = ChartBuilder::on(&root)
        .caption("candidates", FONT)
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(52)
        .build_cartesian_2d(across, up)
        .map_err(|e| e.to_string())?;
    let mesh = chart.configure_mesh().x_desc("latency in ms (estimated)").y_desc("accuracy (measured)").draw();
    mesh.map_err(|e| e.to_string())?;
    let front = LineSeries::new(front(&points), BLACK.mix(0.4));
    chart.draw_series(front).map_err(|e| e.to_string())?.label("no other is better in both");
    for (index, (x, y, name)) in points.iter().enumerate() {
        let colour = Palette99::pick(index).to_rgba();
        let drawn = chart.draw_series([Circle::new((*x, *y), 5, colour.filled())]).map_err(|e| e.to_string())?;
        drawn.label(crate::escape::svg(name)).legend(move |(x, y)| Circle::new((x + 8, y), 5, colour.filled()));
    }
    let legend = chart.configure_series_labels().label_font(FONT).background_style(WHITE.mix(0.8)).draw();
    legend.map_err(|e| e.to_string())?;
    root.present().map_err(|e| e.to_string())?;
    drop((chart, root));
    Ok(Some(svg))
}

/// The points that no other beats in both, from left to right.
fn front(points: &[(f64, f64, String)]) -> Vec<(f64, f64)> {
    let beaten = |a: &(f64, f64, String)| points.iter().any(|b| b.0 <= a.0 && b.1 >= a.1 && (b.0, b.1) != (a.0, a.1));
    let mut front: Vec<(f64, f64)> = points.iter().filter(|p| !beaten(p)).map(|p| (p.0, p.1)).collect();
    front.sort_by(|a, b| a.0.total_cmp(&b.0));
    front.dedup();
    front
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Outcome;

    #[test]
    fn the_front_is_what_no_other_beats() {
        let point = |x: f64, y: f64| (x, y, String::new());
        let points = [point(3.0, 0.9), point(1.0, 0.5), point(2.0, 0.4), point(2.0, 0.7)];
        assert_eq!(front(&points), [(1.0, 0.5), (2.0, 0.7), (3.0, 0.9)]);
        let row = |name: &str, latency_s: f64, accuracies: Vec<f64>| CandidateRow {
            name: name.into(),
            macs: 1,
            params: 1,
            ram_bytes: 1,
            flash_bytes: 1,
            latency_s,
            accuracies,
            expected: None,
            outcome: Outcome::Untried,
        };
        let rows = [row("a", 1e-3, vec![0.5, 0.6]), row("b", 2e-3, vec![0.4]), row("c", 2e-3, vec![])];
        assert!(pareto(&rows).unwrap().is_some_and(|svg| svg.starts_with("<svg") && svg.contains('a')));
        assert_eq!(pareto(&rows[1..]).unwrap(), None);
    }
}
