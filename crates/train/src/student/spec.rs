//! What a student is made of, as data: what a search chooses and a file can pin.

use super::{Allocation, Error, Factoring, Groups, Template, droppable, factored, without_blocks};
use kdc_ir::graph::{Graph, verify};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};

/// A kind of student, before its widths.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Variant {
    /// A network of its own instead of the teacher's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<Template>,
    /// Residual blocks left out, by the names of the nodes that add.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub without: Vec<String>,
    /// How dense convolutions are taken apart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub factoring: Option<Factoring>,
    /// Operators that others stand for, as [`replaceable`](super::replaceable) names them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub replace: Vec<String>,
    /// How a share is distributed over the groups.
    pub allocation: Allocation,
}

/// A student, pinned.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Spec {
    pub kind: Variant,
    /// How many indices each group keeps, by name; those not named keep all. Empty: as many as fit the budgets.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub widths: BTreeMap<String, usize>,
}

impl Variant {
    /// The network of this kind at full width, from a teacher as [`prepare`](super::prepare()) leaves it. Nothing is
    /// replaced yet: that takes what the network is seen to do.
    ///
    /// # Errors
    /// When the teacher's inputs or outputs do not suit the template, or a block that is to be left out is none.
    pub fn of(&self, teacher: &Graph) -> Result<Graph, Error> {
        let mut graph = match &self.template {
            Some(template) => template.network(teacher)?,
            None => {
                let blocks: Vec<String> = droppable(teacher).into_iter().map(|b| b.name).collect();
                let known: HashSet<&String> = blocks.iter().collect();
                if let Some(node) = self.without.iter().find(|name| !known.contains(name)) {
                    return Err(Error::Block { node: node.clone(), blocks: blocks.join(", ") });
                }
                without_blocks(teacher, &self.without)
            }
        };
        if let Some(how) = self.factoring {
            graph = factored(&graph, how);
        }
        verify(&graph)?;
        Ok(graph)
    }
}

impl std::fmt::Display for Variant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let base = match &self.template {
            Some(template) => format!("template {}", template.name()),
            None => "narrower".to_string(),
        };
        write!(f, "{base}")?;
        match self.without.len() {
            0 => {}
            1 => write!(f, ", without a block")?,
            n => write!(f, ", without {n} blocks")?,
        }
        match self.factoring {
            Some(Factoring::Separable) => write!(f, ", separable")?,
            Some(Factoring::LowRank) => write!(f, ", low rank")?,
            None => {}
        }
        if !self.replace.is_empty() {
            write!(f, ", simpler operators")?;
        }
        if self.allocation == Allocation::Ranked { write!(f, ", widths by rank") } else { Ok(()) }
    }
}

impl Spec {
    /// The widths of these groups.
    ///
    /// # Errors
    /// When a name is no group's, or a width is not from 1 to the group's extent.
    pub fn widths_of(&self, groups: &Groups) -> Result<Vec<usize>, Error> {
        for (name, &width) in &self.widths {
            let wrong = |why: String| Err(Error::Spec { group: name.clone(), why });
            match groups.groups.iter().find(|g| &g.name == name) {
                None => {
                    let names: Vec<&str> = groups.groups.iter().map(|g| g.name.as_str()).collect();
                    return wrong(format!("there is no such group; there are {}", names.join(", ")));
                }
                Some(group) if width == 0 || width > group.extent => {
                    return wrong(format!("{width} is not from 1 to {}", group.extent));
                }
                Some(_) => {}
            }
        }
        Ok(groups.groups.iter().map(|g| self.widths.get(&g.name).copied().unwrap_or(g.extent)).collect())
    }
}
