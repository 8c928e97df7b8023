//! Files that are either whole or not there, and names for contents.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Opens a file to read it. Only regular files: reading a named pipe or a device may wait, or go on, for ever.
///
/// # Errors
/// What the system says, or what else the path names.
pub fn open(path: &Path) -> io::Result<File> {
    // Without waiting: opening a pipe that nobody writes to would block before its kind is known.
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let kind = file.metadata()?.file_type();
    let other = match () {
        () if kind.is_file() => return Ok(file),
        () if kind.is_dir() => "a folder",
        () if kind.is_fifo() => "a named pipe",
        () if kind.is_socket() => "a socket",
        () => "a device",
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("it is {other}; only regular files are read")))
}

/// Reads a whole regular file of at most `most` bytes.
///
/// # Errors
/// As [`open`], and when the file is larger.
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let file = open(path)?;
    let length = file.metadata()?.len();
    let mut bytes = vec![];
    if length <= most {
        bytes.reserve_exact(length as usize);
        // It may have grown meanwhile.
        file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    }
    if length > most || bytes.len() as u64 > most {
        let what = format!("it is larger than the {most} bytes that such a file may have");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, what));
    }
    Ok(bytes)
}

/// The same for text.
///
/// # Errors
/// As [`read`], and when it is not UTF-8.
pub fn read_text(path: &Path, most: u64) -> io::Result<String> {
    let text = String::from_utf8(read(path, most)?);
    text.map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8 text"))
}

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
    io::copy(&mut io::BufReader::with_capacity(1 << 20, open(path)?), &mut hasher)?;
    Ok(hasher.finalize().to_hex().to_string())
}
