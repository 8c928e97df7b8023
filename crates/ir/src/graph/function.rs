//! Functions of numbers that operators apply to every element, or reduce elements by.

/// A function of one number, applied to every element; parameters as the ONNX attributes of that name.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Unary {
    Abs,
    Neg,
    Exp,
    Log,
    Sqrt,
    Reciprocal,
    Erf,
    Sin,
    Cos,
    Tan,
    Asin,
    Acos,
    Atan,
    Sinh,
    Cosh,
    Asinh,
    Acosh,
    Atanh,
    Floor,
    Ceil,
    /// To the nearest integer, halves to the even one.
    Round,
    Sign,
    Softplus,
    Softsign,
    Elu {
        alpha: f32,
    },
    Celu {
        alpha: f32,
    },
    Selu {
        alpha: f32,
        gamma: f32,
    },
    /// By the error function, or by the approximation with tanh.
    Gelu {
        tanh: bool,
    },
    Mish,
    ThresholdedRelu {
        alpha: f32,
    },
    Shrink {
        lambda: f32,
        bias: f32,
    },
    /// Of truth values.
    Not,
    BitwiseNot,
    IsNan,
    IsInf {
        negative: bool,
        positive: bool,
    },
}

/// A function of two numbers, applied to every pair of elements after broadcasting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binary {
    Pow,
    /// The remainder has the sign of the divisor, or with `fmod` of the dividend.
    Mod {
        fmod: bool,
    },
    /// `x` where it is not negative, else `x · slope`.
    PRelu,
    Equal,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
    And,
    Or,
    Xor,
    BitwiseAnd,
    BitwiseOr,
    BitwiseXor,
    BitShift {
        left: bool,
    },
}

impl Binary {
    /// Whether the result is a truth value.
    pub fn compares(self) -> bool {
        matches!(
            self,
            Binary::Equal
                | Binary::Greater
                | Binary::GreaterOrEqual
                | Binary::Less
                | Binary::LessOrEqual
                | Binary::And
                | Binary::Or
                | Binary::Xor
        )
    }
}

/// A function of any number of operands, after broadcasting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variadic {
    Max,
    Min,
    Sum,
    Mean,
}

/// What elements along axes are reduced to; the mean is [`Op::ReduceMean`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduction {
    Sum,
    Max,
    Min,
    Prod,
    L1,
    L2,
    LogSum,
    LogSumExp,
    SumSquare,
}

impl Unary {
    /// The ONNX operator name.
    pub fn name(self) -> &'static str {
        match self {
            Unary::Abs => "Abs",
            Unary::Neg => "Neg",
            Unary::Exp => "Exp",
            Unary::Log => "Log",
            Unary::Sqrt => "Sqrt",
            Unary::Reciprocal => "Reciprocal",
            Unary::Erf => "Erf",
            Unary::Sin => "Sin",
            Unary::Cos => "Cos",
            Unary::Tan => "Tan",
            Unary::Asin => "Asin",
            Unary::Acos => "Acos",
            Unary::Atan => "Atan",
            Unary::Sinh => "Sinh",
            Unary::Cosh => "Cosh",
            Unary::Asinh => "Asinh",
            Unary::Acosh => "Acosh",
            Unary::Atanh => "Atanh",
            Unary::Floor => "Floor",
            Unary::Ceil => "Ceil",
            Unary::Round => "Round",
            Unary::Sign => "Sign",
            Unary::Softplus => "Softplus",
            Unary::Softsign => "Softsign",
            Unary::Elu { .. } => "Elu",
            Unary::Celu { .. } => "Celu",
            Unary::Selu { .. } => "Selu",
            Unary::Gelu { .. } => "Gelu",
            Unary::Mish => "Mish",
            Unary::ThresholdedRelu { .. } => "ThresholdedRelu",
            Unary::Shrink { .. } => "Shrink",
            Unary::Not => "Not",
            Unary::BitwiseNot => "BitwiseNot",
            Unary::IsNan => "IsNaN",
            Unary::IsInf { .. } => "IsInf",
        }
    }

    /// Whether the result is a truth value.
    pub fn tests(self) -> bool {
        matches!(self, Unary::Not | Unary::IsNan | Unary::IsInf { .. })
    }
}

impl Binary {
    /// The ONNX operator name.
    pub fn name(self) -> &'static str {
        match self {
            Binary::Pow => "Pow",
            Binary::Mod { .. } => "Mod",
            Binary::PRelu => "PRelu",
            Binary::Equal => "Equal",
            Binary::Greater => "Greater",
            Binary::GreaterOrEqual => "GreaterOrEqual",
            Binary::Less => "Less",
            Binary::LessOrEqual => "LessOrEqual",
            Binary::And => "And",
            Binary::Or => "Or",
            Binary::Xor => "Xor",
            Binary::BitwiseAnd => "BitwiseAnd",
            Binary::BitwiseOr => "BitwiseOr",
            Binary::BitwiseXor => "BitwiseXor",
            Binary::BitShift { .. } => "BitShift",
        }
    }
}

impl Reduction {
    /// The ONNX operator name.
    pub fn name(self) -> &'static str {
        match self {
            Reduction::Sum => "ReduceSum",
            Reduction::Max => "ReduceMax",
            Reduction::Min => "ReduceMin",
            Reduction::Prod => "ReduceProd",
            Reduction::L1 => "ReduceL1",
            Reduction::L2 => "ReduceL2",
            Reduction::LogSum => "ReduceLogSum",
            Reduction::LogSumExp => "ReduceLogSumExp",
            Reduction::SumSquare => "ReduceSumSquare",
        }
    }
}
