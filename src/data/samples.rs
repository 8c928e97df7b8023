//! Images as bytes.

/// Labelled images, all of one shape, as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Samples {
    /// Height, width and channels of one sample.
    pub shape: [usize; 3],
    /// Samples back to back, each row-major `[height][width][channel]`.
    pub pixels: Vec<u8>,
    /// The class of each sample.
    pub labels: Vec<u16>,
}

impl Samples {
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
            hasher.update(&label.to_le_bytes());
        }
        hasher.finalize().to_hex().to_string()
    }
}
