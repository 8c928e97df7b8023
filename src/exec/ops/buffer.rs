//! Memory for results, and for what is needed only while an operator runs.
//!
//! Zeroing a result that is written as a whole costs a pass over memory, and fresh memory costs page faults: together
//! a tenth of a training step of small networks.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

/// A result of `len` numbers, whatever they are: every one of them has to be written before it is read.
#[expect(clippy::uninit_vec, reason = "that is what it is for")]
pub fn unwritten(len: usize) -> Vec<f32> {
    let mut values = Vec::with_capacity(len);
    // SAFETY: the capacity is there, any bits are a number, and callers write all of them first.
    unsafe { values.set_len(len) };
    values
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
