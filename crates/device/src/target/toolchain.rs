//! Finds what builds a generated crate for a target, and builds it.
//!
//! A Rust compiler builds for a triple when it has the triple's standard library. kdc asks the compiler in `PATH`
//! first (with rustup, that is the toolchain of the moment, `rustup target add TRIPLE` being the remedy), then Debian's
//! own `/usr/bin/rustc`, whose standard libraries are packages.
//!
//! A build is reproducible: it runs offline, takes nothing from the environment but where Rust lives, reads no settings of
//! cargo's but its own (none above the crate's folder, none of the user's), uses one code generation unit, and has the
//! folder's name mapped away, so that equal crates give equal programs wherever they are. What is built is a copy in which
//! library, kernels and runner are one workspace: cargo hashes the paths of packages below a workspace's root relative to it,
//! those of others absolute, and these hashes are in the names, and so in the order, of a program's functions.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::profile::Profile;

/// The program that a generated crate's runner is.
pub const PROGRAM: &str = "student";

/// A compiler, cargo and linker that build for one triple.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toolchain {
    pub cargo: PathBuf,
    pub rustc: PathBuf,
    /// What `rustc --version` prints.
    pub version: String,
    pub triple: String,
    /// `None` for the linker that Rust takes by itself.
    pub linker: Option<PathBuf>,
}

/// What is not installed, and how to install it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot build for {triple}: no {}; install it with `{command}`{}", .what.join(", no "), or_else(.alternative))]
pub struct Missing {
    pub triple: String,
    pub what: Vec<String>,
    /// One command line that installs all of it.
    pub command: String,
    /// The one for machines where rustup cannot download.
    pub alternative: Option<String>,
}

fn or_else(alternative: &Option<String>) -> String {
    alternative.as_ref().map_or_else(String::new, |line| format!(" (where rustup cannot download: `{line}`)"))
}

/// Why a build failed.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error("{}: cannot be started", .program.display())]
    Start { program: PathBuf, source: std::io::Error },
    #[error("generated crate {}: cargo failed; the end of what it said:\n{tail}", .folder.display())]
    Failed { folder: PathBuf, tail: String },
    #[error("generated crate {}: cannot be copied to {}, where it would be built", .folder.display(), .to.display())]
    Copy { folder: PathBuf, to: PathBuf, source: std::io::Error },
    #[error("generated crate {}: cargo made no program {}", .folder.display(), .program.display())]
    NoProgram { folder: PathBuf, program: PathBuf },
}

/// Looks for everything that a build for `profile` takes.
///
/// # Errors
/// What is missing, with the command that installs it.
pub fn find(profile: &Profile) -> Result<Toolchain, Missing> {
    let build = &profile.build;
    let cargo = in_path("cargo");
    let compiler = compilers().into_iter().find(|rustc| builds_for(rustc, &build.triple));
    let linker = build.linker.as_deref().map(|name| in_path(name).ok_or(name)).transpose();
    match (cargo, compiler, linker) {
        (Some(cargo), Some(rustc), Ok(linker)) => {
            let version = ask(&rustc, &["--version"]).unwrap_or_default();
            Ok(Toolchain { cargo, rustc, version, triple: build.triple.clone(), linker })
        }
        (cargo, compiler, linker) => {
            Err(missing(profile, cargo.is_none(), compiler.is_none(), linker.err().map(str::to_owned)))
        }
    }
}

impl Toolchain {
    /// Builds the runner of a generated crate, `crate_dir/runner`, and returns the linked program, which lies under
    /// `target_dir`, a folder outside `crate_dir`. Nothing is written to `crate_dir`. `verbose` shows cargo's output on
    /// standard error.
    ///
    /// # Errors
    /// When the crate cannot be copied, or cargo cannot be started or fails; the error has the end of its output.
    pub fn build(
        &self,
        crate_dir: &Path,
        profile: &Profile,
        target_dir: &Path,
        verbose: bool,
    ) -> Result<PathBuf, BuildError> {
        let unstarted = |source| BuildError::Start { program: self.cargo.clone(), source };
        let absolute = |path: &Path| std::path::absolute(path).map_err(unstarted);
        let (folder, target_dir) = (absolute(crate_dir)?, absolute(target_dir)?);
        let copy = target_dir.join("crate");
        as_one_workspace(&folder, &copy).map_err(|source| BuildError::Copy {
            folder: folder.clone(),
            to: copy.clone(),
            source,
        })?;
        // A home of its own, with nothing in it.
        let home = target_dir.join("cargo-home");
        std::fs::create_dir_all(&home).map_err(unstarted)?;
        let mut cargo = self.cargo(&copy, profile, &target_dir);
        cargo.env("CARGO_HOME", &home);
        let out = cargo.stdin(Stdio::null()).output().map_err(unstarted)?;
        let said = String::from_utf8_lossy(&out.stderr);
        if verbose {
            eprint!("{said}");
        }
        if !out.status.success() {
            return Err(BuildError::Failed { folder, tail: tail(&said, 30) });
        }
        let program = target_dir.join(&self.triple).join("release").join(PROGRAM);
        if program.is_file() { Ok(program) } else { Err(BuildError::NoProgram { folder, program }) }
    }

    /// The library of the crate that a program was built from, where [`build`](Toolchain::build) left it.
    pub fn library(&self, name: &str, target_dir: &Path) -> Option<PathBuf> {
        let deps = target_dir.join(&self.triple).join("release").join("deps");
        let ours = |file: &str| file.starts_with(&format!("lib{name}-")) && file.ends_with(".rlib");
        let mut found: Vec<PathBuf> = std::fs::read_dir(deps).ok()?.flatten().map(|e| e.path()).collect();
        found.retain(|p| p.file_name().is_some_and(|f| ours(&f.to_string_lossy())));
        found.sort();
        found.into_iter().next()
    }

    fn cargo(&self, folder: &Path, profile: &Profile, target_dir: &Path) -> Command {
        let mut cargo = Command::new(&self.cargo);
        isolate(&mut cargo);
        cargo.args(["build", "--release", "--offline", "--color", "never"]);
        cargo.args(["--bin", PROGRAM, "--target", &self.triple, "--manifest-path"]);
        cargo.arg(folder.join("runner/Cargo.toml")).arg("--target-dir").arg(target_dir);
        for setting in
            ["opt-level=3", "panic='abort'", "strip='symbols'", "codegen-units=1", "incremental=false", "debug=false"]
        {
            cargo.arg("--config").arg(format!("profile.release.{setting}"));
        }
        cargo.env("RUSTC", &self.rustc).env("CARGO_ENCODED_RUSTFLAGS", self.flags(profile, target_dir));
        if let Some(linker) = &self.linker {
            cargo.env(format!("CARGO_TARGET_{}_LINKER", variable(&self.triple)), linker);
            cargo.env(format!("CC_{}", self.triple.replace('-', "_")), linker);
        }
        cargo
    }

    /// Flags for the compiler, joined as cargo wants them: by the ASCII unit separator.
    fn flags(&self, profile: &Profile, target_dir: &Path) -> OsString {
        let mut flags: Vec<OsString> = vec![format!("-Ctarget-cpu={}", profile.cpu.name).into()];
        if !profile.cpu.features.is_empty() {
            flags.push(format!("-Ctarget-feature={}", profile.cpu.features.join(",")).into());
        }
        let mut flag = OsString::from("--remap-path-prefix=");
        flag.push(target_dir);
        flag.push("=/student");
        flags.push(flag);
        flags.join(OsStr::new("\u{1f}"))
    }
}

/// Copies a generated crate, and makes a workspace of it and of its runner there: see the module.
fn as_one_workspace(from: &Path, to: &Path) -> std::io::Result<()> {
    if to.starts_with(from) {
        return Err(std::io::Error::other("the crate holds the folder"));
    }
    kdc_ir::files::remove_folder(to)?;
    kdc_ir::files::copy_tree(from, to)?;
    let edit = |manifest: &str, edit: &dyn Fn(&mut toml::Table)| {
        let path = to.join(manifest);
        let mut table: toml::Table = std::fs::read_to_string(&path)?.parse().map_err(std::io::Error::other)?;
        edit(&mut table);
        std::fs::write(path, table.to_string())
    };
    let root = toml::Table::from_iter([("members".to_owned(), vec!["runner"].into())]);
    edit("Cargo.toml", &|library| _ = library.insert("workspace".into(), root.clone().into()))?;
    // Only a root has profiles; the settings of this one are on cargo's command line.
    edit("runner/Cargo.toml", &|runner| runner.retain(|key, _| key != "workspace" && key != "profile"))
}

/// What a build may know of its environment: where programs, Rust's toolchains, their libraries and temporary files are.
const KNOWN: [&str; 7] =
    ["PATH", "HOME", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN", "LD_LIBRARY_PATH", "DYLD_FALLBACK_LIBRARY_PATH", "TMPDIR"];

/// Keeps away what settings for other builds would change: variables (flags, wrappers, linkers, an outer make's job server),
/// and the files that cargo and rustup look for from the current folder upwards, which is the root of the file system here.
fn isolate(command: &mut Command) {
    let known = KNOWN.into_iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
    let known: Vec<_> = known.collect();
    command.env_clear().envs(known).current_dir("/");
}

/// How cargo spells a triple in the names of variables.
fn variable(triple: &str) -> String {
    triple.replace(['-', '.'], "_").to_uppercase()
}

/// The compilers to ask: the one in `PATH` (behind rustup's proxy, the real one), then Debian's.
fn compilers() -> Vec<PathBuf> {
    let behind = |rustc: PathBuf| {
        let sysroot = ask(&rustc, &["--print", "sysroot"])?;
        let real = Path::new(&sysroot).join("bin/rustc");
        Some(if real.is_file() { real } else { rustc })
    };
    let debian = Some(PathBuf::from("/usr/bin/rustc")).filter(|p| p.is_file());
    let mut found: Vec<PathBuf> = in_path("rustc").and_then(behind).into_iter().chain(debian).collect();
    found.dedup();
    found
}

/// Whether a compiler has the standard library of a triple.
fn builds_for(rustc: &Path, triple: &str) -> bool {
    let Some(folder) = ask(rustc, &["--print", "target-libdir", "--target", triple]) else { return false };
    let Ok(entries) = std::fs::read_dir(folder) else { return false };
    let mut names = entries.flatten().map(|entry| entry.file_name());
    names.any(|name| name.to_string_lossy().starts_with("libcore-"))
}

/// The trimmed standard output of a command that succeeds.
fn ask(program: &Path, arguments: &[&str]) -> Option<String> {
    let mut command = Command::new(program);
    isolate(&mut command);
    let out = command.args(arguments).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    out.status.success().then(|| String::from_utf8_lossy(&out.stdout).trim().to_owned())
}

/// The first program of this name in the folders of `PATH`; those that are relative to wherever kdc was started do not count.
pub fn in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let folders = std::env::split_paths(&path).filter(|folder| folder.is_absolute());
    folders.map(|folder| folder.join(name)).find(|candidate| is_program(candidate))
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

fn missing(profile: &Profile, no_cargo: bool, no_std: bool, no_linker: Option<String>) -> Missing {
    let build = &profile.build;
    let triple = build.triple.clone();
    let cargo = no_cargo.then(|| "cargo".to_owned());
    let std = no_std.then(|| format!("Rust standard library for {triple}"));
    let linker = no_linker.as_ref().map(|name| format!("linker {name}"));
    let what = cargo.into_iter().chain(std).chain(linker).collect();

    let linker_packages = if no_linker.is_some() { build.packages.as_slice() } else { &[] };
    let with_rustup = [
        no_cargo.then(|| "curl --proto '=https' -sSf https://sh.rustup.rs | sh -s -- -y".to_owned()),
        no_std.then(|| format!("rustup target add {triple}")),
        (!linker_packages.is_empty()).then(|| apt_get(linker_packages)),
    ];
    let with_rustup = with_rustup.into_iter().flatten().collect::<Vec<_>>().join(" && ");
    let with_debian = (no_std && !build.rust_packages.is_empty()).then(|| {
        let foreign = build.rust_packages.iter().find_map(|package| Some(package.split_once(':')?.1));
        let add = foreign.map(|arch| as_root(&format!("dpkg --add-architecture {arch}")));
        let install = apt_get(&[build.rust_packages.as_slice(), linker_packages].concat());
        add.into_iter().chain([as_root("apt-get update"), install]).collect::<Vec<_>>().join(" && ")
    });

    let rustup = no_cargo || in_path("rustup").is_some();
    let (command, alternative) = match (in_checkout(), with_debian) {
        (Some(setup), _) if !no_cargo => (setup, None),
        (_, Some(line)) if !rustup => (line, None),
        (_, line) => (with_rustup, line),
    };
    Missing { triple, what, command, alternative }
}

/// The command that installs Debian packages.
pub fn apt_get(packages: &[impl AsRef<str>]) -> String {
    let names: Vec<&str> = packages.iter().map(AsRef::as_ref).collect();
    as_root(&format!("apt-get install -y {}", names.join(" ")))
}

/// A command that takes a superuser, for whoever we are.
fn as_root(command: &str) -> String {
    if kdc_ir::files::user() == 0 { command.into() } else { format!("sudo {command}") }
}

/// `make -C … setup`, when this kdc was built in a checkout that is still there.
fn in_checkout() -> Option<String> {
    let program = std::env::current_exe().ok()?;
    let root =
        program.ancestors().find(|dir| dir.join("Makefile").is_file() && dir.join("targets/kernels").is_dir())?;
    let here = std::env::current_dir().is_ok_and(|dir| dir == root);
    Some(if here { "make setup".into() } else { format!("make -C {} setup", root.display()) })
}

/// The last `count` lines.
fn tail(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    lines.get(lines.len().saturating_sub(count)..).unwrap_or_default().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target;

    /// A crate like the generated ones: a library, and its runner in a workspace of its own.
    fn write_crate(folder: &Path, main: &str) {
        let write = |path: &str, text: &str| kdc_ir::files::write_atomic(&folder.join(path), text.as_bytes()).unwrap();
        let package = |name: &str| format!("[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2021\"\n");
        write("Cargo.toml", &package("network"));
        write("src/lib.rs", "pub fn at(x: &[u8], i: usize) -> u8 { assert!(i < x.len(), \"too far\"); x[i] }\n");
        write(
            "runner/Cargo.toml",
            &format!("{}[dependencies]\nnetwork = {{ path = \"..\" }}\n[workspace]\n", package(PROGRAM)),
        );
        write("runner/src/main.rs", main);
    }

    const MAIN: &str =
        "fn main() { let n = std::env::args().count(); println!(\"{} {}\", network::at(b\"abc\", n), file!()); }";

    fn build(profile: &Profile, main: &str, folder: &str) -> Option<Result<Vec<u8>, BuildError>> {
        let toolchain = match find(profile) {
            Ok(toolchain) => toolchain,
            Err(missing) => {
                kdc_ir::testing::skipped(missing);
                return None;
            }
        };
        let root = tempfile::tempdir().unwrap();
        let (crate_dir, target_dir) = (root.path().join(folder).join("crate"), root.path().join("t").join(folder));
        write_crate(&crate_dir, main);
        Some(toolchain.build(&crate_dir, profile, &target_dir, false).map(|program| std::fs::read(program).unwrap()))
    }

    #[test]
    fn equal_crates_give_equal_programs_in_any_folder() {
        for name in ["raspberry-pi-4", "host"] {
            let profile = target::find(name, &[]).unwrap();
            let Some(first) = build(&profile, MAIN, "a") else { continue };
            let second = build(&profile, MAIN, "b c/d").unwrap().unwrap();
            assert!(first.unwrap() == second, "{name}: the programs differ");
        }
    }

    #[test]
    fn settings_of_cargo_above_the_crate_and_of_rustup_do_not_reach_a_build() {
        let profile = target::find("host", &[]).unwrap();
        let Some(plain) = build(&profile, MAIN, "a") else { return };
        let toolchain = find(&profile).unwrap();
        let root = tempfile::tempdir().unwrap();
        // Any of them would end the build, or change the program.
        let write =
            |path: &str, text: &str| kdc_ir::files::write_atomic(&root.path().join(path), text.as_bytes()).unwrap();
        write(
            ".cargo/config.toml",
            "[build]\nrustc-wrapper = \"/no/such/wrapper\"\n[profile.release]\nopt-level = 0\noverflow-checks = true\n\
             [env]\nRUSTC_BOOTSTRAP = \"1\"\n[target.'cfg(all())']\nlinker = \"/no/such/linker\"\nrunner = \"/no/such\"\n",
        );
        write("rust-toolchain.toml", "[toolchain]\nchannel = \"1.0.0\"\n");
        write("Cargo.toml", "[workspace]\nmembers = []\n");
        let crate_dir = root.path().join("inside/crate");
        write_crate(&crate_dir, MAIN);
        let program = toolchain.build(&crate_dir, &profile, &root.path().join("inside/target"), false).unwrap();
        assert!(std::fs::read(program).unwrap() == plain.unwrap(), "the program is another one");
    }

    #[test]
    fn a_crate_is_not_written_to() {
        let profile = target::find("host", &[]).unwrap();
        let Ok(toolchain) = find(&profile) else { return kdc_ir::testing::skipped("no toolchain for this machine") };
        let root = tempfile::tempdir().unwrap();
        let crate_dir = root.path().join("crate");
        write_crate(&crate_dir, MAIN);
        let before = kdc_ir::files::hashes(&crate_dir).unwrap();
        toolchain.build(&crate_dir, &profile, &root.path().join("target"), false).unwrap();
        let inside = toolchain.build(&crate_dir, &profile, &crate_dir.join("target"), false).unwrap_err();
        assert!(matches!(inside, BuildError::Copy { .. }), "{inside}");
        assert_eq!(kdc_ir::files::hashes(&crate_dir).unwrap(), before);
    }

    #[test]
    fn a_failed_build_says_what_cargo_said() {
        let profile = target::find("host", &[]).unwrap();
        let Some(result) = build(&profile, "fn main() { no_such_function() }", "a") else { return };
        let message = result.unwrap_err().to_string();
        assert!(message.contains("no_such_function"), "{message}");
    }

    #[test]
    fn what_is_missing_is_named_with_one_command() {
        let mut profile = target::find("raspberry-pi", &[]).unwrap();
        profile.build.linker = Some("no-such-linker".into());
        profile.build.triple = "aarch64-no-such-os".into();
        let missing = find(&profile).unwrap_err();
        assert_eq!(missing.what, ["Rust standard library for aarch64-no-such-os", "linker no-such-linker"]);
        let message = missing.to_string();
        assert!(message.contains(&missing.command) && !missing.command.contains('\n'), "{message}");
    }

    #[test]
    fn commands_fit_the_machine() {
        let profile = target::find("raspberry-pi", &[]).unwrap();
        let linker = missing(&profile, false, false, Some("aarch64-linux-gnu-gcc".into()));
        if in_checkout().is_none() {
            let packages = "apt-get install -y gcc-aarch64-linux-gnu libc6-dev-arm64-cross";
            assert_eq!(linker.command.trim_start_matches("sudo "), packages);
            assert_eq!(linker.alternative, None);
        } else {
            assert!(linker.command.ends_with("setup"), "{}", linker.command);
        }
    }

    #[test]
    fn the_tail_is_the_end() {
        assert_eq!(tail("a\nb\nc\n", 2), "b\nc");
        assert_eq!(tail("a", 5), "a");
    }
}
