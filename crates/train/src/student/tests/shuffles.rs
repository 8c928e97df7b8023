//! Shuffles of channels (Zhang et al. 2018, ShuffleNet, <https://arxiv.org/abs/1707.01083>): a permutation puts each of two
//! extents within the other. For every number of groups, what is cut computes what the masked network does.

use super::random::Maker;
use super::*;
use kdc_ir::graph::{Builder, Op, ValueId};
use kdc_ir::onnx;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use std::path::Path;

const SIDE: usize = 3;

fn shuffle(m: &mut Maker, x: ValueId, channels: usize, groups: usize) -> ValueId {
    let apart = vec![Dim::Batch, fixed(groups), fixed(channels / groups), fixed(SIDE), fixed(SIDE)];
    let x = m.push(Op::Reshape { shape: apart }, &[x]);
    let x = m.push(Op::Transpose { perm: vec![0, 2, 1, 3, 4] }, &[x]);
    m.push(Op::Reshape { shape: vec![Dim::Batch, fixed(channels), fixed(SIDE), fixed(SIDE)] }, &[x])
}

/// Where the shuffle stands.
#[derive(Clone, Copy, Debug)]
enum Form {
    /// Between two convolutions.
    Plain,
    /// Between two of as many groups.
    Grouped,
    /// What is shuffled meets what is not.
    Residual,
    /// Shuffled back, and filtered channel by channel.
    Twice,
    /// Of halves, one of which goes around.
    Halves,
}

const FORMS: [Form; 5] = [Form::Plain, Form::Grouped, Form::Residual, Form::Twice, Form::Halves];

fn network(form: Form, channels: usize, groups: usize) -> Graph {
    let rng = ChaCha8Rng::seed_from_u64((channels * 100 + groups) as u64);
    let mut m = Maker { b: Builder::new("shuffled"), rng, count: 0 };
    let x = m.b.input("x", &[Dim::Batch, fixed(2), fixed(SIDE), fixed(SIDE)]);
    let x = m.conv(x, 2, channels, 3, 1);
    let x = m.push(Op::Relu, &[x]);
    let y = match form {
        Form::Plain => shuffle(&mut m, x, channels, groups),
        Form::Grouped => {
            let y = m.conv(x, channels, channels, 1, groups);
            let y = shuffle(&mut m, y, channels, groups);
            m.conv(y, channels, channels, 1, groups)
        }
        Form::Residual => {
            let y = m.conv(x, channels, channels, 1, 1);
            let y = shuffle(&mut m, y, channels, groups);
            m.push(Op::Add, &[x, y])
        }
        Form::Twice => {
            let y = shuffle(&mut m, x, channels, groups);
            let y = m.conv(y, channels, channels, 3, channels);
            shuffle(&mut m, y, channels, channels / groups)
        }
        Form::Halves => {
            let half = channels / 2;
            let part = |m: &mut Maker, from: usize, to: usize| {
                let (starts, ends) = (vec![from as i64], vec![to as i64]);
                m.push(Op::Slice { starts, ends, axes: vec![1], steps: vec![1] }, &[x])
            };
            let (around, through) = (part(&mut m, 0, half), part(&mut m, half, channels));
            let through = m.conv(through, channels - half, channels - half, 3, 1);
            let joined = m.push(Op::Concat { axis: 1 }, &[around, through]);
            shuffle(&mut m, joined, channels, groups)
        }
    };
    let y = m.conv(y, channels, 6, 1, 1);
    let y = m.push(Op::GlobalAveragePool, &[y]);
    let y = m.push(Op::Flatten { axis: 1 }, &[y]);
    let y = m.linear(y, 6, 4);
    m.b.finish(&[y])
}

/// Nothing stands within itself, by whatever way.
fn assert_nested(groups: &Groups, name: &str) {
    for (start, group) in groups.groups.iter().enumerate() {
        let (mut at, mut steps) = (group.within, 0);
        while let Some(outer) = at {
            steps += 1;
            assert!(outer != start && steps <= groups.groups.len(), "{name}: '{}' is within itself", group.name);
            at = groups.groups[outer].within;
        }
    }
}

fn params(graph: &Graph) -> u64 {
    kdc_ir::graph::cost(graph).0.params
}

#[test]
fn shuffled_channels_are_cut_as_masked_ones_are() {
    let mut seen = 0;
    for channels in [2, 4, 6, 8, 9, 12, 15, 16, 24, 30] {
        for groups in (1..=channels).filter(|groups| channels % groups == 0) {
            for form in FORMS {
                let name = format!("{form:?}, {channels} channels in {groups} groups");
                let graph = network(form, channels, groups);
                let found = Groups::find(&graph);
                assert_nested(&found, &name);
                let inputs = [input(graph.value(graph.inputs[0]), 2, 1)];
                for share in [0.75, 0.5, 0.25] {
                    let student = assert_equal_to_masked(&graph, &found, share, &inputs, &name);
                    // The channels before a shuffle are as free as others.
                    if matches!(form, Form::Plain) && channels >= 8 && share < 0.5 {
                        assert!(params(&student) < params(&graph) * 2 / 3, "{name}: {found:?}");
                    }
                }
                seen += 1;
            }
        }
    }
    assert!(seen > 200, "{seen}");
}

#[test]
fn networks_that_were_found_to_recurse_without_end_are_narrowed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/networks/derived");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.display().to_string();
        let (graph, _) = prepare(&onnx::load(&path).unwrap()).unwrap();
        let groups = Groups::find(&graph);
        assert_nested(&groups, &name);
        let inputs = [input(graph.value(graph.inputs[0]), 2, 1)];
        for share in [0.75, 0.5, 0.25] {
            assert_equal_to_masked(&graph, &groups, share, &inputs, &name);
        }
        seen += 1;
    }
    assert!(seen >= 4, "{seen}");
}
