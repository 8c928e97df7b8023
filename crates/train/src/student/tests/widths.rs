//! Groups by name, widths under budgets, and what a cut keeps.

use super::*;
use kdc_ir::graph::{Builder, Op, cost};
use kdc_ir::pass;

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

fn prepared(channels: usize) -> Graph {
    let mut graph = residual(channels);
    pass::insert_batch_norm(&mut graph, &Default::default());
    graph
}

fn found(graph: &Graph, allocation: Allocation, budgets: &Budgets) -> Result<Candidate, Error> {
    let groups = Groups::find(graph);
    let importance = importance(graph, &groups, Criterion::L2, &Evidence::default(), 1);
    let teacher = Teacher { graph, groups: &groups, importance: &importance };
    widest(&teacher, allocation, budgets, &mut measured)
}

#[test]
fn a_skip_connection_and_a_depthwise_convolution_couple_their_channels() {
    let graph = residual(16);
    let groups = Groups::find(&graph);
    let found: Vec<(&str, usize)> = groups.groups.iter().map(|g| (g.name.as_str(), g.extent)).collect();
    assert_eq!(found, [("stem", 16), ("a", 32)]);
    assert_eq!(groups.on(graph.find("flat").unwrap(), 1), [0]);
    assert_eq!(groups.members(graph.find("flat").unwrap(), 1, 0)[16], Some(1));
    let triggers: Vec<String> = groups.triggers(&graph, 0).iter().map(ToString::to_string).collect();
    let wanted = "'stem.relu' axis 1 triggers 'b' axis 1 at node 'sum' (Add) because operands meet element by element";
    assert!(triggers.iter().any(|t| t == wanted), "{triggers:#?}");
    let classes = groups.fixed.iter().find(|f| f.extent == 5).unwrap();
    assert_eq!(
        (classes.name.as_str(), classes.why.as_str()),
        ("logits", "the network's output 'logits' keeps its extents")
    );
}

#[test]
fn a_cut_keeps_names_interface_and_the_weights_that_matter_most() {
    let mut graph = prepared(16);
    // Channels 12 to 15 of the stem matter most.
    let id = graph.find("stem.weight").unwrap();
    let data = (0..16 * 27).map(|i| if i / 27 >= 12 { 2.0 } else { 0.1 + i as f32 * 1e-4 }).collect();
    graph.value_mut(id).data = Some(std::sync::Arc::new(Tensor::f32([16, 3, 3, 3], data)));
    let groups = Groups::find(&graph);
    let importance = importance(&graph, &groups, Criterion::L2, &Evidence::default(), 7);
    let teacher = Teacher { graph: &graph, groups: &groups, importance: &importance };
    let (student, kept) = teacher.narrowed(&uniform(&groups, 0.25)).unwrap();
    assert_eq!(kept[0], [12, 13, 14, 15]);
    let shape = |name: &str| kdc_ir::graph::shape_at(&student.value(student.find(name).unwrap()).shape, 2);
    assert_eq!(shape("sum"), [2, 4, 8, 8]);
    assert_eq!(shape("dw.weight"), [4, 1, 3, 3]);
    assert_eq!(shape("flat"), [2, 64]);
    assert_eq!(shape("logits"), [2, 5]);
    assert!(student.constant(student.find("stem.weight").unwrap()).unwrap().to_f32().iter().all(|&w| w == 2.0));
    let weights = |seed: u64| {
        let mut graph = student.clone();
        redraw(&mut graph, seed);
        graph.constant(graph.find("a.weight").unwrap()).unwrap().clone()
    };
    assert_eq!(weights(7), weights(7));
    assert_ne!(weights(7), weights(8));
}

#[test]
fn the_search_fills_the_budgets_and_never_breaks_them() {
    let graph = prepared(32);
    let (total, _) = cost(&residual(32));
    for allocation in [Allocation::Uniform, Allocation::Ranked] {
        for share in [2, 5, 8, 20] {
            let budgets =
                Budgets { macs: Some(total.macs / share), params: Some(total.params / share), ..Budgets::default() };
            let found = found(&graph, allocation, &budgets).unwrap();
            assert!(budgets.breaches(&found.cost).is_empty());
            let full = found.cost.macs as f64 / (total.macs / share) as f64;
            let full = full.max(found.cost.params as f64 / (total.params / share) as f64);
            assert!(full > 0.6, "{allocation:?}: 1/{share} of the teacher filled to {full:.2}");
        }
    }
}

#[test]
fn budgets_that_nothing_fits_are_an_error_that_names_the_budget() {
    let budgets = Budgets { params: Some(10), ..Budgets::default() };
    let error = found(&prepared(16), Allocation::Uniform, &budgets).unwrap_err().to_string();
    assert!(error.contains("--max-params 10"), "{error}");
}

#[test]
fn every_criterion_ranks_by_what_it_reads() {
    let graph = prepared(16);
    let groups = Groups::find(&graph);
    let (weight, scale) = (graph.find("stem.weight").unwrap(), graph.find("stem.bn.weight").unwrap());
    let best = |graph: &Graph, criterion: Criterion, evidence: &Evidence| {
        let numbers = &importance(graph, &groups, criterion, evidence, 5)[0];
        assert!((numbers.iter().sum::<f64>() / 16.0 - 1.0).abs() < 0.2, "{criterion:?}: {numbers:?}");
        (0..16).max_by(|&a, &b| numbers[a].total_cmp(&numbers[b])).unwrap()
    };
    let with = |id: kdc_ir::graph::ValueId, at: std::ops::Range<usize>, v: f32| {
        let mut graph = graph.clone();
        let old = graph.constant(id).unwrap().clone();
        let mut data = old.to_f32().into_owned();
        data[at].iter_mut().for_each(|w| *w = v);
        graph.value_mut(id).data = Some(std::sync::Arc::new(Tensor::f32(old.shape, data)));
        graph
    };
    let none = Evidence::default();
    assert_eq!(best(&with(weight, 3 * 27..4 * 27, -3.0), Criterion::L1, &none), 3);
    assert_eq!(best(&with(weight, 4 * 27..5 * 27, -3.0), Criterion::L2, &none), 4);
    assert_eq!(best(&with(scale, 5..6, 3.0), Criterion::Scale, &none), 5);
    let mut gradient = vec![1e-3; 16 * 27];
    gradient[6 * 27] = 1.0;
    let evidence = Evidence { gradients: [(weight, gradient)].into(), ..none.clone() };
    assert_eq!(best(&graph, Criterion::Taylor, &evidence), 6);
    let mut means = vec![0.1; 16];
    means[7] = 1.0;
    let evidence = Evidence { activations: [((graph.find("sum").unwrap(), 1), means)].into(), ..none.clone() };
    assert_eq!(best(&graph, Criterion::Activation, &evidence), 7);
    let random = |seed| importance(&graph, &groups, Criterion::Random, &none, seed);
    assert_ne!(random(1), random(2));
}
