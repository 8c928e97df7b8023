//! Where samples come from: one file per format.

pub(super) mod idx;
pub(super) mod images;
mod jpeg;
pub(super) mod npz;
mod riff;
pub(super) mod table;
pub(super) mod wav;

use super::Error;

/// Compressed data may always expand to so many bytes…
const ALWAYS: u64 = 1 << 28;
/// …and beyond that so many times their size. Real samples do not: a table with columns of one value reaches this, a
/// picture nowhere near.
const TIMES: u64 = 100;

/// Checks, before anything is allocated, that compressed data do not promise to expand to more than any data do.
///
/// # Errors
/// Says how much it would be.
fn expands(stored: u64, promised: u64) -> Result<(), String> {
    match promised > ALWAYS.max(stored.saturating_mul(TIMES)) {
        false => Ok(()),
        true => Err(format!(
            "its {stored} bytes expand to {promised}, more than {TIMES} times as many: this is no data; if it is, store it \
             without compression"
        )),
    }
}

/// Zeros for so many samples of this size.
///
/// # Errors
/// When memory cannot hold them.
fn room<T: Clone + Default>(samples: usize, size: usize) -> Result<Vec<T>, Error> {
    let mut values = vec![];
    let count = samples.checked_mul(size);
    match count.is_some_and(|count| values.try_reserve_exact(count).is_ok()) {
        true => {
            values.resize(samples * size, T::default());
            Ok(values)
        }
        false => {
            let what = format!("{samples} samples of {size} numbers are more than memory can hold");
            Err(Error::Mismatch { what })
        }
    }
}
