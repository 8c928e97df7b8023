//! Names that are taken, and new ones.

use super::Graph;
use std::collections::{HashMap, HashSet};

/// Names that are taken, so that many new ones are found in one pass.
#[derive(Clone, Debug, Default)]
pub struct Names {
    taken: HashSet<String>,
    /// By stem, the last number that was given out: those below it are taken.
    last: HashMap<String, usize>,
}

impl Names {
    /// A name made from `stem` that was not taken; it is then.
    pub fn fresh(&mut self, stem: &str) -> String {
        if self.taken.insert(stem.to_string()) {
            return stem.to_string();
        }
        let mut number = self.last.get(stem).copied().unwrap_or(0);
        loop {
            number += 1;
            let name = format!("{stem}_{number}");
            if self.taken.insert(name.clone()) {
                self.last.insert(stem.to_string(), number);
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
        Names { taken: names.into_iter().collect(), last: HashMap::new() }
    }
}

impl Graph {
    /// The names of all values.
    pub fn value_names(&self) -> Names {
        self.values.iter().map(|value| value.name.clone()).collect()
    }

    /// The names of all nodes.
    pub fn node_names(&self) -> Names {
        self.nodes.iter().map(|node| node.name.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_numbered_from_where_the_last_one_was() {
        let mut names: Names = ["a", "a_2", "b"].map(String::from).into_iter().collect();
        let made = ["a", "a", "c", "a", "c", "a_2"].map(|stem| names.fresh(stem));
        assert_eq!(made, ["a_1", "a_3", "c", "a_4", "c_1", "a_2_1"]);
    }
}
