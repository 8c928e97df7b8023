//! Many generated crates as one cargo workspace with one program that runs them all.

use crate::backend::{flat, interpret};
use kdc::emit::{self, CrateOptions};
use kdc::graph::Tensor;
use kdc::program::{Plan, Program};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// One copy of the kernels for all crates.
const KERNELS: &str = "kdc-kernels = { package = \"student-kernels\", path = \"../kernels\" }\n";

/// Samples that each program runs.
const SAMPLES: usize = 4;

pub struct Workspace {
    root: PathBuf,
    networks: usize,
    /// The name of each student, and what the reference answers.
    students: Vec<(String, Vec<u8>)>,
}

impl Workspace {
    /// # Errors
    /// When the folder is there already, or cannot be made.
    pub fn new(root: PathBuf) -> Result<Workspace, String> {
        match fs::create_dir(&root) {
            Ok(()) => Ok(Workspace { root, networks: 0, students: vec![] }),
            Err(e) => Err(format!("{}: {e}", root.display())),
        }
    }

    /// How many networks there are.
    pub fn networks(&self) -> usize {
        self.networks
    }

    /// Adds the programs of a network.
    pub fn add(&mut self, name: &str, programs: &[(Program, Plan); 2], samples: &[Vec<Tensor>]) -> Result<(), String> {
        for (precision, (program, plan)) in ["int8", "f32"].iter().zip(programs) {
            let name = format!("{}_{precision}", name.replace(|c: char| !c.is_ascii_alphanumeric(), "_"));
            let folder = self.root.join(&name);
            emit::write_crate(program, plan, &folder, &CrateOptions::default()).map_err(|e| format!("{name}: {e}"))?;
            let kernels = self.root.join("kernels");
            if !kernels.exists() {
                fs::rename(folder.join("kernels"), &kernels).map_err(|e| e.to_string())?;
            }
            for own in ["kernels", "runner", "c"] {
                let _ = fs::remove_dir_all(folder.join(own));
            }
            self.write(&folder.join("Cargo.toml"), &manifest(&name, KERNELS))?;
            let samples = &samples[..SAMPLES.min(samples.len())];
            let own: Vec<u8> = samples.iter().flat_map(|x| flat(x)).flat_map(f32::to_le_bytes).collect();
            fs::write(self.root.join(format!("{name}.in")), own).map_err(|e| e.to_string())?;
            let runs =
                samples.iter().map(|x| Ok(interpret(program, x)?.output_f32())).collect::<Result<Vec<_>, String>>()?;
            self.students.push((name, runs.concat().into_iter().flat_map(f32::to_le_bytes).collect()));
        }
        self.networks += 1;
        Ok(())
    }

    fn write(&self, path: &Path, text: &str) -> Result<(), String> {
        fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))
    }

    /// Builds all of them, runs all of them, and says how many answer something else than the reference.
    pub fn run(&self) -> Result<usize, String> {
        let names: Vec<&str> = self.students.iter().map(|(name, _)| name.as_str()).collect();
        let members: String = names.iter().map(|name| format!("\"{name}\", ")).collect();
        self.write(
            &self.root.join("Cargo.toml"),
            &format!(
                "[workspace]\nmembers = [\"kernels\", \"all\", {members}]\nresolver = \"3\"\n\n[workspace.package]\nversion = \
                 \"0.1.0\"\nedition = \"2024\"\nrust-version = \"1.95\"\nlicense = \"MIT OR Apache-2.0\"\n"
            ),
        )?;
        let all = self.root.join("all");
        fs::create_dir_all(all.join("src")).map_err(|e| e.to_string())?;
        let dependencies: String = names.iter().map(|n| format!("{n} = {{ path = \"../{n}\" }}\n")).collect();
        self.write(&all.join("Cargo.toml"), &manifest("all", &dependencies))?;
        let calls: String = names.iter().map(|name| format!("    run!({name});\n")).collect();
        self.write(&all.join("src/main.rs"), &format!("{RUN}\nfn main() {{\n{calls}}}\n"))?;
        let target = self.root.join("target");
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(&self.root).env("CARGO_TARGET_DIR", &target).env_remove("RUSTFLAGS");
        succeed(cargo.args(["build", "--release", "--offline", "--quiet", "-p", "all"]))?;
        succeed(Command::new(target.join("release/all")).current_dir(&self.root))?;
        let mut differ = 0;
        for (name, expected) in &self.students {
            let path = self.root.join(format!("{name}.out"));
            let got = fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))?;
            if &got != expected {
                println!("FAULT {name}: the built program answers something else than the reference");
                differ += 1;
            }
        }
        println!(
            "{} programs of {} networks built and run, {differ} differ from the reference",
            names.len(),
            self.networks
        );
        Ok(differ)
    }
}

fn manifest(name: &str, dependencies: &str) -> String {
    format!(
        "[package]\nname = \"{name}\"\nversion.workspace = true\nedition.workspace = true\nlicense.workspace = \
         true\n\n[dependencies]\n{dependencies}"
    )
}

fn succeed(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|e| format!("{command:?}: {e}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr))),
    }
}

/// Runs a student on a file of samples.
const RUN: &str = r#"macro_rules! run {
    ($student:ident) => {{
        use $student::*;
        let bytes = std::fs::read(concat!(stringify!($student), ".in")).unwrap();
        let mut arena = Box::new(Arena::new());
        let mut out = Vec::new();
        for sample in bytes.chunks_exact(4 * INPUT_LEN) {
            let mut input = Box::new([0.0f32; INPUT_LEN]);
            for (x, bytes) in input.iter_mut().zip(sample.chunks_exact(4)) {
                *x = f32::from_le_bytes(bytes.try_into().unwrap());
            }
            let mut output = [0.0f32; OUTPUT_LEN];
            infer_f32(&mut arena, &input, &mut output);
            out.extend(output.iter().flat_map(|x| x.to_le_bytes()));
        }
        std::fs::write(concat!(stringify!($student), ".out"), out).unwrap();
    }};
}
"#;
