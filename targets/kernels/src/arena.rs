//! Parts of the arena.

/// The parts `[start, end)` of the arena, which do not overlap.
///
/// # Panics
/// When they do, or lie outside; with constant ranges this is decided by the compiler.
#[inline(always)]
pub fn parts<T, const N: usize>(arena: &mut [T], ranges: [core::ops::Range<usize>; N]) -> [&mut [T]; N] {
    match arena.get_disjoint_mut(ranges) {
        Ok(parts) => parts,
        Err(_) => panic!("the parts of the arena overlap"),
    }
}
