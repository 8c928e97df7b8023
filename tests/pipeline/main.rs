//! The whole pipeline, driven through the `kdc` program as users drive it. One binary, so that it is linked once.

mod brought;
mod compile;
mod distill;
mod interruption;
mod ordinary;
mod ports;
mod refusals;
mod spelling;
mod toolchain;
mod trust;
mod unknown;
mod workshop;
