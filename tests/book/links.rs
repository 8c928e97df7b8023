//! Links between pages, and the table of contents.

use crate::{pages, root};
use std::path::{Component, Path, PathBuf};

/// A path without `.` and `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => _ = plain.pop(),
            Component::CurDir => {}
            part => plain.push(part),
        }
    }
    plain
}

#[test]
fn links_lead_somewhere() {
    let pages = pages::all();
    let mut broken = vec![];
    for page in &pages {
        for (link, line) in &page.links {
            if link.starts_with("https://") || link.starts_with("http://") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let folder = page.path.parent().unwrap();
            let to = if file.is_empty() { page.path.clone() } else { plain(&folder.join(file)) };
            let at = format!("{}:{line}: {link}", page.path.display());
            // The book is read without the repository around it.
            let inside = !page.path.starts_with("docs") || to.starts_with("docs/src");
            if !root().join(&to).exists() || !inside {
                broken.push(at);
            } else if !anchor.is_empty() {
                let target = pages.iter().find(|page| page.path == to);
                if !target.is_some_and(|page| page.anchors.iter().any(|a| a == anchor)) {
                    broken.push(at);
                }
            }
        }
    }
    assert!(broken.is_empty(), "links that lead nowhere:\n{}", broken.join("\n"));
}

#[test]
fn every_page_is_in_the_table_of_contents() {
    let summary = pages::Page::read(Path::new("docs/src/SUMMARY.md"));
    let listed: Vec<PathBuf> = summary.links.iter().map(|(to, _)| Path::new("docs/src").join(to)).collect();
    let missing: Vec<_> =
        pages::book().into_iter().filter(|p| !p.ends_with("SUMMARY.md") && !listed.contains(p)).collect();
    assert!(missing.is_empty(), "mdBook leaves out what docs/src/SUMMARY.md does not name: {missing:?}");
}

#[test]
fn paths_lose_their_dots() {
    assert_eq!(plain(Path::new("docs/src/methods/../../../README.md")), Path::new("README.md"));
}
