//! Images as bytes.

use super::Error;

/// Images, all of one shape, as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Samples {
    /// Height, width and channels of one sample.
    pub shape: [usize; 3],
    /// Samples back to back, each row-major `[height][width][channel]`.
    pub pixels: Vec<u8>,
    /// The class of each sample; `None` where nobody said it.
    pub labels: Vec<Option<u16>>,
}

impl Samples {
    /// Images out of an array of bytes with the extents `[height, width]`, `[height, width, channel]` or
    /// `[channel, height, width]` a sample, of one or three channels.
    ///
    /// # Errors
    /// When the extents are others.
    pub(super) fn from_array(shape: &[usize], pixels: Vec<u8>, labels: Vec<Option<u16>>) -> Result<Samples, Error> {
        let shape = match *shape {
            [h, w] => [h, w, 1],
            [h, w, c @ (1 | 3)] => [h, w, c],
            [c @ (1 | 3), h, w] => {
                let planes = pixels.chunks_exact(c * h * w);
                let interleave = |planes: &[u8]| -> Vec<u8> {
                    (0..h * w).flat_map(|i| (0..c).map(move |k| (i, k))).map(|(i, k)| planes[k * h * w + i]).collect()
                };
                let pixels = planes.flat_map(interleave).collect();
                return Ok(Samples { shape: [h, w, c], pixels, labels });
            }
            _ => {
                let what = format!("samples are arrays of bytes of the extents {shape:?}, which are no image's");
                return Err(Error::Mismatch { what });
            }
        };
        Ok(Samples { shape, pixels, labels })
    }

    /// How many samples there are.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Bytes of one sample.
    pub fn sample_len(&self) -> usize {
        self.shape.iter().product()
    }

    /// The bytes of one sample, row-major `[height][width][channel]`.
    ///
    /// # Panics
    /// If there is no such sample.
    pub fn sample(&self, index: usize) -> &[u8] {
        let n = self.sample_len();
        &self.pixels[index * n..][..n]
    }

    /// The samples named, in the order named.
    ///
    /// # Panics
    /// If there is no such sample.
    pub fn select(&self, indices: &[usize]) -> Samples {
        Samples {
            shape: self.shape,
            pixels: indices.iter().flat_map(|&i| self.sample(i)).copied().collect(),
            labels: indices.iter().map(|&i| self.labels[i]).collect(),
        }
    }

    /// The BLAKE3 hash of shape, pixels and labels, in hexadecimal.
    pub fn hash(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"kdc samples 1\n");
        for extent in self.shape {
            hasher.update(&(extent as u64).to_le_bytes());
        }
        hasher.update(&(self.len() as u64).to_le_bytes());
        hasher.update(&self.pixels);
        for label in &self.labels {
            // There is no class of this number: 65,535 is one more than the last.
            hasher.update(&label.unwrap_or(u16::MAX).to_le_bytes());
        }
        hasher.finalize().to_hex().to_string()
    }
}
