//! Files that are either whole or not there, and names for contents.

use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Writes `bytes` beside `path`, then renames: nobody ever sees half a file under its final name.
///
/// # Errors
/// What the system says, with the path in front; nothing is left behind then.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let named = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
    let folder = match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    };
    std::fs::create_dir_all(folder).map_err(named)?;
    // The usual permissions of a new file (less the user's mask), not a temporary file's own.
    let permissions = std::fs::Permissions::from_mode(0o666);
    let mut beside =
        tempfile::Builder::new().prefix(".kdc-").permissions(permissions).tempfile_in(folder).map_err(named)?;
    beside.write_all(bytes).map_err(named)?;
    beside.as_file().sync_all().map_err(named)?;
    beside.persist(path).map_err(|e| named(e.error))?;
    Ok(())
}

/// Removes what killed processes left in a folder where they were writing. Whoever calls must be the folder's only
/// writer.
///
/// # Errors
/// When the folder cannot be read or something in it not be removed. That there is no such folder is none.
pub fn sweep(folder: &Path) -> io::Result<()> {
    let entries = match std::fs::read_dir(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(b".kdc-") {
            match entry.file_type()?.is_dir() {
                true => std::fs::remove_dir_all(entry.path())?,
                false => std::fs::remove_file(entry.path())?,
            }
        }
    }
    Ok(())
}

/// Removes a folder and what is in it.
///
/// # Errors
/// What the system says. That there is no such folder is none.
pub fn remove_folder(folder: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// The BLAKE3 hash of some contents, in hexadecimal.
pub fn hash(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

/// The BLAKE3 hash of a file's contents, in hexadecimal.
///
/// # Errors
/// When the file cannot be read.
pub fn hash_file(path: &Path) -> io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    io::copy(&mut io::BufReader::with_capacity(1 << 20, std::fs::File::open(path)?), &mut hasher)?;
    Ok(hasher.finalize().to_hex().to_string())
}
