use super::*;
use crate::graph::{Binary, Conv, Pool, Reduction, Unary};

fn whole(op: &Op, operands: &[Tensor], shape: &[usize]) -> Vec<i64> {
    let operands: Vec<Option<&Tensor>> = operands.iter().map(Some).collect();
    let made = compute(op, &operands, &[(DType::I64, shape.to_vec())]).unwrap();
    made[0].as_i64().unwrap().to_vec()
}

fn numbers(shape: &[usize], values: &[i64]) -> Tensor {
    Tensor::i64(shape, values.to_vec())
}

#[test]
fn remainders_have_the_sign_that_the_specification_gives_them() {
    let (a, b) = (numbers(&[6], &[-4, 7, 5, 4, -7, 8]), numbers(&[6], &[2, -3, 8, -2, 3, 5]));
    let of = |fmod| whole(&Op::Binary(Binary::Mod { fmod }), &[a.clone(), b.clone()], &[6]);
    assert_eq!(of(false), [0, -2, 5, 0, 2, 3]);
    assert_eq!(of(true), [0, 1, 5, 0, -1, 3]);
}

#[test]
fn what_has_no_result_is_an_error() {
    let operands = [numbers(&[2], &[1, 2]), numbers(&[2], &[1, 0])];
    let operands: Vec<Option<&Tensor>> = operands.iter().map(Some).collect();
    let wanted = [(DType::I64, vec![2])];
    assert!(compute(&Op::Div, &operands, &wanted).unwrap_err().contains("zero"));
    assert!(compute(&Op::Gather { axis: 0 }, &operands[..1], &wanted).is_err());
    let outside = numbers(&[1], &[2]);
    let error = compute(&Op::Gather { axis: 0 }, &[operands[0], Some(&outside)], &[(DType::I64, vec![1])]);
    assert!(error.unwrap_err().contains("index 2"));
    assert!(compute(&Op::MatMul, &operands, &wanted).is_err());
    assert!(compute(&Op::Relu, &[None], &wanted).is_err());
    let huge = [(DType::I64, vec![usize::MAX, 2])];
    assert!(compute(&Op::Relu, &operands[..1], &huge).unwrap_err().contains("large"));
}

#[test]
fn places_that_the_specification_shows() {
    // The examples of the ONNX operator documentation.
    let data = numbers(&[2, 2], &[1, 2, 3, 4]);
    let picked = whole(&Op::GatherElements { axis: 1 }, &[data, numbers(&[2, 2], &[0, 0, 1, 0])], &[2, 2]);
    assert_eq!(picked, [1, 1, 4, 3]);
    let data = numbers(&[2, 2, 2], &[0, 1, 2, 3, 4, 5, 6, 7]);
    let rows = whole(&Op::GatherNd { batch_dims: 1 }, &[data.clone(), numbers(&[2, 1], &[1, 0])], &[2, 2]);
    assert_eq!(rows, [2, 3, 4, 5]);
    let places = numbers(&[2, 2], &[0, 1, 1, 0]);
    assert_eq!(whole(&Op::GatherNd { batch_dims: 0 }, &[data, places], &[2, 2]), [2, 3, 4, 5]);
    let depth = numbers(&[1, 8, 1, 1], &[0, 9, 18, 27, 36, 45, 54, 63]);
    let of = |columns_first| {
        whole(&Op::DepthToSpace { block: 2, columns_first }, std::slice::from_ref(&depth), &[1, 2, 2, 2])
    };
    assert_eq!(of(false), [0, 18, 36, 54, 9, 27, 45, 63]);
    assert_eq!(of(true), [0, 9, 18, 27, 36, 45, 54, 63]);
    let sums =
        |exclusive, reverse| whole(&Op::CumSum { axis: 0, exclusive, reverse }, &[numbers(&[3], &[1, 2, 3])], &[3]);
    assert_eq!((sums(false, false), sums(true, false)), (vec![1, 3, 6], vec![0, 1, 3]));
    assert_eq!((sums(false, true), sums(true, true)), (vec![6, 5, 3], vec![5, 3, 0]));
}

#[test]
fn of_equals_the_first_unless_the_last_is_asked_for() {
    let x = Tensor::f32([1, 4], vec![2.0, 5.0, 5.0, 1.0]);
    let arg =
        |last| whole(&Op::ArgExtreme { largest: true, axis: 1, keepdims: false, last }, std::slice::from_ref(&x), &[1]);
    assert_eq!((arg(false), arg(true)), (vec![1], vec![2]));
    assert_eq!(top(&x, 1, 3, true), (vec![1, 2, 0], vec![1, 2, 0]));
    assert_eq!(top(&x, 1, 2, false).1, [3, 0]);
}

#[test]
fn windows_over_integers() {
    let conv = |group| Conv { kernel: vec![2, 2], strides: vec![1; 2], pads: vec![1; 4], dilations: vec![1; 2], group };
    let bytes = |shape: &[usize], v: Vec<u8>| Tensor::new(shape, Data::U8(v));
    // ONNX's own example: padding counts as the zero point.
    let (x, w) = (bytes(&[1, 1, 3, 3], (2..=10).collect()), bytes(&[1, 1, 2, 2], vec![1; 4]));
    let made = whole(&Op::ConvInteger(conv(1)), &[x, w, bytes(&[1], vec![1])], &[1, 1, 4, 4]);
    assert_eq!(made, [1, 3, 5, 3, 5, 12, 16, 9, 11, 24, 28, 15, 7, 15, 17, 9]);
    // Two groups, a zero point for each filter.
    let (x, w) = (bytes(&[1, 2, 1, 1], vec![3, 5]), bytes(&[2, 1, 2, 2], vec![1, 2, 3, 4, 5, 6, 7, 8]));
    let zeros = [bytes(&[1], vec![1]), bytes(&[2], vec![1, 8])];
    let made = whole(&Op::ConvInteger(conv(2)), &[x, w, zeros[0].clone(), zeros[1].clone()], &[1, 2, 2, 2]);
    assert_eq!(made, [6, 4, 2, 0, 0, -4, -8, -12]);
    let pool = Pool {
        kernel: vec![2, 2],
        strides: vec![1; 2],
        pads: vec![1, 0, 0, 0],
        dilations: vec![1; 2],
        ceil_mode: false,
        count_include_pad: false,
    };
    let largest = whole(&Op::MaxPool(pool), &[numbers(&[1, 1, 2, 3], &[-1, -2, -3, -6, -5, -4])], &[1, 1, 2, 2]);
    assert_eq!(largest, [-1, -2, -1, -2]);
}

#[test]
fn products_of_matrices_of_integers() {
    let bytes = |shape: &[usize], v: Vec<u8>| Tensor::new(shape, Data::U8(v));
    // ONNX's own example.
    let a = bytes(&[4, 3], vec![11, 7, 3, 10, 6, 2, 9, 5, 1, 8, 4, 0]);
    let b = bytes(&[3, 2], vec![1, 4, 2, 5, 3, 6]);
    let made = whole(&Op::MatMulInteger, &[a, b, bytes(&[1], vec![12]), bytes(&[1], vec![0])], &[4, 2]);
    assert_eq!(made, [-38, -83, -44, -98, -50, -113, -56, -128]);
    // A zero point for each row and each column, the right operand shared by two matrices.
    let (a, b) = (bytes(&[2, 1, 2], vec![1, 2, 3, 4]), bytes(&[2, 2], vec![1, 2, 3, 4]));
    let made = whole(&Op::MatMulInteger, &[a, b, bytes(&[1], vec![1]), bytes(&[2], vec![1, 2])], &[2, 1, 2]);
    assert_eq!(made, [2, 2, 6, 6]);
}

#[test]
fn reductions_of_nothing_leave_everything_else_unchanged() {
    let nothing = Tensor::f32([2, 0], vec![]);
    let of = |reduction| {
        let op = Op::Reduce { reduction, axes: vec![1], keepdims: false };
        compute(&op, &[Some(&nothing)], &[(DType::F32, vec![2])]).unwrap()[0].to_f32().into_owned()
    };
    assert_eq!(of(Reduction::Sum), [0.0; 2]);
    assert_eq!(of(Reduction::Prod), [1.0; 2]);
    assert_eq!(of(Reduction::Max), [f32::NEG_INFINITY; 2]);
    assert_eq!(of(Reduction::LogSumExp), [f32::NEG_INFINITY; 2]);
}

#[test]
fn integers_wrap_and_floats_are_cut_towards_zero() {
    let cast_to = |data: Data, to| cast(&data, to);
    assert_eq!(cast_to(Data::I64(vec![300, -1]), DType::U8), Data::U8(vec![44, 255]));
    assert_eq!(cast_to(Data::F32(vec![1.9, -1.9, 0.0].into()), DType::I32), Data::I32(vec![1, -1, 0]));
    assert_eq!(cast_to(Data::F32(vec![0.5, 0.0].into()), DType::Bool), Data::Bool(vec![true, false]));
    assert_eq!(whole(&Op::Unary(Unary::Neg), &[numbers(&[1], &[i64::MIN])], &[1]), [i64::MIN]);
}
