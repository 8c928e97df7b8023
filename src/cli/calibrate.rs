//! `kdc calibrate`: fits the cost model's coefficients to a target, and keeps them in a profile of the user's.

use super::say;
use crate::bench::calibrate::{self, Calibration, Effort};
use crate::program::Precision;
use crate::report::{Align, table};
use crate::target::{self, Profile, rewrite};
use clap::Args;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Fit the cost model to a target by micro-benchmarks, into a profile of your own
///
/// Times them on this machine for the target `host`; for a board, counts their instructions under its emulator.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The board, or `host` for this machine
    #[arg(long, value_name = "NAME")]
    target: String,

    /// Profile to write; it replaces a profile of the same target only
    ///
    /// [default: `ID.toml` in kdc/targets of the folder for configuration, where it is found from then on]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,

    /// File for what was observed of each kernel, beside what the fitted model says: columns parted by tabs
    #[arg(long, value_name = "FILE")]
    observations: Option<PathBuf>,

    /// Folder with target profiles of your own, before those that come with kdc
    #[arg(long, value_name = "DIR")]
    targets: Vec<PathBuf>,

    /// Draws the shapes of the micro-benchmarks
    #[arg(long, default_value_t = Effort::default().seed)]
    seed: u64,

    /// Take only every Nth part of the micro-benchmarks: quicker, less exact
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    every: u16,

    /// How often everything is timed; more is steadier on a busy machine
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
}

/// Calibrates and writes.
pub fn run(arguments: &Arguments) -> Result<ExitCode, Box<dyn Error>> {
    let folders = target::folders(&arguments.targets);
    let profile = target::find(&arguments.target, &folders)?;
    let out = match &arguments.out {
        Some(out) => out.clone(),
        None => own_folder()?.join(format!("{}.toml", profile.id)),
    };
    replaceable(&out, &profile)?;
    if let Some(file) = &arguments.observations {
        observable(file, &out)?;
    }
    let text = rewrite::text(&profile.id, &folders)?;
    let work = tempfile::tempdir()?;
    let effort = Effort { seed: arguments.seed, every: arguments.every.into(), rounds: arguments.rounds.into() };
    let calibration = calibrate::calibrate(&profile, effort, work.path(), &say)?;
    let (_, text) = rewrite::with_cost(&out, &text, &calibration.cost)?;
    crate::files::write_atomic(&out, text.as_bytes())?;
    if let Some(file) = &arguments.observations {
        crate::files::write_atomic(file, calibration.observations.as_bytes())?;
        say(&format!("wrote {}", file.display()));
    }
    super::print(&summary(&calibration))?;
    say(&format!("wrote {}", out.display()));
    if arguments.out.is_some() {
        say("kdc uses it where --targets names its folder");
    }
    Ok(ExitCode::SUCCESS)
}

/// The folder in which kdc looks for profiles of the user.
fn own_folder() -> Result<PathBuf, String> {
    target::own_folder()
        .ok_or_else(|| "there is no folder for configuration (HOME is not set); name a file with --out".into())
}

/// Refuses to write over anything but a profile of the same target.
fn replaceable(out: &Path, profile: &Profile) -> Result<(), String> {
    if !out.exists() {
        return Ok(());
    }
    let text = std::fs::read_to_string(out).map_err(|e| format!("{}: {e}", out.display()))?;
    match target::parse(out, &text) {
        Ok(there) if there.id == profile.id => Ok(()),
        Ok(there) => Err(format!("{} is the profile of {}; choose another --out", out.display(), there.id)),
        Err(_) => Err(format!("{} is there and is no target profile; choose another --out", out.display())),
    }
}

/// Refuses to write observations over anything but observations.
fn observable(file: &Path, profile: &Path) -> Result<(), String> {
    if std::path::absolute(file).ok() == std::path::absolute(profile).ok() {
        return Err(format!("{} is where the profile goes; choose another --observations", file.display()));
    }
    match std::fs::read(file) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Ok(there) if there.starts_with(calibrate::HEAD.as_bytes()) => Ok(()),
        Ok(_) => Err(format!("{} is there and holds no observations; choose another --observations", file.display())),
        Err(e) => Err(format!("{}: {e}", file.display())),
    }
}

fn summary(calibration: &Calibration) -> String {
    let head = [
        ("kernels", Align::Left),
        ("precision", Align::Left),
        ("benchmarks", Align::Right),
        ("median error of the fit", Align::Right),
    ];
    let rows = calibration.families.iter().map(|fit| {
        let precision = match fit.precision {
            Precision::Int8 => "int8",
            Precision::F32 => "f32",
        };
        let error = format!("{:.1}%", fit.median_error * 100.0);
        vec![fit.family.name().into(), precision.into(), fit.benchmarks.to_string(), error]
    });
    table(&head, rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(target: &str, out: &Path) -> String {
        let arguments = Arguments {
            target: target.into(),
            out: Some(out.into()),
            observations: None,
            targets: Vec::new(),
            seed: 1,
            every: 1,
            rounds: 1,
        };
        run(&arguments).unwrap_err().to_string()
    }

    #[test]
    fn unknown_targets_get_suggestions() {
        let message = refused("raspbery-pi", Path::new("unused.toml"));
        assert!(message.contains("did you mean `raspberry-pi`"), "{message}");
        assert!(!Path::new("unused.toml").exists());
    }

    #[test]
    fn nothing_but_a_profile_of_the_same_target_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out.toml");
        let profile = target::find("host", &[]).unwrap();
        assert_eq!(replaceable(&out, &profile), Ok(()));
        for (text, word) in
            [(rewrite::text("raspberry-pi-4", &[]).unwrap(), "raspberry-pi-4"), ("a = 1\n".into(), "no target profile")]
        {
            std::fs::write(&out, &text).unwrap();
            let message = refused("host", &out);
            assert!(message.contains(word) && message.contains("out.toml"), "{message}");
            assert_eq!(std::fs::read_to_string(&out).unwrap(), text);
        }
        std::fs::write(&out, rewrite::text("host", &[]).unwrap()).unwrap();
        assert_eq!(replaceable(&out, &profile), Ok(()));

        let file = folder.path().join("observed.tsv");
        assert_eq!(observable(&file, &out), Ok(()));
        assert!(observable(&out, &out).is_err());
        std::fs::write(&file, "mine").unwrap();
        assert!(observable(&file, &out).unwrap_err().contains("observed.tsv"));
        std::fs::write(&file, format!("{}more", calibrate::HEAD)).unwrap();
        assert_eq!(observable(&file, &out), Ok(()));
    }
}
