//! What a file of samples, or of a tokenizer, may do: nothing but be read or be refused.

#![no_main]

mod guard;
mod reading;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    guard::unwind();
    reading::samples(data);
});
