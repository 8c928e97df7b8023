//! Numbers as people write them: `64KiB`, `5ms`, `5.6M`.

use crate::teacher::Shard;

/// Bytes: `65536`, `64KiB`, `64k` (1024-based, as memories are), `1.5MiB`, `2GB` (1000-based, as cards are sold).
pub fn bytes(text: &str) -> Result<u64, String> {
    let units = [
        ("", 1.0),
        ("b", 1.0),
        ("k", 1024.0),
        ("kib", 1024.0),
        ("kb", 1e3),
        ("m", 1_048_576.0),
        ("mib", 1_048_576.0),
        ("mb", 1e6),
        ("g", 1_073_741_824.0),
        ("gib", 1_073_741_824.0),
        ("gb", 1e9),
    ];
    whole(scaled(text, &units, "a size such as 65536, 64KiB or 1.5MB")?, text)
}

/// Seconds: `5ms`, `250us`, `0.1s`. The unit is not optional: nobody can tell what `5` means.
pub fn seconds(text: &str) -> Result<f64, String> {
    let units = [("s", 1.0), ("ms", 1e-3), ("us", 1e-6), ("µs", 1e-6), ("ns", 1e-9)];
    positive(scaled(text, &units, "a time such as 5ms, 250us or 0.1s")?, text)
}

/// Things counted: `5600000`, `5.6M`, `48k`, `1G`.
pub fn count(text: &str) -> Result<u64, String> {
    let units = [("", 1.0), ("k", 1e3), ("m", 1e6), ("g", 1e9)];
    whole(scaled(text, &units, "a count such as 48000, 48k or 5.6M")?, text)
}

/// The extents of an input: `tokens=1x24`.
pub fn input(text: &str) -> Result<(String, Vec<usize>), String> {
    let wrong = || format!("`{text}` is not a name and extents such as tokens=1x24");
    let (name, extents) = text.rsplit_once('=').filter(|(name, _)| !name.is_empty()).ok_or_else(wrong)?;
    let extent = |n: &str| n.trim().parse().ok().filter(|n| (1..=1 << 24).contains(n));
    let extents: Option<Vec<usize>> = extents.split(['x', '×', ',']).map(extent).collect();
    extents.map(|extents| (name.to_string(), extents)).ok_or_else(wrong)
}

/// Percentage points of accuracy: `0.3`, at least 0.
pub fn points(text: &str) -> Result<f64, String> {
    let value = number(text).ok_or_else(|| format!("`{text}` is not a number of percentage points such as 0.5"))?;
    if (0.0..=100.0).contains(&value) { Ok(value) } else { Err(format!("`{text}` is not in 0..100 points")) }
}

/// A share of 1, given in percent: `91` or `91%`.
pub fn percent(text: &str) -> Result<f64, String> {
    let value = number(text.trim_end_matches('%').trim_end());
    let value = value.ok_or_else(|| format!("`{text}` is not a percentage such as 91%"))?;
    if value > 0.0 && value <= 100.0 {
        Ok(value / 100.0)
    } else {
        Err(format!("`{text}` is not from above 0 to 100 percent"))
    }
}

/// A number above 0.
pub fn above_zero(text: &str) -> Result<f64, String> {
    positive(number(text).ok_or_else(|| format!("`{text}` is not a number"))?, text)
}

/// A number from 0 to 1.
pub fn share(text: &str) -> Result<f64, String> {
    let value = number(text).ok_or_else(|| format!("`{text}` is not a number"))?;
    if (0.0..=1.0).contains(&value) { Ok(value) } else { Err(format!("`{text}` is not in 0..1")) }
}

/// A whole number above 0, up to a limit beyond which nobody means it.
pub fn up_to<const MOST: usize>(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n) if (1..=MOST).contains(&n) => Ok(n),
        _ => Err(format!("`{text}` is not a whole number from 1 to {MOST}")),
    }
}

/// The same, or 0.
pub fn at_most<const MOST: usize>(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n) if n <= MOST => Ok(n),
        _ => Err(format!("`{text}` is not a whole number from 0 to {MOST}")),
    }
}

/// A part of several: `2/4`.
pub fn shard(text: &str) -> Result<Shard, String> {
    let wrong = || format!("`{text}` is no part of several, as 2/4 is the second of four");
    let (index, of) = text.split_once('/').ok_or_else(wrong)?;
    match (index.parse(), of.parse()) {
        (Ok(index), Ok(of)) if (1..=of).contains(&index) => Ok(Shard { index, of }),
        _ => Err(wrong()),
    }
}

/// A finite number without infinities by name.
fn number(text: &str) -> Option<f64> {
    text.trim().parse::<f64>().ok().filter(|v| v.is_finite())
}

/// The number at the start of `text` times what its unit stands for.
fn scaled(text: &str, units: &[(&str, f64)], wanted: &str) -> Result<f64, String> {
    let text = text.trim();
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '_')).unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let unit = unit.trim_start().to_lowercase();
    let factor = units.iter().find(|(name, _)| *name == unit).map(|(_, factor)| factor);
    match (number(&digits.replace('_', "")), factor) {
        (Some(value), Some(factor)) => Ok(value * factor),
        _ => Err(format!("`{text}` is not {wanted}")),
    }
}

fn positive(value: f64, text: &str) -> Result<f64, String> {
    if value > 0.0 { Ok(value) } else { Err(format!("`{text}` is not above 0")) }
}

/// Rounds down: a limit must not grow. Anything below 2^53 is exact.
fn whole(value: f64, text: &str) -> Result<u64, String> {
    let floor = positive(value, text)?.floor();
    if floor < 9_007_199_254_740_992.0 { Ok(floor as u64) } else { Err(format!("`{text}` is too large")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_write_numbers_with_units() {
        assert_eq!(["65536", "64KiB", "64k", "64 kib", "0.0625MiB"].map(|t| bytes(t).unwrap()), [65_536; 5]);
        assert_eq!(bytes("16GB"), Ok(16_000_000_000));
        assert_eq!(["5ms", "5000us", "0.005s", "5000 µs"].map(|t| seconds(t).unwrap()), [0.005; 4]);
        assert_eq!(["5.6M", "5600k", "5_600_000"].map(|t| count(t).unwrap()), [5_600_000; 3]);
        assert_eq!(points("0.3"), Ok(0.3));
        assert_eq!(["91", "91%", "91 %"].map(|t| percent(t).unwrap()), [0.91; 3]);
    }

    #[test]
    fn what_is_no_number_is_refused_with_an_example() {
        for text in ["", "KiB", "-1", "64 KiBs", "1e3", "nan", "inf", "1.2.3", "0"] {
            assert!(bytes(text).is_err(), "{text}");
            assert!(count(text).is_err(), "{text}");
        }
        assert!(bytes("9999999999GiB").unwrap_err().contains("too large"));
        assert!(seconds("5").unwrap_err().contains("5ms"), "a time without a unit");
        assert!(points("-0.1").is_err() && points("NaN").is_err());
        assert!(["0", "101%", "%", "good"].iter().all(|text| percent(text).is_err()));
        assert!(share("1.5").is_err() && above_zero("inf").is_err() && up_to::<9>("0").is_err());
        assert!(up_to::<9>("10").unwrap_err().contains("from 1 to 9") && up_to::<9>("18446744073709551616").is_err());
    }
}
