//! Operators and their attributes, named after ONNX. Importing brings every opset to this one form.

use super::function::{Binary, Reduction, Unary, Variadic};
use super::recurrent::{Cell, Recurrent};
use super::{DType, Dim};

/// Attributes of a convolution. Weights are `[out, in / group, kernel…]`, operands `x, w, bias?`.
#[derive(Clone, Debug, PartialEq)]
pub struct Conv {
    /// Extents of the kernel, one per spatial axis.
    pub kernel: Vec<usize>,
    /// Steps between windows.
    pub strides: Vec<usize>,
    /// Zeros added: all beginnings, then all ends (ONNX order).
    pub pads: Vec<usize>,
    /// Distance between kernel elements.
    pub dilations: Vec<usize>,
    /// Into how many independent convolutions the channels are split.
    pub group: usize,
}

/// Attributes of a pooling window; fields as in [`Conv`].
#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    pub kernel: Vec<usize>,
    pub strides: Vec<usize>,
    pub pads: Vec<usize>,
    pub dilations: Vec<usize>,
    /// Round the output extent up, so that the last window may hang over the end.
    pub ceil_mode: bool,
    /// Whether an average counts the padding as elements (average pooling only).
    pub count_include_pad: bool,
}

/// How a file asks for padding (resolved to explicit pads at import).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoPad {
    NotSet,
    SameUpper,
    SameLower,
    Valid,
}

/// What [`Op::Pad`] fills with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PadMode {
    Constant(f32),
    Reflect,
    Edge,
    /// The operand, repeated.
    Wrap,
}

/// Attributes of a transposed convolution. Weights are `[in, out / group, kernel…]`; `conv.pads` are cut off the result.
#[derive(Clone, Debug, PartialEq)]
pub struct ConvTranspose {
    pub conv: Conv,
    /// Elements added at the end of each axis of the result.
    pub output_padding: Vec<usize>,
}

/// How [`Op::Resize`] finds the place in the operand for a place in the result (ONNX's
/// `coordinate_transformation_mode`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coordinates {
    HalfPixel,
    HalfPixelSymmetric,
    PytorchHalfPixel,
    AlignCorners,
    Asymmetric,
}

/// Between which elements [`Op::Resize`] interpolates.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Interpolation {
    Nearest(Rounding),
    Linear,
    Cubic { coefficient: f32, exclude_outside: bool },
}

/// Which neighbour is the nearest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    HalfDown,
    HalfUp,
    Floor,
    Ceil,
}

/// Attributes of [`Op::Resize`], for all axes.
#[derive(Clone, Debug, PartialEq)]
pub struct Resize {
    /// Extents of the result; the batch is never resized.
    pub sizes: Vec<Dim>,
    /// The ratio of result to operand, as the file gives it: it need not be that of the extents.
    pub scales: Vec<f32>,
    pub coordinates: Coordinates,
    pub interpolation: Interpolation,
    /// Where elements become fewer, each is a mean of all those it stands for.
    pub antialias: bool,
}

/// A part of a known operator that kdc does not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    /// Elements of a type that graphs do not have: its ONNX code.
    Element(i32),
    /// A scale for each block of elements.
    Blocks,
    /// Integers of other widths than are computed with.
    Stored,
    /// Dropout at work.
    Training,
    /// One axis twice in one operand.
    RepeatedAxis,
    /// An extent of 1 that stands for another.
    StretchedAxis,
    /// Sums of products of integers.
    IntegerProducts,
    /// A scale for each group of channels.
    GroupScales,
    /// A sequence or an optional.
    NoTensor,
    /// Where a window's largest element is.
    Indices,
    /// `tf_crop_and_resize`
    CropAndResize,
}

impl std::fmt::Display for Unread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Unread::Element(code) => return write!(f, "element type {} is not supported", element_name(*code)),
            Unread::Blocks => "quantizes in blocks",
            Unread::Stored => "quantizes to a type kdc does not use",
            Unread::Training => "drops elements, as it was exported for training",
            Unread::RepeatedAxis => "names an axis twice in one place",
            Unread::StretchedAxis => "meets axes of different extents",
            Unread::IntegerProducts => "sums products of integers",
            Unread::GroupScales => "scales each group, not each channel",
            Unread::NoTensor => "is not a tensor",
            Unread::Indices => "its indices are used",
            Unread::CropAndResize => "transforms coordinates by tf_crop_and_resize",
        })
    }
}

/// The name of an ONNX element type that graphs do not have.
fn element_name(code: i32) -> String {
    match code {
        0 => "undefined".into(),
        8 => "string".into(),
        14 => "complex64".into(),
        15 => "complex128".into(),
        17..=20 => "float8".into(),
        21 => "uint4".into(),
        22 => "int4".into(),
        23 => "float4".into(),
        _ => format!("number {code}"),
    }
}

/// A node kdc has no operator for, kept whole so that it can be written back.
#[derive(Clone, Debug, PartialEq)]
pub struct OpaqueNode {
    /// ONNX domain; empty for the standard one.
    pub domain: String,
    /// The version of the domain's operators that the node was written for; 0 for a function of the model itself.
    pub opset: i64,
    /// ONNX operator name.
    pub op_type: String,
    /// The node as protobuf, attributes and all.
    pub proto: Vec<u8>,
    /// Why it is opaque, for messages: "not known to kdc", "has a dynamic axis", …
    pub why: String,
    /// The same for programs, where it is a limit of an operator that kdc knows.
    pub unread: Option<Unread>,
}

/// What a node computes. Operands follow ONNX order unless a variant says otherwise.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    Conv(Conv),
    /// `alpha · a' · b' + beta · c`, operands `a, b, c?`.
    Gemm {
        alpha: f32,
        beta: f32,
        trans_a: bool,
        trans_b: bool,
    },
    MatMul,
    /// Operands `x, scale, bias, mean, variance`; one result.
    BatchNormalization {
        epsilon: f32,
    },
    Relu,
    /// Operand `x`; bounds may be infinite.
    Clip {
        min: f32,
        max: f32,
    },
    LeakyRelu {
        alpha: f32,
    },
    Sigmoid,
    Tanh,
    HardSwish,
    HardSigmoid {
        alpha: f32,
        beta: f32,
    },
    Add,
    Sub,
    Mul,
    Div,
    /// `axis` is not negative.
    Concat {
        axis: usize,
    },
    MaxPool(Pool),
    AveragePool(Pool),
    GlobalAveragePool,
    GlobalMaxPool,
    /// Operand `x`; `axes` sorted, not negative.
    ReduceMean {
        axes: Vec<usize>,
        keepdims: bool,
    },
    Flatten {
        axis: usize,
    },
    /// Operand `x`; every extent of the result is given.
    Reshape {
        shape: Vec<Dim>,
    },
    Transpose {
        perm: Vec<usize>,
    },
    /// Operand `x`; `axes` sorted, not negative.
    Squeeze {
        axes: Vec<usize>,
    },
    /// Operand `x`; `axes` sorted, positions in the result.
    Unsqueeze {
        axes: Vec<usize>,
    },
    /// Operand `x`; `pads` as in [`Conv::pads`], over all axes, negative to crop.
    Pad {
        pads: Vec<i64>,
        mode: PadMode,
    },
    Softmax {
        axis: usize,
    },
    LogSoftmax {
        axis: usize,
    },
    Dropout,
    Identity,
    Cast {
        to: DType,
    },
    /// Operands `x, indices`.
    Gather {
        axis: usize,
    },
    /// Operand `x`; one entry per axis of `axes`; `starts` and `ends` within the extent.
    Slice {
        starts: Vec<i64>,
        ends: Vec<i64>,
        axes: Vec<usize>,
        steps: Vec<i64>,
    },
    /// A function of every element.
    Unary(Unary),
    /// A function of every pair of elements, operands `a, b`, broadcast.
    Binary(Binary),
    /// Any number of operands, broadcast.
    Variadic(Variadic),
    /// Operands `condition, x, y`, broadcast: `x` where the condition holds.
    Where,
    /// Operand `x`; `axes` sorted, not negative.
    Reduce {
        reduction: Reduction,
        axes: Vec<usize>,
        keepdims: bool,
    },
    /// The index of the largest (or smallest) element, the first of equals, or the last.
    ArgExtreme {
        largest: bool,
        axis: usize,
        keepdims: bool,
        last: bool,
    },
    /// Running sums.
    CumSum {
        axis: usize,
        exclusive: bool,
        reverse: bool,
    },
    /// The `k` largest (or smallest) along an axis, in order: results `values, indices`.
    TopK {
        axis: usize,
        k: usize,
        largest: bool,
    },
    /// Over all axes from `axis` on; operands `x, scale, bias?`.
    LayerNormalization {
        axis: usize,
        epsilon: f32,
    },
    /// Over the spatial axes of each channel; operands `x, scale, bias`, one per channel.
    InstanceNormalization {
        epsilon: f32,
    },
    /// Over groups of channels; operands `x, scale, bias`, one per channel.
    GroupNormalization {
        groups: usize,
        epsilon: f32,
    },
    /// Across neighbouring channels (Krizhevsky et al. 2012): `x / (bias + alpha / size · Σ x²)^beta`.
    Lrn {
        size: usize,
        alpha: f32,
        beta: f32,
        bias: f32,
    },
    /// By the norm of order 1 or 2 along an axis.
    LpNormalization {
        axis: usize,
        order: usize,
    },
    /// Operand `x`, broadcast to these extents; an extent of 1 keeps the operand's.
    Expand {
        shape: Vec<Dim>,
    },
    /// Repeats along every axis.
    Tile {
        repeats: Vec<usize>,
    },
    /// One result for each size.
    Split {
        axis: usize,
        sizes: Vec<usize>,
    },
    /// Operands `x, indices`.
    GatherElements {
        axis: usize,
    },
    /// Operands `x, indices`.
    GatherNd {
        batch_dims: usize,
    },
    /// `columns_first`: ONNX mode CRD instead of DCR.
    DepthToSpace {
        block: usize,
        columns_first: bool,
    },
    SpaceToDepth {
        block: usize,
    },
    Resize(Resize),
    /// Operands `x, w, bias?`.
    ConvTranspose(ConvTranspose),
    Recurrent(Recurrent),
    /// Keeps the triangle of the last two axes above (or below) the `k`-th diagonal.
    Trilu {
        upper: bool,
        k: i64,
    },
    /// The indices as integers along a new axis of `depth` elements: operands `indices, values`.
    OneHot {
        axis: usize,
        depth: usize,
    },
    /// Stored integers of `x / scale + zero_point`, of type `to`, those of 16 bits kept in `i32`. Operands
    /// `x, scale, zero_point?`, the latter two one number or one for each index of `axis`. Pairs around a value become
    /// its parameters instead.
    Quantize {
        axis: usize,
        to: DType,
    },
    /// `(x − zero_point) · scale`; operands as of [`Op::Quantize`].
    Dequantize {
        axis: usize,
    },
    /// A convolution of stored integers, exact in `i32`: operands `x, w, x_zero_point?, w_zero_point?`.
    ConvInteger(Conv),
    /// A product of matrices of stored integers, exact in `i32`: operands `a, b, a_zero_point?, b_zero_point?`, the former
    /// one number or one for each row, the latter one or one for each column.
    MatMulInteger,
    Opaque(OpaqueNode),
}

impl Op {
    /// Whether it only moves, selects or repeats elements of its first operand.
    pub fn moves(&self) -> bool {
        matches!(
            self,
            Op::Flatten { .. }
                | Op::Reshape { .. }
                | Op::Transpose { .. }
                | Op::Squeeze { .. }
                | Op::Unsqueeze { .. }
                | Op::Dropout
                | Op::Identity
                | Op::Gather { .. }
                | Op::Slice { .. }
                | Op::Split { .. }
                | Op::Expand { .. }
        )
    }

    /// The ONNX operator name.
    pub fn name(&self) -> &str {
        match self {
            Op::Conv(_) => "Conv",
            Op::Gemm { .. } => "Gemm",
            Op::MatMul => "MatMul",
            Op::BatchNormalization { .. } => "BatchNormalization",
            Op::Relu => "Relu",
            Op::Clip { .. } => "Clip",
            Op::LeakyRelu { .. } => "LeakyRelu",
            Op::Sigmoid => "Sigmoid",
            Op::Tanh => "Tanh",
            Op::HardSwish => "HardSwish",
            Op::HardSigmoid { .. } => "HardSigmoid",
            Op::Add => "Add",
            Op::Sub => "Sub",
            Op::Mul => "Mul",
            Op::Div => "Div",
            Op::Concat { .. } => "Concat",
            Op::MaxPool(_) => "MaxPool",
            Op::AveragePool(_) => "AveragePool",
            Op::GlobalAveragePool => "GlobalAveragePool",
            Op::GlobalMaxPool => "GlobalMaxPool",
            Op::ReduceMean { .. } => "ReduceMean",
            Op::Flatten { .. } => "Flatten",
            Op::Reshape { .. } => "Reshape",
            Op::Transpose { .. } => "Transpose",
            Op::Squeeze { .. } => "Squeeze",
            Op::Unsqueeze { .. } => "Unsqueeze",
            Op::Pad { .. } => "Pad",
            Op::Softmax { .. } => "Softmax",
            Op::LogSoftmax { .. } => "LogSoftmax",
            Op::Dropout => "Dropout",
            Op::Identity => "Identity",
            Op::Cast { .. } => "Cast",
            Op::Gather { .. } => "Gather",
            Op::Slice { .. } => "Slice",
            Op::Unary(unary) => unary.name(),
            Op::Binary(binary) => binary.name(),
            Op::Variadic(Variadic::Max) => "Max",
            Op::Variadic(Variadic::Min) => "Min",
            Op::Variadic(Variadic::Sum) => "Sum",
            Op::Variadic(Variadic::Mean) => "Mean",
            Op::Where => "Where",
            Op::Reduce { reduction, .. } => reduction.name(),
            Op::ArgExtreme { largest: true, .. } => "ArgMax",
            Op::ArgExtreme { largest: false, .. } => "ArgMin",
            Op::CumSum { .. } => "CumSum",
            Op::TopK { .. } => "TopK",
            Op::LayerNormalization { .. } => "LayerNormalization",
            Op::InstanceNormalization { .. } => "InstanceNormalization",
            Op::GroupNormalization { .. } => "GroupNormalization",
            Op::Lrn { .. } => "LRN",
            Op::LpNormalization { .. } => "LpNormalization",
            Op::Expand { .. } => "Expand",
            Op::Tile { .. } => "Tile",
            Op::Split { .. } => "Split",
            Op::GatherElements { .. } => "GatherElements",
            Op::GatherNd { .. } => "GatherND",
            Op::DepthToSpace { .. } => "DepthToSpace",
            Op::SpaceToDepth { .. } => "SpaceToDepth",
            Op::Resize(_) => "Resize",
            Op::ConvTranspose(_) => "ConvTranspose",
            Op::Recurrent(Recurrent { cell: Cell::Rnn, .. }) => "RNN",
            Op::Recurrent(Recurrent { cell: Cell::Lstm, .. }) => "LSTM",
            Op::Recurrent(Recurrent { cell: Cell::Gru { .. }, .. }) => "GRU",
            Op::Trilu { .. } => "Trilu",
            Op::OneHot { .. } => "OneHot",
            Op::Quantize { .. } => "QuantizeLinear",
            Op::Dequantize { .. } => "DequantizeLinear",
            Op::ConvInteger(_) => "ConvInteger",
            Op::MatMulInteger => "MatMulInteger",
            Op::Opaque(node) => &node.op_type,
        }
    }
}
