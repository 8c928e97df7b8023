//! Finding and loading the library of ONNX Runtime, once per process.
//!
//! `ort` can only be told once which library to use, and panics in places when that one does not work out. So a
//! candidate is first opened and asked for its version here, and handed to `ort` only if it will do.

use kdc_ir::files;
use std::ffi::{CStr, CString, c_char, c_void};
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// A library that works.
pub(super) struct Loaded {
    pub environment: ort::environment::Environment,
    /// `ONNX Runtime 1.22.0`
    pub engine: String,
    #[cfg(test)]
    pub path: PathBuf,
}

/// The oldest minor release of version 1 whose interface is used.
const OLDEST: u32 = ort::MINOR_VERSION;

/// The library of this process; looked for at the first call.
///
/// # Errors
/// Why there is none.
pub(super) fn get() -> Result<&'static Loaded, &'static str> {
    static LIBRARY: OnceLock<Result<Loaded, String>> = OnceLock::new();
    LIBRARY.get_or_init(find).as_ref().map_err(String::as_str)
}

fn find() -> Result<Loaded, String> {
    let candidates = match std::env::var_os("ORT_DYLIB_PATH").filter(|p| !p.is_empty()) {
        // Who names a library wants that one and no other.
        Some(path) => vec![PathBuf::from(path)],
        None => candidates(&folders()),
    };
    if candidates.is_empty() {
        return Err("its library is not in the usual folders".into());
    }
    let mut reasons = Vec::new();
    for path in &candidates {
        match load(path) {
            Ok(loaded) => return Ok(loaded),
            Err(why) => reasons.push(format!("{}: {why}", path.display())),
        }
    }
    Err(reasons.join("; "))
}

/// Where a library may lie, the most personal place first.
fn folders() -> Vec<PathBuf> {
    let mut folders = Vec::new();
    // What is loaded runs: only where nobody else can have put it.
    folders.extend(Some(files::cache_folder()).filter(|folder| files::is_own(folder).is_ok()));
    if let Some(environment) = std::env::var_os("VIRTUAL_ENV") {
        let lib = Path::new(&environment).join("lib");
        let pythons = std::fs::read_dir(&lib).into_iter().flatten().flatten().map(|e| e.path());
        let mut packages: Vec<PathBuf> = pythons.map(|p| p.join("site-packages/onnxruntime/capi")).collect();
        packages.sort();
        folders.extend(packages);
    }
    folders.extend(std::env::split_paths(&std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default()));
    let multiarch = format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH);
    folders.extend(["/usr/local/lib", &multiarch, "/usr/lib64", "/usr/lib", "/opt/onnxruntime/lib"].map(PathBuf::from));
    // Nothing is loaded from wherever kdc was started.
    folders.retain(|f| f.is_absolute());
    folders
}

/// The files called `libonnxruntime.so*` in these folders, links before what they point at.
fn candidates(folders: &[PathBuf]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in folders {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let mut here: Vec<PathBuf> =
            entries.filter(|e| e.file_name().as_bytes().starts_with(b"libonnxruntime.so")).map(|e| e.path()).collect();
        here.sort();
        found.extend(here);
    }
    found
}

fn load(path: &Path) -> Result<Loaded, String> {
    let path = path.canonicalize().map_err(|e| e.to_string())?;
    let version = probe(&path)?;
    let environment = catch_unwind(AssertUnwindSafe(|| {
        let builder = ort::init_from(&path).map_err(|e| e.to_string())?;
        let environment = builder.with_name("kdc").with_telemetry(false).build().map_err(|e| e.to_string())?;
        environment.set_log_level(ort::logging::LogLevel::Error);
        Ok::<_, String>(environment)
    }));
    let environment = environment.unwrap_or_else(|_| Err("it does not initialise".into()))?;
    Ok(Loaded {
        environment,
        engine: format!("ONNX Runtime {version}"),
        #[cfg(test)]
        path,
    })
}

/// What `OrtGetApiBase` points at, as declared in `onnxruntime_c_api.h`; stable since version 1.0.
#[repr(C)]
struct ApiBase {
    get_api: unsafe extern "C" fn(u32) -> *const c_void,
    get_version: unsafe extern "C" fn() -> *const c_char,
}

/// The version of the library in a file, if it is one that will do.
fn probe(path: &Path) -> Result<String, String> {
    let name = CString::new(path.as_os_str().as_bytes()).map_err(|e| e.to_string())?;
    // SAFETY: opening a library runs its constructors; that it is ONNX Runtime is the user's word, given by its name
    // and place. It stays open: `ort` is about to use it. The signatures are those of onnxruntime_c_api.h.
    let version = unsafe {
        let library = libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL);
        if library.is_null() {
            let why = libc::dlerror();
            let why = if why.is_null() { "it does not load".into() } else { CStr::from_ptr(why).to_string_lossy() };
            // The loader often puts the path in front, and so does the caller.
            return Err(why.strip_prefix(&format!("{}: ", path.display())).unwrap_or(&why).to_string());
        }
        let symbol = libc::dlsym(library, c"OrtGetApiBase".as_ptr());
        if symbol.is_null() {
            return Err("it has no function OrtGetApiBase, so it is not ONNX Runtime".into());
        }
        let base = std::mem::transmute::<*mut c_void, unsafe extern "C" fn() -> *const ApiBase>(symbol)();
        if base.is_null() {
            return Err("its OrtGetApiBase answers nothing".into());
        }
        let version = CStr::from_ptr(((*base).get_version)()).to_string_lossy().into_owned();
        if new_enough(&version) && ((*base).get_api)(OLDEST).is_null() {
            return Err(format!("version {version} does not offer interface {OLDEST}"));
        }
        version
    };
    if new_enough(&version) {
        Ok(version)
    } else {
        Err(format!("version {version} is too old, 1.{OLDEST} is the oldest that will do"))
    }
}

fn new_enough(version: &str) -> bool {
    let mut parts = version.split('.').map(|p| p.parse::<u32>().ok());
    matches!((parts.next().flatten(), parts.next().flatten()), (Some(1), Some(minor)) if minor >= OLDEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        assert!(new_enough("1.22.0") && new_enough("1.17.3"));
        assert!(!new_enough("1.9.1") && !new_enough("1.16.3") && !new_enough("nonsense") && !new_enough(""));
    }

    #[test]
    fn a_file_that_is_no_library_is_refused_with_a_reason() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("libonnxruntime.so.1.99.0");
        std::fs::write(&path, "not a library").unwrap();
        assert_eq!(candidates(&[folder.path().to_path_buf()]), std::slice::from_ref(&path));
        let why = load(&path).err().unwrap();
        assert!(why.contains("invalid ELF header") || why.contains("too short"), "{why}");
        assert!(load(&folder.path().join("absent.so")).is_err());
    }

    #[test]
    fn a_library_of_something_else_is_refused() {
        // The C library is loaded already, under this name on every Linux with glibc.
        let why = probe(Path::new("libc.so.6")).unwrap_err();
        assert!(why.contains("not ONNX Runtime"), "{why}");
    }
}
