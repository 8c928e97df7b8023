//! Memory for results, and for what is needed only while an operator runs.
//!
//! Zeroing a result that is written as a whole costs a pass over memory, and fresh memory costs page faults: together
//! a tenth of a training step of small networks. So a result is zeroed block by block, by the task that then fills the
//! block: its lines are in the cache when they are written for good.

use rayon::prelude::*;
use std::cell::RefCell;
use std::mem::MaybeUninit;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Room for a result of so many numbers.
pub struct Room {
    /// Empty, with the capacity.
    values: Vec<f32>,
    len: usize,
    /// How many numbers are there, of those that the last [`Room::blocks`] gave out.
    made: AtomicUsize,
}

impl Room {
    pub fn new(len: usize) -> Room {
        Room { values: Vec::with_capacity(len), len, made: AtomicUsize::new(0) }
    }

    /// The numbers in blocks of `size`, the last one what is left: zeros, written when a block is taken.
    pub fn blocks(&mut self, size: usize) -> impl IndexedParallelIterator<Item = &mut [f32]> {
        *self.made.get_mut() = 0;
        let made = &self.made;
        let zeroed = |block: &mut [MaybeUninit<f32>]| {
            block.iter_mut().for_each(|x| _ = x.write(0.0));
            made.fetch_add(block.len(), Ordering::Relaxed);
        };
        self.values.spare_capacity_mut()[..self.len].par_chunks_mut(size.max(1)).map(move |block| {
            zeroed(block);
            // SAFETY: every number of the block has just been written.
            unsafe { block.assume_init_mut() }
        })
    }

    /// The result.
    ///
    /// # Panics
    /// When a block was not taken.
    pub fn full(mut self) -> Vec<f32> {
        assert_eq!(*self.made.get_mut(), self.len, "numbers of a result that were made, and all of them");
        // SAFETY: the capacity is there. The last call of `blocks` gave each number out once at most, wrote it before,
        // and counted it: by the assertion it has given out, and written, all.
        unsafe { self.values.set_len(self.len) };
        self.values
    }
}

/// Tells the allocator to keep what is freed: a training step frees and takes the same megabytes again, and pages that
/// went back to the system are cleared anew (a tenth of the step of a small network).
pub fn keep_memory() {
    // `mi_option_purge_delay`; the crate names its neighbours only.
    const PURGE_DELAY: libmimalloc_sys::mi_option_t = libmimalloc_sys::mi_option_use_numa_nodes - 1;
    // SAFETY: sets a number in the allocator's table of options, whether it is the program's allocator or not.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, -1) };
}

/// Vectors start at multiples of a cache line.
const LINE: usize = 16;
/// Stores that a thread keeps.
const KEPT: usize = 8;

thread_local! {
    static STORES: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) };
}

/// Numbers to work with, from a store of this thread to which they go back; aligned to a cache line.
pub struct Scratch {
    store: Vec<f32>,
    start: usize,
    len: usize,
}

impl Scratch {
    /// With whatever numbers are there.
    pub fn new(len: usize) -> Scratch {
        let mut store = STORES.with_borrow_mut(Vec::pop).unwrap_or_default();
        if store.len() < len + LINE {
            store.resize(len + LINE, 0.0);
        }
        let start = store.as_ptr().align_offset(4 * LINE).min(LINE);
        Scratch { store, start, len }
    }

    pub fn zeroed(len: usize) -> Scratch {
        let mut scratch = Scratch::new(len);
        scratch.fill(0.0);
        scratch
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let store = std::mem::take(&mut self.store);
        STORES.with_borrow_mut(|stores| {
            if stores.len() < KEPT {
                stores.push(store)
            }
        });
    }
}

impl Deref for Scratch {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.store[self.start..][..self.len]
    }
}

impl DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.store[self.start..][..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_is_all_there_or_none() {
        let mut room = Room::new(10);
        room.blocks(4).enumerate().for_each(|(i, block)| block[0] = i as f32 + 1.0);
        assert_eq!(room.full(), [1.0, 0.0, 0.0, 0.0, 2.0, 0.0, 0.0, 0.0, 3.0, 0.0]);
        assert!(Room::new(0).full().is_empty());
    }

    #[test]
    #[should_panic(expected = "all of them")]
    fn numbers_that_nobody_made_are_not_given_out() {
        let mut room = Room::new(10);
        room.blocks(5).take(1).for_each(|block| block.fill(1.0));
        // The same block again is not the other one.
        room.blocks(5).take(1).for_each(|block| block.fill(1.0));
        room.full();
    }
}
