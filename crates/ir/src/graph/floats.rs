//! Floats in a row that are owned, or lie in a file.

use bytes::Bytes;
use std::ops::{Deref, DerefMut};

/// Numbers of a tensor: a vector, or a part of a mapped file that is read when it is needed and copied only when it is
/// changed.
#[derive(Clone)]
pub struct Floats(Kept);

#[derive(Clone)]
enum Kept {
    Owned(Vec<f32>),
    /// Aligned, and a whole number of floats long.
    Mapped(Bytes),
}

impl Floats {
    /// Little-endian floats where they are; `None` if they are not aligned, or this machine orders bytes otherwise.
    pub fn mapped(bytes: Bytes) -> Option<Floats> {
        let fits = cfg!(target_endian = "little") && bytemuck::try_cast_slice::<u8, f32>(&bytes).is_ok();
        fits.then_some(Floats(Kept::Mapped(bytes)))
    }

    /// The numbers as a vector, to change or to grow.
    pub fn to_mut(&mut self) -> &mut Vec<f32> {
        if let Kept::Mapped(_) = self.0 {
            self.0 = Kept::Owned(self.to_vec());
        }
        match &mut self.0 {
            Kept::Owned(v) => v,
            Kept::Mapped(_) => unreachable!("made a vector above"),
        }
    }

    /// The numbers as a vector.
    pub fn into_vec(self) -> Vec<f32> {
        match self.0 {
            Kept::Owned(v) => v,
            Kept::Mapped(bytes) => bytemuck::cast_slice(&bytes).to_vec(),
        }
    }
}

impl Deref for Floats {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &self.0 {
            Kept::Owned(v) => v,
            Kept::Mapped(bytes) => bytemuck::cast_slice(bytes),
        }
    }
}

impl DerefMut for Floats {
    fn deref_mut(&mut self) -> &mut [f32] {
        self.to_mut()
    }
}

impl From<Vec<f32>> for Floats {
    fn from(v: Vec<f32>) -> Floats {
        Floats(Kept::Owned(v))
    }
}

impl FromIterator<f32> for Floats {
    fn from_iter<I: IntoIterator<Item = f32>>(numbers: I) -> Floats {
        Vec::from_iter(numbers).into()
    }
}

impl PartialEq for Floats {
    fn eq(&self, other: &Floats) -> bool {
        **self == **other
    }
}

impl std::fmt::Debug for Floats {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.deref().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mapped_floats_are_copied_when_they_are_changed() {
        let bytes: Vec<u8> = [0.0f32, 1.5, -2.0].iter().flat_map(|x| x.to_le_bytes()).collect();
        let bytes = Bytes::from(bytes);
        // A vector of bytes is aligned as far as its allocator likes; one of the places in a row of four is.
        let padded = Bytes::from([&[0; 4][..], &bytes].concat());
        let offset = (0..4).find(|o| (padded.as_ptr() as usize + o).is_multiple_of(4)).unwrap();
        let aligned = |length: usize| Floats::mapped(padded.slice(offset..offset + length));
        assert_eq!(aligned(8).unwrap().len(), 2);
        assert!(aligned(7).is_none());
        assert!(Floats::mapped(padded.slice(offset + 1..offset + 5)).is_none());
        let mapped = aligned(4).unwrap();
        let mut changed = mapped.clone();
        assert_eq!(mapped, changed);
        changed[0] = 7.0;
        assert_ne!(mapped, changed);
        assert_eq!((mapped.into_vec().len(), &changed[..]), (1, &[7.0][..]));
    }
}
