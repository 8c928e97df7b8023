//! Files that are either whole or not there, names for contents, and whose folders can be trusted.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

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
    write_with_mode(path, bytes, 0o666)
}

/// The same for a program: whoever may read it may run it.
///
/// # Errors
/// As [`write_atomic`].
pub fn write_program(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_with_mode(path, bytes, 0o777)
}

fn write_with_mode(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let named = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
    let folder = match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    };
    fs::create_dir_all(folder).map_err(named)?;
    // The usual permissions of a new file (less the user's mask), not a temporary file's own.
    let permissions = fs::Permissions::from_mode(mode);
    let mut beside =
        tempfile::Builder::new().prefix(".kdc-").permissions(permissions).tempfile_in(folder).map_err(named)?;
    beside.write_all(bytes).map_err(named)?;
    beside.as_file().sync_all().map_err(named)?;
    beside.persist(path).map_err(|e| named(e.error))?;
    // The name is part of the folder, which has to reach the disk too.
    sync(folder).map_err(named)
}

/// Waits until a file, or the names in a folder, are on the disk.
///
/// # Errors
/// What the system says.
pub fn sync(path: &Path) -> io::Result<()> {
    match File::open(path)?.sync_all() {
        // Some file systems (FUSE, network) have no such call for folders; there it cannot be waited for.
        Err(e) if path.is_dir() && matches!(e.raw_os_error(), Some(libc::EINVAL | libc::ENOTSUP)) => Ok(()),
        other => other,
    }
}

/// Bytes of a hash behind what it seals.
const SEAL: usize = blake3::OUT_LEN;

/// Writes `bytes` with their hash behind them, whole or not at all: what an interrupted run leaves for the next one.
///
/// # Errors
/// As [`write_atomic`].
pub fn write_sealed(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_atomic(path, &[bytes, blake3::hash(bytes).as_bytes()].concat())
}

/// What [`write_sealed`] wrote; `None` where there is no such file, or it is not as it was written.
///
/// # Errors
/// When the file is there and cannot be read.
pub fn read_sealed(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = match fs::read(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        bytes => bytes?,
    };
    let Some(length) = bytes.len().checked_sub(SEAL) else { return Ok(None) };
    let seal = bytes.split_off(length);
    Ok((seal == blake3::hash(&bytes).as_bytes()).then_some(bytes))
}

/// The hash of every file below a folder, by its path from there; folders without files do not count. A link, or what else
/// is no plain file, is an error.
///
/// # Errors
/// When something cannot be read.
pub fn hashes(folder: &Path) -> io::Result<BTreeMap<PathBuf, String>> {
    let mut found = BTreeMap::new();
    walk(folder, &mut |path| {
        let name = path.strip_prefix(folder).unwrap_or(path).to_path_buf();
        found.insert(name, hash_file(path)?);
        Ok(())
    })?;
    Ok(found)
}

/// Every plain file below a folder.
///
/// # Errors
/// When a folder cannot be read, holds what is neither file nor folder, or `each` fails.
pub fn walk(folder: &Path, each: &mut dyn FnMut(&Path) -> io::Result<()>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let (path, kind) = (entry.path(), entry.file_type()?);
        if kind.is_dir() {
            walk(&path, each)?;
        } else if kind.is_file() {
            each(&path)?;
        } else {
            return Err(io::Error::other(format!("{} is no plain file", path.display())));
        }
    }
    Ok(())
}

/// Waits until a folder and all that is in it are on the disk.
///
/// # Errors
/// What the system says.
pub fn sync_tree(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => sync_tree(&entry.path())?,
            false => sync(&entry.path())?,
        }
    }
    sync(folder)
}

/// Copies files and folders.
///
/// # Errors
/// What the system says; what was copied stays then.
pub fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => copy_tree(&entry.path(), &target)?,
            false => _ = fs::copy(entry.path(), &target)?,
        }
    }
    Ok(())
}

/// The folder that kdc keeps things in between runs, whether it is there or not: `$XDG_CACHE_HOME/kdc`, else `~/.cache/kdc`,
/// else one of this user in the folder for temporary files. Paths that are not absolute count as not said, as the XDG
/// base directory specification has it.
pub fn cache_folder() -> PathBuf {
    let from = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = from("XDG_CACHE_HOME").or_else(|| from("HOME").map(|home| home.join(".cache")));
    base.map_or_else(|| std::env::temp_dir().join(format!("kdc-{}", user())), |base| base.join("kdc"))
}

/// The user that this process acts for.
pub fn user() -> u32 {
    // SAFETY: `geteuid` has no preconditions and cannot fail.
    unsafe { libc::geteuid() }
}

/// Makes a folder for this user alone, or finds one whose contents nobody else can have put there.
///
/// # Errors
/// When it cannot be made, belongs to somebody else, or everybody may write into it.
pub fn own_folder(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    is_own(path)
}

/// Whether only this user can have put something into a folder.
///
/// # Errors
/// When it cannot be read, belongs to somebody else, or everybody may write into it.
pub fn is_own(path: &Path) -> io::Result<()> {
    let meta = fs::metadata(path)?;
    let refused = |what: String| Err(io::Error::new(io::ErrorKind::PermissionDenied, what));
    if meta.uid() != user() {
        return refused(format!(
            "it belongs to the user with the number {}, who may have put anything there",
            meta.uid()
        ));
    }
    if meta.permissions().mode() & 0o002 != 0 {
        return refused("everybody may write into it".into());
    }
    Ok(())
}

/// Removes what killed processes left in a folder where they were writing: `.kdc-` and six random characters. Whoever calls
/// must be the folder's only writer.
///
/// # Errors
/// When the folder cannot be read or something in it not be removed. That there is no such folder is none.
pub fn sweep(folder: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let random = name.as_encoded_bytes().strip_prefix(b".kdc-").unwrap_or_default();
        if random.len() == 6 && random.iter().all(u8::is_ascii_alphanumeric) {
            match entry.file_type()?.is_dir() {
                true => fs::remove_dir_all(entry.path())?,
                false => fs::remove_file(entry.path())?,
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
    match fs::remove_dir_all(folder) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_is_read_as_it_was_written_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        assert_eq!(read_sealed(&path).unwrap(), None);
        for contents in [&b""[..], b"0.5", &[7; 1000]] {
            write_sealed(&path, contents).unwrap();
            let whole = fs::read(&path).unwrap();
            assert_eq!(read_sealed(&path).unwrap().as_deref(), Some(contents));
            for at in [0, whole.len() / 2, whole.len() - 1] {
                let mut flipped = whole.clone();
                flipped[at] ^= 1;
                fs::write(&path, flipped).unwrap();
                assert_eq!(read_sealed(&path).unwrap(), None, "a bit of byte {at}");
                fs::write(&path, &whole[..at]).unwrap();
                assert_eq!(read_sealed(&path).unwrap(), None, "cut after {at}");
            }
        }
    }

    #[test]
    fn a_folder_that_others_may_write_into_is_not_ones_own() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/kdc");
        own_folder(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(own_folder(&path).unwrap_err().to_string().contains("everybody"));
        // The root of the file system is root's.
        if user() != 0 {
            assert!(is_own(Path::new("/")).unwrap_err().to_string().contains("number 0"));
        }
    }

    #[test]
    fn trees_are_copied_and_hashed_and_links_are_neither() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (folder.path().join("a"), folder.path().join("b"));
        fs::create_dir_all(a.join("inside")).unwrap();
        fs::write(a.join("inside/x"), "1").unwrap();
        fs::write(a.join("y"), "2").unwrap();
        copy_tree(&a, &b).unwrap();
        sync_tree(&b).unwrap();
        let found = hashes(&b).unwrap();
        assert_eq!(found, hashes(&a).unwrap());
        assert_eq!(found[Path::new("inside/x")], hash(b"1"));
        std::os::unix::fs::symlink("y", a.join("z")).unwrap();
        assert!(hashes(&a).unwrap_err().to_string().contains("no plain file"));
    }
}
