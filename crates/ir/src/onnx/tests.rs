//! Small models, built here, through import and export.

use super::proto::*;
use super::*;
use crate::graph::{Builder, Conv, DType, Data, Dim, Op, PadMode, Pool, QuantParams};
use std::fs;

mod batches;
mod corners;

fn batch(rest: &[usize]) -> Vec<Dim> {
    std::iter::once(Dim::Batch).chain(rest.iter().map(|&n| Dim::Fixed(n))).collect()
}

/// Convolution, activation, pooling, flatten, fully connected, softmax.
fn network() -> Graph {
    let mut b = Builder::new("net");
    let x = b.input("image", &batch(&[2, 8, 8]));
    let weights = Tensor::f32([4, 2, 3, 3], (0..72).map(|i| i as f32 / 72.0 - 0.5).collect());
    let conv = b.conv2d("conv", x, weights, vec![0.1; 4], (1, 1, 1)).unwrap();
    let relu = b.node("relu", Op::Relu, &[conv]).unwrap();
    let pool = Pool {
        kernel: vec![2; 2],
        strides: vec![2; 2],
        pads: vec![0; 4],
        dilations: vec![1; 2],
        ceil_mode: false,
        count_include_pad: false,
    };
    let pooled = b.node("pool", Op::MaxPool(pool), &[relu]).unwrap();
    let flat = b.node("flat", Op::Reshape { shape: batch(&[64]) }, &[pooled]).unwrap();
    let w = b.constant("head.weight", Tensor::f32([3, 64], (0..192).map(|i| (i % 7) as f32 - 3.0).collect()));
    let gemm = Op::Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: true };
    let logits = b.node("logits", gemm, &[flat, w]).unwrap();
    let scores = b.node("scores", Op::Softmax { axis: 1 }, &[logits]).unwrap();
    b.finish(&[scores])
}

fn round_trip(graph: &Graph) -> Graph {
    import(export(graph).unwrap().into(), None).unwrap()
}

/// Equal as text, and in every constant and every parameter of quantization.
fn assert_same(a: &Graph, b: &Graph) {
    assert_eq!(a.to_string(), b.to_string());
    for value in &a.values {
        let other = b.value(b.find(&value.name).unwrap());
        assert_eq!(value.data, other.data, "{}", value.name);
        assert_eq!(value.quant, other.quant, "{}", value.name);
    }
}

#[test]
fn float_graphs_come_back_equal() {
    let graph = network();
    assert_same(&graph, &round_trip(&graph));
}

#[test]
fn quantized_graphs_come_back_equal() {
    let graph = quantized(network());
    let bytes = export(&graph).unwrap();
    assert_same(&graph, &import(bytes.clone().into(), None).unwrap());
    let file = file::decode(bytes.into()).unwrap().graph.unwrap();
    let stored = |name: &str| file.initializer.iter().find(|t| t.name == name).unwrap().clone();
    assert_eq!(stored("conv.weight_quantized").data_type, data_type::INT8);
    assert_eq!(stored("conv.bias_quantized").data_type, data_type::INT32);
    assert_eq!(stored("relu_zero_point").data_type, data_type::UINT8);
    assert_eq!(stored("relu_zero_point").raw_data[..], [131]);
    assert_eq!(file.output[0].name, "scores");
    assert_eq!(file.node.last().unwrap().output, ["scores"]);
    assert_eq!(file.node.last().unwrap().op_type, "DequantizeLinear");
}

/// Activations and weights of `graph` quantized, as the quantizer does it.
fn quantized(mut graph: Graph) -> Graph {
    let whole = |scale, zero| QuantParams { scale: vec![scale], zero_point: vec![zero], axis: None, dtype: DType::I8 };
    let shapes: Vec<usize> = graph.values.iter().map(|v| v.shape.len()).collect();
    for (i, value) in graph.values.iter_mut().enumerate() {
        let quant = match (&value.data, shapes[i]) {
            (None, _) => whole(0.25 + i as f32 / 64.0, 3),
            (Some(data), 1) => {
                let scale = vec![1.0 / 1024.0; data.len()];
                QuantParams { zero_point: vec![0; scale.len()], scale, axis: Some(0), dtype: DType::I32 }
            }
            (Some(data), _) => {
                let scale: Vec<f32> = (0..data.shape[0]).map(|c| (c + 1) as f32 / 128.0).collect();
                QuantParams { zero_point: vec![0; scale.len()], scale, axis: Some(0), dtype: DType::I8 }
            }
        };
        // What is stored is what comes back: put the constants on the grid first.
        if let Some(data) = &value.data {
            let inner = data.len() / quant.scale.len();
            let grid = |(i, &x): (usize, &f32)| {
                let scale = quant.scale[i / inner];
                (x / scale).round_ties_even().clamp(-127.0, 127.0) * scale
            };
            let on_grid: Vec<f32> = data.as_f32().unwrap().iter().enumerate().map(grid).collect();
            value.data = Some(std::sync::Arc::new(Tensor::f32(data.shape.clone(), on_grid)));
        }
        value.quant = Some(quant);
    }
    graph
}

#[test]
fn values_read_before_and_after_quantization_are_told_apart() {
    let mut b = Builder::new("net");
    let x = b.input("x", &batch(&[4]));
    let relu = b.node("relu", Op::Relu, &[x]).unwrap();
    let copy = b.node("copy", Op::Identity, &[relu]).unwrap();
    let sum = b.node("sum", Op::Add, &[relu, copy]).unwrap();
    let mut graph = b.finish(&[sum]);
    graph.value_mut(copy).quant =
        Some(QuantParams { scale: vec![0.5], zero_point: vec![-128], axis: None, dtype: DType::I8 });
    assert_same(&graph, &round_trip(&graph));

    // The same in a file without the Identity: the pair stands on a value that is also read as it is.
    let mut file = file::decode(export(&graph).unwrap().into()).unwrap();
    let nodes = &mut file.graph.as_mut().unwrap().node;
    nodes.retain(|n| n.op_type != "Identity");
    nodes[1].input[0] = "relu".into();
    let back = import(file.encode_to_vec().into(), None).unwrap();
    assert!(back.value(back.find("relu").unwrap()).quant.is_none());
    assert!(back.value(back.find("copy").unwrap()).quant.is_some());
}

// ---- opsets -------------------------------------------------------------------------------------------------------

fn value(name: &str, dims: &[i64]) -> ValueInfoProto {
    let dim = |&n: &i64| match n {
        -1 => DimensionProto { dim_param: Some("N".into()), ..Default::default() },
        n => DimensionProto { dim_value: Some(n), ..Default::default() },
    };
    let shape = Some(TensorShapeProto { dim: dims.iter().map(dim).collect() });
    let tensor_type = Some(TensorTypeProto { elem_type: data_type::FLOAT, shape });
    ValueInfoProto {
        name: name.into(),
        r#type: Some(TypeProto { tensor_type, ..Default::default() }),
        ..Default::default()
    }
}

fn node(op: &str, inputs: &[&str], output: &str, attribute: Vec<AttributeProto>) -> NodeProto {
    NodeProto {
        op_type: op.into(),
        input: inputs.iter().map(|s| s.to_string()).collect(),
        output: vec![output.into()],
        attribute,
        ..Default::default()
    }
}

fn ints(name: &str, ints: &[i64]) -> AttributeProto {
    AttributeProto { name: name.into(), ints: ints.to_vec(), r#type: attribute_type::INTS, ..Default::default() }
}

fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { name: name.into(), i: Some(i), r#type: attribute_type::INT, ..Default::default() }
}

fn float(name: &str, f: f32) -> AttributeProto {
    AttributeProto { name: name.into(), f: Some(f), r#type: attribute_type::FLOAT, ..Default::default() }
}

fn text(name: &str, s: &'static str) -> AttributeProto {
    let s = Some(Bytes::from_static(s.as_bytes()));
    AttributeProto { name: name.into(), s, r#type: attribute_type::STRING, ..Default::default() }
}

fn numbers(name: &str, data: &[i64]) -> TensorProto {
    tensor::write(name, &Tensor::i64([data.len()], data.to_vec()))
}

fn scalar(name: &str, x: f32) -> TensorProto {
    tensor::write(name, &Tensor::f32([0; 0], vec![x]))
}

/// A model with input `x` and output `y`.
fn model(opset: i64, dims: &[i64], nodes: Vec<NodeProto>, initializer: Vec<TensorProto>) -> ModelProto {
    let graph = GraphProto {
        name: "test".into(),
        node: nodes,
        initializer,
        input: vec![value("x", dims)],
        output: vec![ValueInfoProto { name: "y".into(), ..Default::default() }],
        ..Default::default()
    };
    ModelProto {
        ir_version: 8,
        opset_import: vec![OperatorSetIdProto { version: opset, ..Default::default() }],
        graph: Some(graph),
        ..Default::default()
    }
}

fn read(model: &ModelProto) -> Result<Graph, Error> {
    import(model.encode_to_vec().into(), None)
}

/// The operators that one node on `x` becomes.
fn ops(opset: i64, dims: &[i64], op: &str, attributes: Vec<AttributeProto>, operands: Vec<TensorProto>) -> Vec<Op> {
    let names: Vec<String> = operands.iter().map(|t| t.name.clone()).collect();
    let inputs: Vec<&str> = std::iter::once("x").chain(names.iter().map(String::as_str)).collect();
    let operands = operands.into_iter().filter(|t| !t.name.is_empty()).collect();
    let graph = read(&model(opset, dims, vec![node(op, &inputs, "y", attributes)], operands)).unwrap();
    assert_same(&graph, &round_trip(&graph));
    graph.nodes.into_iter().map(|n| n.op).collect()
}

#[test]
fn attributes_that_became_operands() {
    let image = [-1, 3, 8, 8];
    let clip = vec![Op::Clip { min: 0.0, max: 6.0 }];
    assert_eq!(ops(7, &image, "Clip", vec![float("min", 0.0), float("max", 6.0)], vec![]), clip);
    assert_eq!(ops(13, &image, "Clip", vec![], vec![scalar("a", 0.0), scalar("b", 6.0)]), clip);
    let below = vec![Op::Clip { min: f32::NEG_INFINITY, max: 6.0 }];
    assert_eq!(ops(13, &image, "Clip", vec![], vec![TensorProto::default(), scalar("b", 6.0)]), below);

    let mean = vec![Op::ReduceMean { axes: vec![2, 3], keepdims: false }];
    assert_eq!(ops(11, &image, "ReduceMean", vec![ints("axes", &[-1, 2]), int("keepdims", 0)], vec![]), mean);
    assert_eq!(ops(18, &image, "ReduceMean", vec![int("keepdims", 0)], vec![numbers("axes", &[2, 3])]), mean);

    let unsqueeze = vec![Op::Unsqueeze { axes: vec![1, 5] }];
    assert_eq!(ops(11, &image, "Unsqueeze", vec![ints("axes", &[1, 5])], vec![]), unsqueeze);
    assert_eq!(ops(13, &image, "Unsqueeze", vec![], vec![numbers("axes", &[-1, 1])]), unsqueeze);
    let squeeze = vec![Op::Squeeze { axes: vec![1] }];
    assert_eq!(ops(7, &[-1, 1, 8], "Squeeze", vec![], vec![]), squeeze);
    assert_eq!(ops(21, &[-1, 1, 8], "Squeeze", vec![], vec![numbers("axes", &[-2])]), squeeze);

    let pad = vec![Op::Pad { pads: vec![0, 0, 1, 2, 0, 0, 3, 4], mode: PadMode::Constant(0.5) }];
    let pads = [0, 0, 1, 2, 0, 0, 3, 4];
    assert_eq!(ops(7, &image, "Pad", vec![ints("pads", &pads), float("value", 0.5)], vec![]), pad);
    assert_eq!(ops(13, &image, "Pad", vec![], vec![numbers("pads", &pads), scalar("v", 0.5)]), pad);
    let some = vec![numbers("pads", &[2, 1, 4, 3]), scalar("v", 0.5), numbers("axes", &[-1, 2])];
    assert_eq!(ops(18, &image, "Pad", vec![], some), pad);

    let slice = vec![Op::Slice { starts: vec![6], ends: vec![8], axes: vec![3], steps: vec![1] }];
    let attributes = vec![ints("starts", &[-2]), ints("ends", &[i64::MAX]), ints("axes", &[3])];
    assert_eq!(ops(9, &image, "Slice", attributes, vec![]), slice);
    let operands = vec![numbers("s", &[-2]), numbers("e", &[100]), numbers("a", &[-1])];
    assert_eq!(ops(13, &image, "Slice", vec![], operands), slice);
    let backwards = vec![Op::Slice { starts: vec![7], ends: vec![-1], axes: vec![3], steps: vec![-1] }];
    let operands = vec![numbers("s", &[-1]), numbers("e", &[i64::MIN]), numbers("a", &[3]), numbers("t", &[-1])];
    assert_eq!(ops(13, &image, "Slice", vec![], operands), backwards);
}

#[test]
fn softmax_before_opset_13_normalises_rows() {
    let axis = |a| vec![int("axis", a)];
    assert_eq!(ops(13, &[-1, 4, 5], "Softmax", axis(1), vec![]), [Op::Softmax { axis: 1 }]);
    assert_eq!(ops(11, &[-1, 4, 5], "Softmax", axis(-1), vec![]), [Op::Softmax { axis: 2 }]);
    assert_eq!(ops(11, &[-1, 4, 1], "LogSoftmax", vec![], vec![]), [Op::LogSoftmax { axis: 1 }]);
    let rows = [Op::Reshape { shape: batch(&[20]) }, Op::Softmax { axis: 1 }, Op::Reshape { shape: batch(&[4, 5]) }];
    assert_eq!(ops(11, &[-1, 4, 5], "Softmax", vec![], vec![]), rows);
    let softmax = node("Softmax", &["x"], "y", axis(0));
    let across: Vec<Op> =
        read(&model(11, &[-1, 4], vec![softmax], vec![])).unwrap().nodes.into_iter().map(|n| n.op).collect();
    assert!(matches!(&across[..], [Op::Opaque(kept)] if kept.why.contains("batch")));
}

#[test]
fn padding_is_made_explicit() {
    let weights = |k: usize| tensor::write("w", &Tensor::f32([1, 1, k, k], vec![0.0; k * k]));
    let pads = |auto, extent, kernel, stride| {
        let attributes = vec![text("auto_pad", auto), ints("strides", &[stride; 2])];
        match &ops(7, &[-1, 1, extent, extent], "Conv", attributes, vec![weights(kernel)])[..] {
            [Op::Conv(Conv { pads, .. })] => pads.clone(),
            other => panic!("{other:?}"),
        }
    };
    // As TensorFlow's formulas: out = ⌈in / stride⌉, total = (out − 1)·stride + kernel − in.
    assert_eq!(pads("SAME_UPPER", 8, 3, 2), [0, 0, 1, 1]);
    assert_eq!(pads("SAME_LOWER", 8, 3, 2), [1, 1, 0, 0]);
    assert_eq!(pads("SAME_UPPER", 7, 4, 1), [1, 1, 2, 2]);
    assert_eq!(pads("VALID", 8, 3, 2), [0; 4]);
}

#[test]
fn shapes_are_computed_with_the_batch_left_open() {
    // view(x.shape[0], x.shape[1] * x.shape[2], -1), as PyTorch exports it.
    let pick = |i: &str, out: &str| node("Gather", &["shape", i], out, vec![int("axis", 0)]);
    let unsqueeze = |x: &str, out: &str| node("Unsqueeze", &[x, "zero1"], out, vec![]);
    let scalar = |name: &str, n: i64| tensor::write(name, &Tensor::i64([0; 0], vec![n]));
    let nodes = vec![
        node("Shape", &["x"], "shape", vec![]),
        pick("zero", "n"),
        pick("one", "c"),
        pick("two", "h"),
        node("Mul", &["c", "h"], "ch", vec![]),
        unsqueeze("n", "n1"),
        unsqueeze("ch", "ch1"),
        node("Concat", &["n1", "ch1", "rest"], "target", vec![int("axis", 0)]),
        node("Reshape", &["x", "target"], "y", vec![]),
    ];
    let constants =
        vec![scalar("zero", 0), scalar("one", 1), scalar("two", 2), numbers("zero1", &[0]), numbers("rest", &[-1])];
    let graph = read(&model(17, &[-1, 3, 4, 5], nodes.clone(), constants.clone())).unwrap();
    assert_eq!(graph.nodes.len(), 1);
    assert_eq!(graph.nodes[0].op, Op::Reshape { shape: batch(&[12, 5]) });

    // An operator kdc does not know reads the same numbers: the nodes that compute them stay.
    let mut nodes = nodes;
    nodes.last_mut().unwrap().op_type = "ScatterND".into();
    let graph = read(&model(17, &[-1, 3, 4, 5], nodes, constants)).unwrap();
    let kept: Vec<&str> = graph.nodes.iter().map(|n| n.op.name()).collect();
    assert_eq!(kept, ["Shape", "Gather", "Unsqueeze", "Concat", "ScatterND"]);
    assert_same(&graph, &round_trip(&graph));
}

#[test]
fn a_single_sample_becomes_a_batch_where_samples_stay_apart() {
    let mut fixed = network();
    let one = |shape: &mut Vec<Dim>| shape.iter_mut().for_each(|d| *d = Dim::Fixed(d.at(1)));
    fixed.values.iter_mut().for_each(|v| one(&mut v.shape));
    for node in &mut fixed.nodes {
        if let Op::Reshape { shape } = &mut node.op {
            one(shape);
        }
    }
    assert_same(&network(), &round_trip(&fixed));

    let mean = |axes: &[i64]| {
        read(&model(13, &[1, 4], vec![node("ReduceMean", &["x"], "y", vec![ints("axes", axes)])], vec![]))
    };
    let shape = |graph: Graph| graph.value(graph.inputs[0]).shape.clone();
    assert_eq!(shape(mean(&[1]).unwrap()), batch(&[4]));
    assert_eq!(shape(mean(&[0]).unwrap()), [Dim::Fixed(1), Dim::Fixed(4)]);
}

#[test]
fn every_type_of_weights_is_read() {
    let half = |x: f32| half::f16::from_f32(x).to_bits();
    let list = |data_type| TensorProto { name: "w".into(), dims: vec![2], data_type, ..Default::default() };
    let raw = |data_type, raw: Vec<u8>| TensorProto { raw_data: raw.into(), ..list(data_type) };
    let bits = |x: [u16; 2]| x.iter().flat_map(|b| b.to_le_bytes()).collect::<Vec<u8>>();
    let ways = [
        TensorProto { float_data: vec![1.5, -2.0], ..list(data_type::FLOAT) },
        TensorProto { double_data: vec![1.5, -2.0], ..list(data_type::DOUBLE) },
        TensorProto { int32_data: vec![half(1.5).into(), half(-2.0).into()], ..list(data_type::FLOAT16) },
        raw(data_type::FLOAT16, bits([half(1.5), half(-2.0)])),
        raw(data_type::BFLOAT16, bits([0x3fc0, 0xc000])),
        raw(data_type::DOUBLE, [1.5f64, -2.0].iter().flat_map(|x| x.to_le_bytes()).collect()),
    ];
    for way in ways {
        let graph = read(&model(17, &[-1, 2], vec![node("Add", &["x", "w"], "y", vec![])], vec![way])).unwrap();
        assert_eq!(graph.constant(graph.find("w").unwrap()).unwrap().data, Data::F32(vec![1.5, -2.0].into()));
    }
}

#[test]
fn external_data_stays_inside_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let inside = folder.path().join("model");
    fs::create_dir(&inside).unwrap();
    fs::write(folder.path().join("secret"), [0; 8]).unwrap();
    fs::write(inside.join("weights"), [0u8, 0, 0, 0, 0, 0, 128, 63, 0, 0, 0, 64]).unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink(folder.path().join("secret"), inside.join("link")).unwrap();
    let load = |location: &str, offset: &str| {
        let entry = |key: &str, value: &str| StringStringEntryProto { key: key.into(), value: value.into() };
        let external_data = vec![entry("location", location), entry("offset", offset), entry("length", "8")];
        let (dims, data_location) = (vec![2], EXTERNAL);
        let w =
            TensorProto { name: "w".into(), dims, data_type: 1, external_data, data_location, ..Default::default() };
        let file = model(17, &[-1, 2], vec![node("Add", &["x", "w"], "y", vec![])], vec![w]);
        let path = inside.join("model.onnx");
        fs::write(&path, file.encode_to_vec()).unwrap();
        super::load(&path)
    };
    let graph = load("weights", "4").unwrap();
    assert_eq!(graph.constant(graph.find("w").unwrap()).unwrap().data, Data::F32(vec![1.0, 2.0].into()));
    let outside = |location| load(location, "0").unwrap_err().to_string();
    assert!(outside("../secret").contains("outside the model's folder"));
    assert!(outside("/etc/passwd").contains("outside the model's folder"));
    #[cfg(unix)]
    assert!(outside("link").contains("outside the model's folder"));
    assert!(load("weights", "8").unwrap_err().to_string().contains("shorter"));
    assert!(load("weights", "18446744073709551615").unwrap_err().to_string().contains("shorter"));
}

// ---- what is wrong with a file ------------------------------------------------------------------------------------

fn complaint(bytes: &[u8]) -> String {
    import(Bytes::copy_from_slice(bytes), None).unwrap_err().to_string()
}

#[test]
fn other_files_are_recognised() {
    assert_eq!(complaint(b""), "not an ONNX model (the file is empty)");
    assert_eq!(complaint(b"[package]\nname = \"kdc\"\n"), "not an ONNX model (the file looks like text)");
    assert!(complaint(b"version https://git-lfs.github.com/spec/v1\n").contains("git lfs pull"));
    assert!(complaint(b"PK\x03\x04\x00\x00").contains("PyTorch"));
    assert!(complaint(&[0x7f, b'E', b'L', b'F', 2, 1, 1, 0]).starts_with("not an ONNX model"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("teacher.onnx");
    fs::write(&path, "hello").unwrap();
    let text = load(&path).unwrap_err().to_string();
    assert!(text.ends_with("teacher.onnx: not an ONNX model (the file looks like text)"), "{text}");
    assert!(load(&folder.path().join("none.onnx")).is_err());
    assert!(load(folder.path()).is_err());
}

#[test]
fn every_truncation_is_an_error() {
    for graph in [network(), quantized(network())] {
        let bytes = export(&graph).unwrap();
        for length in 1..bytes.len() {
            match import(Bytes::copy_from_slice(&bytes[..length]), None) {
                Err(Error::Truncated(_) | Error::NotOnnx(_)) => {}
                other => panic!("{length} of {} bytes: {other:?}", bytes.len()),
            }
        }
    }
}

#[test]
fn damage_anywhere_never_panics() {
    for graph in [network(), quantized(network())] {
        let bytes = export(&graph).unwrap();
        for at in 0..bytes.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut damaged = bytes.clone();
                damaged[at] ^= flip;
                // Whether it is still a model is open; what is read has to be well formed.
                if let Ok(graph) = import(damaged.into(), None) {
                    crate::graph::verify(&graph).unwrap();
                }
            }
        }
    }
}

#[test]
fn contradictions_name_what_is_wrong() {
    let add = || node("Add", &["x", "w"], "y", vec![]);
    let says = |model: &ModelProto| read(model).unwrap_err().to_string();
    let huge = TensorProto { name: "w".into(), dims: vec![1 << 40, 1 << 40], data_type: 1, ..Default::default() };
    assert!(says(&model(17, &[-1, 2], vec![add()], vec![huge])).contains("value 'w': impossible shape"));
    let negative = TensorProto { name: "w".into(), dims: vec![-2], data_type: 1, ..Default::default() };
    assert!(says(&model(17, &[-1, 2], vec![add()], vec![negative])).contains("impossible shape"));
    let short = TensorProto { name: "w".into(), dims: vec![1 << 30], data_type: 1, ..Default::default() };
    assert!(says(&model(17, &[-1, 2], vec![add()], vec![short])).contains("0 elements for shape"));
    assert!(says(&model(17, &[-1, 2], vec![add()], vec![])).contains("reads 'w', which nothing before it produces"));
    assert!(says(&model(6, &[-1, 2], vec![], vec![])).starts_with("opset 6 is not supported"));
    let open = says(&model(17, &[-1, 3, -1], vec![node("Relu", &["x"], "y", vec![])], vec![]));
    assert!(open.contains("'N' (axis 2 of input 'x')"), "{open}");
    let twice = vec![node("Relu", &["x"], "y", vec![]), node("Relu", &["x"], "y", vec![])];
    assert!(says(&model(17, &[-1, 2], twice, vec![])).contains("produces 'y', which exists already"));
    assert!(says(&model(17, &[-1, 2], vec![], vec![])).contains("never produced"));
    let weights = tensor::write("w", &Tensor::f32([1, 5, 3, 3], vec![0.0; 45]));
    let conv = model(17, &[-1, 3, 8, 8], vec![node("Conv", &["x", "w"], "y", vec![])], vec![weights]);
    assert!(says(&conv).starts_with("node 'Conv_0' (Conv): "));
    let missing = model(17, &[-1, 3, 8, 8], vec![node("Conv", &["x"], "y", vec![])], vec![]);
    assert!(says(&missing).contains("operand 1 is missing"));
    for (op, what) in [("RMSNormalization", "wants two operands"), ("CastLike", "operand 1 is missing")] {
        assert!(says(&model(24, &[-1, 2], vec![node(op, &["x"], "y", vec![])], vec![])).contains(what), "{op}");
    }
    let axis = vec![node("RMSNormalization", &["x", "w"], "y", vec![int("axis", 2)])];
    assert!(says(&model(24, &[-1, 2], axis, vec![scalar("w", 1.0)])).contains("axis 2 of a rank-2 operand"));
}

#[test]
fn a_type_is_taken_from_another_tensor() {
    let cast = |like: TensorProto| {
        let graph = read(&model(19, &[-1, 2], vec![node("CastLike", &["x", "w"], "y", vec![])], vec![like])).unwrap();
        graph.nodes[0].op.clone()
    };
    assert_eq!(cast(numbers("w", &[1])), Op::Cast { to: DType::I64 });
    assert_eq!(cast(tensor::write("w", &Tensor::new([1], Data::Bool(vec![true])))), Op::Cast { to: DType::Bool });
    // Of a type that kdc does not compute with it stays a node, or the file is refused.
    let narrow =
        TensorProto { name: "w".into(), dims: vec![1], data_type: 17, raw_data: vec![0].into(), ..Default::default() };
    let graph = read(&model(19, &[-1, 2], vec![node("CastLike", &["x", "w"], "y", vec![])], vec![narrow]));
    assert!(graph.unwrap_err().to_string().contains("element type float8"));
}

#[test]
fn unknown_operators_are_kept_with_what_their_subgraphs_read() {
    let branch = |name: &str| AttributeProto {
        name: name.into(),
        g: Some(GraphProto {
            name: name.into(),
            node: vec![node("Relu", &["hidden"], name, vec![])],
            output: vec![value(name, &[-1, 2])],
            ..Default::default()
        }),
        r#type: 5,
        ..Default::default()
    };
    let condition = tensor::write("c", &Tensor::new([0; 0], Data::Bool(vec![true])));
    let nodes = vec![
        node("Tanh", &["x"], "hidden", vec![]),
        node("If", &["c"], "y", vec![branch("then_branch"), branch("else_branch")]),
    ];
    let mut graph = read(&model(17, &[-1, 2], nodes, vec![condition])).unwrap();
    crate::pass::normalize(&mut graph).unwrap();
    assert_eq!(graph.nodes.len(), 2);
    assert_same(&graph, &round_trip(&graph));
}

#[test]
fn more_outputs_leave_the_rest_of_the_file_alone() {
    let bytes = export(&network()).unwrap();
    let tapped = with_outputs(&bytes, &["relu".into(), "scores".into(), "relu".into()]).unwrap();
    assert_eq!(tapped[..bytes.len()], bytes);
    let graph = import(tapped.into(), None).unwrap();
    let names: Vec<&str> = graph.outputs.iter().map(|&id| graph.value(id).name.as_str()).collect();
    assert_eq!(names, ["scores", "relu"]);
    assert!(with_outputs(&bytes, &["nothing".into()]).unwrap_err().to_string().contains("'nothing'"));
}

/// Every model of a folder of real ones.
#[test]
fn real_models_come_back_equal() {
    let Some(folder) = std::env::var_os("KDC_DATA") else {
        return eprintln!("skipped: KDC_DATA names no folder with models/");
    };
    let files = fs::read_dir(Path::new(&folder).join("models")).unwrap().map(|e| e.unwrap().path());
    for path in files.filter(|p| p.extension().is_some_and(|e| e == "onnx")) {
        let mut graph = load(&path).unwrap();
        assert_same(&graph, &round_trip(&graph));
        crate::pass::normalize(&mut graph).unwrap();
        assert_same(&graph, &round_trip(&graph));
    }
}
