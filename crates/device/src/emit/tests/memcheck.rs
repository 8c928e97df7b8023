//! Generated code under valgrind's memcheck: its arena, input and output are blocks of their exact size on the heap, the
//! arena without contents, so that an access beside them and a number that nobody wrote are found.

use super::*;

/// Exits with the code that memcheck is told to give a program with errors.
const FOUND: &str = "99";

const MAIN: &str = r#"
#include <stdio.h>
#include <stdlib.h>
#include "student.h"
int main(void) {
    kdc_student_arena_t *arena = aligned_alloc(_Alignof(kdc_student_arena_t), sizeof *arena);
    uint8_t *input = malloc(KDC_STUDENT_INPUT_LEN);
    float *output = malloc(KDC_STUDENT_OUTPUT_LEN * sizeof *output);
    if (!arena || !input || !output) return 1;
    for (int sample = 0; sample < 2; sample++) {
        if (fread(input, 1, KDC_STUDENT_INPUT_LEN, stdin) != KDC_STUDENT_INPUT_LEN) return 1;
        if (kdc_student_infer_u8(arena, input, output) != KDC_STUDENT_OK) return 1;
        if (fwrite(output, sizeof *output, KDC_STUDENT_OUTPUT_LEN, stdout) != KDC_STUDENT_OUTPUT_LEN) return 1;
    }
    free(arena), free(input), free(output);
    return 0;
}"#;

#[test]
fn generated_code_stays_in_its_memory_and_reads_what_it_wrote() {
    for tool in ["valgrind", "cc"] {
        if Command::new(tool).arg("--version").output().is_err() {
            return kdc_ir::testing::skipped(format!("no {tool}"));
        }
    }
    let root = tempfile::tempdir().unwrap();
    for program in [Precision::Int8, Precision::F32].into_iter().flat_map(corpus::every_kernel) {
        let plan = program::plan(&program).unwrap();
        let dir = root.path().join(&program.name);
        write_crate(&program, &plan, &dir, &CrateOptions::default()).unwrap();
        output(&mut cargo(&dir, "c"));
        std::fs::write(dir.join("main.c"), MAIN).unwrap();
        let mut cc = Command::new("cc");
        cc.current_dir(&dir).args(["-std=c11", "-g", "-Iinclude", "main.c", "target/release/libkdc_student.a"]);
        output(cc.args(["-o", "main"]));
        let [raw, own] = samples(&program, 2, root.path());
        let mut valgrind = Command::new("valgrind");
        valgrind.args(["--quiet", "--leak-check=no", &format!("--error-exitcode={FOUND}")]).arg(dir.join("main"));
        let checked = valgrind.stdin(std::fs::File::open(&raw).unwrap()).output().unwrap();
        let said = String::from_utf8_lossy(&checked.stderr).into_owned();
        assert!(checked.status.success(), "{}: {said}", program.name);
        assert_eq!(checked.stdout, by_reference(&program, &own), "{}", program.name);
    }
}
