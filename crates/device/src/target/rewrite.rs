//! Puts new cost coefficients into the text of a profile; everything else in it stays as it is.

use std::path::{Path, PathBuf};

use super::{Cost, Error, Profile, SHIPPED, files, parse};

/// The text of the profile with this id: of the user's, if one of `folders` has it, else of the shipped one.
///
/// # Errors
/// As [`super::find`].
pub fn text(id: &str, folders: &[PathBuf]) -> Result<String, Error> {
    for path in folders.iter().map(|folder| files(folder)).collect::<Result<Vec<_>, _>>()?.concat() {
        let text = std::fs::read_to_string(&path).map_err(|source| Error::Read { path: path.clone(), source })?;
        if parse(&path, &text)?.id.eq_ignore_ascii_case(id) {
            return Ok(text);
        }
    }
    for (name, text) in SHIPPED {
        if parse(Path::new(name), text)?.id.eq_ignore_ascii_case(id) {
            return Ok(text.to_owned());
        }
    }
    Err(Error::Unknown { name: id.into(), near: Vec::new() })
}

/// The text of a profile with other coefficients: its `[cost]` tables, which become the last ones.
///
/// # Errors
/// When what comes out is no valid profile with that cost; `path` names it then.
pub fn with_cost(path: &Path, text: &str, cost: &Cost) -> Result<(Profile, String), Error> {
    let mut kept = String::new();
    let mut of_cost = false;
    for line in text.lines() {
        if line.trim_start().starts_with('[') {
            let name = line.trim_start().trim_start_matches('[').trim_start();
            of_cost = name.strip_prefix("cost").is_some_and(|rest| rest.trim_start().starts_with(['.', ']']));
        }
        if !of_cost {
            kept += line;
            kept.push('\n');
        }
    }
    let text = format!("{}\n\n{}", kept.trim_end(), cost.to_toml());
    let profile = parse(path, &text)?;
    match profile.cost == *cost {
        true => Ok((profile, text)),
        false => {
            let what = "its [cost] is not written as tables; write it as the files in kdc's `targets` folder do";
            Err(Error::Invalid { path: path.into(), failures: vec![what.into()] })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::terms::Family;
    use crate::target::{Rates, Terms};

    #[test]
    fn coefficients_are_replaced_and_nothing_else() {
        for (name, before) in SHIPPED {
            let profile = parse(Path::new(name), before).unwrap();
            let mut cost = profile.cost.clone();
            let doubled = |family: Family| {
                Terms(profile.cost.f32.of(family).0.iter().map(|(term, c)| (term.clone(), c * 2.0)).collect())
            };
            cost.f32 = Rates::build("estimate: doubled, \"for a test\"".into(), doubled);
            cost.weight_bytes_per_cycle = 0.125;
            let (rewritten, after) = with_cost(Path::new(name), before, &cost).unwrap();
            assert_eq!(rewritten, Profile { cost: cost.clone(), ..profile });
            let head = |text: &str| text.split("[cost]").next().unwrap().to_owned();
            assert_eq!(head(&after), head(before));
            // and once more changes nothing
            assert_eq!(with_cost(Path::new(name), &after, &cost).unwrap().1, after);
        }
    }

    #[test]
    fn the_users_profile_comes_before_the_shipped_one() {
        let folder = tempfile::tempdir().unwrap();
        let mine = SHIPPED[0].1.replacen("[cpu]", "# mine\n[cpu]", 1);
        std::fs::write(folder.path().join("a.toml"), &mine).unwrap();
        assert_eq!(text("host", &[folder.path().to_path_buf()]).unwrap(), mine);
        assert_eq!(text("HOST", &[]).unwrap(), SHIPPED[0].1);
        assert!(matches!(text("toaster", &[]), Err(Error::Unknown { .. })));
    }

    #[test]
    fn a_cost_that_is_no_table_is_not_written_twice() {
        let (name, before) = SHIPPED[0];
        let cost = parse(Path::new(name), before).unwrap().cost;
        let inline = before.replace("[cost]", "cost.source = \"x\"\n[other]");
        assert!(with_cost(Path::new(name), &inline, &cost).is_err());
    }
}
