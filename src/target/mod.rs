//! Target profiles, toolchains, and the checks of a linked program.
