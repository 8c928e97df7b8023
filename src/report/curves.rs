//! Training as a picture: losses and shares by epoch, as SVG.

use crate::distill::Epoch;
use plotters::prelude::*;

pub(super) const SIZE: (u32, u32) = (900, 420);
pub(super) const FONT: (&str, i32) = ("sans-serif", 14);

/// A line of the picture: its name, and its points by epoch.
type Curve = (String, Vec<(f64, f64)>);

/// Losses on the left, shares on the right; `None` while there is no epoch to show. `best`: the epoch that is marked; 0: none.
///
/// # Errors
/// What the plotting library says, which it does not of valid extents.
pub fn curves(history: &[Epoch], best: usize) -> Result<Option<String>, String> {
    if history.is_empty() {
        return Ok(None);
    }
    let mut svg = String::new();
    let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
    root.fill(&WHITE).map_err(|e| e.to_string())?;
    let (left, right) = root.split_horizontally(SIZE.0 / 2);
    let by_epoch = |name: &str, value: &dyn Fn(&Epoch) -> f64| -> Curve {
        let points = history.iter().map(|e| (e.epoch as f64, value(e))).filter(|(_, y)| y.is_finite());
        (name.to_string(), points.collect())
    };
    let mut losses = vec![by_epoch("loss", &|e| e.loss)];
    // One summand is the loss itself.
    let names: Vec<&str> = history[0].parts.iter().map(|p| p.name.as_str()).collect();
    if names.len() > 1 {
        for (index, name) in names.iter().enumerate() {
            let part = |e: &Epoch| e.parts.get(index).map_or(f64::NAN, |p| p.loss);
            losses.push(by_epoch(&format!("loss by {name}"), &part));
        }
    }
    let shares = vec![
        by_epoch("validation accuracy", &|e| e.accuracy),
        by_epoch("training accuracy", &|e| e.train_accuracy),
        by_epoch("agreement with the teacher", &|e| e.agreement),
    ];
    let last = history.iter().map(|e| e.epoch).max().unwrap_or(1) as f64;
    panel(&left, "mean loss (measured)", &losses, last, best)?;
    panel(&right, "share of samples (measured)", &shares, last, best)?;
    root.present().map_err(|e| e.to_string())?;
    drop((left, right, root));
    Ok(Some(svg))
}

fn panel(
    area: &DrawingArea<SVGBackend, plotters::coord::Shift>,
    title: &str,
    curves: &[Curve],
    last: f64,
    best: usize,
) -> Result<(), String> {
    let values = || curves.iter().flat_map(|(_, points)| points.iter().map(|(_, y)| *y));
    let low = values().fold(f64::INFINITY, f64::min);
    let high = values().fold(f64::NEG_INFINITY, f64::max);
    let (low, high) = if low.is_finite() { (low, high) } else { (0.0, 1.0) };
    let room = ((high - low) * 0.05).max(1e-3);
    let mut chart = ChartBuilder::on(area)
        .caption(title, FONT)
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(52)
        .build_cartesian_2d(1.0..last.max(2.0), low - room..high + room)
        .map_err(|e| e.to_string())?;
    let epochs = |x: &f64| format!("{x:.0}");
    let mesh = chart.configure_mesh().x_desc("epoch").x_labels(8).x_label_formatter(&epochs).label_style(FONT).draw();
    mesh.map_err(|e| e.to_string())?;
    if best > 0 {
        let marked = LineSeries::new([(best as f64, low - room), (best as f64, high + room)], BLACK.mix(0.25));
        chart.draw_series(marked).map_err(|e| e.to_string())?.label(format!("kept: epoch {best}"));
    }
    for (index, (name, points)) in curves.iter().enumerate().filter(|(_, (_, points))| !points.is_empty()) {
        let colour = Palette99::pick(index).to_rgba();
        let series = chart.draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)));
        let drawn = series.map_err(|e| e.to_string())?;
        drawn
            .label(crate::escape::svg(name))
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2)));
    }
    let legend = chart.configure_series_labels().label_font(FONT).background_style(WHITE.mix(0.8)).draw();
    legend.map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distill::Part;

    #[test]
    fn every_figure_is_a_line_and_what_is_unknown_is_none() {
        let epoch = |epoch: usize, accuracy: f64| Epoch {
            epoch,
            loss: 1.0 / epoch as f64,
            parts: ["labels", "teacher"].map(|name| Part { name: name.into(), loss: 0.5 / epoch as f64 }).into(),
            train_accuracy: 0.5,
            agreement: f64::NAN,
            accuracy,
            lr: 0.1,
        };
        let history: Vec<Epoch> = (1..=4).map(|n| epoch(n, 0.2 * n as f64)).collect();
        let svg = curves(&history, 3).unwrap().unwrap();
        for text in ["loss by labels", "loss by teacher", "validation accuracy", "training accuracy", "kept: epoch 3"] {
            assert!(svg.contains(text), "{text}");
        }
        assert!(!svg.contains("agreement"), "nobody was asked");
        assert!(curves(&[epoch(1, f64::NAN)], 1).unwrap().is_some(), "one epoch, nothing validated");
        assert_eq!(curves(&[], 0).unwrap(), None);
        assert_eq!(svg, curves(&history, 3).unwrap().unwrap(), "the same bytes");
    }
}
