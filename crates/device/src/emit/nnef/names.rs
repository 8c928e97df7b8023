//! Names of an NNEF file: those that every reader takes.
//!
//! NNEF's identifiers are ASCII letters, digits and `_`. What tract's writer makes of other names, its reader refuses or
//! takes for something else, and tensors lie in files of their names. So a port whose name is such an identifier keeps it,
//! and everything else gets one that begins with `kdc_` and a number, which no other name can come to equal: tract's writer derives
//! further names by suffixes.

use kdc_ir::escape;
use tract_nnef::internal::*;

/// Characters of the old name that a new one shows.
const SHOWN: usize = 40;

/// A port that could not keep its name.
pub struct Renamed {
    /// Its name in the NNEF file.
    name: String,
    /// Its name in the model.
    was: String,
}

/// Gives every node a name that can be written.
pub fn rename(model: &mut TypedModel) -> TractResult<Vec<Renamed>> {
    let (inputs, outputs) = (model.input_outlets()?.to_vec(), model.output_outlets()?.to_vec());
    let name_of = |outlet: &OutletId| model.outlet_label(*outlet).unwrap_or(&model.node(outlet.node).name).to_string();
    // An input may be an output too: it has a name as either.
    let ports: Vec<(&str, usize, String)> = (inputs.iter().enumerate().map(|(i, id)| (i, &model.node(id.node).name)))
        .map(|(i, name)| ("kdc_input", i, name.clone()))
        .chain(outputs.iter().enumerate().map(|(i, id)| ("kdc_output", i, name_of(id))))
        .collect();
    let mut renamed = vec![];
    let mut names = vec![];
    for (place, (kind, index, name)) in ports.iter().enumerate() {
        let mut others = ports.iter().enumerate().filter(|(other, _)| *other != place).map(|(_, port)| &port.2);
        let derived =
            |other: &String| other == name || other.strip_prefix(name.as_str()).is_some_and(|s| s.starts_with('_'));
        if is_plain(name) && !others.any(derived) {
            names.push(name.clone());
            continue;
        }
        names.push(numbered(kind, *index, name));
        renamed.push(Renamed { name: numbered(kind, *index, name), was: name.clone() });
    }
    let mut taken: Vec<Option<String>> = vec![None; model.nodes().len()];
    for (outlet, name) in inputs.iter().zip(&names) {
        taken[outlet.node] = Some(name.clone());
    }
    for (outlet, name) in outputs.iter().zip(&names[inputs.len()..]) {
        // NNEF names results after the nodes that make them; others become a second name of the result.
        if outlet.slot == 0 {
            taken[outlet.node].get_or_insert_with(|| name.clone());
        }
        model.set_outlet_label(*outlet, name.clone())?;
    }
    for (id, taken) in taken.into_iter().enumerate() {
        let name = taken.unwrap_or_else(|| numbered("kdc_", id, &model.node(id).name));
        model.rename_node(id, &name)?;
    }
    Ok(renamed)
}

/// Whether a name can stay: an identifier that is no word of NNEF or of tract's, does not begin like a literal, for which
/// tract's reader would take it, and is none of those made here.
fn is_plain(name: &str) -> bool {
    const WORDS: [&str; 22] = [
        "batch",
        "else",
        "extension",
        "external",
        "for",
        "fragment",
        "graph",
        "if",
        "in",
        "integer",
        "length_of",
        "logical",
        "network",
        "properties",
        "range_of",
        "scalar",
        "shape_of",
        "string",
        "tensor",
        "variable",
        "version",
        "yield",
    ];
    let literal = ["inf", "true", "false"].iter().any(|word| name.starts_with(word));
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && name.len() <= 100
        && !(literal || name.starts_with("kdc") || WORDS.contains(&name))
}

fn numbered(kind: &str, index: usize, name: &str) -> String {
    let letters = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    format!("{kind}{index}_{}", name.chars().take(SHOWN).map(letters).collect::<String>())
}

/// The same archive, with a comment in `graph.nnef` that says what ports were called.
pub fn with_table(archive: &[u8], renamed: &[Renamed]) -> TractResult<Vec<u8>> {
    if renamed.is_empty() {
        return Ok(archive.to_vec());
    }
    let mut table = String::from("# Ports that NNEF cannot spell, and their names in the model:\n");
    for port in renamed {
        table += &format!("#   {} = {}\n", port.name, escape::json_string(&port.was));
    }
    let mut made = tar::Builder::new(Vec::new());
    for entry in tar::Archive::new(archive).entries()? {
        let mut entry = entry?;
        let (mut header, path) = (entry.header().clone(), entry.path()?.into_owned());
        let mut contents = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut contents)?;
        if path.as_os_str() == "graph.nnef" {
            contents.splice(0..0, table.bytes());
        }
        header.set_size(contents.len() as u64);
        made.append_data(&mut header, &path, contents.as_slice())?;
    }
    Ok(made.into_inner()?)
}
