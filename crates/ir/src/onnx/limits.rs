//! Which operators of which opsets are read, and what of them is not: the table in SUPPORTED-OPERATORS.md, and what the
//! conformance runner tells from failures.

use crate::graph::Unread;

/// The opsets that are read.
pub const OPSETS: std::ops::RangeInclusive<i64> = 7..=24;

/// Operators that are written as several others while a model is read, with a domain in front where it is not ONNX's.
pub const WRITTEN_AS_OTHERS: [&str; 20] = [
    "CastLike",
    "DynamicQuantizeLinear",
    "Einsum",
    "QLinearConv",
    "QLinearMatMul",
    "RMSNormalization",
    "Swish",
    "com.microsoft.DequantizeLinear",
    "com.microsoft.MatMulIntegerToFloat",
    "com.microsoft.QGemm",
    "com.microsoft.QLinearAdd",
    "com.microsoft.QLinearAveragePool",
    "com.microsoft.QLinearConcat",
    "com.microsoft.QLinearGlobalAveragePool",
    "com.microsoft.QLinearLeakyRelu",
    "com.microsoft.QLinearMul",
    "com.microsoft.QLinearSigmoid",
    "com.microsoft.QLinearSoftmax",
    "com.microsoft.QLinearWhere",
    "com.microsoft.QuantizeLinear",
];

/// A part of an operator that kdc does not read.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// The ONNX operator.
    pub operator: &'static str,
    /// What is not read, for people.
    pub not: &'static str,
    /// The refusals that come of it.
    pub unread: &'static [Unread],
}

/// Strings, 8-bit floats, 4-bit numbers (codes of onnx.proto).
const NARROW: [Unread; 8] = [
    Unread::Element(8),
    Unread::Element(17),
    Unread::Element(18),
    Unread::Element(19),
    Unread::Element(20),
    Unread::Element(21),
    Unread::Element(22),
    Unread::Element(23),
];

/// What stored numbers are not read of.
const STORED: [Unread; 10] = [
    Unread::Blocks,
    Unread::Stored,
    NARROW[0],
    NARROW[1],
    NARROW[2],
    NARROW[3],
    NARROW[4],
    NARROW[5],
    NARROW[6],
    NARROW[7],
];

/// Every part of a known operator that is not read.
pub const LIMITS: [Limit; 11] = [
    Limit { operator: "Cast", not: "strings, 8-bit floats, 4-bit numbers", unread: &NARROW },
    Limit { operator: "CastLike", not: "strings, 8-bit floats, 4-bit numbers", unread: &NARROW },
    Limit { operator: "DequantizeLinear", not: "8-bit floats, 4-bit numbers, blocks", unread: &STORED },
    Limit { operator: "Dropout", not: "dropping elements (training mode)", unread: &[Unread::Training] },
    Limit {
        operator: "Einsum",
        not: "an axis twice in one operand, extents of 1 that stand for others, integers",
        unread: &[Unread::RepeatedAxis, Unread::StretchedAxis, Unread::IntegerProducts],
    },
    Limit { operator: "Equal", not: "strings", unread: &[NARROW[0]] },
    Limit { operator: "GroupNormalization", not: "scales by group (opset 18)", unread: &[Unread::GroupScales] },
    Limit { operator: "Identity", not: "sequences, optionals", unread: &[Unread::NoTensor] },
    Limit { operator: "MaxPool", not: "its indices", unread: &[Unread::Indices] },
    Limit { operator: "QuantizeLinear", not: "8-bit floats, 4-bit numbers, blocks", unread: &STORED },
    Limit { operator: "Resize", not: "coordinates tf_crop_and_resize", unread: &[Unread::CropAndResize] },
];

/// What of an operator is not read, if anything.
pub fn limit(operator: &str) -> Option<&'static Limit> {
    LIMITS.iter().find(|limit| limit.operator == operator)
}

/// The opset that an operator first appeared in, if it is not the first one that is read.
pub fn since(operator: &str) -> i64 {
    match operator {
        "Expand" => 8,
        "Acosh" | "Asinh" | "Atanh" | "Cosh" | "Erf" | "IsNaN" | "OneHot" | "Shrink" | "Sign" | "Sinh" | "Where" => 9,
        "ConvInteger" | "DequantizeLinear" | "IsInf" | "MatMulInteger" | "Mod" | "QLinearConv" | "QLinearMatMul"
        | "QuantizeLinear" | "Resize" | "ThresholdedRelu" => 10,
        "BitShift" | "CumSum" | "DynamicQuantizeLinear" | "GatherElements" | "GatherND" | "Round" => 11,
        "Celu" | "Einsum" | "GreaterOrEqual" | "LessOrEqual" => 12,
        "HardSwish" | "Trilu" => 14,
        "CastLike" => 15,
        "LayerNormalization" => 17,
        "BitwiseAnd" | "BitwiseNot" | "BitwiseOr" | "BitwiseXor" | "GroupNormalization" | "Mish" => 18,
        "Gelu" => 20,
        "RMSNormalization" => 23,
        "Swish" => 24,
        _ => *OPSETS.start(),
    }
}
