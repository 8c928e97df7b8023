//! The README: short, and what a newcomer looks for stands at its beginning.

use crate::root;

/// Words that it may have.
const MOST: usize = 1200;
/// Lines that a screen shows.
const SCREEN: usize = 50;

#[test]
fn the_readme_is_short_and_begins_with_ones_own_model() {
    let text = std::fs::read_to_string(root().join("README.md")).unwrap();
    let count = text.split_whitespace().count();
    assert!(count <= MOST, "README.md has {count} words; move some into the book, {MOST} are the most");
    let first: String = text.lines().take(SCREEN).collect::<Vec<_>>().join("\n");
    assert!(first.contains("docs/src/your-model.md"), "the first screen does not lead to the page on one's own model");
}
