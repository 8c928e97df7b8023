//! Numbers for people.

/// `392,242`; fractions are rounded away.
pub fn count(value: f64) -> String {
    if !value.is_finite() {
        return value.to_string();
    }
    let digits = format!("{:.0}", value.abs());
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if value < 0.0 && digits != "0" { format!("-{text}") } else { text }
}

/// `14,848 B (14.5 KiB)`; below 1 KiB without the bracket.
pub fn bytes(value: f64) -> String {
    const UNITS: [(f64, &str); 3] = [(1_073_741_824.0, "GiB"), (1_048_576.0, "MiB"), (1024.0, "KiB")];
    let exact = format!("{} B", count(value));
    match UNITS.iter().find(|(size, _)| value.abs() >= *size) {
        Some((size, name)) => format!("{exact} ({:.1} {name})", value / size),
        None => exact,
    }
}

/// `1.25 ms`; three significant digits.
pub fn seconds(value: f64) -> String {
    crate::bench::Figure::measured("", value, crate::bench::Unit::Seconds).to_string()
}

/// A duration of work: `0.4 s`, `75 s`, `12 min 30 s`.
pub fn duration(value: f64) -> String {
    match value {
        v if v < 10.0 => format!("{v:.1} s"),
        v if v < 120.0 => format!("{v:.0} s"),
        v => format!("{} min {:02.0} s", (v / 60.0).floor(), (v % 60.0).floor()),
    }
}

/// A share as `93.78%`.
pub fn percent(share: f64) -> String {
    format!("{:.2}%", 100.0 * share)
}

/// What a part is of a whole, e.g. `12.4%`; `-` of nothing.
pub fn part(part: f64, whole: f64) -> String {
    match whole > 0.0 {
        true if part > 0.0 && part / whole < 0.001 => "<0.1%".into(),
        true => format!("{:.1}%", 100.0 * part / whole),
        false => "-".into(),
    }
}

/// How a number changed: `-74.9%`; `-` when it came from nothing.
pub fn change(from: f64, to: f64) -> String {
    if from > 0.0 { format!("{:+.1}%", 100.0 * (to - from) / from) } else { "-".into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_scaled() {
        assert_eq!(
            [0.0, 999.0, 1000.0, 45_300_000.0, -1234.0].map(count),
            ["0", "999", "1,000", "45,300,000", "-1,234"]
        );
        assert_eq!(
            [512.0, 14_848.0, 1_073_741_824.0].map(bytes),
            ["512 B", "14,848 B (14.5 KiB)", "1,073,741,824 B (1.0 GiB)"]
        );
        assert_eq!([0.42, 75.0, 750.0].map(duration), ["0.4 s", "75 s", "12 min 30 s"]);
        assert_eq!(seconds(0.00125), "1.25 ms");
    }

    #[test]
    fn shares_of_nothing_are_not_numbers() {
        assert_eq!((part(1.0, 8.0), part(1.0, 0.0)), ("12.5%".into(), "-".into()));
        assert_eq!(part(1.0, 1e6), "<0.1%");
        assert_eq!((change(4.0, 1.0), change(0.0, 1.0)), ("-75.0%".into(), "-".into()));
    }
}
