use super::*;
use kdc_ir::graph::{Builder, Dim, Op};

/// The range that a value is stored in which an operator makes of all numbers up to `seen` to either side.
fn stored(op: Op, seen: f32) -> (f32, f32) {
    let mut b = Builder::new("bounded");
    let x = b.input("x", &[Dim::Batch, Dim::Fixed(2)]);
    let y = b.node("y", op, &[x]).unwrap();
    let graph = b.finish(&[y]);
    let mut observers = vec![Observer::default(); 2];
    observers[0].see(&[-9.0, 9.0]).unwrap();
    observers[1].see(&[-seen, seen]).unwrap();
    let quantized = CalibratedModel::new(graph, &observers, Calibration::MinMax).unwrap().quantize().unwrap();
    let params = quantized.graph.value(y).quant.clone().unwrap();
    (params.real(0, -128), params.real(0, 127))
}

#[test]
fn what_an_operator_bounds_is_stored_in_the_bounds_where_it_nearly_fills_them() {
    let near = |(low, high): (f32, f32), wanted: f32| (high - wanted).abs() < 0.02 && (low + wanted).abs() < 0.02;
    for op in [Op::Clip { min: -1.0, max: 1.0 }, Op::Tanh] {
        assert!(near(stored(op.clone(), 0.8), 1.0), "{op:?}: {:?}", stored(op.clone(), 0.8));
        assert!(near(stored(op.clone(), 0.5), 0.5), "{op:?}: {:?}", stored(op.clone(), 0.5));
    }
    // Without bounds it is what was seen.
    assert!(near(stored(Op::Clip { min: f32::NEG_INFINITY, max: 1.0 }, 0.8), 0.8));
}
