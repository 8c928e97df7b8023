//! Names that are taken, and new ones like them.

use std::collections::{HashMap, HashSet};

/// A set of names.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    taken: HashSet<String>,
    /// By stem, the number that is tried next: a file of thousands of equal names takes no longer than another.
    next: HashMap<String, usize>,
}

impl Names {
    /// A name like `stem` that is not taken; it is then.
    pub fn fresh(&mut self, stem: &str) -> String {
        if self.taken.insert(stem.to_string()) {
            return stem.to_string();
        }
        let next = self.next.entry(stem.to_string()).or_insert(1);
        loop {
            let name = format!("{stem}_{next}");
            *next += 1;
            if self.taken.insert(name.clone()) {
                return name;
            }
        }
    }
}

impl Extend<String> for Names {
    fn extend<I: IntoIterator<Item = String>>(&mut self, names: I) {
        self.taken.extend(names);
    }
}

impl FromIterator<String> for Names {
    fn from_iter<I: IntoIterator<Item = String>>(names: I) -> Names {
        Names { taken: names.into_iter().collect(), next: HashMap::new() }
    }
}
