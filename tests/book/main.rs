//! The README, CONTRIBUTING and the book under `docs/`: links and anchors lead somewhere, paths exist, commands are ones that
//! kdc understands, examples can be read, and what is made from code and results is up to date (`KDC_BLESS=1` makes it anew).

mod commands;
mod examples;
mod links;
mod methods;
mod pages;
mod paths;
mod readme;
mod results;

use std::path::Path;

/// Where the repository is.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Compares files with what they should be; with `KDC_BLESS=1`, writes them.
fn up_to_date(files: &[(String, String)]) {
    for (path, text) in files {
        let file = root().join(path);
        if std::env::var_os("KDC_BLESS").is_some() {
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(&file, text).unwrap();
        }
        let there = std::fs::read_to_string(&file).unwrap_or_default();
        assert!(there == *text, "{path} is out of date; KDC_BLESS=1 cargo test --release --test book writes it");
    }
}
