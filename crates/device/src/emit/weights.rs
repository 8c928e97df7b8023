//! The numbers of a program as one file, and the statics that are views of it.
//!
//! As source text they would compile slowly. The file is only read while the crate is compiled: each static is a part of
//! it, of the right type and aligned to 16 bytes, in read-only memory.

use std::fmt::Write as _;

/// A number that a static may be made of.
pub trait Number: Copy {
    const NAME: &'static str;
    fn bytes(self) -> impl IntoIterator<Item = u8>;
}

macro_rules! number {
    ($($type:ty),*) => {$(
        impl Number for $type {
            const NAME: &'static str = stringify!($type);
            fn bytes(self) -> impl IntoIterator<Item = u8> {
                self.to_le_bytes()
            }
        }
    )*};
}
number!(i8, u8, i32, u32, f32);

/// The numbers so far.
#[derive(Default)]
pub struct Numbers {
    blob: Vec<u8>,
    statics: String,
    bytes: usize,
}

impl Numbers {
    /// Adds a static `name` of numbers in nested arrays: `inner` are the extents of all but the outermost. Returns the
    /// expression that refers to it.
    pub fn push<T: Number>(&mut self, name: &str, numbers: &[T], inner: &[usize]) -> String {
        self.blob.resize(self.blob.len().next_multiple_of(16), 0);
        let offset = self.blob.len();
        self.blob.extend(numbers.iter().flat_map(|x| x.bytes()));
        let size = self.blob.len() - offset;
        self.bytes += size;
        let element = inner.iter().rev().fold(T::NAME.to_string(), |kind, n| format!("[{kind}; {n}]"));
        let kind = format!("[{element}; {}]", numbers.len() / inner.iter().product::<usize>());
        // Writing to a String cannot fail.
        let _ = writeln!(
            self.statics,
            "pub static {name}: Aligned<{kind}> = Aligned(unsafe {{ transmute(part::<{size}>({offset})) }});"
        );
        format!("&weights::{name}.0")
    }

    /// Bytes of all statics.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// `weights.rs`
    pub fn source(&self) -> String {
        format!("{HEAD}{}", self.statics)
    }

    /// `weights.bin`
    pub fn into_blob(self) -> Vec<u8> {
        self.blob
    }
}

const HEAD: &str = "\
//! The network's numbers: parts of `weights.bin`, in read-only memory.
// SAFETY of every `transmute` below: it checks the size, and each bit pattern is an integer or a float.

#![allow(clippy::missing_transmute_annotations, reason = \"the types stand to the left\")]

use core::mem::transmute;

#[cfg(target_endian = \"big\")]
compile_error!(\"weights.bin is little-endian\");

/// Aligned for vector loads.
#[repr(C, align(16))]
pub struct Aligned<T>(pub T);

const BLOB: &[u8] = include_bytes!(\"weights.bin\");

const fn part<const N: usize>(offset: usize) -> [u8; N] {
    *BLOB.split_at(offset).1.first_chunk().expect(\"weights.bin is complete\")
}

";
