use super::*;

fn fixed(extents: &[usize]) -> Shape {
    extents.iter().map(|&n| Dim::Fixed(n)).collect()
}

fn batched(extents: &[usize]) -> Shape {
    std::iter::once(Dim::Batch).chain(fixed(extents)).collect()
}

/// The shape that one operator gives these operand shapes (all inputs).
fn shape_of(op: Op, operands: &[Shape]) -> Result<Shape, String> {
    let mut b = Builder::new("t");
    let ids: Vec<ValueId> = operands.iter().enumerate().map(|(i, s)| b.input(&format!("x{i}"), s)).collect();
    let out = b.node("n", op, &ids).map_err(|e| e.to_string())?;
    Ok(b.finish(&[out]).value(out).shape.clone())
}

fn pool(kernel: usize, stride: usize, pads: [usize; 4], ceil_mode: bool) -> Pool {
    Pool {
        kernel: vec![kernel; 2],
        strides: vec![stride; 2],
        pads: pads.to_vec(),
        dilations: vec![1; 2],
        ceil_mode,
        count_include_pad: false,
    }
}

#[test]
fn windows_follow_the_onnx_formulas() {
    let x = batched(&[4, 7, 7]);
    let conv = |stride, pads: [usize; 4], dilation, group| {
        let op = Conv {
            kernel: vec![3; 2],
            strides: vec![stride; 2],
            pads: pads.to_vec(),
            dilations: vec![dilation; 2],
            group,
        };
        shape_of(Op::Conv(op), &[x.clone(), fixed(&[8, 4 / group, 3, 3])])
    };
    assert_eq!(conv(1, [1; 4], 1, 1), Ok(batched(&[8, 7, 7])));
    assert_eq!(conv(2, [1; 4], 1, 2), Ok(batched(&[8, 4, 4])));
    assert_eq!(conv(2, [0, 0, 1, 1], 1, 4), Ok(batched(&[8, 3, 3])));
    assert_eq!(conv(1, [0; 4], 3, 1), Ok(batched(&[8, 1, 1])));
    assert!(conv(1, [0; 4], 4, 1).unwrap_err().contains("'n'"), "a kernel larger than the image is an error");
    // ONNX Runtime 1.22: a last window of two elements in three; none where the stride does not reach.
    let pooled = |stride, ceil_mode| shape_of(Op::MaxPool(pool(3, stride, [0; 4], ceil_mode)), &[batched(&[1, 2, 2])]);
    assert_eq!(pooled(2, true), Ok(batched(&[1, 1, 1])));
    assert!(pooled(1, true).is_err() && pooled(2, false).is_err());
    assert_eq!(shape_of(Op::MaxPool(pool(2, 2, [0; 4], false)), std::slice::from_ref(&x)), Ok(batched(&[4, 3, 3])));
    assert_eq!(shape_of(Op::MaxPool(pool(2, 2, [0; 4], true)), std::slice::from_ref(&x)), Ok(batched(&[4, 4, 4])));
    // The last window would start in the padding: dropped.
    assert_eq!(shape_of(Op::MaxPool(pool(1, 2, [0, 0, 1, 1], true)), &[x]), Ok(batched(&[4, 4, 4])));
}

#[test]
fn the_batch_stays_symbolic_and_never_mixes_with_known_extents() {
    assert_eq!(shape_of(Op::Flatten { axis: 1 }, &[batched(&[3, 4])]), Ok(batched(&[12])));
    let rows = vec![Dim::Batches(3), Dim::Fixed(4)];
    assert_eq!(shape_of(Op::Flatten { axis: 2 }, &[batched(&[3, 4])]), Ok(rows));
    assert!(shape_of(Op::Flatten { axis: 1 }, &[vec![Dim::Batch, Dim::Batch]]).is_ok());
    assert!(shape_of(Op::Flatten { axis: 2 }, &[vec![Dim::Batch, Dim::Batch]]).is_err());
    assert_eq!(shape_of(Op::Add, &[batched(&[3, 1]), fixed(&[5])]), Ok(batched(&[3, 5])));
    assert!(shape_of(Op::Add, &[batched(&[3]), fixed(&[2, 3])]).is_err());
    assert_eq!(shape_of(Op::Transpose { perm: vec![1, 0] }, &[batched(&[3])]), Ok(vec![Dim::Fixed(3), Dim::Batch]));
    assert_eq!(shape_of(Op::Reshape { shape: batched(&[2, 6]) }, &[batched(&[3, 4])]), Ok(batched(&[2, 6])));
    assert!(shape_of(Op::Reshape { shape: fixed(&[12]) }, &[batched(&[3, 4])]).is_err());
}

#[test]
fn operands_that_do_not_fit_are_errors_and_not_panics() {
    let gemm = || Op::Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: true };
    assert!(shape_of(gemm(), &[batched(&[3]), fixed(&[4, 2])]).is_err());
    assert!(shape_of(gemm(), &[batched(&[3])]).unwrap_err().contains("operand 1 is missing"));
    assert!(shape_of(Op::MatMul, &[fixed(&[3]), fixed(&[3])]).is_err());
    assert!(shape_of(Op::Concat { axis: 5 }, &[batched(&[3])]).is_err());
    assert!(shape_of(Op::Concat { axis: 0 }, &[batched(&[3]), batched(&[3])]).is_err());
    assert!(shape_of(Op::Squeeze { axes: vec![1] }, &[batched(&[3])]).is_err());
    assert!(shape_of(Op::Pad { pads: vec![0, -4, 0, 0], mode: PadMode::Constant(0.0) }, &[batched(&[3])]).is_err());
    assert!(shape_of(Op::Unsqueeze { axes: vec![0, 0] }, &[batched(&[3])]).is_err());
    let slice = Op::Slice { starts: vec![1], ends: vec![4], axes: vec![1], steps: vec![2] };
    assert_eq!(shape_of(slice, &[batched(&[5])]), Ok(batched(&[2])));
}

/// image → conv → relu → logits
fn small() -> Graph {
    let mut b = Builder::new("small");
    let x = b.input("image", &batched(&[2, 4, 4]));
    let conv = b.conv2d("conv", x, Tensor::f32([3, 2, 3, 3], vec![0.5; 54]), vec![0.0; 3], (1, 1, 1)).unwrap();
    let relu = b.node("relu", Op::Relu, &[conv]).unwrap();
    let mean = b.node("mean", Op::ReduceMean { axes: vec![2, 3], keepdims: false }, &[relu]).unwrap();
    let w = b.constant("w", Tensor::f32([5, 3], vec![1.0; 15]));
    let logits =
        b.node("logits", Op::Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: true }, &[mean, w]).unwrap();
    b.finish(&[logits])
}

#[test]
fn costs_are_counted_per_sample() {
    let (total, layers) = cost(&small());
    assert_eq!(total, Cost { macs: 16 * 3 * 2 * 9 + 15, params: 54 + 3 + 15 });
    assert_eq!(layers[0].activations, 48);
    assert_eq!(layers.iter().map(|l| l.macs).sum::<u64>(), total.macs);
}

#[test]
fn the_text_form_shows_types_shapes_and_attributes() {
    let text = small().to_string();
    let expected = "graph small(image: f32[batch,2,4,4])\n  \
        conv: f32[batch,3,4,4] = Conv { kernel: [3, 3], strides: [1, 1], pads: [1, 1, 1, 1], dilations: [1, 1], group: 1 }\
        (image, conv.weight: f32[3,2,3,3], conv.bias: f32[3])\n  \
        relu: f32[batch,3,4,4] = Relu(conv)\n  \
        mean: f32[batch,3] = ReduceMean { axes: [2, 3], keepdims: false }(relu)\n  \
        logits: f32[batch,5] = Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: true }(mean, w: f32[5,3])\n  \
        return logits\n";
    assert_eq!(text, expected);
}

#[test]
fn the_verifier_names_what_is_wrong() {
    let broken = |mutate: &dyn Fn(&mut Graph)| {
        let mut graph = small();
        verify(&graph).unwrap();
        mutate(&mut graph);
        verify(&graph).unwrap_err().to_string()
    };
    assert!(broken(&|g| g.nodes.swap(0, 1)).contains("node 'relu' reads 'conv'"));
    assert!(broken(&|g| g.nodes[1].name = "conv".into()).contains("used twice"));
    assert!(broken(&|g| g.value_mut(ValueId(0)).name = "conv".into()).contains("used twice"));
    assert!(broken(&|g| g.nodes.truncate(3)).contains("'logits' is produced by nothing"));
    assert!(broken(&|g| g.nodes[2].outputs = g.nodes[1].outputs.clone()).contains("more than once"));
    let relu = small().find("relu").unwrap();
    assert!(broken(&|g| g.value_mut(relu).shape = fixed(&[1])).contains("makes it f32 [batch,3,4,4]"));
    let w = small().find("w").unwrap();
    assert!(
        broken(&|g| g.value_mut(w).data = Some(std::sync::Arc::new(Tensor::i64([1], vec![1])))).contains("holds i64")
    );
    let scale = |scale: Vec<f32>, axis| QuantParams { zero_point: vec![0; scale.len()], scale, axis, dtype: DType::I8 };
    assert!(broken(&|g| g.value_mut(relu).quant = Some(scale(vec![f32::NAN], None))).contains("not positive"));
    assert!(broken(&|g| g.value_mut(relu).quant = Some(scale(vec![1.0; 2], Some(1)))).contains("expected 3"));
}

/// A graph is verified after every rewrite: were it quadratic, this would take minutes.
#[test]
fn large_graphs_are_verified_in_no_time() {
    let mut b = Builder::new("long");
    let mut y = b.input("x", &batched(&[2, 4, 4]));
    for i in 0..10_000 {
        let name = format!("node{i}");
        y = match i % 3 {
            0 => b.conv2d(&name, y, Tensor::f32([2, 2, 1, 1], vec![0.5; 4]), vec![0.0; 2], (1, 0, 1)).unwrap(),
            1 => b.node(&name, Op::Relu, &[y]).unwrap(),
            _ => b.node(&name, Op::Add, &[y, y]).unwrap(),
        };
    }
    let graph = b.finish(&[y]);
    let start = std::time::Instant::now();
    verify(&graph).unwrap();
    let took = start.elapsed();
    eprintln!("10,000 nodes: {took:?}");
    assert!(took.as_secs_f64() < 2.0, "{took:?}");
}
