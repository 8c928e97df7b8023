//! The verifier of programs: it takes what lowering makes, and sees what is wrong.

use super::*;

/// Changes a sound program and looks whether the verifier says so, with these words.
fn refused(program: &Program, what: &str, change: impl FnOnce(&mut Program)) {
    assert_eq!(verify(program), Ok(()));
    let mut broken = program.clone();
    change(&mut broken);
    let error = verify(&broken).expect_err(what).to_string();
    assert!(error.contains(what) && error.contains("fault of kdc"), "'{error}' where '{what}' is expected");
}

/// The first step of a kind.
fn step<'p>(program: &'p mut Program, name: &str) -> &'p mut Step {
    program.steps.iter_mut().find(|s| s.kernel.name() == name).unwrap()
}

fn linear<'p>(program: &'p mut Program, name: &str) -> &'p mut Linear {
    match &mut step(program, name).kernel {
        Kernel::Conv2d { linear, .. } | Kernel::DepthwiseConv2d { linear, .. } => linear,
        Kernel::FullyConnected { linear, .. } => linear,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_read_before_it_is_written_is_refused() {
    let program = lower_f32(&residual(), None).unwrap();
    let last = program.steps.len() - 1;
    refused(&program, "before it is written", |p| p.steps.swap(0, 1));
    refused(&program, "for the second time", |p| p.steps[last].output = p.steps[last - 1].output);
    refused(&program, "nothing writes it", |p| _ = p.steps.pop());
    refused(&program, "nothing reads it", |p| p.buffers.push(p.buffers[0].clone()));
    refused(&program, "there is no buffer", |p| p.steps[0].inputs[0] = BufferId(999));
    refused(&program, "takes 2 operands", |p| _ = step(p, "add").inputs.pop());
}

#[test]
fn extents_that_do_not_fit_are_refused() {
    let program = lower_f32(&gated(), None).unwrap();
    refused(&program, "elements, not", |p| {
        let output = step(p, "max_pool").output;
        p.buffers[output.index()].shape[0] += 1;
    });
    refused(&program, "weights and", |p| {
        let Linear::F32 { weights, .. } = linear(p, "conv2d") else { panic!() };
        weights.pop();
    });
    refused(&program, "no elements", |p| p.buffers[0].shape[0] = 0);
    refused(&program, "its axes are not", |p| p.inputs[0].perm = Some(vec![0, 0, 1]));
    refused(&program, "it has no scale", |p| p.precision = Precision::Int8);
}

#[test]
fn parameters_that_do_not_fit_are_refused() {
    let program = lower_int8(&quantized(&gated()), None).unwrap();
    refused(&program, "its scale is", |p| p.buffers[1].quant = Some(Quant { scale: 1e-40, zero_point: 0 }));
    refused(&program, "it has no scale", |p| p.buffers[1].quant = None);
    refused(&program, "is stored as", |p| {
        let input = step(p, "max_pool").inputs[0];
        let (zero_point, scale) = p.buffers[input.index()].quant.map(|q| (q.zero_point, q.scale)).unwrap();
        p.buffers[input.index()].quant = Some(Quant { scale: 2.0 * scale, zero_point });
    });
    refused(&program, "zero points", |p| {
        let Linear::Int8 { output_zero, .. } = linear(p, "conv2d") else { panic!() };
        *output_zero = output_zero.wrapping_add(1);
    });
    refused(&program, "leave 32 bits", |p| {
        let Linear::Int8 { bias, .. } = linear(p, "conv2d") else { panic!() };
        bias[1] = i32::MAX;
    });
    refused(&program, "no multiplier", |p| {
        let Linear::Int8 { requant, .. } = linear(p, "conv2d") else { panic!() };
        requant[0].mantissa = 5;
    });
    refused(&program, "bounds are empty", |p| {
        let Linear::Int8 { min, max, .. } = linear(p, "conv2d") else { panic!() };
        (*min, *max) = (3, 2);
    });
    refused(&program, "255ths", |p| {
        let output = p.output.buffer;
        p.buffers[output.index()].quant = Some(Quant { scale: 0.5, zero_point: -128 });
    });
}

#[test]
fn a_result_that_is_no_number_has_the_same_bits_everywhere() {
    let mut b = Builder::new("nan");
    let x = b.input("x", &[Dim::Batch, Dim::Fixed(4)]);
    let y = b.node("y", Op::Div, &[x, x]).unwrap();
    let program = lower_f32(&b.finish(&[y]), None).unwrap();
    let input = [0.0, -f32::NAN, f32::INFINITY, 2.0];
    let run = reference::run(&program, &reference::Input::F32(&input)).unwrap();
    let bits = |v: &[f32]| v.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    let nan = f32::NAN.to_bits();
    assert_eq!(bits(&run.output_f32()), [nan, nan, nan, 1f32.to_bits()]);
    let reference::Activation::F32(stored) = run.stored_output() else { panic!() };
    assert_eq!(bits(stored), [nan, nan, nan, 1f32.to_bits()]);
}

/// Steps whose results nobody wants are not part of a program.
#[test]
fn what_nothing_reads_is_not_computed() {
    let mut b = Builder::new("split");
    let x = b.input("x", &[Dim::Batch, Dim::Fixed(6)]);
    let mut graph = {
        let y = b.node("y", Op::Relu, &[x]).unwrap();
        b.finish(&[y])
    };
    let shape = vec![Dim::Batch, Dim::Fixed(3)];
    let value = kdc_ir::graph::Value { shape, name: "a".into(), ..graph.value(x).clone() };
    let (a, c) = (graph.add_value(value.clone()), graph.add_value(kdc_ir::graph::Value { name: "b".into(), ..value }));
    let split = Op::Split { axis: 1, sizes: vec![3, 3] };
    let y = graph.nodes[0].output();
    graph
        .nodes
        .insert(0, kdc_ir::graph::Node { name: "s".into(), op: split, inputs: vec![Some(x)], outputs: vec![a, c] });
    graph.nodes[1].inputs = vec![Some(c)];
    graph.value_mut(y).shape = vec![Dim::Batch, Dim::Fixed(3)];
    let program = lower_f32(&graph, None).unwrap();
    assert_eq!(program.steps.len(), 2);
    assert_eq!(program.buffers.len(), 3);
}
