//! Recurrent operators: one node of a file is a whole sequence.

/// A recurrent cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell {
    Rnn,
    Lstm,
    /// `reset_after`: the reset gate is applied to the product with the state (ONNX `linear_before_reset`).
    Gru {
        reset_after: bool,
    },
}

impl Cell {
    /// Gates stacked in the weights.
    pub fn gates(self) -> usize {
        match self {
            Cell::Rnn => 1,
            Cell::Gru { .. } => 3,
            Cell::Lstm => 4,
        }
    }
}

/// In which order a recurrent operator reads its sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Forward,
    Reverse,
    Both,
}

impl Direction {
    /// How many passes are made over the sequence.
    pub fn count(self) -> usize {
        if self == Direction::Both { 2 } else { 1 }
    }
}

/// Attributes of a recurrent operator. Operands `x, w, r, b?, sequence_lens?, initial_h?, initial_c?, p?`, results
/// `y, y_h, y_c`, all laid out with the sequence first as ONNX's `layout = 0` has them.
#[derive(Clone, Debug, PartialEq)]
pub struct Recurrent {
    pub cell: Cell,
    pub hidden: usize,
    pub direction: Direction,
    /// Of each direction in turn, the cell's own in the order of the specification.
    pub activations: Vec<Activation>,
    /// What goes into an activation is cut to this magnitude.
    pub clip: Option<f32>,
    /// LSTM: the input gate is one minus the forget gate.
    pub coupled: bool,
    /// The batch stands before the sequence (ONNX `layout = 1`).
    pub batch_first: bool,
}

/// An activation of a recurrent cell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Activation {
    Sigmoid,
    Tanh,
    Relu,
    HardSigmoid { alpha: f32, beta: f32 },
    LeakyRelu { alpha: f32 },
    ThresholdedRelu { alpha: f32 },
    Elu { alpha: f32 },
    Affine { alpha: f32, beta: f32 },
    ScaledTanh { alpha: f32, beta: f32 },
    Softsign,
    Softplus,
}
