use super::*;
use burn::tensor::{Device, Tensor, TensorData};
use kdc_ir::graph::{Builder, ValueId};

/// Convolution, batch norm, ReLU, and a linear head.
fn network() -> (Graph, [ValueId; 2]) {
    let mut b = Builder::new("net");
    let x = b.input("x", &[Dim::Batch, Dim::Fixed(1), Dim::Fixed(4), Dim::Fixed(4)]);
    let y = b.conv2d("conv", x, floats(&[3, 1, 3, 3], -0.5, 0.5, 1), vec![0.1, -0.2, 0.3], (1, 1, 1)).unwrap();
    let vector = |b: &mut Builder, name: &str, v: [f32; 3]| b.constant(name, HostTensor::f32([3], v.to_vec()));
    let scale = vector(&mut b, "scale", [1.0, 0.5, 2.0]);
    let bias = vector(&mut b, "bias", [0.0, 0.2, -0.1]);
    let mean = vector(&mut b, "mean", [0.1, 0.0, -0.3]);
    let variance = vector(&mut b, "variance", [0.5, 1.0, 2.0]);
    let norm = b.node("norm", Op::BatchNormalization { epsilon: 1e-3 }, &[y, scale, bias, mean, variance]).unwrap();
    let relu = b.node("relu", Op::Relu, &[norm]).unwrap();
    let flat = b.node("flat", Op::Flatten { axis: 1 }, &[relu]).unwrap();
    let head = b.constant("head", floats(&[2, 48], -0.3, 0.3, 2));
    let gemm = Op::Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: true };
    let logits = b.node("logits", gemm, &[flat, head]).unwrap();
    (b.finish(&[logits]), [norm, relu])
}

fn host(datum: &Datum) -> Vec<f32> {
    datum.to_host().unwrap().to_f32().into_owned()
}

#[test]
fn a_tap_between_batch_norm_and_relu_shows_what_is_there() {
    let (graph, [norm, relu]) = network();
    for mode in [Mode::Infer, Mode::Train { momentum: 0.9 }] {
        let device = if mode == Mode::Infer { Device::flex() } else { Device::flex().autodiff() };
        let tapped = Network::new(&graph, &device).unwrap();
        let x = || vec![Datum::from(floats(&[2, 1, 4, 4], -1.0, 1.0, 3))];
        let made = tapped.forward(x(), &[norm, relu], mode).unwrap();
        let (norm, relu) = (host(&made.taps[0]), host(&made.taps[1]));
        assert!(norm.iter().any(|&v| v < 0.0), "the tap is before the ReLU");
        assert_eq!(relu, norm.iter().map(|v| v.max(0.0)).collect::<Vec<_>>());
        let plain = Network::new(&graph, &device).unwrap().forward(x(), &[], mode).unwrap();
        for (a, b) in host(&plain.outputs[0]).iter().zip(host(&made.outputs[0])) {
            assert!((a - b).abs() < 1e-5, "fused and not: {a} and {b}");
        }
    }
}

#[test]
fn training_changes_numbers_that_snapshots_bring_back_to_the_last_bit() {
    let (graph, _) = network();
    let mut network = Network::new(&graph, &Device::flex().autodiff()).unwrap();
    let before = network.snapshot();
    let x = || vec![Datum::from(floats(&[5, 1, 4, 4], -1.0, 1.0, 4))];
    let out = network.forward(x(), &[], Mode::Train { momentum: 0.9 }).unwrap().outputs.remove(0);
    let gradients = out.into_float().unwrap().into_tensor::<2>().unwrap().sum().backward();
    for i in 0..network.params().len() {
        let param = network.params()[i].tensor.clone();
        let gradient = param.grad(&gradients).unwrap();
        let moved = Tensor::<1>::from_inner(param.inner() - gradient * 0.1);
        network.set_param(i, moved);
    }
    let after = network.snapshot();
    assert!(before.iter().zip(&after).all(|(a, b)| a.0 == b.0));
    let changed = |name: &str| before.iter().zip(&after).find(|(a, _)| a.0.contains(name)).map(|(a, b)| a.1 != b.1);
    assert_eq!((changed("conv"), changed("norm#mean"), changed("norm#variance")), (Some(true), Some(true), Some(true)));

    // The graph it gives computes the same as the network itself.
    let trained = network.to_graph();
    let plain = Network::new(&trained, &Device::flex()).unwrap();
    let own = host(&network.forward(x(), &[], Mode::Infer).unwrap().outputs[0]);
    assert_eq!(own, host(&plain.forward(x(), &[], Mode::Infer).unwrap().outputs[0]));

    network.restore(&before).unwrap();
    assert_eq!(network.snapshot(), before);
    let mut other = before.clone();
    other[0].1.pop();
    assert!(network.restore(&other).unwrap_err().to_string().contains(&other[0].0));
    assert!(network.restore(&before[1..]).is_err());
    assert_eq!(network.snapshot(), before, "a refused snapshot changes nothing");
}

#[test]
fn running_statistics_move_towards_the_batch() {
    let mut b = Builder::new("norm");
    let x = b.input("x", &[Dim::Batch, Dim::Fixed(1)]);
    let mut one = |name: &str, v: f32| b.constant(name, HostTensor::f32([1], vec![v]));
    let operands = [one("scale", 1.0), one("bias", 0.0), one("mean", 1.0), one("variance", 2.0)];
    let op = Op::BatchNormalization { epsilon: 0.0 };
    let y = b.node("norm", op, &[x, operands[0], operands[1], operands[2], operands[3]]).unwrap();
    let network = Network::new(&b.finish(&[y]), &Device::flex().autodiff()).unwrap();
    let batch = HostTensor::f32([4, 1], vec![1.0, 2.0, 4.0, 5.0]);
    network.forward(vec![Datum::from(batch)], &[], Mode::Train { momentum: 0.75 }).unwrap();
    let statistics: Vec<Vec<f32>> = network.snapshot().into_iter().filter(|s| s.0.contains('#')).map(|s| s.1).collect();
    // Mean 3; unbiased variance 10 / 3.
    assert_eq!(statistics[0], [0.75 * 1.0 + 0.25 * 3.0]);
    assert!((statistics[1][0] - (0.75 * 2.0 + 0.25 * 10.0 / 3.0)).abs() < 1e-6);
}

#[test]
fn inputs_that_do_not_fit_are_errors() {
    let (graph, _) = network();
    let network = Network::new(&graph, &Device::flex()).unwrap();
    let refused = |inputs: Vec<HostTensor>| {
        let inputs: Vec<Datum> = inputs.into_iter().map(Datum::from).collect();
        network.forward(inputs, &[], Mode::Infer).unwrap_err().to_string()
    };
    assert!(refused(vec![]).contains("[batch,1,4,4]"));
    assert!(refused(vec![floats(&[2, 1, 4, 5], 0.0, 1.0, 1)]).contains("[2, 1, 4, 5]"));
    assert!(refused(vec![floats(&[1, 1, 4, 4], 0.0, 1.0, 1), floats(&[1], 0.0, 1.0, 1)]).contains("[1]"));
    let whole = integers(&[1, 1, 4, 4], &[0; 16]);
    assert!(refused(vec![whole]).contains("floats are wanted"));
    let wrong = Value::from_tensor(Tensor::<1>::from_data(TensorData::new(vec![0.0f32], [1]), &Device::flex()));
    assert!(wrong.into_tensor::<2>().is_err());
}
