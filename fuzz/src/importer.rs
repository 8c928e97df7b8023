//! What a file may do to the importer: nothing but give a graph or an error. A model that is read is also checked, brought
//! to its normal form, and written again.

#![no_main]

mod guard;

use kdc::{onnx, pass};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(mut graph) = onnx::import(bytes::Bytes::copy_from_slice(data), None) else { return };
    if pass::normalize(&mut graph).is_ok() {
        _ = onnx::export(&graph);
    }
    _ = graph.to_string();
});
