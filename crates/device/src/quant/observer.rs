//! What values were seen to be.

/// The interval that a tensor's values are stored in.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Range {
    pub min: f32,
    pub max: f32,
}

impl Range {
    /// The smallest range that holds both.
    pub fn hull(self, other: Range) -> Range {
        Range { min: self.min.min(other.min), max: self.max.max(other.max) }
    }
}

/// How a range is chosen from what was seen.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Calibration {
    /// The smallest and largest value seen.
    MinMax,
    /// The interval that holds this percentage of the values, in 50..=100; outliers saturate.
    Percentile(f64),
}

impl std::fmt::Display for Calibration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Calibration::MinMax => f.write_str("min-max"),
            Calibration::Percentile(percent) => write!(f, "percentile {percent}"),
        }
    }
}

/// Bins of the histogram on each side of zero.
const BINS: usize = 2048;

/// Watches one value: its extremes, and a histogram of magnitudes per sign that widens by doubling.
#[derive(Clone, Debug)]
pub struct Observer {
    min: f32,
    max: f32,
    count: u64,
    /// Values in `(−width, 0)`, by magnitude, and in `[0, width)`.
    negative: Vec<u64>,
    positive: Vec<u64>,
    width: f32,
}

impl Default for Observer {
    fn default() -> Self {
        let (min, max) = (f32::INFINITY, f32::NEG_INFINITY);
        Observer { min, max, count: 0, negative: vec![0; BINS], positive: vec![0; BINS], width: 1.0 }
    }
}

impl Observer {
    /// Takes values in.
    ///
    /// # Errors
    /// The first value that is not finite.
    pub fn see(&mut self, values: &[f32]) -> Result<(), f32> {
        if let Some(&bad) = values.iter().find(|v| !v.is_finite()) {
            return Err(bad);
        }
        let largest = values.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        while largest >= self.width {
            self.widen();
        }
        let scale = BINS as f32 / self.width;
        for &v in values {
            self.min = self.min.min(v);
            self.max = self.max.max(v);
            let bin = ((v.abs() * scale) as usize).min(BINS - 1);
            let side = if v < 0.0 { &mut self.negative } else { &mut self.positive };
            side[bin] += 1;
        }
        self.count += values.len() as u64;
        Ok(())
    }

    fn widen(&mut self) {
        for side in [&mut self.negative, &mut self.positive] {
            for i in 0..BINS / 2 {
                side[i] = side[2 * i] + side[2 * i + 1];
            }
            side[BINS / 2..].fill(0);
        }
        self.width *= 2.0;
    }

    /// The range; `None` when nothing was seen.
    pub fn range(&self, calibration: Calibration) -> Option<Range> {
        if self.count == 0 {
            return None;
        }
        let full = Range { min: self.min, max: self.max };
        let Calibration::Percentile(percent) = calibration else { return Some(full) };
        let tail = ((1.0 - percent / 100.0) / 2.0 * self.count as f64) as u64;
        let edge = |side: &[u64]| -> f32 {
            // From the outermost bin inwards, until the tail is used up.
            let mut left = tail;
            for bin in (0..BINS).rev() {
                if side[bin] > left {
                    return (bin + 1) as f32 / BINS as f32 * self.width;
                }
                left -= side[bin];
            }
            // The whole side lies in the tail: the range ends at zero (it holds zero anyway).
            0.0
        };
        let max = edge(&self.positive).min(full.max.max(0.0));
        let min = (-edge(&self.negative)).max(full.min.min(0.0));
        Some(Range { min, max })
    }
}
