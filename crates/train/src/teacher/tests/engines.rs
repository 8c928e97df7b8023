//! Which engine answers, and whether it computes what the file says.

use super::super::choice::pick;
use super::super::difference::first_difference;
use super::super::{file, own};
use super::*;
use kdc_ir::graph::{
    Builder, Conv, Coordinates, Dim, Graph, Interpolation, Op, PadMode, Pool, Resize, Rounding, Tensor, ValueId,
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A model in a file of its own.
fn written(graph: &Graph) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    std::fs::write(&path, kdc_ir::onnx::export(graph).unwrap()).unwrap();
    (folder, path)
}

fn wave(shape: &[usize], seed: u64) -> Tensor {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let count = shape.iter().product::<usize>();
    Tensor::f32(shape.to_vec(), (0..count).map(|_| rng.random_range(-1.0..1.0)).collect())
}

fn image(channels: usize, [height, width]: [usize; 2]) -> [Dim; 4] {
    [Dim::Batch, Dim::Fixed(channels), Dim::Fixed(height), Dim::Fixed(width)]
}

/// A convolution with padding that keeps the extents.
fn same(kernel: usize, group: usize) -> Op {
    let pads = vec![kernel / 2; 4];
    Op::Conv(Conv { kernel: vec![kernel; 2], strides: vec![1; 2], pads, dilations: vec![1; 2], group })
}

/// The elements that a slice chooses, as Python counts them.
fn chosen(extent: i64, start: i64, end: i64, step: i64) -> Vec<usize> {
    let at = |i: i64| if i < 0 { i + extent } else { i };
    let (start, end) = match step > 0 {
        true => (at(start).clamp(0, extent), at(end).clamp(0, extent)),
        false => (at(start).clamp(-1, extent - 1), at(end).clamp(-1, extent - 1)),
    };
    let within = |&i: &i64| if step > 0 { i < end } else { i > end };
    (0..).map(|k| start + k * step).take_while(within).map(|i| i as usize).collect()
}

/// The convolution does nothing, so that the right values are the input's own.
#[test]
fn tract_takes_the_steps_of_a_slice_from_where_they_begin() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for (axis, start, end, step) in [(2, 1, 11, 2), (2, 1, 12, 2), (2, 1, 12, 3), (3, 10, -13, -3), (1, 1, 3, 2)]
        .into_iter()
        .chain((0..40).map(|_| {
            let far = rng.random_range(-13..14);
            (
                rng.random_range(1..4usize),
                rng.random_range(-13..14),
                far,
                [1, 2, 3, 5, -1, -2, -3][rng.random_range(0..7)],
            )
        }))
    {
        let shape = [1, 3, 12, 12];
        let indices = chosen(shape[axis] as i64, start, end, step);
        if indices.is_empty() {
            continue;
        }
        let mut b = Builder::new("net");
        let x = b.input("x", &image(3, [12, 12]));
        let mut weights = vec![0.0; 27];
        (0..3).for_each(|channel| weights[channel * 9 + 4] = 1.0);
        let w = b.constant("w", Tensor::f32([3, 1, 3, 3], weights));
        let conv = b.node("conv", same(3, 3), &[x, w]).unwrap();
        let slope = b.node("slope", Op::LeakyRelu { alpha: 1.0 }, &[conv]).unwrap();
        let slice =
            |start, end| Op::Slice { starts: vec![start], ends: vec![end], axes: vec![axis], steps: vec![step] };
        let y = b.node("y", slice(indices[0] as i64, past(&indices, step)), &[slope]).unwrap();
        let graph = b.finish(&[y]);
        let x = wave(&shape, 7);
        let inner: usize = shape[axis + 1..].iter().product();
        let values = x.to_f32();
        let wanted: Vec<f32> = values
            .chunks(shape[axis] * inner)
            .flat_map(|part| indices.iter().flat_map(move |&i| &part[i * inner..(i + 1) * inner]))
            .copied()
            .collect();
        let answer = on_tract(&kdc_ir::onnx::export(&graph).unwrap(), &x).unwrap();
        assert_close(&answer.to_f32(), &wanted, 1e-6);
    }
}

/// The end behind the last of some indices.
fn past(indices: &[usize], step: i64) -> i64 {
    *indices.last().unwrap() as i64 + step.signum()
}

/// The slices of files, whose starts count from the end.
#[test]
fn a_slice_counted_from_the_end_is_read_as_it_is_written() {
    use prost::Message;
    use tract_onnx::pb::*;
    let mut b = Builder::new("net");
    let x = b.input("x", &image(1, [12, 12]));
    let conv = b.conv2d("conv", x, wave(&[3, 1, 3, 3], 1), vec![0.1; 3], (1, 1, 1)).unwrap();
    let relu = b.node("relu", Op::Relu, &[conv]).unwrap();
    let slice = Op::Slice { starts: vec![1], ends: vec![11], axes: vec![2], steps: vec![2] };
    let y = b.node("y", slice, &[relu]).unwrap();
    let graph = b.finish(&[y]);
    let x = wave(&[4, 1, 12, 12], 3);
    let (_folder, path) = written(&graph);
    let ours = open(&path, &[], EngineChoice::Own, UNCOMPARED).unwrap().run(std::slice::from_ref(&x)).unwrap();
    let mut model = ModelProto::decode(&std::fs::read(&path).unwrap()[..]).unwrap();
    let operands = model.graph.as_ref().unwrap().node.iter().find(|n| n.op_type == "Slice").unwrap().input.clone();
    let initializers = &mut model.graph.as_mut().unwrap().initializer;
    for (name, value) in operands[1..3].iter().zip([-11i64, -1]) {
        let tensor = initializers.iter_mut().find(|t| t.name == *name).unwrap();
        (tensor.raw_data, tensor.int64_data) = (vec![], vec![value]);
    }
    let theirs = on_tract(&model.encode_to_vec(), &x).unwrap();
    assert_close(&theirs.to_f32(), &ours.outputs[0].to_f32(), 1e-5);
}

/// An image network of random operators that move, choose and reduce what convolutions compute: tract moves such operators
/// past one another.
fn random(seed: u64) -> Graph {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut b = Builder::new("random");
    let (mut c, mut hw) = (rng.random_range(1..4), [rng.random_range(6..14), rng.random_range(6..14)]);
    let mut y = b.input("x", &image(c, hw));
    let window = |kernel: usize, stride: usize, pad: usize| Pool {
        kernel: vec![kernel; 2],
        strides: vec![stride; 2],
        pads: vec![pad; 4],
        dilations: vec![1; 2],
        ceil_mode: false,
        count_include_pad: false,
    };
    for i in 0..rng.random_range(4..10) {
        let name = format!("n{i}");
        let mut add = |op: Op, inputs: &[ValueId]| b.node(&name, op, inputs).unwrap();
        match rng.random_range(0..14) {
            0..=2 => {
                let (kernel, stride, out) =
                    (1 + 2 * rng.random_range(0..2), rng.random_range(1..3), rng.random_range(1..6));
                let w = wave(&[out, c, kernel, kernel], seed + i);
                y = b.conv2d(&name, y, w, vec![0.1; out], (stride, kernel / 2, 1)).unwrap();
                c = out;
                hw = hw.map(|n: usize| (n - 1) / stride + 1);
            }
            3 => {
                let w = wave(&[c, 1, 3, 3], seed + i);
                y = b.conv2d(&name, y, w, vec![0.0; c], (1, 1, c)).unwrap();
            }
            4 => y = add(Op::Relu, &[y]),
            5..=8 => {
                let axis = rng.random_range(1..4);
                let extent = if axis == 1 { c } else { hw[axis - 2] } as i64;
                let step = [1, 2, 3, -1, -2][rng.random_range(0..5)];
                let indices =
                    chosen(extent, rng.random_range(0..extent), if step > 0 { extent } else { -extent - 1 }, step);
                let (starts, ends) = (vec![indices[0] as i64], vec![past(&indices, step)]);
                y = add(Op::Slice { starts, ends, axes: vec![axis], steps: vec![step] }, &[y]);
                if axis == 1 { c = indices.len() } else { hw[axis - 2] = indices.len() }
            }
            9 if hw.iter().all(|&n| n > 2) => {
                let op = if rng.random() { Op::MaxPool(window(3, 2, 1)) } else { Op::AveragePool(window(3, 2, 1)) };
                y = add(op, &[y]);
                hw = hw.map(|n| (n - 1) / 2 + 1);
            }
            10 => {
                let perm = [vec![0, 1, 3, 2], vec![0, 2, 1, 3], vec![0, 3, 1, 2]][rng.random_range(0..3)].clone();
                let old = [0, c, hw[0], hw[1]];
                y = add(Op::Transpose { perm: perm.clone() }, &[y]);
                (c, hw) = (old[perm[1]], [old[perm[2]], old[perm[3]]]);
            }
            11 => {
                let pads = vec![0, 0, 1, 0, 0, 0, 0, 2];
                y = add(Op::Pad { pads, mode: PadMode::Constant(0.5) }, &[y]);
                hw = [hw[0] + 1, hw[1] + 2];
            }
            12 if hw.iter().all(|&n| n < 12) => {
                hw = hw.map(|n| 2 * n);
                let resize = Resize {
                    sizes: image(c, hw).to_vec(),
                    scales: vec![1.0, 1.0, 2.0, 2.0],
                    coordinates: Coordinates::Asymmetric,
                    interpolation: Interpolation::Nearest(Rounding::Floor),
                    antialias: false,
                };
                y = add(Op::Resize(resize), &[y]);
            }
            _ => {
                y = add(Op::Concat { axis: 1 }, &[y, y]);
                c *= 2;
            }
        }
    }
    b.finish(&[y])
}

#[test]
fn tract_computes_random_networks_as_kdc_does() {
    for seed in 0..80 {
        let graph = random(1000 * seed);
        let (_folder, path) = written(&graph);
        let shape: Vec<usize> = graph.value(graph.inputs[0]).shape.iter().map(|d| d.at(3)).collect();
        let samples = [wave(&shape, seed)];
        // tract need not run everything, but what it runs is right.
        match open(&path, &[], EngineChoice::Tract, &samples) {
            Ok(_) | Err(Error::Engine { .. }) => (),
            Err(e) => panic!("network {seed}: {e}\n{graph:?}"),
        }
    }
}

/// Always the same answer.
struct Fixed(f32);

impl Teacher for Fixed {
    fn engine(&self) -> &str {
        "fixed"
    }

    fn taps(&self) -> &[String] {
        &[]
    }

    fn run(&self, batch: &[Tensor]) -> Result<Reply, Error> {
        let n = batch[0].shape[0];
        Ok(Reply { outputs: vec![Tensor::f32([n, 10], vec![self.0; 10 * n])], taps: vec![] })
    }
}

type Opened = Result<Box<dyn Teacher>, Error>;

fn zeros(_: &file::Model) -> Opened {
    Ok(Box::new(Fixed(0.0)))
}

fn sevens(_: &file::Model) -> Opened {
    Ok(Box::new(Fixed(7.0)))
}

fn none(_: &file::Model) -> Opened {
    Err(Error::NoLibrary { what: "nowhere".into() })
}

fn right(model: &file::Model) -> Opened {
    Ok(Box::new(tract::Tract::open(model)?))
}

#[test]
fn an_engine_that_computes_something_else_is_not_used() {
    let model = file::Model::read(&fashion(), None, &[]).unwrap();
    let samples = probe(fashion_data().test.as_ref());
    let reference = || Some(own::answer(&model, &samples));
    let name = |teacher: &dyn Teacher| (teacher.engine().to_string(), teacher.note().unwrap_or_default().to_string());

    let (engine, note) = name(pick(&[zeros, right], &model, &samples, reference()).unwrap().as_ref());
    assert!(engine.starts_with("tract") && note.contains("fixed is not used: it computes something else"), "{note}");
    let (engine, note) = name(pick(&[zeros, sevens], &model, &samples, reference()).unwrap().as_ref());
    assert!(engine.starts_with("kdc") && note.contains("fixed is not used"), "{engine}: {note}");
    let (engine, note) = name(pick(&[none, right], &model, &samples, reference()).unwrap().as_ref());
    assert!(engine.starts_with("tract") && note.starts_with("no ONNX Runtime: nowhere"), "{note}");
    assert_eq!(name(pick(&[right, zeros], &model, &samples, reference()).unwrap().as_ref()).1, "");
    // Two that agree are believed, and it is said.
    let (engine, note) = name(pick(&[zeros, zeros], &model, &samples, reference()).unwrap().as_ref());
    assert!(engine == "fixed" && note.contains("please report"), "{engine}: {note}");
    // Who asks for one gets that one or none.
    let refused = pick(&[zeros], &model, &samples, reference()).err().unwrap();
    assert!(
        matches!(&refused, Error::Differs { engine, difference, .. } if engine == "fixed" && difference.by > 0.9),
        "{refused}"
    );
    // Nothing to compare with.
    let unknown = || Some(Err(Error::NoLibrary { what: "an unknown operator".into() }));
    let (engine, note) = name(pick(&[none, zeros], &model, &samples, unknown()).unwrap().as_ref());
    assert!(engine == "fixed" && note.contains("could not be compared"), "{note}");
    assert_eq!(name(pick(&[zeros], &model, &samples, None).unwrap().as_ref()), ("fixed".into(), String::new()));
}

#[test]
fn rounding_is_no_difference() {
    let names = ["y".to_string()];
    let reply = |values: [f32; 4]| Reply { outputs: vec![Tensor::f32([2, 2], values.to_vec())], taps: vec![] };
    let ours = reply([100.0, -3.0, 0.5, 1e-3]);
    let differs = |values, has_steps| first_difference(&names, &ours, &reply(values), has_steps);
    assert_eq!(differs([100.004, -3.004, 0.5, 0.0], false), None);
    assert!(differs([100.0, -2.0, 0.5, 1e-3], false).is_some_and(|d| d.value == "y" && (d.by - 0.01).abs() < 1e-6));
    // A step of an 8-bit value here and there, but no other values.
    assert_eq!(differs([102.0, -2.0, 1.5, 0.0], true), None);
    assert!(differs([80.0, -2.0, 0.5, 1e-3], true).is_some());
    assert!(
        differs([f32::NAN, -3.0, 0.5, 1e-3], false).is_some() && differs([f32::NAN, 0.0, 0.0, 0.0], true).is_some()
    );
    let shorter = Reply { outputs: vec![Tensor::f32([2], vec![100.0, -3.0])], taps: vec![] };
    assert!(first_difference(&names, &ours, &shorter, false).is_some_and(|d| d.by.is_infinite()));
}

#[test]
fn kdc_itself_answers_as_the_network_was_trained_to() {
    let tap = "/stem/stem.2/Relu_output_0".to_string();
    let teacher = open(&fashion(), std::slice::from_ref(&tap), EngineChoice::Own, UNCOMPARED).unwrap();
    check_engine(teacher.as_ref());
    assert_eq!(teacher.taps(), [tap]);
    // A few samples, from all over the data.
    let data = fashion_data();
    let few = probe(data.test.as_ref());
    assert_eq!(few[0].shape, [4, 1, 28, 28]);
    let last = data.test.batch(&SampleView::plain([3 * data.test.len() / 4]));
    assert_eq!(few[0].to_f32()[3 * 784..], last[0].to_f32()[..]);
}
