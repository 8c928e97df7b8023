//! Runs a Graph on burn tensors, differentiable: the one place where an operator meets burn.
