//! Operators and their attributes, named after ONNX. Importing brings every opset to this one form.

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
    Opaque(OpaqueNode),
}

impl Op {
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
            Op::Opaque(node) => &node.op_type,
        }
    }
}
