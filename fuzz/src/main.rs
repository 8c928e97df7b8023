//! What a file may do to the importer: nothing but give a graph or an error.
//!
//! The modules of kdc that read models are compiled in by path: they depend on a handful of small crates, and
//! instrumenting those of the executor as well would take many minutes. A model that is read is also checked, brought to
//! its normal form, and written again. Every allocation is counted: a file may not make the importer take more than
//! [`LIMIT`] beyond what the file itself takes. libFuzzer's own limits judge time.

#![no_main]
#![allow(dead_code, unused_imports)]

#[path = "../../src/graph/mod.rs"]
mod graph;
#[path = "../../src/host/mod.rs"]
mod host;
#[path = "../../src/onnx/mod.rs"]
mod onnx;
#[path = "../../src/pass/mod.rs"]
mod pass;

use libfuzzer_sys::fuzz_target;
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// The most bytes that may be allocated at one time.
const LIMIT: usize = 1 << 30;

struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is handed on to the system's allocator; only sizes are counted.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if LIVE.fetch_add(layout.size(), Ordering::Relaxed) + layout.size() > LIMIT {
            // Not a panic: nothing may be allocated here.
            std::process::abort();
        }
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fuzz_target!(|data: &[u8]| {
    let Ok(mut graph) = onnx::import(bytes::Bytes::copy_from_slice(data), None) else { return };
    if pass::normalize(&mut graph).is_ok() {
        _ = onnx::export(&graph);
    }
    _ = graph.to_string();
});
