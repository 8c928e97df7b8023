//! Target profiles, what they estimate, the toolchains that build for them, and the checks of a linked program.
//!
//! A profile is data: one TOML file per board family under `targets/`, embedded in the binary, beside folders of the
//! user's own. Every number in it names its source. [`find`] looks one up, [`cost`] estimates what a program takes on
//! it, [`toolchain`] builds the generated crate for it, and [`elf`] reads the linked program back: does it suit the
//! machine, the system and the memory of the board?

pub mod checks;
pub mod cost;
pub mod elf;
pub mod fit;
mod profile;
pub mod rewrite;
pub mod terms;
pub mod toolchain;

use std::path::{Path, PathBuf};

pub use profile::{
    Budgets, Build, Cost, Cpu, Emulator, FlashBytes, FloatAbi, Glibc, Instructions, Machine, Memory, MemoryKind,
    Profile, RamBytes, Rates, System, Terms,
};

/// The profiles that come with kdc: file name and text.
const SHIPPED: [(&str, &str); 5] = [
    ("host.toml", include_str!("../../../../targets/host.toml")),
    ("raspberry-pi-zero-2w.toml", include_str!("../../../../targets/raspberry-pi-zero-2w.toml")),
    ("raspberry-pi-3.toml", include_str!("../../../../targets/raspberry-pi-3.toml")),
    ("raspberry-pi-4.toml", include_str!("../../../../targets/raspberry-pi-4.toml")),
    ("raspberry-pi-5.toml", include_str!("../../../../targets/raspberry-pi-5.toml")),
];

/// Why there is no profile.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no target is called `{name}`{}; `kdc targets` lists them all", did_you_mean(.near))]
    Unknown {
        name: String,
        /// Known names that differ little, best first.
        near: Vec<String>,
    },
    #[error("target profile {}: cannot be read; correct the path or its permissions", .path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("target profile {}: not a valid profile; the files in kdc's `targets` folder are examples", .path.display())]
    Parse { path: PathBuf, source: Box<toml::de::Error> },
    #[error("target profile {}: {}", .path.display(), .failures.join("; "))]
    Invalid { path: PathBuf, failures: Vec<String> },
    #[error("targets `{first}` and `{second}` both answer to `{name}`; rename one of them")]
    Ambiguous { name: String, first: String, second: String },
}

fn did_you_mean(near: &[String]) -> String {
    match near {
        [] => String::new(),
        names => format!("; did you mean `{}`?", names.join("` or `")),
    }
}

/// The folders in which users keep profiles of their own: `extra` first, then `$XDG_CONFIG_HOME/kdc/targets`
/// (`~/.config/kdc/targets` without that variable) when it is there.
pub fn folders(extra: &[PathBuf]) -> Vec<PathBuf> {
    extra.iter().cloned().chain(own_folder().filter(|folder| folder.is_dir())).collect()
}

/// The folder for the user's profiles, whether it is there or not; `None` where neither variable says it.
pub fn own_folder() -> Option<PathBuf> {
    // Paths that are not absolute count as not said, as the XDG base directory specification has it.
    let from = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let config = from("XDG_CONFIG_HOME").or_else(|| from("HOME").map(|home| home.join(".config")));
    config.map(|dir| dir.join("kdc/targets"))
}

/// Every profile: those of `folders` (all their `*.toml` files, by name), then the shipped ones. A profile of the user
/// replaces the shipped one with the same id.
///
/// # Errors
/// When a folder or file cannot be read, is no valid profile, or two profiles answer to one name.
pub fn all(folders: &[PathBuf]) -> Result<Vec<Profile>, Error> {
    let mut profiles: Vec<Profile> = Vec::new();
    for path in folders.iter().map(|folder| files(folder)).collect::<Result<Vec<_>, _>>()?.concat() {
        let text =
            kdc_ir::files::read_text(&path, 1 << 20).map_err(|source| Error::Read { path: path.clone(), source })?;
        profiles.push(parse(&path, &text)?);
    }
    for (name, text) in SHIPPED {
        let profile = parse(Path::new(name), text)?;
        if !profiles.iter().any(|p| p.id.eq_ignore_ascii_case(&profile.id)) {
            profiles.push(profile);
        }
    }
    unambiguous(&profiles)?;
    Ok(profiles)
}

/// The profile with this id or alias, in whatever case it is written.
///
/// # Errors
/// As [`all`]; and [`Error::Unknown`], with the near misses, when nothing is called that.
pub fn find(name: &str, folders: &[PathBuf]) -> Result<Profile, Error> {
    let mut profiles = all(folders)?;
    match profiles.iter().position(|p| p.names().any(|n| n.eq_ignore_ascii_case(name))) {
        Some(index) => Ok(profiles.swap_remove(index)),
        None => Err(Error::Unknown { name: name.into(), near: near(name, &profiles) }),
    }
}

/// A profile from the text of a TOML file, checked; `path` names it in errors.
///
/// # Errors
/// [`Error::Parse`] and [`Error::Invalid`].
pub fn parse(path: &Path, text: &str) -> Result<Profile, Error> {
    let unparsable = |source| Error::Parse { path: path.into(), source: Box::new(source) };
    let profile = Profile::from_toml(text).map_err(unparsable)?;
    let failures = checks::run(&profile);
    if failures.is_empty() { Ok(profile) } else { Err(Error::Invalid { path: path.into(), failures }) }
}

/// The `*.toml` files of a folder, by name.
fn files(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let unreadable = |source| Error::Read { path: folder.into(), source };
    let entries = std::fs::read_dir(folder).map_err(unreadable)?;
    let paths = entries.map(|entry| entry.map(|e| e.path())).collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
    let mut paths: Vec<_> = paths.into_iter().filter(|p| p.extension().is_some_and(|e| e == "toml")).collect();
    paths.sort();
    Ok(paths)
}

fn unambiguous(profiles: &[Profile]) -> Result<(), Error> {
    let mut taken = std::collections::BTreeMap::new();
    for profile in profiles {
        for name in profile.names() {
            if let Some(first) = taken.insert(name.to_ascii_lowercase(), &profile.id) {
                return Err(Error::Ambiguous { name: name.into(), first: first.clone(), second: profile.id.clone() });
            }
        }
    }
    Ok(())
}

/// Names that are likely meant: similar ones (Jaro–Winkler of at least 0.8), the best three.
fn near(name: &str, profiles: &[Profile]) -> Vec<String> {
    let name = name.to_ascii_lowercase();
    let similarity = |known: &str| strsim::jaro_winkler(&name, &known.to_ascii_lowercase());
    let mut near: Vec<_> = profiles.iter().flat_map(Profile::names).map(|n| (similarity(n), n)).collect();
    near.retain(|(similarity, _)| *similarity >= 0.8);
    near.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    near.into_iter().take(3).map(|(_, n)| n.to_owned()).collect()
}

#[cfg(test)]
mod tests;
