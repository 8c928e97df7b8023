//! What the pages of a Parquet file promise to expand to, before anything is made of them: the reader allocates what a page's
//! header says. Headers are Thrift's compact protocol
//! (<https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md>).

use std::fs::File;
use std::os::unix::fs::FileExt;

/// Longer than any header but one of absurd statistics.
const LONGEST_HEADER: usize = 1 << 20;
/// Structures inside of structures.
const DEEPEST: usize = 16;

/// The bytes that the pages of a column, which lie at `start` and take `length` bytes, expand to.
///
/// # Errors
/// When a header makes no sense.
pub(super) fn expanded(file: &File, start: u64, length: u64) -> Result<u64, String> {
    let (mut at, mut sum) = (0, 0u64);
    while at < length {
        let damaged = || "the header of a page is damaged".to_string();
        let left = usize::try_from(length - at).unwrap_or(usize::MAX);
        // Nearly all are shorter than a hundred bytes.
        let header = [1 << 10, LONGEST_HEADER].into_iter().find_map(|most| {
            let mut bytes = vec![0; left.min(most)];
            file.read_exact_at(&mut bytes, start + at).ok()?;
            header(&bytes)
        });
        let (taken, stored, promised) = header.ok_or_else(damaged)?;
        sum = sum.saturating_add(promised);
        at += (taken as u64).saturating_add(stored);
    }
    Ok(sum)
}

/// How long a header is, how many bytes follow it, and how many those become.
fn header(bytes: &[u8]) -> Option<(usize, u64, u64)> {
    let mut reader = Compact { rest: bytes };
    let (mut field, mut sizes) = (0, [None; 2]);
    loop {
        let head = reader.byte()?;
        if head == 0 {
            break;
        }
        field = match head >> 4 {
            0 => reader.signed()?,
            more => field + i64::from(more),
        };
        match (field, head & 15) {
            // uncompressed_page_size and compressed_page_size, which are i32.
            (2 | 3, 5) => sizes[field as usize - 2] = Some(u64::try_from(reader.signed()?).ok()?),
            (_, kind) => reader.skip(kind, 0)?,
        }
    }
    let [promised, stored] = sizes;
    Some((bytes.len() - reader.rest.len(), stored?, promised?))
}

struct Compact<'a> {
    rest: &'a [u8],
}

impl Compact<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(first)
    }

    fn pass(&mut self, count: u64) -> Option<()> {
        self.rest = self.rest.get(usize::try_from(count).ok()?..)?;
        Some(())
    }

    /// Seven bits a byte, the lowest first.
    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    /// With the sign in the lowest bit.
    fn signed(&mut self) -> Option<i64> {
        let number = self.number()?;
        Some((number >> 1) as i64 ^ -((number & 1) as i64))
    }

    /// Passes over a value of this type.
    fn skip(&mut self, kind: u8, depth: usize) -> Option<()> {
        if depth > DEEPEST {
            return None;
        }
        match kind {
            // Truth values are their own type.
            1 | 2 => {}
            3 => self.pass(1)?,
            4..=6 => _ = self.number()?,
            7 => self.pass(8)?,
            8 => {
                let length = self.number()?;
                self.pass(length)?;
            }
            9 | 10 => {
                let head = self.byte()?;
                let count = if head >> 4 == 15 { self.number()? } else { u64::from(head >> 4) };
                for _ in 0..count {
                    // In lists a truth value is a byte.
                    let kind = if matches!(head & 15, 1 | 2) { 3 } else { head & 15 };
                    self.skip(kind, depth + 1)?;
                }
            }
            12 => loop {
                let head = self.byte()?;
                if head == 0 {
                    break;
                }
                if head >> 4 == 0 {
                    self.number()?;
                }
                self.skip(head & 15, depth + 1)?;
            },
            _ => return None,
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_past_what_is_not_asked_for() {
        // Type 0, 300 bytes that were 20; then a structure with two numbers, a list of two texts, and a truth value.
        let bytes = [
            0x15, 0, 0x15, 0xd8, 4, 0x15, 0x28, 0x2c, 0x15, 2, 0x15, 4, 0x29, 0x28, 1, b'a', 2, b'b', b'c', 0x11, 0, 0,
        ];
        assert_eq!(header(&bytes), Some((bytes.len(), 20, 300)));
        for length in 0..bytes.len() {
            assert_eq!(header(&bytes[..length]), None);
        }
        // A list of more than there is ends where the bytes end.
        assert_eq!(header(&[0x15, 0, 0x49, 0xf3, 0xff, 0xff, 0xff, 0xff, 0x0f, 1]), None);
        assert_eq!(header(&[0x1c; 1000]), None, "too deep");
    }
}
