//! What tests of several crates share.

/// Says that a check is left out for want of a tool, and why. Where `KDC_REQUIRE=all`, which says that every tool is there,
/// that is a failure: a check that quietly stopped running is none.
///
/// # Panics
/// If the environment says `KDC_REQUIRE=all`.
pub fn skipped(why: impl std::fmt::Display) {
    let all = std::env::var("KDC_REQUIRE").is_ok_and(|what| what == "all");
    assert!(!all, "left out, and KDC_REQUIRE=all: {why}");
    eprintln!("skipped: {why}");
}
