//! Which file of a crate names things of which other.

use super::source::{tokens, used};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A module by its names from the crate's root on.
type Module = Vec<String>;

/// A file's names.
struct File {
    path: PathBuf,
    tokens: Vec<String>,
    /// What it defines.
    defined: BTreeSet<String>,
    /// What it brings in: by which name, from where.
    brought: BTreeMap<String, Vec<String>>,
    /// Where it brings in everything from.
    all_of: Vec<Vec<String>>,
}

/// The files of a crate by their modules.
pub struct Crate {
    files: BTreeMap<Module, File>,
}

const ITEMS: [&str; 9] = ["fn", "struct", "enum", "trait", "type", "const", "static", "union", "macro_rules"];

impl File {
    fn read(path: &Path) -> File {
        let tokens = tokens(&std::fs::read_to_string(path).unwrap());
        let (mut defined, mut brought, mut all_of) = (BTreeSet::new(), BTreeMap::new(), vec![]);
        let mut depth = 0;
        for (at, token) in tokens.iter().enumerate() {
            match token.as_str() {
                "{" => depth += 1,
                "}" => depth -= 1,
                // Not the bounds of what a type captures.
                "use" if tokens.get(at + 1).is_some_and(|next| next != "<") => {
                    for (path, name) in used(&tokens[at + 1..]) {
                        match path.split_last() {
                            Some((last, rest)) if last == "*" => all_of.push(rest.to_vec()),
                            _ => _ = brought.insert(name, path),
                        }
                    }
                }
                item if depth == 0 && ITEMS.contains(&item) => {
                    let name = tokens[at + 1..].iter().find(|t| *t != "!" && *t != "mut" && *t != "fn");
                    defined.extend(name.cloned());
                }
                _ => (),
            }
        }
        File { path: path.into(), tokens, defined, brought, all_of }
    }

    /// The paths that its code names: of `use`, and written out.
    fn paths(&self) -> BTreeSet<Vec<String>> {
        let mut paths: BTreeSet<Vec<String>> = self.brought.values().chain(&self.all_of).cloned().collect();
        let mut path: Vec<String> = vec![];
        for (at, token) in self.tokens.iter().enumerate() {
            let is_name = token.starts_with(|c: char| c.is_alphabetic() || c == '_');
            let continues = at > 0 && self.tokens[at - 1] == "::";
            match (is_name, continues) {
                (true, true) => path.push(token.clone()),
                (true, false) => {
                    paths.insert(std::mem::replace(&mut path, vec![token.clone()]));
                }
                _ => (),
            }
        }
        paths.insert(path);
        paths.into_iter().filter(|path| !path.is_empty()).collect()
    }
}

impl Crate {
    /// Reads the files below `folder`.
    pub fn read(folder: &Path, files: &[PathBuf]) -> Crate {
        let module = |path: &Path| {
            let inner = path.strip_prefix(folder).unwrap().with_extension("");
            let mut names: Module = inner.iter().map(|name| name.to_string_lossy().into_owned()).collect();
            if names.last().is_some_and(|last| ["mod", "lib", "main"].contains(&last.as_str())) {
                names.pop();
            }
            names
        };
        // The root of a program beside its library is a crate of its own.
        let own = |path: &&PathBuf| !(path.ends_with("main.rs") && folder.join("lib.rs").exists());
        Crate { files: files.iter().filter(own).map(|path| (module(path), File::read(path))).collect() }
    }

    /// The module whose file defines what a path names; `None` for what is of another crate.
    fn defines(&self, from: &Module, path: &[String], seen: &mut BTreeSet<(Module, Vec<String>)>) -> Option<Module> {
        // Names that bring in each other lead nowhere.
        if path.len() > 16 || !seen.insert((from.clone(), path.to_vec())) {
            return None;
        }
        let (mut at, mut rest) = (from.clone(), path);
        match rest.first()?.as_str() {
            "crate" => (at, rest) = (vec![], &rest[1..]),
            "self" => rest = &rest[1..],
            _ => (),
        }
        while rest.first().is_some_and(|name| name == "super") {
            at.pop()?;
            rest = &rest[1..];
        }
        let Some(name) = rest.first() else { return Some(at) };
        let inner: Module = at.iter().chain([name]).cloned().collect();
        if self.files.contains_key(&inner) {
            return match rest.len() {
                1 => Some(inner),
                _ => self.defines(&inner, &[&["self".into()], &rest[1..]].concat(), seen).or(Some(inner)),
            };
        }
        let file = self.files.get(&at)?;
        // A crate may have a module of its own name.
        if let Some(target) = file.brought.get(name).filter(|target| target[0] != *name) {
            return self.defines(&at, &[target, &rest[1..]].concat(), seen);
        }
        if file.defined.contains(name) {
            return Some(at);
        }
        let inside = |target: &&Vec<String>| {
            let child = at.iter().chain(target.first()).cloned().collect::<Module>();
            ["crate", "self", "super"].contains(&target[0].as_str()) || self.files.contains_key(&child)
        };
        let all_of: Vec<&Vec<String>> = file.all_of.iter().filter(inside).collect();
        all_of.into_iter().find_map(|target| self.defines(&at, &[target, rest].concat(), seen))
    }

    /// For each module, those whose definitions its file names. A file may name what the folders that it stands in define:
    /// their words are its own. Bringing a name in for others is no use of it.
    fn edges(&self) -> BTreeMap<&Module, BTreeSet<Module>> {
        let of = |(from, file): (&Module, &File)| {
            let names: BTreeSet<&String> = {
                let mut named = BTreeSet::new();
                let mut in_use = false;
                for token in &file.tokens {
                    match token.as_str() {
                        "use" => in_use = true,
                        ";" => in_use = false,
                        _ if !in_use => _ = named.insert(token),
                        _ => (),
                    }
                }
                named
            };
            let used = |path: &Vec<String>| {
                let by = file.brought.iter().find(|(_, target)| *target == path);
                by.is_none_or(|(name, _)| names.contains(name))
            };
            let paths = file.paths();
            let found = paths.iter().filter(|path| used(path));
            let found = found.filter_map(|path| self.defines(from, path, &mut BTreeSet::new()));
            found.filter(|to| !from.starts_with(to)).collect::<BTreeSet<Module>>()
        };
        self.files.iter().map(|entry| (entry.0, of(entry))).collect()
    }

    /// Sets of files of which each reaches each, in words.
    pub fn circles(&self) -> Vec<String> {
        let edges = self.edges();
        let reach = |from: &Module| {
            let (mut reached, mut next) = (BTreeSet::new(), vec![from.clone()]);
            while let Some(module) = next.pop() {
                let further = edges.get(&module).into_iter().flatten();
                next.extend(further.filter(|to| reached.insert((*to).clone())).cloned());
            }
            reached
        };
        let reached: BTreeMap<&Module, BTreeSet<Module>> = edges.keys().map(|from| (*from, reach(from))).collect();
        let mut circles: BTreeSet<BTreeSet<&Module>> = BTreeSet::new();
        for (from, to) in &reached {
            let circle = to.iter().filter(|to| reached.get(to).is_some_and(|back| back.contains(*from)));
            let circle: BTreeSet<&Module> =
                circle.filter_map(|to| edges.get_key_value(to).map(|(key, _)| *key)).collect();
            if circle.len() > 1 {
                circles.insert(circle);
            }
        }
        let shown = |circle: BTreeSet<&Module>| {
            let line = |from: &&Module| {
                let to: Vec<String> =
                    edges[*from].iter().filter(|to| circle.contains(to)).map(|to| to.join("/")).collect();
                format!("  {} → {}\n", self.files[*from].path.display(), to.join(", "))
            };
            circle.iter().map(line).collect()
        };
        circles.into_iter().map(shown).collect()
    }
}
