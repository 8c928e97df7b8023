//! The IR of devices: what runs on the board, nothing symbolic left.
//!
//! A [`Program`] is a list of [`Step`]s over [`Buffer`]s for one sample (batch 1). Images are NHWC, operators are fused
//! with their activation and, for integers, with requantization; every shape and constant is concrete. It is made from
//! a `Graph` by [`lower`], checked against the plain interpreter in [`reference`], given memory by [`plan`], and turned
//! into code by the `emit` module. Those four see nothing else of the network.
//!
//! # Integers
//! An `i8` buffer holds `real = scale · (stored − zero_point)`. Weights are symmetric per output channel, biases and
//! accumulators are `i32`. Requantization multiplies by a [`Multiplier`] and rounds half up, once:
//! `(acc · mantissa + 2^(shift−1)) >> shift` in 64 bits. Jacob et al. 2018, <https://arxiv.org/abs/1712.05877>.

mod lower;
mod multiplier;
mod numbers;
mod plan;
pub mod reference;
#[cfg(test)]
pub(crate) mod tests;
mod tile;
mod verify;

pub use lower::{LowerError, lower_f32, lower_int8, obstacles};
pub use plan::{PlanError, check, plan};
pub use tile::Tile;
pub use verify::{ProgramError, verify};

use kdc_ir::graph::DType;

/// Names a [`Buffer`] of one program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BufferId(pub u32);

impl BufferId {
    /// The position in [`Program::buffers`].
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// How many products of two stored activations a sum of 32 bits holds.
const LONGEST_SUM: usize = i32::MAX as usize / (255 * 255);

/// What activations are stored as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    Int8,
    F32,
}

impl Precision {
    /// The element type of activations.
    pub fn dtype(self) -> DType {
        match self {
            Precision::Int8 => DType::I8,
            Precision::F32 => DType::F32,
        }
    }

    /// Bytes an activation takes.
    pub fn bytes(self) -> usize {
        self.dtype().size()
    }
}

/// `real = scale · (stored − zero_point)` for a whole buffer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quant {
    pub scale: f32,
    pub zero_point: i8,
}

/// What the elements of a buffer are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Element {
    /// Real numbers, and truth values and small whole numbers among them.
    #[default]
    Real,
    /// The numbers of tokens, from 0 on: one `f32` each in an `f32` program, four bytes in an `i8` program.
    Token,
}

/// The contents of a buffer that the network brings along.
#[derive(Clone, Debug, PartialEq)]
pub enum Constant {
    Int8(Vec<i8>),
    F32(Vec<f32>),
}

/// A tensor of one sample.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Buffer {
    /// The name of the network's value.
    pub name: String,
    /// Extents without the batch: `[height, width, channels]` for images (`[1, length, channels]` for 1-D ones),
    /// `[features]` for vectors, in ONNX order for anything else.
    pub shape: Vec<usize>,
    /// The axes of the network's value, the batch's among them, in the order in which they lie here; empty where the
    /// elements are no value of the network, or in no order of its axes.
    pub order: Vec<usize>,
    /// `None` in an `f32` program, and for tokens.
    pub quant: Option<Quant>,
    pub element: Element,
    /// A constant lies among the weights, not in the arena.
    pub constant: Option<Constant>,
}

impl Buffer {
    /// How many elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes among the weights; 0 for what the network computes.
    pub fn constant_bytes(&self) -> usize {
        match &self.constant {
            None => 0,
            Some(Constant::Int8(values)) => values.len(),
            Some(Constant::F32(values)) => 4 * values.len(),
        }
    }
}

/// `mantissa · 2^−shift`, a positive real number; `mantissa` is in `[2^30, 2^31)`, or 0 for a number so small that nothing
/// is left of any sum, and `shift` in `1..=62`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Multiplier {
    pub mantissa: i32,
    pub shift: u8,
}

/// Where a sliding window meets its operand. Two axes, height then width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub input: [usize; 2],
    pub output: [usize; 2],
    pub kernel: [usize; 2],
    pub strides: [usize; 2],
    /// Rows above and columns left of the operand; what hangs over below and right follows from `output`.
    pub pads: [usize; 2],
    pub dilations: [usize; 2],
}

/// The numbers of a convolution or matrix product.
#[derive(Clone, Debug, PartialEq)]
pub enum Linear {
    Int8 {
        /// In the layout that the kernel states.
        weights: Vec<i8>,
        /// One per output channel, at scale `input · weight[c]`.
        bias: Vec<i32>,
        /// One per output channel: accumulator to output.
        requant: Vec<Multiplier>,
        input_zero: i8,
        output_zero: i8,
        /// The fused activation, as bounds on the stored output.
        min: i8,
        max: i8,
    },
    F32 {
        weights: Vec<f32>,
        bias: Vec<f32>,
        /// The fused activation, as bounds on the output; infinite for none.
        min: f32,
        max: f32,
    },
}

/// How two buffers are added.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum AddParams {
    /// `clamp(output_zero + ((a − a_zero)·a_gain + (b − b_zero)·b_gain + 2^(shift−1)) >> shift)` in 64 bits.
    Int8 {
        a_zero: i8,
        b_zero: i8,
        a_gain: i32,
        b_gain: i32,
        shift: u8,
        output_zero: i8,
        min: i8,
        max: i8,
    },
    F32 {
        min: f32,
        max: f32,
    },
}

/// How two buffers are multiplied.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MulParams {
    /// `clamp(output_zero + requant((a − a_zero)·(b − b_zero)))`
    Int8 {
        a_zero: i8,
        b_zero: i8,
        output_zero: i8,
        requant: Multiplier,
        min: i8,
        max: i8,
    },
    F32 {
        min: f32,
        max: f32,
    },
}

/// How the products of two computed matrices are stored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MatMulParams {
    /// `clamp(output_zero + requant(Σ (a − a_zero)·(b − b_zero)))`
    Int8 {
        a_zero: i8,
        b_zero: i8,
        output_zero: i8,
        requant: Multiplier,
    },
    F32,
}

/// How rows are normalised.
#[derive(Clone, Debug, PartialEq)]
pub enum LayerNormParams {
    /// `output_zero + round((len · x − Σ x) / √(len · Σ x² − (Σ x)² + epsilon) · scale + bias)`: sums are exact, the rest is
    /// `f32`, rounded halves to even. `scale` and `bias` are divided by the output's scale.
    Int8 {
        scale: Vec<f32>,
        bias: Vec<f32>,
        epsilon: f32,
        output_zero: i8,
    },
    F32 {
        scale: Vec<f32>,
        bias: Vec<f32>,
        epsilon: f32,
    },
}

/// How an average is scaled.
#[derive(Clone, Debug, PartialEq)]
pub enum AverageParams {
    /// `clamp(output_zero + requant[count − 1](Σ (x − input_zero)))`, where `count` is the number of elements averaged:
    /// the division is part of the multiplier. One entry per count that occurs, up to the window's size.
    Int8 {
        input_zero: i8,
        output_zero: i8,
        requant: Vec<Multiplier>,
    },
    F32,
}

/// Functions of one variable in an `f32` program. In an `i8` program any of them is a table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Function {
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
    /// `x · gain + offset`
    Affine {
        gain: f32,
        offset: f32,
    },
    Abs,
    Exp,
    Sqrt,
    Reciprocal,
    Erf,
    Gelu,
    GeluTanh,
    /// `yes` where `x` is not zero, else `no`.
    Select {
        yes: f32,
        no: f32,
    },
}

/// What a step computes.
#[derive(Clone, Debug, PartialEq)]
pub enum Kernel {
    /// Weights `[out][kernel_h][kernel_w][in / groups]`.
    Conv2d { window: Window, in_channels: usize, out_channels: usize, groups: usize, linear: Linear },
    /// One filter per channel, weights `[kernel_h][kernel_w][channels]`.
    DepthwiseConv2d { window: Window, channels: usize, linear: Linear },
    /// Weights `[out][in]`; applied to each row of `rows · in` elements.
    FullyConnected { rows: usize, in_features: usize, out_features: usize, linear: Linear },
    /// Padding never wins. Quantization parameters of operand and result are equal.
    MaxPool { window: Window, channels: usize },
    /// Global average pooling and means over both spatial axes are one window over the whole operand.
    /// `count_pads`: padding counts as elements of value zero.
    AveragePool { window: Window, channels: usize, count_pads: bool, params: AverageParams },
    /// Element by element; `b` is as long as `a`, or repeated over it.
    Add(AddParams),
    /// Element by element; `b` is as long as `a`, or repeated over it.
    Mul { params: MulParams, broadcast: bool },
    /// `a / b`, element by element; both are equally long. `i8`: `requant` is that of the quotient.
    Div(MulParams),
    /// `f32` only, element by element: `number` where the first operand's not being zero is `when`, else the second operand.
    Choose { number: f32, when: bool },
    /// `i8` only: `table[stored + 128]`, element by element. Also a change of quantization parameters.
    Lookup { table: Box<[i8; 256]> },
    /// `f32` only, element by element.
    Map(Function),
    /// Over the last axis of `rows · len` elements. For `i8`: `exp[d]` is `exp(−d · scale) · 2^23` rounded, where `d` is
    /// the distance to the row's maximum; results are at scale 1/255, zero point −128.
    ///
    /// With a second operand, `i8` only, elements whose mask is zero get nothing; the mask is repeated over the rows. A row
    /// that is masked altogether, or minus infinity in `f32`, gives zeros.
    Softmax { rows: usize, len: usize, exp: Option<Box<[u32; 256]>> },
    /// `batch` products of `[rows, inner]` and `[inner, columns]`; a second operand of one matrix serves all of them.
    MatMul { batch: usize, rows: usize, inner: usize, columns: usize, params: MatMulParams },
    /// Each row of `len` elements less its mean, over its standard deviation.
    LayerNorm { rows: usize, len: usize, params: LayerNormParams },
    /// A row of `width` elements of the second operand, a table, for each token of the first; a token beyond the table
    /// has its last row.
    Embedding { width: usize },
    /// A regular selection: element `[i, j, …]` of `shape` is element `offset + i·strides[0] + j·strides[1] + …`.
    View { offset: usize, shape: Vec<usize>, strides: Vec<usize> },
    /// Constant padding of `[height, width, channels]`: rows above, columns left, rows below, columns right. `f32`
    /// programs fill with `value`, `i8` programs with the stored equivalent.
    Pad { input: [usize; 3], pads: [usize; 4], value: f32, stored: i8 },
    /// Along the last axis; each operand with `outer` rows of its own `inner[i]` elements. Equal quantization parameters.
    Concat { outer: usize, inner: Vec<usize> },
    /// `result[…] = operand` with axes permuted: axis `i` of the result is axis `perm[i]` of the operand.
    Transpose { shape: Vec<usize>, perm: Vec<usize> },
    /// The same elements under another shape: no code, the buffers share memory.
    Reshape,
}

impl Kernel {
    /// A short name, for tables.
    pub fn name(&self) -> &'static str {
        match self {
            Kernel::Conv2d { .. } => "conv2d",
            Kernel::DepthwiseConv2d { .. } => "depthwise_conv2d",
            Kernel::FullyConnected { .. } => "fully_connected",
            Kernel::MaxPool { .. } => "max_pool",
            Kernel::AveragePool { .. } => "average_pool",
            Kernel::Add(_) => "add",
            Kernel::Mul { .. } => "mul",
            Kernel::Div(_) => "div",
            Kernel::Choose { .. } => "choose",
            Kernel::Lookup { .. } => "lookup",
            Kernel::Map(_) => "map",
            Kernel::Softmax { .. } => "softmax",
            Kernel::MatMul { .. } => "matmul",
            Kernel::LayerNorm { .. } => "layer_norm",
            Kernel::Embedding { .. } => "embedding",
            Kernel::View { .. } => "view",
            Kernel::Pad { .. } => "pad",
            Kernel::Concat { .. } => "concat",
            Kernel::Transpose { .. } => "transpose",
            Kernel::Reshape => "reshape",
        }
    }

    /// Whether the result may overwrite the operand element by element: each output element depends on the operand's
    /// element at the same position only.
    pub fn in_place(&self) -> bool {
        matches!(
            self,
            Kernel::Add(_)
                | Kernel::Mul { .. }
                | Kernel::Div(_)
                | Kernel::Choose { .. }
                | Kernel::Lookup { .. }
                | Kernel::Map(_)
        )
    }
}

/// One operation on buffers.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The name of the network's node (of the first, where several were fused).
    pub name: String,
    pub kernel: Kernel,
    pub inputs: Vec<BufferId>,
    pub output: BufferId,
}

/// How the caller's tensor relates to a buffer.
#[derive(Clone, Debug, PartialEq)]
pub struct Port {
    /// The network's name for it.
    pub name: String,
    /// The network's own shape with batch 1, e.g. `[1, 3, 32, 32]`.
    pub shape: Vec<usize>,
    pub buffer: BufferId,
    /// How the caller's elements (without the batch) are permuted to the buffer's: axis `i` of the buffer is axis
    /// `perm[i]` of the caller's tensor; `None` when the order is the same.
    pub perm: Option<Vec<usize>>,
}

/// How raw bytes become a network's input: images as `[height][width][channels]`, or bytes in the order of the input.
#[derive(Clone, Debug, PartialEq)]
pub struct RawBytes {
    /// The input's value of each byte, by channel; a byte's channel is its position modulo their number.
    pub tables: Vec<[f32; 256]>,
    /// The axes of the input (without the batch) in the order in which the bytes have them: `[1, 2, 0]` for an input with
    /// channels first.
    pub axes: Vec<usize>,
}

/// [`RawBytes`] of a program. A table is exact for any per-channel preprocessing, and for an `i8` program it takes the
/// quantization of the input along.
#[derive(Clone, Debug, PartialEq)]
pub struct RawInput {
    pub tables: RawTables,
    /// As in [`RawBytes`].
    pub axes: Vec<usize>,
}

/// What the input buffer holds for each byte, by channel.
#[derive(Clone, Debug, PartialEq)]
pub enum RawTables {
    Int8(Vec<[i8; 256]>),
    F32(Vec<[f32; 256]>),
}

impl RawInput {
    /// How the bytes are permuted to the buffer of an input: their extents, and for each axis of the buffer that of the
    /// bytes; `None` when they lie in the same order, or the axes are not those of the input.
    pub fn permutation(&self, port: &Port) -> Option<(Vec<usize>, Vec<usize>)> {
        let shape = port.shape.get(1..)?;
        let own: Vec<usize> = port.perm.clone().unwrap_or_else(|| (0..shape.len()).collect());
        let extents = self.axes.iter().map(|&axis| shape.get(axis).copied()).collect::<Option<Vec<_>>>()?;
        let place = |axis: &usize| self.axes.iter().position(|a| a == axis);
        let perm = own.iter().map(place).collect::<Option<Vec<_>>>()?;
        // Axes of one element may stand anywhere.
        let wide = perm.iter().copied().filter(|&axis| extents[axis] > 1);
        (!wide.is_sorted()).then_some((extents, perm))
    }
}

/// A network for one device.
#[derive(Clone, Debug, PartialEq)]
pub struct Program {
    pub name: String,
    pub precision: Precision,
    pub buffers: Vec<Buffer>,
    /// In the order they run; a buffer is written by exactly one step (or is an input or constant), before it is
    /// read.
    pub steps: Vec<Step>,
    /// In the network's order.
    pub inputs: Vec<Port>,
    pub output: Port,
    /// How raw bytes enter the only input, when the data says so.
    pub raw_input: Option<RawInput>,
}

impl Program {
    /// The buffer behind an id.
    pub fn buffer(&self, id: BufferId) -> &Buffer {
        &self.buffers[id.index()]
    }

    /// Elements that a buffer takes in the arena; none for constants.
    pub fn places(&self, id: BufferId) -> usize {
        let buffer = self.buffer(id);
        match (&buffer.constant, buffer.element, self.precision) {
            (Some(_), ..) => 0,
            (None, Element::Token, Precision::Int8) => 4 * buffer.len(),
            (None, ..) => buffer.len(),
        }
    }

    /// Elements of all inputs of one sample.
    pub fn input_len(&self) -> usize {
        self.inputs.iter().map(|port| self.buffer(port.buffer).len()).sum()
    }
}

/// Where the buffers of a program lie in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// In bytes, one per buffer, multiples of `alignment`.
    pub offsets: Vec<usize>,
    pub arena_bytes: usize,
    /// No plan needs fewer bytes.
    pub lower_bound: usize,
    pub alignment: usize,
}
