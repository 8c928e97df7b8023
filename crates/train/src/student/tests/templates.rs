//! Students with a network of their own.

use super::*;
use kdc_ir::graph::{Builder, DType, Op, Value};

/// A teacher of one input and five classes, of which only that much is looked at.
fn teacher(dtype: DType, extents: &[usize]) -> Graph {
    let mut b = Builder::new("teacher");
    let shape: Vec<Dim> = [Dim::Batch].into_iter().chain(extents.iter().map(|&n| fixed(n))).collect();
    let x = b.input_like(&Value { name: "x".into(), dtype, shape, data: None, quant: None });
    let y = match dtype {
        DType::F32 => x,
        _ => {
            let table = b.constant("table", Tensor::f32([50, 3], vec![0.1; 150]));
            b.node("looked up", Op::Gather { axis: 0 }, &[table, x]).unwrap()
        }
    };
    let flat = b.node("flat", Op::Flatten { axis: 1 }, &[y]).unwrap();
    let features = extents.iter().product::<usize>() * if dtype == DType::F32 { 1 } else { 3 };
    let w = b.constant("w", Tensor::f32([5, features], vec![0.1; 5 * features]));
    let gemm = Op::Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: true };
    let y = b.node("logits", gemm, &[flat, w]).unwrap();
    b.finish(&[y])
}

#[test]
fn templates_shrink_run_train_export_and_have_a_program() {
    let teachers = [
        teacher(DType::F32, &[3, 16, 16]),
        teacher(DType::F32, &[6, 20]),
        teacher(DType::I64, &[12]),
        teacher(DType::F32, &[10]),
    ];
    let mut seen = vec![];
    for teacher in &teachers {
        for template in Template::suiting(teacher) {
            let name = template.name();
            seen.push(name);
            let mut graph = template.network(teacher).unwrap();
            redraw(&mut graph, 1);
            kdc_ir::pass::insert_batch_norm(&mut graph, &Default::default());
            let x = [input(teacher.value(teacher.inputs[0]), 2, 1)];
            let groups = Groups::find(&graph);
            let student = assert_equal_to_masked(&graph, &groups, 0.5, &x, name);
            let (before, after) = (kdc_ir::graph::cost(&graph).0, kdc_ir::graph::cost(&student).0);
            assert!(after.macs * 5 < before.macs * 3, "{name}: {} of {} MACs", after.macs, before.macs);
            assert_trains(&student, &x, name);
            let mut folded = student.clone();
            kdc_ir::pass::fold_batch_norm(&mut folded);
            let again = kdc_ir::onnx::import(kdc_ir::onnx::export(&folded).unwrap().into(), None).unwrap();
            let off = difference(&computed(&student, &x), &computed(&again, &x));
            assert!(off <= 1e-5, "{name}: {off} after export");
            assert_eq!(computed(&student, &x)[0].shape, [2, 5], "{name}");
            kdc_device::program::lower_f32(&folded, None).unwrap_or_else(|e| panic!("{name}: {e}"));
        }
    }
    assert_eq!(seen, ["image-separable", "image-residual", "signal", "tokens", "transformer", "vector"]);
}
