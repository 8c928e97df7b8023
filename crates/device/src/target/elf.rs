//! Reads a linked program back: its sections as binutils counts them, and whether it suits a target.
//!
//! Sizes are those that `size` prints in its default (Berkeley) format: *text* is every section that is loaded and is
//! code or read-only, *data* what is loaded, writable and stored in the file, *bss* what is loaded and not stored.

use std::path::{Path, PathBuf};

use goblin::elf::header::{EM_AARCH64, EM_ARM, EM_RISCV, EM_X86_64};
use goblin::elf::section_header::{SHF_ALLOC, SHF_EXECINSTR, SHF_WRITE, SHT_NOBITS};
use goblin::elf::{Elf, SectionHeader};
use serde::{Deserialize, Serialize};

use super::profile::{FlashBytes, FloatAbi, Glibc, Machine, Profile, RamBytes};

/// Bits of `e_flags` in 32-bit ARM programs; ELF for the Arm Architecture (AAELF32), table 4-2.
const EF_ARM_ABI_FLOAT_SOFT: u32 = 0x200;
const EF_ARM_ABI_FLOAT_HARD: u32 = 0x400;

/// Why a program cannot be inspected.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("program {}: cannot be read", .path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("program {}: not a well-formed ELF file; build it again", .path.display())]
    Malformed { path: PathBuf, source: goblin::error::Error },
}

/// What a linked program says about itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ElfInfo {
    pub sections: Sections,
    /// `None` for a machine that no profile is about; `machine_code` has its number then.
    pub machine: Option<Machine>,
    /// `e_machine` of the ELF header.
    pub machine_code: u16,
    pub is_64: bool,
    /// `None` where the header does not say (32-bit ARM without the flags of EABI 5).
    pub float_abi: Option<FloatAbi>,
    /// The dynamic linker; `None` for static programs.
    pub interpreter: Option<String>,
    /// Shared libraries, in the order they are loaded.
    pub libraries: Vec<String>,
    /// The newest version of a symbol of the GNU C library; `None` without such symbols.
    pub glibc: Option<Glibc>,
}

/// Bytes by purpose.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sections {
    /// Loaded and executable.
    pub code: u64,
    /// Loaded, neither executable nor writable: weights, constants, tables of the linker.
    pub rodata: u64,
    /// Loaded, writable, stored in the file.
    pub data: u64,
    /// Loaded, writable, zero at the start.
    pub bss: u64,
    /// Every loaded section, in the file's order.
    pub table: Vec<Section>,
}

/// One loaded section.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Section {
    pub name: String,
    pub address: u64,
    pub bytes: u64,
}

impl Sections {
    /// What `size` calls text: code and read-only data.
    pub fn text(&self) -> u64 {
        self.code.saturating_add(self.rodata)
    }

    /// What the program takes of the memory that keeps it.
    pub fn flash(&self) -> FlashBytes {
        FlashBytes(self.text().saturating_add(self.data))
    }

    /// What its variables take of the memory it works in.
    pub fn ram(&self) -> RamBytes {
        RamBytes(self.data.saturating_add(self.bss))
    }
}

/// Reads the headers of a program.
///
/// # Errors
/// When the file cannot be read or is not a well-formed ELF file.
pub fn inspect(path: &Path) -> Result<ElfInfo, Error> {
    let bytes = std::fs::read(path).map_err(|source| Error::Read { path: path.into(), source })?;
    let elf = Elf::parse(&bytes).map_err(|source| Error::Malformed { path: path.into(), source })?;
    let machine = match elf.header.e_machine {
        EM_AARCH64 => Some(Machine::Aarch64),
        EM_ARM => Some(Machine::Arm),
        EM_X86_64 => Some(Machine::X86_64),
        EM_RISCV if elf.is_64 => Some(Machine::Riscv64),
        _ => None,
    };
    Ok(ElfInfo {
        sections: sections(&elf),
        machine,
        machine_code: elf.header.e_machine,
        is_64: elf.is_64,
        float_abi: float_abi(&elf, machine),
        interpreter: elf.interpreter.map(str::to_owned),
        libraries: elf.libraries.iter().map(|&name| name.to_owned()).collect(),
        glibc: newest_glibc(&elf),
    })
}

/// What the objects of a library take before anything is linked to them: for the library of a generated crate, what the
/// student itself takes of any program that calls it.
///
/// # Errors
/// When the file cannot be read, or is no archive of ELF objects.
pub fn library(path: &Path) -> Result<Sections, Error> {
    let malformed = |source| Error::Malformed { path: path.into(), source };
    let bytes = std::fs::read(path).map_err(|source| Error::Read { path: path.into(), source })?;
    let archive = goblin::archive::Archive::parse(&bytes).map_err(malformed)?;
    let mut all = Sections::default();
    for name in archive.members().into_iter().filter(|name| name.ends_with(".o")) {
        let object = archive.extract(name, &bytes).map_err(malformed)?;
        let one = sections(&Elf::parse(object).map_err(malformed)?);
        for (sum, more) in [
            (&mut all.code, one.code),
            (&mut all.rodata, one.rodata),
            (&mut all.data, one.data),
            (&mut all.bss, one.bss),
        ] {
            *sum = sum.saturating_add(more);
        }
        all.table.extend(one.table);
    }
    Ok(all)
}

fn sections(elf: &Elf) -> Sections {
    let mut sections = Sections::default();
    for header in &elf.section_headers {
        let has = |flag: u32| header.sh_flags & u64::from(flag) != 0;
        if !has(SHF_ALLOC) {
            continue;
        }
        let purpose = if has(SHF_EXECINSTR) {
            &mut sections.code
        } else if !has(SHF_WRITE) {
            &mut sections.rodata
        } else if header.sh_type != SHT_NOBITS {
            &mut sections.data
        } else {
            &mut sections.bss
        };
        *purpose = purpose.saturating_add(header.sh_size);
        sections.table.push(section(elf, header));
    }
    sections
}

fn section(elf: &Elf, header: &SectionHeader) -> Section {
    let name = elf.shdr_strtab.get_at(header.sh_name).unwrap_or_default();
    Section { name: name.to_owned(), address: header.sh_addr, bytes: header.sh_size }
}

fn float_abi(elf: &Elf, machine: Option<Machine>) -> Option<FloatAbi> {
    let flags = elf.header.e_flags;
    match machine? {
        Machine::Arm if flags & EF_ARM_ABI_FLOAT_HARD != 0 => Some(FloatAbi::Hard),
        Machine::Arm if flags & EF_ARM_ABI_FLOAT_SOFT != 0 => Some(FloatAbi::Soft),
        Machine::Arm => None,
        // bits 1 and 2 are the float ABI: 0 soft, then single, double, quad
        Machine::Riscv64 if flags & 6 == 0 => Some(FloatAbi::Soft),
        // the only calling convention that Linux has there
        Machine::Aarch64 | Machine::X86_64 | Machine::Riscv64 => Some(FloatAbi::Hard),
    }
}

fn newest_glibc(elf: &Elf) -> Option<Glibc> {
    let needed = elf.verneed.as_ref()?;
    let versions = needed.iter().flat_map(|file| {
        let names = file.iter().filter_map(|version| elf.dynstrtab.get_at(version.vna_name));
        names.filter_map(|name| Glibc::try_from(name.strip_prefix("GLIBC_")?.to_owned()).ok()).collect::<Vec<_>>()
    });
    versions.max()
}

/// Why a program does not suit a target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Finding {
    #[error("the program is for {found}, the target is {expected}; build it for the target's triple")]
    Machine { found: String, expected: Machine },
    #[error("the program is a {found}-bit file, the target takes {expected}-bit ones")]
    Class { found: u8, expected: u8 },
    #[error("the program passes floats the {found} way, the target the {expected} way")]
    FloatAbi { found: FloatAbi, expected: FloatAbi },
    #[error(
        "the program needs glibc {needed}, the target's system has {present}; link it statically, or update the board"
    )]
    Glibc { needed: Glibc, present: Glibc },
    #[error("the program needs the shared library {0}, which the target's system does not bring")]
    Library(String),
    #[error("the program needs an operating system (its dynamic linker is {0}), and the target has none")]
    NoSystem(String),
    #[error("the program takes {} bytes of flash, the target has {}", .needed.0, .present.0)]
    Flash { needed: FlashBytes, present: FlashBytes },
    #[error("the program takes {} bytes of RAM, the target has {}", .needed.0, .present.0)]
    Ram { needed: RamBytes, present: RamBytes },
}

/// Everything about a program that does not suit a target; empty when it does.
pub fn check(program: &ElfInfo, profile: &Profile) -> Vec<Finding> {
    let build = &profile.build;
    let mut findings = Vec::new();
    if program.machine != Some(build.machine) {
        let found = program.machine.map_or_else(|| format!("machine {}", program.machine_code), |m| m.to_string());
        findings.push(Finding::Machine { found, expected: build.machine });
    }
    let bits = |is_64: bool| if is_64 { 64 } else { 32 };
    if program.is_64 != build.machine.is_64() {
        findings.push(Finding::Class { found: bits(program.is_64), expected: bits(build.machine.is_64()) });
    }
    if let Some(found) = program.float_abi.filter(|found| *found != build.float_abi) {
        findings.push(Finding::FloatAbi { found, expected: build.float_abi });
    }
    findings.extend(check_system(program, profile));
    let (flash, ram) = (program.sections.flash(), program.sections.ram());
    if flash > profile.flash() {
        findings.push(Finding::Flash { needed: flash, present: profile.flash() });
    }
    if ram > profile.ram() {
        findings.push(Finding::Ram { needed: ram, present: profile.ram() });
    }
    findings
}

fn check_system(program: &ElfInfo, profile: &Profile) -> Vec<Finding> {
    let Some(system) = &profile.system else {
        return program.interpreter.iter().cloned().map(Finding::NoSystem).collect();
    };
    let glibc = match (program.glibc, system.glibc) {
        (Some(needed), Some(present)) if needed > present => Some(Finding::Glibc { needed, present }),
        _ => None,
    };
    let known = |name: &String| system.libraries.is_empty() || system.libraries.contains(name);
    let libraries = program.libraries.iter().filter(|name| !known(name)).cloned().map(Finding::Library);
    glibc.into_iter().chain(libraries).collect()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// A command's output; `None`, said aloud, when the command is not installed.
    fn output(command: &mut Command) -> Option<String> {
        match command.output() {
            Ok(out) => {
                assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
                Some(String::from_utf8(out.stdout).unwrap())
            }
            Err(_) => {
                kdc_ir::testing::skipped(format!("{} is not installed", command.get_program().display()));
                None
            }
        }
    }

    /// `size` and `size -A` say what `inspect` says.
    fn agrees_with_size(path: &Path, size: &str) {
        let sections = inspect(path).unwrap().sections;
        let Some(berkeley) = output(Command::new(size).arg(path)) else { return };
        let numbers: Vec<u64> =
            berkeley.lines().nth(1).unwrap().split_whitespace().take(3).map(|n| n.parse().unwrap()).collect();
        assert_eq!([sections.text(), sections.data, sections.bss], numbers[..]);

        let listing = output(Command::new(size).arg("-A").arg(path)).unwrap();
        let lines: Vec<Vec<&str>> = listing.lines().map(|l| l.split_whitespace().collect()).collect();
        for section in &sections.table {
            let expected = [section.name.clone(), section.bytes.to_string(), section.address.to_string()];
            assert!(lines.iter().any(|line| line[..] == expected), "{expected:?} is not in\n{listing}");
        }
    }

    #[test]
    fn sections_are_what_size_prints() {
        agrees_with_size(&std::env::current_exe().unwrap(), "size");
    }

    #[test]
    fn this_program_suits_this_machine() {
        let info = inspect(&std::env::current_exe().unwrap()).unwrap();
        assert_eq!(info.machine, Machine::host());
        assert_eq!(check(&info, &crate::target::find("host", &[]).unwrap()), []);
        assert!(info.sections.code > 0 && info.sections.rodata > 0);
    }

    #[test]
    fn a_cross_compiled_program_is_checked_against_its_board() {
        let folder = tempfile::tempdir().unwrap();
        let (source, program) = (folder.path().join("a.c"), folder.path().join("a"));
        let text = "#include <math.h>\n#include <stdio.h>\nstatic char arena[5000]; const char weights[3000] = {1};\n\
                    int main(int n, char **v) { arena[n] = weights[n]; printf(\"%d %f\", arena[1], sin(n)); return 0; }";
        std::fs::write(&source, text).unwrap();
        let mut gcc = Command::new("aarch64-linux-gnu-gcc");
        if output(gcc.arg("-O1").arg(&source).arg("-o").arg(&program).arg("-lm")).is_none() {
            return;
        }
        agrees_with_size(&program, "aarch64-linux-gnu-size");
        let info = inspect(&program).unwrap();
        assert!(info.sections.bss >= 5000, "{:?}", info.sections);
        assert_eq!((info.machine, info.float_abi, info.is_64), (Some(Machine::Aarch64), Some(FloatAbi::Hard), true));
        assert!(info.libraries.iter().any(|l| l == "libm.so.6"), "{:?}", info.libraries);
        assert!(info.glibc.is_some());

        let board = crate::target::find("raspberry-pi", &[]).unwrap();
        assert_eq!(check(&info, &board), []);
        let mut other = board.clone();
        other.build.machine = Machine::Arm;
        other.build.float_abi = FloatAbi::Soft;
        other.memory.iter_mut().for_each(|m| m.bytes = 1000);
        let system = other.system.as_mut().unwrap();
        system.glibc = Some(Glibc { major: 2, minor: 1 });
        system.libraries = vec!["libc.so.6".into()];
        let findings = check(&info, &other);
        assert_eq!(findings.len(), 7, "{findings:#?}");
        other.system = None;
        assert!(check(&info, &other).iter().any(|f| matches!(f, Finding::NoSystem(_))));
    }

    #[test]
    fn files_that_are_no_programs_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("program");
        assert!(matches!(inspect(&path), Err(Error::Read { .. })));
        let mut bytes = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        bytes.truncate(4096);
        for contents in [&b"#!/bin/sh\n"[..], &bytes] {
            std::fs::write(&path, contents).unwrap();
            assert!(matches!(inspect(&path), Err(Error::Malformed { .. })));
        }
    }
}
