//! Which operators of which opsets are read, and what of them is not: the table in SUPPORTED-OPERATORS.md, and what the
//! conformance runner tells from failures.

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
    /// What the message of a refusal contains, one of these.
    pub said: &'static [&'static str],
}

const NARROW: [&str; 5] =
    ["element type float8", "element type float4", "element type int4", "element type uint4", "element type string"];

/// What stored numbers are not read of.
const STORED: [&str; 6] =
    ["quantizes in blocks", "quantizes to a type kdc does not use", NARROW[0], NARROW[1], NARROW[2], NARROW[3]];

/// Every part of a known operator that is not read.
pub const LIMITS: [Limit; 11] = [
    Limit { operator: "Cast", not: "strings, 8-bit floats, 4-bit numbers", said: &NARROW },
    Limit { operator: "CastLike", not: "strings, 8-bit floats, 4-bit numbers", said: &NARROW },
    Limit { operator: "DequantizeLinear", not: "8-bit floats, 4-bit numbers, blocks", said: &STORED },
    Limit { operator: "Dropout", not: "dropping elements (training mode)", said: &["drops elements"] },
    Limit {
        operator: "Einsum",
        not: "an axis twice in one operand, extents of 1 that stand for others, integers",
        said: &["names an axis twice", "axes of different extents", "products of integers"],
    },
    Limit { operator: "Equal", not: "strings", said: &[NARROW[4]] },
    Limit { operator: "GroupNormalization", not: "scales by group (opset 18)", said: &["scales each group"] },
    Limit { operator: "Identity", not: "sequences, optionals", said: &["is not a tensor"] },
    Limit { operator: "MaxPool", not: "its indices", said: &["its indices are used"] },
    Limit { operator: "QuantizeLinear", not: "8-bit floats, 4-bit numbers, blocks", said: &STORED },
    Limit {
        operator: "Resize",
        not: "coordinates tf_crop_and_resize",
        said: &["transforms coordinates by tf_crop_and_resize"],
    },
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
