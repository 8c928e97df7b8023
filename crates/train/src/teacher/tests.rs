use super::*;
use crate::data::{Augment, Images, SampleView, Sidecar, Splits};
use kdc_ir::graph::Tensor;
use std::path::PathBuf;

mod engines;
mod labels;

fn fashion() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/fashion/teacher.onnx")
}

fn fashion_data() -> Splits {
    let sidecar = Sidecar::find(&fashion()).unwrap().unwrap();
    crate::data::load(&sidecar, sidecar.data.as_ref().unwrap(), &kdc_ir::onnx::load(&fashion()).unwrap()).unwrap()
}

/// What ONNX Runtime 1.22.0 answers to the first test image, from Python.
const FIRST_IMAGE: [f32; 10] = [
    -0.136_585_95,
    -1.443_115_8,
    -2.311_175_8,
    -2.563_261_5,
    -1.530_039_7,
    -1.508_093_4,
    -1.872_445_2,
    2.821_707_5,
    -1.649_417,
    10.161_608,
];

fn assert_close(a: &[f32], b: &[f32], tolerance: f32) {
    assert_eq!(a.len(), b.len());
    let worst = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst <= tolerance, "they differ by {worst}");
}

fn check_engine(teacher: &dyn Teacher) {
    let data = fashion_data();
    // 245 of the first 256, counted with onnxruntime in Python: 95.7%.
    let samples = data.test.images().unwrap().samples().select(&(0..256).collect::<Vec<_>>());
    let preprocess = Sidecar::find(&fashion()).unwrap().unwrap().preprocess;
    let slice = Images::new(samples, preprocess, Augment::default()).unwrap();
    let answers = logits(teacher, &slice).unwrap();
    assert_eq!(answers.shape, [256, 10]);
    assert_close(&answers.to_f32()[..10], &FIRST_IMAGE, 1e-4);
    let predicted = predict(teacher, &slice).unwrap();
    assert_eq!(predicted.iter().zip(&slice.samples().labels).filter(|(p, l)| Some(**p) == **l).count(), 245);
    assert_eq!(accuracy(&predicted, &slice), Some(245.0 / 256.0));
}

#[test]
fn tract_answers_as_the_network_was_trained_to() {
    let teacher = open(&fashion(), &[], EngineChoice::Tract, UNCOMPARED).unwrap();
    assert_eq!(teacher.engine(), format!("tract {}", tract::VERSION));
    check_engine(teacher.as_ref());
}

#[test]
fn the_version_of_tract_is_the_one_built_in() {
    let lock = include_str!("../../../../Cargo.lock");
    assert!(lock.contains(&format!("name = \"tract-onnx\"\nversion = \"{}\"", tract::VERSION)));
}

#[test]
fn onnx_runtime_answers_as_the_network_was_trained_to() {
    let tap = "/stem/stem.2/Relu_output_0".to_string();
    match open(&fashion(), std::slice::from_ref(&tap), EngineChoice::OnnxRuntime, UNCOMPARED) {
        Err(Error::NoLibrary { what }) => kdc_ir::testing::skipped(format!("no ONNX Runtime ({what})")),
        Err(e) => panic!("{e}"),
        Ok(teacher) => {
            assert!(teacher.engine().starts_with("ONNX Runtime 1."), "{}", teacher.engine());
            check_engine(teacher.as_ref());
            let data = fashion_data();
            let batch = data.test.batch(&SampleView::plain(0..3));
            let tract = open(&fashion(), &[tap], EngineChoice::Tract, UNCOMPARED).unwrap();
            let (a, b) = (teacher.run(&batch).unwrap(), tract.run(&batch).unwrap());
            assert_eq!(a.taps[0].shape, b.taps[0].shape);
            assert_close(&a.taps[0].to_f32(), &b.taps[0].to_f32(), 1e-4);
            let absent =
                open(&fashion(), &["nothing".to_string()], EngineChoice::OnnxRuntime, UNCOMPARED).err().unwrap();
            assert!(absent.to_string().contains("\"nothing\""), "{absent}");
        }
    }
}

/// tract on a model in memory.
fn on_tract(model: &[u8], x: &Tensor) -> Result<Tensor, Error> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    std::fs::write(&path, model).unwrap();
    let teacher = open(&path, &[], EngineChoice::Tract, UNCOMPARED)?;
    Ok(teacher.run(std::slice::from_ref(x))?.outputs.remove(0))
}

#[test]
fn tract_answers_from_quantized_networks_as_they_are_meant() {
    use kdc_ir::graph::{Builder, DType, Dim, Op, QuantParams};
    let mut b = Builder::new("net");
    let x = b.input("x", &[Dim::Batch, Dim::Fixed(3)]);
    let relu = b.node("relu", Op::Relu, &[x]).unwrap();
    let y = b.node("y", Op::Softmax { axis: 1 }, &[relu]).unwrap();
    let mut graph = b.finish(&[y]);
    for (id, scale, zero) in [(x, 0.1, 0), (relu, 0.1, -128), (y, 1.0 / 256.0, -128)] {
        let quant = QuantParams { scale: vec![scale], zero_point: vec![zero], axis: None, dtype: DType::I8 };
        graph.value_mut(id).quant = Some(quant);
    }
    let answer =
        on_tract(&kdc_ir::onnx::export(&graph).unwrap(), &Tensor::f32([1, 3], vec![0.74, -3.0, 1.36])).unwrap();
    // Softmax of 0.7, 0 and 1.4, in steps of 1 / 256.
    let powers = [0.7f32, 0.0, 1.4].map(f32::exp);
    let wanted = powers.map(|p| (p / powers.iter().sum::<f32>() * 256.0).round() / 256.0);
    assert_close(&answer.to_f32(), &wanted, 1e-6);
}

#[test]
fn tract_sums_up_what_was_made_integers() {
    use kdc_ir::graph::{Builder, DType, Dim, Op};
    let mut b = Builder::new("net");
    let x = b.input("x", &[Dim::Batch, Dim::Fixed(4)]);
    let whole = b.node("whole", Op::Cast { to: DType::I64 }, &[x]).unwrap();
    let sum = b.node("sum", Op::CumSum { axis: 1, exclusive: false, reverse: true }, &[whole]).unwrap();
    let y = b.node("y", Op::Cast { to: DType::F32 }, &[sum]).unwrap();
    let model = kdc_ir::onnx::export(&b.finish(&[y])).unwrap();
    let x = Tensor::f32([2, 4], vec![1.0, -2.0, 3.0, 4.9, 0.0, 1.0, 1.0, 0.0]);
    let answer = on_tract(&model, &x).unwrap();
    assert_eq!((&answer.shape[..], &answer.to_f32()[..]), (&[2, 4][..], &[6.0, 5.0, 7.0, 4.0, 2.0, 2.0, 1.0, 0.0][..]));
}

#[test]
fn tract_gets_the_branch_that_is_taken() {
    use prost::Message;
    use tract_onnx::pb::*;
    let attribute = |name: &str, kind: attribute_proto::AttributeType| AttributeProto {
        name: name.into(),
        r#type: kind.into(),
        ..AttributeProto::default()
    };
    let node = |op: &str, inputs: &[&str], output: &str, attribute: Vec<AttributeProto>| NodeProto {
        op_type: op.into(),
        input: inputs.iter().map(|i| i.to_string()).collect(),
        output: vec![output.into()],
        attribute,
        ..NodeProto::default()
    };
    let int64 = tensor_proto::DataType::Int64.into();
    let constant = |name: &str, value: i64| TensorProto {
        name: name.into(),
        dims: vec![1],
        data_type: int64,
        int64_data: vec![value],
        ..TensorProto::default()
    };
    let port = |name: &str, extents: &[i64]| {
        let dim = extents.iter().map(|&n| tensor_shape_proto::Dimension {
            value: Some(tensor_shape_proto::dimension::Value::DimValue(n)),
            ..Default::default()
        });
        let shape = Some(TensorShapeProto { dim: dim.collect() });
        let tensor = type_proto::Tensor { elem_type: tensor_proto::DataType::Float.into(), shape };
        let r#type = Some(TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..TypeProto::default() });
        ValueInfoProto { name: name.into(), r#type, ..ValueInfoProto::default() }
    };
    // Two branches of different ranks: tract wants them alike.
    let branch = |name: &str, node: NodeProto| {
        let output = vec![ValueInfoProto { name: node.output[0].clone(), ..ValueInfoProto::default() }];
        let graph = GraphProto { name: name.into(), node: vec![node], output, ..GraphProto::default() };
        AttributeProto { g: Some(graph), ..attribute(name, attribute_proto::AttributeType::Graph) }
    };
    let branches = vec![
        branch("then_branch", node("Neg", &["x"], "negated", vec![])),
        branch("else_branch", node("Unsqueeze", &["x", "one"], "wider", vec![])),
    ];
    let graph = GraphProto {
        name: "net".into(),
        initializer: vec![constant("one", 1), constant("three", 3)],
        input: vec![port("x", &[1, 3])],
        output: vec![port("y", &[1, 3])],
        node: vec![
            node("Shape", &["x"], "shape", vec![]),
            node("Gather", &["shape", "one"], "extent", vec![]),
            node("Equal", &["extent", "three"], "taken", vec![]),
            node("If", &["taken"], "y", branches),
        ],
        ..GraphProto::default()
    };
    let model = ModelProto {
        ir_version: 8,
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 17 }],
        graph: Some(graph),
        ..ModelProto::default()
    };
    let answer = on_tract(&model.encode_to_vec(), &Tensor::f32([1, 3], vec![1.0, -2.0, 3.0])).unwrap();
    assert_eq!(answer, Tensor::f32([1, 3], vec![-1.0, 2.0, -3.0]));
}

#[test]
fn auto_takes_the_same_engine_whatever_is_installed() {
    let teacher = open(&fashion(), &[], EngineChoice::Auto, UNCOMPARED).unwrap();
    assert!(teacher.engine().starts_with("tract") && teacher.note().is_none());
}

#[test]
fn taps_come_beside_the_outputs_and_may_be_outputs() {
    let names = ["/body/body.0/Add_output_0".to_string(), "logits".to_string()];
    let teacher = open(&fashion(), &names, EngineChoice::Tract, UNCOMPARED).unwrap();
    assert_eq!(teacher.taps(), names);
    let data = fashion_data();
    let answers = teacher.run(&data.test.batch(&SampleView::plain(0..3))).unwrap();
    assert_eq!((answers.outputs.len(), answers.taps.len()), (1, 2));
    assert_eq!(answers.taps[1], answers.outputs[0]);
    assert_eq!(answers.taps[0].shape[0], 3);
    assert_eq!(answers.taps[0].shape.len(), 4);

    let absent = open(&fashion(), &["nothing".to_string()], EngineChoice::Tract, UNCOMPARED).err().unwrap().to_string();
    assert!(absent.contains("\"nothing\"") && absent.contains("teacher.onnx"), "{absent}");
}

#[test]
fn answers_depend_neither_on_cores_nor_on_the_rest_of_the_batch() {
    let data = fashion_data();
    let teacher = open(&fashion(), &[], EngineChoice::Tract, UNCOMPARED).unwrap();
    let batch = data.test.batch(&SampleView::plain(0..37));
    let on = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| teacher.run(&batch).unwrap())
    };
    let one = on(1);
    assert_eq!(one, on(3));
    let alone = teacher.run(&data.test.batch(&SampleView::plain([36]))).unwrap();
    assert_eq!(alone.outputs[0].to_f32()[..], one.outputs[0].to_f32()[360..]);
}

#[test]
fn a_batch_of_another_shape_is_refused() {
    let teacher = open(&fashion(), &[], EngineChoice::Tract, UNCOMPARED).unwrap();
    for shape in [vec![2, 3, 28, 28], vec![2, 784], vec![0, 1, 28, 28], vec![]] {
        let batch = Tensor::f32(shape.clone(), vec![0.0; shape.iter().product()]);
        let message = teacher.run(&[batch]).unwrap_err().to_string();
        assert!(message.contains("\"image\" is") && message.contains(&format!("{shape:?}")), "{message}");
    }
}

#[test]
fn an_answer_that_is_no_number_is_an_error() {
    let rows = |values: [f32; 6]| vec![vec![Tensor::f32([3, 2], values.to_vec())]];
    let join = |values, n| chunks::join("net.onnx", "engine", &["logits".to_string()], 1, rows(values), 3, n);
    let message = join([0.0, 1.0, 2.0, f32::NAN, 4.0, 5.0], 3).unwrap_err().to_string();
    assert!(message.contains("\"logits\" is NaN for sample 1") && message.contains("net.onnx"), "{message}");
    assert!(join([0.0, 1.0, 2.0, 3.0, f32::INFINITY, 5.0], 3).is_err());
    // What stands in the rows that only fill the chunk is nobody's answer.
    assert_eq!(join([0.0, 1.0, 2.0, 3.0, f32::NAN, 5.0], 2).unwrap().outputs[0].shape, [2, 2]);
}

#[test]
fn files_that_are_no_models_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let whole = std::fs::read(fashion()).unwrap();
    let cases: [(&str, &[u8]); 4] = [
        ("text.onnx", b"hello, I am a text file"),
        ("empty.onnx", b""),
        ("half.onnx", &whole[..whole.len() / 2]),
        ("zeros.onnx", &[0; 64]),
    ];
    for (name, bytes) in cases {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let message = open(&path, &[], EngineChoice::Auto, UNCOMPARED).err().unwrap().to_string();
        assert!(message.contains(name) && message.contains("not a usable ONNX model"), "{message}");
    }
    assert!(matches!(
        open(&folder.path().join("absent.onnx"), &[], EngineChoice::Auto, UNCOMPARED),
        Err(Error::Read { .. })
    ));
}

#[test]
fn the_content_hash_covers_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("copy.onnx");
    std::fs::copy(fashion(), &copy).unwrap();
    assert_eq!(content_hash(&copy).unwrap(), content_hash(&fashion()).unwrap());
    let mut bytes = std::fs::read(&copy).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&copy, bytes).unwrap();
    assert_ne!(content_hash(&copy).unwrap(), content_hash(&fashion()).unwrap());
}

#[test]
fn weights_outside_the_folder_of_the_model_are_refused() {
    use tract_onnx::pb;
    for location in ["/etc/passwd", "../weights.bin", "inner/../../weights.bin"] {
        let entry = pb::StringStringEntryProto { key: "location".into(), value: location.into() };
        let tensor = pb::TensorProto { external_data: vec![entry], ..Default::default() };
        let graph = pb::GraphProto { initializer: vec![tensor], ..Default::default() };
        let model = pb::ModelProto { graph: Some(graph), ..Default::default() };
        let message = file::external_files(Path::new("net.onnx"), &model).unwrap_err().to_string();
        assert!(message.contains("net.onnx") && message.contains(location), "{message}");
    }
}

#[test]
fn engines_agree_on_other_models() {
    let Some(folder) = std::env::var_os("KDC_DATA") else {
        return eprintln!("skipped: set KDC_DATA to a folder that has models/");
    };
    for entry in std::fs::read_dir(Path::new(&folder).join("models")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "onnx") || path.to_string_lossy().contains("int8") {
            continue;
        }
        let shape = file::Model::read(&path, None, &[]).unwrap().inputs.list[0].shape.clone().unwrap();
        let shape: Vec<usize> =
            shape.iter().enumerate().map(|(i, d)| d.unwrap_or(if i == 0 { 3 } else { 1 })).collect();
        let n = shape.iter().product();
        let batch = [Tensor::f32(shape, (0..n).map(|i| ((i * 7919) % 255) as f32 / 255.0).collect())];
        let tract = open(&path, &[], EngineChoice::Tract, UNCOMPARED).unwrap().run(&batch).unwrap();
        match open(&path, &[], EngineChoice::OnnxRuntime, UNCOMPARED) {
            Err(Error::NoLibrary { what }) => return kdc_ir::testing::skipped(format!("no ONNX Runtime ({what})")),
            Err(e) => panic!("{e}"),
            Ok(ort) => {
                eprintln!("{}", path.display());
                assert_close(&tract.outputs[0].to_f32(), &ort.run(&batch).unwrap().outputs[0].to_f32(), 1e-3);
            }
        }
    }
}
