use super::*;
use crate::graph::{Builder, Dim, Op, Tensor, cost};
use crate::pass;

/// stem → (conv, conv) + skip → pool → flatten → classifier
fn residual(channels: usize) -> Graph {
    let mut b = Builder::new("net");
    let x = b.input("x", &[Dim::Batch, Dim::Fixed(3), Dim::Fixed(8), Dim::Fixed(8)]);
    let w = |o: usize, i: usize| Tensor::f32([o, i, 3, 3], vec![0.1; o * i * 9]);
    let stem = b.conv2d("stem", x, w(channels, 3), vec![0.0; channels], (1, 1, 1)).unwrap();
    let stem = b.node("stem.relu", Op::Relu, &[stem]).unwrap();
    let a = b.conv2d("a", stem, w(2 * channels, channels), vec![0.0; 2 * channels], (1, 1, 1)).unwrap();
    let a = b.node("a.relu", Op::Relu, &[a]).unwrap();
    let c = b.conv2d("b", a, w(channels, 2 * channels), vec![0.0; channels], (1, 1, 1)).unwrap();
    let sum = b.node("sum", Op::Add, &[c, stem]).unwrap();
    let depthwise = Tensor::f32([channels, 1, 3, 3], vec![0.1; channels * 9]);
    let d = b.conv2d("dw", sum, depthwise, vec![0.0; channels], (2, 1, channels)).unwrap();
    let flat = b.node("flat", Op::Flatten { axis: 1 }, &[d]).unwrap();
    let head = b.constant("head.w", Tensor::f32([5, 16 * channels], vec![0.1; 80 * channels]));
    let bias = b.constant("head.b", Tensor::f32([5], vec![0.0; 5]));
    let gemm = Op::Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: true };
    let logits = b.node("logits", gemm, &[flat, head, bias]).unwrap();
    b.finish(&[logits])
}

fn measured(graph: &Graph) -> Result<Measured, Error> {
    let mut folded = graph.clone();
    pass::fold_batch_norm(&mut folded);
    let (total, _) = cost(&folded);
    Ok(Measured { macs: total.macs, params: total.params, ..Measured::default() })
}

#[test]
fn a_skip_connection_and_a_depthwise_convolution_couple_their_channels() {
    let graph = residual(16);
    let groups = ChannelGroups::find(&graph);
    let free: Vec<(&str, usize)> =
        groups.groups.iter().filter(|g| g.free).map(|g| (g.name.as_str(), g.channels)).collect();
    assert_eq!(free, [("stem", 16), ("a", 32)]);
    let flat = graph.find("flat").unwrap();
    assert_eq!(groups.segments(flat)[0].repeat, 16);
}

#[test]
fn a_scaled_copy_is_well_formed_and_keeps_names_and_interface() {
    let graph = residual(16);
    let groups = ChannelGroups::find(&graph);
    let widths: Vec<usize> = groups.groups.iter().map(|g| if g.free { g.channels / 4 } else { g.channels }).collect();
    let student = scaled_copy(&graph, &groups, &widths, 7).unwrap();
    let shape = |name: &str| crate::graph::shape_at(&student.value(student.find(name).unwrap()).shape, 2);
    assert_eq!(shape("sum"), [2, 4, 8, 8]);
    assert_eq!(shape("dw.weight"), [4, 1, 3, 3]);
    assert_eq!(shape("flat"), [2, 64]);
    assert_eq!(shape("logits"), [2, 5]);
    let norms = student.nodes.iter().filter(|n| matches!(n.op, Op::BatchNormalization { .. })).count();
    assert_eq!(norms, 4);
    let again = scaled_copy(&graph, &groups, &widths, 7).unwrap();
    let other = scaled_copy(&graph, &groups, &widths, 8).unwrap();
    let weight = |g: &Graph| g.constant(g.find("a.weight").unwrap()).unwrap().clone();
    assert_eq!(weight(&student), weight(&again));
    assert_ne!(weight(&student), weight(&other));
}

#[test]
fn the_search_fills_the_budgets_and_never_breaks_them() {
    let graph = residual(32);
    let groups = ChannelGroups::find(&graph);
    let (total, _) = cost(&graph);
    for share in [2, 5, 8, 20] {
        let budgets =
            Budgets { macs: Some(total.macs / share), params: Some(total.params / share), ..Budgets::default() };
        let found = search(&graph, &groups, &budgets, 1, &mut measured).unwrap();
        assert!(budgets.breaches(&found.cost).is_empty());
        let full = found.cost.macs as f64 / (total.macs / share) as f64;
        let full = full.max(found.cost.params as f64 / (total.params / share) as f64);
        assert!(full > 0.7, "1/{share} of the teacher filled to {full:.2}");
    }
}

#[test]
fn budgets_that_nothing_fits_are_an_error_that_names_the_budget() {
    let graph = residual(16);
    let groups = ChannelGroups::find(&graph);
    let budgets = Budgets { params: Some(10), ..Budgets::default() };
    let error = search(&graph, &groups, &budgets, 1, &mut measured).unwrap_err().to_string();
    assert!(error.contains("--max-params 10"), "{error}");
}

#[test]
fn layers_over_sequences_keep_their_extents_and_get_new_weights() {
    let mut b = Builder::new("net");
    let x = b.input("x", &[Dim::Batch, Dim::Fixed(6), Dim::Fixed(8)]);
    let w = b.constant("w", Tensor::f32([8, 12], vec![0.1; 96]));
    let bias = b.constant("bias", Tensor::f32([12], vec![0.0; 12]));
    let y = b.node("product", Op::MatMul, &[x, w]).unwrap();
    let y = b.node("sum", Op::Add, &[y, bias]).unwrap();
    let y = b.node("mean", Op::ReduceMean { axes: vec![1], keepdims: false }, &[y]).unwrap();
    let head = b.constant("head", Tensor::f32([12, 3], vec![0.1; 36]));
    let y = b.node("logits", Op::MatMul, &[y, head]).unwrap();
    let graph = b.finish(&[y]);
    let groups = ChannelGroups::find(&graph);
    let student = scaled_copy(&graph, &groups, &groups.widths(), 1).unwrap();
    let weights = student.constant(student.find("w").unwrap()).unwrap();
    assert_eq!(weights.shape, [8, 12]);
    assert_ne!(weights.to_f32()[0], weights.to_f32()[1]);
}
