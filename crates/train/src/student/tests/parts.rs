//! Networks with some of their blocks left out, and convolutions taken apart.

use super::*;
use kdc_ir::graph::{Builder, Op};

fn conv_net(weights: Tensor) -> Graph {
    let mut b = Builder::new("net");
    let x = b.input("x", &[Dim::Batch, fixed(8), fixed(6), fixed(6)]);
    let out = weights.shape[0];
    let y = b.conv2d("conv", x, weights, (0..out).map(|i| i as f32 * 0.1).collect(), (2, 1, 1)).unwrap();
    let y = b.node("relu", Op::Relu, &[y]).unwrap();
    b.finish(&[y])
}

fn varied(shape: [usize; 4]) -> Tensor {
    let number = |i: usize| ((i * 7919 + 13) % 1009) as f32 / 504.5 - 1.0;
    Tensor::f32(shape, (0..shape.iter().product()).map(number).collect())
}

#[test]
fn at_full_rank_nothing_changes_and_the_middle_is_a_group_in_order_of_importance() {
    let graph = conv_net(varied([12, 8, 3, 3]));
    let taken = factored(&graph, Factoring::LowRank);
    let x = [input(graph.value(graph.inputs[0]), 2, 1)];
    assert!(difference(&computed(&graph, &x), &computed(&taken, &x)) < 1e-5);
    let groups = Groups::find(&taken);
    assert_eq!(groups.groups.iter().map(|g| (g.name.as_str(), g.extent)).collect::<Vec<_>>(), [("conv.spatial", 12)]);
    let ranked = &importance(&taken, &groups, Criterion::L2, &Evidence::default(), 0)[0];
    assert!(ranked.is_sorted_by(|a, b| a >= b), "{ranked:?}");
}

#[test]
fn separable_filters_are_found_exactly_and_others_nearly() {
    // Every output's filter is a multiple of the channel's own.
    let (filters, factors) = (varied([8, 1, 3, 3]), varied([12, 8, 1, 1]));
    let (f, k) = (filters.to_f32(), factors.to_f32());
    let product = (0..12 * 8 * 9).map(|i| k[i / 9] * f[i / 9 % 8 * 9 + i % 9]).collect();
    let graph = conv_net(Tensor::f32([12, 8, 3, 3], product));
    let taken = factored(&graph, Factoring::Separable);
    let x = [input(graph.value(graph.inputs[0]), 2, 1)];
    assert!(difference(&computed(&graph, &x), &computed(&taken, &x)) < 1e-5);
    assert_eq!(factorable(&taken), Vec::<String>::new());
    let (before, after) = (kdc_ir::graph::cost(&graph).0, kdc_ir::graph::cost(&taken).0);
    assert!(after.macs * 4 < before.macs);
    // The best of its kind is nearer than the middle tap alone.
    let graph = conv_net(varied([12, 8, 3, 3]));
    let off = |taken: &Graph| difference(&computed(&graph, &x), &computed(taken, &x));
    let best = off(&factored(&graph, Factoring::Separable));
    let mut middle = varied([12, 8, 3, 3]).to_f32().into_owned();
    middle.iter_mut().enumerate().filter(|(i, _)| i % 9 != 4).for_each(|(_, v)| *v = 0.0);
    assert!(best < off(&conv_net(Tensor::f32([12, 8, 3, 3], middle))), "{best}");
}

#[test]
fn blocks_are_what_adds_to_its_own_input() {
    let mut b = Builder::new("net");
    let x = b.input("x", &[Dim::Batch, fixed(4), fixed(6), fixed(6)]);
    let mut y = b.conv2d("stem", x, varied([4, 4, 3, 3]), vec![0.0; 4], (1, 1, 1)).unwrap();
    for i in 0..3 {
        let a = b.conv2d(&format!("a{i}"), y, varied([4, 4, 3, 3]), vec![0.0; 4], (1, 1, 1)).unwrap();
        let a = b.node(&format!("relu{i}"), Op::Relu, &[a]).unwrap();
        y = b.node(&format!("sum{i}"), Op::Add, &[a, y]).unwrap();
    }
    // What comes from elsewhere is no block.
    let other = b.conv2d("other", x, varied([4, 4, 3, 3]), vec![0.0; 4], (1, 1, 1)).unwrap();
    let last = b.node("joined", Op::Add, &[y, other]).unwrap();
    let end = b.node("out", Op::Relu, &[last]).unwrap();
    let graph = b.finish(&[end]);
    let found = droppable(&graph);
    assert_eq!(found.iter().map(|b| b.name.as_str()).collect::<Vec<_>>(), ["sum0", "sum1", "sum2"]);
    let less = without_blocks(&graph, &["sum0".into(), "sum1".into()]);
    kdc_ir::graph::verify(&less).unwrap();
    let names: Vec<&str> = less.nodes.iter().map(|n| n.name.as_str()).collect();
    assert_eq!(names, ["stem", "a2", "relu2", "sum2", "other", "joined", "out"]);
    assert_eq!(less.nodes[1].input(0), less.find("stem"));
}
