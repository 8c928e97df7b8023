//! Markdown pages, read as mdBook reads them.

use crate::root;
use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};
use std::path::{Path, PathBuf};

/// A page and what is checked of it. Lines count from 1.
pub struct Page {
    /// From the repository's root.
    pub path: PathBuf,
    pub blocks: Vec<Block>,
    /// Destinations of links, and their lines.
    pub links: Vec<(String, usize)>,
    /// Inline code, and its lines.
    pub spans: Vec<(String, usize)>,
    /// The anchors of the headings.
    pub anchors: Vec<String>,
}

/// A fenced block.
pub struct Block {
    /// The word after the fence.
    pub language: String,
    pub text: String,
    /// The comment right before the block, if there is one: `run`, or `not checked: why`.
    pub mark: String,
    pub line: usize,
}

/// The pages of the book, README and CONTRIBUTING.
pub fn all() -> Vec<Page> {
    let mut paths = vec![PathBuf::from("README.md"), PathBuf::from("CONTRIBUTING.md")];
    paths.extend(book());
    paths.iter().map(|path| Page::read(path)).collect()
}

/// The files of the book, sorted.
pub fn book() -> Vec<PathBuf> {
    let mut files = vec![];
    let mut folders = vec![root().join("docs/src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => files.push(path.strip_prefix(root()).unwrap().to_path_buf()),
            }
        }
    }
    files.sort();
    files
}

impl Page {
    /// Reads a page, with what it includes.
    pub fn read(path: &Path) -> Page {
        let text = std::fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        Page::parse(path, &included(path, &text))
    }

    fn parse(path: &Path, text: &str) -> Page {
        let line = |offset: usize| text[..offset].matches('\n').count() + 1;
        let mut page = Page { path: path.into(), blocks: vec![], links: vec![], spans: vec![], anchors: vec![] };
        let (mut mark, mut heading, mut in_block) = (String::new(), None::<String>, false);
        for (event, range) in Parser::new_ext(text, Options::ENABLE_TABLES).into_offset_iter() {
            let line = line(range.start);
            match event {
                Event::Html(html) => {
                    let comment = html.trim().strip_prefix("<!--").and_then(|c| c.strip_suffix("-->"));
                    mark = comment.map_or(String::new(), |c| c.trim().to_string());
                    continue;
                }
                // The comment stays in force between its own events and the block.
                Event::Start(Tag::HtmlBlock) | Event::End(TagEnd::HtmlBlock) => continue,
                Event::Start(Tag::CodeBlock(kind)) => {
                    let language = match kind {
                        CodeBlockKind::Fenced(info) => info.split([',', ' ']).next().unwrap_or_default().to_string(),
                        CodeBlockKind::Indented => String::new(),
                    };
                    in_block = true;
                    page.blocks.push(Block { language, text: String::new(), mark: std::mem::take(&mut mark), line });
                }
                Event::End(TagEnd::CodeBlock) => in_block = false,
                Event::Text(part) if in_block => {
                    if let Some(block) = page.blocks.last_mut() {
                        block.text += &part;
                    }
                }
                Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
                Event::End(TagEnd::Heading(_)) => page.anchors.extend(heading.take().map(|text| anchor(&text))),
                Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                    page.links.push((dest_url.to_string(), line));
                }
                Event::Text(part) => heading.iter_mut().for_each(|text| *text += &part),
                Event::Code(code) => {
                    heading.iter_mut().for_each(|text| *text += &code);
                    page.spans.push((code.to_string(), line));
                }
                _ => {}
            }
            mark.clear();
        }
        page
    }
}

/// The text with the files that `{{#include FILE}}` names, relative to the page, in place.
fn included(path: &Path, text: &str) -> String {
    let line = |line: &str| {
        let file = line.trim().strip_prefix("{{#include ").and_then(|rest| rest.strip_suffix("}}"));
        file.map_or_else(
            || line.to_string(),
            |file| {
                let file = root().join(path).parent().unwrap().join(file.trim());
                std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {}: {e}", path.display(), file.display()))
            },
        )
    };
    text.lines().map(|l| line(l) + "\n").collect()
}

/// As mdBook makes it of a heading's text.
fn anchor(heading: &str) -> String {
    let character = |c: char| match c {
        c if c.is_alphanumeric() || c == '_' || c == '-' => Some(c.to_ascii_lowercase()),
        c if c.is_whitespace() => Some('-'),
        _ => None,
    };
    heading.trim().chars().filter_map(character).collect()
}

#[test]
fn a_page_is_taken_apart() {
    let text = "# One `two`: Three\n\n<!-- run -->\n```console\n$ kdc targets\n```\n\nSee [x](y.md#z), `src/lib.rs`.\n\n\
                | a |\n|---|\n| `b` |\n\n```sh,ignore\nmake x\n```\n";
    let page = Page::parse(Path::new("x.md"), text);
    assert_eq!(page.anchors, ["one-two-three"]);
    assert_eq!(page.links, [("y.md#z".to_string(), 8)]);
    assert_eq!(page.spans, [("two".to_string(), 1), ("src/lib.rs".to_string(), 8), ("b".to_string(), 12)]);
    let blocks: Vec<_> = page.blocks.iter().map(|b| (b.language.as_str(), b.text.as_str(), b.mark.as_str())).collect();
    assert_eq!(blocks, [("console", "$ kdc targets\n", "run"), ("sh", "make x\n", "")]);
}
