//! What a sidecar or a recipe may do: nothing but say how samples are read and how a student is trained, or be refused.

#![no_main]

mod guard;
mod reading;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    guard::unwind();
    reading::settings(data);
});
