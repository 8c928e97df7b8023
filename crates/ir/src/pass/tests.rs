use super::*;
use crate::graph::{Builder, DType, Dim, Op, Tensor, ValueId};

fn batch(rest: &[usize]) -> Vec<Dim> {
    std::iter::once(Dim::Batch).chain(rest.iter().map(|&n| Dim::Fixed(n))).collect()
}

fn names(graph: &Graph) -> Vec<&str> {
    graph.nodes.iter().map(|n| n.name.as_str()).collect()
}

fn constant<'g>(graph: &'g Graph, name: &str) -> &'g [f32] {
    graph.constant(graph.find(name).unwrap()).unwrap().as_f32().unwrap()
}

/// A convolution of 1 × 1 from two channels to two, and a normalisation after it.
fn conv_norm() -> (Builder, ValueId, ValueId) {
    let mut b = Builder::new("net");
    let x = b.input("x", &batch(&[2, 4, 4]));
    let conv = b.conv2d("conv", x, Tensor::f32([2, 2, 1, 1], vec![1.0, 2.0, 3.0, 4.0]), vec![0.5, -1.0], (1, 0, 1));
    let conv = conv.unwrap();
    let mut vector = |name: &str, v: [f32; 2]| b.constant(name, Tensor::f32([2], v.to_vec()));
    let parameters = [
        vector("gamma", [2.0, 3.0]),
        vector("beta", [0.25, -0.5]),
        vector("mean", [1.0, -2.0]),
        vector("var", [0.25, 2.25]),
    ];
    let inputs = [&[conv], &parameters[..]].concat();
    let norm = b.node("norm", Op::BatchNormalization { epsilon: 0.0 }, &inputs).unwrap();
    (b, conv, norm)
}

#[test]
fn batch_norm_folds_into_the_convolution_before_it() {
    let (mut b, _, norm) = conv_norm();
    let out = b.node("out", Op::Relu, &[norm]).unwrap();
    let mut graph = b.finish(&[out]);
    run(&mut graph, &[("fold batch norm", fold_batch_norm)]).unwrap();
    assert_eq!(names(&graph), ["conv", "out"]);
    // s = γ / √σ² = 4 and 2; w·s, and (b − μ)·s + β.
    assert_eq!(constant(&graph, "conv.weight"), [4.0, 8.0, 6.0, 8.0]);
    assert_eq!(constant(&graph, "conv.bias"), [-1.75, 1.5]);
    assert_eq!(graph.value(graph.nodes[0].output()).name, "norm");
    assert!(graph.find("gamma").is_none());
}

#[test]
fn batch_norm_that_no_layer_absorbs_is_a_convolution_of_each_channel() {
    let (mut b, conv, norm) = conv_norm();
    let sum = b.node("sum", Op::Add, &[conv, norm]).unwrap();
    let mut graph = b.finish(&[sum]);
    run(&mut graph, &[("fold batch norm", fold_batch_norm), ("convolve batch norm", convolve_batch_norm)]).unwrap();
    assert_eq!(names(&graph), ["conv", "norm", "sum"]);
    // s = γ / √σ² = 4 and 2, and β − μ·s.
    assert_eq!(constant(&graph, "norm.scale"), [4.0, 2.0]);
    assert_eq!(constant(&graph, "norm.shift"), [-3.75, 3.5]);
    assert!(matches!(&graph.nodes[1].op, Op::Conv(conv) if conv.group == 2));
}

#[test]
fn batch_norm_stays_when_the_convolution_is_read_elsewhere() {
    let (mut b, conv, norm) = conv_norm();
    let sum = b.node("sum", Op::Add, &[conv, norm]).unwrap();
    let mut graph = b.finish(&[sum]);
    let before = graph.to_string();
    fold_batch_norm(&mut graph);
    assert_eq!(graph.to_string(), before);

    let (b, conv, norm) = conv_norm();
    let mut graph = b.finish(&[norm, conv]);
    fold_batch_norm(&mut graph);
    assert_eq!(names(&graph), ["conv", "norm"]);
}

#[test]
fn weights_shared_with_another_layer_are_left_to_it() {
    let (b, ..) = conv_norm();
    let mut graph = b.finish(&[ValueId(8)]);
    let norm = graph.find("norm").unwrap();
    let conv = graph.nodes[0].clone();
    let other = graph.add_value(crate::graph::Value { name: "other".into(), ..graph.value(norm).clone() });
    graph.nodes.push(crate::graph::Node { name: "other".into(), outputs: vec![other], ..conv });
    graph.outputs = vec![norm, other];
    run(&mut graph, &[("fold batch norm", fold_batch_norm)]).unwrap();
    assert_eq!(names(&graph), ["conv", "other"]);
    assert_eq!(constant(&graph, "conv.weight"), [1.0, 2.0, 3.0, 4.0]);
    assert_eq!(constant(&graph, "conv.weight_1"), [4.0, 8.0, 6.0, 8.0]);
}

#[test]
fn batch_norm_folds_into_gemm_either_way_round() {
    for trans_b in [false, true] {
        let mut b = Builder::new("net");
        let x = b.input("x", &batch(&[2]));
        let w = b.constant("w", Tensor::f32([2, 2], vec![1.0, 2.0, 3.0, 4.0]));
        let c = b.constant("c", Tensor::f32([2], vec![1.0, 2.0]));
        let gemm = b.node("gemm", Op::Gemm { alpha: 1.0, beta: 2.0, trans_a: false, trans_b }, &[x, w, c]).unwrap();
        let mut vector = |name: &str, v: [f32; 2]| b.constant(name, Tensor::f32([2], v.to_vec()));
        let p = [vector("g", [1.0, 4.0]), vector("b", [0.0, 0.0]), vector("m", [1.0, 0.0]), vector("v", [1.0, 4.0])];
        let y = b.node("y", Op::BatchNormalization { epsilon: 0.0 }, &[&[gemm], &p[..]].concat()).unwrap();
        let mut graph = b.finish(&[y]);
        run(&mut graph, &[("fold batch norm", fold_batch_norm)]).unwrap();
        let expected = if trans_b { [1.0, 2.0, 6.0, 8.0] } else { [1.0, 4.0, 3.0, 8.0] };
        assert_eq!(constant(&graph, "w"), expected);
        assert_eq!(constant(&graph, "c"), [1.0, 8.0]);
        assert_eq!(graph.nodes[0].op, Op::Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b });
    }
}

#[test]
fn inserted_batch_norm_changes_nothing_and_folds_away() {
    let (b, conv, _) = conv_norm();
    let mut graph = b.finish(&[conv]);
    drop_dead_code(&mut graph);
    let (before, weight) = (graph.to_string(), constant(&graph, "conv.weight").to_vec());
    run(&mut graph, &[("insert batch norm", |g| insert_batch_norm(g, &Default::default()))]).unwrap();
    assert_eq!(names(&graph), ["conv", "conv.bn"]);
    assert_eq!(constant(&graph, "conv.bn.bias"), [0.5, -1.0]);
    assert!(graph.nodes[0].input(2).is_none());
    let inserted = graph.to_string();
    insert_batch_norm(&mut graph, &Default::default());
    assert_eq!(graph.to_string(), inserted);
    run(&mut graph, &[("fold batch norm", fold_batch_norm)]).unwrap();
    assert_eq!(graph.to_string(), before);
    let close = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(x, y)| (x - y).abs() <= 1e-6);
    assert!(close(constant(&graph, "conv.weight"), &weight));
    assert!(close(constant(&graph, "conv.bias"), &[0.5, -1.0]));
}

#[test]
fn softmax_comes_off_and_goes_back() {
    let mut b = Builder::new("net");
    let x = b.input("x", &batch(&[4]));
    let logits = b.node("logits", Op::Relu, &[x]).unwrap();
    let scores = b.node("scores", Op::Softmax { axis: 1 }, &[logits]).unwrap();
    let mut graph = b.finish(&[scores]);
    let before = graph.to_string();
    let softmax = strip_softmax(&mut graph).unwrap();
    assert_eq!(graph.value(graph.outputs[0]).name, "logits");
    assert_eq!(names(&graph), ["logits"]);
    assert!(strip_softmax(&mut graph).is_none());
    restore_softmax(&mut graph, softmax);
    assert_eq!(graph.to_string(), before);
}

#[test]
fn identities_go_and_output_names_stay() {
    let mut b = Builder::new("net");
    let x = b.input("x", &batch(&[4]));
    let drop = b.node("drop", Op::Dropout, &[x]).unwrap();
    let relu = b.node("relu", Op::Relu, &[drop]).unwrap();
    let cast = b.node("cast", Op::Cast { to: DType::F32 }, &[relu]).unwrap();
    let y = b.node("y", Op::Identity, &[cast]).unwrap();
    let z = b.node("z", Op::Identity, &[x]).unwrap();
    let mut graph = b.finish(&[y, z]);
    normalize(&mut graph).unwrap();
    // `z` gives an input back under another name, which takes a node.
    assert_eq!(names(&graph), ["relu", "z"]);
    let outputs: Vec<&str> = graph.outputs.iter().map(|&id| graph.value(id).name.as_str()).collect();
    assert_eq!(outputs, ["y", "z"]);
    assert_eq!(graph.nodes[0].input(0), Some(graph.inputs[0]));
}

#[test]
fn constants_are_evaluated() {
    let mut b = Builder::new("net");
    let x = b.input("x", &batch(&[3, 2]));
    let w = b.constant("w", Tensor::f32([2, 3], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]));
    let row = b.constant("row", Tensor::f32([1, 2], vec![10.0, 20.0]));
    let order = b.constant("order", Tensor::i64([2], vec![-1, 0]));
    let t = b.node("t", Op::Transpose { perm: vec![1, 0] }, &[w]).unwrap();
    let sum = b.node("sum", Op::Add, &[t, row]).unwrap();
    let slice = Op::Slice { starts: vec![2], ends: vec![-1], axes: vec![0], steps: vec![-1] };
    let flipped = b.node("flipped", slice, &[sum]).unwrap();
    let picked = b.node("picked", Op::Gather { axis: 1 }, &[flipped, order]).unwrap();
    let both = b.node("both", Op::Concat { axis: 1 }, &[picked, t]).unwrap();
    let shape = vec![Dim::Fixed(3), Dim::Fixed(2), Dim::Fixed(2)];
    let cubes = b.node("cubes", Op::Reshape { shape }, &[both]).unwrap();
    let scalar = b.constant("scalar", Tensor::i64([0; 0], vec![0]));
    let first = b.node("matrix", Op::Gather { axis: 2 }, &[cubes, scalar]).unwrap();
    let first = b.node("transposed", Op::Transpose { perm: vec![1, 0] }, &[first]).unwrap();
    let y = b.node("y", Op::MatMul, &[x, first]).unwrap();
    let mut graph = b.finish(&[y]);
    normalize(&mut graph).unwrap();
    assert_eq!(names(&graph), ["y"]);
    // t + row = [[11, 24], [12, 25], [13, 26]]; flipped, columns swapped: [[26, 13], [25, 12], [24, 11]].
    assert_eq!(constant(&graph, "transposed"), [26.0, 25.0, 24.0, 1.0, 2.0, 3.0]);
}

#[test]
fn dead_code_goes() {
    let mut b = Builder::new("net");
    let x = b.input("x", &batch(&[4]));
    let unused = b.constant("unused", Tensor::f32([1], vec![1.0]));
    b.node("dead", Op::Add, &[x, unused]).unwrap();
    let y = b.node("y", Op::Relu, &[x]).unwrap();
    let mut graph = b.finish(&[y]);
    normalize(&mut graph).unwrap();
    assert_eq!(names(&graph), ["y"]);
    let values: Vec<&str> = graph.values.iter().map(|v| v.name.as_str()).collect();
    assert_eq!(values, ["x", "y"]);
}

/// PyTorch's local response normalisation over `size` channels with so many zeros before them.
#[test]
fn constants_that_grow_without_end_are_left_to_be_computed() {
    let bytes = |graph: &Graph| {
        graph.values.iter().filter_map(|v| Some(v.data.as_ref()?.len() * v.dtype.size())).sum::<usize>()
    };
    // Each node doubles: after forty of them there is no such memory.
    let mut b = Builder::new("net");
    let x = b.input("x", &batch(&[1]));
    let mut c = b.constant("c", Tensor::f32([1, 1 << 10], vec![0.5; 1 << 10]));
    for i in 0..20 {
        c = b.node(&format!("twice{i}"), Op::Concat { axis: 1 }, &[c, c]).unwrap();
    }
    let filled = b.constant("one", Tensor::f32([1, 1], vec![1.0]));
    let shape = vec![Dim::Fixed(1), Dim::Fixed(1 << 26)];
    let filled = b.node("filled", Op::Expand { shape }, &[filled]).unwrap();
    let y = [c, filled].map(|big| {
        b.node(&format!("sum{}", big.index()), Op::ReduceMean { axes: vec![1], keepdims: true }, &[big]).unwrap()
    });
    let y = b.node("y", Op::Add, &[x, y[0]]).and_then(|z| b.node("z", Op::Add, &[z, y[1]])).unwrap();
    let mut graph = b.finish(&[y]);
    normalize(&mut graph).unwrap();
    assert!(bytes(&graph) <= 2 << 26, "{} bytes", bytes(&graph));
    assert!(names(&graph).contains(&"filled") && names(&graph).contains(&"twice19"), "{:?}", names(&graph));
    // What is small is folded beside it.
    assert!(!names(&graph).contains(&"twice0"));
}

#[test]
fn long_chains_take_linear_time() {
    let start = std::time::Instant::now();
    let mut b = Builder::new("net");
    let x = b.input("x", &batch(&[1]));
    let mut c = b.constant("c", Tensor::f32([1], vec![0.5]));
    let mut y = x;
    for i in 0..40_000 {
        y = b.node(&format!("y{i}"), if i % 2 == 0 { Op::Identity } else { Op::Relu }, &[y]).unwrap();
        c = b.node(&format!("c{i}"), Op::Unary(crate::graph::Unary::Neg), &[c]).unwrap();
    }
    let y = b.node("y", Op::Add, &[y, c]).unwrap();
    let mut graph = b.finish(&[y]);
    normalize(&mut graph).unwrap();
    assert_eq!(graph.nodes.len(), 20_001);
    assert!(start.elapsed() < std::time::Duration::from_secs(5), "{:?}", start.elapsed());
}
