//! What exporters write now and then, and what an export must not lose.

use super::*;
use crate::graph::{Binary, Resize, Unary, ValueId};

fn names(graph: &Graph) -> Vec<&str> {
    graph.nodes.iter().map(|n| n.op.name()).collect()
}

fn with_outputs(mut node: NodeProto, outputs: &[&str]) -> NodeProto {
    node.output = outputs.iter().map(|s| s.to_string()).collect();
    node
}

fn vector(name: &str, values: &[f32]) -> TensorProto {
    tensor::write(name, &Tensor::f32([values.len()], values.to_vec()))
}

#[test]
fn batch_norm_exported_for_training_normalises_by_the_batch() {
    let constants = || ["s", "b", "m", "v"].map(|name| vector(name, &[1.0, 2.0])).to_vec();
    let norm = |more| node("BatchNormalization", &["x", "s", "b", "m", "v"], "y", more);
    let read_of = |opset, node| read(&model(opset, &[-1, 2, 3, 3], vec![node], constants())).unwrap();
    let plain = read_of(15, norm(vec![]));
    assert_eq!(names(&plain), ["BatchNormalization"]);
    let training = read_of(15, with_outputs(norm(vec![int("training_mode", 1)]), &["y", "rm", "rv"]));
    // The number of results said so before there was an attribute.
    let older = read_of(9, with_outputs(norm(vec![]), &["y", "rm", "rv", "sm", "sv"]));
    for graph in [training, older] {
        let Op::ReduceMean { axes, .. } = &graph.nodes[0].op else { panic!("{graph}") };
        assert_eq!(axes, &[0, 2, 3]);
        assert_eq!(graph.value(graph.outputs[0]).shape, batch(&[2, 3, 3]));
        assert!(!names(&graph).contains(&"BatchNormalization"), "{graph}");
    }
}

#[test]
fn further_results_are_computed() {
    let norm = with_outputs(node("LayerNormalization", &["x", "s"], "y", vec![]), &["n", "mean", "y"]);
    let graph = read(&model(17, &[-1, 4], vec![norm], vec![vector("s", &[1.0; 4])])).unwrap();
    assert_eq!(graph.value(graph.outputs[0]).shape, batch(&[1]));
    assert_eq!(graph.nodes.last().unwrap().op, Op::Unary(Unary::Reciprocal));
    let dropout = with_outputs(node("Dropout", &["x"], "n", vec![]), &["n", "y"]);
    let graph = read(&model(13, &[-1, 4], vec![dropout], vec![])).unwrap();
    let mask = graph.value(graph.outputs[0]);
    assert_eq!((mask.dtype, &mask.shape), (DType::Bool, &batch(&[4])));
    // Only the last state of a recurrent operator is used.
    let weights = |name: &str, width| tensor::write(name, &Tensor::f32([1, 8, width], vec![0.5; 8 * width]));
    let lstm = with_outputs(node("LSTM", &["x", "w", "r"], "y", vec![int("hidden_size", 2)]), &["", "y"]);
    let graph = read(&model(14, &[5, 1, 3], vec![lstm], vec![weights("w", 3), weights("r", 2)])).unwrap();
    assert_eq!(names(&graph)[0], "LSTM");
}

#[test]
fn the_size_of_a_tensor_is_known_before_the_network_runs() {
    let nodes = |shape: &[i64]| {
        let nodes = vec![
            node("Size", &["x"], "size", vec![]),
            node("Div", &["size", "six"], "rows", vec![]),
            node("Unsqueeze", &["rows", "zero"], "first", vec![]),
            node("Concat", &["first", "rest"], "target", vec![int("axis", 0)]),
            node("Reshape", &["x", "target"], "y", vec![]),
        ];
        let six = TensorProto { dims: vec![], ..numbers("six", &[6]) };
        let graph = read(&model(17, shape, nodes, vec![six, numbers("zero", &[0]), numbers("rest", &[2, 3])])).unwrap();
        assert_eq!(names(&graph), ["Reshape"]);
        graph.value(graph.outputs[0]).shape.clone()
    };
    assert_eq!(nodes(&[-1, 6]), batch(&[2, 3]));
    assert_eq!(nodes(&[4, 3]), [2, 2, 3].map(Dim::Fixed));
}

#[test]
fn operators_on_quantized_tensors_are_pairs_around_floats() {
    let byte = |name: &str, values: Vec<u8>| tensor::write(name, &Tensor::new([values.len()], Data::U8(values)));
    let constants = vec![
        scalar("s", 0.1),
        TensorProto { dims: vec![], ..byte("z", vec![100]) },
        TensorProto { dims: vec![1, 1, 2, 2], ..byte("w", vec![90, 110, 100, 120]) },
        tensor::write("b", &Tensor::new([1], Data::I32(vec![50]))),
    ];
    let operands = |x| [x, "s", "z", "w", "s", "z", "s", "z", "b"];
    let nodes = vec![
        node("QuantizeLinear", &["x", "s", "z"], "q", vec![]),
        node("QLinearConv", &operands("q"), "c", vec![]),
        node("MaxPool", &["c"], "p", vec![ints("kernel_shape", &[2, 2])]),
        node("QLinearConv", &operands("p"), "d", vec![]),
        node("DequantizeLinear", &["d", "s", "z"], "y", vec![]),
    ];
    let graph = read(&model(17, &[-1, 1, 8, 8], nodes, constants)).unwrap();
    assert_eq!(names(&graph), ["Conv", "MaxPool", "Conv"]);
    let stored = |id: &ValueId| graph.value(*id).quant.as_ref().map(|q| (q.scale[0], q.zero_point[0], q.dtype));
    // Bytes are signed in the graph, and zero points with them.
    let expected = Some((0.1, -28, DType::I8));
    assert!(
        graph.nodes.iter().flat_map(|n| &n.outputs).chain(&graph.inputs).all(|id| stored(id) == expected),
        "{graph}"
    );
    let conv = &graph.nodes[0];
    assert_eq!(graph.constant(conv.input(1).unwrap()).unwrap().as_f32().unwrap()[0], -1.0);
    let bias = graph.value(conv.input(2).unwrap()).quant.clone().unwrap();
    assert_eq!((bias.dtype, bias.scale), (DType::I32, vec![0.1 * 0.1]));
}

#[test]
fn bits_are_flipped_in_the_type_of_the_file() {
    let mut file = model(18, &[-1, 4], vec![node("BitwiseNot", &["x"], "y", vec![])], vec![]);
    let port = &mut file.graph.as_mut().unwrap().input[0];
    port.r#type.as_mut().unwrap().tensor_type.as_mut().unwrap().elem_type = data_type::UINT16;
    let graph = read(&file).unwrap();
    assert_eq!(graph.nodes[0].op, Op::Binary(Binary::BitwiseXor));
    assert_eq!(graph.constant(graph.nodes[0].input(1).unwrap()).unwrap().data, Data::I32(vec![65535]));
}

/// The last node of what is written, and the opset.
fn written(graph: &Graph) -> (NodeProto, i64) {
    let file = ModelProto::decode(export(graph).unwrap().as_slice()).unwrap();
    (file.graph.unwrap().node.pop().unwrap(), file.opset_import[0].version)
}

/// Two axes, rounded up.
fn pool(kernel: usize, stride: usize, pad: usize, count_include_pad: bool) -> Pool {
    let (kernel, strides, pads, dilations) = (vec![kernel; 2], vec![stride; 2], vec![pad; 4], vec![1; 2]);
    Pool { kernel, strides, pads, dilations, ceil_mode: true, count_include_pad }
}

#[test]
fn an_export_says_what_its_opset_could_not() {
    let mut b = Builder::new("pool");
    let x = b.input("x", &batch(&[1, 4, 4]));
    let pool = pool(3, 2, 1, true);
    let y = b.node("pool", Op::AveragePool(pool), &[x]).unwrap();
    assert_eq!(written(&b.finish(&[y])).1, 19);

    let mut b = Builder::new("nothing");
    let x = b.input("x", &[Dim::Fixed(0), Dim::Fixed(3)]);
    let y = b.node("turned", Op::Reshape { shape: vec![Dim::Fixed(3), Dim::Fixed(0)] }, &[x]).unwrap();
    assert!(written(&b.finish(&[y])).0.attribute.iter().any(|a| a.name == "allowzero" && a.i == Some(1)));

    // Where the extent that follows from the scale, in f32, is another, the extents are written.
    let resized = |scale: f32| {
        let mut b = Builder::new("resize");
        let x = b.input("x", &batch(&[1, 7]));
        let resize = Resize {
            sizes: batch(&[1, 31]),
            scales: vec![1.0, 1.0, scale],
            coordinates: crate::graph::Coordinates::HalfPixel,
            interpolation: crate::graph::Interpolation::Linear,
            antialias: false,
        };
        let y = b.node("resize", Op::Resize(resize), &[x]).unwrap();
        b.finish(&[y])
    };
    let exact = 31.0 / 7.0;
    let (node, opset) = written(&resized(exact));
    assert_ne!((7.0f32 * exact).floor(), 31.0);
    assert_eq!((node.input.len(), opset), (4, 18));
    let again = import(export(&resized(exact)).unwrap().into(), None).unwrap();
    assert_same(&again, &resized(exact));
    // Extents that come neither from the scales nor the scales from them.
    let error = export(&resized(0.25)).unwrap_err().to_string();
    assert!(error.contains("'resize'") && error.contains("cannot both be written"), "{error}");

    let mut b = Builder::new("shift");
    let x = b.constant("x", Tensor::i64([2], vec![1, 2]));
    let y = b.node("shift", Op::Binary(Binary::BitShift { left: true }), &[x, x]).unwrap();
    assert!(export(&b.finish(&[y])).unwrap_err().to_string().contains("'shift'"));
}

#[test]
fn a_window_in_the_padding_is_not_left_to_the_runtime() {
    // Extents, the end padding that is written, and whether ceil_mode is.
    for (extents, counted, pads, ceil) in [
        ([6, 6], false, [0, 0], 0),
        ([6, 7], false, [0, 1], 0),
        ([7, 7], false, [0, 0], 1),
        ([6, 7], true, [0, 0], 1),
        ([6, 6], true, [0, 0], 0),
    ] {
        let mut b = Builder::new("pool");
        let x = b.input("x", &batch(&[1, extents[0], extents[1]]));
        let y = b.node("pool", Op::AveragePool(pool(2, 3, 0, counted)), &[x]).unwrap();
        let graph = b.finish(&[y]);
        let node = written(&graph).0;
        let attribute = |name: &str| node.attribute.iter().find(|a| a.name == name).unwrap();
        assert_eq!(attribute("pads").ints, [0, 0, pads[0], pads[1]], "{extents:?}, {counted}");
        assert_eq!(attribute("ceil_mode").i, Some(ceil), "{extents:?}, {counted}");
        let again = import(export(&graph).unwrap().into(), None).unwrap();
        assert_eq!(again.value(again.outputs[0]).shape, graph.value(y).shape);
    }
}

/// A file whose input and output have this type.
fn of_type(code: i32, mut file: ModelProto) -> ModelProto {
    let graph = file.graph.as_mut().unwrap();
    for port in graph.input.iter_mut().chain(&mut graph.output) {
        let kind = port.r#type.get_or_insert_default().tensor_type.get_or_insert_default();
        kind.elem_type = code;
    }
    file
}

#[test]
fn bounds_and_fill_values_are_of_the_type_of_what_they_bound() {
    let int8 = |name: &str, x: i8| tensor::write(name, &Tensor::new([0; 0], Data::I8(vec![x])));
    let int64 = |name: &str, x: i64| tensor::write(name, &Tensor::i64([0; 0], vec![x]));
    let clip = vec![node("Clip", &["x", "lo", "hi"], "y", vec![])];
    let pad = vec![node("Pad", &["x", "p", "v"], "y", vec![])];
    for (code, nodes, constants, wanted) in [
        (data_type::INT64, clip.clone(), vec![int64("lo", -3), int64("hi", 4)], Data::I64(vec![4])),
        (data_type::INT8, clip, vec![int8("lo", -3), int8("hi", 4)], Data::I8(vec![4])),
        (data_type::INT64, pad, vec![numbers("p", &[0, 1, 0, 1]), int64("v", 7)], Data::I64(vec![7])),
    ] {
        let graph = read(&of_type(code, model(13, &[-1, 4], nodes, constants))).unwrap();
        let file = ModelProto::decode(export(&graph).unwrap().as_slice()).unwrap().graph.unwrap();
        let last = file.node.last().unwrap().input.last().unwrap().clone();
        let constant = file.initializer.iter().find(|t| t.name == last).unwrap();
        assert_eq!(tensor::read(constant, &mut tensor::External::new(None, None)).unwrap().data, wanted);
    }
}

#[test]
fn a_reduction_of_nothing_stays_one() {
    let none = || numbers("a", &[]);
    let noop = || vec![int("noop_with_empty_axes", 1)];
    for op in ["ReduceSum", "ReduceL2", "ReduceMax", "ReduceMean", "ReduceLogSumExp"] {
        let file = model(18, &[-1, 4], vec![node(op, &["x", "a"], "y", noop())], vec![none()]);
        let graph = read(&file).unwrap();
        assert_eq!(graph.value(graph.outputs[0]).shape, batch(&[4]), "{op}");
        let (node, _) = written(&graph);
        let says_so = node.attribute.iter().any(|a| a.name == "noop_with_empty_axes" && a.i == Some(1));
        assert!(node.op_type == "Identity" || says_so, "{op}: {node:?}");
        let again = import(export(&graph).unwrap().into(), None).unwrap();
        assert_eq!(again.value(again.outputs[0]).shape, batch(&[4]), "{op}");
    }
}

#[test]
fn ports_keep_the_types_of_their_file() {
    let nodes = vec![node("Relu", &["x"], "y", vec![]), node("Neg", &["y"], "z", vec![])];
    for code in [data_type::FLOAT16, data_type::DOUBLE, data_type::BFLOAT16] {
        let mut file = of_type(code, model(13, &[-1, 4], nodes.clone(), vec![]));
        file.graph.as_mut().unwrap().output.push(value("z", &[-1, 4]));
        let graph = read(&file).unwrap();
        let types = PortTypes::from([("x".into(), code), ("y".into(), code)]);
        let made = ModelProto::decode(export_with(&graph, &types).unwrap().as_slice()).unwrap();
        let of = |v: &ValueInfoProto| v.r#type.as_ref().unwrap().tensor_type.as_ref().unwrap().elem_type;
        let ports = made.graph.as_ref().unwrap();
        assert_eq!((of(&ports.input[0]), of(&ports.output[0]), of(&ports.output[1])), (code, code, data_type::FLOAT));
        let again =
            import::import(made.clone(), import::Source { folder: None, map: None }, &Given::default()).unwrap();
        assert_eq!(again.outputs.iter().map(|&id| again.value(id).name.as_str()).collect::<Vec<_>>(), ["y", "z"]);
        // What reads an output inside the network reads it before the conversion.
        let neg = ports.node.iter().find(|n| n.op_type == "Neg").unwrap();
        assert_ne!(neg.input[0], "y");
    }
}

#[test]
fn older_nodes_are_kept_where_they_still_mean_the_same() {
    let unknown = |opset, op: &str| {
        let graph = read(&model(opset, &[-1, 4], vec![node(op, &["x"], "y", vec![])], vec![])).unwrap();
        assert!(graph.has_opaque());
        export(&graph)
    };
    assert!(unknown(13, "Hardmax").is_ok() && unknown(11, "Unique").is_ok());
    assert!(unknown(11, "Hardmax").unwrap_err().to_string().contains("of opset 11"));
}
