//! TOML in the book: what it shows can be read, and it names every key that there is.

use crate::pages::Page;
use kdc::data::Sidecar;
use kdc::distill::Recipe;
use std::path::Path;

fn blocks(page: &str) -> Vec<(String, String)> {
    let page = Page::read(Path::new(page));
    let toml = page.blocks.into_iter().filter(|block| block.language == "toml" && block.mark.is_empty());
    toml.map(|block| (format!("{}:{}", page.path.display(), block.line), block.text)).collect()
}

fn sidecar(text: &str) -> Result<Sidecar, kdc::data::Error> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("teacher.toml");
    std::fs::write(&path, text).unwrap();
    Sidecar::load(&path)
}

#[test]
fn sidecars_in_the_book_can_be_read() {
    let blocks = blocks("docs/src/your-model.md");
    assert!(blocks.len() > 5);
    for (at, text) in blocks {
        sidecar(&text).unwrap_or_else(|e| panic!("{at}: {e}"));
    }
}

#[test]
fn recipes_in_the_book_can_be_read() {
    let blocks = blocks("docs/src/recipes.md");
    assert!(blocks.len() > 2);
    for (at, text) in blocks {
        Recipe::parse(&text, Path::new(&at)).unwrap_or_else(|e| panic!("{e}"));
    }
}

/// The names that a message has in backticks after "expected".
fn expected(message: &str) -> Vec<String> {
    let list = message.split_once("expected").map_or("", |(_, list)| list);
    list.split('`').skip(1).step_by(2).map(str::to_string).collect()
}

#[test]
fn the_book_names_every_key_of_a_sidecar() {
    let book = std::fs::read_to_string(crate::root().join("docs/src/your-model.md")).unwrap();
    let data = "[data]\npath = \"x\"\nformat = \"csv\"\n";
    let top = sidecar("nonsense = 1\n").unwrap_err().to_string();
    let sections = expected(&top);
    assert!(sections.len() > 8, "{top}");
    let named = |key: &str| book.contains(&format!("`{key}`")) || book.contains(&format!("`{key} ="));
    let mut sections_read = 0;
    for section in sections {
        assert!(named(&section) || book.contains(&format!("[{section}]")), "{section}");
        let text = match section.as_str() {
            "data" => format!("{data}nonsense = 1\n"),
            _ => format!("{data}[{section}]\nnonsense = 1\n"),
        };
        let message = sidecar(&text).unwrap_err().to_string();
        // A key that is no section says so, and names no other.
        let unknown = message.contains("unknown field");
        let missing = expected(&message).into_iter().find(|key| unknown && !named(key));
        assert!(missing.is_none(), "[{section}] {missing:?}");
        sections_read += usize::from(unknown);
    }
    assert!(sections_read > 8, "{sections_read} sections told their keys");
}
