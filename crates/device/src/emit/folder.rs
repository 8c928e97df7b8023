//! A folder that is there as a whole or not at all.

use std::path::{Path, PathBuf};

use super::{Error, text};

/// Writes `files` beside `dir`, then puts them in its place.
pub fn replace(dir: &Path, files: &[(PathBuf, Vec<u8>)]) -> Result<(), Error> {
    let io = |path: &Path| {
        let path = path.to_path_buf();
        move |source| Error::Io { path, source }
    };
    let parent = match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let occupied = occupied(dir).map_err(io(dir))?;
    if occupied == Occupied::ByOthers {
        return Err(Error::Occupied { path: dir.into() });
    }
    std::fs::create_dir_all(parent).map_err(io(parent))?;
    // Removed again, with what is in it, on every way out.
    let beside = tempfile::Builder::new().prefix(".kdc-crate-").tempdir_in(parent).map_err(io(parent))?;
    let new = beside.path().join("new");
    for (path, contents) in files {
        let path = new.join(path);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(io(folder))?;
        }
        std::fs::write(&path, contents).map_err(io(&path))?;
    }
    let old = beside.path().join("old");
    if occupied == Occupied::ByKdc {
        std::fs::rename(dir, &old).map_err(io(dir))?;
    }
    if let Err(error) = std::fs::rename(&new, dir) {
        if occupied == Occupied::ByKdc {
            std::fs::rename(&old, dir).map_err(io(dir))?;
        }
        return Err(io(dir)(error));
    }
    Ok(())
}

#[derive(PartialEq)]
enum Occupied {
    No,
    ByKdc,
    ByOthers,
}

fn occupied(dir: &Path) -> std::io::Result<Occupied> {
    let mut entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Occupied::No),
        entries => entries?,
    };
    // A rename replaces an empty folder.
    if entries.next().is_none() {
        return Ok(Occupied::No);
    }
    let manifest = std::fs::read_to_string(dir.join("Cargo.toml")).unwrap_or_default();
    Ok(if manifest.starts_with(text::MARK) { Occupied::ByKdc } else { Occupied::ByOthers })
}
