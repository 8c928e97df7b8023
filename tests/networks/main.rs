//! Whole networks of many families, and every operator that kdc knows. One binary, so that it is linked once.

mod backend;
mod batches;
mod case;
mod degenerate;
mod einsum;
mod families;
mod hostile;
mod quantized;
mod random;
mod shorthand;
mod supported;
mod unseen;
mod written;
