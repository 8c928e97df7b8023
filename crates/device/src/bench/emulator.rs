//! Runs students for other machines under QEMU and counts their instructions: every figure is *simulated*.
//!
//! Time under an emulator says nothing about a board; instructions do, roughly. They are counted by a plugin of our own
//! (`icount.c`), which is compiled once into a cache folder. One inference takes the difference of two runs with
//! different numbers of inferences, over the difference of the numbers: start and end of the program cancel.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::figure::{Figure, Unit};
use super::process::{self, Error};
use crate::target::{Profile, toolchain};

const PLUGIN: &str = include_str!("icount.c");

/// Versions of QEMU's plugin interface that the source builds for; which one a QEMU takes is found out by trying.
const API_VERSIONS: std::ops::RangeInclusive<u32> = 1..=6;

/// Something that would be needed for a figure, and is not there. The figure is left out; nothing else fails.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{what}{}", remedy(.install))]
pub struct Unavailable {
    pub what: String,
    /// The command that installs it, where there is one.
    pub install: Option<String>,
}

fn remedy(install: &Option<String>) -> String {
    install.as_ref().map_or_else(String::new, |command| format!("; install it with `{command}`"))
}

/// An emulator that is installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Emulator {
    program: PathBuf,
    arguments: Vec<String>,
}

impl Emulator {
    /// The emulator of a profile.
    ///
    /// # Errors
    /// When the profile has none, or it or the board's C library is not installed.
    pub fn find(profile: &Profile) -> Result<Emulator, Unavailable> {
        let Some(emulator) = &profile.emulator else {
            return Err(Unavailable { what: format!("the target {} has no emulator", profile.id), install: None });
        };
        let install = Some(toolchain::apt_get(&emulator.packages));
        let Some(program) = toolchain::in_path(&emulator.program) else {
            return Err(Unavailable { what: format!("{} is not installed", emulator.program), install });
        };
        let mut roots = emulator.arguments.windows(2).filter(|pair| pair.first().is_some_and(|a| a == "-L"));
        if let Some(root) = roots.find_map(|pair| pair.get(1).filter(|root| !Path::new(root).is_dir())) {
            return Err(Unavailable { what: format!("the board's C library is not in {root}"), install });
        }
        Ok(Emulator { program, arguments: emulator.arguments.clone() })
    }

    /// What is put before a program's own command.
    pub fn command(&self) -> Vec<OsString> {
        std::iter::once(self.program.clone().into()).chain(self.arguments.iter().map(OsString::from)).collect()
    }
}

/// What a student executes, counted.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Instructions {
    pub per_inference: f64,
    /// Inferences that were counted.
    pub inferences: usize,
}

impl Instructions {
    /// The figure of a report.
    pub fn figure(&self) -> Figure {
        Figure::simulated("instructions per inference", self.per_inference, Unit::Instructions)
    }
}

/// An emulator that counts instructions.
#[derive(Clone, Debug)]
pub struct Counter {
    emulator: Emulator,
    plugin: PathBuf,
}

impl Counter {
    /// Builds the plugin into `cache` unless it is there, in the version that this emulator takes. `probe` is a program
    /// for the emulated machine that ends by itself when run with `arguments`.
    ///
    /// # Errors
    /// When there is no C compiler, or the emulator takes no plugins.
    pub fn new(emulator: &Emulator, cache: &Path, probe: &Path, arguments: &[&str]) -> Result<Counter, Unavailable> {
        let mut refusal = String::new();
        for version in API_VERSIONS {
            let plugin = build_plugin(cache, version)?;
            let counter = Counter { emulator: emulator.clone(), plugin };
            match counter.count(probe, arguments) {
                Ok(_) => return Ok(counter),
                Err(error) => refusal = error.to_string(),
            }
        }
        Err(Unavailable { what: format!("the emulator counts no instructions: {refusal}"), install: None })
    }

    /// The instructions that a program executes from its start to its end.
    ///
    /// # Errors
    /// When the program cannot be run or fails.
    pub fn count<S: AsRef<std::ffi::OsStr>>(&self, program: &Path, arguments: &[S]) -> Result<u64, Error> {
        let folder = tempfile::tempdir().map_err(Error::Files)?;
        let out = folder.path().join("count");
        let mut prefix = self.emulator.command();
        prefix.push("-plugin".into());
        prefix.push(format!("{},out={}", option(&self.plugin), option(&out)).into());
        let command = process::command(&prefix, program, arguments);
        let shown = process::shown(&command);
        process::finish(command)?;
        let text = std::fs::read_to_string(out).unwrap_or_default();
        text.trim().parse().map_err(|_| Error::NoCount { command: shown })
    }

    /// The instructions of one inference of a student, from `inferences` of them.
    ///
    /// # Errors
    /// When the student cannot be run or fails.
    pub fn instructions(&self, student: &Path, inferences: usize) -> Result<Instructions, Error> {
        // untimed inferences leave no trace in what the program prints, so nothing but their number differs
        let (few, inferences) = (1, inferences.max(1));
        let count = |warmup: usize| self.count(student, &process::bench_arguments(1, warmup));
        let more = count(few + inferences)?.saturating_sub(count(few)?);
        Ok(Instructions { per_inference: more as f64 / inferences as f64, inferences })
    }

    /// The instructions of one call of each of a student's steps at these ascending positions.
    ///
    /// # Errors
    /// When the student cannot be run or fails.
    pub fn step_instructions(&self, student: &Path, steps: &[usize]) -> Result<Vec<f64>, Error> {
        // untimed calls leave no trace in what the program prints
        let count = |calls: usize, step: usize| {
            let numbers = [calls.to_string(), step.to_string()];
            let [calls, step] = numbers.each_ref().map(String::as_str);
            self.count(student, &["steps", "--runs", "0", "--warmup", calls, "--only", step])
        };
        let (Some(&first), Some(&last)) = (steps.first(), steps.last()) else { return Ok(Vec::new()) };
        // what a run takes beside its calls grows with what must be looked through to find the step
        let (from, to) = (count(0, first)? as f64, count(0, last)? as f64);
        let share = |step: usize| step.saturating_sub(first) as f64 / last.saturating_sub(first).max(1) as f64;
        let none = |step: usize| from + (to - from) * share(step);
        steps.iter().map(|&step| Ok((count(1, step)? as f64 - none(step)).max(0.0))).collect()
    }
}

/// A path as a value among QEMU's options: commas are doubled.
fn option(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

/// The plugin for one version of the interface, named after its source: a new source is another file.
fn build_plugin(cache: &Path, version: u32) -> Result<PathBuf, Unavailable> {
    let hash = kdc_ir::files::hash(PLUGIN.as_bytes());
    let plugin = cache.join(format!("icount-{}-v{version}.so", hash.get(..16).unwrap_or(&hash)));
    // It becomes part of the emulator: one that is not as it was built is built again. (Loaders pass over the hash behind it.)
    if kdc_ir::files::read_sealed(&plugin).is_ok_and(|built| built.is_some()) {
        return Ok(plugin);
    }
    let Some(cc) = toolchain::in_path("cc") else {
        let install = Some(toolchain::apt_get(&["gcc", "libc6-dev"]));
        return Err(Unavailable { what: "no C compiler (cc) for the plugin that counts instructions".into(), install });
    };
    let failed = |error: &dyn std::fmt::Display| Unavailable {
        what: format!("the plugin that counts instructions: {error}"),
        install: None,
    };
    let folder = tempfile::tempdir().map_err(|e| failed(&e))?;
    let (source, object) = (folder.path().join("icount.c"), folder.path().join("icount.so"));
    std::fs::write(&source, PLUGIN).map_err(|e| failed(&e))?;
    let mut arguments: Vec<OsString> =
        ["-O2", "-shared", "-fPIC", "-fvisibility=hidden"].into_iter().map(OsString::from).collect();
    arguments.push(format!("-DAPI_VERSION={version}").into());
    arguments.extend([source.into(), "-o".into(), object.clone().into()]);
    process::finish(process::command(&[], &cc, &arguments)).map_err(|e| failed(&e))?;
    let bytes = std::fs::read(&object).map_err(|e| failed(&e))?;
    kdc_ir::files::write_sealed(&plugin, &bytes).map_err(|e| failed(&e))?;
    Ok(plugin)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target;

    /// Compiles a C program for the emulated machine; `None`, said aloud, where that cannot be done.
    fn cross_compile(folder: &Path, text: &str) -> Option<PathBuf> {
        let Some(gcc) = toolchain::in_path("aarch64-linux-gnu-gcc") else {
            kdc_ir::testing::skipped("aarch64-linux-gnu-gcc is not installed");
            return None;
        };
        let (source, program) = (folder.join("a.c"), folder.join("a,b"));
        std::fs::write(&source, text).unwrap();
        let arguments = ["-O1".as_ref(), source.as_os_str(), "-o".as_ref(), program.as_os_str()];
        process::finish(process::command(&[], &gcc, &arguments)).unwrap();
        Some(program)
    }

    fn emulator() -> Option<Emulator> {
        let profile = target::find("raspberry-pi", &[]).unwrap();
        Emulator::find(&profile).inspect_err(|unavailable| kdc_ir::testing::skipped(unavailable)).ok()
    }

    /// Takes the arguments of `student bench`; an "inference" is 1000 rounds of a loop of six instructions.
    const LOOP: &str = "#include <stdlib.h>\n\
        int main(int n, char **v) { volatile int s = 0; int rounds = n > 4 ? 1000 * (atoi(v[3]) + atoi(v[5])) : 0;\n\
        for (int i = 0; i < rounds; i++) s += i; return 0; }";

    #[test]
    fn instructions_of_a_loop_are_counted_exactly() {
        let folder = tempfile::tempdir().unwrap();
        let (Some(emulator), Some(program)) = (emulator(), cross_compile(folder.path(), LOOP)) else { return };
        let cache = folder.path().join("cache,1");
        let counter = Counter::new(&emulator, &cache, &program, &[]).unwrap();
        let [one, seven] = [1, 7].map(|k| counter.instructions(&program, k).unwrap());
        let per_round = one.per_inference / 1000.0;
        assert!((4.0..=10.0).contains(&per_round) && per_round.fract() == 0.0, "{per_round} instructions a round");
        assert_eq!(one.per_inference, seven.per_inference);
        // a second counter finds the plugin built
        let built: Vec<_> = std::fs::read_dir(&cache).unwrap().map(|e| e.unwrap().path()).collect();
        assert_eq!(Counter::new(&emulator, &cache, &program, &[]).unwrap().plugin, built[0]);
        assert_eq!(built.len(), 1);
    }

    #[test]
    fn what_is_missing_is_said_with_its_remedy() {
        let mut profile = target::find("raspberry-pi", &[]).unwrap();
        profile.emulator.as_mut().unwrap().program = "no-such-qemu".into();
        let unavailable = Emulator::find(&profile).unwrap_err();
        assert!(unavailable.to_string().contains("apt-get install -y qemu-user"), "{unavailable}");
        assert_eq!(Emulator::find(&target::find("host", &[]).unwrap()).unwrap_err().install, None);
    }

    #[test]
    fn an_emulator_without_plugins_is_unavailable() {
        if toolchain::in_path("cc").is_none() {
            return kdc_ir::testing::skipped("cc is not installed");
        }
        let folder = tempfile::tempdir().unwrap();
        // runs nothing and writes nothing
        let emulator = Emulator { program: "/bin/true".into(), arguments: Vec::new() };
        let refused = Counter::new(&emulator, folder.path(), Path::new("/bin/true"), &[]).unwrap_err();
        assert!(refused.what.contains("no count"), "{refused}");
    }
}
