//! Students in other people's programs: C and Rust, one and several, and inside other workspaces.

use super::*;
use crate::program::Precision;

/// A C compiler, where there is one.
fn has_compiler() -> bool {
    let there = Command::new("cc").arg("--version").output().is_ok();
    if !there {
        kdc_ir::testing::skipped("no C compiler");
    }
    there
}

/// Two students of one shape and different weights, their crates written as `a` and `b` into `root`; a sample's bytes, and
/// what each answers by the reference.
fn two_students(root: &Path) -> (Vec<u8>, [Vec<u8>; 2]) {
    let programs = [11, 12].map(|seed| {
        let mut maker = corpus::Maker::new("network", Precision::Int8, [6, 6, 3], seed);
        maker.conv(maker.last(), 4, 3, 1, 1, 1);
        maker.finish()
    });
    for (program, name) in programs.iter().zip(["a", "b"]) {
        let options = CrateOptions { name: name.into(), ..CrateOptions::default() };
        write_crate(program, &program::plan(program).unwrap(), &root.join(name), &options).unwrap();
    }
    let [raw, own] = samples(&programs[0], 1, root);
    let answers = programs.map(|program| by_reference(&program, &own));
    assert_ne!(answers[0], answers[1], "two networks");
    (std::fs::read(raw).unwrap(), answers)
}

/// Builds a C program in `root` and runs it on a sample.
fn run_c(root: &Path, main: &str, names: &[&str], sample: &[u8]) -> Vec<u8> {
    std::fs::write(root.join("main.c"), main).unwrap();
    let mut cc = Command::new("cc");
    cc.current_dir(root).args(["-std=c11", "-Wall", "-Wextra", "-Werror", "main.c", "-o", "main"]);
    for name in names {
        cc.arg(format!("-I{name}/include"));
    }
    for name in names {
        output(&mut cargo(&root.join(name), "c"));
        cc.arg(format!("{name}/target/release/libkdc_{name}.a"));
    }
    output(&mut cc);
    // From a file: a program may end before it has read anything, which a pipe would say is broken.
    std::fs::write(root.join("sample"), sample).unwrap();
    let stdin = std::fs::File::open(root.join("sample")).unwrap();
    let out = Command::new(root.join("main")).stdin(stdin).output().unwrap();
    assert!(out.status.success(), "{}", out.status);
    out.stdout
}

#[test]
fn two_students_in_one_c_program_give_each_its_own_answers() {
    if !has_compiler() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let (sample, answers) = two_students(root.path());
    let main = r#"
        #include <stdio.h>
        #include "a.h"
        #include "b.h"
        #include "a.h"
        static kdc_a_arena_t arena_a;
        static kdc_b_arena_t arena_b;
        int main(void) {
            uint8_t input[KDC_A_INPUT_LEN];
            float a[KDC_A_OUTPUT_LEN], b[KDC_B_OUTPUT_LEN];
            if (fread(input, 1, sizeof input, stdin) != sizeof input) return 1;
            if (kdc_b_infer_u8(&arena_b, input, b) != KDC_B_OK) return 2;
            if (kdc_a_infer_u8(&arena_a, input, a) != KDC_A_OK) return 3;
            if (fwrite(a, 1, sizeof a, stdout) != sizeof a) return 4;
            return fwrite(b, 1, sizeof b, stdout) != sizeof b;
        }"#;
    assert_eq!(run_c(root.path(), main, &["a", "b"], &sample), answers.concat());
}

#[test]
fn a_c_program_is_told_what_is_wrong_with_its_pointers() {
    if !has_compiler() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let (sample, _) = two_students(root.path());
    let main = r#"
        #include <stdio.h>
        #include <stdlib.h>
        #include "a.h"
        int main(void) {
            static uint8_t input[KDC_A_INPUT_LEN];
            static float output[KDC_A_OUTPUT_LEN + 1];
            static kdc_a_arena_t arenas[2];
            char *inside = (char *)arenas;
            int ok = kdc_a_infer_u8(&arenas[0], input, output);
            int null = kdc_a_infer_u8(NULL, input, output) * 10 + kdc_a_infer_u8(&arenas[0], NULL, output);
            int odd = 0;
            for (int by = 1; by < 16; by++) odd += kdc_a_infer_u8((kdc_a_arena_t *)(void *)(inside + by), input, output);
            int half = kdc_a_infer_u8(&arenas[0], input, (float *)(void *)((char *)output + 2));
            printf("%d %d %d %d", ok, null, odd, half);
            return 0;
        }"#;
    assert_eq!(String::from_utf8_lossy(&run_c(root.path(), main, &["a"], &sample)), "0 11 30 2");
}

#[test]
fn two_students_of_one_name_do_not_link() {
    if !has_compiler() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let program = corpus::residual_network(Precision::Int8);
    let other = corpus::residual_network(Precision::F32);
    for (program, folder) in [(&program, "a"), (&other, "b")] {
        write_crate(program, &program::plan(program).unwrap(), &root.path().join(folder), &CrateOptions::default())
            .unwrap();
    }
    let compile = |main: &str, library: &[&str]| {
        std::fs::write(root.path().join("main.c"), main).unwrap();
        let mut cc = Command::new("cc");
        cc.current_dir(root.path()).args(["-std=c11", "main.c", "-o", "main"]).args(library);
        let out = cc.output().unwrap();
        (out.status.success(), String::from_utf8_lossy(&out.stderr).into_owned())
    };
    let (built, said) =
        compile("#include \"a/include/student.h\"\n#include \"b/include/student.h\"\nint main(void) {}\n", &[]);
    assert!(!built && said.contains("two students are called student"), "{said}");
    output(&mut cargo(&root.path().join("b"), "c"));
    let main = "#include \"a/include/student.h\"\nstatic kdc_student_arena_t arena; static float x[1 << 20];\n\
                int main(void) { return kdc_student_infer_f32(&arena, x, x + (1 << 19)); }\n";
    let (built, said) = compile(main, &["b/target/release/libkdc_student.a"]);
    assert!(!built && said.contains("undefined reference"), "{said}");
}

#[test]
fn two_students_in_one_rust_program_inside_a_workspace_give_each_its_own_answers() {
    let root = tempfile::tempdir().unwrap();
    let (sample, answers) = two_students(root.path());
    let write = |path: &str, text: &str| kdc_ir::files::write_atomic(&root.path().join(path), text.as_bytes()).unwrap();
    // Students are below the workspace's root: they are members of it, and their programs are workspaces of their own.
    write(
        "Cargo.toml",
        "[package]\nname = \"two\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n[workspace]\n\n\
         [dependencies]\na = { path = \"a\" }\nb = { path = \"b\" }\n",
    );
    write(
        "src/main.rs",
        "use std::io::{Read, Write};\n\
         fn main() {\n    let mut input = [0; a::INPUT_LEN];\n    std::io::stdin().read_exact(&mut input).unwrap();\n    \
         let (mut x, mut y) = ([0.0; a::OUTPUT_LEN], [0.0; b::OUTPUT_LEN]);\n    \
         b::infer_u8(&mut b::Arena::new(), &input, &mut y);\n    a::infer_u8(&mut a::Arena::new(), &input, &mut x);\n    \
         let bytes: Vec<u8> = x.iter().chain(&y).flat_map(|v| v.to_le_bytes()).collect();\n    \
         std::io::stdout().write_all(&bytes).unwrap();\n}\n",
    );
    let mut outer = Command::new(env!("CARGO"));
    outer.current_dir(root.path()).env("CARGO_TARGET_DIR", root.path().join("target")).env_remove("RUSTFLAGS");
    output(outer.args(["build", "--release", "--offline"]));
    std::fs::write(root.path().join("sample"), sample).unwrap();
    let stdin = std::fs::File::open(root.path().join("sample")).unwrap();
    let out = Command::new(root.path().join("target/release/two")).stdin(stdin).output().unwrap();
    assert!(out.status.success());
    assert_eq!(out.stdout, answers.concat());
    output(&mut cargo(&root.path().join("a"), "runner"));
}
